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
	store Store
	limit int
	// floor and ceiling are in slots since 1970.
	floor, ceiling int64
	ids            map[event.ID]int64
	// slots holds the ids of the window by their time, which is a slot modulo
	// the number of slots. What is forgotten leaves its memory to what comes.
	slots [recentSlots][]event.ID
}

const (
	recentSlot  = 10 // milliseconds
	recentSlots = 1 << 13
	// The window ends so far ahead of the clock, for clocks differ, and is
	// moved on when half of that is left. It begins so far behind: about an id
	// that is older the store is asked.
	recentAhead  = 10_000 / recentSlot
	recentBehind = 60_000 / recentSlot
)

func newRecent(ctx context.Context, store Store, limit int, now time.Time) (*recent, error) {
	// About older ids the store is asked, so that starting takes neither time
	// nor memory for them.
	r := &recent{store: store, limit: limit, floor: slotOf(now), ceiling: slotOf(now), ids: map[event.ID]int64{}}
	return r, r.extend(ctx, now)
}

func slotOf(t time.Time) int64 { return max(t.UnixMilli(), 0) / recentSlot }

// extend moves the window on, so that ids minted now lie within it.
func (r *recent) extend(ctx context.Context, now time.Time) error {
	to := slotOf(now) + recentAhead
	if to-r.ceiling < recentAhead/2 {
		return nil
	}
	for behind := to - recentAhead - recentBehind; r.floor < behind; {
		if len(r.ids) == 0 {
			r.floor = behind
			break
		}
		r.forget()
	}
	from := max(r.ceiling, r.floor)
	at := func(slot int64) time.Time { return time.UnixMilli(slot * recentSlot) }
	ids, err := r.store.Recent(ctx, at(from), at(to))
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
	_, known = r.slot(id)
	return -1, known
}

// slot returns the slot of an id whose time lies within the window.
func (r *recent) slot(id event.ID) (slot int64, ok bool) {
	t, ok := id.Time()
	slot = slotOf(t)
	return slot, ok && slot >= r.floor && slot < r.ceiling
}

func (r *recent) add(id event.ID, index int64) {
	slot, ok := r.slot(id)
	if !ok {
		return // the store is asked about it
	}
	r.ids[id] = index
	at := &r.slots[slot%recentSlots]
	*at = append(*at, id)
	for len(r.ids) > r.limit {
		r.forget()
	}
}

// forget raises the floor by a slot.
func (r *recent) forget() {
	at := &r.slots[r.floor%recentSlots]
	for _, id := range *at {
		delete(r.ids, id)
	}
	if cap(*at) > 64 {
		*at = nil // few are ever so large again
	}
	*at = (*at)[:0]
	r.floor++
}
