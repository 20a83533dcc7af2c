package retention_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/retention"
)

// hold returns an entry of a hold.
func hold(t *testing.T, eventType string, f retention.Fact) *event.Event {
	t.Helper()
	member, err := json.Marshal(f.Member())
	if err != nil {
		t.Fatal(err)
	}
	e := &event.Event{ID: f.Hold, EventType: eventType, Ledger: member, Recorded: event.Recorded{At: start, Principal: "counsel"}}
	if eventType != retention.TypePlaced {
		e.ID = event.NewID(start)
	}
	return e
}

func follow(t *testing.T, b *retention.Book, events ...*event.Event) {
	t.Helper()
	for _, e := range events {
		if err := b.Follow(b.Size(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func incident(id string) *retention.Subject {
	return &retention.Subject{Index: 1000, Event: &event.Event{ID: event.DeriveID(id), CorrelationID: id}}
}

func TestAHoldIsWhatItsEventsMakeOfIt(t *testing.T) {
	b := retention.NewBook()
	id := event.NewID(start)
	scope, other := &retention.Scope{CorrelationID: "inc-1"}, &retention.Scope{CorrelationID: "inc-2"}
	follow(t, b,
		hold(t, retention.TypePlaced, retention.Fact{Hold: id, Scope: scope, Reason: "first", Case: "12/26"}),
		hold(t, retention.TypeChanged, retention.Fact{Hold: id, Scope: other, Reason: "second"}),
		hold(t, retention.TypeReleased, retention.Fact{Hold: id, Reason: "third"}),
		hold(t, retention.TypeReleased, retention.Fact{Hold: id, Reason: "again"}),
		hold(t, retention.TypeChanged, retention.Fact{Hold: id, Scope: scope, Reason: "too late"}),
		hold(t, retention.TypeChanged, retention.Fact{Hold: event.NewID(start), Scope: scope, Reason: "of nothing"}))
	h := b.Hold(id)
	if len(b.Holds()) != 1 || h.Placed().Reason != "first" || h.Placed().By != "counsel" || h.Placed().Case != "12/26" || !h.Placed().At.Equal(start) {
		t.Fatalf("it was placed as %+v", h.Placed())
	}
	if len(h.Versions) != 2 || h.Last().Reason != "second" || h.Released == nil || h.Released.Reason != "third" || h.Released.Index != 2 {
		t.Fatalf("it is %+v, released %+v", h.Last(), h.Released)
	}
	for before, want := range [][2]bool{{false, false}, {true, false}, {false, true}, {false, false}, {false, false}} {
		for i, id := range []string{"inc-1", "inc-2"} {
			if got := len(b.Held(incident(id), int64(before))) == 1; got != want[i] {
				t.Errorf("%s is held before %d: %v", id, before, got)
			}
		}
	}
}

func TestAnEventIsHeldAsLongAsOneHoldStands(t *testing.T) {
	b := retention.NewBook()
	first, second := event.NewID(start), event.DeriveID("second")
	follow(t, b,
		hold(t, retention.TypePlaced, retention.Fact{Hold: first, Scope: &retention.Scope{CorrelationID: "inc-1"}, Reason: "a"}),
		hold(t, retention.TypePlaced, retention.Fact{Hold: second, Scope: &retention.Scope{Match: `event.correlationID.startsWith("inc")`}, Reason: "b"}))
	if held := b.Held(incident("inc-1"), math.MaxInt64); len(held) != 2 || held[0].ID != first {
		t.Fatalf("held by %v", held)
	}
	follow(t, b, hold(t, retention.TypeReleased, retention.Fact{Hold: first, Reason: "c"}))
	if held := b.Held(incident("inc-1"), math.MaxInt64); len(held) != 1 || held[0].ID != second {
		t.Fatalf("held by %v", held)
	}
}

func TestAHoldKeepsTheEntriesItIsMadeOf(t *testing.T) {
	b := retention.NewBook()
	id := event.NewID(start)
	placed := hold(t, retention.TypePlaced, retention.Fact{Hold: id, Scope: &retention.Scope{CorrelationID: "inc-1"}, Reason: "a"})
	changed := hold(t, retention.TypeChanged, retention.Fact{Hold: id, Scope: &retention.Scope{CorrelationID: "inc-2"}, Reason: "a"})
	follow(t, b, placed, changed)
	for i, e := range []*event.Event{placed, changed} {
		if len(b.Held(&retention.Subject{Index: int64(i), Event: e}, math.MaxInt64)) != 1 {
			t.Errorf("entry %d is not held", i)
		}
	}
	follow(t, b, hold(t, retention.TypeReleased, retention.Fact{Hold: id, Reason: "a"}))
	for i, e := range []*event.Event{placed, changed} {
		if len(b.Held(&retention.Subject{Index: int64(i), Event: e}, math.MaxInt64)) != 0 {
			t.Errorf("entry %d is held", i)
		}
	}
}

func TestWhatCannotBeToldIsHeld(t *testing.T) {
	placed := func(scope string) *event.Event {
		id := event.NewID(start)
		return &event.Event{ID: id, EventType: retention.TypePlaced, Ledger: []byte(`{"hold":{"id":"` + id.String() + `","reason":"a","scope":` + scope + `}}`)}
	}
	broken := func(member string) *event.Event {
		return &event.Event{ID: event.NewID(start), EventType: retention.TypePlaced, Ledger: []byte(member)}
	}
	for name, e := range map[string]*event.Event{
		"an expression of another version of CEL": placed(`{"match":"event.nope"}`),
		"one that costs too much":                 placed(`{"match":"[1,2,3,4,5,6,7,8,9,10].map(a,a).all(a,[1,2,3,4,5,6,7,8,9,10].all(b,[1,2,3,4,5,6,7,8,9,10].all(c,[1,2,3,4,5,6,7,8,9,10].all(d,[1,2,3,4,5,6,7,8,9,10].all(e,[1,2,3,4,5,6,7,8,9,10].all(f,true))))))"}`),
		"a member of a scope that is not known":   placed(`{"cluster":"east"}`),
		"no facts":                                broken(""),
		"no hold":                                 broken(`{}`),
		"no scope":                                placed(`null`),
		"another id":                              broken(`{"hold":{"id":"` + event.DeriveID("x").String() + `","reason":"a","scope":{"actor":"a"}}}`),
	} {
		t.Run(name, func(t *testing.T) {
			b := retention.NewBook()
			follow(t, b, e)
			if len(b.Held(incident("inc-1"), math.MaxInt64)) != 1 {
				t.Fatal("it is not held")
			}
			follow(t, b, hold(t, retention.TypeReleased, retention.Fact{Hold: e.ID, Reason: "a"}))
			if len(b.Held(incident("inc-1"), math.MaxInt64)) != 0 {
				t.Error("it is held, though the hold was released")
			}
		})
	}
	t.Run("an entry that was changed on the disk", func(t *testing.T) {
		b := retention.NewBook()
		b.Unread(7, errors.New("changed"))
		if len(b.Held(incident("inc-1"), math.MaxInt64)) != 1 || b.Size() != 8 || len(b.Held(incident("inc-1"), 7)) != 0 {
			t.Error("it is not held from there on")
		}
	})
	t.Run("details that were erased", func(t *testing.T) {
		b := retention.NewBook()
		follow(t, b, placed(`{"match":"event.correlationID == \"inc-1\" && event.details.n == 3"}`))
		for id, want := range map[string]int{"inc-1": 1, "inc-2": 0} {
			s := incident(id)
			s.Erased = true
			if len(b.Held(s, math.MaxInt64)) != want {
				t.Errorf("%s: held by %d, want %d", id, len(b.Held(s, math.MaxInt64)), want)
			}
		}
	})
}

func TestABookIsToldOfEntriesInOrder(t *testing.T) {
	b := retention.NewBook()
	b.Skip(5)
	if err := b.Follow(4, &event.Event{}); !errors.Is(err, retention.ErrOrder) {
		t.Errorf("got %v", err)
	}
	b.Skip(3)
	if b.Size() != 5 {
		t.Errorf("size %d", b.Size())
	}
}

func TestAnExpressionIsATruthAboutTheEvent(t *testing.T) {
	e := &event.Event{ID: event.DeriveID("e"), EventType: "RemediationExecuted", Timestamp: start, Severity: "high", CorrelationID: "inc-1",
		Actor: event.Actor{Type: "user", Name: "bob", ServiceAccount: "sa"}, Resource: event.Resource{Kind: "Pod", Namespace: "prod", Name: "web-1"},
		Details: []byte(`{"list":[1,2],"n":3,"o":{"x":"y"}}`), Error: event.Failure{Code: "E", Message: "it broke"}, DurationMs: 12,
		Source: event.Source{Name: "op", Seq: 4}, Original: map[string]string{"severity": "error"}, Recorded: event.Recorded{At: start.Add(time.Hour), Principal: "p"}}
	s := &retention.Subject{Index: 7, Event: e}
	for text, want := range map[string]bool{
		`event.severity == "high" && event.actor.name == "bob"`:              true,
		`event.resource.kind in ["Pod", "Node"]`:                             true,
		`event.details.n == 3 && event.details.o.x == "y"`:                   true,
		`event.details.list.exists(x, x == 2)`:                               true,
		`event.details.absent == 3`:                                          false,
		`!has(event.details.absent) && has(event.details.n)`:                 true,
		`event.details.o + 1 == 2`:                                           false,
		`event.details.list[7] == 1`:                                         false,
		`event.timestamp < timestamp("2027-01-01T00:00:00Z")`:                true,
		`event.recorded.at - event.timestamp == duration("1h")`:              true,
		`event.error.message.contains("broke") && event.error.code == "E"`:   true,
		`event.original["severity"] == "error"`:                              true,
		`event.source.seq == 4 && event.durationMs > 10 && event.index == 7`: true,
		`event.parentID == "" && event.cluster == "" && !event.sensitive`:    true,
		`event.resource.name.matches("^web-[0-9]+$")`:                        true,
	} {
		x, err := retention.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if is, unsure := x.Match(s); is != want || unsure != nil {
			t.Errorf("%s is %v, %v", text, is, unsure)
		}
	}
}

func TestABrokenExpressionIsRefusedWithThePosition(t *testing.T) {
	for text, says := range map[string]string{
		`event.actr.name == "x"`:           "line 1, column 6: undefined field 'actr'",
		`event.severity ==`:                "line 1, column 18: Syntax error",
		"event.severity ==\n  foo":         "line 2, column 3: undeclared reference to 'foo'",
		`event.severity`:                   "gives a string",
		`event.name.matches("(")`:          "missing closing )",
		`event.durationMs == "1"`:          "no matching overload",
		strings.Repeat("!", 5000) + "true": "5004 bytes, the limit is 4096",
		strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100): "line",
	} {
		if _, err := retention.Compile(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s: %v, want %q", text, err, says)
		}
	}
}

func TestAScopeNamesWhatIsWrongWithIt(t *testing.T) {
	later := start.Add(time.Hour)
	for field, s := range map[string]retention.Scope{
		"correlation_id": {},
		"event":          {Event: "007"},
		"match":          {Match: "event."},
		"from":           {From: &later, To: &start},
		"actor":          {Actor: strings.Repeat("x", 600)},
		"resource":       {Resource: "a\x00b"},
		"namespaces":     {Actor: "a", Namespaces: []string{}},
	} {
		err := s.Check()
		var invalid event.Invalid
		if !errors.As(err, &invalid) || invalid[0].Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, s := range []retention.Scope{{Event: "7"}, {Event: event.DeriveID("x").String()}, {Kind: "Pod"}, {From: &start}, {Match: "true"}} {
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", &s, err)
		}
	}
}

func TestAScopeWithinNamespacesHoldsNothingElse(t *testing.T) {
	s := retention.Scope{Actor: "bob", Namespaces: []string{"payments"}}
	m := s.Matcher()
	for ns, want := range map[string]bool{"payments": true, "prod": false, "": false} {
		is, unsure := m.Match(&retention.Subject{Event: &event.Event{Actor: event.Actor{Name: "bob"}, Resource: event.Resource{Namespace: ns}}})
		if is != want || unsure != nil {
			t.Errorf("%s: %v, %v", ns, is, unsure)
		}
	}
	for _, tt := range []struct {
		of   []string
		want bool
	}{{nil, true}, {[]string{"payments", "prod"}, true}, {[]string{"prod"}, false}} {
		if got := s.Within(tt.of); got != tt.want {
			t.Errorf("within %v: %v", tt.of, got)
		}
	}
	if all := (retention.Scope{Actor: "bob"}); all.Within([]string{"payments"}) {
		t.Error("a hold of all namespaces is shown to those who see one")
	}
}

func FuzzFact(f *testing.F) {
	id := event.DeriveID("x").String()
	f.Add(`{"hold":{"id":"` + id + `","reason":"a","scope":{"actor":"a","from":"2026-03-19T00:00:00Z"}}}`)
	f.Add(`{"hold":{"id":"` + id + `","reason":"a"}}`)
	f.Add(`{"hold":{"id":"00000000-0000-0000-0000-000000000000","reason":"a","scope":{"actor":"a"}}}`)
	f.Add(`{"hold":{"id":"` + id + `","scope":{"match":"event.severity == \"high\""}}} {}`)
	f.Fuzz(func(t *testing.T, text string) {
		fact, err := retention.ParseFact([]byte(text))
		if err != nil || fact.Check() != nil {
			return
		}
		member, err := json.Marshal(fact.Member())
		if err != nil {
			t.Fatal(err)
		}
		again, err := retention.ParseFact(member)
		if err != nil {
			t.Fatalf("%s: %v", member, err)
		}
		if back, err := json.Marshal(again.Member()); err != nil || string(back) != string(member) {
			t.Errorf("%s became %s, %v", member, back, err)
		}
	})
}

func FuzzExpression(f *testing.F) {
	for _, text := range []string{`event.severity == "high"`, `event.details.a.b[0] > 1`, `event.`, `[1].all(x, x > event.index)`} {
		f.Add(text)
	}
	subject := incident("inc-1")
	subject.Event.Details = []byte(`{"a":{"b":[2]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		x, err := retention.Compile(text)
		if err != nil {
			if !strings.Contains(err.Error(), "line ") && !strings.Contains(err.Error(), "the limit is") {
				t.Errorf("no position: %v", err)
			}
			return
		}
		first, unsure := x.Match(subject)
		again, still := x.Match(subject)
		if first != again || (unsure == nil) != (still == nil) {
			t.Errorf("%v, %v and then %v, %v", first, unsure, again, still)
		}
	})
}
