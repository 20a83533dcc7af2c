package retention_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/tombstone"
)

// A world is a ledger in memory with people who hold, and runs that erase. It
// knows by itself, without a book, what is held.
type world struct {
	t      *testing.T
	rnd    *rand.Rand
	clock  int
	ledger []entry
	holds  []*modelHold
	books  []*retention.Book // of several servers, each as far behind as it may be
	runs   []*run
	erased map[int64]int64 // by which run's index
}

type entry struct {
	event *event.Event
	due   int // when it may go
}

type modelHold struct {
	id       event.ID
	placed   int64
	versions []modelVersion
	released int64 // or math.MaxInt64
	entries  []int64
}

type modelVersion struct {
	index  int64
	covers func(index int64, e *event.Event) bool
}

// A run erases in steps, between which anything may happen.
type run struct {
	book    *retention.Book
	planned []int64
	size    int64 // of the ledger that was planned for
	index   int64 // of its entry; -1 until it is recorded
}

var (
	incidents = []string{"inc-a", "inc-b", "inc-c"}
	actors    = []string{"ann", "bob"}
	start     = time.Date(2026, 3, 19, 0, 0, 0, 0, time.UTC)
)

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), erased: map[int64]int64{}}
	for range 2 {
		w.books = append(w.books, retention.NewBook())
	}
	return w
}

// append records an event, as the sequencer does, and returns its index.
func (w *world) append(e *event.Event, member map[string]any) int64 {
	index := int64(len(w.ledger))
	if member != nil {
		text, err := json.Marshal(member)
		if err != nil {
			w.t.Fatal(err)
		}
		e.Ledger = text
	}
	e.Recorded = event.Recorded{At: start.Add(time.Duration(w.clock) * time.Hour), Principal: "ann"}
	w.ledger = append(w.ledger, entry{e, w.clock + 1 + w.rnd.IntN(6)})
	return index
}

func (w *world) record() {
	w.append(&event.Event{ID: w.id(), EventType: "RemediationExecuted", CorrelationID: incidents[w.rnd.IntN(len(incidents))],
		Timestamp: start.Add(time.Duration(w.rnd.IntN(10)) * time.Hour), Actor: event.Actor{Name: actors[w.rnd.IntN(len(actors))]},
		Resource: event.Resource{Kind: "Pod", Namespace: "prod", Name: "web"}}, nil)
}

func (w *world) id() event.ID {
	var id event.ID
	for i := range id {
		id[i] = byte(w.rnd.Uint32())
	}
	return id
}

// scope returns a scope, and what it means.
func (w *world) scope() (retention.Scope, func(int64, *event.Event) bool) {
	switch n := w.rnd.IntN(60); {
	case n == 0: // rarely, for compiling takes its time
		return retention.Scope{Match: `event.actor.name == "bob" && event.correlationID != "inc-a"`},
			func(_ int64, e *event.Event) bool { return e.Actor.Name == "bob" && e.CorrelationID != "inc-a" }
	case n < 15:
		id := incidents[w.rnd.IntN(len(incidents))]
		return retention.Scope{CorrelationID: id}, func(_ int64, e *event.Event) bool { return e.CorrelationID == id }
	case n < 30:
		name := actors[w.rnd.IntN(len(actors))]
		return retention.Scope{Actor: name, Kind: "Pod"}, func(_ int64, e *event.Event) bool { return e.Actor.Name == name && e.Resource.Kind == "Pod" }
	case n < 45:
		from := start.Add(time.Duration(w.rnd.IntN(10)) * time.Hour)
		to := from.Add(3 * time.Hour)
		return retention.Scope{From: &from, To: &to}, func(_ int64, e *event.Event) bool {
			return !e.Timestamp.Before(from) && !e.Timestamp.After(to)
		}
	default:
		at := int64(w.rnd.IntN(len(w.ledger) + 1))
		return retention.Scope{Event: fmt.Sprint(at)}, func(index int64, _ *event.Event) bool { return index == at }
	}
}

func (w *world) place() {
	s, covers := w.scope()
	id := w.id()
	f := retention.Fact{Hold: id, Scope: &s, Reason: "r"}
	index := w.append(&event.Event{ID: id, EventType: retention.TypePlaced}, f.Member())
	w.holds = append(w.holds, &modelHold{id: id, placed: index, versions: []modelVersion{{index, covers}}, released: math.MaxInt64, entries: []int64{index}})
}

// change and release may be of a hold that was released before, by another
// server: that has no effect.
func (w *world) change() {
	if len(w.holds) == 0 {
		return
	}
	h := w.holds[w.rnd.IntN(len(w.holds))]
	s, covers := w.scope()
	f := retention.Fact{Hold: h.id, Scope: &s, Reason: "r"}
	index := w.append(&event.Event{ID: w.id(), EventType: retention.TypeChanged}, f.Member())
	if h.released == math.MaxInt64 {
		h.versions = append(h.versions, modelVersion{index, covers})
		h.entries = append(h.entries, index)
	}
}

func (w *world) release(h *modelHold) {
	f := retention.Fact{Hold: h.id, Reason: "r"}
	index := w.append(&event.Event{ID: w.id(), EventType: retention.TypeReleased}, f.Member())
	h.released = min(h.released, index)
}

