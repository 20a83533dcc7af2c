package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// twentyDays keeps all entries for twenty days, and their details for ten.
var twentyDays = []retention.Policy{{Name: "all", DetailsDays: 10, EntryDays: 20}}

// pruning erases entries from the beginning on, up to one that is held and then
// beyond it, and proves the rest and what went.
func pruning(t *testing.T, b *Bed) {
	// The events are of a month ago, and what the ledger says itself of today.
	b.Set(time.Now().Add(-30 * day))
	r := b.Start(t)
	r.AppendMany(0, 700)
	b.Set(time.Time{})
	x := r.Erasing(0, 1, twentyDays...)
	who := custody.Caller{By: By}
	index := func(x *Erasing, n int) int64 {
		t.Helper()
		found := []int64{-1}
		if err := x.Store.Find(t.Context(), []event.ID{Event(n).ID}, found); err != nil || found[0] < 0 {
			t.Fatal(found, err)
		}
		return found[0]
	}
	held, err := x.Keeper.Place(t.Context(), who, &custody.Order{Reason: "case 1", Scope: retention.Scope{Event: Event(400).ID.String()}})
	if err != nil {
		t.Fatal(err)
	}
	r.Size()
	before, entry := r.Ledger.State().Checkpoint, index(x, 5)
	was, err := x.Store.Record(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	path, err := search.Prove(r.Store.(tlog.HashReader), before, entry, was.LeafHash())
	if err != nil {
		t.Fatal(err)
	}
	proof := trail.Proof{Index: entry, Hashes: path, Checkpoint: before.Note}
	result, err := x.Eraser.Run(t.Context(), By, false)
	if err != nil {
		t.Fatal(err)
	}
	if result.Entries != tombstone.Width || len(x.Failed) > 0 {
		t.Fatalf("the run erased %d entries, and %v", result.Entries, x.Failed)
	}
	check := func(x *Erasing, below int64) {
		t.Helper()
		report := x.Check(b)
		if report.Pruned != below || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "their hashes are left") }) {
			t.Errorf("pruned below %d, want %d; the notes are %q", report.Pruned, below, report.Notes)
		}
		err := x.Store.Records(t.Context(), search.Range{End: before.Size}, func(rec *trail.Record) error {
			e, err := rec.Event()
			if gone := rec.Index > 0 && rec.Index < below; err != nil || (rec.Leaf != nil) != gone || gone && (e.Actor.Name != "" || rec.Erasable != nil) {
				t.Fatalf("entry %d: %s, %v", rec.Index, rec.Entry, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		finder := search.Finder{Index: x.Store, Reader: x.Present(), Tombs: x.Keeper}
		a, err := finder.Page(t.Context(), &search.Filter{Types: []string{"RemediationExecuted"}}, search.Page{Limit: 5, Cursor: -1, Oldest: true}, x.Size())
		if err != nil || a.Total != before.Size-below-1 || a.Hits[0].Record.Index != below {
			t.Errorf("%d are found, from %+v on, %v", a.Total, a.Hits, err)
		}
	}
	check(x, tombstone.Width)
	r.checkPicks()
	t.Run("what went is known when it comes again", func(t *testing.T) {
		again := Event(5)
		if receipt := r.Append(again)[0]; !receipt.Duplicate || receipt.Index != entry || receipt.Leaf != was.LeafHash() {
			t.Errorf("got %+v", receipt)
		}
	})
	t.Run("older proofs verify, and new ones are made", func(t *testing.T) {
		if _, err := proof.Verify(was.Entry, b.Verifier); err != nil {
			t.Error(err)
		}
		newest := r.Ledger.State().Checkpoint
		r.Size()
		if _, err := search.Prove(r.Store.(tlog.HashReader), newest, entry, was.LeafHash()); err != nil {
			t.Error(err)
		}
		if _, err := search.ProveExtends(r.Store.(tlog.HashReader), newest, before); err != nil {
			t.Error(err)
		}
		report, err := r.Store.Verify(t.Context(), verify.Options{Keys: []note.Verifier{b.Verifier}, Since: [][]byte{before.Note}})
		if err != nil || !report.OK() {
			t.Errorf("%+v, %v", report, err)
		}
	})
	if _, err := x.Keeper.Release(t.Context(), who, held.ID, &custody.Order{Reason: "settled"}); err != nil {
		t.Fatal(err)
	}
	if again, err := x.Eraser.Run(t.Context(), By, false); err != nil || again.Entries != tombstone.Width {
		t.Fatalf("%+v, %v", again, err)
	}
	check(x, 2*tombstone.Width)
	x.stop()
	x = b.Start(t).Erasing(0, 1, twentyDays...)
	defer x.stop()
	if err := x.Eraser.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(x, 2*tombstone.Width)
	if got := index(x, 5); got != entry {
		t.Errorf("an event that went is at %d, and was at %d", got, entry)
	}
	if _, err := x.Eraser.Look(t.Context(), who, &custody.Order{Reason: "r", Scope: retention.Scope{Event: Event(5).ID.String()}}); !errors.Is(err, erasure.ErrNothing) {
		t.Errorf("what went is to be erased again: %v", err)
	}
	x.Append(Event(700))
	x.Check(b)
}
