package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/graven-audit/graven/internal/seglog"
)

var (
	// ErrFull means that the spool has reached its bound, or the disk has no
	// room. Nothing was kept.
	ErrFull = errors.New("the spool is full")
	// ErrClosed means that the spool was closed. Nothing was kept.
	ErrClosed = errors.New("the spool is closed")
	// ErrTooLarge means that items are too large to be put in together. Nothing
	// was kept.
	ErrTooLarge = errors.New("too much for the spool at a time")
)

// OriginFile is a file in a spool's directory that names the ledger for which a
// server keeps events. A recorder's has none.
const OriginFile = "origin"

// MaxItem is how many bytes an item may have.
const MaxItem = seglog.MaxBody - numberSize

const (
	numberSize = 8
	queueDir   = "queue"
	cursorFile = "cursor"
	lockFile   = "lock"
	// maxBatch bounds what is written at once, in bytes.
	maxBatch = 4 << 20
	// fullRetry is how long whoever waits for room waits at most before the
	// disk is tried again: others may have made some.
	fullRetry = time.Second
)

// Options of a Spool.
type Options struct {
	// MaxBytes bounds the segment files together; 0 means 1 GiB.
	MaxBytes int64
	// Wait has Put wait for room until its context ends, in place of refusing
	// at once.
	Wait bool
	// SyncEvery is how long items that are not put durably may stay in the
	// operating system's memory only; 0 means a second.
	SyncEvery time.Duration
	// Forget is for how long an empty spool may keep what it held, which has a
	// better place by then, and may be erased there; 0 means ten seconds.
	Forget time.Duration
	// OnDamage, if not nil, is told, by Open and Next, of what is left out
	// because it is damaged. Its error stops them, and it is told again.
	OnDamage func(Damage) error
	// OnError, if not nil, is told of failures that stop nothing: what is done
	// with could not be removed, and it is tried again.
	OnError func(error)
	// FS is the file system; nil means the machine's.
	FS seglog.FS
}

// An Item is what was put into a spool.
type Item struct {
	// Number counts the spool's items from 1.
	Number uint64
	Data   []byte
}

// A Spool is a queue on disk. Its methods may be called concurrently; Next and
// Done are for one reader.
type Spool struct {
	dir    string
	o      Options
	epoch  string
	lock   *os.File
	cursor *cursor
	log    *seglog.Log // owned by the writer, but for reading
	batch  seglog.Batch

	reading sync.Mutex // guards what follows, and the cursor
	reader  reader

	mu       sync.Mutex // guards what follows
	waiting  []*put
	next     uint64 // number of the next item
	durable  uint64 // items below it are durable
	done     uint64 // items below it are done with
	used     int64  // bytes of the segment files up to where they are filled
	segments []segment
	hungry   bool // the reader waits
	closed   bool
	broken   error
	room     chan struct{} // closed when there may be room again
	arrived  chan struct{} // closed when more is durable

	closing  sync.Once
	closeErr error // owned by closing

	wake  chan struct{}
	urge  chan struct{} // the reader waits for what is not durable yet
	quit  chan struct{}
	ended chan struct{}
}

// A segment is a segment file as far as it is filled.
type segment struct {
	first uint64 // number
	size  int64
}

// A put is items on their way into the spool.
type put struct {
	items   [][]byte
	durable bool
	first   uint64
	err     error
	ready   chan struct{}
}

