package intake_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/jcs"
)

var now = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// minimal is what Kubernaut's specification requires, and no more.
const minimal = `{"version":"1.0","event_type":"gateway.signal.received","event_timestamp":"2026-11-21T10:00:00Z","event_category":"gateway",
	"event_action":"received","event_outcome":"success","correlation_id":"rr-0a1b2c3d4e5f-6789abcd","event_data":{"event_type":"gateway.signal.received"}}`

// full is a row of Kubernaut's query API with every member that it can have.
const full = `{"event_id":"3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c10","version":"1.1","event_timestamp":"2026-11-21T10:00:00.123456Z","event_date":"2026-11-21",
	"event_type":"webhook.remediationapprovalrequest.decided","event_category":"approval","event_action":"decided","event_outcome":"Succeeded",
	"actor_type":"User","actor_id":"alice@example.com","actor_ip":"10.1.2.3","resource_type":"RemediationApprovalRequest","resource_id":"rar-1","resource_name":"rar one",
	"correlation_id":"rr-1","parent_event_id":"3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c11","parent_event_date":"2026-11-20","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7",
	"namespace":"production","cluster_id":"eu-1","severity":"warning","duration_ms":1200,"error_code":"E1","error_message":"it \"broke\"","retention_days":90,"is_sensitive":true,
	"event_hash":"ab","previous_event_hash":"cd","hash_algorithm":"hmac-sha256","legal_hold":true,"legal_hold_reason":"case 7","legal_hold_placed_by":"bob","legal_hold_placed_at":"2026-11-21T10:00:01Z",
	"event_data":{"decision":"approved","n":[1,2.50,{"z":null,"a":"é"}]},"event_metadata":{"b":2,"a":{"c":1}}}`

// with returns doc with members set, or removed where the value is nil.
func with(t *testing.T, doc string, members map[string]any) []byte {
	t.Helper()
	m := object(t, []byte(doc))
	for name, v := range members {
		if m[name] = v; v == nil {
			delete(m, name)
		}
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func object(t *testing.T, doc []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(doc, &m); err != nil {
		t.Fatalf("%v in %s", err, doc)
	}
	return m
}

// completed does what a server does with an event before it records it.
func completed(t *testing.T, e *event.Event) *event.Event {
	t.Helper()
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		t.Fatal(err)
	}
	return e
}

func same(t *testing.T, field string, got, want any) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("%s: got %s, want %s", field, g, w)
	}
}

