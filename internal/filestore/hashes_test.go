package filestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
)

// TestAHashThatWasChangedIsNotTakenForARecord: the record is served, and a tile
// with the hash is not, for clients keep tiles for ever.
func TestAHashThatWasChangedIsNotTakenForARecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newBed(t, dir, filestore.Options{}).Start(t)
	r.AppendMany(0, 600)
	s := r.Store.(*filestore.Store)
	if err := s.Wait(t.Context(), r.Ledger.State().Size()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, tree.Dir, tree.Name(0)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], 32*10+3); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], 32*10+3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Record(t.Context(), 10); err != nil {
		t.Errorf("entry 10: %v", err)
	}
	if _, err := s.Tile(tlog.Tile{H: trail.TileHeight, L: 0, N: 0, W: trail.TileWidth}); !errors.Is(err, search.ErrHashes) {
		t.Errorf("the tile with the hash: %v", err)
	}
	if _, err := s.Tile(tlog.Tile{H: trail.TileHeight, L: 0, N: 1, W: trail.TileWidth}); err != nil {
		t.Errorf("another tile: %v", err)
	}
}
