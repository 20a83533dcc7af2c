package intake_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/intake"
)

// documented is the AuditEvent of ChatCLI's documentation.
const documented = `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent",
	"metadata":{"name":"audit-1710856200-a7f3b2","namespace":"chatcli-system",
		"labels":{"platform.chatcli.io/event-type":"RemediationExecuted","platform.chatcli.io/severity":"high","platform.chatcli.io/correlation-id":"inc-8f2a4b"},
		"annotations":{"platform.chatcli.io/immutable":"true"}},
	"spec":{"eventType":"RemediationExecuted","timestamp":"2026-03-19T14:30:00.123Z",
		"actor":{"type":"controller","name":"remediation-reconciler","serviceAccount":"chatcli-operator"},
		"resource":{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"RemediationPlan","name":"plan-rollback-api-server","namespace":"production"},
		"details":{"action":"Rollback","target":"deployment/api-server","fromRevision":"6","toRevision":"5","confidence":"0.92","decisionMode":"auto-notify","duration":"12s","result":"success"},
		"correlationID":"inc-8f2a4b","severity":"high"}}`

// written is an AuditEvent as ChatCLI's code writes it and kubectl shows it.
const written = `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent",
	"metadata":{"name":"audit-1795279749741975573-sns3h5","namespace":"production","uid":"7d3f0b51-30f5-4a54-8f0e-1f7a5a1de001","generation":1,"resourceVersion":"812",
		"creationTimestamp":"2026-11-21T16:49:09Z","managedFields":[{"manager":"operator"}],"ownerReferences":[],"labels":{"platform.chatcli.io/event-type":"issue_escalated"}},
	"spec":{"eventType":"issue_escalated","timestamp":"2026-11-21T16:49:09Z","actor":{"type":"controller","name":"IssueReconciler","controller":"issue-controller"},
		"resource":{"kind":"Issue","name":"api-oom-1","namespace":"production","uid":"7d3f0b51-30f5-4a54-8f0e-1f7a5a1de002"},
		"details":{"attempts":"3","severity":"high"},"correlationId":"api-oom-1","severity":"warning"}}`

func list(kind, items string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","items":[%s],"kind":%q,"metadata":{"resourceVersion":""}}`, items, kind)
}

func TestAuditEventsOfBothSpellingsAreRead(t *testing.T) {
	events, err := intake.AuditEvent([]byte(list("List", documented+","+written)))
	if err != nil || len(events) != 2 {
		t.Fatal(events, err)
	}
	d, w := completed(t, events[0]), completed(t, events[1])
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"the documented id", d.ID, event.DeriveID("auditevent", "chatcli-system", "audit-1710856200-a7f3b2", "2026-03-19T14:30:00.123Z")},
		{"the documented name", d.Name, "audit-1710856200-a7f3b2"},
		{"the documented namespace", d.Original, map[string]string{"metadata.namespace": "chatcli-system"}},
		{"the documented actor", d.Actor, event.Actor{Type: "controller", Name: "remediation-reconciler", ServiceAccount: "chatcli-operator"}},
		{"the documented details", object(t, d.Details)["toRevision"], "5"},
		{"the documented severity", d.Severity, "high"},
		{"the documented incident", d.CorrelationID, "inc-8f2a4b"},
		{"the written id", w.ID, event.DeriveID("auditevent", "production", "audit-1795279749741975573-sns3h5", event.FormatTime(w.Timestamp))},
		{"the written type", w.EventType, "IssueEscalated"},
		{"the written words", w.Original, map[string]string{"eventType": "issue_escalated", "severity": "warning"}},
		{"the written severity", w.Severity, "medium"},
		{"the written controller", w.Actor.Controller, "issue-controller"},
		{"the written resource", w.Resource.UID, "7d3f0b51-30f5-4a54-8f0e-1f7a5a1de002"},
		{"the written incident", w.CorrelationID, "api-oom-1"},
	} {
		same(t, f.field, f.got, f.want)
	}
}

