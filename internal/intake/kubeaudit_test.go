package intake_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/intake"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample returns the lines of a real API server's audit log.
func sample(t testing.TB) [][]byte {
	t.Helper()
	raw, err := os.ReadFile("../../examples/kube-apiserver-audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
}

func kube(t *testing.T, line []byte) *event.Event {
	t.Helper()
	e, err := intake.KubeAudit(line)
	if err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return completed(t, e)
}

func TestARealAuditLogIsRecordedWhole(t *testing.T) {
	ids, alice, impersonated, dryRuns := map[event.ID]bool{}, 0, 0, 0
	severities := map[string]int{}
	for _, line := range sample(t) {
		e := kube(t, line)
		in, details := object(t, line), object(t, e.Details)
		ids[e.ID] = true
		severities[e.Severity]++
		if e.Actor.Name == "alice@example.com" {
			alice++
		}
		if details["impersonatedUser"] != nil {
			impersonated++
			same(t, "the actor behind an impersonation", e.Actor.Name, "admin")
		}
		if details["dryRun"] == true {
			dryRuns++
		}
		if in["user"].(map[string]any)["username"] == nil {
			same(t, "the actor of a 401", e.Actor, event.Actor{Type: "user", Name: "unauthenticated"})
			same(t, "the error of a 401", e.Error.Code, "Unauthorized")
		}
		for name, v := range in {
			switch name {
			case "kind", "apiVersion", "requestObject", "responseObject":
			case "responseStatus":
				delete(v.(map[string]any), "metadata")
				fallthrough
			default:
				same(t, name, details[name], v)
			}
		}
		same(t, "timestamp", event.FormatTime(e.Timestamp), in["requestReceivedTimestamp"])
	}
	same(t, "events", len(ids), 523)
	same(t, "acts of alice", alice, 93)
	same(t, "impersonations", impersonated, 2)
	same(t, "dry runs", dryRuns, 1)
	same(t, "severities", severities, map[string]int{"info": 246, "low": 138, "medium": 128, "high": 11})
}

func TestChosenLinesOfARealAuditLog(t *testing.T) {
	const golden = "testdata/kubeaudit.golden.jsonl"
	chosen := []string{
		"d459e4b0-1b3e-452f-9807-2b05beb5fcf0", // a patch, with the object that came of it
		"e913cc8f-831c-487c-9893-be26eb0e1404", // an impersonated scaling
		"ad8e8a31-a8c0-441d-b33f-409619a9d88e", // a dry run
		"383eb4a1-c445-4c42-9dbe-2c5f44c39a18", // a request that nobody could be named for
	}
	var got []byte
	for _, line := range sample(t) {
		if slices.Contains(chosen, object(t, line)["auditID"].(string)) {
			got = append(kube(t, line).AppendJSON(got), '\n')
		}
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// request is an audit event to vary.
const request = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/prod/pods/p","verb":"update",
	"user":{"username":"alice"},"objectRef":{"resource":"pods","namespace":"prod","name":"p","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},
	"requestReceivedTimestamp":"2026-11-21T10:00:00.000001Z","stageTimestamp":"2026-11-21T10:00:01.500000Z"}`

type doc = map[string]any

func TestRequestsAreToldAsEvents(t *testing.T) {
	crd := doc{"apiGroup": "example.com", "apiVersion": "v1", "resource": "widgets", "namespace": "prod"}
	for _, tt := range []struct {
		name  string
		given doc
		want  func(e *event.Event) (got, want any)
	}{
		{"the id is that of the request, its time and its stage", doc{}, func(e *event.Event) (any, any) {
			return e.ID, event.DeriveID("kube-audit", "a-1", "ResponseComplete", "2026-11-21T10:00:00.000001Z")
		}},
		{"the duration is in whole milliseconds", doc{}, func(e *event.Event) (any, any) { return e.DurationMs, 1499 }},
		{"a clock that ran backwards gives no duration", doc{"stageTimestamp": "2026-11-21T09:00:00Z"}, func(e *event.Event) (any, any) { return e.DurationMs, 0 }},
		{"without the time of receipt that of the stage counts", doc{"requestReceivedTimestamp": nil}, func(e *event.Event) (any, any) {
			return event.FormatTime(e.Timestamp), "2026-11-21T10:00:01.500Z"
		}},
		{"a person", doc{}, func(e *event.Event) (any, any) { return e.Actor, event.Actor{Type: "user", Name: "alice"} }},
		{"a service account", doc{"user": doc{"username": "system:serviceaccount:ns:bot"}}, func(e *event.Event) (any, any) {
			return e.Actor, event.Actor{Type: "service", Name: "system:serviceaccount:ns:bot", ServiceAccount: "bot"}
		}},
		{"a part of the system", doc{"user": doc{"username": "system:node:n1"}}, func(e *event.Event) (any, any) { return e.Actor.Type, "system" }},
		{"anonymous is anybody", doc{"user": doc{"username": "system:anonymous"}}, func(e *event.Event) (any, any) { return e.Actor.Type, "user" }},
		{"nobody", doc{"user": nil}, func(e *event.Event) (any, any) { return e.Actor.Name, "unauthenticated" }},
		{"whoever impersonates another stays the actor", doc{"impersonatedUser": doc{"username": "bob"}}, func(e *event.Event) (any, any) { return e.Actor.Name, "alice" }},
		{"the kind is that of the plural", doc{}, func(e *event.Event) (any, any) {
			return e.Resource, event.Resource{APIVersion: "v1", Kind: "Pod", Namespace: "prod", Name: "p"}
		}},
		{"a subresource is about its parent", doc{"objectRef": doc{"resource": "deployments", "apiGroup": "apps", "apiVersion": "v1", "name": "d", "subresource": "scale"},
			"responseObject": doc{"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": doc{"name": "other", "uid": "u"}}}, func(e *event.Event) (any, any) {
			return e.Resource, event.Resource{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}
		}},
		{"one plural, two groups", doc{"objectRef": doc{"resource": "pods", "apiGroup": "metrics.k8s.io", "apiVersion": "v1beta1"}}, func(e *event.Event) (any, any) { return e.Resource.Kind, "PodMetrics" }},
		{"irregular plurals", doc{"objectRef": doc{"resource": "networkpolicies", "apiGroup": "networking.k8s.io", "apiVersion": "v1"}}, func(e *event.Event) (any, any) { return e.Resource.Kind, "NetworkPolicy" }},
		{"endpoints have no singular", doc{"objectRef": doc{"resource": "endpoints", "apiVersion": "v1"}}, func(e *event.Event) (any, any) { return e.Resource.Kind, "Endpoints" }},
		{"ChatCLI's kinds are known", doc{"objectRef": doc{"resource": "approvalrequests", "apiGroup": "platform.chatcli.io", "apiVersion": "v1alpha1"}}, func(e *event.Event) (any, any) { return e.Resource.Kind, "ApprovalRequest" }},
		{"an unknown plural takes its kind from the object", doc{"objectRef": crd, "verb": "create", "responseObject": doc{"kind": "Widget", "apiVersion": "example.com/v1", "metadata": doc{"name": "w-1", "uid": "u"}}}, func(e *event.Event) (any, any) {
			return e.Resource, event.Resource{APIVersion: "example.com/v1", Kind: "Widget", Namespace: "prod", Name: "w-1", UID: "u"}
		}},
		{"or from the list", doc{"objectRef": crd, "verb": "list", "responseObject": doc{"kind": "WidgetList", "apiVersion": "example.com/v1"}}, func(e *event.Event) (any, any) { return e.Resource.Kind, "Widget" }},
		{"or else stays a plural", doc{"objectRef": crd, "verb": "delete", "requestObject": doc{"kind": "DeleteOptions", "apiVersion": "v1"}, "responseObject": doc{"kind": "Status", "apiVersion": "v1"}}, func(e *event.Event) (any, any) { return e.Resource.Kind, "widgets" }},
		{"what was deleted is known by the status", doc{"verb": "delete", "responseStatus": doc{"code": 200, "details": doc{"uid": "u-9"}}}, func(e *event.Event) (any, any) { return e.Resource.UID, "u-9" }},
		{"a namespace is found by its own name", doc{"objectRef": doc{"resource": "namespaces", "apiVersion": "v1", "name": "prod", "namespace": "prod"}}, func(e *event.Event) (any, any) {
			return e.Resource, event.Resource{APIVersion: "v1", Kind: "Namespace", Namespace: "prod", Name: "prod"}
		}},
		{"a path that is no resource", doc{"objectRef": nil, "requestURI": "/healthz/ping?verbose"}, func(e *event.Event) (any, any) {
			return e.Resource, event.Resource{Kind: "NonResource", Name: "/healthz/ping"}
		}},
		{"a failure says why", doc{"responseStatus": doc{"code": 409, "reason": "Conflict", "message": "it changed"}}, func(e *event.Event) (any, any) {
			return []any{e.Outcome, e.Error}, []any{"failure", event.Failure{Code: "Conflict", Message: "it changed"}}
		}},
		{"a failure without a reason has its code", doc{"responseStatus": doc{"code": 500}}, func(e *event.Event) (any, any) { return e.Error, event.Failure{Code: "500"} }},
		{"a request that was only received", doc{"stage": "RequestReceived", "responseStatus": nil}, func(e *event.Event) (any, any) { return e.Outcome, "pending" }},
		{"a panic", doc{"stage": "Panic", "responseStatus": nil}, func(e *event.Event) (any, any) { return e.Outcome, "failure" }},
		{"an end that nobody told", doc{"responseStatus": nil}, func(e *event.Event) (any, any) { return e.Outcome, "unknown" }},
		{"a switch of protocols", doc{"responseStatus": doc{"code": 101}}, func(e *event.Event) (any, any) { return e.Outcome, "success" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, want := tt.want(kube(t, with(t, request, tt.given)))
			same(t, "got", got, want)
		})
	}
}

func TestSeverityFollowsWhatARequestCouldDo(t *testing.T) {
	ref := func(group, resource, sub string) doc {
		return doc{"apiGroup": group, "resource": resource, "subresource": sub, "apiVersion": "v1", "name": "x"}
	}
	denied := doc{"code": 403, "reason": "Forbidden"}
	other := doc{"username": "bob"}
	for _, tt := range []struct {
		name  string
		given doc
		want  string
	}{
		{"a read", doc{"verb": "watch"}, "info"},
		{"a write", doc{}, "low"},
		{"a deletion", doc{"verb": "delete"}, "medium"},
		{"a deletion of many", doc{"verb": "deletecollection"}, "medium"},
		{"a shell", doc{"verb": "get", "objectRef": ref("", "pods", "exec")}, "medium"},
		{"a proxied call", doc{"verb": "get", "objectRef": ref("", "services", "proxy")}, "medium"},
		{"a read of secrets", doc{"verb": "list", "objectRef": ref("", "secrets", "")}, "medium"},
		{"a read of secrets in vain", doc{"verb": "get", "objectRef": ref("", "secrets", ""), "responseStatus": doc{"code": 404}}, "medium"},
		{"a write of secrets", doc{"verb": "update", "objectRef": ref("", "secrets", "")}, "low"},
		{"a token", doc{"verb": "create", "objectRef": ref("", "serviceaccounts", "token")}, "medium"},
		{"a read that was denied", doc{"verb": "get", "responseStatus": denied}, "medium"},
		{"a change of roles", doc{"objectRef": ref("rbac.authorization.k8s.io", "roles", "")}, "high"},
		{"a deletion of roles", doc{"verb": "delete", "objectRef": ref("rbac.authorization.k8s.io", "roles", "")}, "high"},
		{"a read of roles", doc{"verb": "get", "objectRef": ref("rbac.authorization.k8s.io", "roles", "")}, "info"},
		{"a change of roles that was denied", doc{"objectRef": ref("rbac.authorization.k8s.io", "roles", ""), "responseStatus": denied}, "medium"},
		{"a change of roles that was not meant", doc{"objectRef": ref("rbac.authorization.k8s.io", "roles", ""), "requestURI": "/x?dryRun=All"}, "low"},
		{"a change of webhooks", doc{"objectRef": ref("admissionregistration.k8s.io", "validatingwebhookconfigurations", "")}, "high"},
		{"a write as another", doc{"impersonatedUser": other}, "high"},
		{"a read as another", doc{"verb": "get", "impersonatedUser": other}, "info"},
		{"a write as another that failed", doc{"impersonatedUser": other, "responseStatus": doc{"code": 409}}, "low"},
		{"a write that has not ended", doc{"impersonatedUser": other, "stage": "RequestReceived", "responseStatus": nil}, "low"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			same(t, "severity", kube(t, with(t, request, tt.given)).Severity, tt.want)
		})
	}
}

func TestADryRunIsSeenWhereverItIsAsked(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given doc
		want  any
	}{
		{"in the URI", doc{"requestURI": "/api/v1/pods?fieldManager=k&dryRun=All"}, true},
		{"in the options of a deletion", doc{"requestObject": doc{"kind": "DeleteOptions", "dryRun": []string{"All"}}}, true},
		{"in the options of an eviction", doc{"requestObject": doc{"kind": "Eviction", "deleteOptions": doc{"dryRun": []string{"All"}}}}, true},
		{"not in what merely has the name", doc{"requestURI": "/dryRun=All", "requestObject": doc{"spec": doc{"dryRun": []string{"All"}}}}, nil},
		{"not where there is none", doc{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			same(t, "dryRun", object(t, kube(t, with(t, request, tt.given)).Details)["dryRun"], tt.want)
		})
	}
}

func TestNothingAClientSendsKeepsItsRequestOutOfTheRecord(t *testing.T) {
	long := strings.Repeat("é", 9000)
	large := doc{"x": strings.Repeat("y", event.MaxDetails)}
	text, _ := json.Marshal(large)
	deep := func(n int) json.RawMessage {
		return json.RawMessage(strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n))
	}
	for _, tt := range []struct {
		name    string
		given   doc
		member  string
		want    any
		noted   string // the list that names it
		noteFor string
	}{
		{"long names", doc{"user": doc{"username": long}, "verb": long, "requestURI": "/" + long, "objectRef": doc{"resource": long, "name": long, "namespace": long, "uid": long, "apiGroup": long, "apiVersion": long},
			"responseStatus": doc{"code": 400, "reason": long, "message": long}}, "verb", long, "", ""},
		{"a long path", doc{"objectRef": nil, "requestURI": "/" + long}, "requestURI", "/" + long, "", ""},
		{"NUL in names", doc{"user": doc{"username": "a\x00b"}, "objectRef": doc{"resource": "po\x00ds", "name": "\x00", "apiVersion": "v1"}}, "user", doc{"username": `"a\u0000b"`}, "flattened", "user.username"},
		{"NUL in an object", doc{"requestObject": doc{"data": doc{"k": "a\x00b"}}}, "requestObject", doc{"data": doc{"k": `"a\u0000b"`}}, "flattened", "requestObject.data.k"},
		{"NUL in a member's name", doc{"requestObject": doc{"x": doc{"a\x00": 1}}}, "requestObject", doc{"x": `{"a\u0000":1}`}, "flattened", "requestObject.x"},
		{"an object nine deep", doc{"requestObject": deep(9)}, "requestObject", deep(9), "", ""},
		{"an object ten deep", doc{"requestObject": deep(10)}, "requestObject", json.RawMessage(strings.Repeat(`{"a":`, 9) + `"{\"a\":1}"` + strings.Repeat("}", 9)), "flattened", "requestObject.a.a.a.a.a.a.a.a.a"},
		{"a number that a float64 would round", doc{"requestObject": doc{"n": json.RawMessage("[1,9007199254740993,1e400]")}}, "requestObject", doc{"n": []any{1, "9007199254740993", "1e400"}}, "flattened", "requestObject.n[1]"},
		{"a large response goes first", doc{"requestObject": doc{"x": 1}, "responseObject": large}, "requestObject", doc{"x": 1}, "omitted", "responseObject"},
		{"and leaves its size and digest", doc{"responseObject": large}, "responseObject",
			doc{"omitted": "262152 bytes", "sha256": fmt.Sprintf("%x", sha256.Sum256(text))}, "omitted", "responseObject"},
		{"a large request goes next", doc{"requestObject": large, "responseObject": doc{"x": 1}}, "auditID", "a-1", "omitted", "requestObject"},
		{"a large anything else goes last", doc{"userAgent": strings.Repeat("y", event.MaxDetails)}, "auditID", "a-1", "omitted", "userAgent"},
		{"what is too large to look at goes unread", doc{"requestObject": doc{"x": strings.Repeat("y", 4<<20)}}, "requestObject", doc{"omitted": "4194312 bytes"}, "omitted", "requestObject"},
		{"what is too deep to look at goes unread", doc{"requestObject": deep(200)}, "auditID", "a-1", "omitted", "requestObject" + strings.Repeat(".a", 99)},
		{"an unknown member stays", doc{"novelty": doc{"a": []int{1}}}, "novelty", doc{"a": []int{1}}, "", ""},
		{"null stays", doc{"novelty": json.RawMessage("null")}, "novelty", nil, "", ""},
		{"a member with one of our names stays apart", doc{"redacted": "x", "audit.redacted": "y"}, "audit.redacted", "y", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			details := object(t, kube(t, with(t, request, tt.given)).Details)
			same(t, tt.member, details[tt.member], tt.want)
			list, _ := details[tt.noted].([]any)
			if tt.noted != "" && !slices.Contains(list, any(tt.noteFor)) {
				t.Errorf("%s: %v does not name %s", tt.noted, list, tt.noteFor)
			}
		})
	}
}

func TestFaultsInAuditLogsNameTheMember(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given doc
		want  string
	}{
		{"no audit id", doc{"auditID": nil}, "auditID: required"},
		{"nothing at all", doc{"auditID": nil, "stage": "", "verb": nil, "requestReceivedTimestamp": nil, "stageTimestamp": nil},
			"auditID: required; stage: required; verb: required; requestReceivedTimestamp: required"},
		{"another kind", doc{"kind": "Policy"}, `kind: expected Event, found "Policy"`},
		{"another version", doc{"apiVersion": "audit.k8s.io/v1beta1"}, `apiVersion: expected audit.k8s.io/v1, found "audit.k8s.io/v1beta1"`},
		{"a time that is none", doc{"stageTimestamp": "now"}, "stageTimestamp: not an RFC 3339 time"},
		{"a number for a string", doc{"user": doc{"username": 7}}, "user.username: expected a string, found number"},
		{"a string for an object", doc{"objectRef": "x"}, "objectRef: expected an object, found string"},
		{"a string for a code", doc{"responseStatus": doc{"code": "200"}}, "responseStatus.code: expected a whole number, found string"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := intake.KubeAudit(with(t, request, tt.given)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	for in, want := range map[string]string{
		"":     "body: unexpected end of JSON input at byte 0",
		"null": "auditID: required",
		"[]":   "body: expected an object, found array",
		"{}{}": "body: invalid character '{' after top-level value at byte 3",
	} {
		if _, err := intake.KubeAudit([]byte(in)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
}

func TestAnEventListIsReadItemByItem(t *testing.T) {
	item := string(with(t, request, doc{"kind": nil, "apiVersion": nil}))
	post := func(items string) []byte {
		return []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + items + `]}`)
	}
	var told []string
	each := func(i int, e *event.Event, err error) error {
		if err != nil {
			told = append(told, fmt.Sprint(i, " ", err))
		} else {
			told = append(told, fmt.Sprint(i, " ", e.Action))
		}
		return nil
	}
	if err := intake.KubeAuditList(post(item+`,{},null,`+item), 4, each); err != nil {
		t.Fatal(err)
	}
	none := "auditID: required; stage: required; verb: required; requestReceivedTimestamp: required"
	same(t, "told", told, []string{"0 update", "1 " + none, "2 " + none, "3 update"})

	stop := fmt.Errorf("full")
	calls := 0
	err := intake.KubeAuditList(post(item+","+item), 2, func(int, *event.Event, error) error { calls++; return stop })
	if err != stop || calls != 1 {
		t.Errorf("went on after %v, %d calls", err, calls)
	}
	calls = 0
	err = intake.KubeAuditList(post(item+strings.Repeat(",{}", 9)), 9, func(int, *event.Event, error) error { calls++; return nil })
	if !errors.Is(err, intake.ErrTooMany) || calls != 0 {
		t.Errorf("too many give %v, %d calls", err, calls)
	}
	for in, want := range map[string]string{
		request:                    `kind: expected EventList, found "Event"`,
		`{"kind":"EventList"}`:     `apiVersion: expected audit.k8s.io/v1, found ""`,
		`{"items":7}`:              "items: expected an array",
		string(post("")[:40]):      "body: unexpected end of JSON input",
		`{"kind":"EventList","ap"`: "body: unexpected end of JSON input",
	} {
		if err := intake.KubeAuditList([]byte(in), 1, each); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", in, err, want)
		}
	}
}

func FuzzKubeAudit(f *testing.F) {
	lines := sample(f)
	for _, i := range []int{0, 100, 514, 519, 522} {
		f.Add(lines[i])
	}
	f.Add([]byte(request))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := intake.KubeAudit(raw)
		if err != nil {
			named(t, err)
			return
		}
		e.Complete(now)
		// What a client can influence is all of it but the time.
		if err := e.Validate(now); err != nil && !strings.HasPrefix(err.Error(), "timestamp: ") {
			t.Fatalf("accepted and not recordable: %v", err)
		}
		again, err := intake.KubeAudit(raw)
		if err != nil {
			t.Fatal(err)
		}
		again.Complete(now)
		if !bytes.Equal(again.AppendJSON(nil), e.AppendJSON(nil)) {
			t.Fatal("told twice, it is another event")
		}
		recordable(t, e)
	})
}
