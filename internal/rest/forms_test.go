package rest_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/event"
)

// full is an event in the native form with every member that callers may send.
const full = `{"id":"019310a2-7a3c-7000-8000-000000000001","name":"audit-1710856200-a7f3b2","eventType":"RemediationExecuted","timestamp":"2026-03-19T14:30:00.123456789Z",` +
	`"actor":{"type":"controller","name":"remediation-reconciler","serviceAccount":"chatcli-operator","controller":"remediation"},` +
	`"resource":{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"RemediationPlan","name":"plan-1","namespace":"production","uid":"u-1"},` +
	`"category":"remediation","action":"executed","outcome":"success","details":{"a":1.5,"b":["<é>",null,true],"c":{"d":"e"}},"correlationID":"inc-8f2a4b","severity":"high",` +
	`"parentID":"019310a2-7a3c-7000-8000-000000000000","cluster":"east","fact":"u-1/executing/1","durationMs":12000,"error":{"code":"Timeout","message":"it took too long"},` +
	`"retentionDays":90,"sensitive":true,"source":{"name":"operator-0","seq":4711},"original":{"severity":"error"}}`

// fullFlat is one in Kubernaut's form.
const fullFlat = `{"version":"1.1","event_id":"3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c10","event_type":"webhook.remediationapprovalrequest.decided","event_timestamp":"2026-03-19T14:30:00.000000001Z",` +
	`"event_category":"approval","event_action":"approval_decided","event_outcome":"success","actor_type":"human","actor_id":"alice@example.com","actor_ip":"10.0.0.7",` +
	`"resource_type":"RemediationApprovalRequest","resource_id":"rar-1","resource_name":"rar-one","correlation_id":"rr-1","parent_event_id":"3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c11",` +
	`"parent_event_date":"2026-03-18","trace_id":"t-1","span_id":"s-1","namespace":"payments","cluster_id":"east","severity":"warning","duration_ms":42,"error_code":"E1","error_message":"none at all",` +
	`"retention_days":2555,"is_sensitive":true,"event_data":{"decision":"Approved","n":9007199254740991,"deep":{"list":[1,2,3]}},"event_metadata":{"k":"v"}}`

func TestAnEventInTheNativeFormComesBackAsItWasSent(t *testing.T) {
	d := open(t)
	d.as("recorder").post("/api/v1/audit/events", full).want(http.StatusCreated)
	var list struct{ Events []json.RawMessage }
	d.as("viewer").get("/api/v1/audit?correlation_id=inc-8f2a4b").want(http.StatusOK).into(&list)
	holds(t, "in the list", list.Events[0], full)
	id := "019310a2-7a3c-7000-8000-000000000001"
	holds(t, "by its id", d.as("viewer").get("/api/v1/audit/events/"+id).want(http.StatusOK).body, full)
	holds(t, "by its id in capitals", d.as("viewer").get("/api/v1/audit/events/"+strings.ToUpper(id)).want(http.StatusOK).body, full)
	holds(t, "by its index", d.as("viewer").get("/api/v1/audit/events/1").want(http.StatusOK).body, full)
	holds(t, "in the export", d.as("viewer").get("/api/v1/audit/export?correlation_id=inc-8f2a4b").want(http.StatusOK).body, full)
}

func TestAnEventOfKubernautComesBackAsItWasSent(t *testing.T) {
	for name, send := range map[string]func(c *caller) *answer{
		"alone":            func(c *caller) *answer { return c.post("/api/v1/audit/events", fullFlat) },
		"in an array":      func(c *caller) *answer { return c.post("/api/v1/audit/events/batch", "["+native+","+fullFlat+"]") },
		"among native":     func(c *caller) *answer { return c.post("/api/v1/audit/events/batch", native+"\n"+fullFlat+"\n"+full) },
		"with white space": func(c *caller) *answer { return c.post("/api/v1/audit/events", "\n\t "+fullFlat+" \r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			send(d.as("recorder")).want(http.StatusCreated)
			var page struct{ Data []json.RawMessage }
			d.as("viewer").get("/api/v1/audit/events?correlation_id=rr-1").want(http.StatusOK).into(&page)
			if len(page.Data) != 1 {
				t.Fatalf("%d events", len(page.Data))
			}
			holds(t, "event", page.Data[0], fullFlat)

			// What is served can be sent again, and is the same event.
			var again struct {
				Duplicate bool
				EventID   string `json:"event_id"`
			}
			d.as("recorder").post("/api/v1/audit/events", string(page.Data[0])).want(http.StatusCreated).into(&again)
			if !again.Duplicate || again.EventID != "3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c10" {
				t.Errorf("sent again: %+v", again)
			}
		})
	}
}

