package search

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// Prove returns the proof that an entry with the given leaf is under a
// checkpoint. Stored hashes that prove nothing are [ErrHashes]; where they are
// right and the leaf is not, the error is [ErrChanged].
func Prove(hashes tlog.HashReader, under *trail.Checkpoint, index int64, leaf trail.Hash) (tlog.RecordProof, error) {
	proof, err := tlog.ProveRecord(under.Size, index, hashes)
	if err != nil || tlog.CheckRecord(proof, under.Size, under.Root, index, leaf) == nil {
		return proof, err
	}
	stored, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return nil, err
	}
	if tlog.CheckRecord(proof, under.Size, under.Root, index, stored[0]) == nil {
		return nil, fmt.Errorf("%w: entry %d is not under the signed checkpoint", ErrChanged, index)
	}
	return nil, fmt.Errorf("%w: they do not prove entry %d", ErrHashes, index)
}

// ProveExtends returns the proof that a checkpoint extends an older one. Stored
// hashes that do not prove it are [ErrHashes].
func ProveExtends(hashes tlog.HashReader, newer, older *trail.Checkpoint) (tlog.TreeProof, error) {
	proof, err := tlog.ProveTree(newer.Size, older.Size, hashes)
	if err == nil && tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root) != nil {
		err = fmt.Errorf("%w: they do not prove that %d entries extend %d", ErrHashes, newer.Size, older.Size)
	}
	return proof, err
}

// Sealed calls fn for each record within r that stored reads, in order, until fn
// gives an error, which it returns. The record is valid during the call only. One
// that does not follow from the one before it, or whose erasable content is not
// what was sealed, is [ErrChanged].
func Sealed(ctx context.Context, stored Reader, r Range, fn func(*trail.Record) error) error {
	return Chained(ctx, stored, r, func(rec *trail.Record) error {
		if err := CheckContent(rec); err != nil {
			return err
		}
		return fn(rec)
	})
}

// Chained is [Sealed] for callers that see to the erasable content themselves, by
// [CheckContent]: they may do so elsewhere than in the goroutine that reads.
func Chained(ctx context.Context, stored Reader, r Range, fn func(*trail.Record) error) error {
	var chain trail.Hash
	if r.First > 0 && r.First < r.End {
		before, err := stored.Record(ctx, r.First-1)
		if err != nil {
			return err
		}
		chain = before.Chain
	}
	return stored.Records(ctx, r, func(rec *trail.Record) error {
		if chain = rec.Link(chain); chain != rec.Chain {
			return fmt.Errorf("%w: entry %d", ErrChanged, rec.Index)
		}
		return fn(rec)
	})
}

// CheckContent returns [ErrChanged] for a record whose erasable content is not what was
// sealed.
func CheckContent(rec *trail.Record) error {
	if err := rec.CheckErasable(); err != nil {
		return fmt.Errorf("%w: entry %d: %w", ErrChanged, rec.Index, err)
	}
	return nil
}

// A ChainedReader reads as [Chained] does.
type ChainedReader interface {
	Chained(ctx context.Context, r Range, fn func(*trail.Record) error) error
}

// ReadChained reads as [Chained] does, with a reader that can, and otherwise as it can.
func ReadChained(ctx context.Context, reader Reader, r Range, fn func(*trail.Record) error) error {
	if c, ok := reader.(ChainedReader); ok {
		return c.Chained(ctx, r, fn)
	}
	return reader.Records(ctx, r, fn)
}
