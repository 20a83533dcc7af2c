# Needs Go, make, git and coreutils. `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help build demo run kube test test-slow bench lint fuzz generate verify-generated vuln clean

GO         ?= go
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME   ?= 30s
TESTFLAGS  ?=
TOOL        = $(GO) tool -modfile=tools/go.mod
BUILD       = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)'

# The race detector needs cgo and a C compiler that works.
RACE = $(shell if [ "$$($(GO) env CGO_ENABLED)" = 1 ] && \
	printf '\043include <stdlib.h>\nint main(void) { return 0; }\n' | \
	$$($(GO) env CC) -x c -o /dev/null - >/dev/null 2>&1; then echo -race; fi)

help: ## list the targets
	@while IFS= read -r line; do \
		case "$$line" in \
		[a-z]*:*'## '*) printf '%-18s%s\n' "$${line%%:*}" "$${line##*## }" ;; \
		esac; \
	done < Makefile

build: ## build bin/graven, bin/graven-verify and bin/graven-operator
	$(BUILD) -o bin/graven ./cmd/graven
	$(BUILD) -o bin/graven-verify ./cmd/graven-verify
	$(BUILD) -o bin/graven-operator ./cmd/graven-operator

demo: build ## build, and play the demonstration
	./bin/graven demo

run: build ## build, and serve ./graven-data on 127.0.0.1:8090
	./bin/graven serve --data ./graven-data --listen 127.0.0.1:8090

kube: ## build the Kubernetes that tests run against, unless it is in the user's cache
	@sh hack/kube/build

# A program that the race detector watches sleeps for a second when it ends,
# unless told otherwise, and the scripts run hundreds. The power is cut ten
# thousand times without it.
test: export GORACE := atexit_sleep_ms=20 $(GORACE)
test: lint kube ## check format, vet and lint, and run the tests
	$(GO) test $(RACE) -timeout 20m $(TESTFLAGS) ./...
	cd charts && $(GO) test -timeout 20m $(TESTFLAGS) ./...
	$(if $(RACE),$(GO) test -timeout 20m -run '^TestNothingAcknowledgedIsLostWithThePower$$' ./internal/filestore)

test-slow: kube ## run the tests and the slow ones (build tag slow)
	$(GO) test -count=1 -tags slow -timeout 180m $(TESTFLAGS) ./...

bench: build ## measure beside peers and raw writers (BENCHFLAGS: -rounds -time -events -only -dir)
	cd bench && $(GO) build -o ../bin/graven-bench . && ../bin/graven-bench -graven ../bin/graven $(BENCHFLAGS)

lint: ## check format, vet and staticcheck, slow tests included
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then printf 'not formatted; run gofmt -w on:\n%s\n' "$$unformatted" >&2; exit 1; fi
	$(GO) vet -tags slow ./...
	cd bench && $(GO) vet ./...
	cd charts && $(GO) vet ./...
	$(TOOL) staticcheck -tags slow ./...
	cd charts && $(GO) tool -modfile=../tools/go.mod staticcheck ./...

fuzz: ## run each fuzz test for FUZZTIME (30s); keep what is worth it in testdata/fuzz
	GO="$(GO)" scripts/fuzz $(FUZZTIME)

generate: ## write the generated files anew, the chart's copies of config among them
	$(GO) generate ./...
	cd charts && $(GO) generate ./...

verify-generated: ## fail when generating changes a file of the work tree
	@set -e; before=$$(git status --porcelain; git --no-pager diff --no-ext-diff); \
	$(MAKE) generate; \
	after=$$(git status --porcelain; git --no-pager diff --no-ext-diff); \
	if [ "$$before" != "$$after" ]; then \
		git status --short; git --no-pager diff --no-ext-diff; \
		echo 'generated files were out of date; commit what make generate wrote' >&2; exit 1; \
	fi

vuln: ## look for known vulnerabilities in what we build on (needs the network)
	$(TOOL) govulncheck ./...

clean: ## remove what build, demo and tests made; graven-data is a ledger and stays
	rm -rf bin graven-demo coverage coverage.*
