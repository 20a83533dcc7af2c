package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// A segment is a segment file, with the base that its header names or, where
// the header is damaged, its name.
type segment struct {
	file string // below the directory
	path string
	base uint64
	size int64
}

// A run is a stretch of a segment whose records have rising indexes without
// gaps, with the checkpoints behind them.
type run struct {
	seg      int
	from, to int64 // bytes
	first    int64 // index of the first record
	count    int64 // of records; 0 for a lone checkpoint of first entries
	behind   int64 // index of the record before a lone checkpoint
	// damaged: a single record whose frame is damaged.
	damaged bool
}

func (r run) end() int64 { return r.first + r.count }

// A damage is a stretch of a segment that holds something other than frames.
type damage struct {
	seg      int
	from, to int64
	reason   string
	// first and end bound the entries that stood there; end is -1 while it is
	// not known. Where first = end, there was no entry but, behind a record,
	// a checkpoint.
	first, end   int64
	behindRecord bool
	// padding: the stretch begins with the zeros that end the frames.
	padding bool
	// torn: it has zeros where a disk did not write a sector.
	torn bool
	// left is what stands there if no frame follows.
	left remains
	// withheld: frames before it were not emitted.
	withheld bool
	// seal is the last checkpoint before it, seals how many were before it.
	seal  sealPlace
	seals int
}

type sealPlace struct {
	seg  int
	end  int64 // byte behind it
	size int64 // of the ledger
}

// A survey reads the segments as they lie on disk, and learns which records
// and checkpoints stand where. As long as all is in order it emits what it
// reads, so that an untouched ledger is read once.
type survey struct {
	segs []segment
	// known is how many entries the ledger is known to have: everything else
	// may be a pool that was never acknowledged.
	known int64
	free  chan []byte

	next     int64 // expected index
	runs     []run
	excess   int64 // runs beyond maxRuns
	damages  []damage
	disorder bool  // nothing more is emitted
	withheld bool  // frames were not emitted
	unsealed []run // what ends a segment without a checkpoint
	seal     sealPlace
	seals    int
	inRecord bool // the last frame was a record
	growing  bool // a checkpoint came while we waited
	waited   int

	block block // what the next block starts from
}

const (
	maxRuns    = 1 << 16
	bufferSize = 256 << 10
	// A server may be writing the pool behind the last checkpoint.
	maxWaits = 3
	waitFor  = 100 * time.Millisecond
)

// read reads all segments.
func (s *survey) read(ctx context.Context, emit func(*block) error) error {
	for k := range s.segs {
		if err := s.segment(ctx, k, emit); err != nil {
			return err
		}
		s.block.done += s.segs[k].size
	}
	return nil
}

func (s *survey) segment(ctx context.Context, k int, emit func(*block) error) error {
	f, err := os.Open(s.segs[k].path)
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	defer f.Close()
	s.inRecord = false
	r := seglog.NewReader(f, s.segs[k].base, seglog.FirstOffset)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf := s.buffer()
		frames, err := r.Next(buf)
		if err == nil {
			if err := s.frames(k, frames, buf, emit); err != nil {
				return err
			}
			continue
		}
		s.recycle(buf)
		more, err := s.halt(ctx, k, f, r, err)
		if err != nil || !more {
			return err
		}
	}
}

// buffer returns memory for one block.
func (s *survey) buffer() []byte {
	select {
	case buf := <-s.free:
		return buf
	default:
	}
	size := int64(0)
	for _, seg := range s.segs {
		size = max(size, seg.size)
	}
	return make([]byte, min(size+512, bufferSize))
}

// recycle takes back the memory of a block, if it has any.
func (s *survey) recycle(buf []byte) {
	if buf == nil {
		return
	}
	select {
	case s.free <- buf:
	default:
	}
}

// frames takes note of frames and, if all was in order, emits them.
func (s *survey) frames(k int, frames []seglog.Frame, buf []byte, emit func(*block) error) error {
	was := s.disorder
	for _, f := range frames {
		s.frame(k, f)
	}
	if was || s.disorder {
		s.withheld = true
		s.recycle(buf)
		return nil
	}
	b := s.block
	b.file, b.buf, b.frames = s.segs[k].file, buf, frames
	s.block.seals.pass(frames)
	if last, ok := lastRecord(frames); ok {
		s.block.before, s.block.beforeKnown = last.Chain, true
	}
	b.done += frames[len(frames)-1].Offset
	return emit(&b)
}

func lastRecord(frames []seglog.Frame) (r trail.Record, ok bool) {
	for i := len(frames) - 1; i >= 0; i-- {
		if r, err := trail.ParseFrame(frames[i].Body); err == nil {
			return r, true
		}
	}
	return r, false
}

