package retention

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/tombstone"
)

// An Act is one entry of a hold: who did it, when and why.
type Act struct {
	Index  int64
	At     time.Time
	By     string // the authenticated principal
	Reason string
}

// A Version is how a hold stood from one of its entries on.
type Version struct {
	Act
	Case    string
	Scope   Scope
	matcher *Matcher
}

// A Hold keeps events from being erased. It does not change; a book that
// follows further has another one.
type Hold struct {
	ID event.ID
	// Versions are how it stood, the first as it was placed.
	Versions []Version
	// Released is nil while the hold stands.
	Released *Act
}

// Placed returns how the hold was placed.
func (h *Hold) Placed() *Version { return &h.Versions[0] }

// Last returns how the hold stands, or stood when it was released.
func (h *Hold) Last() *Version { return &h.Versions[len(h.Versions)-1] }

// at returns how the hold stood before an index, or nil for not at all.
func (h *Hold) at(before int64) *Version {
	if h.Released != nil && h.Released.Index < before {
		return nil
	}
	for i := len(h.Versions) - 1; i >= 0; i-- {
		if h.Versions[i].Index < before {
			return &h.Versions[i]
		}
	}
	return nil
}

// A Book knows all holds of a ledger, and what its tombstones name, as of some
// size. It may be used concurrently.
type Book struct {
	mu     sync.RWMutex
	size   int64
	erased tombstone.Erased
	tombs  []Tomb
	holds  []*Hold // in the order of their placing
	byID   map[event.ID]int
	// own are the entries that holds are made of, by index: without them a
	// book could not be made anew.
	own map[int64]int
}

// A Tomb is a tombstone that counts, and its index.
type Tomb struct {
	Index int64
	*tombstone.Tombstone
}

// NewBook returns the book of an empty ledger.
func NewBook() *Book { return &Book{byID: map[event.ID]int{}, own: map[int64]int{}} }

// ErrOrder means that a book was told of entries out of order.
var ErrOrder = errors.New("entries out of order")

// Size returns the size of the ledger that the book has followed.
func (b *Book) Size() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.size
}

// Skip tells the book that no entry below size, from where it stands on, is of
// a hold, or a tombstone.
func (b *Book) Skip(size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = max(b.size, size)
}

// Follow tells the book of the next entry that may be of a hold, or a tombstone.
//
// What has no effect is passed over: a change or release of what does not
// stand. What cannot be read places a hold on everything, for what it keeps is
// not known; it can be released by the id of its event.
func (b *Book) Follow(index int64, e *event.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if index < b.size {
		return fmt.Errorf("%w: %d after %d", ErrOrder, index, b.size-1)
	}
	b.size = index + 1
	if t := b.erased.Follow(index, e); t != nil {
		b.tombs = append(b.tombs, Tomb{index, t})
	}
	if !slices.Contains(holdTypes(), e.EventType) {
		return nil
	}
	act := Act{Index: index, At: e.Recorded.At, By: e.Recorded.Principal}
	f, err := ParseFact(e.Ledger)
	if err == nil && e.EventType == TypePlaced && f.Hold != e.ID {
		err = errors.New("ledger.hold.id: not the id of the event that places it")
	}
	if err != nil {
		if e.EventType != TypeReleased {
			b.unread(act, e.ID, err)
		}
		return nil
	}
	act.Reason = f.Reason
	i, known := b.byID[f.Hold]
	stands := known && b.holds[i].Released == nil
	switch {
	case e.EventType == TypeReleased:
		if stands {
			h := *b.holds[i]
			h.Released = &act
			b.holds[i], b.own[index] = &h, i
		}
	case f.Scope == nil:
		b.unread(act, e.ID, errors.New("ledger.hold.scope: missing"))
	case e.EventType == TypeChanged:
		if stands {
			h := *b.holds[i]
			h.Versions = append(slices.Clip(h.Versions), Version{act, f.Case, *f.Scope, f.Scope.Matcher()})
			b.holds[i], b.own[index] = &h, i
		}
	case !known:
		b.add(f.Hold, Version{act, f.Case, *f.Scope, f.Scope.Matcher()})
	}
	return nil
}

// Unread tells the book of an entry of a hold that is not as it was sealed: it
// places a hold on everything.
func (b *Book) Unread(index int64, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if index >= b.size {
		b.size = index + 1
		b.erased.Grow(index)
		b.unread(Act{Index: index}, event.DeriveID("unread hold", fmt.Sprint(index)), why)
	}
}

func (b *Book) unread(act Act, id event.ID, why error) {
	if _, known := b.byID[id]; known {
		return
	}
	why = fmt.Errorf("entry %d, of a hold, cannot be read: %w", act.Index, why)
	act.Reason = why.Error()
	b.add(id, Version{Act: act, matcher: &Matcher{unread: why}})
}

func (b *Book) add(id event.ID, v Version) {
	b.byID[id], b.own[v.Index] = len(b.holds), len(b.holds)
	b.holds = append(b.holds, &Hold{ID: id, Versions: []Version{v}})
}

// Held returns the holds that keep a subject, in the order of their placing, as
// they stood before an index: those with a lower index win over an erasure that
// is recorded there. The book must have followed the ledger so far.
//
// A hold of which it cannot be told whether it keeps the subject does, and so
// it keeps the entries that it is made of.
func (b *Book) Held(s *Subject, before int64) []*Hold {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var held []*Hold
	own, isOwn := b.own[s.Index]
	for i, h := range b.holds {
		v := h.at(before)
		if v == nil {
			continue
		}
		keeps := isOwn && own == i
		if !keeps {
			is, unsure := v.matcher.Match(s)
			keeps = is || unsure != nil
		}
		if keeps {
			held = append(held, h)
		}
	}
	return held
}

// Erased reports whether a tombstone names an entry.
func (b *Book) Erased(index int64) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.erased.Names(index)
}

// Pruned returns the index below which tombstones say that entries were erased.
func (b *Book) Pruned() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.erased.Pruned()
}

// prefix returns what Pruned does, and how many of those entries were kept.
func (b *Book) prefix() (below, kept int64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.erased.Pruned(), b.erased.Kept()
}

// PrunedBy returns the index of the first tombstone that says that an entry was
// erased; -1 for none.
func (b *Book) PrunedBy(index int64) int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, t := range b.tombs {
		if index < t.Entries {
			return t.Index
		}
	}
	return -1
}

// Tombs returns the tombstones that count, from an index on, in order.
func (b *Book) Tombs(from int64) []Tomb {
	b.mu.RLock()
	defer b.mu.RUnlock()
	i, _ := slices.BinarySearchFunc(b.tombs, from, func(t Tomb, from int64) int { return cmp.Compare(t.Index, from) })
	return slices.Clone(b.tombs[i:])
}

// Holds returns all holds, released ones too, in the order of their placing.
func (b *Book) Holds() []*Hold {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clone(b.holds)
}

// Hold returns a hold by its id, or nil.
func (b *Book) Hold(id event.ID) *Hold {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if i, ok := b.byID[id]; ok {
		return b.holds[i]
	}
	return nil
}
