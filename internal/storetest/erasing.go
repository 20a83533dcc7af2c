package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A Clock is one that tests set.
type Clock struct {
	Time   time.Time
	Passed time.Duration
}

// Now implements [erasure.Clock].
func (c *Clock) Now() time.Time { return c.Time }

// Elapsed implements [erasure.Clock].
func (c *Clock) Elapsed() time.Duration { return c.Passed }

// An Erasing is an eraser over a running ledger.
type Erasing struct {
	*Running
	Journal *ledger.Journal
	Keeper  *custody.Keeper
	Eraser  *erasure.Eraser
	Clock   *Clock
	// Failed are the reasons why the store could not erase.
	Failed []error
}

// Erasing returns an eraser with policies, whose clock is so far ahead. Close
// its journal before the ledger.
func (r *Running) Erasing(ahead time.Duration, confirmations int, policies ...retention.Policy) *Erasing {
	r.t.Helper()
	p, err := retention.NewPolicies(policies)
	if err != nil {
		r.t.Fatal(err)
	}
	x := &Erasing{Running: r, Journal: ledger.NewJournal(r.Ledger), Clock: &Clock{Time: time.Now().Add(ahead)}}
	x.Keeper = custody.New(r.Ledger, x.Journal, r.Store, time.Now)
	x.Eraser = erasure.New(erasure.Config{Ledger: r.Ledger, Journal: x.Journal, Store: r.Store, Holds: x.Keeper, Policies: p, Confirmations: confirmations, Clock: x.Clock, Look: time.Millisecond,
		OnError: func(err error) { x.Failed = append(x.Failed, err) }})
	return x
}

// Present reads what those see who read the ledger.
func (x *Erasing) Present() search.Reader {
	return search.Present{Reader: x.Store, Tombs: x.Keeper}
}

// stop closes journal, ledger and store.
func (x *Erasing) stop() {
	x.t.Helper()
	if err := x.Journal.Close(); err != nil {
		x.t.Error(err)
	}
	x.Stop()
}

const day = 24 * time.Hour

// tenDays keeps the details of all events but critical ones for ten days.
var tenDays = []retention.Policy{
	{Name: "all", DetailsDays: 10},
	{Name: "critical", Match: `event.severity == "critical"`, DetailsDays: 1000},
}

