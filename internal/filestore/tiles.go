package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// tiles keeps the Merkle tree: full tiles in files, the right edge in memory.
type tiles struct {
	dir     string
	replace bool // overwrite tiles that disagree, instead of refusing

	mu   sync.RWMutex
	tree trail.Tree
	rows [8][]trail.Hash // rows[l] holds the partial tile of level l

	cacheMu sync.Mutex
	cache   map[tlog.Tile][]byte
}

var _ tlog.HashReader = (*tiles)(nil)

// maxCached bounds the full tiles held in memory, 8 KiB each.
const maxCached = 512

// resumeTiles returns the tiles of a tree of the given size. leaves holds the
// leaf hashes of its partial tile of level 0.
func resumeTiles(dir string, size int64, leaves []trail.Hash) (*tiles, error) {
	t := &tiles{dir: dir, cache: map[tlog.Tile][]byte{}}
	t.rows[0] = leaves
	for level := 1; level < len(t.rows); level++ {
		complete := size >> (level * trail.TileHeight)
		for n := complete - complete%trail.TileWidth; n < complete; n++ {
			data, err := t.load(tlog.Tile{H: trail.TileHeight, L: level - 1, N: n, W: trail.TileWidth})
			if err != nil {
				return nil, err
			}
			var sub trail.Tree
			for i := 0; i < len(data); i += len(trail.Hash{}) {
				sub.Append(trail.Hash(data[i:]), nil)
			}
			t.rows[level] = append(t.rows[level], sub.Root())
		}
	}
	t.tree = sized(size)
	tree, err := trail.ResumeTree(size, t)
	if err != nil {
		return nil, err
	}
	t.tree = *tree
	return t, nil
}

// sized returns a tree that knows only its size.
func sized(size int64) trail.Tree {
	tree, _ := trail.ResumeTree(size, tlog.HashReaderFunc(func(indexes []int64) ([]trail.Hash, error) {
		return make([]trail.Hash, len(indexes)), nil
	}))
	return *tree
}

// append adds a leaf, and writes the tiles that it fills.
func (t *tiles) append(leaf trail.Hash) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tree.Append(leaf, func(level int, n int64, h trail.Hash) {
		l := level / trail.TileHeight
		if level%trail.TileHeight != 0 || err != nil {
			return
		}
		t.rows[l] = append(t.rows[l], h)
		if len(t.rows[l]) == trail.TileWidth {
			err = t.write(tlog.Tile{H: trail.TileHeight, L: l, N: n / trail.TileWidth, W: trail.TileWidth}, t.rows[l])
			t.rows[l] = t.rows[l][:0]
		}
	})
	return err
}

// A treeState is the tree's edge at one moment.
type treeState struct {
	tree trail.Tree
	rows [8][]trail.Hash
}

func (t *tiles) snapshot() treeState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	state := treeState{tree: t.tree}
	for l, row := range t.rows {
		state.rows[l] = append([]trail.Hash(nil), row...)
	}
	return state
}

func (t *tiles) restore(state treeState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tree, t.rows = state.tree, state.rows
}

// write stores a full tile. One that is there already must be the same.
func (t *tiles) write(tile tlog.Tile, hashes []trail.Hash) error {
	data := make([]byte, 0, len(hashes)*len(trail.Hash{}))
	for i := range hashes {
		data = append(data, hashes[i][:]...)
	}
	path := t.path(tile)
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, data):
		return nil
	case err == nil && len(old) == len(data) && !t.replace:
		return fmt.Errorf("%w: %s disagrees with the log", ErrTip, trail.TilePath(tile))
	}
	tmp := path + ".tmp"
	err = os.WriteFile(tmp, data, 0o600)
	if errors.Is(err, os.ErrNotExist) { // the first tile of its directory
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.WriteFile(tmp, data, 0o600)
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// ReadHashes implements [tlog.HashReader].
func (t *tiles) ReadHashes(indexes []int64) ([]trail.Hash, error) {
	out := make([]trail.Hash, len(indexes))
	for i, x := range indexes {
		tile := tlog.TileForIndex(trail.TileHeight, x)
		data, err := t.data(tile)
		if err != nil {
			return nil, err
		}
		if out[i], err = tlog.HashFromTile(tile, data, x); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// leaf returns the hash of an entry; known is false where it was not derived yet.
func (t *tiles) leaf(index int64) (h trail.Hash, known bool, err error) {
	t.mu.RLock()
	size := t.tree.Size()
	t.mu.RUnlock()
	if index >= size {
		return h, false, nil
	}
	first := index - index%trail.TileWidth
	data, err := t.data(tlog.Tile{H: trail.TileHeight, N: first / trail.TileWidth, W: int(min(trail.TileWidth, size-first))})
	if err != nil {
		return h, false, err
	}
	copy(h[:], data[(index-first)*int64(len(h)):])
	return h, true, nil
}

// data returns the hashes of a tile, full or partial.
func (t *tiles) data(tile tlog.Tile) ([]byte, error) {
	t.mu.RLock()
	if tile.L < len(t.rows) {
		complete := t.tree.Size() >> (tile.L * trail.TileHeight)
		if tile.N*trail.TileWidth+int64(tile.W) > complete {
			t.mu.RUnlock()
			return nil, fmt.Errorf("no tile %s in a tree of %d entries", trail.TilePath(tile), t.tree.Size())
		}
		if tile.N == complete/trail.TileWidth {
			data := make([]byte, 0, tile.W*len(trail.Hash{}))
			for _, h := range t.rows[tile.L][:tile.W] {
				data = append(data, h[:]...)
			}
			t.mu.RUnlock()
			return data, nil
		}
	}
	t.mu.RUnlock()
	full := tile
	full.W = trail.TileWidth
	data, err := t.load(full)
	if err != nil {
		return nil, err
	}
	return data[:tile.W*len(trail.Hash{})], nil
}

// load reads a full tile.
func (t *tiles) load(tile tlog.Tile) ([]byte, error) {
	t.cacheMu.Lock()
	data, ok := t.cache[tile]
	t.cacheMu.Unlock()
	if ok {
		return data, nil
	}
	data, err := os.ReadFile(t.path(tile))
	if err == nil && len(data) != trail.TileWidth*len(trail.Hash{}) {
		err = fmt.Errorf("%d bytes", len(data))
	}
	if err != nil {
		return nil, fmt.Errorf("read tile %s (graven reindex makes it anew): %w", trail.TilePath(tile), err)
	}
	t.cacheMu.Lock()
	if len(t.cache) >= maxCached {
		for old := range t.cache { // any: the order of maps is random enough
			delete(t.cache, old)
			break
		}
	}
	t.cache[tile] = data
	t.cacheMu.Unlock()
	return data, nil
}

func (t *tiles) path(tile tlog.Tile) string {
	return filepath.Join(t.dir, filepath.FromSlash(trail.TilePath(tile)))
}

// exists reports whether a full tile was written.
func (t *tiles) exists(tile tlog.Tile) bool {
	_, err := os.Stat(t.path(tile))
	return err == nil
}
