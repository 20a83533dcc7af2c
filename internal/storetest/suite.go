package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// Run runs the suite. newBed returns a bed for a new, empty ledger.
func Run(t *testing.T, newBed func(t *testing.T) *Bed) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, *Bed)
	}{
		{"a new ledger begins with its own creation", begins},
		{"what was recorded is read back as it was", readsBack},
		{"the same event again gives the first answer", duplicates},
		{"the same id with other content is refused", conflicts},
		{"repetitions within one batch are one event", repetitions},
		{"ids of all ages are known after a restart", knownAfterRestart},
		{"a ledger goes on after a restart where it was", goesOn},
		{"fifty writers with equal and jumping clocks leave a sound ledger", manyWriters},
		{"one bad event of a batch leaves the others be", badOne},
		{"reserved events are refused", reserved},
		{"filters find what matches and nothing else", filters},
		{"pages follow each other without a gap", pages},
		{"records are picked in any order, as they are one by one", picks},
		{"a question sees what was recorded before it", readYourWrites},
		{"what is missing of a source is known", sources},
		{"holds are what the ledger says of them", holds},
		{"what is due is erased, and what is held is not", erasing},
		{"what somebody asks to erase goes when another confirms it", requested},
		{"three years are kept and erased as policies and holds say", years},
		{"entries go from the beginning on, and what proves them stays", pruning},
		{"runs follow by themselves, unless the clock was set", scheduled},
		{"a run that nobody asked for waits where the clock was set", clock},
		{"every entry has a proof under the checkpoint", proofs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(t, newBed(t))
		})
	}
}

