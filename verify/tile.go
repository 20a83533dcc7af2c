package verify

import (
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// A forest is a tree with the hashes that make up its newest tiles, from
// tile level 1 on. Those of level 0 are the leaves.
type forest struct {
	trail.Tree
	growing [][]trail.Hash // by level, from 1 on: of the tile that is not full
	full    []tileHashes   // not yet held against the tiles
}

type tileHashes struct {
	level  int
	n      int64
	hashes []trail.Hash
}

func (f *forest) grow(leaf trail.Hash) { f.Append(leaf, f.complete) }

func (f *forest) complete(level int, n int64, h trail.Hash) {
	if level == 0 || level%trail.TileHeight != 0 {
		return
	}
	level /= trail.TileHeight
	if len(f.growing) < level {
		f.growing = append(f.growing, nil)
	}
	g := append(f.growing[level-1], h)
	if len(g) == trail.TileWidth {
		f.full = append(f.full, tileHashes{level, n / trail.TileWidth, g})
		g = nil
	}
	f.growing[level-1] = g
}

func (f *forest) clone() *forest {
	c := &forest{Tree: f.Tree, full: slices.Clone(f.full)}
	for _, g := range f.growing {
		c.growing = append(c.growing, slices.Clone(g))
	}
	return c
}

// closeTiles takes the tiles that are not full for what they are.
func (f *forest) closeTiles() {
	for l, g := range f.growing {
		if len(g) > 0 {
			before := f.Size() >> (trail.TileHeight * (l + 2)) // full ones of its level
			f.full = append(f.full, tileHashes{l + 1, before, g})
		}
	}
}

// checkTiles holds the hashes above the leaves against the tiles.
func (a *assembly) checkTiles() error {
	for _, t := range a.asStands.full {
		found, err := a.tile(t.level, t.n)
		if err != nil {
			return err
		}
		faults := tileFaults{level: t.level}
		for k, h := range t.hashes {
			if k < len(found) && found[k] != h {
				faults.add(t.n*trail.TileWidth + int64(k))
			}
		}
		faults.report(a.rep)
	}
	a.asStands.full = nil
	return nil
}

// tileFaults gathers wrong hashes of tiles of one level, so that one finding
// stands for each tile. Hashes must come in order.
type tileFaults struct {
	level int
	runs  []faultRun
}

type faultRun struct{ first, count int64 }

func (t *tileFaults) add(n int64) {
	if last := len(t.runs) - 1; last >= 0 && t.runs[last].first/trail.TileWidth == n/trail.TileWidth {
		t.runs[last].count++
		return
	}
	t.runs = append(t.runs, faultRun{n, 1})
}

func (t *tileFaults) report(rep *reporter) {
	for _, r := range t.runs {
		tile := tileOf(t.level, r.first/trail.TileWidth)
		at := place{trail.TilePath(tile), r.first % trail.TileWidth * tlog.HashSize}
		rep.add(TileMismatch, r.first<<(trail.TileHeight*t.level), at.String(), "%d %s of the tile %s not that of the entries",
			r.count, plural(r.count, "hash", "hashes"), plural(r.count, "is", "are"))
	}
}

func tileOf(level int, n int64) tlog.Tile {
	return tlog.Tile{H: trail.TileHeight, L: level, N: n, W: trail.TileWidth}
}

// splitHashes reads the content of a tile; of nil it makes nil.
func splitHashes(data []byte) []trail.Hash {
	if data == nil {
		return nil
	}
	hashes := make([]trail.Hash, len(data)/tlog.HashSize)
	for i := range hashes {
		copy(hashes[i][:], data[i*tlog.HashSize:])
	}
	return hashes
}
