package ledger

import (
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
}

const (
	recentPast   = 10 * time.Minute
	recentFuture = time.Hour
	recentLimit  = 1 << 18
)

func newRecent(ctx context.Context, store Store, now time.Time) (*recent, error) {
	r := &recent{store: store, limit: recentLimit, floor: now.Add(-recentPast), ceiling: now.Add(-recentPast),
		ids: map[event.ID]int64{}, bySecond: map[int64][]event.ID{}}
	return r, r.extend(ctx, now)
}

// extend moves the ceiling on, so that ids minted now lie below it.
func (r *recent) extend(ctx context.Context, now time.Time) error {
	to := now.Add(recentFuture)
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
	if !ok || t.Before(r.floor) {
		return
	}
	if _, ok := r.ids[id]; ok {
		return
	}
	r.ids[id] = index
	second := t.Unix()
	r.bySecond[second] = append(r.bySecond[second], id)
	for len(r.ids) > r.limit {
		r.evict()
	}
}

// evict raises the floor past the oldest second.
func (r *recent) evict() {
	oldest := int64(1<<63 - 1)
	for s := range r.bySecond {
		oldest = min(oldest, s)
	}
	for _, id := range r.bySecond[oldest] {
		delete(r.ids, id)
	}
	delete(r.bySecond, oldest)
	if floor := time.Unix(oldest+1, 0); floor.After(r.floor) {
		r.floor = floor
	}
}
