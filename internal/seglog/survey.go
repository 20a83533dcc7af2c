package seglog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/graven-audit/graven/internal/datadir"
)

// A Survey finds out how frames lie in the segments of a log that may be
// damaged, or that someone may have changed. Frames must be records, numbered
// densely from 0, and commits, each over all records before it.
//
// As long as frames lie in order, [Survey.Read] emits what it reads, so that a
// sound log is read once. Where they do not, it goes on without emitting, and
// [Survey.Arrange] tells in what order to read the log once more.
//
// A log may be surveyed while it is written to. Use a Survey from one
// goroutine, but for Recycle.
type Survey struct {
	Segments []Segment // by base
	Strays   []string  // names of what else is in the directory

	// What Read has found.
	Faults      []Fault
	Uncommitted []Run  // last records of segments that do not end in a commit
	Commits     int    // that were read
	Commit      Commit // the last of them
	Excess      int64  // runs and faults that were too many to be remembered
	// InOrder is set if everything was emitted.
	InOrder bool
	// Unfinished is the length in bytes of a batch at the very end that was
	// not committed, as a crash leaves it.
	Unfinished int64

	dir  string
	look Look
	free chan []byte

	known    int64 // records that must be there
	next     int64 // expected
	runs     []Run
	withheld bool // frames were not emitted
	inRecord bool // the last frame was a record
	waited   int
	growing  bool // a commit came while we waited
}

// A Look tells what a frame's body is: record n, or a commit over n records;
// n is -1 for a commit that cannot be read. ok is false for anything else.
type Look func(body []byte) (n int64, commit, ok bool)

// A Segment is a segment file.
type Segment struct {
	Name string
	// Base is that of the header or, where the header is damaged, the name.
	Base uint64
	Size int64
	// State says what is wrong with the header.
	State HeaderState

	end int64 // what stands behind does not count
}

// A HeaderState is the state of a segment's header.
type HeaderState int

const (
	Sound   HeaderState = iota
	Renamed             // the header is that of another name
	Blank               // the segment was begun and holds nothing yet
	Damaged
)

// A Commit is a commit frame's place, and the number of records it is over.
type Commit struct {
	Segment int
	End     int64 // byte behind it
	Size    int64
}

// A Run is a stretch of frames in which records follow one another without a
// gap, with the commits behind them.
type Run struct {
	Segment  int
	From, To int64 // bytes
	First    int64 // the first record
	Count    int64 // of records; 0 for a lone commit over First records
	// Damaged is set for a single record in a frame that is damaged.
	Damaged bool
	// After is the record behind which a lone commit stands.
	After int64
}

// End returns the number behind the run's last record.
func (r Run) End() int64 { return r.First + r.Count }

const (
	maxRuns    = 1 << 16
	bufferSize = 256 << 10
	// Behind the last commit a writer may be at work: it is given some time.
	maxWaits = 3
	waitFor  = 100 * time.Millisecond
)

// NewSurvey lists the segments in dir and reads their headers.
func NewSurvey(dir string, look Look) (*Survey, error) {
	s := &Survey{dir: dir, look: look, free: make(chan []byte, 64), InOrder: true}
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range found {
		base, ok := SegmentBase(entry.Name())
		if !ok || !entry.Type().IsRegular() {
			s.Strays = append(s.Strays, entry.Name())
			continue
		}
		seg := Segment{Name: entry.Name(), Base: base, end: math.MaxInt64}
		if err := s.readHeader(&seg); err != nil {
			return nil, err
		}
		s.Segments = append(s.Segments, seg)
	}
	slices.SortStableFunc(s.Segments, func(x, y Segment) int { return cmp.Compare(x.Base, y.Base) })
	return s, nil
}

// Cut ends the log at a byte of the segment with the given base, before it is
// read. It returns how many bytes stand behind, which do not count.
func (s *Survey) Cut(base uint64, end int64) (behind int64) {
	s.Segments = slices.DeleteFunc(s.Segments, func(seg Segment) bool {
		if seg.Base > base {
			behind += seg.Size
		}
		return seg.Base > base
	})
	for k := range s.Segments {
		if seg := &s.Segments[k]; seg.Base == base && seg.Size > end {
			behind += seg.Size - end
			seg.Size, seg.end = end, end
		}
	}
	return behind
}

