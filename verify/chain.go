package verify

import (
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
	stored trail.Hash // with the last record
	// after is the value that follows from the entries as they stand, since
	// the chain has broken.
	after  trail.Hash
	broken bool
}

// follow takes the next record, and whether the value stored with it follows
// from the one stored before it. It reports whether the chain speaks for the
// entry.
func (c *chain) follow(r *trail.Record, follows bool) bool {
	if !c.broken {
		c.after = c.stored
	}
	was := c.broken
	c.stored, c.broken = r.Chain, !follows
	if follows {
		return true
	}
	if c.after = r.Link(c.after); was && c.after == r.Chain {
		c.broken = false
		return true // the value stored before it was changed
	}
	return false
}