func begins(t *testing.T, b *Bed) {
	r := b.Start(t)
	rec, err := r.Store.Record(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := rec.Event()
	if err != nil {
		t.Fatal(err)
	}
	if e.EventType != "LedgerCreated" || len(e.Ledger) == 0 {
		t.Errorf("entry 0 is %s, ledger member %q", e.EventType, e.Ledger)
	}
	if rec.Chain != trail.Link(trail.Hash{}, rec.Entry) {
		t.Error("the chain does not begin with 64 zeros")
	}
	r.Check(b)
}

func readsBack(t *testing.T, b *Bed) {
	r := b.Start(t)
	want := Event(7)
	want.Error = event.Failure{Code: "Timeout", Message: "it took too long"}
	want.Original = map[string]string{"severity": "warning"}
	want.Source = event.Source{Name: "operator-0", Seq: 4711}
	want.DurationMs = 12000
	receipt := r.Append(want)[0]
	h, err := r.Finder.Get(t.Context(), receipt.Index)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(h.Event.AppendJSON(nil)), string(want.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if trail.LeafHash(h.Record.Entry) != receipt.Leaf {
		t.Error("the receipt's leaf hash is not the entry's")
	}
	if a := h.Event.Recorded; a.Principal != "tester" || a.Attribution != event.AttributionAsserted || a.At.IsZero() {
		t.Errorf("recorded: %+v", a)
	}
}

func picks(t *testing.T, b *Bed) {
	r := b.Start(t)
	rng := rand.New(rand.NewPCG(7, 1))
	for first := 0; first < 400; first += 40 {
		var events []*event.Event
		for i := range 40 {
			e := Event(first + i)
			if rng.IntN(20) == 0 {
				e.Details = fmt.Appendf(nil, `{"note":%q}`, strings.Repeat("a long one ", rng.IntN(20_000)))
			}
			events = append(events, e)
		}
		r.Append(events...)
	}
	r.checkPicks()
	stop := errors.New("stop")
	seen := 0
	err := r.Store.Pick(t.Context(), []int64{3, 4, 5}, func(*trail.Record) error { seen++; return stop })
	if err != stop || seen != 1 {
		t.Errorf("after %d: %v", seen, err)
	}
	seen = 0
	size := r.Ledger.State().Size()
	err = r.Store.Pick(t.Context(), []int64{size - 2, size - 1, size}, func(*trail.Record) error { seen++; return nil })
	if err == nil || seen != 2 {
		t.Errorf("behind the end: after %d: %v", seen, err)
	}
}

// checkPicks picks records here and there, and holds them against those that are
// read one by one.
func (r *Running) checkPicks() {
	r.t.Helper()
	rng := rand.New(rand.NewPCG(7, 2))
	size := r.Ledger.State().Size()
	one := make([]trail.Record, size)
	for i := range one {
		var err error
		if one[i], err = r.Store.Record(r.t.Context(), int64(i)); err != nil {
			r.t.Fatal(err)
		}
	}
	for range 200 {
		indexes := []int64{rng.Int64N(size)}
		reach := 1 + rng.IntN(8)
		for range rng.IntN(100) {
			next := indexes[len(indexes)-1] + int64(rng.IntN(2*reach)-reach)
			if rng.IntN(30) == 0 {
				next = rng.Int64N(size)
			}
			indexes = append(indexes, min(max(next, 0), size-1))
		}
		switch rng.IntN(3) {
		case 0:
			slices.Sort(indexes)
		case 1:
			slices.Sort(indexes)
			slices.Reverse(indexes)
		}
		var kept []*trail.Record
		if err := r.Store.Pick(r.t.Context(), indexes, func(r *trail.Record) error { kept = append(kept, r); return nil }); err != nil {
			r.t.Fatal(err)
		}
		for i, index := range indexes {
			if !reflect.DeepEqual(*kept[i], one[index]) {
				r.t.Fatalf("picked %d as number %d of %d", kept[i].Index, i, indexes)
			}
			if i > 0 && kept[i] == kept[i-1] {
				r.t.Fatalf("two pieces of memory are one, of number %d of %d", i, indexes)
			}
		}
	}
}

func duplicates(t *testing.T, b *Bed) {
	r := b.Start(t)
	first := r.Append(Event(1))[0]
	r.AppendMany(2, 20)
	size := r.Ledger.State().Size()
	again := Event(1)
	again.Source = event.Source{Name: "another teller", Seq: 1} // does not count as content
	second := r.Append(again)[0]
	if !second.Duplicate || second.Index != first.Index || second.Leaf != first.Leaf {
		t.Errorf("first %+v, again %+v", first, second)
	}
	if got := r.Ledger.State().Size(); got != size {
		t.Errorf("the ledger grew from %d to %d", size, got)
	}
	r.Check(b)
}

func conflicts(t *testing.T, b *Bed) {
	r := b.Start(t)
	first := r.Append(Event(1))[0]
	for name, change := range map[string]func(*event.Event){
		"severity": func(e *event.Event) { e.Severity = "low" },
		"details":  func(e *event.Event) { e.Details = []byte(`{"number":1,"action":"Restart"}`) },
		"message":  func(e *event.Event) { e.Error.Message = "another" },
		"time":     func(e *event.Event) { e.Timestamp = e.Timestamp.Add(time.Nanosecond) },
	} {
		other := Event(1)
		change(other)
		results, _, err := r.Ledger.Append(t.Context(), By, []*event.Event{other})
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(results[0].Err, ledger.ErrConflict) || results[0].Index != first.Index {
			t.Errorf("other %s: %+v", name, results[0])
		}
	}
	r.Check(b)
}

func repetitions(t *testing.T, b *Bed) {
	r := b.Start(t)
	other := Event(1)
	other.Severity = "low"
	results, _, err := r.Ledger.Append(t.Context(), By, []*event.Event{Event(1), Event(2), Event(1), other})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Err != nil || results[0].Duplicate || results[2].Err != nil || !results[2].Duplicate || results[2].Index != results[0].Index {
		t.Errorf("first %+v, again %+v", results[0], results[2])
	}
	if !errors.Is(results[3].Err, ledger.ErrConflict) {
		t.Errorf("other content in the same batch: %+v", results[3])
	}
	r.Check(b)
}

func knownAfterRestart(t *testing.T, b *Bed) {
	r := b.Start(t)
	now := time.Now()
	fresh, derived, old := Event(1), Event(2), Event(3)
	fresh.ID, old.ID = event.NewID(now), event.NewID(now.Add(-24*time.Hour))
	future := Event(4)
	future.ID = event.NewID(now.Add(50 * time.Minute))
	events := []*event.Event{fresh, derived, old, future}
	clone := func() (c []*event.Event) {
		for _, e := range events {
			c = append(c, e.Clone())
		}
		return c
	}
	first := r.Append(clone()...)
	for range 2 {
		r.Stop()
		r = b.Start(t)
		for i, again := range r.Append(clone()...) {
			if !again.Duplicate || again.Index != first[i].Index {
				t.Errorf("event %d: first %+v, after the restart %+v", i, first[i], again)
			}
		}
	}
	r.Check(b)
}

func goesOn(t *testing.T, b *Bed) {
	r := b.Start(t)
	var before *trail.Checkpoint
	for i := range 5 {
		r.AppendMany(i*150, 150)
		before = r.Ledger.State().Checkpoint
		r.Stop()
		r = b.Start(t)
		if after := r.Ledger.State().Checkpoint; after.Size != before.Size || after.Root != before.Root {
			t.Fatalf("before the restart %d entries and root %s, after it %d and %s", before.Size, before.Root, after.Size, after.Root)
		}
	}
	if got := r.Ledger.State().Size(); got != 751 {
		t.Errorf("%d entries, want 751", got)
	}
	r.Check(b)
}

func manyWriters(t *testing.T, b *Bed) {
	r := b.Start(t)
	const writers, each = 50, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range each {
				e := Event(w*each + i)
				switch rng.IntN(3) {
				case 0:
					e.Timestamp = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
				case 1:
					e.Timestamp = e.Timestamp.Add(time.Duration(rng.IntN(48)-24) * time.Hour)
				}
				res, _, err := r.Ledger.Append(t.Context(), By, []*event.Event{e})
				if err != nil || res[0].Err != nil {
					t.Errorf("writer %d: %v %v", w, err, res)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := r.Ledger.State().Size(); got != writers*each+1 {
		t.Errorf("%d entries, want %d", got, writers*each+1)
	}
	r.Check(b)
}

func badOne(t *testing.T, b *Bed) {
	r := b.Start(t)
	bad := Event(2)
	bad.Resource.Kind = ""
	results, _, err := r.Ledger.Append(t.Context(), By, []*event.Event{Event(1), bad, Event(3)})
	if err != nil {
		t.Fatal(err)
	}
	var invalid event.Invalid
	if results[0].Err != nil || results[2].Err != nil || !errors.As(results[1].Err, &invalid) || invalid[0].Field != "resource.kind" {
		t.Errorf("results: %+v", results)
	}
	if got := r.Ledger.State().Size(); got != 3 {
		t.Errorf("%d entries, want 3", got)
	}
}

func reserved(t *testing.T, b *Bed) {
	r := b.Start(t)
	created, member := Event(1), Event(2)
	created.EventType = "LedgerCreated"
	member.Ledger = []byte(`{"created":{}}`)
	results, _, err := r.Ledger.Append(t.Context(), By, []*event.Event{created, member})
	if err != nil {
		t.Fatal(err)
	}
	for i, res := range results {
		if !errors.Is(res.Err, event.ErrReserved) {
			t.Errorf("event %d: %v", i, res.Err)
		}
	}
}

func filters(t *testing.T, b *Bed) {
	r := b.Start(t)
	r.AppendMany(0, 300)
	late := Event(1000)
	late.Timestamp = time.Date(2026, 6, 1, 0, 0, 0, 5, time.UTC)
	late.EventType, late.Outcome, late.Cluster, late.Category = "issue_created", "failure", "east", "special"
	r.Append(late)
	size := r.Size()
	for _, f := range []search.Filter{
		{},
		{Types: []string{"IssueCreated"}},
		{Types: []string{"IssueCreated", "RemediationExecuted"}, Severities: []string{"high", "low"}},
		{Actor: "controller-1"},
		{CorrelationID: "inc-7"},
		{Namespace: "ns-3", Severities: []string{"critical"}},
		{Kind: "RemediationPlan", Resource: "plan-17"},
		{Outcomes: []string{"failure"}},
		{Cluster: "east"},
		{Categories: []string{"special"}},
		{From: time.Date(2026, 6, 1, 0, 0, 0, 5, time.UTC)},
		{To: time.Date(2026, 3, 19, 14, 30, 10, 123e6, time.UTC)},
		{From: time.Date(2026, 3, 19, 14, 30, 10, 0, time.UTC), To: time.Date(2026, 3, 19, 14, 30, 20, 0, time.UTC), Actor: "controller-2"},
		{Text: "PLAN-29"},
		{DetailKey: "number", DetailValue: "17"},
		{DetailKey: "action", DetailValue: "Rollback", Namespace: "ns-1"},
		{Scope: []string{"ns-1", "ns-2"}},
		{Scope: []string{}},
		{Actor: "nobody"},
		{Types: []string{"LedgerCreated"}},
	} {
		var want []int64
		err := r.Store.Records(t.Context(), search.Range{End: size}, func(rec *trail.Record) error {
			e, err := rec.Event()
			if err == nil && f.Match(e) {
				want = append(want, rec.Index)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		a, err := r.Finder.Page(t.Context(), &f, search.Page{Limit: 1000, Cursor: -1, Oldest: true}, size)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, h := range a.Hits {
			got = append(got, h.Record.Index)
		}
		if !slices.Equal(got, want) || a.Total != int64(len(want)) {
			t.Errorf("%v: found %v (total %d), want %v", f.Params(), got, a.Total, want)
		}
	}
}

func pages(t *testing.T, b *Bed) {
	r := b.Start(t)
	r.AppendMany(0, 130)
	size := r.Size()
	f := search.Filter{Namespace: "ns-1"}
	for _, oldest := range []bool{false, true} {
		var byCursor, byOffset []int64
		for p := (search.Page{Limit: 7, Cursor: -1, Oldest: oldest}); ; {
			a, err := r.Finder.Page(t.Context(), &f, p, size)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range a.Hits {
				byCursor = append(byCursor, h.Record.Index)
			}
			if a.Next == "" {
				break
			}
			if _, err := p.Set("cursor", a.Next, 1000); err != nil {
				t.Fatal(err)
			}
		}
		for p := (search.Page{Limit: 7, Cursor: -1, Oldest: oldest}); ; p.Offset += 7 {
			a, err := r.Finder.Page(t.Context(), &f, p, size)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Hits) == 0 {
				break
			}
			for _, h := range a.Hits {
				byOffset = append(byOffset, h.Record.Index)
			}
		}
		if len(byCursor) != 33 || !slices.Equal(byCursor, byOffset) || slices.IsSorted(byCursor) != oldest {
			t.Errorf("oldest first %v: by cursor %v, by offset %v", oldest, byCursor, byOffset)
		}
	}
	a, err := r.Finder.Page(t.Context(), &f, search.Page{Limit: 5, Offset: 1 << 40, Cursor: -1}, size)
	if err != nil || len(a.Hits) != 0 || a.Total != 33 {
		t.Errorf("past the end: %+v, %v", a, err)
	}
}

func readYourWrites(t *testing.T, b *Bed) {
	r := b.Start(t)
	for i := range 60 {
		r.Append(Event(i))
		f := search.Filter{Resource: fmt.Sprintf("plan-%d", i)}
		a, err := r.Finder.Page(t.Context(), &f, search.Page{Limit: 5, Cursor: -1}, r.Ledger.State().Size())
		if err != nil || len(a.Hits) != 1 {
			t.Fatalf("event %d was recorded and is not found: %v, %v", i, a, err)
		}
	}
}

func proofs(t *testing.T, b *Bed) {
	r := b.Start(t)
	r.AppendMany(0, 700)
	size := r.Size()
	cp := r.Ledger.State().Checkpoint
	hashes, ok := r.Store.(tlog.HashReader)
	if !ok {
		t.Fatal("the store serves no hashes")
	}
	for _, index := range []int64{0, 1, 255, 256, 511, 512, 513, size - 2, size - 1} {
		proof, err := tlog.ProveRecord(size, index, hashes)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := r.Store.Record(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		p := trail.Proof{Index: index, Hashes: proof, Checkpoint: cp.Note}
		if _, err := p.Verify(rec.Entry, b.Verifier); err != nil {
			t.Errorf("entry %d: %v", index, err)
		}
	}
	for _, old := range []int64{1, 255, 256, 300, 512, 700} {
		proof, err := tlog.ProveTree(size, old, hashes)
		if err != nil {
			t.Fatal(err)
		}
		root, err := tlog.TreeHash(old, hashes)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckTree(proof, size, cp.Root, old, root); err != nil {
			t.Errorf("from %d entries: %v", old, err)
		}
	}
}