// erasing erases what is due, holds meanwhile, and proves the rest.
func erasing(t *testing.T, b *Bed) {
	r := b.Start(t)
	r.AppendMany(0, 600)
	who := custody.Caller{By: By}
	x := r.Erasing(11*day, 1, tenDays...)
	if _, err := x.Keeper.Place(t.Context(), who, &custody.Order{Reason: "case 1", Scope: retention.Scope{CorrelationID: "inc-7"}}); err != nil {
		t.Fatal(err)
	}
	before := r.Ledger.State().Checkpoint
	due := func(e *event.Event) bool {
		return e.EventType == "RemediationExecuted" && e.Severity != "critical" && e.CorrelationID != "inc-7"
	}
	result, err := x.Eraser.Run(t.Context(), By, false)
	if err != nil {
		t.Fatal(err)
	}
	if result.Tombstones != 1 || len(result.Plan.Held) != 1 || result.Plan.Held[0].Details != 5 /* one is its own */ {
		t.Errorf("the run erased %d by %d tombstones, and holds keep %+v", result.Erased, result.Tombstones, result.Plan.Held)
	}
	check := func(x *Erasing) {
		t.Helper()
		var gone, content int
		err := x.Store.Records(t.Context(), search.Range{End: before.Size}, func(rec *trail.Record) error {
			e, err := rec.Event()
			if err != nil {
				return err
			}
			if erased := rec.Erasable == nil; erased != due(e) && e.EventType == "RemediationExecuted" {
				t.Fatalf("entry %d, %s, of %s: erased %v", rec.Index, e.Severity, e.CorrelationID, erased)
			} else if erased {
				gone++
			} else {
				content++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if int64(gone) != result.Erased || gone < 400 || content < 120 {
			t.Errorf("%d were erased, %d not, and the run said %d", gone, content, result.Erased)
		}
		report := x.Check(b)
		if want := fmt.Sprintf("the details of %d entries were erased", result.Erased); !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.HasPrefix(n, want) }) {
			t.Errorf("the notes are %q", report.Notes)
		}
	}
	check(x)
	t.Run("older checkpoints are extended, and verify", func(t *testing.T) {
		report, err := r.Store.Verify(t.Context(), verify.Options{Keys: []note.Verifier{b.Verifier}, Since: [][]byte{before.Note}})
		if err != nil || !report.OK() {
			t.Errorf("%+v, %v", report, err)
		}
	})
	t.Run("a second run finds the first one's tombstone at most", func(t *testing.T) {
		again, err := x.Eraser.Run(t.Context(), By, false)
		if err != nil || again.Erased > 1 {
			t.Errorf("%+v, %v", again, err)
		}
	})
	t.Run("released, the rest goes", func(t *testing.T) {
		if _, err := x.Keeper.Release(t.Context(), who, "inc-7", &custody.Order{Reason: "settled"}); err != nil {
			t.Fatal(err)
		}
		again, err := x.Eraser.Run(t.Context(), By, false)
		if err != nil || again.Erased < 4 {
			t.Fatalf("%+v, %v", again, err)
		}
		due = func(e *event.Event) bool { return e.Severity != "critical" }
		result.Erased += again.Erased
	})
	x.stop()
	// Entries that were recorded since are among those that went.
	result.Erased = 0
	x = b.Start(t).Erasing(0, 1, tenDays...)
	defer x.stop()
	if err := x.Eraser.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range []int{7, 36, 38} {
		found := []int64{-1}
		if err := x.Store.Find(t.Context(), []event.ID{Event(e).ID}, found); err != nil || found[0] < 0 {
			t.Fatal(found, err)
		}
		rec, err := x.Present().Record(t.Context(), found[0])
		if err != nil || (rec.Erasable == nil) != due(Event(e)) {
			t.Errorf("event %d after a restart: erased %v, %v", e, rec.Erasable == nil, err)
		}
	}
	x.Check(b)
}

// requested erases what somebody asks for, once another has confirmed it.
func requested(t *testing.T, b *Bed) {
	r := b.Start(t)
	r.AppendMany(0, 60)
	ann, bob := custody.Caller{By: ledger.By{Principal: "ann", Via: "token"}}, custody.Caller{By: ledger.By{Principal: "bob", Via: "token"}}
	x := r.Erasing(0, 2)
	defer x.stop()
	order := func(correlation string) *custody.Order {
		return &custody.Order{Reason: "a data subject asks", Scope: retention.Scope{CorrelationID: correlation}}
	}
	look, err := x.Eraser.Look(t.Context(), ann, order("inc-3"))
	if err != nil || look.Events != 5 || look.Erased || !slices.Contains(look.Remaining["correlationID"], "inc-3") || len(look.Remaining["actor.name"]) != 3 {
		t.Fatalf("%+v, %v", look, err)
	}
	if _, err := x.Eraser.Erase(t.Context(), ann, order("inc-99")); !errors.Is(err, erasure.ErrNothing) {
		t.Errorf("of what there is not: %v", err)
	}
	asked, err := x.Eraser.Erase(t.Context(), ann, order("inc-3"))
	if err != nil || asked.Erased || asked.Request == "" || asked.Events != 5 {
		t.Fatalf("%+v, %v", asked, err)
	}
	if _, err := x.Eraser.Confirm(t.Context(), ann, asked.Request); !errors.Is(err, erasure.ErrSamePerson) {
		t.Errorf("by oneself: %v", err)
	}
	if _, err := x.Eraser.Confirm(t.Context(), bob, event.NewID(time.Now()).String()); !errors.Is(err, erasure.ErrNoRequest) {
		t.Errorf("of what nobody asked: %v", err)
	}
	held, err := x.Keeper.Place(t.Context(), ann, &custody.Order{Reason: "case 1", Scope: retention.Scope{Actor: "controller-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Eraser.Confirm(t.Context(), bob, asked.Request); !errors.Is(err, erasure.ErrHeld) {
		t.Errorf("of what is held: %v", err)
	}
	if a, err := x.Eraser.Erase(t.Context(), ann, order("inc-4")); !errors.Is(err, erasure.ErrHeld) || len(a.Held) != 1 || a.Held[0] != held.ID {
		t.Errorf("of what is held: %+v, %v", a, err)
	}
	if _, err := x.Keeper.Release(t.Context(), ann, held.ID, &custody.Order{Reason: "settled"}); err != nil {
		t.Fatal(err)
	}
	stray := Event(60)
	stray.ID = event.DeriveID("erasure", asked.Request) // whoever records may choose ids
	r.Append(stray)
	x.Clock.Time = x.Clock.Time.Add(7*day + time.Hour)
	if _, err := x.Eraser.Confirm(t.Context(), bob, asked.Request); !errors.Is(err, erasure.ErrNoRequest) {
		t.Errorf("too late: %v", err)
	}
	x.Clock.Time = x.Clock.Time.Add(-7*day - time.Hour)
	done, err := x.Eraser.Confirm(t.Context(), bob, asked.Request)
	if err != nil || !done.Erased || done.Events != 5 {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := x.Eraser.Confirm(t.Context(), bob, asked.Request); !errors.Is(err, erasure.ErrNoRequest) {
		t.Errorf("again: %v", err)
	}
	for n := range 60 {
		found := []int64{-1}
		if err := x.Store.Find(t.Context(), []event.ID{Event(n).ID}, found); err != nil {
			t.Fatal(err)
		}
		rec, err := x.Store.Record(t.Context(), found[0])
		if err != nil || (rec.Erasable == nil) != (Event(n).CorrelationID == "inc-3") {
			t.Errorf("event %d: erased %v, %v", n, rec.Erasable == nil, err)
		}
	}
	x.Check(b)
}

// clock has the clock set, and a run wait for a person.
func clock(t *testing.T, b *Bed) {
	r := b.Start(t)
	now := time.Now()
	for name, tt := range map[string]struct {
		newest time.Time
		after  Clock // from the start
		waits  bool
	}{
		"a new ledger":                         {time.Time{}, Clock{Time: now.Add(time.Minute), Passed: time.Minute}, false},
		"a quick start":                        {now.Add(-time.Minute), Clock{Time: now.Add(100 * time.Hour), Passed: 100 * time.Hour}, false},
		"an hour without a server":             {now.Add(-61 * time.Minute), Clock{Time: now}, true},
		"an entry of the future":               {now.Add(61 * time.Minute), Clock{Time: now}, true},
		"a clock that is set forward":          {now, Clock{Time: now.Add(62 * time.Minute), Passed: time.Minute}, true},
		"a clock that is set back":             {now, Clock{Time: now.Add(-62 * time.Minute), Passed: time.Minute}, true},
		"a clock that is corrected by seconds": {now, Clock{Time: now.Add(61 * time.Second), Passed: time.Minute}, false},
	} {
		t.Run(name, func(t *testing.T) {
			x := r.Erasing(0, 1)
			defer x.Journal.Close()
			policies, err := retention.NewPolicies(nil)
			if err != nil {
				t.Fatal(err)
			}
			set := &Clock{Time: now}
			e := erasure.New(erasure.Config{Ledger: r.Ledger, Journal: x.Journal, Store: r.Store, Holds: x.Keeper, Policies: policies, Clock: set, Newest: tt.newest})
			*set = tt.after
			_, err = e.Run(t.Context(), ledger.Self(), true)
			if errors.Is(err, erasure.ErrClock) != tt.waits || err != nil && !tt.waits {
				t.Fatalf("got %v", err)
			}
			if _, err := e.Run(t.Context(), By, false); err != nil {
				t.Fatalf("a person's run: %v", err)
			}
			if _, err := e.Run(t.Context(), ledger.Self(), true); err != nil {
				t.Errorf("the run after it: %v", err)
			}
		})
	}
}

// scheduled has a run follow by itself, and wait while the clock was set.
func scheduled(t *testing.T, b *Bed) {
	r := b.Start(t)
	r.AppendMany(0, 50)
	x := r.Erasing(11*day, 1, tenDays...)
	defer x.stop()
	log := make(lines, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	keep := func(e *erasure.Eraser) {
		wg.Go(func() { e.Keep(ctx, time.Millisecond, slog.New(slog.NewTextHandler(log, nil))) })
	}
	runs := func() int64 {
		t.Helper()
		n, err := r.Finder.Index.Count(t.Context(), &search.Filter{Types: []string{"RetentionRun"}}, search.Range{End: r.Size()})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	policies, err := retention.NewPolicies(tenDays)
	if err != nil {
		t.Fatal(err)
	}
	set := erasure.New(erasure.Config{Ledger: r.Ledger, Journal: x.Journal, Store: r.Store, Holds: x.Keeper, Policies: policies, Clock: x.Clock,
		Look: time.Millisecond, Newest: time.Now()}) // whose clock was set by eleven days
	keep(set)
	for line := range log {
		if strings.Contains(line, "retention waits for") {
			break
		}
	}
	if n := runs(); n != 0 {
		t.Errorf("%d runs, though the clock was set", n)
	}
	keep(x.Eraser)
	for changed := r.Ledger.State().Changed(); runs() == 0; changed = r.Ledger.State().Changed() {
		<-changed
	}
	cancel()
	wg.Wait()
	if err := x.Eraser.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec, err := r.Store.Record(t.Context(), 2) // a high one
	if err != nil || rec.Erasable != nil {
		t.Errorf("what is due is there: %v", err)
	}
	x.Check(b)
}

// lines are what is logged, as far as somebody takes it.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}
