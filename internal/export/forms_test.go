package export_test

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/export"
	"github.com/graven-audit/graven/trail"
)

func line() *trail.Line {
	e := &event.Event{ID: event.DeriveID("x"), EventType: "IssueCreated", Timestamp: time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC),
		Actor: event.Actor{Type: "user", Name: `=cmd|' /C calc'!A0`}, Resource: event.Resource{Kind: "Issue", Namespace: "a,b", Name: "'quoted\nname"},
		CorrelationID: "inc-1", Severity: "high"}
	return &trail.Line{Event: e, Record: trail.Record{Index: 7}}
}

func TestACSVLineIsReadBackWithoutFormulas(t *testing.T) {
	text := string(export.CSVHeader()) + string(export.AppendCSV(nil, line()))
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 2 || len(rows[0]) != len(rows[1]) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	got := map[string]string{}
	for i, name := range rows[0] {
		got[name] = rows[1][i]
	}
	for name, want := range map[string]string{"index": "7", "actorName": `'=cmd|' /C calc'!A0`, "namespace": "a,b", "resource": "''quoted\nname", "details": "{}"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestACloudEventHasWhatItsSpecificationAsksFor(t *testing.T) {
	text := export.AppendCloudEvent([]byte("before"), line(), "audit.example.com/prod")
	var e map[string]any
	if err := json.Unmarshal(text[len("before"):], &e); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"specversion": "1.0", "source": "urn:graven:audit.example.com/prod", "type": "dev.graven.event.IssueCreated",
		"subject": "a,b/Issue/'quoted\nname", "time": "2026-03-19T14:30:00Z", "partitionkey": "inc-1", "sequence": "7"} {
		if e[name] != want {
			t.Errorf("%s is %v, want %v", name, e[name], want)
		}
	}
	if data, ok := e["data"].(map[string]any); !ok || data["eventType"] != "IssueCreated" {
		t.Errorf("data is %v", e["data"])
	}
}