func TestAnAuditEventKeepsItsIdentity(t *testing.T) {
	read := func(t *testing.T, doc []byte) *event.Event {
		t.Helper()
		events, err := intake.AuditEvent(doc)
		if err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
		return events[0]
	}
	meta := func(m string) map[string]any { return map[string]any{"metadata": json.RawMessage(m)} }
	t.Run("the same object gives the same id", func(t *testing.T) {
		first, second := read(t, []byte(documented)), read(t, []byte(documented))
		if first.ID != second.ID {
			t.Errorf("%s and %s", first.ID, second.ID)
		}
	})
	t.Run("a changed object of the same name gives the same id, so that the change is a conflict", func(t *testing.T) {
		forged := strings.Replace(documented, `"Rollback"`, `"Restart"`, 1)
		if read(t, []byte(documented)).ID != read(t, []byte(forged)).ID {
			t.Error("it does not")
		}
	})
	t.Run("objects without a name differ by what they say", func(t *testing.T) {
		one := with(t, documented, meta(`{}`))
		two := []byte(strings.Replace(string(one), `"Rollback"`, `"Restart"`, 1))
		first, again, other := read(t, one), read(t, one), read(t, two)
		if first.ID != again.ID || first.ID == other.ID {
			t.Errorf("%s, %s and %s", first.ID, again.ID, other.ID)
		}
	})
	t.Run("the id of the spec is the event's own", func(t *testing.T) {
		doc := strings.Replace(written, `"spec":{`, `"spec":{"id":"019310a2-0000-7000-8000-000000000001",`, 1)
		same(t, "id", read(t, []byte(doc)).ID.String(), "019310a2-0000-7000-8000-000000000001")
	})
	t.Run("an object that was restored, with another uid, gives the same id", func(t *testing.T) {
		for _, uid := range []string{"7d3f0b51-30f5-4a54-8f0e-1f7a5a1de001", "7d3f0b51-30f5-4a54-8f0e-1f7a5a1de002"} {
			e := read(t, with(t, documented, meta(`{"uid":"`+uid+`","name":"n","namespace":"production"}`)))
			same(t, "id", e.ID, event.DeriveID("auditevent", "production", "n", "2026-03-19T14:30:00.123Z"))
			same(t, "original", e.Original, nil)
		}
	})
	t.Run("a name that Kubernetes would refuse is kept as said", func(t *testing.T) {
		e := read(t, with(t, documented, meta(`{"name":"Audit 1","namespace":"production"}`)))
		same(t, "original", e.Original, map[string]string{"metadata.name": "Audit 1"})
		same(t, "name", e.Name, "")
	})
	t.Run("the label names the incident where the spec does not", func(t *testing.T) {
		doc := strings.Replace(documented, `"correlationID":"inc-8f2a4b",`, "", 1)
		same(t, "correlationID", read(t, []byte(doc)).CorrelationID, "inc-8f2a4b")
	})
	t.Run("there may be no metadata", func(t *testing.T) {
		same(t, "correlationID", read(t, with(t, documented, map[string]any{"metadata": nil})).CorrelationID, "inc-8f2a4b")
	})
	t.Run("items of a typed list need not say their kind", func(t *testing.T) {
		item := with(t, documented, map[string]any{"apiVersion": nil, "kind": nil})
		doc := with(t, list("AuditEventList", string(item)), map[string]any{"apiVersion": "platform.chatcli.io/v1alpha1"})
		same(t, "name", read(t, doc).Name, "audit-1710856200-a7f3b2")
	})
	t.Run("a list may be empty", func(t *testing.T) {
		if events, err := intake.AuditEvent([]byte(list("List", ""))); err != nil || len(events) != 0 {
			t.Error(events, err)
		}
	})
}

