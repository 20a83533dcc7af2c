package fact_test

import (
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
)

var at = time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)

func telling(t *testing.T, index int64, eventType, of, attribution string, details map[string]any) fact.Telling {
	t.Helper()
	e := &event.Event{ID: event.DeriveID("test", eventType, attribution), EventType: eventType, Timestamp: at.Add(time.Duration(index) * time.Second), Fact: of,
		Actor: event.Actor{Type: event.ActorUser, Name: attribution}, Recorded: event.Recorded{Attribution: attribution}}
	if details == nil {
		return fact.Telling{Index: index, Event: e}
	}
	if err := e.SetDetails(details); err != nil {
		t.Fatal(err)
	}
	return fact.Telling{Index: index, Event: e}
}

func TestAFactIsWhatTheBestKnownSourceSays(t *testing.T) {
	facts := fact.Of([]fact.Telling{
		telling(t, 0, "A", "f", event.AttributionAsserted, map[string]any{"x": "wrong", "only": "here"}),
		telling(t, 1, "A", "f", event.AttributionObserved, map[string]any{"x": 7}),
		telling(t, 2, "B", "", event.AttributionAsserted, nil),
		telling(t, 3, fact.Snapshot, "s", event.AttributionObserved, nil),
	})
	if len(facts) != 2 {
		t.Fatalf("%d facts", len(facts))
	}
	f := facts[0]
	who, _, _ := f.Who()
	if f.Best().Index != 1 || f.Detail("x") != "7" || f.Detail("only") != "here" || who != event.AttributionObserved || !f.Done() || f.Erased() || !f.At().Equal(at.Add(time.Second)) {
		t.Errorf("%+v by %s", f.Best(), who)
	}
}

func TestAnIntentIsDoneOnceSomethingShowsIt(t *testing.T) {
	intent := telling(t, 0, "Decided", "f", event.AttributionAdmission, map[string]any{"intent": "admission"})
	verdict := func(eventType, of string) fact.Telling {
		return telling(t, 1, eventType, "f/"+eventType, event.AttributionObserved, map[string]any{"intent": of, "reason": "because"})
	}
	erased := intent
	erased.Event, erased.Erased = intent.Event.Clone(), true
	erased.Event.Details, erased.Event.Outcome = nil, event.OutcomePending
	blind := verdict("IntentConfirmed", "")
	blind.Event.Details, blind.Erased = nil, true
	for name, tt := range map[string]struct {
		given []fact.Telling
		done  bool
	}{
		"alone":                         {[]fact.Telling{intent}, false},
		"confirmed":                     {[]fact.Telling{intent, verdict("IntentConfirmed", intent.Event.ID.String())}, true},
		"unconfirmed":                   {[]fact.Telling{intent, verdict("IntentUnconfirmed", intent.Event.ID.String())}, false},
		"failed":                        {[]fact.Telling{intent, verdict("IntentFailed", intent.Event.ID.String())}, false},
		"seen":                          {[]fact.Telling{intent, telling(t, 2, "Decided", "f", event.AttributionObserved, nil)}, true},
		"erased":                        {[]fact.Telling{erased}, false},
		"erased with what became of it": {[]fact.Telling{erased, blind}, true},
	} {
		facts := fact.Of(tt.given)
		if len(facts) != 1 || facts[0].Done() != tt.done || facts[0].Asked() == nil {
			t.Errorf("%s: %d facts, %+v", name, len(facts), facts[0].Best())
		}
	}
}

func TestDetailsAreToldInWords(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want string
	}{
		{nil, ""}, {" x ", "x"}, {true, "true"}, {[]any{"a", map[string]any{"workflow_id": "w"}, map[string]any{"x": "y"}}, `a, w, {"x":"y"}`},
		{map[string]any{"kind": "Pod", "name": "p"}, "Pod/p"}, {map[string]any{"b": "c"}, `{"b":"c"}`},
	} {
		if got := fact.Words(tt.v); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.v, got, tt.want)
		}
	}
}
