package search

import (
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