func (s *survey) frame(k int, f seglog.Frame) {
	end := f.End()
	var last *run
	if n := len(s.runs); n > 0 && s.runs[n-1].seg == k && s.runs[n-1].to == f.Offset && s.excess == 0 {
		last = &s.runs[n-1]
	}
	if f.Body[0] == trail.FrameCheckpoint {
		c, err := trail.ReadCheckpoint(f.Body[1:])
		if err == nil {
			s.closeDamage(c.Size)
			s.seal, s.seals = sealPlace{k, end, c.Size}, s.seals+1
			s.growing = s.growing || s.waited > 0 && len(s.damages) == 0
		}
		s.inRecord = false
		if last != nil && last.count > 0 && (err != nil || c.Size == s.next) {
			last.to = end
		} else if err == nil {
			s.add(run{seg: k, from: f.Offset, to: end, first: c.Size, behind: s.next - 1})
			s.disorder = s.disorder || c.Size != s.next
		}
		return
	}
	r, err := trail.ParseFrame(f.Body)
	if err != nil {
		d := s.damage(k, f.Offset, end)
		d.reason, d.withheld = "the frame holds neither a record nor a checkpoint", true
		s.damages = append(s.damages, d)
		s.disorder = true
		return
	}
	s.closeDamage(r.Index)
	if last != nil && last.count > 0 && last.end() == r.Index {
		last.count++
		last.to = end
	} else {
		s.add(run{seg: k, from: f.Offset, to: end, first: r.Index, count: 1})
		s.disorder = s.disorder || r.Index != s.next
	}
	s.next, s.inRecord = r.Index+1, true
}

func (s *survey) add(r run) {
	if len(s.runs) == maxRuns {
		s.excess++
		s.disorder = true
		return
	}
	s.runs = append(s.runs, r)
}

// closeDamage says that the entries before next stand no later than here.
func (s *survey) closeDamage(next int64) {
	if n := len(s.damages); n > 0 && s.damages[n-1].end < 0 {
		s.next = max(next, s.damages[n-1].first)
		s.damages[n-1].end = s.next
	}
}

// halt decides what to do where no frame stands, for reason; it reports
// whether there is more to read in the segment.
func (s *survey) halt(ctx context.Context, k int, f *os.File, r *seglog.Reader, reason error) (more bool, err error) {
	var broken *seglog.Damage
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	at, limit, last := r.Offset(), info.Size(), k == len(s.segs)-1
	d := s.damage(k, at, limit)
	unfinished := s.inRecord
	switch {
	case errors.As(reason, &broken):
		d.reason = broken.Reason
	case errors.Is(reason, io.EOF):
		d.padding, d.reason = true, "there are bytes among the zeros that end the segment"
		if d.from, err = firstData(f, at, limit); err != nil {
			return false, err
		}
	default:
		return false, reason
	}
	clean := d.from < 0
	if !clean {
		if d.left, err = examine(f, d.from, limit, s.next); err != nil {
			return false, err
		}
		unfinished, d.to = d.left.written, d.left.to
	}
	if last && unfinished && s.seals > 0 && s.seal.size >= s.known && s.waited < maxWaits {
		s.waited++
		select {
		case <-time.After(waitFor):
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	if clean {
		if s.inRecord && !last {
			s.unsealed = append(s.unsealed, run{seg: k, from: at, first: s.next - 1, count: 1})
		}
		return false, nil
	}
	s.disorder = true
	if more, err = r.Resync(limit, plausible); err != nil {
		return false, err
	}
	if more {
		d.from, d.to, d.left = at, r.Offset(), remains{}
		if d.torn, err = hasZeroSector(f, at, d.to); err != nil {
			return false, err
		}
	} else if d.padding {
		d.end = d.first
	}
	s.damages = append(s.damages, d)
	return more, s.split(f)
}

// split divides the last damage, if it is several frames, as their lengths and
// the numbers of their entries say.
func (s *survey) split(f *os.File) error {
	for {
		d := &s.damages[len(s.damages)-1]
		if d.padding {
			return nil
		}
		end, isRecord, err := frameHead(f, d.from, d.to, d.first)
		if err != nil || end == 0 || end == d.to {
			return err
		}
		rest := *d
		rest.from, rest.behindRecord = end, isRecord
		if isRecord {
			rest.first++
		}
		if next, _, err := frameHead(f, end, d.to, rest.first); err != nil || next == 0 {
			return err
		}
		d.to, d.end, d.left = end, rest.first, remains{}
		s.damages = append(s.damages, rest)
	}
}

// frameHead looks for the head of a frame that ends no later than to and holds
// the record of entry next, or a checkpoint. It returns the frame's end, or 0.
func frameHead(f *os.File, from, to, next int64) (end int64, isRecord bool, err error) {
	head := make([]byte, 4+4+1+8)
	if from+int64(len(head)) > to {
		return 0, false, nil
	}
	if _, err := f.ReadAt(head, from); err != nil {
		return 0, false, err
	}
	end = from + 8 + int64(binary.LittleEndian.Uint32(head))
	isRecord = head[8] == trail.FrameRecord && int64(binary.LittleEndian.Uint64(head[9:])) == next
	if end == from+8 || end > to || !isRecord && head[8] != trail.FrameCheckpoint {
		return 0, false, nil
	}
	return end, isRecord, nil
}

// damage begins the description of a damage here.
func (s *survey) damage(seg int, from, to int64) damage {
	return damage{seg: seg, from: from, to: to, first: s.next, end: -1, behindRecord: s.inRecord, withheld: s.withheld, seal: s.seal, seals: s.seals}
}

// plausible reports whether a frame's body may be one of a ledger.
func plausible(body []byte) bool {
	switch body[0] {
	case trail.FrameRecord:
		_, err := trail.ParseFrame(body)
		return err == nil
	case trail.FrameCheckpoint:
		_, err := trail.ReadCheckpoint(body[1:])
		return err == nil
	}
	return false
}
