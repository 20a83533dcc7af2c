package ledger

import (
	"container/heap"
	"context"
	"time"

	"github.com/graven-audit/graven/event"
)

// recent remembers the ids recorded of late, so that the store need not be
// asked about each new one. A UUIDv7 carries its own time: within the window
// [floor, ceiling) every recorded id is in the map, so that one which is not
// in it is new. It is owned by the sequencer.
type recent struct {
	store          Store
	limit          int
	floor, ceiling time.Time
	ids            map[event.ID]int64
	bySecond       map[int64][]event.ID
	seconds        seconds // the keys of bySecond
}

const recentFuture = time.Hour

func newRecent(ctx context.Context, store Store, limit int, now time.Time) (*recent, error) {
	// About older ids the store is asked, so that starting takes neither time
	// nor memory for them.
	now = now.Truncate(time.Millisecond) // as fine as ids are
	r := &recent{store: store, limit: limit, floor: now, ceiling: now,
		ids: map[event.ID]int64{}, bySecond: map[int64][]event.ID{}}
	return r, r.extend(ctx, now)
}

// extend moves the ceiling on, so that ids minted now lie below it.
func (r *recent) extend(ctx context.Context, now time.Time) error {
	to := now.Add(recentFuture).Truncate(time.Millisecond) // as fine as ids are
	if to.Sub(r.ceiling) < recentFuture/2 {
		return nil
	}
	ids, err := r.store.Recent(ctx, r.ceiling, to)
	if err != nil {
		return err
	}
	r.ceiling = to
	for id, index := range ids {
		r.add(id, index)
	}
	return nil
}

// find reports the index of id, or -1 where it is new; known tells whether
// the answer is certain.
func (r *recent) find(id event.ID) (index int64, known bool) {
	if index, ok := r.ids[id]; ok {
		return index, true
	}
	t, ok := id.Time()
	return -1, ok && !t.Before(r.floor) && t.Before(r.ceiling)
}

func (r *recent) add(id event.ID, index int64) {
	t, ok := id.Time()
	if !ok || t.Before(r.floor) || !t.Before(r.ceiling) {
		return // the store is asked about it
	}
	if _, ok := r.ids[id]; ok {
		return
	}
	r.ids[id] = index
	second := t.Unix()
	if r.bySecond[second] == nil {
		heap.Push(&r.seconds, second)
	}
	r.bySecond[second] = append(r.bySecond[second], id)
	for len(r.ids) > r.limit {
		r.evict()
	}
}

// evict raises the floor past the oldest second.
func (r *recent) evict() {
	oldest := heap.Pop(&r.seconds).(int64)
	for _, id := range r.bySecond[oldest] {
		delete(r.ids, id)
	}
	delete(r.bySecond, oldest)
	if floor := time.Unix(oldest+1, 0); floor.After(r.floor) {
		r.floor = floor
	}
}

// seconds is a heap, the oldest first. Ids may be of any second, and to look
// through all seconds for each new id would hold up the sequencer.
type seconds []int64

func (s seconds) Len() int           { return len(s) }
func (s seconds) Less(i, j int) bool { return s[i] < s[j] }
func (s seconds) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *seconds) Push(v any)        { *s = append(*s, v.(int64)) }
func (s *seconds) Pop() any {
	last := len(*s) - 1
	v := (*s)[last]
	*s = (*s)[:last]
	return v
}
