package verify

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
)

// openRows opens the files of the tree's hashes. A server may be writing to
// them: what stands there now counts.
func (d *directory) openRows() error {
	var err error
	d.rows, err = tree.Open(filepath.Join(d.path, tree.Dir), os.O_RDONLY)
	return err
}

// checkRows reports rows that lack what those above them tell of.
func (d *directory) checkRows() {
	for row := range tree.Rows {
		count, torn := d.rows.Count(row)
		at, above := rowPlace(row, count), int64(0)
		if row+1 < tree.Rows {
			above, _ = d.rows.Count(row + 1)
		}
		switch least := tree.First(1, above); {
		case torn:
			d.rep.add(TileMismatch, tree.First(row, count), at.String(), "%s ends within a hash", at.file)
		case count < least:
			d.rep.add(TileMismatch, tree.First(row, count), at.String(), "%s holds %d hashes, but the level above tells of %d", at.file, count, least)
		}
	}
}

// run returns up to 256 hashes of a row.
func (d *directory) run(row int, n int64) ([]trail.Hash, error) {
	first := n * trail.TileWidth
	count, _ := d.rows.Count(row)
	data := make([]byte, max(min(count-first, trail.TileWidth), 0)*tlog.HashSize)
	k, err := d.rows.Read(data, row, first)
	if errors.Is(err, io.EOF) { // it was cut meanwhile
		err = nil
	}
	return tree.Hashes(data[:k]), err
}

// rowPlace returns where a row's hash stands.
func rowPlace(row int, n int64) place {
	return place{tree.Dir + "/" + tree.Name(row), n * tlog.HashSize}
}
