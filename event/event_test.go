package event_test

import (
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
)

func TestSmoke(t *testing.T) {
	e, err := event.Parse([]byte(`{"eventType":"remediation_started","timestamp":"2026-03-19T14:30:00.123Z","actor":{"type":"human","name":"j"},"resource":{"kind":"RemediationPlan","name":"p","namespace":"n"},"severity":"warning","details":{"b":1,"a":"x"},"correlationId":"inc-1"}`))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", e.AppendJSON(nil))
	entry := e.AppendEntry(nil, e.Digests(event.Salt{1}))
	t.Logf("%s", entry)
	if _, _, err := event.ParseEntry(entry); err != nil {
		t.Fatal(err)
	}
}
