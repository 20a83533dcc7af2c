package retention_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/tombstone"
)

func policies(t *testing.T, list ...retention.Policy) *retention.Policies {
	t.Helper()
	p, err := retention.NewPolicies(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheLongestPolicyThatMatchesWins(t *testing.T) {
	p := policies(t,
		retention.Policy{Name: "all", DetailsDays: 90, EntryDays: 365},
		retention.Policy{Name: "critical", Match: `event.severity == "critical"`, MinimumDays: 730},
		retention.Policy{Name: "payments", Match: `event.resource.namespace == "payments"`, EntryDays: 3650},
		retention.Policy{Name: "plans", Match: `has(event.details.plan)`, DetailsDays: 400})
	for _, tt := range []struct {
		name           string
		change         func(*event.Event)
		erased         bool
		details, entry int
		by             string
	}{
		{"the policy for all", func(*event.Event) {}, false, 90, 365, "all all"},
		{"a minimum", func(e *event.Event) { e.Severity = "critical" }, false, 730, 730, "critical critical"},
		{"longer for the entry", func(e *event.Event) { e.Resource.Namespace = "payments" }, false, 90, 3650, "all payments"},
		{"longer for details, and so for the entry", func(e *event.Event) { e.Details = []byte(`{"plan":"p"}`) }, false, 400, 400, "plans plans"},
		{"a caller who asks for longer", func(e *event.Event) { e.RetentionDays = 5000 }, false, 5000, 5000, "(caller) (caller)"},
		{"a caller who asks for longer than details are kept", func(e *event.Event) { e.RetentionDays = 100 }, false, 100, 365, "(caller) all"},
		{"a caller who asks for shorter", func(e *event.Event) { e.RetentionDays = 1 }, false, 90, 365, "all all"},
		{"details that were erased and would decide", func(*event.Event) {}, true, 400, 400, "plans plans"},
	} {
		e := &event.Event{RetentionDays: event.DefaultRetentionDays, Recorded: event.Recorded{At: start}}
		tt.change(e)
		term := p.Term(&retention.Subject{Event: e, Erased: tt.erased})
		if !term.Details.Equal(start.AddDate(0, 0, tt.details)) || !term.Entry.Equal(start.AddDate(0, 0, tt.entry)) || term.DetailsBy+" "+term.EntryBy != tt.by {
			t.Errorf("%s: %+v, want %d and %d days by %s", tt.name, term, tt.details, tt.entry, tt.by)
		}
	}
	e := &event.Event{RetentionDays: event.DefaultRetentionDays, Recorded: event.Recorded{At: start}}
	if term := policies(t).Term(&retention.Subject{Event: e}); !term.Details.Equal(start.AddDate(0, 0, 2555)) || !term.Entry.Equal(term.Details) || term.EntryBy != retention.ByDefault {
		t.Errorf("without a policy: %+v", term)
	}
}

func TestABadPolicyIsRefusedByField(t *testing.T) {
	for _, tt := range []struct {
		field, says string
		policy      retention.Policy
	}{
		{"policies[1].name", "required", retention.Policy{EntryDays: 1}},
		{"policies[1].name", "twice", retention.Policy{Name: "all", EntryDays: 1}},
		{"policies[1].name", "not valid UTF-8", retention.Policy{Name: "\xff", EntryDays: 1}},
		{"policies[1].match", "line 1, column 6: undefined field 'nope'", retention.Policy{Name: "x", EntryDays: 1, Match: "event.nope"}},
		{"policies[1].entryDays", "says nothing", retention.Policy{Name: "x"}},
		{"policies[1].entryDays", "a part of it", retention.Policy{Name: "x", EntryDays: 1, DetailsDays: 2}},
		{"policies[1].detailsDays", "from 1 to 36500", retention.Policy{Name: "x", DetailsDays: 36501}},
		{"policies[1].minimumDays", "from 1 to 36500", retention.Policy{Name: "x", MinimumDays: -1}},
	} {
		_, err := retention.NewPolicies([]retention.Policy{{Name: "all", EntryDays: 365}, tt.policy})
		var field *event.FieldError
		if !errors.As(err, &field) || field.Field != tt.field || !strings.Contains(field.Reason, tt.says) {
			t.Errorf("%+v: %v, want %s: %s", tt.policy, err, tt.field, tt.says)
		}
	}
}

// TestAPlanForThreeYears plans for three years of an event a day, of which two
// holds keep some.
func TestAPlanForThreeYears(t *testing.T) {
	b := retention.NewBook()
	p := policies(t, retention.Policy{Name: "all", DetailsDays: 90, EntryDays: 365})
	first, second := event.DeriveID("first"), event.DeriveID("second")
	var all []*event.Event
	for day := range 1095 {
		e := &event.Event{ID: event.DeriveID(fmt.Sprint(day)), EventType: "RemediationExecuted", CorrelationID: fmt.Sprintf("inc-%d", day/10)}
		switch day {
		case 1000:
			e = hold(t, retention.TypePlaced, retention.Fact{Hold: first, Scope: &retention.Scope{CorrelationID: "inc-60"}, Reason: "a"})
		case 1001:
			e = hold(t, retention.TypePlaced, retention.Fact{Hold: second, Scope: &retention.Scope{Event: "300"}, Reason: "b"})
		}
		e.RetentionDays, e.Recorded = event.DefaultRetentionDays, event.Recorded{At: start.AddDate(0, 0, day)}
		all = append(all, e)
	}
	now := start.AddDate(0, 0, 1095)
	plan := func() *retention.Plan {
		pl := retention.NewPlanner(b, p, now)
		for i, e := range all {
			if err := pl.Add(&retention.Subject{Index: int64(i), Event: e}); err != nil {
				t.Fatal(err)
			}
		}
		made, err := pl.Plan()
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	follow(t, b, all...)
	made := plan()
	if want := []retention.Range{{First: 0, End: 300}, {First: 301, End: 600}, {First: 610, End: 1000}, {First: 1002, End: 1006}}; !slices.Equal(made.Details, want) || made.DetailsCount != 300+299+390+4 || made.Policies["all"] != made.DetailsCount {
		t.Errorf("details %v, %d, want %v", made.Details, made.DetailsCount, want)
	}
	if made.Entries != (retention.Range{End: 256}) || made.Stops == nil || made.Stops.Index != 300 || !strings.Contains(made.Stops.Reason, second.String()) {
		t.Errorf("entries %v, stopped by %+v", made.Entries, made.Stops)
	}
	if want := []retention.Keeping{{Hold: second, Details: 2, Entries: 1, First: 300}, {Hold: first, Details: 11, Entries: 10, First: 600}}; !slices.Equal(made.Held, want) {
		t.Errorf("held %+v, want %+v", made.Held, want)
	}
	for _, id := range []event.ID{first, second} {
		e := hold(t, retention.TypeReleased, retention.Fact{Hold: id, Reason: "c"})
		e.RetentionDays, e.Recorded = event.DefaultRetentionDays, event.Recorded{At: now}
		all = append(all, e)
		follow(t, b, e)
	}
	made = plan()
	if made.Entries != (retention.Range{End: 512}) || len(made.Held) != 0 || !slices.Equal(made.Details, []retention.Range{{First: 0, End: 1006}}) {
		t.Errorf("after the release: %+v", made)
	}
	if made.Stops == nil || made.Stops.Index != 731 || !strings.Contains(made.Stops.Reason, "by all") {
		t.Errorf("stopped by %+v", made.Stops)
	}
}

// TestAPlanErasesAllThatIsDueAndNotHeld compares plans with the meaning of what
// they are made of, entry by entry.
func TestAPlanErasesAllThatIsDueAndNotHeld(t *testing.T) {
	p := policies(t, retention.Policy{Name: "all", DetailsDays: 3, EntryDays: 6},
		retention.Policy{Name: "ann", Match: `event.actor.name == "ann"`, MinimumDays: 8})
	for seed := range uint64(200) {
		w := newWorld(t, seed)
		for range 300 + w.rnd.IntN(300) {
			w.clock += w.rnd.IntN(2) * 4
			switch n := w.rnd.IntN(100); {
			case n < 1:
				w.place()
			case n < 2 && len(w.holds) > 0:
				w.release(w.holds[w.rnd.IntN(len(w.holds))])
			default:
				w.record()
			}
		}
		for i := range w.ledger {
			w.ledger[i].event.RetentionDays = event.DefaultRetentionDays
		}
		b := retention.NewBook()
		size := int64(len(w.ledger))
		w.follow(b, size)
		now := start.Add(time.Duration(w.clock-w.rnd.IntN(w.clock)) * time.Hour)
		pl := retention.NewPlanner(b, p, now)
		erased := rand.New(rand.NewPCG(seed, 9))
		var want []int64
		prefix := int64(-1)
		for i := range size {
			s := &retention.Subject{Index: i, Event: w.ledger[i].event, Erased: erased.IntN(10) == 0}
			term := p.Term(s)
			held := w.held(i, size)
			if !s.Erased && !held && !now.Before(term.Details) {
				want = append(want, i)
			}
			if prefix < 0 && (held || now.Before(term.Entry)) {
				prefix = i
			}
			if err := pl.Add(s); err != nil {
				t.Fatal(err)
			}
		}
		if prefix < 0 {
			prefix = size
		}
		made, err := pl.Plan()
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, r := range made.Details {
			for i := r.First; i < r.End; i++ {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want) || made.DetailsCount != int64(len(want)) {
			t.Fatalf("seed %d: details of %v, want %v", seed, got, want)
		}
		if made.Entries != (retention.Range{End: prefix - prefix%tombstone.Width}) || made.Stops != nil && made.Stops.Index > prefix {
			t.Fatalf("seed %d: entries %v, stopped by %+v; %d may go", seed, made.Entries, made.Stops, prefix)
		}
	}
}

func TestAPlannerIsToldOfEveryEntryInOrder(t *testing.T) {
	const pruned = tombstone.Width
	b := retention.NewBook()
	b.Skip(pruned)
	member, err := json.Marshal((&tombstone.Tombstone{AsOf: pruned, Entries: pruned}).Member())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Follow(pruned, &event.Event{EventType: tombstone.TypeRetentionRun, Ledger: member}); err != nil {
		t.Fatal(err)
	}
	b.Skip(pruned + 2)
	pl := retention.NewPlanner(b, policies(t), start)
	s := func(index int64) *retention.Subject { return &retention.Subject{Index: index, Event: &event.Event{}} }
	if err := pl.Add(s(pruned - 1)); !errors.Is(err, retention.ErrOrder) {
		t.Errorf("got %v", err)
	}
	if err := pl.Add(s(pruned)); err != nil {
		t.Error(err)
	}
	if _, err := pl.Plan(); !errors.Is(err, retention.ErrOrder) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(pl.Add(s(pruned+1)), pl.Add(s(pruned+2))); !errors.Is(err, retention.ErrOrder) {
		t.Errorf("got %v", err)
	}
	if made, err := pl.Plan(); err != nil || made.Entries.First != pruned {
		t.Errorf("%+v, %v", made, err)
	}
}

func TestABookMayBeAskedWhileItFollows(t *testing.T) {
	b := retention.NewBook()
	var group sync.WaitGroup
	group.Go(func() {
		for n := range 500 {
			id := event.DeriveID(fmt.Sprint(n))
			follow(t, b, hold(t, retention.TypePlaced, retention.Fact{Hold: id, Scope: &retention.Scope{Match: `event.correlationID == "inc-1"`}, Reason: "a"}))
			follow(t, b, hold(t, retention.TypeReleased, retention.Fact{Hold: id, Reason: "a"}))
		}
	})
	for range 2 {
		group.Go(func() {
			for b.Size() < 1000 {
				if n := len(b.Held(incident("inc-1"), b.Size())); n > 1 {
					t.Errorf("held by %d", n)
				}
				if b.Erased(0) {
					t.Error("there is no tombstone")
				}
			}
		})
	}
	group.Wait()
}
