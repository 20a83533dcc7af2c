package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
)

// Seed 000's example, as its page has it.
const (
	seedEvent = `{"name":"audit-1710856200-a7f3b2","eventType":"RemediationExecuted","timestamp":"2026-03-19T14:30:00.123Z",` +
		`"actor":{"type":"controller","name":"remediation-reconciler"},"resource":{"kind":"RemediationPlan","name":"plan-rollback-api-server","namespace":"production"},` +
		`"details":{"action":"Rollback","target":"deployment/api-server","result":"success"},"correlationID":"inc-8f2a4b","severity":"high"}`
	seedSecond = `{"name":"audit-1710856245-c9d4e1","eventType":"RemediationSucceeded","timestamp":"2026-03-19T14:30:12.456Z",` +
		`"actor":{"type":"controller","name":"remediation-reconciler"},"resource":{"kind":"RemediationPlan","name":"plan-rollback-api-server","namespace":"production"},` +
		`"details":{"duration":"12s"},"correlationID":"inc-8f2a4b","severity":"high"}`
)

// seeded returns a door whose ledger holds the seed's two events and fourteen
// more executions, of other incidents.
func seeded(t *testing.T) *door {
	t.Helper()
	d := open(t)
	for n := range 14 {
		e := sample(n)
		e.Timestamp, e.CorrelationID = at.Add(-time.Duration(n+1)*time.Minute), fmt.Sprintf("inc-%d", n)
		d.as("recorder").record(e)
	}
	d.as("recorder").post("/api/v1/audit/events/batch", seedEvent+"\n"+seedSecond).want(http.StatusCreated)
	return d
}

// holds checks that every member of the JSON text want is in got, with the
// same value.
func holds(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%s: %v: %s", what, err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	compare(t, what, g, w)
}

func compare(t *testing.T, what string, got, want any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, want an object", what, got)
			return
		}
		for name, v := range want {
			compare(t, what+"."+name, g[name], v)
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			t.Errorf("%s is %v, want %d elements", what, got, len(want))
			return
		}
		for i, v := range want {
			compare(t, fmt.Sprintf("%s[%d]", what, i), g[i], v)
		}
	default:
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
}

func TestTheListIsThatOfSeed000(t *testing.T) {
	d := seeded(t)
	for _, tt := range []struct {
		name, query     string
		total, returned int
		first           string // what the first event holds
	}{
		{"the page's own request", "?type=RemediationExecuted&severity=high&from=2026-03-18T00:00:00Z&to=2026-03-19T23:59:59Z&limit=10", 15, 10, seedEvent},
		{"the next ten", "?type=RemediationExecuted&severity=high&from=2026-03-18T00:00:00Z&to=2026-03-19T23:59:59Z&limit=10&offset=10", 15, 5, `{"correlationID":"inc-4"}`},
		{"one incident", "?correlation_id=inc-8f2a4b", 2, 2, seedSecond},
		{"one incident by half of its events", "?correlation_id=inc-8f2a4b&type=RemediationExecuted", 1, 1, seedEvent},
		{"the other spelling of a type", "?type=remediation_executed&correlation_id=inc-8f2a4b", 1, 1, seedEvent},
		{"an actor", "?actor=remediation-reconciler&limit=1", 16, 1, seedSecond},
		{"nobody", "?actor=john@company.com", 0, 0, ""},
		{"a window that touches one event at both ends", "?from=2026-03-19T14:30:00.123Z&to=2026-03-19T14:30:00.123Z", 1, 1, seedEvent},
		{"a window with another zone", "?from=2026-03-19T16:30:00.123%2B02:00&to=2026-03-19T14:30:01Z", 1, 1, seedEvent},
		{"past the end", "?correlation_id=inc-8f2a4b&offset=2", 2, 0, ""},
		{"far past the end", "?correlation_id=inc-8f2a4b&offset=9223372036854775807", 2, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got struct {
				Total, Returned int
				Events          []json.RawMessage
			}
			d.as("viewer").get("/api/v1/audit" + tt.query).want(http.StatusOK).into(&got)
			if got.Total != tt.total || got.Returned != tt.returned || len(got.Events) != tt.returned {
				t.Fatalf("total %d, returned %d, events %d; want %d and %d", got.Total, got.Returned, len(got.Events), tt.total, tt.returned)
			}
			if tt.first != "" {
				holds(t, "event", got.Events[0], tt.first)
			}
		})
	}
}

func TestTheListsDefaultLimitIsSeed000s(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 130)...)
	var got struct {
		Total, Returned int
		Next            string
	}
	d.as("viewer").get("/api/v1/audit?type=RemediationExecuted").want(http.StatusOK).into(&got)
	if got.Total != 130 || got.Returned != 100 || got.Next == "" {
		t.Errorf("got %+v, want 100 of 130 and a cursor", got)
	}
}

