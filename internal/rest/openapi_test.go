package rest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
)

func TestOpenAPIDescribesEveryRouteAndNothingElse(t *testing.T) {
	d := open(t)
	perms := map[string]access.Permission{}
	for _, r := range d.rest.Routes() {
		perms[r.Method+" "+strings.Replace(r.Path, "...}", "}", 1)] = r.Permission
	}
	for _, op := range theSpec(t).operations() {
		name := op.method + " " + op.path
		perm, ok := perms[name]
		if !ok {
			t.Errorf("there is no route %s", name)
			continue
		}
		delete(perms, name)
		description, _ := op.item["description"].(string)
		if says := regexp.MustCompile("Needs the permission `(.*)`").FindStringSubmatch(description); perm != "" && (says == nil || says[1] != string(perm)) {
			t.Errorf("%s does not say that it needs the permission %s", name, perm)
		}
		if security, ok := op.item["security"].([]any); ok != (perm == "") || len(security) > 0 {
			t.Errorf("%s: security is %v, and the permission %q", name, op.item["security"], perm)
		}
	}
	for name := range perms {
		t.Errorf("%s is not described", name)
	}
}

func TestTheServerServesItsOpenAPIDocument(t *testing.T) {
	d := open(t)
	var doc map[string]any
	d.as("viewer").get("/openapi.json").want(http.StatusOK).into(&doc)
	if doc["openapi"] != "3.1.0" || len(doc["paths"].(map[string]any)) != len(theSpec(t).doc["paths"].(map[string]any)) {
		t.Error("it is another")
	}
}

func TestTheOpenAPIDocumentIsSound(t *testing.T) {
	s := theSpec(t)
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if _, found := s.at(strings.TrimPrefix(ref, "#")); !strings.HasPrefix(ref, "#/") || !found {
					t.Errorf("%s: %s leads nowhere", at, ref)
				}
			}
			for name, member := range v {
				walk(at+"/"+name, member)
			}
		case []any:
			for i, item := range v {
				walk(fmt.Sprintf("%s/%d", at, i), item)
			}
		}
	}
	walk("", s.doc)
	tags := map[string]bool{}
	for _, tag := range s.doc["tags"].([]any) {
		tags[tag.(map[string]any)["name"].(string)] = false
	}
	ids := map[string]bool{}
	for _, op := range s.operations() {
		name := op.method + " " + op.path
		id, _ := op.item["operationId"].(string)
		if summary, _ := op.item["summary"].(string); id == "" || ids[id] || summary == "" {
			t.Errorf("%s: operationId %q, summary %q", name, id, summary)
		}
		ids[id] = true
		for _, tag := range op.item["tags"].([]any) {
			if _, ok := tags[tag.(string)]; !ok {
				t.Errorf("%s: no tag %s", name, tag)
			}
			tags[tag.(string)] = true
		}
		checkParameters(t, s, op)
		for status, r := range op.item["responses"].(map[string]any) {
			r := s.follow(r).(map[string]any)
			if text, _ := r["description"].(string); text == "" || !regexp.MustCompile(`^[1-5]\d\d$`).MatchString(status) {
				t.Errorf("%s: response %s has the description %q", name, status, text)
			}
			for media, c := range contents(r) {
				if _, err := s.compile(c["schema"]); err != nil {
					t.Errorf("%s: response %s as %s: %v", name, status, media, err)
				}
			}
		}
		if body, ok := op.item["requestBody"].(map[string]any); ok {
			for media, c := range contents(body) {
				if _, err := s.compile(c["schema"]); err != nil {
					t.Errorf("%s: body as %s: %v", name, media, err)
				}
			}
		} else if op.method == http.MethodPost && !says(op.path) {
			t.Errorf("%s takes no body", name)
		}
	}
	for tag, used := range tags {
		if !used {
			t.Errorf("the tag %s is not used", tag)
		}
	}
	for kind, list := range s.doc["components"].(map[string]any) {
		for name := range list.(map[string]any) {
			ref := fmt.Sprintf("#/components/%s/%s", kind, name)
			if text := fmt.Sprint(s.doc); kind != "securitySchemes" && !strings.Contains(text, "$ref:"+ref+"]") && !strings.Contains(text, "$ref:"+ref+" ") {
				t.Errorf("%s is used nowhere", ref)
			}
		}
	}
}

