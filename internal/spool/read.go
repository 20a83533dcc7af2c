package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/graven-audit/graven/internal/seglog"
)

// Damage is a stretch of a segment file that does not hold what was put there,
// and is left out.
type Damage struct {
	// File is the segment file's name, From and To the bytes.
	File     string
	From, To int64
	Reason   string
	// Epoch names the count of the numbers that follow ([Spool.Epoch]).
	Epoch string
	// First and End are the numbers of the items that stood there. They are
	// equal where there was none that anybody was told is durable, and at the
	// end of the last file, where nobody can tell.
	First, End uint64
	// Data are the bytes, a mebibyte at most.
	Data []byte
}

func (d *Damage) String() string {
	what := fmt.Sprintf("%d items from number %d on", d.End-d.First, d.First)
	if d.First == d.End {
		what = fmt.Sprintf("after item %d", d.First-1)
	}
	return fmt.Sprintf("%s: bytes %d to %d, %s: %s", d.File, d.From, d.To, what, d.Reason)
}

const (
	maxDamage = 1 << 20
	readSize  = 1 << 20
	// maxJump bounds how far numbers can jump behind damage.
	maxJump = 1 << 40
)

// A scan reads a segment's items in order.
type scan struct {
	reader *seglog.Reader
	file   seglog.File // of its own: the segment may be removed meanwhile
	base   uint64
	buf    []byte
}