func TestTheExportIsThatOfSeed000(t *testing.T) {
	d := seeded(t)
	a := d.as("viewer").get("/api/v1/audit/export?from=2026-03-18T14:00:00Z&to=2026-03-19T15:00:00Z").want(http.StatusOK)
	lines := bytes.SplitAfter(a.body, []byte("\n"))
	if n := bytes.Count(a.body, []byte("\n")); n != 16 || len(lines[16]) > 0 {
		t.Fatalf("wc -l says %d, want 16", n)
	}
	holds(t, "the first of the two", lines[14], seedEvent)
	holds(t, "the second", lines[15], seedSecond)
	for i, line := range lines[:16] {
		if e, err := event.ParseServed(line); err != nil || e.EventType == "" {
			t.Errorf("line %d is no event: %v", i+1, err)
		}
	}
	if got := a.header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("the type is %s", got)
	}
}

func TestTheAPIKeyHeaderWorksAsInChatCLI(t *testing.T) {
	d := seeded(t)
	d.as("").get("/api/v1/audit", "X-API-Key", d.secrets["viewer"]).want(http.StatusOK)
	d.as("").get("/api/v1/audit", "X-API-Key", "x"+d.secrets["viewer"]).problem(http.StatusUnauthorized, "", "not valid")
}

func TestTheAnswerToAnEventIsKubernauts(t *testing.T) {
	d := open(t)
	var one struct {
		EventID        string    `json:"event_id"`
		EventTimestamp time.Time `json:"event_timestamp"`
		Message        string
	}
	d.as("recorder").post("/api/v1/audit/events", flat).want(http.StatusCreated).into(&one)
	if _, err := event.ParseID(one.EventID); err != nil || one.Message == "" || one.EventTimestamp.Nanosecond() != 123456789 {
		t.Errorf("got %+v", one)
	}
	var batch struct {
		EventIDs []string `json:"event_ids"`
		Message  string
	}
	d.as("recorder").post("/api/v1/audit/events/batch", "["+flat+","+with(flat, "event_type", `"gateway.crd.created"`)+"]").want(http.StatusCreated).into(&batch)
	if len(batch.EventIDs) != 2 || batch.EventIDs[0] == batch.EventIDs[1] || batch.Message == "" {
		t.Errorf("got %+v", batch)
	}
}

func TestTheQueryIsKubernauts(t *testing.T) {
	d := open(t)
	for i := range 5 {
		doc := with(flat, "event_timestamp", fmt.Sprintf(`"2026-03-19T14:30:0%dZ"`, i))
		d.as("recorder").post("/api/v1/audit/events", doc).want(http.StatusCreated)
	}
	d.as("recorder").post("/api/v1/audit/events", with(with(flat, "correlation_id", `"rr-2"`), "event_outcome", `"failure"`)).want(http.StatusCreated)
	for _, tt := range []struct {
		name, query string
		pagination  string
		rows        int
	}{
		{"all", "?event_category=gateway", `{"limit":100,"offset":0,"total":6,"has_more":false}`, 6},
		{"a page", "?correlation_id=rr-1&limit=2&offset=2", `{"limit":2,"offset":2,"total":5,"has_more":true}`, 2},
		{"the last page", "?correlation_id=rr-1&limit=2&offset=4", `{"limit":2,"offset":4,"total":5,"has_more":false}`, 1},
		{"by type", "?event_type=gateway.signal.received&correlation_id=rr-2", `{"limit":100,"offset":0,"total":1,"has_more":false}`, 1},
		{"by outcome", "?event_outcome=failure", `{"limit":100,"offset":0,"total":1,"has_more":false}`, 1},
		{"since and until", "?since=2026-03-19T14:30:01Z&until=2026-03-19T14:30:03Z", `{"limit":100,"offset":0,"total":3,"has_more":false}`, 3},
		{"since a date", "?since=2026-03-19&event_type=gateway.signal.received", `{"limit":100,"offset":0,"total":6,"has_more":false}`, 6},
		{"by a detail", "?detail_key=fingerprint&detail_value=abc", `{"limit":100,"offset":0,"total":6,"has_more":false}`, 6},
		{"by another detail", "?detail_key=fingerprint&detail_value=abd", `{"limit":100,"offset":0,"total":0,"has_more":false}`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got struct {
				Data       []map[string]any
				Pagination json.RawMessage
			}
			d.as("viewer").get("/api/v1/audit/events" + tt.query).want(http.StatusOK).into(&got)
			holds(t, "pagination", got.Pagination, tt.pagination)
			if len(got.Data) != tt.rows {
				t.Errorf("%d rows, want %d", len(got.Data), tt.rows)
			}
		})
	}
}

func TestTheVerdictOnAChainIsKubernauts(t *testing.T) {
	d := seeded(t)
	a := d.as("viewer").post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-8f2a4b"}`).want(http.StatusOK)
	holds(t, "verdict", a.body, `{"correlation_id":"inc-8f2a4b","is_valid":true,"total_events":2,"verified_events":2}`)
	var got map[string]any
	a.into(&got)
	if _, err := time.Parse(time.RFC3339, got["verification_time"].(string)); err != nil || got["message"] == "" || got["tampered_events"] != nil {
		t.Errorf("got %s", a.body)
	}
	d.as("viewer").post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-none"}`).problem(http.StatusNotFound, "", "correlation id")
}
