package filestore_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/filestore"
	gaps "github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// tenDays keeps entries for ten days.
var tenDays = []retention.Policy{{Name: "all", EntryDays: 10}}

// aged returns a bed whose ledger has n events of a month ago that bear a canary
// in the entry, and runs with today's clock from then on.
func aged(t *testing.T, dir string, o filestore.Options, n int) (*storetest.Bed, *storetest.Running) {
	t.Helper()
	b := newBed(t, dir, o)
	b.Set(time.Now().AddDate(0, -1, 0))
	r := b.Start(t)
	for first := 0; first < n; first += 100 {
		var events []*event.Event
		for i := first; i < min(first+100, n); i++ {
			e := canary(i)
			e.Actor.Name = fmt.Sprintf("canary-actor-%d", i)
			e.Source = event.Source{Name: "operator", Seq: int64(i + 1)}
			events = append(events, e)
		}
		r.Append(events...)
	}
	b.Set(time.Time{})
	return b, r
}

func TestNothingIsLeftOfEntriesThatWereErased(t *testing.T) {
	dir := t.TempDir()
	b, r := aged(t, dir, filestore.Options{}, 512)
	x := r.Erasing(0, 1, tenDays...)
	result, err := x.Eraser.Run(t.Context(), storetest.By, false)
	if err != nil || result.Entries != 512 || result.Left != "" {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := x.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		// The index has the hash of a name, of which SQLite stores six bytes: who
		// guesses the name could tell that it was there.
		for n := range 400 {
			sum := sha256.Sum256(fmt.Appendf(nil, "canary-actor-%d", n))
			word := binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(sum[:])>>17|1)[2:]
			if found := grep(t, dir, word); len(found) > 0 {
				t.Fatalf("%s, the hash of canary-actor-%d is left in %q", when, n, found)
			}
		}
		// One entry, and its content, stays: it is the 513th.
		if found := grep(t, dir, []byte("canary-actor-510")); len(found) > 0 {
			t.Errorf("%s, an entry is left in %q", when, found)
		}
		if found := grep(t, dir, []byte("canary-details-7\"")); len(found) > 0 {
			t.Errorf("%s, content is left in %q", when, found)
		}
		if found := grep(t, dir, []byte("canary-actor-511")); len(found) == 0 {
			t.Errorf("%s, more is gone than was due", when)
		}
	}
	check("while the server runs")
	r.Check(b)
	r.Stop()
	check("when it has stopped")
	if _, err := filestore.Reindex(dir, filestore.Options{Verifier: b.Verifier}); err != nil {
		t.Fatal(err)
	}
	r = b.Start(t)
	r.Check(b)
	check("when it is indexed anew")
	var holes int
	if err := r.Store.Derived(t.Context(), r.Size()); err != nil {
		t.Fatal(err)
	}
	if err := r.Store.Holes(t.Context(), "", func(gaps.Hole) error { holes++; return nil }); err != nil || holes > 0 {
		t.Errorf("%d numbers of the source are missing, %v", holes, err)
	}
}

// TestAPruningThatIsInterruptedIsFinishedLater has operations fail while entries
// are erased, one each time, and starts anew.
func TestAPruningThatIsInterruptedIsFinishedLater(t *testing.T) {
	for n := int64(1); ; n += interruptStride {
		dir := t.TempDir()
		disk := &failing{FS: seglog.OS{}}
		b, r := aged(t, dir, filestore.Options{FS: disk}, 300)
		x := r.Erasing(0, 1, tenDays...)
		disk.left.Store(n)
		result, err := x.Eraser.Run(t.Context(), storetest.By, false)
		done := disk.left.Load() > 0 // nothing failed
		disk.left.Store(0)
		gone := func() bool { return len(grep(t, dir, []byte("canary-actor-254"))) == 0 }
		if err == nil && result.Left == "" && result.Entries > 0 && !gone() {
			t.Fatalf("operation %d failed, and the run says that it is done", n)
		}
		_ = x.Journal.Close() // the ledger may have stopped
		r.Abandon()
		x = b.Start(t).Erasing(0, 1, tenDays...)
		if err := x.Eraser.Resume(t.Context()); err != nil {
			t.Fatalf("after operation %d failed: %v", n, err)
		}
		if named := x.Keeper.Pruned() > 0; named != gone() {
			t.Fatalf("after operation %d failed: named %v, gone %v", n, named, gone())
		}
		x.Check(b)
		if err := x.Journal.Close(); err != nil {
			t.Fatal(err)
		}
		x.Stop()
		if done {
			return
		}
	}
}

