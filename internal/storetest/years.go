package storetest

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// aYear keeps the details of most events for a year, and their entries for two.
var aYear = []retention.Policy{
	{Name: "all", DetailsDays: 365, EntryDays: 730},
	{Name: "critical", Match: `event.severity == "critical"`, DetailsDays: 900, EntryDays: 900},
	{Name: "debug", Match: `event.severity == "info" && !has(event.details.keep)`, MinimumDays: 30},
}

// kept says for how many days the details of an event are kept.
func kept(e *event.Event) int {
	if e.Severity == "critical" {
		return 900
	}
	return 365
}

// years records for three years, erases each month, and holds two incidents for
// a time.
func years(t *testing.T, b *Bed) {
	begin := time.Date(2023, 3, 19, 0, 0, 0, 0, time.UTC)
	b.Set(begin)
	r := b.Start(t)
	x := r.Erasing(0, 1, aYear...)
	defer x.stop()
	who := custody.Caller{By: By}
	var old []*trail.Checkpoint
	var proofs []trail.Proof
	var entries [][]byte
	place := func(s retention.Scope) string {
		a, err := x.Keeper.Place(t.Context(), who, &custody.Order{Reason: "case", Scope: s})
		if err != nil {
			t.Fatal(err)
		}
		return a.ID
	}
	var first, second string
	number := 0
	for d := range 3 * 365 {
		now := begin.AddDate(0, 0, d)
		b.Set(now)
		var events []*event.Event
		for range 3 {
			e := Event(number)
			e.Timestamp = now
			events = append(events, e)
			number++
		}
		r.Append(events...)
		switch {
		case d == 100:
			first = place(retention.Scope{CorrelationID: Event(150).CorrelationID}) // of day 50
		case d == 500:
			second = place(retention.Scope{Match: `event.actor.name == "controller-1" && event.timestamp < timestamp("2023-04-19T00:00:00Z")`})
		case d == 800:
			for n := 150; n < 155; n++ { // four of which have been due for a year
				found := []int64{-1}
				if err := r.Store.Find(t.Context(), []event.ID{Event(n).ID}, found); err != nil {
					t.Fatal(err)
				}
				if rec, err := r.Store.Record(t.Context(), found[0]); err != nil || rec.Erasable == nil {
					t.Errorf("event %d is held, and was erased: %v", n, err)
				}
			}
		case d == 900:
			if _, err := x.Keeper.Release(t.Context(), who, first, &custody.Order{Reason: "settled"}); err != nil {
				t.Fatal(err)
			}
		}
		if d%90 == 45 {
			size := r.Size()
			cp := r.Ledger.State().Checkpoint
			proof, err := tlog.ProveRecord(size, size/2, r.Store.(tlog.HashReader))
			if err != nil {
				t.Fatal(err)
			}
			rec, err := r.Store.Record(t.Context(), size/2)
			if err != nil {
				t.Fatal(err)
			}
			old, proofs, entries = append(old, cp), append(proofs, trail.Proof{Index: size / 2, Hashes: proof, Checkpoint: cp.Note}), append(entries, rec.Entry)
		}
		if d%30 == 29 {
			x.Clock.Time = now
			if _, err := x.Eraser.Run(t.Context(), By, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := begin.AddDate(0, 0, 3*365-1-(3*365-30)%30) // of the last run
	x.Clock.Time = last
	check := func(held func(*event.Event) bool) {
		t.Helper()
		var gone, content int
		err := r.Store.Records(t.Context(), search.Range{End: r.Size()}, func(rec *trail.Record) error {
			e, err := rec.Event()
			if rec.Leaf != nil {
				gone++
			}
			if err != nil || e.EventType != "RemediationExecuted" {
				return err
			}
			due := !x.Clock.Time.Before(e.Recorded.At.AddDate(0, 0, kept(e))) && !held(e)
			if is := rec.Erasable == nil; is != due {
				return fmt.Errorf("entry %d, %s, of %s, recorded %s: erased %v", rec.Index, e.Severity, e.CorrelationID, e.Recorded.At, is)
			} else if is {
				gone++
			} else {
				content++
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if gone < 1500 || content < 1000 {
			t.Errorf("%d were erased, %d were not", gone, content)
		}
		report := r.Check(b)
		if len(report.Notes) == 0 {
			t.Error("the verdict does not tell of what was erased")
		}
	}
	inSecond := func(e *event.Event) bool {
		return e.Actor.Name == "controller-1" && e.Timestamp.Before(time.Date(2023, 4, 19, 0, 0, 0, 0, time.UTC))
	}
	// The second hold came after a year, and keeps what was not due by then.
	check(func(e *event.Event) bool { return inSecond(e) && kept(e) > 500 })
	provable := func(below int64) {
		t.Helper()
		since := make([][]byte, len(old))
		size, hashes := r.Size(), r.Store.(tlog.HashReader)
		newest := r.Ledger.State().Checkpoint
		for i, cp := range old {
			since[i] = cp.Note
			if _, err := proofs[i].Verify(entries[i], b.Verifier); err != nil {
				t.Errorf("the proof of %d entries: %v", cp.Size, err)
			}
			proof, err := tlog.ProveTree(size, cp.Size, hashes)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckTree(proof, size, newest.Root, cp.Size, cp.Root); err != nil {
				t.Errorf("from %d entries on: %v", cp.Size, err)
			}
			if _, err := search.Prove(hashes, newest, proofs[i].Index, trail.LeafHash(entries[i])); err != nil {
				t.Errorf("a new proof of entry %d: %v", proofs[i].Index, err)
			}
		}
		report, err := r.Store.Verify(t.Context(), verify.Options{Keys: []note.Verifier{b.Verifier}, Since: since})
		if err != nil || !report.OK() || report.Pruned != below {
			t.Errorf("against older checkpoints: %+v, %v", report, err)
		}
	}
	provable(0) // for the second hold keeps entries of the first month, and all behind them
	if _, err := x.Keeper.Release(t.Context(), who, second, &custody.Order{Reason: "settled"}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Eraser.Run(t.Context(), By, false); err != nil {
		t.Fatal(err)
	}
	check(func(*event.Event) bool { return false })
	provable(512)
}