func TestBothFormsShowBothKindsOfEvents(t *testing.T) {
	d := open(t)
	d.as("recorder").post("/api/v1/audit/events/batch", full+"\n"+fullFlat).want(http.StatusCreated)
	var flatPage struct{ Data []json.RawMessage }
	d.as("viewer").get("/api/v1/audit/events?type=RemediationExecuted").want(http.StatusOK).into(&flatPage)
	holds(t, "a native event in Kubernaut's form", flatPage.Data[0], `{"event_id":"019310a2-7a3c-7000-8000-000000000001","event_type":"RemediationExecuted",
		"event_timestamp":"2026-03-19T14:30:00.123456789Z","event_date":"2026-03-19","event_category":"remediation","event_action":"executed","event_outcome":"success",
		"actor_type":"controller","actor_id":"remediation-reconciler","resource_type":"RemediationPlan","resource_id":"plan-1","namespace":"production","cluster_id":"east",
		"correlation_id":"inc-8f2a4b","duration_ms":12000,"error_code":"Timeout","error_message":"it took too long","retention_days":90,"is_sensitive":true,
		"event_data":{"a":1.5,"b":["<é>",null,true],"c":{"d":"e"}},"legal_hold":false,"hash_algorithm":"sha256"}`)
	var list struct{ Events []json.RawMessage }
	d.as("viewer").get("/api/v1/audit?correlation_id=rr-1").want(http.StatusOK).into(&list)
	holds(t, "Kubernaut's event in the native form", list.Events[0], `{"id":"3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c10","eventType":"webhook.remediationapprovalrequest.decided",
		"actor":{"type":"user","name":"alice@example.com"},"resource":{"kind":"RemediationApprovalRequest","name":"rar-1","namespace":"payments"},"severity":"medium",
		"original":{"severity":"warning","actor.type":"human","actor_ip":"10.0.0.7","trace_id":"t-1"},"details":{"decision":"Approved","n":9007199254740991,"deep":{"list":[1,2,3]}}}`)
}

func TestTheHashesInKubernautsFormAreTheLedgersChain(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 20)...)
	var page struct {
		Data []struct {
			Hash     string `json:"event_hash"`
			Previous string `json:"previous_event_hash"`
		}
	}
	d.as("viewer").get("/api/v1/audit/events?order=asc&type=RemediationExecuted").want(http.StatusOK).into(&page)
	for i, row := range page.Data[1:] {
		if row.Previous != page.Data[i].Hash {
			t.Errorf("row %d does not follow from the one before", i+1)
		}
	}
}

func TestAliasesAreTakenAndKept(t *testing.T) {
	d := open(t)
	doc := `{"eventType":"issue_created","timestamp":"2026-03-19T15:30:00+01:00","actor":{"type":"human","name":"x"},"resource":{"kind":"Issue"},"severity":"WARNING","outcome":"ok","correlationId":"inc-1","parentId":"019310a2-7a3c-7000-8000-000000000001"}`
	d.as("recorder").post("/api/v1/audit/events", doc).want(http.StatusCreated)
	holds(t, "event", d.as("viewer").get("/api/v1/audit/events/1").want(http.StatusOK).body, `{"eventType":"IssueCreated","timestamp":"2026-03-19T14:30:00Z","actor":{"type":"user"},
		"severity":"medium","outcome":"success","correlationID":"inc-1","parentID":"019310a2-7a3c-7000-8000-000000000001",
		"original":{"eventType":"issue_created","actor.type":"human","severity":"WARNING","outcome":"ok"}}`)
}

func TestTypesOutsideTheCatalogueAreFlagged(t *testing.T) {
	d := open(t)
	d.as("recorder").post("/api/v1/audit/events", with(native, "eventType", `"billing.invoice.paid"`)).want(http.StatusCreated)
	holds(t, "event", d.as("viewer").get("/api/v1/audit/events/1").body, `{"eventType":"billing.invoice.paid","recorded":{"uncatalogued":true}}`)
}

func TestInStrictModeTypesOutsideTheCatalogueAreRefused(t *testing.T) {
	d := open(t, strict)
	d.unchanged(func() {
		d.as("recorder").post("/api/v1/audit/events", with(native, "eventType", `"billing.invoice.paid"`)).problem(http.StatusBadRequest, "eventType", "catalogue")
		d.as("recorder").post("/api/v1/audit/events", with(flat, "event_type", `"billing.invoice.paid"`)).problem(http.StatusBadRequest, "event_type", "catalogue")
		d.as("recorder").post("/api/v1/audit/events", with(native, "eventType", ``)).problem(http.StatusBadRequest, "eventType", "required")
	})
	d.as("recorder").post("/api/v1/audit/events", with(native, "eventType", `"issue_created"`)).want(http.StatusCreated)
	d.as("recorder").post("/api/v1/audit/events", flat).want(http.StatusCreated)
}