func TestFaultsInAuditEventsNameTheItem(t *testing.T) {
	replaced := func(old, new string) string {
		if !strings.Contains(written, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(written, old, new, 1)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"another kind", replaced(`"kind":"AuditEvent"`, `"kind":"Issue"`), `kind: expected AuditEvent, AuditEventList or List, found "Issue"`},
		{"another version", replaced("v1alpha1", "v2"), `apiVersion: expected platform.chatcli.io/v1alpha1, found "platform.chatcli.io/v2"`},
		{"an unknown member of the object", replaced(`"spec"`, `"status":{},"spec"`), "status: no such member of an AuditEvent"},
		{"no spec", `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent"}`, "spec: required"},
		{"two specs", replaced(`"spec"`, `"spec":{},"spec"`), "spec: stands twice"},
		{"no actor", replaced(`"name":"IssueReconciler",`, ""), "spec.actor.name: required"},
		{"nothing in the spec", `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent","spec":{}}`,
			"spec.eventType: required; spec.timestamp: required; spec.actor.type: required; spec.actor.name: required; spec.resource.kind: required"},
		{"an unknown member of the spec", replaced(`"severity":"warning"`, `"sevrity":"warning"`), "spec.sevrity: no such member of an event"},
		{"a member that a server sets", replaced(`"severity":"warning"`, `"recorded":{}`), "spec.recorded: is set by the server only"},
		{"details that are no strings", replaced(`"attempts":"3"`, `"attempts":3`), "spec.details.attempts: expected a string, found a number"},
		{"a namespace that is no string", replaced(`"namespace":"production","uid":"7d3f0b51-30f5-4a54-8f0e-1f7a5a1de001"`, `"namespace":7`), "metadata.namespace: expected a string, found a number"},
		{"labels that are no object", replaced(`"labels":{"platform.chatcli.io/event-type":"issue_escalated"}`, `"labels":[]`), "metadata.labels: expected an object, found an array"},
		{"half an object", written[:len(written)-1], "body: expected ',' or '}' in an object"},
		{"an item without an actor", list("List", documented+","+documented+","+documented+","+replaced(`"name":"IssueReconciler",`, "")), "items[3].spec.actor.name: required"},
		{"an item of another kind", list("List", documented+`,{"apiVersion":"v1","kind":"Pod"}`), `items[1].kind: expected AuditEvent, found "Pod"`},
		{"an item of no kind in a mixed list", list("List", `{}`), `items[0].kind: expected AuditEvent, found ""`},
		{"an item that is no object", list("List", documented+`,7`), "items[1]: expected an object, found a number"},
		{"items that are no array", `{"kind":"List","items":{}}`, "items: expected an array, found an object"},
		{"no items", `{"kind":"List"}`, "items: required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := intake.AuditEvent([]byte(tt.in))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	t.Run("what only the ledger may say stays marked as such", func(t *testing.T) {
		_, err := intake.AuditEvent([]byte(replaced(`"severity":"warning"`, `"ledger":{}`)))
		if !errors.Is(err, event.ErrReserved) || !strings.HasPrefix(err.Error(), "spec.ledger: ") {
			t.Error(err)
		}
	})
}

func FuzzAuditEvent(f *testing.F) {
	f.Add([]byte(documented))
	f.Add([]byte(list("List", documented+","+written)))
	f.Add([]byte(list("AuditEventList", documented+`,{"spec":{}}`)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		events, err := intake.AuditEvent(raw)
		if err != nil && events != nil {
			t.Fatal("events and an error")
		}
		named(t, err)
		for _, e := range events {
			recordable(t, e)
		}
	})
}

// TestWhatChatCLIsCodeTellsIsTheSameFact as what a recorder tells, or capture.
func TestWhatChatCLIsCodeTellsIsTheSameFact(t *testing.T) {
	for text, want := range map[string]string{
		`"eventType":"issue_created"`:                               "u1/IssueCreated/",
		`"eventType":"issue_escalated","details":{"attempts":"5"}`:  "u1/IssueEscalated/5",
		`"eventType":"issue_contained","details":{"attempts":"2"}`:  "u1/IssueContained/2",
		`"eventType":"remediation_started","details":{"issue":"i"}`: "u1/RemediationExecuted/started",
		`"eventType":"remediation_completed"`:                       "u1/RemediationSucceeded/",
		`"eventType":"approval_approved"`:                           "u1/ApprovalGranted/",
		`"eventType":"sla_breach","details":{"type":"response"}`:    "u1/SLABreach/response",
		`"eventType":"issue_resolved","details":{"attempts":"1"}`:   "u1/IssueResolved/1 1773921600",
		`"eventType":"RemediationExecuted"`:                         "",
		`"eventType":"issue_created","fact":"mine"`:                 "mine",
		`"eventType":"something.else"`:                              "",
	} {
		raw := `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent","metadata":{"name":"audit-1","namespace":"production"},"spec":{` + text +
			`,"timestamp":"2026-03-19T12:00:00Z","actor":{"type":"controller","name":"IssueReconciler"},"resource":{"kind":"Issue","name":"i","namespace":"production","uid":"u1"}}}`
		events, err := intake.AuditEvent([]byte(raw))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if events[0].Fact != want {
			t.Errorf("%s: %q, want %q", text, events[0].Fact, want)
		}
	}
}
