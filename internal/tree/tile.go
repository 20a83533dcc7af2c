package tree

import "golang.org/x/mod/sumdb/tlog"

// tileHeight is the number of levels from one tile to the next.
const tileHeight = 2 * RowHeight

// Root returns the hash of a complete subtree, of which data are the hashes of a
// level.
func Root(data []byte) tlog.Hash {
	if len(data) == tlog.HashSize {
		return tlog.Hash(data)
	}
	return tlog.NodeHash(Root(data[:len(data)/2]), Root(data[len(data)/2:]))
}

// With returns a reader of the tree that r reads, in which the hashes of a level,
// from the first on, are those in data, and those above follow from them.
func With(r tlog.HashReader, level int, first int64, data []byte) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out, err := r.ReadHashes(indexes)
		for i := range out {
			if l, n := tlog.SplitStoredHashIndex(indexes[i]); l >= level && n<<(l-level) >= first {
				out[i] = Root(data[(n<<(l-level)-first)*tlog.HashSize:][:tlog.HashSize<<(l-level)])
			}
		}
		return out, err
	})
}

// IsTile reports whether data are the hashes of a tile of a tree, by its root:
// the tree that ends with them must be the beginning of that one. r reads the
// tree's hashes.
func IsTile(t tlog.Tile, data []byte, of tlog.Tree, r tlog.HashReader) (bool, error) {
	level, first := t.L*tileHeight, t.N<<tileHeight
	size := (first + int64(t.W)) << level
	ends, err := tlog.TreeHash(size, With(r, level, first, data))
	if err != nil {
		return false, err
	}
	proof, err := tlog.ProveTree(of.N, size, r)
	return err == nil && tlog.CheckTree(proof, of.N, of.Hash, size, ends) == nil, err
}
