package tree_test

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/tree"
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

// grow returns the hashes of a tree of n leaves, and writes the rows to dir.
func grow(t *testing.T, dir string, n int64) stored {
	t.Helper()
	var all stored
	rows := map[int][]byte{}
	for i := range n {
		hashes, err := tlog.StoredHashesForRecordHash(i, sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i))), all)
		if err != nil {
			t.Fatal(err)
		}
		for level, h := range hashes {
			if level%tree.RowHeight == 0 {
				rows[level/tree.RowHeight] = append(rows[level/tree.RowHeight], h[:]...)
			}
		}
		all = append(all, hashes...)
	}
	files := open(t, dir)
	for row, data := range rows {
		if err := files.Write(data, row, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Sync(); err != nil {
		t.Fatal(err)
	}
	return all
}

func open(t *testing.T, dir string) *tree.Files {
	t.Helper()
	files, err := tree.Open(dir, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	return files
}

func TestEveryHashIsThatOfTheTree(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{1, 2, 15, 16, 17, 255, 256, 257, 4096, 5000} {
		dir := filepath.Join(t.TempDir(), tree.Dir)
		all := grow(t, dir, n)
		files := open(t, dir)
		files.Publish(n)
		for x, want := range all {
			if got, err := files.ReadHashes([]int64{int64(x)}); err != nil || got[0] != want {
				t.Fatalf("hash %d of %d leaves: %v", x, n, err)
			}
		}
		root, err := tlog.TreeHash(n, all)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			leaf, known, err := files.Leaf(i)
			if err != nil || !known || leaf != all[tlog.StoredHashIndex(0, i)] {
				t.Fatalf("leaf %d of %d: known %v, %v", i, n, known, err)
			}
			if i%97 != 0 {
				continue
			}
			proof, err := tlog.ProveRecord(n, i, files)
			if err == nil {
				err = tlog.CheckRecord(proof, n, root, i, leaf)
			}
			if err != nil {
				t.Fatalf("proof of leaf %d of %d: %v", i, n, err)
			}
		}
	}
}

func TestOnlyWhatWasPublishedIsServed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), tree.Dir)
	grow(t, dir, 300)
	files := open(t, dir)
	files.Publish(256)
	if _, known, err := files.Leaf(256); known || err != nil {
		t.Errorf("leaf 256: known %v, %v", known, err)
	}
	if _, err := files.ReadHashes([]int64{tlog.StoredHashIndex(0, 256)}); err == nil {
		t.Error("hash 256 of level 0 is served")
	}
	if _, err := files.ReadHashes([]int64{tlog.StoredHashIndex(8, 1)}); err == nil {
		t.Error("hash 1 of level 8 is served")
	}
	for _, bad := range [][3]int64{{0, 0, 257}, {8, 0, 2}, {-4, 0, 1}, {0, -1, 1}, {64, 0, 1}} {
		if _, err := files.Run(int(bad[0]), bad[1], bad[2]); err == nil {
			t.Errorf("a run %v is served", bad)
		}
	}
	if run, err := files.Run(8, 0, 1); err != nil || len(run) != 32 {
		t.Errorf("%d bytes, %v", len(run), err)
	}
}

func TestWhatIsMissingIsKnown(t *testing.T) {
	t.Parallel()
	cut := func(row int, size int64) func(dir string) error {
		return func(dir string) error { return os.Truncate(filepath.Join(dir, tree.Name(row)), size) }
	}
	for name, tt := range map[string]struct {
		harm           func(dir string) error
		whole, claimed int64
	}{
		"nothing":                {func(string) error { return nil }, 5000, 5000},
		"newest leaves":          {cut(0, 4900*32), 4900, 4992},
		"a part of a hash":       {cut(0, 4900*32+7), 4900, 4992},
		"all leaves":             {func(dir string) error { return os.Remove(filepath.Join(dir, tree.Name(0))) }, 0, 4992},
		"upper hashes":           {cut(1, 100*32), 101*16 - 1, 5000},
		"the uppermost":          {func(dir string) error { return os.Remove(filepath.Join(dir, tree.Name(3))) }, 4095, 5000},
		"everything":             {os.RemoveAll, 0, 0},
		"nothing, but much more": {cut(0, 6000*32), 5007, 6000},
	} {
		dir := filepath.Join(t.TempDir(), tree.Dir)
		grow(t, dir, 5000)
		if err := tt.harm(dir); err != nil {
			t.Fatal(err)
		}
		files := open(t, dir)
		if files.Whole() != tt.whole || files.Claimed() != tt.claimed {
			t.Errorf("%s: whole %d, claimed %d; want %d, %d", name, files.Whole(), files.Claimed(), tt.whole, tt.claimed)
		}
	}
}

func TestAMissingFileIsNamed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), tree.Dir)
	grow(t, dir, 300)
	if err := os.Remove(filepath.Join(dir, tree.Name(1))); err != nil {
		t.Fatal(err)
	}
	files := open(t, dir)
	files.Publish(300)
	if _, err := files.ReadHashes([]int64{tlog.StoredHashIndex(4, 0)}); err == nil {
		t.Error("no error")
	}
}

// TestHashesThatAreHeldNeedNoFile: the disk has some of them, in each row fewer
// or more.
func TestHashesThatAreHeldNeedNoFile(t *testing.T) {
	t.Parallel()
	const n = 5000
	all := grow(t, filepath.Join(t.TempDir(), tree.Dir), n)
	for _, written := range []int64{0, 1, 15, 16, 300, 4999} {
		dir := filepath.Join(t.TempDir(), tree.Dir)
		grow(t, dir, written)
		files := open(t, dir)
		for row := range tree.Rows {
			var held []byte
			first := written >> (row * tree.RowHeight)
			for i := first; i < n>>(row*tree.RowHeight); i++ {
				hash := all[tlog.StoredHashIndex(row*tree.RowHeight, i)]
				held = append(held, hash[:]...)
			}
			files.Hold(held, row, first)
		}
		files.Publish(n)
		for x, want := range all {
			if got, err := files.ReadHashes([]int64{int64(x)}); err != nil || got[0] != want {
				t.Fatalf("hash %d with %d leaves in the files: %v", x, written, err)
			}
		}
		run, err := files.Run(0, 0, n)
		for i := range int64(n) {
			if err != nil || tlog.Hash(run[i*32:]) != all[tlog.StoredHashIndex(0, i)] {
				t.Fatalf("leaf %d with %d leaves in the files: %v", i, written, err)
			}
		}
		files.Hold(nil, 0, 0)
		if _, known, err := files.Leaf(n - 1); known || err == nil {
			t.Errorf("with %d leaves in the files, a leaf is known that is held no more", written)
		}
	}
}
