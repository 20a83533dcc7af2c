package filestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/sqlite"
	"github.com/graven-audit/graven/trail"
)

const (
	// followBatch is how many entries the follower derives in one transaction.
	followBatch = 16 << 10
	// followPause is how long the follower lets entries come together, unless
	// there are followBatch or somebody waits for them. Queries find them in
	// memory meanwhile.
	followPause = 2 * time.Second
	// maxFed bounds the entries that are handed to the follower in memory.
	// Others it reads from the log.
	maxFed = 64 << 10
)

// A fed is what the follower needs of a pool.
type fed struct {
	rows   []sqlite.Row
	leaves []trail.Hash
	chain  trail.Hash // behind the last
}

// feed hands a pool over to the follower. s.mu must be held.
func (s *Store) feed(p *ledger.Pool, rows []sqlite.Row) {
	if s.fedTo != rows[0].Index || s.fedEntries+len(rows) > maxFed {
		return // what the follower has missed, and all that comes behind it, it reads
	}
	s.fed = append(s.fed, fed{rows, p.Leaves, p.Head.Chain})
	s.fedEntries += len(rows)
	s.fedTo += int64(len(rows))
	for i := range rows {
		if last := len(s.recent) - 1; last < 0 || !s.recent[last].Add(&rows[i]) {
			s.recent = append(s.recent, sqlite.NewRows(rows[i].Index))
			s.recent[last+1].Add(&rows[i])
		}
	}
	if s.fedEntries >= followBatch {
		s.hurry()
	}
}

// next returns what the follower does next: pools from memory or, without,
// entries of the log from the first on, below end.
func (s *Store) next() (pools []fed, first, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = s.followed
	if len(s.fed) == 0 {
		if first == s.size {
			s.fedTo = s.size
		}
		return nil, first, min(s.size, first+followBatch)
	}
	if fedFirst := s.fed[0].rows[0].Index; first < fedFirst {
		return nil, first, min(fedFirst, first+followBatch)
	}
	n := 0
	for end = first; n < len(s.fed) && end-first < followBatch; n++ {
		end += int64(len(s.fed[n].rows))
	}
	return s.fed[:n:n], first, end
}

