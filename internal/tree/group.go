package tree

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxGroups bounds the groups that are held in memory, of 1 KiB each. Only
	// those that were asked for are.
	maxGroups = 16 << 10
	// heldRow is the lowest row whose groups are worth holding.
	heldRow = 1
)

// A groupID names the n-th 2^RowHeight hashes of a row, as far as there were
// count of them.
type groupID struct {
	row   int
	n     int64
	count int64
}

// A group holds the hashes of a group's subtrees, as far as they are complete:
// those of the row's level, of the next, and so on. The latter are computed at
// once if whole is set, and otherwise when they are asked for.
type group struct {
	hashes [2<<RowHeight - 2]tlog.Hash
	whole  bool
}

// at returns where the hash of the i-th subtree of 2^k hashes stands.
func (g *group) at(k int, i int64) *tlog.Hash {
	return &g.hashes[2<<RowHeight-2<<(RowHeight-k)+int(i)]
}

// node returns the hash of the i-th subtree of 2^k hashes.
func (g *group) node(k int, i int64) tlog.Hash {
	if k == 0 || g.whole {
		return *g.at(k, i)
	}
	return tlog.NodeHash(g.node(k-1, 2*i), g.node(k-1, 2*i+1))
}

// ReadHashes implements [tlog.HashReader].
func (t *Files) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	leaves := t.Leaves()
	var last groupID
	var in *group // that of last
	var own group
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		if n >= leaves>>level {
			return nil, fmt.Errorf("no subtree %d of level %d in a tree of %d entries", n, level, leaves)
		}
		row, k := level/RowHeight, level%RowHeight
		id := groupID{row: row, n: n >> (RowHeight - k)}
		id.count = min(leaves>>(row*RowHeight)-id.n<<RowHeight, 1<<RowHeight)
		if in == nil || id != last {
			var err error
			if in, err = t.group(id, &own); err != nil {
				return nil, err
			}
			last = id
		}
		out[i] = in.node(k, n-id.n<<(RowHeight-k))
	}
	return out, nil
}

// group returns a group, in own if it is not held in memory.
func (t *Files) group(id groupID, own *group) (*group, error) {
	if id.row >= heldRow {
		t.heldMu.Lock()
		g := t.held[id]
		t.heldMu.Unlock()
		if g != nil {
			return g, nil
		}
		own = new(group)
	}
	var data [hashSize << RowHeight]byte
	if err := t.read(data[:id.count*hashSize], id.row, id.n<<RowHeight); err != nil {
		return nil, err
	}
	for i := range id.count {
		*own.at(0, i) = tlog.Hash(data[i*hashSize:])
	}
	if id.row < heldRow {
		return own, nil
	}
	for k := 1; k < RowHeight; k++ {
		for i := range id.count >> k {
			*own.at(k, i) = tlog.NodeHash(*own.at(k-1, 2*i), *own.at(k-1, 2*i+1))
		}
	}
	own.whole = true
	t.hold(id, own)
	return own, nil
}

// hold keeps a group in memory.
func (t *Files) hold(id groupID, g *group) {
	t.heldMu.Lock()
	defer t.heldMu.Unlock()
	for old := range t.held { // any: the order of maps is random enough
		if len(t.held) < maxGroups {
			break
		}
		delete(t.held, old)
	}
	t.held[id] = g
}

// read reads published hashes of a row.
func (t *Files) read(data []byte, row int, first int64) error {
	t.mu.RLock()
	a := t.ahead[row]
	t.mu.RUnlock()
	if end, held := first+int64(len(data)/hashSize), a.first+int64(len(a.data)/hashSize); a.first < end && end <= held {
		from := max(first, a.first)
		copy(data[(from-first)*hashSize:], a.data[(from-a.first)*hashSize:])
		data = data[:(from-first)*hashSize]
	}
	if n, err := t.Read(data, row, first); n < len(data) {
		return fmt.Errorf("read %s (graven reindex makes it anew): %w", t.path(row), err)
	}
	return nil
}

// Leaf returns the hash of a leaf; known is false where it was not published.
func (t *Files) Leaf(index int64) (leaf tlog.Hash, known bool, err error) {
	if index >= t.Leaves() {
		return leaf, false, nil
	}
	err = t.read(leaf[:], 0, index)
	return leaf, err == nil, err
}

// Run returns count published hashes of a level that is a row's, from the first
// on.
func (t *Files) Run(level int, first, count int64) ([]byte, error) {
	if leaves := t.Leaves(); level < 0 || level/RowHeight >= Rows || first < 0 || first+count > leaves>>level {
		return nil, fmt.Errorf("no hashes %d to %d of level %d in a tree of %d entries", first, first+count-1, level, leaves)
	}
	data := make([]byte, count*hashSize)
	return data, t.read(data, level/RowHeight, first)
}
