package demo_test

import (
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/demo"
	"github.com/graven-audit/graven/internal/incident"
)

func TestASeedAlwaysGivesTheSameEvents(t *testing.T) {
	one, again, other := text(demo.Incidents(1)), text(demo.Incidents(1)), text(demo.Incidents(2))
	if one != again {
		t.Error("the same seed gave other events")
	}
	if one == other {
		t.Error("another seed gave the same events")
	}
}

func text(incidents []demo.Incident) string {
	var b []byte
	for _, in := range incidents {
		for _, e := range in.Events {
			b = e.AppendJSON(b)
		}
	}
	return string(b)
}

func TestTheIncidentsAreValidAndWhole(t *testing.T) {
	incidents := demo.Incidents(1)
	if len(incidents) != 12 || incidents[0].CorrelationID != "inc-8f2a4b" {
		t.Fatalf("%d incidents, the first is %s", len(incidents), incidents[0].CorrelationID)
	}
	now := time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC)
	ids := map[event.ID]bool{}
	statuses := map[incident.Status]int{}
	seq := int64(0)
	for _, in := range incidents {
		var steps []incident.Step
		for _, e := range in.Events {
			if e.CorrelationID != in.CorrelationID || ids[e.ID] {
				t.Errorf("%s: event %s of %s is there twice or belongs elsewhere", in.CorrelationID, e.ID, e.CorrelationID)
			}
			ids[e.ID] = true
			if seq++; e.Source.Seq != seq {
				t.Errorf("%s: source sequence %d, want %d", in.CorrelationID, e.Source.Seq, seq)
			}
			e.Complete(now)
			if err := e.Validate(now); err != nil || e.Recorded.Uncatalogued {
				t.Errorf("%s: %s: %v, uncatalogued %v", in.CorrelationID, e.EventType, err, e.Recorded.Uncatalogued)
			}
			steps = append(steps, incident.Step{Index: seq, Event: e})
		}
		line := incident.New(in.CorrelationID, steps)
		statuses[line.Status]++
		for _, gap := range line.Missing {
			t.Errorf("%s: %s: missing %v", in.CorrelationID, in.Title, gap)
		}
	}
	if statuses[incident.Resolved] < 5 || statuses[incident.Escalated] != 2 {
		t.Errorf("statuses: %v", statuses)
	}
}
