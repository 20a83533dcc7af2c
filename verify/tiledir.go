package verify

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// maxLevels bounds the levels of tiles: there are no ledgers of 256^7 entries.
const maxLevels = 7

// listTiles looks which hash tiles there are. Only full ones are on disk, and
// the newest may not be written yet.
func (d *directory) listTiles() error {
	d.tiles = map[int]int64{0: -1}
	strays := int64(0)
	err := filepath.WalkDir(filepath.Join(d.path, trail.TileDir), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // or removed meanwhile
		}
		if err != nil || entry.IsDir() || filepath.Ext(path) == ".tmp" { // which is being written
			return err
		}
		name, err := filepath.Rel(d.path, path)
		if err != nil {
			return err
		}
		t, err := trail.ParseTilePath(filepath.ToSlash(name))
		if err != nil || t.L < 0 || t.L >= maxLevels || t.W != trail.TileWidth || t.N >= 1<<(62-trail.TileHeight*(t.L+1)) {
			strays++
			return nil
		}
		if n, ok := d.tiles[t.L]; !ok || t.N > n {
			d.tiles[t.L] = t.N
		}
		return nil
	})
	if strays > 0 {
		d.rep.note("%d %s in %s %s not a full hash tile", strays, plural(strays, "file", "files"), trail.TileDir, plural(strays, "is", "are each"))
	}
	return err
}

// tile reads a tile, and reports to rep one that is missing or has a wrong
// length. It returns nil where there is none.
func (d *directory) tile(rep *reporter, level int, n int64) ([]trail.Hash, error) {
	if last, ok := d.tiles[level]; !ok || n > last {
		return nil, nil // it may have been written since
	}
	const size = trail.TileWidth * tlog.HashSize
	name, first := trail.TilePath(tileOf(level, n)), n<<(trail.TileHeight*(level+1))
	data, err := d.readFile(name, size)
	switch {
	case err != nil:
		return nil, err
	case data == nil:
		rep.add(TileMismatch, first, name, "the tile is missing, though later ones exist")
	case len(data) != size:
		rep.add(TileMismatch, first, name, "the tile is not %d bytes long", size)
	default:
		return splitHashes(data), nil
	}
	return nil, nil
}
