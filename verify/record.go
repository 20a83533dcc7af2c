package verify

import (
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// look tells records and checkpoints apart for a survey of the log.
func look(body []byte) (n int64, commit, ok bool) {
	switch {
	case trail.IsRecord(body):
		r, err := trail.ParseFrame(body)
		return r.Index, false, err == nil && r.Index < 1<<56 // of which no ledger has more
	case body[0] == trail.FrameCheckpoint:
		c, err := trail.ReadCheckpoint(body[1:])
		if err != nil {
			return -1, true, true
		}
		return c.Size, true, true
	}
	return 0, false, false
}

// A block is a run of frames on their way from the reader, who makes it, over
// a worker, who hashes, to the collector.
type block struct {
	file   string
	frames []seglog.Frame
	memory []byte // of the frames, to be used again
	done   int64  // bytes read so far
	// before is the stored chain value before the first record, if known.
	before  trail.Hash
	follows bool
	// seals counts the checkpoints before the block.
	seals sampler
	// first: records below this index stand elsewhere, too, and are passed
	// over. A damaged record is taken for this one; a finding names it already.
	first   int64
	damaged bool
	// gap: instead of frames, the entries up to this index are missing.
	gap int64

	checked []checkedFrame
}

// A checkedFrame is what a worker found out about a frame.
type checkedFrame struct {
	seal *seal // nil for a record, of which follows what it has
	// parsed: there is a record. All others are damaged.
	parsed bool
	// broken: the stored chain value does not follow from the one before.
	broken bool
	index  int64
	leaf   trail.Hash
	bare   bool   // without erasable content
	fault  string // of the erasable content
	// decides: it may be of a tombstone, or of a hold.
	decides bool
}

// A sampler says which checkpoints have their signatures checked at once: all
// of the first 20,000, then one for each 256 entries, since a check takes as
// long as hashing 30 of them. The roots of all are compared, and those that
// differ are checked, as are the last of every segment. A signature that is
// passed over vouches for nothing that the newest one does not.
type sampler struct {
	every            bool
	count, unsampled int64
}

const (
	sampleAll   = 20_000
	sampleEvery = 256
)

// checkpoint takes note of one and says whether to check it.
func (s *sampler) checkpoint() bool {
	s.count++
	if !s.every && s.count > sampleAll && s.unsampled < sampleEvery {
		return false
	}
	s.unsampled = 0
	return true
}

// work checks what can be checked of a block on its own.
func (b *block) work(keys *keyring) {
	b.checked = make([]checkedFrame, len(b.frames))
	previous, known := b.before, b.follows
	for i, f := range b.frames {
		c := &b.checked[i]
		if f.Body[0] == trail.FrameCheckpoint && !b.damaged {
			s := keys.open(f.Body[1:], b.seals.checkpoint())
			c.seal = &s
			continue
		}
		if !trail.IsRecord(f.Body) { // its kind was damaged
			f.Body[0] = trail.FrameRecord
		}
		r, err := trail.ParseFrame(f.Body)
		if err != nil {
			continue
		}
		b.seals.unsampled++
		c.parsed, c.index, c.bare = true, r.Index, r.Erasable == nil
		c.broken = known && r.Link(previous) != r.Chain
		c.leaf = r.LeafHash()
		c.decides = r.Leaf == nil && tombstone.Decides(r.Entry)
		if err := r.CheckErasable(); err != nil {
			c.fault = err.Error()
		}
		previous, known = r.Chain, true
	}
}

// A feeder makes blocks of the frames that a survey reads.
type feeder struct {
	survey *seglog.Survey
	emit   func(*block) error
	next   block // what the next block begins with
}

func (f *feeder) feed(segment int, frames []seglog.Frame, memory []byte) error {
	b := f.next
	b.file, b.frames, b.memory = trail.LogDir+"/"+f.survey.Segments[segment].Name, frames, memory
	last := -1 // record
	for i, frame := range frames {
		if frame.Body[0] == trail.FrameCheckpoint {
			f.next.seals.checkpoint()
			continue
		}
		f.next.seals.unsampled++
		last = i
	}
	if last >= 0 {
		if r, err := trail.ParseFrame(frames[last].Body); err == nil {
			f.next.before, f.next.follows = r.Chain, true
		}
	}
	f.next.done += frames[len(frames)-1].End() - frames[0].Offset
	b.done = f.next.done
	return f.emit(&b)
}

// step feeds the next step of an arrangement.
func (f *feeder) step(st seglog.Step, read func(seglog.Run) error) error {
	if st.Gap {
		f.next.follows = false
		return f.emit(&block{gap: st.Number})
	}
	f.next.first, f.next.damaged = st.Number, st.Damaged
	f.next.follows = f.next.follows && st.Number == st.First
	err := read(st.Run)
	if st.Damaged {
		f.next.follows = false
	}
	return err
}
