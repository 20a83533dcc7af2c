package finding_test

import (
	"context"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// Alone is a ledger of so many events like one, which belongs to no incident.
type alone struct {
	search.Index
	search.Reader
	finding.Sources
	like *event.Event
}

func (a alone) Select(_ context.Context, _ *search.Filter, r search.Range, _ bool, limit int, _ int64) (found []int64, err error) {
	for i := r.First; i < r.End && len(found) < limit; i++ {
		found = append(found, i)
	}
	return found, nil
}

func (a alone) Record(_ context.Context, index int64) (trail.Record, error) {
	var salt event.Salt
	return trail.Record{Index: index, Salt: salt, Entry: a.like.AppendEntry(nil, a.like.Digests(salt)), Erasable: a.like.AppendErasable(nil)}, nil
}

func (alone) Ready(context.Context, int64) error                              { return nil }
func (alone) Derived(context.Context, int64) error                            { return nil }
func (alone) Holes(context.Context, string, func(finding.Hole) error) error   { return nil }
func (alone) Signed(context.Context, string, func(finding.Count) error) error { return nil }
func (alone) Odd(context.Context, string, func(finding.Count) error) error    { return nil }

func TestEventsOfNoIncidentAreLookedAtInParts(t *testing.T) {
	now := time.Now()
	e := &event.Event{EventType: "RemediationExecuted", Timestamp: now, Actor: event.Actor{Type: event.ActorController, Name: "c"}, Resource: event.Resource{Kind: "RemediationPlan"}}
	e.Complete(now)
	store := alone{like: e}
	x := finding.Finder{Sources: store, Search: search.Finder{Index: store, Reader: store}, Now: time.Now}
	const size = 120_000
	q := finding.Question{After: -1, Settled: finding.Settled}
	var all *finding.Gaps
	parts := 0
	for {
		part, err := x.Gaps(t.Context(), q, size)
		if err != nil {
			t.Fatal(err)
		}
		parts++
		all = all.Join(part)
		if part.Next == nil {
			break
		}
		if part.Complete || *part.Next <= q.After {
			t.Fatalf("a part after %d that goes on after %d: %+v", q.After, *part.Next, part)
		}
		q.After = *part.Next
	}
	if parts != 3 || !all.Complete {
		t.Errorf("%d parts: %+v", parts, all)
	}
}
