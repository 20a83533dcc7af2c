package verify

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// A tileDir is the hash tiles in a data directory. Only full tiles are there,
// and the newest may not be written yet.
type tileDir struct {
	dir  string
	last map[int]int64 // by level: the last tile, or -1
}

// listTiles looks which tiles there are.
func listTiles(dir string, rep *reporter) (*tileDir, error) {
	t := &tileDir{dir: dir, last: map[int]int64{0: -1}}
	var strays int
	err := filepath.WalkDir(filepath.Join(dir, trail.TileDir), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // or removed meanwhile
		}
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		tile, err := trail.ParseTilePath(filepath.ToSlash(name))
		if err != nil || tile.L < 0 || tile.L >= maxLevels || tile.W != trail.TileWidth || tile.N >= 1<<(62-trail.TileHeight*(tile.L+1)) {
			if strays++; strays == 1 {
				rep.note("%s is not a full hash tile", filepath.ToSlash(name))
			}
			return nil
		}
		if n, ok := t.last[tile.L]; !ok || tile.N > n {
			t.last[tile.L] = tile.N
		}
		return nil
	})
	if strays > 1 {
		rep.note("%d more files in %s are not full hash tiles", strays-1, trail.TileDir)
	}
	return t, err
}

// maxLevels bounds the levels of tiles: 256^7 entries and more do not exist.
const maxLevels = 7

// size returns how many entries the tiles tell of.
func (t *tileDir) size() int64 {
	size := int64(0)
	for level, n := range t.last {
		size = max(size, (n+1)<<(trail.TileHeight*(level+1)))
	}
	return size
}

// reader returns a function that reads tiles and reports to rep those that
// are missing or have a wrong length.
func (t *tileDir) reader(rep *reporter) func(level int, n int64) ([]trail.Hash, error) {
	return func(level int, n int64) ([]trail.Hash, error) {
		last, ok := t.last[level]
		if !ok || n > last {
			return nil, nil // it may have been written since
		}
		name := trail.TilePath(tileOf(level, n))
		first := n << (trail.TileHeight * (level + 1))
		f, err := os.Open(filepath.Join(t.dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			rep.add(TileMismatch, first, name, "the tile is missing, though later ones exist")
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, trail.TileWidth*tlog.HashSize+1))
		if err != nil {
			return nil, err
		}
		if len(data) != trail.TileWidth*tlog.HashSize {
			rep.add(TileMismatch, first, name, "the tile is not %d bytes long", trail.TileWidth*tlog.HashSize)
			return nil, nil
		}
		return splitHashes(data), nil
	}
}
