package seglog

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"time"
)

// A Fault is a stretch of a segment that holds something other than frames.
type Fault struct {
	Segment  int
	From, To int64 // bytes
	Reason   string
	// First and End bound the records that stood there, as the frames before
	// and behind it tell. Where they are equal there was none, but, where
	// AfterRecord is set, a commit.
	First, End  int64
	AfterRecord bool
	// Padding: it begins among the zeros that end the frames.
	Padding bool
	// Cut: a frame begins there, and the log ends before it does.
	Cut bool

	torn     bool // it has zeros where a disk did not write a sector
	written  bool // nothing follows, and it looks like an interrupted writer's
	withheld bool // frames before it were not emitted
	commit   Commit
	commits  int // before it
}

// unknown stands for the End of a fault behind which nothing was found yet.
const unknown = -1

// fault begins the description of a fault.
func (s *Survey) fault(segment int, from, to int64) Fault {
	return Fault{Segment: segment, From: from, To: to, First: s.next, End: unknown, AfterRecord: s.inRecord,
		withheld: s.withheld, commit: s.Commit, commits: s.Commits}
}

// closeFault tells that record next comes behind the last fault.
func (s *Survey) closeFault(next int64) {
	if n := len(s.Faults); n > 0 && s.Faults[n-1].End == unknown {
		s.next = max(next, s.Faults[n-1].First)
		s.Faults[n-1].End = s.next
	}
}

// halt decides what to do where no frame stands, for reason; it reports
// whether there is more to read in the segment.
func (s *Survey) halt(ctx context.Context, k int, f *os.File, r *Reader, reason error) (more bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	at, limit, last := r.Offset(), min(info.Size(), s.Segments[k].end), k == len(s.Segments)-1
	x := s.fault(k, at, limit)
	var damage *Damage
	switch {
	case errors.As(reason, &damage):
		x.Reason = damage.Reason
	case errors.Is(reason, io.EOF):
		x.Padding, x.Reason = true, "there are bytes among the zeros that end the segment"
		if x.From, err = firstData(f, at, limit); err != nil {
			return false, err
		}
	default:
		return false, reason
	}
	clean, unfinished := x.From < 0, s.inRecord
	writer := last && s.Commits > 0 && s.Commit.Size >= s.known // may be at work here
	if !clean && writer {
		if err := s.examine(f, &x); err != nil {
			return false, err
		}
		unfinished = x.written
	}
	examined := writer
	writer = writer && unfinished
	switch {
	case writer && s.growing:
		return false, nil // what it writes now came after we began
	case writer && s.waited < maxWaits:
		s.waited++
		select {
		case <-time.After(waitFor):
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	case clean:
		if s.inRecord && !last {
			s.Uncommitted = append(s.Uncommitted, Run{Segment: k, From: at, To: at, First: s.next - 1, Count: 1})
		}
		return false, nil
	}
	s.InOrder = false
	if more, err = r.Resync(limit, func(body []byte) bool {
		n, _, ok := s.look(body)
		return ok && n >= 0
	}); err != nil {
		return false, err
	}
	if more {
		x.From, x.To, x.Cut, x.written = at, r.Offset(), false, false
		if x.torn, err = hasZeroSector(f, x.From, x.To); err != nil {
			return false, err
		}
	} else if !examined {
		if err := s.examine(f, &x); err != nil {
			return false, err
		}
	}
	if !more && x.Padding {
		x.End = x.First
	}
	if !s.addFault(x) {
		return more, nil
	}
	return more, s.split(f)
}

// addFault remembers a fault, if there are not too many.
func (s *Survey) addFault(x Fault) bool {
	if len(s.Faults) >= maxRuns {
		s.Excess++
		return false
	}
	s.Faults = append(s.Faults, x)
	return true
}

// split divides the last fault if it is several damaged frames, as their
// lengths and numbers say.
func (s *Survey) split(f *os.File) error {
	for {
		x := &s.Faults[len(s.Faults)-1]
		if x.Padding {
			return nil
		}
		end, record, err := s.headAt(f, x.From, x.To, x.First)
		if err != nil || end == 0 || end >= x.To {
			return err
		}
		rest := *x
		rest.From, rest.AfterRecord = end, record
		if record {
			rest.First++
		}
		if next, _, err := s.headAt(f, end, x.To, rest.First); err != nil || next == 0 || next > x.To {
			return err
		}
		x.To, x.End, x.Cut, x.written = end, rest.First, false, false
		if !s.addFault(rest) {
			return nil
		}
	}
}

// headAt returns where the frame that begins at from ends, if what stands
// there looks like the head of one of record next, or of a commit, or 0.
func (s *Survey) headAt(f *os.File, from, to, next int64) (end int64, record bool, err error) {
	head := make([]byte, frameHead+lookAhead)
	n, err := f.ReadAt(head[:min(int64(len(head)), to-from)], from)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, false, err
	}
	length := int64(binary.LittleEndian.Uint32(head))
	if n <= frameHead || length == 0 || length > MaxBody {
		return 0, false, nil
	}
	body := make([]byte, length)
	copy(body, head[frameHead:])
	got, commit, ok := s.look(body)
	if !ok || !commit && got != next {
		return 0, false, nil
	}
	return from + frameHead + length, !commit, nil
}

