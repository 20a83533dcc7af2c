package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	edge [8]partial // edge[l] is the partial tile of level l

	cacheMu   sync.Mutex
	cache     map[tlog.Tile][]byte
	summaries map[tlog.Tile]*summary
}

var _ tlog.HashReader = (*tiles)(nil)

// Bounds of what is held in memory: full tiles of 8 KiB, summaries of 2 KiB.
const (
	maxCached    = 2048
	maxSummaries = 4096
)

// A partial is a tile that is not full, with the hashes of the subtrees that
// are complete in it: nodes[k] holds those of 2^k hashes.
type partial struct {
	nodes [trail.TileHeight + 1][]trail.Hash
}

// add adds a hash.
func (p *partial) add(h trail.Hash) {
	for k := range p.nodes {
		p.nodes[k] = append(p.nodes[k], h)
		n := len(p.nodes[k])
		if n%2 == 1 {
			return
		}
		h = tlog.NodeHash(p.nodes[k][n-2], h)
	}
}

func (p *partial) hashes() []trail.Hash { return p.nodes[0] }

func (p *partial) reset() {
	for k := range p.nodes {
		p.nodes[k] = p.nodes[k][:0]
	}
}

func (p *partial) clone() partial {
	var c partial
	for k := range p.nodes {
		c.nodes[k] = slices.Clone(p.nodes[k])
	}
	return c
}

// A summary holds the upper hashes within a full tile: nodes[k] those of
// 2^(summaryLevel+k) hashes. The lower ones are quickly computed.
type summary struct {
	nodes [trail.TileHeight - summaryLevel][]trail.Hash
}

const summaryLevel = 3

// resumeTiles returns the tiles of a tree of the given size. leaves holds the
// leaf hashes of its partial tile of level 0.
func resumeTiles(dir string, size int64, leaves []trail.Hash) (*tiles, error) {
	t := &tiles{dir: dir, cache: map[tlog.Tile][]byte{}, summaries: map[tlog.Tile]*summary{}}
	for _, h := range leaves {
		t.edge[0].add(h)
	}
	for level := 1; level < len(t.edge); level++ {
		complete := size >> (level * trail.TileHeight)
		for n := complete - complete%trail.TileWidth; n < complete; n++ {
			data, err := t.load(tlog.Tile{H: trail.TileHeight, L: level - 1, N: n, W: trail.TileWidth})
			if err != nil {
				return nil, err
			}
			t.edge[level].add(subtree(data))
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

// subtree returns the root of a complete tree over hashes, whose number is a
// power of two.
func subtree(data []byte) trail.Hash {
	if len(data) == len(trail.Hash{}) {
		return trail.Hash(data)
	}
	half := len(data) / 2
	return tlog.NodeHash(subtree(data[:half]), subtree(data[half:]))
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
		p := &t.edge[l]
		p.add(h)
		if len(p.hashes()) == trail.TileWidth {
			err = t.write(tlog.Tile{H: trail.TileHeight, L: l, N: n / trail.TileWidth, W: trail.TileWidth}, p.hashes())
			p.reset()
		}
	})
	return err
}

// A treeState is the tree's edge at one moment.
type treeState struct {
	tree trail.Tree
	edge [8]partial
}

func (t *tiles) snapshot() treeState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	state := treeState{tree: t.tree}
	for l := range t.edge {
		state.edge[l] = t.edge[l].clone()
	}
	return state
}

func (t *tiles) restore(state treeState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tree, t.edge = state.tree, state.edge
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
		var err error
		if out[i], err = t.hash(tlog.SplitStoredHashIndex(x)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// hash returns the hash of the n-th subtree of 2^level leaves.
func (t *tiles) hash(level int, n int64) (trail.Hash, error) {
	l, k := level/trail.TileHeight, level%trail.TileHeight
	tile := tlog.Tile{H: trail.TileHeight, L: l, N: n >> (trail.TileHeight - k), W: trail.TileWidth}
	at := int(n - tile.N<<(trail.TileHeight-k)) // within the tile
	t.mu.RLock()
	if complete := t.tree.Size() >> level; n >= complete {
		defer t.mu.RUnlock()
		return trail.Hash{}, fmt.Errorf("no subtree %d of level %d in a tree of %d entries", n, level, t.tree.Size())
	}
	if l < len(t.edge) && tile.N == t.tree.Size()>>(l*trail.TileHeight)/trail.TileWidth {
		defer t.mu.RUnlock()
		return t.edge[l].nodes[k][at], nil
	}
	t.mu.RUnlock()
	if k >= summaryLevel {
		s, err := t.summary(tile)
		if err != nil {
			return trail.Hash{}, err
		}
		return s.nodes[k-summaryLevel][at], nil
	}
	data, err := t.load(tile)
	if err != nil {
		return trail.Hash{}, err
	}
	const size = len(trail.Hash{})
	return subtree(data[at<<k*size : (at+1)<<k*size]), nil
}

// summary returns the upper hashes within a full tile.
func (t *tiles) summary(tile tlog.Tile) (*summary, error) {
	t.cacheMu.Lock()
	s := t.summaries[tile]
	t.cacheMu.Unlock()
	if s != nil {
		return s, nil
	}
	data, err := t.load(tile)
	if err != nil {
		return nil, err
	}
	s = &summary{}
	const step = len(trail.Hash{}) << summaryLevel
	for at := 0; at < len(data); at += step {
		s.nodes[0] = append(s.nodes[0], subtree(data[at:at+step]))
	}
	for k := 1; k < len(s.nodes); k++ {
		below := s.nodes[k-1]
		for i := 0; i < len(below); i += 2 {
			s.nodes[k] = append(s.nodes[k], tlog.NodeHash(below[i], below[i+1]))
		}
	}
	t.cacheMu.Lock()
	evict(t.summaries, maxSummaries)
	t.summaries[tile] = s
	t.cacheMu.Unlock()
	return s, nil
}

// evict makes room for one more in a map.
func evict[V any](m map[tlog.Tile]V, limit int) {
	for old := range m { // any: the order of maps is random enough
		if len(m) < limit {
			return
		}
		delete(m, old)
	}
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
	if tile.L < len(t.edge) {
		complete := t.tree.Size() >> (tile.L * trail.TileHeight)
		if tile.N*trail.TileWidth+int64(tile.W) > complete {
			t.mu.RUnlock()
			return nil, fmt.Errorf("no tile %s in a tree of %d entries", trail.TilePath(tile), t.tree.Size())
		}
		if tile.N == complete/trail.TileWidth {
			data := make([]byte, 0, tile.W*len(trail.Hash{}))
			for _, h := range t.edge[tile.L].hashes()[:tile.W] {
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
	evict(t.cache, maxCached)
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
