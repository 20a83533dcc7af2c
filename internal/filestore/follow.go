package filestore

import (
	"context"
	"fmt"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// followBatch is how many entries the follower derives in one transaction.
const followBatch = 4096

// follow derives tiles and index behind the writer, until Close.
func (s *Store) follow() {
	defer close(s.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for quit := false; ; {
		s.mu.Lock()
		from, size := s.followed, s.size
		s.mu.Unlock()
		if from < size {
			err := s.advance(context.Background(), from, min(size, from+followBatch))
			s.report(from, err)
			if err == nil {
				continue
			}
			if quit {
				return // the next start goes on from here
			}
			select {
			case <-tick.C:
			case <-s.quit:
				quit = true
			}
			continue
		}
		if quit {
			return
		}
		select {
		case <-s.wake:
		case <-tick.C:
		case <-s.quit:
			quit = true
		}
	}
}

// advance derives from the entries from first on, below end. It is the
// follower's, or recovery's before there is one.
func (s *Store) advance(ctx context.Context, first, end int64) error {
	batch := s.index.begin(first)
	chain := s.index.chain
	before := s.tiles.snapshot()
	err := s.records(ctx, search.Range{First: first, End: end}, func(r *trail.Record) error {
		if chain = trail.Link(chain, r.Entry); chain != r.Chain {
			return fmt.Errorf("%w: entry %d does not follow from the one before it", ErrTip, r.Index)
		}
		e, _, err := event.ParseEntry(r.Entry)
		if err != nil {
			return fmt.Errorf("entry %d: %w", r.Index, err)
		}
		if err := s.tiles.append(trail.LeafHash(r.Entry)); err != nil {
			return err
		}
		batch.add(r.Index, e)
		return nil
	})
	if err == nil {
		err = s.index.commit(ctx, batch, end, chain)
	}
	if err != nil {
		s.tiles.restore(before)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed = end
	for i := range batch.rows {
		delete(s.unfound, batch.rows[i].id)
	}
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

// Wait implements [search.Index].
func (s *Store) Wait(ctx context.Context, size int64) error {
	s.mu.Lock()
	if s.failed != nil || s.followed >= size {
		defer s.mu.Unlock()
		return s.failed
	}
	w := waiter{size: size, ready: make(chan struct{})}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	select {
	case <-w.ready:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Lag returns how many entries the follower has yet to derive from.
func (s *Store) Lag() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size - s.followed
}
