package search

import (
	"context"
	"fmt"

	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// Tombs knows what a ledger's tombstones name.
type Tombs interface {
	// Erased reports whether a tombstone names an entry, as far as is known.
	Erased(index int64) bool
	// Pruned returns the index below which tombstones say that entries were
	// erased, as far as is known.
	Pruned() int64
	// Follow finds out about all tombstones that there are.
	Follow(ctx context.Context) error
	// CatchUp finds out about those that other servers may have recorded, in
	// the ledger as it is known here.
	CatchUp(ctx context.Context) error
}

// Present reads records as those may see them who read the ledger: without what
// a tombstone names, whether or not the store has come to erase it. A record
// that lacks its erasable content, or its entry, though no tombstone names it, is
// [ErrChanged].
type Present struct {
	Reader
	Tombs Tombs
}

// Record implements [Reader].
func (p Present) Record(ctx context.Context, index int64) (trail.Record, error) {
	if err := p.Tombs.CatchUp(ctx); err != nil {
		return trail.Record{}, err
	}
	r, err := p.Reader.Record(ctx, index)
	if err == nil {
		err = p.look(ctx, &r)
	}
	return r, err
}

// Records implements [Reader].
func (p Present) Records(ctx context.Context, r Range, fn func(*trail.Record) error) error {
	return p.records(ctx, p.Reader.Records, r, fn)
}

// Chained implements [ChainedReader].
func (p Present) Chained(ctx context.Context, r Range, fn func(*trail.Record) error) error {
	return p.records(ctx, func(ctx context.Context, r Range, fn func(*trail.Record) error) error {
		return ReadChained(ctx, p.Reader, r, fn)
	}, r, fn)
}

func (p Present) records(ctx context.Context, read func(context.Context, Range, func(*trail.Record) error) error, r Range, fn func(*trail.Record) error) error {
	if err := p.Tombs.CatchUp(ctx); err != nil {
		return err
	}
	return read(ctx, r, func(rec *trail.Record) error {
		if err := p.look(ctx, rec); err != nil {
			return err
		}
		return fn(rec)
	})
}

// Pick implements [Picker].
func (p Present) Pick(ctx context.Context, indexes []int64, fn func(*trail.Record) error) error {
	if err := p.Tombs.CatchUp(ctx); err != nil {
		return err
	}
	return pick(ctx, p.Reader, indexes, func(r *trail.Record) error {
		if err := p.look(ctx, r); err != nil {
			return err
		}
		return fn(r)
	})
}

func (p Present) look(ctx context.Context, r *trail.Record) error {
	bare := func() bool {
		return r.Erasable == nil && !p.Tombs.Erased(r.Index) || r.Leaf != nil && r.Index >= p.Tombs.Pruned()
	}
	if bare() {
		if err := p.Tombs.Follow(ctx); err != nil {
			return err
		}
	}
	switch {
	case r.Leaf != nil && r.Index >= p.Tombs.Pruned():
		return fmt.Errorf("%w: entry %d: %w", ErrChanged, r.Index, tombstone.ErrPruned)
	case bare():
		return fmt.Errorf("%w: entry %d: %w", ErrChanged, r.Index, tombstone.ErrBare)
	case r.Index < p.Tombs.Pruned():
		left, err := r.Prune()
		*r = left
		return err
	case p.Tombs.Erased(r.Index):
		r.Salt, r.Erasable = [16]byte{}, nil
	}
	return nil
}
