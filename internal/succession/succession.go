// Package succession is the link from a ledger to the one whose place it takes,
// after entries of that were lost: what the first entry says of it.
package succession

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// Dir holds the predecessor, as a backup, below the data directory.
const Dir = "predecessor"

// A Predecessor is what the first entry of a successor ledger says, in its
// member ledger, about the ledger whose place it takes.
type Predecessor struct {
	Origin string `json:"origin"`
	Key    string `json:"key"`
	// Size, Root and Checkpoint, a signed note, are those of what is left.
	Size       int64      `json:"size"`
	Root       trail.Hash `json:"root"`
	Checkpoint string     `json:"checkpoint"`
	// Lost are the entries that were lost, as far as that is known.
	Lost Lost `json:"lost"`
}

// Lost are entries from First up to, not including, End. Where there is no End,
// nobody knows how many were lost behind those before First.
type Lost struct {
	First int64  `json:"first"`
	End   *int64 `json:"end,omitempty"`
}

// String describes what was lost.
func (l Lost) String() string {
	switch {
	case l.End == nil:
		return fmt.Sprintf("what stood after entry %d, if anything, is lost", l.First-1)
	case *l.End == l.First:
		return "nothing that is known of is lost"
	case *l.End == l.First+1:
		return fmt.Sprintf("entry %d is lost", l.First)
	}
	return fmt.Sprintf("entries %d to %d are lost", l.First, *l.End-1)
}

// New returns what is said of a ledger with the given key and newest
// checkpoint, of which newest entries are known to have been.
func New(key string, c *trail.Checkpoint, newest *int64) *Predecessor {
	return &Predecessor{Origin: c.Origin, Key: key, Size: c.Size, Root: c.Root, Checkpoint: string(c.Note), Lost: Lost{First: c.Size, End: newest}}
}

// Parse reads what a ledger's first entry says of a predecessor, and checks
// that it agrees with itself: the key has signed the checkpoint, which says
// what stands beside it. It returns nil where there is none.
func Parse(entry []byte) (*Predecessor, error) {
	e, _, err := event.ParseEntry(entry)
	if err != nil || len(e.Ledger) == 0 {
		return nil, err
	}
	var facts struct{ Predecessor *Predecessor }
	if err := json.Unmarshal(e.Ledger, &facts); err != nil || facts.Predecessor == nil {
		return nil, err
	}
	p := facts.Predecessor
	if e.EventType != "LedgerCreated" {
		return nil, errors.New("only a ledger's creation has a predecessor")
	}
	key, err := trail.ParseKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("the predecessor's key: %w", err)
	}
	c, err := trail.OpenCheckpoint([]byte(p.Checkpoint), key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the predecessor's checkpoint: %w", err)
	case c.Origin != p.Origin || c.Size != p.Size || c.Root != p.Root:
		return nil, errors.New("the predecessor's checkpoint says something else than what stands beside it")
	case p.Lost.First != p.Size || p.Lost.End != nil && *p.Lost.End < p.Size:
		return nil, errors.New("what was lost of the predecessor does not begin where its checkpoint ends")
	}
	return p, nil
}
