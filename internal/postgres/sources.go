package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/ledger"
)

var _ finding.Sources = (*Store)(nil)

// signs are the types of events that say how long their source will be silent.
var signs = []string{event.TypeHeartbeat, event.TypeStopped}

const (
	// countBatch bounds the entries that are counted at a time, which takes a
	// fraction of the time that a question may wait: one that gives up leaves
	// less to be counted for the next.
	countBatch = 20_000
	// countEvery is how often it is looked whether there is something to count.
	countEvery = 5 * time.Second
)

// keepCounts counts sources before somebody asks, until ctx ends.
func (s *Store) keepCounts(ctx context.Context) {
	every(ctx, countEvery, func() {
		c := s.newest.Load()
		if c == nil {
			return
		}
		// While the database is away there is nothing to count; while another
		// server counts, it is done.
		err := s.Derived(ctx, c.Size)
		if err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrAway) && !errors.Is(err, ledger.ErrBusy) && s.o.OnError != nil {
			s.o.OnError(fmt.Errorf("count the sources of events: %w", err))
		}
	})
}

// Derived implements [finding.Sources]. Sources are counted every few seconds,
// and when somebody asks.
func (s *Store) Derived(ctx context.Context, size int64) error {
	err := s.count(ctx, size)
	if ctx.Err() != nil {
		return ctx.Err() // the database is not to blame
	}
	return err
}

func (s *Store) count(ctx context.Context, size int64) error {
	var done int64
	if err := s.again(ctx, func() error { return s.readers.QueryRow(ctx, "SELECT size FROM counted").Scan(&done) }); err != nil {
		return storeError(err)
	}
	for done < size {
		before := done
		err := s.again(ctx, func() error {
			return s.readers.QueryRow(ctx, "SELECT graven.count_sources($1, $2)", min(size, done+countBatch), signs).Scan(&done)
		})
		if err != nil {
			return storeError(err)
		}
		if done == before {
			return refuse("the database holds %d entries of the %d that there were", done, size)
		}
	}
	return nil
}

// Holes implements [finding.Sources].
func (s *Store) Holes(ctx context.Context, source string, fn func(finding.Hole) error) error {
	rows, err := s.readers.Query(ctx, `SELECT low, high, low_index, high_index, count FROM runs JOIN counts c ON c.id = count
		WHERE c.runs > 1 AND ($1 = '' OR name = $1) ORDER BY count, low`, source)
	if err != nil {
		return storeError(err)
	}
	var last, r finding.Run
	var of, count int64
	_, err = pgx.ForEachRow(rows, []any{&r.Low, &r.High, &r.LowIndex, &r.HighIndex, &count}, func() error {
		before := last
		last = r
		if count != of {
			of = count
			return nil
		}
		return fn(finding.Hole{From: before.High + 1, To: r.Low - 1, Before: before.HighIndex, After: r.LowIndex})
	})
	return err
}

// Signed implements [finding.Sources].
func (s *Store) Signed(ctx context.Context, source string, fn func(finding.Count) error) error {
	return s.counts(ctx, "sign >= 0", source, fn)
}

// Odd implements [finding.Sources].
func (s *Store) Odd(ctx context.Context, source string, fn func(finding.Count) error) error {
	return s.counts(ctx, "(earlier > 0 OR entries > numbers)", source, fn)
}

func (s *Store) counts(ctx context.Context, which, source string, fn func(finding.Count) error) error {
	rows, err := s.readers.Query(ctx, `SELECT first_index, last_index, entries, numbers, sign, earlier FROM counts
		WHERE `+which+` AND ($1 = '' OR name = $1) ORDER BY id`, source)
	if err != nil {
		return storeError(err)
	}
	var c finding.Count
	_, err = pgx.ForEachRow(rows, []any{&c.First, &c.Last, &c.Entries, &c.Distinct, &c.Sign, &c.Earlier}, func() error { return fn(c) })
	return err
}