// lookAhead is how much of a body is enough for a [Look] to know a record.
const lookAhead = 64

// examine looks at what stands at the end of a segment from x.From on.
func (s *Survey) examine(f *os.File, x *Fault) error {
	limit := x.To
	end, _, err := s.headAt(f, x.From, limit, x.First)
	if err != nil {
		return err
	}
	x.Cut, x.written, x.To = end > limit, true, x.From
	return stretches(f, x.From, limit, func(t stretch) bool {
		x.written = x.written && (t.from < end || t.written())
		x.To = t.to
		return true
	})
}

// dropUnfinished forgets a batch at the very end that was not committed, as a
// crash or a power cut leaves it: nothing knows of its records, and it breaks
// off, or lacks sectors that were not written. What is left of a batch that is
// known is never taken for one.
func (s *Survey) dropUnfinished() {
	at := slices.IndexFunc(s.Faults, func(x Fault) bool {
		broke := s.Commits == x.commits && (x.written || x.End != unknown && !x.Padding)
		lacks := s.Commits == x.commits+1 && !s.inRecord && x.torn
		return x.First >= s.known && x.commit.Size >= s.known && (broke || lacks)
	})
	switch {
	case at >= 0:
		x := s.Faults[at]
		s.Unfinished = s.Faults[len(s.Faults)-1].To - s.behind(x.commit, x.Segment)
		s.runs = slices.DeleteFunc(s.runs, func(r Run) bool {
			return r.Segment > x.Segment || r.Segment == x.Segment && r.From >= x.From
		})
		s.Faults, s.Commit = s.Faults[:at], x.commit
		s.InOrder = !x.withheld && at == 0
	case s.inRecord && s.Commit.Size >= s.known && len(s.Faults) == 0:
		last := s.runs[len(s.runs)-1]
		s.Unfinished = last.To - s.behind(s.Commit, last.Segment)
	}
	if n := len(s.Faults); n > 0 && s.Faults[n-1].End == unknown {
		s.Faults[n-1].End = max(s.Faults[n-1].First, s.known)
	}
	if s.growing {
		s.Unfinished = 0 // a writer is at it
	}
}

// behind returns where a segment goes on behind a commit.
func (s *Survey) behind(c Commit, segment int) int64 {
	if c.Segment == segment && c.Size > 0 {
		return c.End
	}
	return FirstOffset
}

// sector is the least that a disk writes at once.
const sector = 512

// A stretch is bytes with fewer than 512 zeros in a row, and none at its ends.
type stretch struct {
	from, to int64
	data     int64 // bytes that are not zero
	last     byte
}

// written reports whether s looks like a part of frames, which are dense,
// rather than like zeros of which some were changed. The end of a text, a
// newline, may be alone in its sector.
func (s stretch) written() bool {
	n := s.to - s.from
	return n >= 8 && 2*s.data >= n || s.from%sector == 0 && s.data == n && s.last == '\n'
}

// stretches calls fn for each stretch of f within from and to, until it
// returns false.
func stretches(f *os.File, from, to int64, fn func(stretch) bool) error {
	buf := make([]byte, max(min(to-from, bufferSize), 1))
	var s stretch
	for at := from; at < to; {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
		for i, c := range buf[:n] {
			if c == 0 {
				continue
			}
			here := at + int64(i)
			if s.data > 0 && here-s.to >= sector {
				if !fn(s) {
					return nil
				}
				s = stretch{}
			}
			if s.data == 0 {
				s.from = here
			}
			s.to, s.last = here+1, c
			s.data++
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if s.data > 0 {
		fn(s)
	}
	return nil
}

// firstData returns where the first byte of f within from and to stands that
// is not zero, or -1.
func firstData(f *os.File, from, to int64) (int64, error) {
	at := int64(-1)
	err := stretches(f, from, to, func(s stretch) bool {
		at = s.from
		return false
	})
	return at, err
}

// hasZeroSector reports whether a sector of f within from and to is all zeros.
func hasZeroSector(f *os.File, from, to int64) (has bool, err error) {
	end := from // of the data before
	gap := func(until int64) {
		first := (end + sector - 1) / sector * sector
		has = has || first+sector <= until
	}
	err = stretches(f, from, to, func(s stretch) bool {
		gap(s.from)
		end = s.to
		return !has
	})
	gap(to)
	return has, err
}
