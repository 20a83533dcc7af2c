package search_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// stored are all hashes of a tree as tlog numbers them.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

func TestAWrongHashIsToldApartFromAWrongEntry(t *testing.T) {
	const n = 21
	var all stored
	leaf := func(i int64) tlog.Hash { return tlog.RecordHash(fmt.Append(nil, i)) }
	for i := range int64(n) {
		hashes, err := tlog.StoredHashesForRecordHash(i, leaf(i), all)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hashes...)
	}
	at := func(size int64) *trail.Checkpoint {
		root, err := tlog.TreeHash(size, all)
		if err != nil {
			t.Fatal(err)
		}
		return &trail.Checkpoint{Size: size, Root: root}
	}
	under := at(n)
	for i := range int64(n) {
		if _, err := search.Prove(all, under, i, leaf(i)); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
		if _, err := search.Prove(all, under, i, leaf(i+1)); !errors.Is(err, search.ErrChanged) || errors.Is(err, search.ErrHashes) {
			t.Errorf("another entry for entry %d: %v", i, err)
		}
		for x := range all {
			harmed := slices.Clone(all)
			harmed[x][5] ^= 1
			proof, err := search.Prove(harmed, under, i, leaf(i))
			if err == nil && tlog.CheckRecord(proof, n, under.Root, i, leaf(i)) != nil || err != nil && (!errors.Is(err, search.ErrHashes) || errors.Is(err, search.ErrChanged)) {
				t.Errorf("entry %d, where hash %d is wrong: %v", i, x, err)
			}
			old := at(i + 1)
			extends, err := search.ProveExtends(harmed, under, old)
			if err == nil && tlog.CheckTree(extends, n, under.Root, old.Size, old.Root) != nil || err != nil && !errors.Is(err, search.ErrHashes) {
				t.Errorf("that it extends %d entries, where hash %d is wrong: %v", i+1, x, err)
			}
		}
	}
}
