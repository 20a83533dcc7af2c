package tree

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxGroups bounds the groups of upper levels that are held in memory, of
	// 1 KiB each.
	maxGroups = 4096
	// cachedRow is the lowest row whose groups are worth holding.
	cachedRow = 2
)

// A groupID names the n-th 2^RowHeight hashes of a row.
type groupID struct {
	row int
	n   int64
}

// A group holds the hashes of a group's subtrees: nodes[k] are those of the
// row's level + k, as far as they are complete.
type group struct {
	nodes [RowHeight][1 << RowHeight]tlog.Hash
}

// ReadHashes implements [tlog.HashReader].
func (t *Files) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	var last groupID
	var in *group // that of last
	var own group
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		k := level % RowHeight
		id := groupID{level / RowHeight, n >> (RowHeight - k)}
		if in == nil || id != last {
			var err error
			if in, err = t.group(id, &own); err != nil {
				return nil, err
			}
			last = id
		}
		if size := t.Leaves(); n >= size>>level {
			return nil, fmt.Errorf("no subtree %d of level %d in a tree of %d entries", n, level, size)
		}
		out[i] = in.nodes[k][n-id.n<<(RowHeight-k)]
	}
	return out, nil
}

// group returns a group, as far as it is complete, in own if it is not held in
// memory.
func (t *Files) group(id groupID, own *group) (*group, error) {
	const width = 1 << RowHeight
	first := id.n * width
	count := min(t.Leaves()>>(id.row*RowHeight)-first, width)
	held := id.row >= cachedRow && count == width
	if held {
		t.cacheMu.Lock()
		g := t.cache[id]
		t.cacheMu.Unlock()
		if g != nil {
			return g, nil
		}
		own = new(group)
	}
	var data [width * hashSize]byte
	if err := t.read(data[:max(count, 0)*hashSize], id.row, first); err != nil {
		return nil, err
	}
	for i := range max(count, 0) {
		own.nodes[0][i] = tlog.Hash(data[i*hashSize:])
	}
	for k := 1; k < RowHeight; k++ {
		for i := range max(count, 0) >> k {
			own.nodes[k][i] = tlog.NodeHash(own.nodes[k-1][2*i], own.nodes[k-1][2*i+1])
		}
	}
	if held {
		t.cacheMu.Lock()
		for old := range t.cache { // any: the order of maps is random enough
			if len(t.cache) < maxGroups {
				break
			}
			delete(t.cache, old)
		}
		t.cache[id] = own
		t.cacheMu.Unlock()
	}
	return own, nil
}

// read reads published hashes of a row.
func (t *Files) read(data []byte, row int, first int64) error {
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
