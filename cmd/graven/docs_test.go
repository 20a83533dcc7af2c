package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/testenv"
)

// blocks returns the shell blocks of a page that stand behind the given mark.
func blocks(t *testing.T, page, mark string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?s)<!-- "+mark+" -->\n```(?:ba)?sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("%s has no block marked %q", page, mark)
	}
	return out
}

// shell runs a script in dir and returns what it prints.
func shell(t *testing.T, dir, script string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(testenv.Need(t, "bash"), "-e", "-o", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, append(append(os.Environ(), "HOME="+dir, "XDG_STATE_HOME="+filepath.Join(dir, "state")), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheReadmesTourRunsAsWritten(t *testing.T) {
	testenv.Need(t, "curl")
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	build := exec.Command("go", "build", "-o", bin+"/", "github.com/graven-audit/graven/cmd/graven-verify")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build graven-verify: %v\n%s", err, out)
	}
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS(filepath.Join("..", "..", "examples"))); err != nil {
		t.Fatal(err)
	}
	blocks(t, "README.md", "tour: serve")
	d, err := startDaemon(filepath.Join(dir, "graven-data"), os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop(syscall.SIGTERM)
	script := strings.ReplaceAll(strings.Join(blocks(t, "README.md", "tour"), "\n"), "http://127.0.0.1:8090", d.url)
	out, err := shell(t, dir, script, "GRAVEN_URL="+d.url, "PATH="+bin+":"+os.Getenv("PATH"))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"523 events recorded", "user/alice@example.com", "recorded as entry", "Incident inc-8f2a4b", `"total":1`,
		"executed and no result was recorded", "every event from 2026-03-01T00:00:00Z to 2026-04-01T00:00:00Z is here", "GOOD: everything matches", "WRONG", "exit code 3"} {
		if !strings.Contains(out, want) {
			t.Errorf("the tour does not print %q:\n%s", want, out)
		}
	}
}

func TestTheCommandsOfTheRetentionPageRunAsWritten(t *testing.T) {
	dir := t.TempDir()
	d, err := startDaemon(filepath.Join(dir, "graven-data"), os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop(syscall.SIGTERM)
	event := `{"eventType":"RemediationExecuted","timestamp":"2026-03-19T14:30:00Z","actor":{"type":"controller","name":"remediation-reconciler"},"resource":{"kind":"RemediationPlan"},"correlationID":"inc-8f2a4b"}`
	script := "echo '" + event + "' | graven record -f -\n" + strings.Join(blocks(t, "docs/retention.md", "retention"), "\n") + strings.Join(blocks(t, "docs/retention.md", "hold"), "\n")
	out, err := shell(t, dir, script, "GRAVEN_URL="+d.url)
	for _, want := range []string{"DUE the content of 0 events", "WOULD ERASE the content of 1 event", "ERASED the content of 1 event", "STAYS correlationID: inc-8f2a4b"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("the page does not print %q:\n%s", want, out)
		}
	}
	if err != nil || strings.Count(out, "hold_id: ") != 3 || strings.Count(out, "released_by: admin") != 1 {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestTenLinesOfShellFollowTheChain(t *testing.T) {
	testenv.Need(t, "jq")
	testenv.Need(t, "sha256sum")
	dir := t.TempDir()
	data := filepath.Join(dir, "graven-data")
	d, err := startDaemon(data, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop(syscall.SIGTERM)
	c := connect(t, data, d.url)
	var events [][]byte
	for n := range 20 {
		events = append(events, numbered(n))
	}
	events = append(events, []byte(`{"eventType":"IssueCreated","timestamp":"2026-03-19T14:29:00Z","actor":{"type":"user","name":"Jörg \"☃\" \\ \u2028"},"resource":{"kind":"Issue"},"details":{"a":"x'y\"z\n"}}`))
	if _, err := c.RecordBatch(t.Context(), &client.Batch{Events: events}); err != nil {
		t.Fatal(err)
	}
	script := blocks(t, "docs/verification.md", "chain")[0]
	out, err := shell(t, dir, "graven export -o ledger.ndjson\n"+script, "GRAVEN_URL="+d.url)
	if err != nil || !strings.Contains(out, "the chain holds up to") {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err = shell(t, dir, "sed -i '4s/,\"index\":/,\"leaf\":\"00\",\"index\":/; 4s/RemediationPlan/RemediationPlam/g' ledger.ndjson\n"+script)
	if err != nil || !strings.Contains(out, "the chain holds up to") {
		t.Errorf("behind an entry that was erased: %v\n%s", err, out)
	}
	out, err = shell(t, dir, "sed -i '5s/RemediationPlan/RemediationPlam/g' ledger.ndjson\n"+script)
	if err == nil || !strings.Contains(out, "entry 4 does not follow") {
		t.Errorf("a forged line passes: %v\n%s", err, out)
	}
}
