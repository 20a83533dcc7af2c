package verify

import (
	"bytes"
	"fmt"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// A collector takes the checked blocks of a log in order.
type collector struct {
	rep    *reporter
	keys   *keyring
	tree   *assembly
	chain  chain
	survey *seglog.Survey
	// progress may be nil; total is what it counts up to.
	progress func(done, total int64)
	total    int64

	newest *seal // the last good checkpoint, or else the last
	last   *seal // the last checkpoint, until its signature is sure to be checked
	lastAt place
	sealed int64 // entries under checkpoints

	absence tombstone.Absence

	entries, details  int64 // since the last checkpoint
	seals, signatures int64 // of checkpoints, all and checked
	foreign           int64 // checkpoints signed by a wrong key
	foreignAt         int   // in Findings, or -1: the finding for them
}

func (d *directory) collector() *collector {
	rep := newReporter("", d.o)
	since := d.since
	if d.tip != nil {
		since = append([]earlier{*d.tip}, since...)
	}
	c := &collector{rep: rep, keys: d.keys, tree: newAssembly(rep, since, hashSource{tree.RowHeight, d.run, rowPlace}), survey: d.survey, progress: d.o.Progress}
	for _, seg := range d.survey.Segments {
		c.total += seg.Size
	}
	return c
}

// collect takes the next block.
func (c *collector) collect(b *block) error {
	if b.gap > 0 {
		c.chain.broken = false
		return c.tree.skip(b.gap)
	}
	for i := range b.checked {
		f := &b.checked[i]
		at := place{b.file, b.frames[i].Offset}
		var err error
		if f.seal != nil {
			err = c.checkpoint(f.seal, at)
		} else {
			err = c.record(b, f, b.frames[i].Body, at)
		}
		if err != nil {
			return err
		}
	}
	c.survey.Recycle(b.memory)
	if c.progress != nil {
		c.progress(min(b.done, c.total), c.total)
	}
	return nil
}

func (c *collector) record(b *block, f *checkedFrame, body []byte, at place) error {
	if b.damaged {
		if !f.parsed {
			return c.tree.skip(b.first + 1)
		}
		f.index = b.first
	}
	if f.index < b.first {
		return nil
	}
	r, err := trail.ParseFrame(body)
	if err != nil {
		return err
	}
	r.Index = f.index
	follows := c.chain.follow(&r, !f.broken)
	c.entries++
	if !f.bare {
		c.details++
	}
	var decision []byte
	if f.decides {
		decision = r.Entry
	}
	c.absence.Entry(r.Index, r.Chain, decision, f.bare && !b.damaged && f.fault == "", r.Leaf != nil && !b.damaged)
	if r.Index == 0 && !b.damaged {
		c.keys.checkCreated(c.rep, r.Entry, at.String())
	}
	return c.tree.add(slot{index: r.Index, where: at, leaf: f.leaf, unlinked: !follows, reported: b.damaged, fault: f.fault})
}

func (c *collector) checkpoint(s *seal, at place) error {
	if c.lastAt.file != at.file {
		c.sign() // the last of a segment
	}
	c.seals++
	if s.Note == nil {
		c.rep.add(s.fault, c.tree.next-1, at.String(), "%s", s.reason)
		return nil
	}
	if s.Size != c.tree.next {
		return nil // the survey has said that it does not belong here
	}
	right := c.tree.way(s.Root)
	if right == nil && !c.tree.lost {
		c.keys.check(s)
	}
	if s.checked || s.fault != "" {
		c.signatures++
	}
	c.fault(s, at)
	kept := *s
	kept.Note = bytes.Clone(s.Note) // the block's memory will be used again
	c.last, c.lastAt = &kept, at
	if s.fault == "" || c.newest == nil || c.newest.fault != "" {
		c.newest = c.last
	}
	first := c.sealed
	c.sealed = s.Size
	c.count()
	if s.fault != "" && right == nil {
		return nil // an unsigned root says nothing about the entries
	}
	if s.fault == "" && right != nil {
		c.absence.Seal(s.Size)
	}
	return c.tree.settle(right, first, at)
}

// count counts the entries since the last checkpoint.
func (c *collector) count() {
	c.rep.Entries, c.rep.Details = c.rep.Entries+c.entries, c.rep.Details+c.details
	c.entries, c.details = 0, 0
}

// sign makes sure that the signature of the last checkpoint was checked.
func (c *collector) sign() {
	if c.last != nil && !c.last.checked && c.last.fault == "" {
		c.keys.check(c.last)
		c.signatures++
		c.fault(c.last, c.lastAt)
	}
	c.last = nil
}

// finish judges the rest. The entries behind the last checkpoint count if they
// are known to have been acknowledged.
func (c *collector) finish(known int64, tip *earlier) error {
	c.sign()
	if known <= c.sealed {
		c.tree.forget(c.sealed)
	} else if c.count(); tip != nil && tip.Size == c.tree.next {
		if right := c.tree.way(tip.Root); right != nil {
			if err := c.tree.settle(right, c.sealed, place{tip.where, -1}); err != nil {
				return err
			}
		}
	}
	if err := c.tree.finish(); err != nil {
		return err
	}
	if c.foreign > 1 && c.foreignAt >= 0 {
		c.rep.Findings[c.foreignAt].Message += fmt.Sprintf("; %d more are not signed by one either", c.foreign-1)
	}
	return nil
}

// fault reports what is wrong with a checkpoint's signature. One finding
// stands for all that are signed by a wrong key.
func (c *collector) fault(s *seal, at place) {
	if s.fault == WrongKey {
		c.foreign++
	}
	if s.fault == BadSignature || s.fault == WrongKey && c.foreign == 1 {
		f := c.rep.add(s.fault, s.Size-1, at.String(), "%s", s.reason)
		if s.fault == WrongKey {
			c.foreignAt = f
		}
	}
}
