package erasure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// A Result tells what a run has done.
type Result struct {
	// Run is the id that its tombstones bear.
	Run string `json:"run"`
	// Erased is how many events lost their content, and Entries how many are
	// gone but for their hashes, by Tombstones entries.
	Erased     int64 `json:"erased"`
	Entries    int64 `json:"entries"`
	Tombstones int   `json:"tombstones"`
	// Left says why some of it is still there; empty where it is gone.
	Left string `json:"left,omitempty"`
	// Plan is what was decided last.
	Plan *retention.Plan `json:"plan"`
}

// ErrClock means that a run that nobody asked for waits for a person.
var ErrClock = errors.New("a person must start the next retention run")

// maxTries is how often a run is planned that holds overtake.
const maxTries = 5

// Plan says what a run would erase now.
func (x *Eraser) Plan(ctx context.Context) (*retention.Plan, error) {
	book, _, err := x.state(ctx)
	if err != nil {
		return nil, err
	}
	planner := retention.NewPlanner(book, x.c.Policies, x.c.Clock.Now().UTC())
	err = x.reader().Records(ctx, search.Range{First: planner.First(), End: planner.Size()}, func(r *trail.Record) error {
		e, err := r.Event()
		if err != nil {
			return err
		}
		return planner.Add(&retention.Subject{Index: r.Index, Event: e, Erased: r.Erasable == nil})
	})
	if err != nil {
		return nil, err
	}
	return planner.Plan()
}

// Run erases the content that is due and not held. Scheduled says that nobody
// asked for it: it is [ErrClock] then where the clock may have been set, until
// somebody has asked for a run.
func (x *Eraser) Run(ctx context.Context, by ledger.By, scheduled bool) (*Result, error) {
	if x.c.Ledger.ReadOnly() {
		return nil, ledger.ErrReadOnly
	}
	x.acting.Lock()
	defer x.acting.Unlock()
	if !scheduled {
		x.watch.trust()
	}
	if why := x.watch.check(); why != "" {
		return nil, fmt.Errorf("%w: %s", ErrClock, why)
	}
	result := &Result{}
	id := event.NewID(x.c.Clock.Now()).String()
	for try := 1; ; try++ {
		plan, err := x.Plan(ctx)
		if err != nil {
			return nil, err
		}
		result.Plan = plan.Shown()
		overtaken, err := x.record(ctx, by, id, plan, result)
		if err == nil && overtaken && try == maxTries {
			err = ErrOvertaken
		}
		if err != nil || !overtaken {
			result.Left = x.carryOut(ctx) // what was recorded is erased in any case
			return result, err
		}
	}
}

// record records the tombstones of a plan, and reports whether a hold has
// overtaken one of them.
func (x *Eraser) record(ctx context.Context, by ledger.By, id string, plan *retention.Plan, result *Result) (overtaken bool, err error) {
	below, entries := plan.Entries.End, plan.Entries.End-plan.Entries.First
	var chain trail.Hash
	if entries > 0 {
		last, err := x.c.Store.Record(ctx, below-1)
		var content *trail.ErasableError
		if err != nil && !errors.As(err, &content) { // which goes, whatever it is
			return false, err
		}
		chain = last.Chain
	}
	parts := slices.Collect(slices.Chunk(behind(plan.Details, below), tombstone.MaxRuns))
	if len(parts) == 0 && (entries > 0 || result.Tombstones == 0) {
		parts = append(parts, nil) // that there was a run is recorded, too
	}
	for _, part := range parts {
		t := &tombstone.Tombstone{AsOf: plan.Size, Policies: x.c.Policies.Digest()}
		if entries > 0 {
			t.Entries, t.Kept, t.Chain = below, plan.Kept, chain
		}
		details := map[string]any{"policy": "none", "run": id, "part": result.Tombstones + 1, "entriesErased": entries, "held": len(plan.Held)}
		var n int64
		for _, r := range part {
			t.Details = append(t.Details, tombstone.Run{First: r.First, Count: r.End - r.First})
			n += r.End - r.First
		}
		if n+entries > 0 {
			details["policy"] = strings.Join(slices.Sorted(maps.Keys(plan.Policies)), ", ")
		}
		if n > 0 {
			details["firstIndex"], details["lastIndex"] = part[0].First, part[len(part)-1].End-1
		}
		details["detailsErased"] = n
		counts, err := x.bury(ctx, ledger.Act{Type: tombstone.TypeRetentionRun, By: by, Resource: event.Resource{Kind: "RetentionPolicy", Name: id}, Details: details}, t)
		if err != nil || !counts {
			return !counts, err
		}
		result.Run, result.Erased, result.Tombstones = id, result.Erased+n, result.Tombstones+1
		result.Entries, entries = result.Entries+entries, 0
	}
	return false, nil
}

// behind returns the ranges as far as they lie behind an index.
func behind(ranges []retention.Range, first int64) []retention.Range {
	var left []retention.Range
	for _, r := range ranges {
		if r.First = max(r.First, first); r.First < r.End {
			left = append(left, r)
		}
	}
	return left
}