// contents returns what a body or response holds, by media type.
func contents(m map[string]any) map[string]map[string]any {
	list := map[string]map[string]any{}
	content, _ := m["content"].(map[string]any)
	for media, c := range content {
		list[media] = c.(map[string]any)
	}
	return list
}

func checkParameters(t *testing.T, s *spec, op operation) {
	t.Helper()
	name := op.method + " " + op.path
	var inPath []string
	for _, m := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(op.path, -1) {
		inPath = append(inPath, m[1])
	}
	list, _ := op.item["parameters"].([]any)
	seen := map[string]bool{}
	for _, p := range list {
		p := s.follow(p).(map[string]any)
		key := fmt.Sprint(p["in"], " ", p["name"])
		if seen[key] {
			t.Errorf("%s: parameter %s stands twice", name, key)
		}
		seen[key] = true
		if text, _ := p["description"].(string); text == "" || p["schema"] == nil {
			t.Errorf("%s: parameter %s lacks a description or schema", name, key)
		}
		if p["in"] == "path" && (!slices.Contains(inPath, p["name"].(string)) || p["required"] != true) {
			t.Errorf("%s: parameter %s is not in the path, or not required", name, key)
		}
	}
	for _, p := range inPath {
		if !seen["path "+p] {
			t.Errorf("%s: the path's %s is not declared", name, p)
		}
	}
}

// foreignParams are names that other APIs of the seed documents, and mistyping
// people, give to parameters.
var foreignParams = []string{"user", "page", "pageSize", "page_size", "action", "event_action", "actorName", "actor_name", "actor_type",
	"correlationId", "correlationID", "correlation-id", "correlationid", "correlation", "event_type", "event_category", "event_outcome",
	"since", "until", "start_time", "end_time", "actor_id", "cluster_id", "resource_type", "resource_id", "resource_name", "eventType",
	"window", "redact_pii", "include_detached_signature", "Type", "froM", "scope", "verbose", "pretty", "timeoutSeconds", "x"}

// A probe calls a route as it is meant to be called.
type probe struct {
	path string // as in openapi.json
	call func(query string) *answer
}

