package verify

import (
	"bytes"
	"fmt"

	"github.com/graven-audit/graven/trail"
)

// A place is where something stands: a byte of a file, or a line.
type place struct {
	file string // empty for a line of an export
	at   int64  // -1 for the file as a whole
}

func (p place) String() string {
	switch {
	case p.file == "":
		return fmt.Sprintf("line %d", p.at)
	case p.at < 0:
		return p.file
	}
	return fmt.Sprintf("%s: byte %d", p.file, p.at)
}

// A chain tells which entries the chain speaks against, given where the
// stored chain values do not follow from one another. One changed entry
// breaks one link; one changed chain value breaks two.
type chain struct {
	// after is the value that follows from the entries as they stand, while
	// it differs from the stored values.
	after  trail.Hash
	broken bool
	stored trail.Hash // with the last record
	odd    []oddLink
}

// An oddLink is an entry that does not follow from the value stored before it.
type oddLink struct {
	index            int64
	previous, stored trail.Hash
	entry            []byte
}

// maxOdd bounds the links that are remembered to find swapped entries.
const maxOdd = 32

// follow takes the next record, and whether the chain value stored with it
// follows from the one stored before it. It reports whether the chain speaks
// for the entry.
func (c *chain) follow(r *trail.Record, follows bool) bool {
	previous := c.stored
	c.stored = r.Chain
	if follows {
		c.broken = false
		return true
	}
	after := previous
	if c.broken {
		after = c.after
	}
	c.after = trail.Link(after, r.Entry)
	if c.broken && c.after == r.Chain {
		c.broken = false
		return true // the value stored before it was changed
	}
	c.broken = true
	if len(c.odd) < maxOdd {
		c.odd = append(c.odd, oddLink{r.Index, previous, r.Chain, bytes.Clone(r.Entry)})
	}
	return false
}

// odds is what a closer look at wrong entries has shown.
type odds struct {
	moved   map[int64]int64 // by its place, which entry stands there
	cleared map[int64]bool  // entries that are good: those before them are not
}

// swapped finds, among the entries that the chain speaks against, those that
// stand in each other's places.
func (c *chain) swapped() *odds {
	found := &odds{map[int64]int64{}, map[int64]bool{}}
	for i, slot := range c.odd {
		for _, o := range c.odd {
			if o.index == slot.index || found.cleared[slot.index] || found.cleared[o.index] {
				continue
			}
			h := trail.Link(slot.previous, o.entry)
			if h != slot.stored && h != o.stored {
				continue
			}
			found.moved[slot.index], found.moved[o.index] = o.index, slot.index
			// Where the entries have taken their chain values along, the
			// entry behind each does not follow, and is good.
			if i+1 < len(c.odd) && h == o.stored {
				next := c.odd[i+1]
				if next.index == slot.index+1 && next.index != o.index && trail.Link(h, next.entry) == next.stored {
					found.cleared[next.index] = true
				}
			}
			break
		}
	}
	return found
}
