package retention

import (
	"cmp"
	"slices"

	"github.com/graven-audit/graven/tombstone"
)

// Owed are the tombstones that a selection of entries, some without content,
// needs beside it to be verified. A nil Owed owes nothing.
type Owed struct {
	tombs  []Tomb
	last   int     // the tombstone that was found last
	owed   []int64 // indexes, rising
	remind bool
}

// NewOwed returns what nobody needs yet, of the tombstones in a book below a
// size. Unless remind is set, none is ever owed, for they are there anyway.
func NewOwed(b *Book, size int64, remind bool) *Owed {
	tombs := slices.DeleteFunc(b.Tombs(0), func(t Tomb) bool { return t.Index >= size })
	return &Owed{tombs: tombs, remind: remind}
}

// Need tells of an entry that is gone, or without content. It reports whether a
// tombstone names it.
func (o *Owed) Need(index int64) bool {
	names := func(t Tomb) bool {
		if index < t.Entries {
			return true
		}
		i, found := slices.BinarySearchFunc(t.Details, index, func(r tombstone.Run, index int64) int { return cmp.Compare(r.First, index) })
		return found || i > 0 && index < t.Details[i-1].End()
	}
	if o.last >= len(o.tombs) || !names(o.tombs[o.last]) { // it mostly names neighbours, too
		k := slices.IndexFunc(o.tombs, names)
		if k < 0 {
			return false
		}
		o.last = k
	}
	t := o.tombs[o.last].Index
	if at, known := slices.BinarySearch(o.owed, t); !known && o.remind {
		o.owed = slices.Insert(o.owed, at, t)
	}
	return true
}

// Next returns the first tombstone that is owed before an index, and owes it no
// longer; nor one at the index, which is there by itself.
func (o *Owed) Next(before int64) (index int64, ok bool) {
	if o == nil || len(o.owed) == 0 || o.owed[0] > before {
		return 0, false
	}
	index, o.owed = o.owed[0], o.owed[1:]
	return index, index < before
}