// probes returns one for each operation of the API that reads its parameters.
func probes(d *door) map[string]probe {
	id := sample(0).ID.String()
	admin := d.as("superadmin")
	held := func(actor string) string {
		return admin.place(fmt.Sprintf(`{"actor":%q,"future":true,"reason":"a probe"}`, actor)).ID
	}
	admin.place(`{"correlation_id":"inc-probe","future":true,"reason":"a probe"}`)
	calls := map[string]probe{}
	for method, list := range map[string]map[string][2]string{
		http.MethodGet: {
			"/api/v1/audit": {"/api/v1/audit"}, "/api/v1/audit/export": {"/api/v1/audit/export"}, "/api/v1/audit/events": {"/api/v1/audit/events"},
			"/api/v1/audit/events/{id}": {"/api/v1/audit/events/" + id}, "/api/v1/audit/events/{id}/proof": {"/api/v1/audit/events/" + id + "/proof"},
			"/api/v1/audit/verify": {"/api/v1/audit/verify"}, "/api/v1/audit/incidents/{correlation_id}": {"/api/v1/audit/incidents/inc-0"},
			"/api/v1/retention/plan":    {"/api/v1/retention/plan"},
			"/api/v1/compliance/report": {"/api/v1/compliance/report"}, "/api/v1/compliance/frameworks": {"/api/v1/compliance/frameworks"}, "/api/v1/compliance/evidence": {"/api/v1/compliance/evidence"},
			"/api/v1/compliance/frameworks/{name}": {"/api/v1/compliance/frameworks/soc2"},
			"/api/v1/audit/gaps":                   {"/api/v1/audit/gaps"}, "/api/v1/tokens": {"/api/v1/tokens"},
			"/api/v1/findings": {"/api/v1/findings"}, "/api/v1/findings/rules": {"/api/v1/findings/rules"},
			"/api/v1/findings/{id}":    {"/api/v1/findings/" + d.found("shown")},
			"/api/v1/audit/legal-hold": {"/api/v1/audit/legal-hold"}, "/api/v1/audit/legal-hold/{id}": {"/api/v1/audit/legal-hold/" + held("shown")},
			"/log/checkpoint": {"/log/checkpoint"}, "/log/tile/{path}": {"/log/tile/0/000.p/1"},
			"/log/tile/entries/{path}": {"/log/tile/entries/000.p/1"}, "/openapi.json": {"/openapi.json"},
		},
		http.MethodHead: {"/api/v1/audit/stream": {"/api/v1/audit/stream"}}, // a GET has no end
		http.MethodPost: {
			"/api/v1/audit/events": {"/api/v1/audit/events", native}, "/api/v1/audit/events/batch": {"/api/v1/audit/events/batch", native},
			"/api/v1/audit/incidents/{correlation_id}/reconstruct":            {"/api/v1/audit/incidents/inc-0/reconstruct"},
			"/api/v1/audit/remediation-requests/{correlation_id}/reconstruct": {"/api/v1/audit/remediation-requests/inc-0/reconstruct"},
			"/api/v1/audit/resources/reconstruct":                             {"/api/v1/audit/resources/reconstruct"},
			"/api/v1/audit/verify-chain":                                      {"/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`},
			"/api/v1/tokens":                                                  {"/api/v1/tokens", `{"name":"probe","role":"viewer"}`},
			"/api/v1/retention/run":                                           {"/api/v1/retention/run"},
			"/api/v1/erasures":                                                {"/api/v1/erasures", `{"event":"0","reason":"a probe"}`},
			"/api/v1/erasures/plan":                                           {"/api/v1/erasures/plan", `{"event":"2","reason":"a probe"}`},
			"/api/v1/erasures/{id}/confirm":                                   {"/api/v1/erasures/" + id + "/confirm"},
			"/api/v1/audit/legal-hold":                                        {"/api/v1/audit/legal-hold", `{"correlation_id":"inc-0","reason":"a probe"}`},
			"/api/v1/findings/{id}/acknowledge":                               {"/api/v1/findings/" + d.found("acknowledged") + "/acknowledge", `{"reason":"a probe of it"}`},
			"/api/v1/findings/{id}/accept":                                    {"/api/v1/findings/" + d.found("accepted") + "/accept", `{"reason":"a probe of it","until":"` + time.Now().AddDate(0, 1, 0).Format(time.DateOnly) + `"}`},
			"/api/v1/findings/{id}/resolve":                                   {"/api/v1/findings/" + d.found("resolved") + "/resolve", `{"reason":"a probe of it"}`},
			"/api/v1/findings/{id}/reopen":                                    {"/api/v1/findings/" + d.found("reopened", "acknowledge") + "/reopen", `{"reason":"a probe of it"}`},
			"/api/v1/audit/legal-hold/{id}": {"/api/v1/audit/legal-hold/" + held("changed"),
				`{"correlation_id":"inc-0","reason":"a probe"}`},
		},
		http.MethodDelete: {"/api/v1/tokens/{name}": {"/api/v1/tokens/viewer"},
			"/api/v1/audit/legal-hold":      {"/api/v1/audit/legal-hold", `{"correlation_id":"inc-probe","release_reason":"a probe"}`},
			"/api/v1/audit/legal-hold/{id}": {"/api/v1/audit/legal-hold/" + held("released"), `{"release_reason":"a probe"}`}},
	} {
		for path, p := range list {
			name := method
			if method == http.MethodHead {
				name = http.MethodGet
			}
			calls[name+" "+path] = probe{path, func(query string) *answer {
				return admin.do(method, p[0]+"?"+query, strings.NewReader(p[1]))
			}}
		}
	}
	return calls
}

// TestEveryParameterThatARouteTakesIsDeclared calls every route with every
// name that any route, or anybody else, knows.
func TestEveryParameterThatARouteTakesIsDeclared(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	s := theSpec(t)
	names := map[string]map[string]any{}
	for _, name := range foreignParams {
		names[name] = nil
	}
	operations := map[string]operation{}
	for _, op := range s.operations() {
		operations[op.method+" "+op.path] = op
		for name, p := range s.parameters(op, "query") {
			names[name] = p
		}
	}
	calls := probes(d)
	for name, op := range operations {
		if _, ok := calls[name]; !ok && !takesAnything(op.path) {
			t.Errorf("%s is not probed", name)
		}
	}
	for name, call := range calls {
		declared := s.parameters(operations[name], "query")
		for param, p := range names {
			if own := declared[param]; own != nil {
				p = own
			}
			query := url.Values{param: {valueOf(param, p)}}
			if param == "detail_value" && declared["detail_key"] != nil {
				query.Set("detail_key", "x")
			}
			if p := declared["framework"]; p != nil && param != "framework" {
				query.Set("framework", "soc2")
			}
			if param == "detail_key" && declared["detail_value"] != nil {
				query.Set("detail_value", "x")
			}
			a := call.call(query.Encode())
			refused := a.status == http.StatusBadRequest && (len(a.body) == 0 || refusedFor(a, param))
			if _, ok := declared[param]; ok == refused {
				t.Errorf("%s, parameter %s: declared %v, status %d: %.200s", name, param, ok, a.status, a.body)
			}
		}
	}
}

// says is true of routes whose path says all.
func says(path string) bool {
	return slices.Contains([]string{"/api/v1/retention/run", "/api/v1/erasures/{id}/confirm"}, path) || strings.HasSuffix(path, "/reconstruct")
}

// takesAnything is true of routes that are called by programs with parameters
// of their own: kubelets, API servers, Prometheus.
func takesAnything(path string) bool {
	return slices.Contains([]string{"/healthz", "/readyz", "/metrics", "/api/v1/ingest/kube-audit", "/api/v1/ingest/kube-audit/{cluster}"}, path)
}

func refusedFor(a *answer, param string) bool {
	var p problem
	a.into(&p)
	return p.Param == param
}

// valueOf returns a good value for a parameter.
func valueOf(name string, p map[string]any) string {
	switch name {
	case "from", "to", "since", "until", "at":
		return "2026-03-19"
	case "settled":
		return "1h"
	case "window":
		return "7d"
	case "severity":
		return "high"
	case "state":
		return "open"
	case "outcome", "event_outcome":
		return "success"
	case "last_event_id", "cursor":
		return "1"
	case "last":
		return "2"
	case "resource":
		return "Issue/production/i"
	}
	schema, _ := p["schema"].(map[string]any)
	if enum, ok := schema["enum"].([]any); ok {
		return enum[0].(string)
	}
	switch schema["type"] {
	case "integer":
		return "1"
	case "boolean":
		return "true"
	}
	return "x"
}

// TestAnswersAreAsOpenAPISays asks for every answer that the document tells of
// and that is not an error; the harness checks all answers of all tests.
func TestAnswersAreAsOpenAPISays(t *testing.T) {
	d := open(t)
	s := theSpec(t)
	rich := sample(0)
	rich.Error = event.Failure{Code: "Timeout", Message: "it took too long"}
	rich.Source = event.Source{Name: "operator-0", Seq: 4711}
	rich.ParentID, rich.Cluster, rich.Fact, rich.DurationMs, rich.Sensitive = event.DeriveID("p"), "east", "f", 12, true
	rich.Original = map[string]string{"severity": "error"}
	d.as("recorder").record(append(samples(1, 5), rich)...)
	d.live("rr-1")
	admin, away := d.as("superadmin"), openAway(t).as("recorder")
	asked, confirmed := openForTwo(t).eraseByTwo(t)
	seen := map[string]bool{}
	for name, call := range probes(d) {
		query := ""
		if strings.HasSuffix(name, "/evidence") {
			query = "framework=soc2"
		}
		a := call.call(query)
		seen[fmt.Sprintf("%s %d", name, a.status)] = true
	}
	for name, a := range map[string]*answer{
		"POST /api/v1/audit/events/batch":          admin.post("/api/v1/audit/events/batch", native+"\n{}\n"+flat).want(http.StatusMultiStatus),
		"POST /api/v1/ingest/kube-audit":           admin.post("/api/v1/ingest/kube-audit", kubeAuditList).want(http.StatusOK),
		"POST /api/v1/ingest/kube-audit/{cluster}": admin.post("/api/v1/ingest/kube-audit/east", kubeAuditList).want(http.StatusOK),
		"GET /metrics":                                              admin.get("/metrics").want(http.StatusOK),
		"GET /healthz":                                              d.as("").get("/healthz").want(http.StatusOK),
		"GET /readyz":                                               d.as("").get("/readyz").want(http.StatusOK),
		"GET /api/v1/audit/export":                                  admin.get("/api/v1/audit/export?format=csv").want(http.StatusOK),
		"GET /api/v1/audit/events ":                                 admin.get("/api/v1/audit/events?limit=2").want(http.StatusOK),
		"GET /api/v1/audit ":                                        admin.get("/api/v1/audit?limit=2&access=true").want(http.StatusOK),
		"GET /api/v1/audit/verify ":                                 admin.get("/api/v1/audit/verify?first=1&last=2").want(http.StatusOK),
		"GET /api/v1/tokens ":                                       admin.get("/api/v1/tokens").want(http.StatusOK),
		"POST /api/v1/audit/events ":                                admin.post("/api/v1/audit/events", flat).want(http.StatusCreated),
		"POST /api/v1/audit/verify-chain ":                          admin.post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`).want(http.StatusOK),
		"GET /api/v1/audit/export filtered":                         admin.get("/api/v1/audit/export?checkpoint=true&severity=high").want(http.StatusOK),
		"POST /api/v1/audit/events  ":                               away.post("/api/v1/audit/events", native).want(http.StatusAccepted),
		"POST /api/v1/erasures ":                                    asked,
		"POST /api/v1/erasures/{id}/confirm":                        confirmed,
		"POST /api/v1/audit/incidents/{correlation_id}/reconstruct": admin.post("/api/v1/audit/incidents/rr-1/reconstruct", ""),
		"POST /api/v1/audit/remediation-requests/{correlation_id}/reconstruct": admin.post("/api/v1/audit/remediation-requests/rr-1/reconstruct", ""),
		"POST /api/v1/audit/resources/reconstruct":                             admin.post("/api/v1/audit/resources/reconstruct?resource=RemediationPlan/production/plan", ""),
		"POST /api/v1/audit/events/batch ":                                     away.post("/api/v1/audit/events/batch", native).want(http.StatusAccepted),
	} {
		seen[fmt.Sprintf("%s %d", strings.TrimSpace(name), a.status)] = true
	}
	for _, op := range s.operations() {
		for status := range op.item["responses"].(map[string]any) {
			if name := op.method + " " + op.path + " " + status; status < "300" && !seen[name] {
				t.Errorf("%s was not seen", name)
			}
		}
	}
}

const kubeAuditList = `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[
{"level":"Metadata","auditID":"383eb4a1-c445-4c42-9dbe-2c5f44c39a18","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/production/pods/web-1","verb":"delete",
 "user":{"username":"alice@example.com","groups":["system:authenticated"]},"objectRef":{"resource":"pods","namespace":"production","name":"web-1","apiVersion":"v1"},
 "responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-03-19T14:30:00.000001Z","stageTimestamp":"2026-03-19T14:30:00.020001Z"},
{"stage":"ResponseComplete"}]}`
