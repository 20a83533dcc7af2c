package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

const (
	fromRecords = `SELECT e.ledger_index, e.event_hash, e.leaf_hash, e.pruned, e.entry, d.salt, d.erasable
	FROM audit_events e LEFT JOIN audit_event_details d ON d.ledger_index = e.ledger_index AND d.recorded_month = e.recorded_month
	WHERE `
	selectRecords = fromRecords + "e.recorded_month = $1 AND e.ledger_index >= $2 AND e.ledger_index < $3 ORDER BY e.ledger_index LIMIT $4"
	pickRecords   = fromRecords + "e.recorded_month >= $1 AND e.recorded_month <= $2 AND e.ledger_index = ANY($3)"
)

const (
	// readBatch is how many records are read at a time.
	readBatch = 500
	// pickBatch is how many are picked at a time, most of which may be read in
	// vain, and each be as large as there are.
	pickBatch = 32
)

// A stored is a record with the hash of its leaf, as they stand in the database.
type stored struct {
	trail.Record
	leaf []byte
}

func (r *stored) scan(row pgx.CollectableRow) error {
	var chain string
	var salt []byte
	var pruned bool
	if err := row.Scan(&r.Index, &chain, &r.leaf, &pruned, &r.Entry, &salt, &r.Erasable); err != nil {
		return err
	}
	copy(r.Salt[:], salt)
	if pruned {
		r.Leaf = leafOf(r.leaf)
	}
	var err error
	if r.Chain, err = trail.ParseHex(chain); err != nil {
		return fmt.Errorf("%w: entry %d: event_hash: %w", search.ErrChanged, r.Index, err)
	}
	return nil
}

// leafOf returns the hash of a leaf as it stands in a row. One that is no hash is
// not the leaf's.
func leafOf(column []byte) *trail.Hash {
	var h trail.Hash
	if len(column) == len(h) {
		copy(h[:], column)
	}
	return &h
}

// batch reads the next records of a month.
func (s *Store) batch(ctx context.Context, m month, first, end int64, limit int) ([]stored, error) {
	return s.selected(ctx, selectRecords, m.month, first, end, limit)
}

func (s *Store) selected(ctx context.Context, query string, args ...any) (list []stored, err error) {
	err = s.again(ctx, func() error {
		rows, err := s.readers.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r stored, err error) { return r, r.scan(row) })
		return err
	})
	return list, err
}

// Record implements [ledger.Store]. A record that is not the one that was
// sealed, as far as the hash beside it tells, is [search.ErrChanged].
func (s *Store) Record(ctx context.Context, index int64) (trail.Record, error) {
	r, err := s.record(ctx, index)
	if err == nil {
		err = r.check()
	}
	return r.Record, err
}

// check holds a record against the hash beside it.
func (r *stored) check() error {
	if leaf := r.LeafHash(); string(leaf[:]) != string(r.leaf) {
		return fmt.Errorf("%w: entry %d", search.ErrChanged, r.Index)
	}
	if err := r.CheckErasable(); err != nil {
		return fmt.Errorf("%w: entry %d: %w", search.ErrChanged, r.Index, err)
	}
	return nil
}

// Pick implements [search.Picker].
func (s *Store) Pick(ctx context.Context, indexes []int64, fn func(*trail.Record) error) error {
	for some := range slices.Chunk(indexes, pickBatch) {
		months, err := s.monthsOf(ctx, slices.Min(some), slices.Max(some)+1)
		if err != nil {
			return err
		}
		found := make(map[int64]*stored, len(some))
		if len(months) > 0 {
			list, err := s.selected(ctx, pickRecords, months[0].month, months[len(months)-1].month, some)
			if err != nil {
				return err
			}
			for i := range list {
				found[list[i].Index] = &list[i]
			}
		}
		for _, index := range some {
			r, ok := found[index]
			if !ok {
				return errNoRecord(index)
			}
			if err := r.check(); err != nil {
				return err
			}
			own := r.Record // the same may be asked for twice
			if err := fn(&own); err != nil {
				return err
			}
		}
	}
	return nil
}

func errNoRecord(index int64) error { return fmt.Errorf("record %d is not there", index) }

func (s *Store) record(ctx context.Context, index int64) (stored, error) {
	months, err := s.monthsOf(ctx, index, index+1)
	if err != nil {
		return stored{}, err
	}
	for _, m := range months {
		list, err := s.batch(ctx, m, index, index+1, 1)
		if err != nil || len(list) > 0 {
			return append(list, stored{})[0], err
		}
	}
	return stored{}, errNoRecord(index)
}

// Records implements [search.Reader]. A record that does not follow from the
// one before it is [search.ErrChanged].
func (s *Store) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	return search.Sealed(ctx, s.Stored(), r, fn)
}

func (s *Store) records(ctx context.Context, r search.Range, fn func(*stored) error) error {
	months, err := s.monthsOf(ctx, r.First, r.End)
	if err != nil {
		return err
	}
	next := r.First
	for _, m := range months {
		for next < r.End {
			list, err := s.batch(ctx, m, next, r.End, readBatch)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
			for i := range list {
				if list[i].Index != next {
					return fmt.Errorf("%w: entry %d is missing", search.ErrChanged, next)
				}
				if err := fn(&list[i]); err != nil {
					return err
				}
				next++
			}
		}
	}
	if next < r.End {
		return fmt.Errorf("%w: entry %d is missing", search.ErrChanged, next)
	}
	return nil
}

// Stored returns a reader of the records as they stand in the database, changed
// or not, for those who judge them.
func (s *Store) Stored() search.Reader { return raw{s} }

type raw struct{ s *Store }

func (d raw) Record(ctx context.Context, index int64) (trail.Record, error) {
	r, err := d.s.record(ctx, index)
	return r.Record, err
}

func (d raw) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	return d.s.records(ctx, r, func(rec *stored) error { return fn(&rec.Record) })
}