func (s *Spool) scan(base uint64) (*scan, error) {
	f, err := s.o.FS.Open(s.path(base), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &scan{seglog.NewReader(f, base, seglog.FirstOffset), f, base, make([]byte, readSize)}, nil
}

func (s *Spool) path(base uint64) string {
	return filepath.Join(s.dir, queueDir, seglog.SegmentName(base))
}

func number(body []byte) (uint64, bool) {
	if len(body) <= numberSize {
		return 0, false
	}
	return binary.LittleEndian.Uint64(body), true
}

// next returns the next frames, or what stands in place of one. At the end of
// the segment the error is io.EOF, also where nothing but damage is left, which
// is returned then. What was numbered below expect is no item behind damage.
func (c *scan) next(expect uint64) ([]seglog.Frame, *Damage, error) {
	from := c.reader.Offset()
	frames, err := c.reader.Next(c.buf)
	reason := "zeros stand where items should"
	if damage := (*seglog.Damage)(nil); errors.As(err, &damage) {
		reason = damage.Reason
	} else if !errors.Is(err, io.EOF) {
		return frames, nil, err
	}
	size, err := c.file.Size()
	if err != nil {
		return nil, nil, err
	}
	found, err := c.reader.Resync(size, func(body []byte) bool {
		n, ok := number(body)
		return ok && n >= expect && n < expect+maxJump
	})
	if err != nil {
		return nil, nil, err
	}
	to, end := size, io.EOF
	if found {
		to, end = c.reader.Offset(), nil
	}
	data := make([]byte, min(max(to-from, 0), maxDamage))
	if n, err := c.file.ReadAt(data, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	} else {
		data = bytes.TrimRight(data[:n], "\x00")
	}
	if !found && len(data) == 0 {
		return nil, nil, io.EOF // the zeros that end a segment
	}
	return nil, &Damage{File: seglog.SegmentName(c.base), From: from, To: to, Reason: reason, First: expect, End: expect, Data: data}, end
}

func (c *scan) close() error { return c.file.Close() }

// recover finds out what the spool holds. Damage within the segments is for
// whoever reads them; here is told of what stands at the end, since it is cut
// off.
func (s *Spool) recover() error {
	s.done = max(s.cursor.value, 1)
	s.next = s.done
	bases := s.log.Segments()
	for _, base := range bases {
		f, err := s.o.FS.Open(s.path(base), os.O_RDONLY)
		if err != nil {
			return err
		}
		size, err := filled(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		s.segments = append(s.segments, segment{base, size})
		s.used += size
	}
	if len(bases) > 0 {
		if err := s.recoverLast(bases[len(bases)-1]); err != nil {
			return err
		}
	}
	s.durable = s.next
	s.reader.next = s.done
	return s.trim()
}

// filled returns up to where a file holds something other than zeros.
func filled(f seglog.File) (int64, error) {
	end, err := f.Size()
	buf := make([]byte, 64<<10)
	for err == nil && end > 0 {
		part := buf[:min(end, int64(len(buf)))]
		if _, err = f.ReadAt(part, end-int64(len(part))); err == nil {
			if n := len(bytes.TrimRight(part, "\x00")); n > 0 {
				return end - int64(len(part)-n), nil
			}
			end -= int64(len(part))
		}
	}
	return end, err
}

// recoverLast finds the end of the last segment.
func (s *Spool) recoverLast(base uint64) error {
	c, err := s.scan(base)
	if err != nil {
		return err
	}
	next, end, tail, err := c.end()
	if err = errors.Join(err, c.close()); err != nil {
		return err
	}
	if tail != nil && s.o.OnDamage != nil {
		tail.Epoch = s.epoch
		if err := s.o.OnDamage(*tail); err != nil {
			return err
		}
	}
	if err := s.log.Cut(end); err != nil {
		return err
	}
	last := &s.segments[len(s.segments)-1]
	s.used += end - last.size
	last.size = end
	if s.next <= next {
		s.next = next
		return nil
	}
	// Items that were done with are gone from the end. The next must not get
	// one of their numbers, and the file's items have to follow one another.
	return s.roll(s.next)
}

// end reads a segment to its end and returns the number behind its last item,
// where that ends, and what stands behind it other than zeros.
func (c *scan) end() (next uint64, end int64, tail *Damage, err error) {
	next, end = c.base, seglog.FirstOffset
	for {
		frames, damage, err := c.next(next)
		if damage != nil {
			tail = damage
		}
		if errors.Is(err, io.EOF) {
			return next, end, tail, nil
		}
		if err != nil {
			return 0, 0, nil, err
		}
		for _, f := range frames {
			if n, ok := number(f.Body); ok && n >= next {
				next, tail = n+1, nil
			}
			end = f.End()
		}
	}
}

// A reader is where [Spool.Next] stands.
type reader struct {
	next   uint64 // items below it were given out, or left out
	scan   *scan  // of the segment that it is in, nil at the beginning
	frames []seglog.Frame
	damage *Damage // that was come across and not told of
	told   Damage  // the last that was: where it ends the file, it is come across again
}

// Next waits for items and returns the next ones, in order: up to maxItems, of
// maxBytes together, but one at least. Each is given out once, and again when
// the spool is opened anew, unless it is done with. What is damaged is told to
// OnDamage and left out.
func (s *Spool) Next(ctx context.Context, maxItems, maxBytes int) ([]Item, error) {
	for {
		s.mu.Lock()
		durable, arrived, ready := s.durable, s.arrived, s.reader.next < s.durable
		unsynced, broken, closed := s.durable < s.next, s.broken, s.closed
		s.hungry = !ready
		s.mu.Unlock()
		if ready {
			items, err := s.read(durable, maxItems, maxBytes)
			switch {
			case len(items) > 0:
				return items, nil // what failed behind them fails again, or has passed
			case err != nil:
				return nil, err
			}
			continue // all of it was damaged
		}
		if closed {
			return nil, ErrClosed
		}
		if broken != nil {
			return nil, broken
		}
		if unsynced {
			select {
			case s.urge <- struct{}{}:
			default:
			}
		}
		select {
		case <-arrived:
		case <-s.quit:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read returns items below durable.
func (s *Spool) read(durable uint64, maxItems, maxBytes int) ([]Item, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	r := &s.reader
	var items []Item
	size := 0
	for r.next < durable {
		if len(r.frames) == 0 {
			if err := s.readFrames(durable); err != nil {
				return items, err
			}
			continue
		}
		f := r.frames[0]
		n, ok := number(f.Body)
		if !ok || n < r.next {
			r.frames = r.frames[1:] // was given out before
			continue
		}
		if n >= durable {
			break // of a write that may yet be undone
		}
		if err := s.leaveOut(n); err != nil {
			return items, err
		}
		if len(items) == maxItems || len(items) > 0 && size+len(f.Body) > maxBytes {
			return items, nil
		}
		items = append(items, Item{n, bytes.Clone(f.Body[numberSize:])})
		size += len(f.Body)
		r.frames, r.next = r.frames[1:], n+1
	}
	if len(r.frames) > 0 {
		r.scan.reader = seglog.NewReader(r.scan.file, r.scan.base, r.frames[0].Offset)
		r.frames = nil
	}
	return items, nil
}

// readFrames reads on.
func (s *Spool) readFrames(durable uint64) error {
	r := &s.reader
	if r.scan == nil {
		return s.enter(0, durable)
	}
	frames, damage, err := r.scan.next(r.next)
	r.frames = frames
	if damage != nil && r.damage == nil {
		r.damage = damage
	}
	if errors.Is(err, io.EOF) {
		return s.enter(r.scan.base, durable)
	}
	return err
}

// enter goes to the first segment behind base. If there is none, what is
// missing up to durable is nowhere.
func (s *Spool) enter(base, durable uint64) error {
	r := &s.reader
	following := uint64(math.MaxUint64)
	for _, b := range s.log.Segments() {
		if b > base {
			following = b
			break
		}
	}
	if err := s.leaveOut(min(following, durable)); err != nil || following >= durable {
		return err
	}
	c, err := s.scan(following)
	if err != nil {
		return err
	}
	if r.scan != nil {
		if err := r.scan.close(); err != nil {
			return errors.Join(err, c.close())
		}
	}
	r.scan = c
	return nil
}

// leaveOut passes over the items below n that are missing, and tells of it.
func (s *Spool) leaveOut(n uint64) error {
	r := &s.reader
	d := r.damage
	switch {
	case n > r.next && d == nil:
		d = &Damage{File: queueDir, Reason: "they are gone"}
		if r.scan != nil {
			d.File, d.From, d.To = seglog.SegmentName(r.scan.base), r.scan.reader.Offset(), r.scan.reader.Offset()
		}
	case d == nil:
		return nil
	}
	d.First, d.End, d.Epoch = r.next, max(n, r.next), s.epoch
	again := d.First == d.End && d.File == r.told.File && d.From == r.told.From
	if s.o.OnDamage != nil && !again {
		if err := s.o.OnDamage(*d); err != nil {
			return err
		}
	}
	r.damage, r.next = nil, d.End
	r.told = Damage{File: d.File, From: d.From}
	return nil
}

// Done says that the items below n, which were given out, are done with. They
// are not given out again, unless the machine stops.
func (s *Spool) Done(n uint64) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	if n > s.reader.next {
		panic(fmt.Sprintf("internal error: item %d was not given out", n-1))
	}
	if n <= s.cursor.value {
		return nil
	}
	if err := s.cursor.set(n); err != nil {
		return fmt.Errorf("move the spool's cursor: %w", err)
	}
	s.mu.Lock()
	s.done = n
	old := s.trimmable()
	s.mu.Unlock()
	if old {
		s.wakeWriter()
	}
	return nil
}

// trimmable reports whether there is a segment that is done with. mu is held.
func (s *Spool) trimmable() bool {
	return len(s.segments) > 1 && s.segments[1].first <= s.done
}

// trim removes the segments that are done with; it is the writer's. The cursor is durable before
// they go: it tells that nothing is missing.
func (s *Spool) trim() error {
	for {
		s.mu.Lock()
		if !s.trimmable() {
			s.mu.Unlock()
			return nil
		}
		first := s.segments[0]
		s.mu.Unlock()
		if err := s.cursor.sync(); err != nil {
			return fmt.Errorf("keep the spool's cursor: %w", err)
		}
		if err := s.log.Remove(first.first); err != nil {
			return err
		}
		s.mu.Lock()
		s.segments = s.segments[1:]
		s.used -= first.size
		close(s.room)
		s.room = make(chan struct{})
		s.mu.Unlock()
	}
}