// follow derives hashes and index behind the writer, until Close.
func (s *Store) follow() {
	defer close(s.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for quit := false; ; {
		pools, first, end := s.next()
		if first < end {
			err := s.advance(context.Background(), pools, first, end)
			s.report(first, err)
			switch {
			case err == nil && end-first < followBatch && !quit:
				quit = s.pause()
			case err != nil && quit:
				return // the next start goes on from here
			case err != nil:
				quit = s.sleep(tick.C)
			}
			continue
		}
		if quit {
			return
		}
		select {
		case <-s.wake:
		case <-s.quit:
			quit = true
		}
	}
}

// pause lets entries come together, until somebody waits for them.
func (s *Store) pause() (quit bool) {
	t := time.NewTimer(followPause)
	defer t.Stop()
	return s.sleep(t.C)
}

// sleep waits, but neither longer than anybody who waits for the follower.
func (s *Store) sleep(c <-chan time.Time) (quit bool) {
	select {
	case <-c:
	case <-s.urge:
	case <-s.quit:
		return true
	}
	return false
}

// advance derives from the entries from first on, below end. It is the
// follower's, or recovery's before there is one. Without pools it reads the log.
func (s *Store) advance(ctx context.Context, pools []fed, first, end int64) error {
	s.deriving.Lock()
	defer s.deriving.Unlock()
	if from, unknown := s.index.OpenFrom(); unknown {
		if err := s.resume(ctx, from); err != nil {
			return err
		}
	}
	chain := s.index.Chain()
	before := s.hashes.tree
	var deriver sqlite.Deriver
	s.rows = s.rows[:0]
	var err error
	if pools == nil {
		err = s.records(ctx, search.Range{First: first, End: end}, func(r *trail.Record) error {
			if chain = r.Link(chain); chain != r.Chain {
				return fmt.Errorf("%w: entry %d does not follow from the one before it", ErrTip, r.Index)
			}
			row, err := deriver.Left(r, 0)
			if err != nil {
				return err
			}
			s.rows = append(s.rows, row)
			s.hashes.append(r.LeafHash())
			return nil
		})
	}
	for i := range pools {
		chain = pools[i].chain
		s.rows = append(s.rows, pools[i].rows...)
		for _, leaf := range pools[i].leaves {
			s.hashes.append(leaf)
		}
	}
	if err == nil {
		if err = s.writeHashes(first, end); err == nil {
			err = s.index.Commit(ctx, s.rows, end, chain)
		}
		if err != nil && !errors.Is(err, ErrTip) && !s.recovering {
			s.hashes.hold()
		}
	}
	if err != nil {
		s.hashes.restore(before)
		return err
	}
	s.hashes.publish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed = end
	for i := range s.rows {
		delete(s.unfound, s.rows[i].ID)
	}
	if pools != nil {
		s.fedEntries -= int(end - first)
	}
	if s.fed = s.fed[len(pools):]; len(s.fed) == 0 {
		s.fed = nil // and its memory
	}
	s.recent = slices.DeleteFunc(s.recent, func(r *sqlite.Rows) bool { return r.End() <= end })
	waiting := s.waiters[:0]
	for _, w := range s.waiters {
		if w.size <= end {
			close(w.ready)
		} else {
			waiting = append(waiting, w)
		}
	}
	s.waiters = waiting
	return nil
}

// writeHashes writes the hashes of the entries from first on, below end. Before
// the index tells of entries beyond a multiple of syncEvery, the hashes of those
// up to it are durable, so that a start need not doubt them.
func (s *Store) writeHashes(first, end int64) error {
	if s.recovering {
		if err := s.hashes.check(); err != nil {
			return err
		}
	}
	if err := s.hashes.flush(); err != nil {
		return err
	}
	if first/syncEvery == end/syncEvery {
		return nil
	}
	return s.hashes.Sync()
}

// resume gives the index the rows, from the given entry on, that it has lost.
func (s *Store) resume(ctx context.Context, from int64) error {
	var deriver sqlite.Deriver
	var rows []sqlite.Row
	err := s.records(ctx, search.Range{First: from, End: s.index.Size()}, func(r *trail.Record) error {
		row, err := deriver.Left(r, s.index.Pruned())
		rows = append(rows, row)
		return err
	})
	if err == nil {
		s.index.Resume(rows)
	}
	return err
}

// report tells queries and writers how the follower fares. A full disk passes;
// a log that contradicts itself does not.
func (s *Store) report(from int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = nil
	if err == nil {
		return
	}
	s.failed = fmt.Errorf("the index cannot follow beyond entry %d: %w", from, err)
	for _, w := range s.waiters {
		close(w.ready)
	}
	s.waiters = nil
}

// A waiter waits for the follower to reach a size.
type waiter struct {
	size  int64
	ready chan struct{}
}

// Wait returns when hashes and index cover every entry below size, or when ctx
// ends. While the disk takes neither, what is in memory counts.
func (s *Store) Wait(ctx context.Context, size int64) error {
	for tries := 0; ; tries++ {
		w := waiter{size: size, ready: make(chan struct{})}
		s.mu.Lock()
		inMemory := s.inMemory(size) && size-s.followed <= followBatch
		if s.followed >= size || inMemory && s.hashes.Leaves() >= size {
			s.mu.Unlock()
			return nil
		}
		// A try that fails leaves the hashes in memory. One that was under way
		// knew of fewer entries.
		if err := s.failed; err != nil && (!inMemory || tries == 2) {
			s.mu.Unlock()
			return err
		}
		s.waiters = append(s.waiters, w)
		s.mu.Unlock()
		s.hurry()
		select {
		case <-w.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Derived implements [finding.Sources]: unlike with Wait, what is in memory does
// not count.
func (s *Store) Derived(ctx context.Context, size int64) error {
	for tries := 0; ; tries++ {
		w := waiter{size: size, ready: make(chan struct{})}
		s.mu.Lock()
		followed, failed := s.followed, s.failed
		if followed < size && (failed == nil || tries < 2) { // one that was under way may have failed
			s.waiters = append(s.waiters, w)
		}
		s.mu.Unlock()
		if followed >= size {
			return nil
		}
		if failed != nil && tries >= 2 {
			return failed
		}
		s.hurry()
		select {
		case <-w.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hurry ends the follower's pause.
func (s *Store) hurry() {
	select {
	case s.urge <- struct{}{}:
	default:
	}
}

// Lag returns how many entries the follower has yet to derive from.
func (s *Store) Lag() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size - s.followed
}