func (s *Survey) readHeader(seg *Segment) error {
	f, err := os.Open(filepath.Join(s.dir, seg.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	seg.Size = info.Size()
	head := make([]byte, headerSize)
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	base := binary.LittleEndian.Uint64(head[len(magic):])
	switch err := checkHeader(head, seg.Base); {
	case errors.Is(err, datadir.ErrNewer):
		return fmt.Errorf("%s: %w", seg.Name, err)
	case err == nil:
	case checkHeader(head, base) == nil:
		seg.State, seg.Base = Renamed, base
	case seg.Size <= FirstOffset && len(bytes.Trim(head, "\x00")) == 0:
		seg.State = Blank
	default:
		seg.State = Damaged
	}
	return nil
}

// Read reads all segments. The log must have known records, all else may be an
// unfinished batch. emit takes runs of frames, all from one segment and in
// order; it owns their memory until it gives it back with Recycle.
func (s *Survey) Read(ctx context.Context, known int64, emit func(segment int, frames []Frame, memory []byte) error) error {
	s.known = known
	for k := range s.Segments {
		if err := s.segment(ctx, k, emit); err != nil {
			return err
		}
	}
	s.dropUnfinished()
	return nil
}

func (s *Survey) segment(ctx context.Context, k int, emit func(int, []Frame, []byte) error) error {
	f, r, err := s.open(k, FirstOffset)
	if err != nil {
		return err
	}
	defer f.Close()
	s.inRecord = false
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		memory := s.buffer()
		frames, err := r.Next(memory)
		if err != nil {
			s.Recycle(memory)
			if more, err = s.halt(ctx, k, f, r, err); err != nil {
				return err
			}
			continue
		}
		for _, f := range frames {
			s.frame(k, f)
		}
		if !s.InOrder {
			s.withheld = true
			s.Recycle(memory)
		} else if err := emit(k, frames, memory); err != nil {
			return err
		}
	}
	return nil
}

// ReadRun emits the frames of a run.
func (s *Survey) ReadRun(ctx context.Context, run Run, emit func(segment int, frames []Frame, memory []byte) error) error {
	f, r, err := s.open(run.Segment, run.From)
	if err != nil {
		return err
	}
	defer f.Close()
	if run.Damaged {
		body := make([]byte, run.To-run.From-frameHead)
		if _, err := f.ReadAt(body, run.From+frameHead); err != nil {
			return changedMeanwhile(err)
		}
		return emit(run.Segment, []Frame{{run.From, body}}, nil)
	}
	for r.Offset() < run.To {
		if err := ctx.Err(); err != nil {
			return err
		}
		memory := s.buffer()
		n := min(int64(len(memory)), run.To-r.Offset())
		frames, err := r.Next(memory[:n:n])
		if err != nil {
			return changedMeanwhile(err)
		}
		if err := emit(run.Segment, frames, memory); err != nil {
			return err
		}
	}
	return nil
}

func changedMeanwhile(err error) error {
	return fmt.Errorf("the log was changed while it was read: %w", err)
}

func (s *Survey) open(k int, offset int64) (*os.File, *Reader, error) {
	f, err := os.Open(filepath.Join(s.dir, s.Segments[k].Name))
	if err != nil {
		return nil, nil, err
	}
	seg := s.Segments[k]
	return f, NewReader(io.NewSectionReader(f, 0, seg.end), seg.Base, offset), nil
}

// buffer returns memory for frames.
func (s *Survey) buffer() []byte {
	select {
	case memory := <-s.free:
		return memory
	default:
	}
	size := int64(0)
	for _, seg := range s.Segments {
		size = max(size, seg.Size)
	}
	return make([]byte, min(size+512, bufferSize))
}

// Recycle takes back memory that was emitted.
func (s *Survey) Recycle(memory []byte) {
	if memory == nil {
		return
	}
	select {
	case s.free <- memory:
	default:
	}
}

// frame takes note of a frame.
func (s *Survey) frame(k int, f Frame) {
	n, commit, ok := s.look(f.Body)
	if !ok {
		s.InOrder, s.withheld = false, true
		x := s.fault(k, f.Offset, f.End())
		x.Reason = "the frame holds neither a record nor a commit"
		s.addFault(x)
		return
	}
	var run *Run // that f extends
	if last := len(s.runs) - 1; last >= 0 && s.runs[last].Segment == k && s.runs[last].To == f.Offset && s.runs[last].Count > 0 && s.Excess == 0 {
		run = &s.runs[last]
	}
	if n >= 0 {
		s.closeFault(n)
	}
	s.InOrder = s.InOrder && (n == s.next || n < 0)
	if commit {
		s.inRecord = false
		if n >= 0 {
			s.Commit, s.Commits = Commit{k, f.End(), n}, s.Commits+1
			s.growing = s.growing || s.waited > 0 && len(s.Faults) == 0
		}
		switch {
		case run != nil && (n == s.next || n < 0):
			run.To = f.End()
		case n >= 0:
			s.add(Run{Segment: k, From: f.Offset, To: f.End(), First: n, After: s.next - 1})
		}
		return
	}
	if run != nil && run.End() == n {
		run.Count++
		run.To = f.End()
	} else {
		s.add(Run{Segment: k, From: f.Offset, To: f.End(), First: n, Count: 1})
	}
	s.next, s.inRecord = n+1, true
}

func (s *Survey) add(r Run) {
	if len(s.runs) == maxRuns {
		s.Excess++
		s.InOrder = false
		return
	}
	s.runs = append(s.runs, r)
}
