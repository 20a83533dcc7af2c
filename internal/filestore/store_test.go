package filestore_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
)

// newBed returns a ledger in dir with small segments, so that tests see many.
func newBed(t testing.TB, dir string, o filestore.Options) *storetest.Bed {
	return storetest.NewBed(t, func(b *storetest.Bed) (storetest.Store, error) {
		o.Verifier = b.Verifier
		if o.SegmentSize == 0 {
			o.SegmentSize = 64 << 10
		}
		return openStore(dir, o, b)
	})
}

func TestTheEmbeddedStorePassesTheSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storetest.Bed { return newBed(t, t.TempDir(), filestore.Options{}) })
}

// TestWhatWasJustRecordedIsFoundAmongTheRest asks right behind each write, when
// the index has some of the entries and memory the others.
func TestWhatWasJustRecordedIsFoundAmongTheRest(t *testing.T) {
	b := newBed(t, t.TempDir(), filestore.Options{})
	r := b.Start(t)
	var all []*event.Event
	for n := range 120 {
		first := len(all)
		for range 1 + n%40 {
			all = append(all, storetest.Event(len(all)))
		}
		r.Append(all[first:]...)
		f := []search.Filter{{Actor: "controller-1"}, {Severities: []string{"high", "low"}, Namespace: "ns-2"}, {}, {CorrelationID: fmt.Sprintf("inc-%d", len(all)/5)}}[n%4]
		var want []event.ID
		for _, e := range all {
			if f.Match(e) {
				want = append(want, e.ID)
			}
		}
		if n%4 == 2 { // the first entry matches, too
			want = append([]event.ID{{}}, want...)
		}
		total, oldest := int64(len(want)), n%3 == 0
		if !oldest {
			slices.Reverse(want)
		}
		offset := n * 7 % (len(want) + 1)
		want = want[offset:]
		want = want[:min(len(want), 25)]
		a, err := r.Finder.Page(t.Context(), &f, search.Page{Limit: 25, Offset: int64(offset), Oldest: oldest, Cursor: -1}, r.Ledger.State().Size())
		if err != nil || a.Total != total || len(a.Hits) != len(want) {
			t.Fatalf("%d: %d of %d, want %d of %d, %v", n, len(a.Hits), a.Total, len(want), total, err)
		}
		for i, h := range a.Hits {
			if want[i] != (event.ID{}) && h.Event.ID != want[i] {
				t.Fatalf("%d: hit %d is entry %d", n, i, h.Record.Index)
			}
		}
	}
	r.Check(b)
}