// Open opens the spool in dir, which is made if it is not there.
func Open(dir string, o Options) (*Spool, error) {
	if o.MaxBytes < 0 {
		return nil, fmt.Errorf("a spool of %d bytes: from 1 on, or 0 for 1 GiB", o.MaxBytes)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.SyncEvery == 0 {
		o.SyncEvery = time.Second
	}
	if o.Forget == 0 {
		o.Forget = 10 * time.Second
	}
	if o.FS == nil {
		o.FS = seglog.OS{}
	}
	s := &Spool{dir: dir, o: o, room: make(chan struct{}), arrived: make(chan struct{}),
		wake: make(chan struct{}, 1), urge: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	if err := s.open(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool in %s: %w", dir, err), s.release())
	}
	go s.write()
	return s, nil
}

func (s *Spool) open(dir string) error {
	queue := filepath.Join(dir, queueDir)
	if err := os.MkdirAll(queue, 0o700); err != nil {
		return err
	}
	var err error
	if s.lock, err = seglog.Lock(filepath.Join(dir, lockFile)); err != nil {
		return err
	}
	if s.cursor, err = openCursor(s.o.FS, filepath.Join(dir, cursorFile)); err != nil {
		return err
	}
	// What was made just now must not go with the power, and all that is put
	// below it.
	for _, made := range []string{dir, filepath.Dir(filepath.Clean(dir))} {
		if err := s.o.FS.SyncDir(made); err != nil {
			return err
		}
	}
	if s.log, err = seglog.Open(queue, seglog.Options{SegmentSize: s.segmentSize(), FS: s.o.FS}); err != nil {
		return err
	}
	if err := s.beginEpoch(); err != nil {
		return err
	}
	return s.recover()
}

// segmentSize is such that a full spool has room again soon once it is read.
func (s *Spool) segmentSize() int64 { return min(max(s.o.MaxBytes/16, 4<<10), 16<<20) }

// Put puts items into the spool, all of them or none, and returns the number of
// the first; the others follow it. With durable they outlive a power cut when
// Put returns, and otherwise a crash of the process.
func (s *Spool) Put(ctx context.Context, durable bool, items ...[]byte) (first uint64, err error) {
	size := int64(0)
	for i, item := range items {
		if len(item) == 0 || len(item) > MaxItem {
			return 0, fmt.Errorf("item %d has %d bytes, 1 to %d are possible", i, len(item), MaxItem)
		}
		size += int64(len(item))
	}
	if limit := min(s.o.MaxBytes/2, maxBatch); size > limit {
		return 0, fmt.Errorf("%w: %d items of %d bytes, the limit is %d bytes", ErrTooLarge, len(items), size, limit)
	}
	if len(items) == 0 {
		return 0, errors.New("there are no items")
	}
	for {
		p := &put{items: items, durable: durable, ready: make(chan struct{})}
		room, err := s.enqueue(p)
		if err == nil {
			<-p.ready // soon: the writer waits for the disk only
			if err = p.err; err == nil {
				return p.first, nil
			}
		}
		if !errors.Is(err, ErrFull) || !s.o.Wait {
			return 0, err
		}
		select {
		case <-room:
		case <-time.After(fullRetry):
		case <-s.quit:
			return 0, ErrClosed
		case <-ctx.Done():
			return 0, fmt.Errorf("%w, and %w", err, ctx.Err())
		}
	}
}

// enqueue hands a put to the writer. room is closed when there may be room.
func (s *Spool) enqueue(p *put) (room <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, ErrClosed
	case s.broken != nil:
		return nil, s.broken
	case s.used >= s.o.MaxBytes:
		return s.room, fmt.Errorf("%w: %d of %d bytes", ErrFull, s.used, s.o.MaxBytes)
	}
	s.waiting = append(s.waiting, p)
	s.wakeWriter()
	return s.room, nil
}

func (s *Spool) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write is the writer: it owns the log.
func (s *Spool) write() {
	defer close(s.ended)
	tick := time.NewTicker(s.o.SyncEvery)
	defer tick.Stop()
	var emptySince time.Time
	for quit := false; !quit; {
		select {
		case <-s.wake:
			s.writeWaiting()
		case <-tick.C:
			s.sync()
		case <-s.urge:
			s.sync()
		case <-s.quit:
			s.writeWaiting()
			s.sync()
			quit = true
		}
		var err error
		switch empty := s.empty(); {
		case !empty:
			emptySince = time.Time{}
		case emptySince.IsZero() && !quit:
			emptySince = time.Now()
		case quit || time.Since(emptySince) >= s.o.Forget:
			err = s.roll(s.next) // so that the old segment can go
			emptySince = time.Time{}
		}
		if err = errors.Join(err, s.trim()); err != nil && s.o.OnError != nil {
			s.o.OnError(err)
		}
	}
}

// empty reports whether all that the spool holds is done with, and still there.
// It is the writer's.
func (s *Spool) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.segments)
	return s.broken == nil && n > 0 && s.done == s.next && s.segments[n-1].size > seglog.FirstOffset
}