// held says by the meaning of holds alone whether an entry was held before an
// index.
func (w *world) held(index, before int64) bool {
	for _, h := range w.holds {
		if h.placed >= before || h.released < before {
			continue
		}
		if slices.Contains(h.entries, index) {
			return true
		}
		var as *modelVersion
		for i := range h.versions {
			if h.versions[i].index < before {
				as = &h.versions[i]
			}
		}
		if as.covers(index, w.ledger[index].event) {
			return true
		}
	}
	return false
}

func (w *world) follow(b *retention.Book, size int64) {
	for i := b.Size(); i < size; i++ {
		if err := b.Follow(i, w.ledger[i].event); err != nil {
			w.t.Fatal(err)
		}
	}
}

// plan begins a run, on what some server knows of the ledger.
func (w *world) plan() {
	r := &run{book: w.books[w.rnd.IntN(len(w.books))], index: -1}
	size := r.book.Size()
	r.size = size
	for i := range size {
		if _, gone := w.erased[i]; !gone && w.ledger[i].due <= w.clock && len(r.book.Held(&retention.Subject{Index: i, Event: w.ledger[i].event}, size)) == 0 {
			r.planned = append(r.planned, i)
		}
	}
	w.runs = append(w.runs, r)
}

// step takes a run to its next step: its tombstone, and then the erasing.
func (w *world) step(i int) {
	r := w.runs[i]
	if r.index < 0 {
		stone := tombstone.Tombstone{AsOf: r.size}
		for _, index := range r.planned {
			stone.Details = append(stone.Details, tombstone.Run{First: index, Count: 1})
		}
		r.index = w.append(&event.Event{ID: w.id(), EventType: tombstone.TypeRetentionRun}, stone.Member())
		return
	}
	w.runs = slices.Delete(w.runs, i, i+1)
	w.follow(r.book, max(r.index+1, r.book.Size()))
	counts := slices.ContainsFunc(r.book.Tombs(r.index), func(t retention.Tomb) bool { return t.Index == r.index })
	between := slices.ContainsFunc(w.ledger[r.size:r.index], func(e entry) bool {
		return e.event.EventType == retention.TypePlaced || e.event.EventType == retention.TypeChanged
	})
	if counts == between {
		w.t.Fatalf("the erasure %d, as of %d, counts: %v, and a hold came between: %v", r.index, r.size, counts, between)
	}
	if !counts {
		return
	}
	for _, index := range r.planned {
		if w.held(index, r.index) || !r.book.Erased(index) {
			w.t.Fatalf("entry %d: erased by %d: %v, and it is held: %v", index, r.index, r.book.Erased(index), w.held(index, r.index))
		}
		if _, gone := w.erased[index]; !gone {
			w.erased[index] = r.index
		}
	}
}

func (w *world) random() {
	w.clock += w.rnd.IntN(2)
	switch n := w.rnd.IntN(16); {
	case n < 5:
		w.record()
	case n < 7:
		w.place()
	case n < 8:
		w.change()
	case n < 10:
		if len(w.holds) > 0 {
			w.release(w.holds[w.rnd.IntN(len(w.holds))])
		}
	case n < 12:
		b := w.books[w.rnd.IntN(len(w.books))]
		w.follow(b, b.Size()+w.rnd.Int64N(int64(len(w.ledger))-b.Size()+1))
	case n < 13:
		w.plan()
	default:
		if len(w.runs) > 0 {
			w.step(w.rnd.IntN(len(w.runs)))
		}
	}
}

// finish has the last run erase all that may go.
func (w *world) finish() {
	for len(w.runs) > 0 {
		w.step(0)
	}
	w.clock += 10
	for _, b := range w.books {
		w.follow(b, int64(len(w.ledger)))
	}
	w.plan()
	for len(w.runs) > 0 {
		w.step(0)
	}
}

// check tells what was erased though it was held, or kept for no reason.
func (w *world) check(size int64) {
	for index, by := range w.erased {
		if w.held(index, by) {
			w.t.Fatalf("entry %d was erased by %d and is held by a hold before", index, by)
		}
	}
	for index := range size {
		_, gone := w.erased[index]
		if by := int64(len(w.ledger)) - 1; !gone && !w.held(index, by) {
			w.t.Fatalf("entry %d is due, nothing holds it, and it was not erased", index)
		}
	}
}

func TestNothingIsErasedThatAHoldBeforeCovers(t *testing.T) {
	const workers = 2
	for worker := range workers {
		t.Run(fmt.Sprintf("worker %d", worker), func(t *testing.T) {
			t.Parallel()
			for n := worker; n < interleavings; n += workers {
				interleaving(t, uint64(n))
			}
		})
	}
}

func interleaving(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	for range 12 + w.rnd.IntN(20) {
		w.random()
	}
	size := int64(len(w.ledger))
	w.finish()
	w.check(size)
	for _, h := range w.holds {
		w.release(h)
	}
	size = int64(len(w.ledger))
	w.finish()
	for index := range size {
		if _, gone := w.erased[index]; !gone {
			t.Fatalf("interleaving %d: entry %d is due, every hold was released, and it was not erased", seed, index)
		}
	}
}
