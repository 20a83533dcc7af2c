package verify

import (
	"context"
	"fmt"
	"os"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// A collector takes the checked blocks of a log in order.
type collector struct {
	rep     *reporter
	keys    *keyring
	tree    *assembly
	chain   chain
	recycle func([]byte)
	report  func(done int64)

	newest *seal // the last good checkpoint, or else the last
	last   *seal // the last checkpoint, if its signature was not checked
	lastAt place
	sealed int64 // entries under checkpoints

	details, erased   int64 // since the last checkpoint
	seals, signatures int64
	foreign           map[string]*foreign
}

// foreign is checkpoints that the same wrong key has signed.
type foreign struct {
	finding int // in Findings, or -1
	count   int64
}

func (d *directory) collector(s *survey) *collector {
	rep := newReporter("", d.o)
	since := d.since
	if d.tip != nil {
		since = append([]earlier{*d.tip}, since...)
	}
	c := &collector{rep: rep, keys: d.keys, tree: newAssembly(rep, since, d.tiles.reader(rep)), recycle: s.recycle, foreign: map[string]*foreign{}}
	c.report = func(done int64) {
		if d.o.Progress != nil {
			d.o.Progress(done, d.total)
		}
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
	c.recycle(b.buf)
	c.report(b.done)
	return nil
}

func (c *collector) record(b *block, f *checkedFrame, body []byte, at place) error {
	if b.damaged {
		if !f.parsed {
			return c.tree.skip(b.skip + 1)
		}
		f.index = b.skip
	}
	if f.index < b.skip {
		return nil
	}
	r, err := trail.ParseFrame(body)
	if err != nil {
		return err
	}
	r.Index = f.index
	follows := c.chain.follow(&r, !f.broken)
	if f.erased {
		c.erased++
	} else {
		c.details++
	}
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
	c.last, c.lastAt = s.keep(), at
	if s.fault == "" || c.newest == nil || c.newest.fault != "" {
		c.newest = c.last
	}
	first := c.sealed
	c.sealed = s.Size
	c.rep.Details, c.rep.Erased, c.rep.Entries = c.rep.Details+c.details, c.rep.Erased+c.erased, c.rep.Entries+c.details+c.erased
	c.details, c.erased = 0, 0
	if s.fault != "" && right == nil {
		return nil // an unsigned root says nothing about the entries
	}
	return c.tree.settle(right, first, at)
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
func (c *collector) finish(s *survey, tip *earlier) error {
	c.sign()
	switch {
	case s.known <= c.sealed:
		c.tree.forget(c.sealed)
	case tip != nil && tip.Size == c.tree.next:
		if right := c.tree.way(tip.Root); right != nil {
			if err := c.tree.settle(right, c.sealed, place{tip.where, -1}); err != nil {
				return err
			}
		}
		fallthrough
	default:
		c.rep.Details, c.rep.Erased, c.rep.Entries = c.rep.Details+c.details, c.rep.Erased+c.erased, c.rep.Entries+c.details+c.erased
	}
	c.tree.finish(&c.chain)
	for by, f := range c.foreign {
		if f.finding >= 0 && f.count > 1 {
			c.rep.Findings[f.finding].Message += fmt.Sprintf("; so are %d more, signed by %s", f.count-1, by)
		}
	}
	return nil
}

// fault reports what is wrong with a checkpoint's signature. One finding
// stands for all that the same wrong key has signed.
func (c *collector) fault(s *seal, at place) {
	if s.fault != WrongKey {
		if s.fault != "" {
			c.rep.add(s.fault, s.Size-1, at.String(), "%s", s.reason)
		}
		return
	}
	by, _ := signers(s.Note)
	f := c.foreign[by]
	if f == nil && len(c.foreign) < c.rep.limit {
		f = &foreign{finding: c.rep.add(WrongKey, s.Size-1, at.String(), "%s", s.reason)}
		c.foreign[by] = f
	}
	if f != nil {
		f.count++
	}
}

// A replay reads the records of a log in order of index.
type replay struct {
	survey *survey
	steps  []step
}

func (p *replay) read(ctx context.Context, emit func(*block) error) error {
	next := block{seals: sampler{every: p.survey.block.seals.every}} // what the next block starts from
	for _, st := range p.steps {
		var err error
		switch {
		case st.gap:
			err = emit(&block{gap: st.skip})
			next.beforeKnown = false
		case st.damaged:
			err = p.damaged(st, emit)
			next.beforeKnown = false
		default:
			next.beforeKnown = next.beforeKnown && st.skip == st.first
			next.skip = st.skip
			err = p.run(ctx, st.run, &next, emit)
		}
		if err != nil {
			return err
		}
		next.done += st.to - st.from
	}
	return nil
}

// run emits the frames of a run.
func (p *replay) run(ctx context.Context, r run, next *block, emit func(*block) error) error {
	seg := p.survey.segs[r.seg]
	f, err := os.Open(seg.path)
	if err != nil {
		return err
	}
	defer f.Close()
	reader := seglog.NewReader(f, seg.base, r.from)
	for reader.Offset() < r.to {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf := p.survey.buffer()
		n := min(int64(len(buf)), r.to-reader.Offset())
		frames, err := reader.Next(buf[:n:n])
		if err != nil {
			return fmt.Errorf("the log was changed while it was read: %w", err)
		}
		b := *next
		b.file, b.buf, b.frames = seg.file, buf, frames
		next.seals.pass(frames)
		if last, ok := lastRecord(frames); ok {
			next.before, next.beforeKnown = last.Chain, true
		}
		if err := emit(&b); err != nil {
			return err
		}
	}
	return nil
}

// damaged emits what may be left of a record in a damaged frame.
func (p *replay) damaged(st step, emit func(*block) error) error {
	seg := p.survey.segs[st.seg]
	f, err := os.Open(seg.path)
	if err != nil {
		return err
	}
	defer f.Close()
	frame := make([]byte, st.to-st.from)
	if _, err := f.ReadAt(frame, st.from); err != nil {
		return fmt.Errorf("the log was changed while it was read: %w", err)
	}
	body := frame[min(len(frame), 8):]
	if len(body) == 0 {
		return emit(&block{gap: st.end()})
	}
	body[0] = trail.FrameRecord
	return emit(&block{file: seg.file, frames: []seglog.Frame{{Offset: st.from, Body: body}}, damaged: true, skip: st.first})
}