func TestKubernautsFormComesBackAsItWent(t *testing.T) {
	row := intake.Row{Hash: strings.Repeat("a", 64), PreviousHash: strings.Repeat("0", 64)}
	ledgers := map[string]any{
		"event_hash": row.Hash, "previous_event_hash": row.PreviousHash, "hash_algorithm": "sha256",
		"legal_hold": false, "legal_hold_reason": nil, "legal_hold_placed_by": nil, "legal_hold_placed_at": nil,
	}
	for _, tt := range []struct {
		name, in string
		adds     map[string]any // what a server adds
	}{
		{"a full row, but for the other ledger's hashes and holds", full, ledgers},
		{"a minimal request, with Kubernaut's defaults", minimal, map[string]any{
			"actor_type": "service", "actor_id": "gateway", "resource_type": "gateway", "resource_id": "rr-0a1b2c3d4e5f-6789abcd",
			"event_date": "2026-11-21", "severity": "info", "retention_days": 2555, "is_sensitive": false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := intake.Kubernaut([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			got := object(t, intake.AppendKubernaut(nil, completed(t, e), row))
			want := object(t, with(t, tt.in, tt.adds))
			for name, v := range ledgers {
				if want[name] = v; v == nil {
					delete(want, name)
				}
			}
			if want["event_id"] == nil {
				want["event_id"] = e.ID.String()
			}
			for name := range want {
				same(t, name, got[name], want[name])
			}
			for name := range got {
				if _, ok := want[name]; !ok {
					t.Errorf("%s: %v came from nowhere", name, got[name])
				}
			}
		})
	}
}

func TestKubernautsMembersFindTheirPlace(t *testing.T) {
	e, err := intake.Kubernaut([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	completed(t, e)
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"id", e.ID.String(), "3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c10"},
		{"timestamp", event.FormatTime(e.Timestamp), "2026-11-21T10:00:00.123456Z"},
		{"actor", e.Actor, event.Actor{Type: "user", Name: "alice@example.com"}},
		{"resource", e.Resource, event.Resource{Kind: "RemediationApprovalRequest", Name: "rar-1", Namespace: "production"}},
		{"category", e.Category, "approval"},
		{"outcome", e.Outcome, "success"},
		{"severity", e.Severity, "medium"},
		{"parentID", e.ParentID.String(), "3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c11"},
		{"cluster", e.Cluster, "eu-1"},
		{"error", e.Error, event.Failure{Code: "E1", Message: `it "broke"`}},
		{"details", e.Details, json.RawMessage(`{"decision":"approved","n":[1,2.5,{"a":"é","z":null}]}`)},
		{"retention", e.RetentionDays, 90},
		{"sensitive", e.Sensitive, true},
		{"original", e.Original, map[string]string{
			"version": "1.1", "actor_ip": "10.1.2.3", "resource_name": "rar one", "parent_event_date": "2026-11-20", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
			"span_id": "00f067aa0ba902b7", "event_metadata": `{"a":{"c":1},"b":2}`, "outcome": "Succeeded", "severity": "warning", "actor.type": "User"}},
	} {
		same(t, f.field, f.got, f.want)
	}
}

func TestFaultsInKubernautsFormNameTheFlatMember(t *testing.T) {
	long := strings.Repeat("x", 513)
	for _, tt := range []struct {
		name    string
		members map[string]any
		want    string
	}{
		{"a missing event type", map[string]any{"event_type": nil}, "event_type: required"},
		{"every missing member is named", map[string]any{"version": nil, "event_timestamp": nil, "event_category": nil, "event_action": nil, "event_outcome": nil, "correlation_id": nil, "event_data": nil},
			"version: required; event_timestamp: required; event_category: required; event_action: required; event_outcome: required; correlation_id: required; event_data: required"},
		{"null and the empty string are missing, too", map[string]any{"event_data": json.RawMessage("null"), "event_action": ""}, "event_action: required; event_data: required"},
		{"an unknown member", map[string]any{"event_typ": "x"}, "event_typ: no such member of an event in Kubernaut's form"},
		{"a native member", map[string]any{"eventType": "x"}, "eventType: no such member"},
		{"a number for a string", map[string]any{"actor_id": 7}, "actor_id: expected a string, found a number"},
		{"a string for a number", map[string]any{"duration_ms": "7"}, "duration_ms: expected a whole number, found a string"},
		{"a fraction of a millisecond", map[string]any{"duration_ms": 7.5}, "duration_ms: expected a whole number"},
		{"a string for a flag", map[string]any{"is_sensitive": "true"}, "is_sensitive: expected true or false, found a string"},
		{"a retention that would mean the default", map[string]any{"retention_days": 0}, "retention_days: must be at least 1 day"},
		{"a time without a zone", map[string]any{"event_timestamp": "2026-11-21T10:00:00.5"}, "event_timestamp: no time zone"},
		{"an id that is none", map[string]any{"event_id": "7"}, `event_id: not a UUID: "7"`},
		{"a parent that is none", map[string]any{"parent_event_id": "x"}, `parent_event_id: not a UUID: "x"`},
		{"a date that is none", map[string]any{"parent_event_date": "soon"}, "parent_event_date: not a date such as 2026-03-19"},
		{"data that are no object", map[string]any{"event_data": []int{1}}, "event_data: expected an object, found an array"},
		{"a number in the data that would lose digits", map[string]any{"event_data": json.RawMessage(`{"x":[0,0,0,9007199254740993]}`)}, "event_data.x[3]: a float64 cannot hold the integer"},
		{"data that nest too deeply", map[string]any{"event_data": json.RawMessage(strings.Repeat(`{"a":`, 11) + "1" + strings.Repeat("}", 11))}, "event_data.a.a.a.a.a.a.a.a.a.a: nested too deeply"},
		{"data that are too large", map[string]any{"event_data": map[string]string{"a": strings.Repeat("x", event.MaxDetails)}}, "event_data: 262152 bytes, the limit is 262144"},
		{"metadata that are no object", map[string]any{"event_metadata": "x"}, "event_metadata: expected an object, found a string"},
		{"a stray member that is too long", map[string]any{"trace_id": long, "version": long}, "trace_id: 513 bytes, the limit is 512; version: 513 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := intake.Kubernaut(with(t, minimal, tt.members))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			var one *event.FieldError
			var all event.Invalid
			if !errors.As(err, &one) && !errors.As(err, &all) {
				t.Errorf("%T names no field", err)
			}
		})
	}
	for _, tt := range []struct{ name, in, want string }{
		{"a member that stands twice", `{"event_type":"a","event_type":"b"}`, "event_type: stands twice"},
		{"a member that stands twice under its older name", `{"cluster_id":"a","cluster_name":"b"}`, "cluster_name: stands twice"},
		{"half a document", `{"event_type":"a"`, "body: expected ',' or '}' in an object, found the end of the document at byte 17"},
		{"two documents", minimal + minimal, "body: unexpected an object after the end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := intake.Kubernaut([]byte(tt.in)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestWhatValidateFindsIsNamedInTheFlatForm(t *testing.T) {
	long := strings.Repeat("x", event.MaxString+1)
	flat := map[string]any{
		"event_type": "a b", "event_category": long, "event_action": long, "event_outcome": "perhaps", "actor_type": "robot", "actor_id": long, "resource_type": long, "resource_id": long,
		"namespace": long, "cluster_id": long, "correlation_id": long, "severity": "loud", "duration_ms": -1, "error_code": long, "error_message": strings.Repeat("x", event.MaxMessage+1),
		"retention_days": 99999, "event_timestamp": "2027-11-21T10:00:00Z", "event_metadata": map[string]string{"x": strings.Repeat("x", event.MaxOriginal)},
	}
	e, err := intake.Kubernaut(with(t, minimal, flat))
	if err != nil {
		t.Fatal(err)
	}
	e.Complete(now)
	var found event.Invalid
	if !errors.As(e.Validate(now), &found) {
		t.Fatal("valid")
	}
	for _, f := range found {
		name := intake.FlatField(f.Field)
		if flat[name] == nil {
			t.Errorf("%s is named %s", f.Field, name)
		}
		flat[name] = ""
	}
	for name, v := range flat {
		if v != "" {
			t.Errorf("%s: no fault was found", name)
		}
	}
	for native, want := range map[string]string{
		"details.a.b": "event_data.a.b", "details[3]": "event_data[3]", "detailsX": "detailsX", "id": "event_id", "parentID": "parent_event_id",
		"sensitive": "is_sensitive", "original.actor_ip": "actor_ip", "severity": "severity", "body": "body",
	} {
		if got := intake.FlatField(native); got != want {
			t.Errorf("%s is named %s, want %s", native, got, want)
		}
	}
}

func TestWordsOfACallerCannotSpeakAgainstTheEvent(t *testing.T) {
	e, err := event.Parse([]byte(`{"eventType":"IssueResolved","timestamp":"2026-11-21T10:00:00Z","actor":{"type":"user","name":"mallory"},"resource":{"kind":"Issue"},
		"severity":"critical","outcome":"failure","details":{},"original":{"eventType":"issue_created","severity":"info","outcome":"success","actor.type":"system",
		"event_metadata":"{\"a\":1}} , {","parent_event_date":"\"","version":"9"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got := object(t, intake.AppendKubernaut(nil, completed(t, e), intake.Row{}))
	for name, want := range map[string]any{
		"event_type": "IssueResolved", "severity": "critical", "event_outcome": "failure", "actor_type": "user", "event_metadata": nil, "parent_event_date": nil, "version": "9", "event_data": map[string]any{},
	} {
		same(t, name, got[name], want)
	}
}

func TestEitherFormIsToldByEventType(t *testing.T) {
	native := `{"eventType":"IssueCreated","timestamp":"2026-11-21T10:00:00Z","actor":{"type":"user","name":"a"},"resource":{"kind":"Issue"},"details":{"event_type":"not mine"}}`
	for _, tt := range []struct{ name, in, want, err string }{
		{"the flat form", minimal, "gateway.signal.received", ""},
		{"the flat form, with event_type at the end", `{"event_data":{"event_type":1,"x":{}},"version":"1","event_timestamp":"2026-11-21T10:00:00Z","event_category":"c","event_action":"a","event_outcome":"o","correlation_id":"i","event_type":"t"}`, "t", ""},
		{"the native form", native, "IssueCreated", ""},
		{"a mixture is refused as flat", `{"eventType":"a","event_type":"b"}`, "", "eventType: no such member of an event in Kubernaut's form"},
		{"a flat fault", `{"event_type":7}`, "", "event_type: expected a string"},
		{"a native fault", `{"eventType":7}`, "", "eventType: expected a string"},
		{"a malformed document of either form", `{"version":tru,"event_type":"x"}`, "", "version: expected a value"},
		{"a list", `[{"event_type":"x"}]`, "", "body: expected an object, found an array"},
		{"nothing", ``, "", "body: expected an object, found the end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, flat, err := intake.Native([]byte(tt.in))
			if want := strings.HasPrefix(tt.name, "the flat form"); tt.err == "" && (flat != want || intake.IsKubernaut([]byte(tt.in)) != want) {
				t.Errorf("taken for the flat form: %v", flat)
			}
			switch {
			case tt.err != "":
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case e.EventType != tt.want:
				t.Errorf("got %s, want %s", e.EventType, tt.want)
			}
		})
	}
}

func FuzzKubernaut(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(minimal))
	f.Add([]byte(`{"event_type":"remediation_started","version":"2","event_version":"3"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := intake.Kubernaut(raw)
		if err != nil {
			named(t, err)
			return
		}
		recordable(t, e)
		row := intake.AppendKubernaut(nil, e, intake.Row{Hash: "a", PreviousHash: "b"})
		again, err := intake.Kubernaut(row)
		if err != nil {
			t.Fatalf("our own row is refused: %v\n%s", err, row)
		}
		again.Complete(now)
		if got, want := again.AppendJSON(nil), e.AppendJSON(nil); string(got) != string(want) {
			t.Fatalf("came back as another event\nwent %s\ncame %s", want, got)
		}
	})
}

// FuzzRow shows events of any origin in Kubernaut's form.
func FuzzRow(f *testing.F) {
	f.Add([]byte(`{"eventType":"a","original":{"event_metadata":"{","severity":"x","parent_event_date":"\""},"details":{"a":[1]}}`))
	f.Add([]byte(minimal))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, _, err := intake.Native(raw)
		if err != nil {
			return
		}
		e.Complete(now)
		if e.Validate(now) != nil {
			return
		}
		if row := intake.AppendKubernaut(nil, e, intake.Row{}); !json.Valid(row) {
			t.Fatalf("not JSON: %s", row)
		}
	})
}

// recordable holds an accepted event to what a server does next: the event may
// break a limit, but nothing may fail otherwise.
func recordable(t *testing.T, e *event.Event) {
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		t.Skip()
	}
	entry := e.AppendEntry(nil, e.Digests(event.Salt{1}))
	if _, _, err := event.ParseEntry(entry); err != nil {
		t.Fatalf("the entry is not one: %v\n%s", err, entry)
	}
	if len(entry) > event.MaxEntry {
		t.Fatalf("an entry of %d bytes", len(entry))
	}
}

// named demands that an error says where in a document it is.
func named(t *testing.T, err error) {
	t.Helper()
	var (
		field   *event.FieldError
		invalid event.Invalid
		syntax  *jcs.Error
	)
	switch {
	case err == nil, errors.As(err, &field) && field.Field != "", errors.As(err, &invalid) && len(invalid) > 0, errors.As(err, &syntax) && syntax.Reason != "":
	default:
		t.Fatalf("%v (%T) says nothing of where it is", err, err)
	}
}
