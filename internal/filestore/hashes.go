package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/search"
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

	// published is the tree that readers have, and its root, which does not come
	// from the files.
	published atomic.Pointer[tlog.Tree]
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
	h.publish()
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
				return &disagreement{fmt.Sprintf("from entry %d on, the hashes in %s/%s are not those that the level below it, or the log, gives", index, tree.Dir, tree.Name(row))}
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
	return nil
}

// publish lets readers have what was flushed. They may have had more already,
// from memory.
func (h *hashes) publish() {
	if h.tree.Size() >= h.Leaves() {
		for row := range h.pending {
			h.Hold(nil, row, 0)
		}
		h.serve()
	}
	h.restore(h.tree)
}

// hold lets readers have what was appended, though the disk does not take it.
// It is to be appended again.
func (h *hashes) hold() {
	if h.tree.Size() < h.Leaves() {
		return
	}
	for row := range h.pending {
		h.Hold(bytes.Clone(h.pending[row].data), row, h.pending[row].first)
	}
	h.serve()
}

func (h *hashes) serve() {
	h.Publish(h.tree.Size())
	h.published.Store(&tlog.Tree{N: h.tree.Size(), Hash: h.tree.Root()})
}

// mistaken reports whether the stored hash of an entry is wrong and leaf right,
// as the level above has it or, where there is none yet, the root.
func (h *hashes) mistaken(index int64, leaf trail.Hash) bool {
	const width = 1 << tree.RowHeight
	of, first := h.published.Load(), index-index%width
	if index >= of.N { // it was published just now
		return false
	}
	count := min(of.N-first, width)
	data, err := h.Run(0, first, count)
	if err != nil {
		return false
	}
	copy(data[index%width*int64(hashSize):], leaf[:])
	if count == width {
		above, err := h.Run(tree.RowHeight, index/width, 1)
		return err == nil && tree.Root(data) == trail.Hash(above)
	}
	whole, err := tlog.TreeHash(of.N, tree.With(h, 0, first, data))
	return err == nil && whole == of.Hash
}

// checkTile holds a full tile against the level above, and a partial one against
// the root.
func (h *hashes) checkTile(t tlog.Tile, data []byte, of tlog.Tree) error {
	var is bool
	var err error
	if t.W == trail.TileWidth {
		var above []byte
		above, err = h.Run((t.L+1)*trail.TileHeight, t.N, 1)
		is = err == nil && tree.Root(data) == trail.Hash(above)
	} else {
		is, err = tree.IsTile(t, data, of, h)
	}
	if err == nil && !is {
		err = search.ErrHashes
	}
	return err
}