func TestAReceiptSaysWhereTheEventStands(t *testing.T) {
	d := open(t)
	var r struct {
		ID, Name, LeafHash, Checkpoint string
		Index                          int64
		Duplicate                      bool
	}
	a := d.as("recorder").post("/api/v1/audit/events", full).want(http.StatusCreated).into(&r)
	if r.Index != 1 || r.Duplicate || r.Name != "audit-1710856200-a7f3b2" || a.header.Get("Location") != "/api/v1/audit/events/"+r.ID {
		t.Errorf("receipt %+v, location %s", r, a.header.Get("Location"))
	}
	d.covered(r.Checkpoint, r.Index, r.LeafHash)
	d.as("viewer").get(a.header.Get("Location")).want(http.StatusOK)

	var b struct {
		Checkpoint string
		Items      []struct {
			Index    int64
			LeafHash string
		}
	}
	var body []byte
	for _, e := range samples(0, 300) {
		body = append(e.AppendJSON(body), '\n')
	}
	d.as("recorder").post("/api/v1/audit/events/batch", string(body)).want(http.StatusCreated).into(&b)
	for _, item := range b.Items {
		d.covered(b.Checkpoint, item.Index, item.LeafHash)
	}
}

func TestWhatHappenedInTheAPIServerIsTakenFromItsAuditLog(t *testing.T) {
	d := open(t)
	var b struct {
		Accepted, Rejected int
		Items              []struct {
			Position, Status int
			Error            *problem
		}
	}
	d.as("recorder").post("/api/v1/ingest/kube-audit?timeout=30s", kubeAuditList).want(http.StatusOK).into(&b)
	if b.Accepted != 1 || b.Rejected != 1 || b.Items[1].Status != http.StatusBadRequest || b.Items[1].Error.Errors[0].Field != "auditID" {
		t.Errorf("got %+v", b)
	}
	d.as("recorder").post("/api/v1/ingest/kube-audit", kubeAuditList).want(http.StatusOK).into(&b)
	events := d.recorded("KubernetesAPIRequest")
	if len(events) != 1 || events[0].Actor.Name != "alice@example.com" || events[0].Recorded.Attribution != event.AttributionAsserted {
		t.Errorf("recorded %+v", events)
	}
	d.as("recorder").post("/api/v1/ingest/kube-audit/east", strings.ReplaceAll(kubeAuditList, "383eb4a1", "383eb4a4")).want(http.StatusOK).into(&b)
	if events := d.recorded("KubernetesAPIRequest"); len(events) != 2 || events[0].Cluster+events[1].Cluster != "east" {
		t.Errorf("recorded %+v", events)
	}
	ahead := strings.NewReplacer("383eb4a1", "383eb4a6", "2026-03-19", "2126-03-19").Replace(kubeAuditList)
	d.as("recorder").post("/api/v1/ingest/kube-audit/west", ahead).want(http.StatusOK).into(&b)
	if events := d.recorded("KubernetesAPIRequest"); len(events) != 3 || !slices.ContainsFunc(events, func(e *event.Event) bool { return e.Original["timestamp"] == "2126-03-19T14:30:00.000001Z" }) {
		t.Errorf("by a clock that is ahead: %+v, %+v", b, events)
	}
	d.unchanged(func() {
		d.as("recorder").post("/api/v1/ingest/kube-audit/"+strings.Repeat("a", 513), strings.ReplaceAll(kubeAuditList, "383eb4a1", "383eb4a5")).want(http.StatusOK).into(&b)
		if b.Accepted != 0 || len(b.Items[0].Error.Errors) != 1 || b.Items[0].Error.Errors[0].Field != "cluster" {
			t.Errorf("got %+v", b)
		}
		d.as("recorder").post("/api/v1/ingest/kube-audit", `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}`).want(http.StatusOK).into(&b)
		d.as("recorder").post("/api/v1/ingest/kube-audit", `{"kind":"EventList"`).problem(http.StatusBadRequest, "body", "JSON")
		d.as("recorder").post("/api/v1/ingest/kube-audit", `{"kind":"Event","apiVersion":"audit.k8s.io/v1"}`).problem(http.StatusBadRequest, "kind", "EventList")
	})
}