// TestWhoReadsWhileEntriesAreErasedReadsOn erases entries before what is read next,
// which stands elsewhere in its file from then on.
func TestWhoReadsWhileEntriesAreErasedReadsOn(t *testing.T) {
	b := newBed(t, t.TempDir(), filestore.Options{SegmentSize: 64 << 20})
	b.Set(time.Now().AddDate(0, -1, 0))
	r := b.Start(t)
	for first := 0; first < 600; first += 100 { // of 4 MB, which are read by the MB
		var events []*event.Event
		for i := first; i < first+100; i++ {
			e := storetest.Event(i)
			e.Error.Message = strings.Repeat("m", 7000)
			events = append(events, e)
		}
		r.Append(events...)
	}
	b.Set(time.Time{})
	x := r.Erasing(0, 1, tenDays...)
	var next int64
	err := r.Store.Records(t.Context(), search.Range{End: 600}, func(rec *trail.Record) error {
		if rec.Index != next {
			t.Fatalf("entry %d in the place of entry %d", rec.Index, next)
		}
		if next++; next != 10 {
			return nil
		}
		result, err := x.Eraser.Run(t.Context(), storetest.By, false)
		if err == nil && (result.Entries != 512 || result.Left != "") {
			err = fmt.Errorf("%+v", result)
		}
		return err
	})
	if err != nil || next != 600 {
		t.Errorf("%d entries were read: %v", next, err)
	}
	if err := x.Journal.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAPruningKeepsNobodyWaiting reads, verifies and records while entries are
// erased, step by step.
func TestAPruningKeepsNobodyWaiting(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, dir, filestore.Options{})
	begin := time.Now().AddDate(0, -3, 0)
	b.Set(begin)
	r := b.Start(t)
	for day := range 8 {
		b.Set(begin.AddDate(0, 0, day))
		r.AppendMany(day*256, 256)
	}
	b.Set(time.Time{})
	x := r.Erasing(0, 1, tenDays...)
	whileOthersWork(t, x, func() (*verify.Report, error) {
		return filestore.Verify(context.Background(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}, Workers: 1})
	}, func() {
		for day := range 8 {
			x.Clock.Time = begin.AddDate(0, 0, day+10).Add(time.Hour)
			result, err := x.Eraser.Run(t.Context(), storetest.By, false)
			if err != nil {
				t.Fatal(err)
			}
			for left, tries := result.Left, 0; left != ""; tries++ { // who reads the index keeps its log
				if left = ""; tries == 50 {
					t.Fatal(x.Failed)
				}
				if err := x.Eraser.Resume(t.Context()); err != nil {
					left = err.Error()
				}
			}
		}
	})
	if below := x.Keeper.Pruned(); below < 7*256 {
		t.Errorf("entries below %d went", below)
	}
	if err := x.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	r.Check(b)
}

// TestWhatIsLeftOfAnEntryDecidesNothing has somebody change stubs in the log: one
// takes the place of a hold, or two of them place and release it beforehand.
func TestWhatIsLeftOfAnEntryDecidesNothing(t *testing.T) {
	who, order := custody.Caller{By: storetest.By}, custody.Order{Reason: "case 1", Scope: retention.Scope{CorrelationID: "inc-60"}}
	for _, tt := range []struct {
		name string
		harm func(t *testing.T, dir string, hold event.ID, at int64)
		err  error
	}{
		{"a hold is made to look erased", func(t *testing.T, dir string, _ event.ID, at int64) {
			for _, path := range segments(t, dir) {
				rewrite(t, path, at, func(r *trail.Record) {
					leaf := r.LeafHash()
					e, digests, err := event.ParseEntry(r.Entry)
					if err != nil {
						t.Fatal(err)
					}
					r.Leaf, r.Entry, r.Erasable = &leaf, e.Remains().AppendEntry(nil, event.Digests{Details: digests.Details}), nil
				})
			}
		}, search.ErrChanged},
		{"two place and release it", func(t *testing.T, dir string, hold event.ID, _ int64) {
			for i, eventType := range []string{retention.TypePlaced, retention.TypeReleased} {
				rewrite(t, segments(t, dir)[0], int64(100+i), func(r *trail.Record) {
					e, digests, err := event.ParseEntry(r.Entry)
					if err != nil || r.Leaf == nil {
						t.Fatal(err, r.Leaf)
					}
					f := retention.Fact{Reason: "forged"}
					if f.Hold = hold; i == 0 {
						e.ID, f.Scope = hold, &retention.Scope{CorrelationID: "x"}
					}
					e.EventType = eventType
					if e.Ledger, err = json.Marshal(f.Member()); err != nil {
						t.Fatal(err)
					}
					r.Entry = e.AppendEntry(nil, event.Digests{Details: digests.Details})
				})
			}
		}, search.ErrChanged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			b := newBed(t, dir, filestore.Options{})
			x := b.Pruned(t, 300)
			if _, err := x.Keeper.Release(t.Context(), who, "inc-60", &custody.Order{Reason: "none"}); err == nil {
				t.Fatal("there is a hold")
			}
			r := x.Running
			r.AppendMany(300, 100)
			held, err := x.Keeper.Place(t.Context(), who, &order)
			if err != nil {
				t.Fatal(err)
			}
			r.Size()
			id, err := event.ParseID(held.ID)
			if err != nil {
				t.Fatal(err)
			}
			at := []int64{-1}
			if err := r.Store.Find(t.Context(), []event.ID{id}, at); err != nil || at[0] < 0 {
				t.Fatal(at, err)
			}
			if err := x.Journal.Close(); err != nil {
				t.Fatal(err)
			}
			r.Stop()
			tt.harm(t, dir, id, at[0])
			x = b.Start(t).Erasing(365*24*time.Hour, 1, tenDays...)
			defer x.Journal.Close()
			if a, err := x.Eraser.Erase(t.Context(), who, &order); !errors.Is(err, tt.err) {
				t.Errorf("a held event: %+v, %v", a, err)
			}
			if result, err := x.Eraser.Run(t.Context(), storetest.By, false); err == nil && result.Entries > 0 {
				t.Errorf("the run erased %d entries", result.Entries)
			}
		})
	}
}