// writeWaiting writes what waits, in as few batches as possible.
func (s *Spool) writeWaiting() {
	for {
		s.mu.Lock()
		puts, number, durable := s.waiting, s.next, s.hungry
		size := 0
		for i, p := range puts {
			for _, item := range p.items {
				size += len(item)
			}
			if i > 0 && size > maxBatch {
				puts = puts[:i]
				break
			}
		}
		s.waiting = s.waiting[len(puts):]
		s.mu.Unlock()
		if len(puts) == 0 {
			return
		}
		err := s.append(puts, number, durable)
		for _, p := range puts {
			p.err = err
			close(p.ready)
		}
	}
}

// append writes puts, of which the first item gets the given number.
func (s *Spool) append(puts []*put, number uint64, durable bool) error {
	if s.log.Full() {
		if err := s.roll(number); err != nil {
			return s.failed(err)
		}
	}
	s.batch.Reset()
	next := number
	for _, p := range puts {
		p.first = next
		durable = durable || p.durable
		for _, item := range p.items {
			s.batch.Add(func(dst []byte) []byte {
				return append(binary.LittleEndian.AppendUint64(dst, next), item...)
			})
			next++
		}
	}
	appendBatch := s.log.Write
	if durable {
		appendBatch = s.log.Append
	}
	if _, err := appendBatch(&s.batch, false); err != nil {
		return s.failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := &s.segments[len(s.segments)-1]
	last.size += int64(s.batch.Size())
	s.used += int64(s.batch.Size())
	s.next = next
	if durable {
		s.published(next)
	}
	return nil
}

// roll begins a new segment.
func (s *Spool) roll(number uint64) error {
	if len(s.log.Segments()) > 0 {
		if err := s.log.Sync(); err != nil {
			return err
		}
	}
	if err := s.log.Roll(number); err != nil {
		return err
	}
	s.mu.Lock()
	s.segments = append(s.segments, segment{number, seglog.FirstOffset})
	s.used += seglog.FirstOffset
	s.mu.Unlock()
	return nil
}

// failed says what a failure of the log means for the spool.
func (s *Spool) failed(err error) error {
	if errors.Is(err, seglog.ErrFull) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if errors.Is(err, seglog.ErrBroken) {
		s.mu.Lock()
		s.broken = err
		s.published(s.durable) // whoever waits would wait for ever
		s.mu.Unlock()
	}
	return err
}

// sync makes durable what was written.
func (s *Spool) sync() {
	s.mu.Lock()
	next, needed := s.next, s.durable < s.next && s.broken == nil
	s.mu.Unlock()
	if !needed {
		return
	}
	if err := s.log.Sync(); err != nil {
		_ = s.failed(err) // told to the next Put
		return
	}
	s.mu.Lock()
	s.published(next)
	s.mu.Unlock()
}

// published wakes the reader. mu is held.
func (s *Spool) published(next uint64) {
	s.durable = next
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// Stats is the state of a spool.
type Stats struct {
	// Items are those that are not done with, Bytes their segment files'.
	Items, Bytes int64
	// MaxBytes bounds Bytes.
	MaxBytes int64
	// Next is the number of the next item.
	Next uint64
}

// Stats returns the state of the spool.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Items: int64(s.next - s.done), Bytes: s.used, MaxBytes: s.o.MaxBytes, Next: s.next}
}

// Close makes everything durable and closes the spool. It may be called more
// than once, also while others put items in: all return when it is closed.
func (s *Spool) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.quit)
		<-s.ended
		s.mu.Lock()
		err := s.broken
		s.mu.Unlock()
		s.closeErr = errors.Join(err, s.release())
	})
	return s.closeErr
}

func (s *Spool) release() error {
	s.reading.Lock()
	defer s.reading.Unlock()
	var errs []error
	if s.reader.scan != nil {
		errs = append(errs, s.reader.scan.close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.cursor != nil {
		errs = append(errs, s.cursor.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
