package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
)

var _ finding.Sources = (*Store)(nil)

// signs are the types of events that say how long their source will be silent.
var signs = []string{event.TypeHeartbeat, event.TypeStopped}

// countBatch bounds the entries that are counted at a time.
const countBatch = 100_000

// Derived implements [finding.Sources]. Sources are counted when somebody asks,
// and now and then.
func (s *Store) Derived(ctx context.Context, size int64) error {
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
