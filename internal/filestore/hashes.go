package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
)

// hashes are the hashes of the Merkle tree in files, and on their way there.
type hashes struct {
	*tree.Files
	// What follows is owned by the follower: the tree up to what was appended,
	// and the hashes that are not in the files yet, by row.
	tree    trail.Tree
	pending [tree.Rows]pending
}

const (
	hashSize = len(trail.Hash{})
	// syncEvery is how many entries are derived between two syncs of the files.
	syncEvery = 1 << 16
)

// pending are hashes of a row that are not in its file yet.
type pending struct {
	first int64 // place of the first
	data  []byte
}

func openHashes(dir string) (*hashes, error) {
	files, err := tree.Open(dir, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	return &hashes{Files: files}, nil
}

// resume makes the hashes those of a tree of size entries, which stand in the
// files.
func (h *hashes) resume(size int64) error {
	h.Publish(size)
	t, err := trail.ResumeTree(size, h)
	if err != nil {
		return fmt.Errorf("the tree of %d entries: %w", size, err)
	}
	h.restore(*t)
	return nil
}

// restore forgets what was appended since t was the tree.
func (h *hashes) restore(t trail.Tree) {
	h.tree = t
	for row := range h.pending {
		h.pending[row] = pending{first: t.Size() >> (row * tree.RowHeight), data: h.pending[row].data[:0]}
	}
}

// append adds a leaf.
func (h *hashes) append(leaf trail.Hash) {
	h.tree.Append(leaf, func(level int, _ int64, hash trail.Hash) {
		if level%tree.RowHeight == 0 {
			p := &h.pending[level/tree.RowHeight]
			p.data = append(p.data, hash[:]...)
		}
	})
}

// kept returns the hashes of the entries from first on, below end, or nil if
// the file has not kept all of them.
func (h *hashes) kept(first, end int64) ([]trail.Hash, error) {
	data := make([]byte, (end-first)*int64(hashSize))
	if n, err := h.Read(data, 0, first); n < len(data) {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return nil, err
	}
	leaves := make([]trail.Hash, 0, end-first)
	for at := 0; at < len(data); at += hashSize {
		leaf := trail.Hash(data[at:])
		if leaf == (trail.Hash{}) {
			return nil, nil
		}
		leaves = append(leaves, leaf)
	}
	return leaves, nil
}

// check holds what was appended against what the files have already. Zeros are
// what a file may have lost.
func (h *hashes) check() error {
	for row := range h.pending {
		p := &h.pending[row]
		have := make([]byte, len(p.data))
		n, err := h.Read(have, row, p.first)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for at := 0; at+hashSize <= n; at += hashSize {
			was := have[at : at+hashSize]
			if !bytes.Equal(was, p.data[at:at+hashSize]) && !bytes.Equal(was, make([]byte, hashSize)) {
				index := tree.First(row, p.first+int64(at/hashSize))
				return fmt.Errorf("%w: from entry %d on, %s/%s disagrees with the hashes below it, or with the log; if graven verify finds nothing else, graven reindex makes it anew", ErrTip, index, tree.Dir, tree.Name(row))
			}
		}
	}
	return nil
}

// flush writes what was appended into the files. It is not served before it is
// published.
func (h *hashes) flush() error {
	for row := range h.pending {
		p := &h.pending[row]
		if len(p.data) == 0 {
			continue
		}
		if err := h.Write(p.data, row, p.first); err != nil {
			return err
		}
	}
	h.restore(h.tree)
	return nil
}

// publish lets readers have what was flushed.
func (h *hashes) publish() { h.Publish(h.tree.Size()) }

// mistaken reports whether the stored hash of an entry is wrong and leaf right,
// as the level above has it.
func (h *hashes) mistaken(index int64, leaf trail.Hash) bool {
	const width = 1 << tree.RowHeight
	data, err := h.Run(0, index-index%width, width)
	if err != nil {
		return false
	}
	above, err := h.Run(tree.RowHeight, index/width, 1)
	copy(data[index%width*int64(hashSize):], leaf[:])
	return err == nil && root(data) == trail.Hash(above)
}

// root returns the root of a tree with the given leaves.
func root(leaves []byte) trail.Hash {
	var t trail.Tree
	for at := 0; at < len(leaves); at += hashSize {
		t.Append(trail.Hash(leaves[at:]), nil)
	}
	return t.Root()
}
