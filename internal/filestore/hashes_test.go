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
	of := tlog.Tree{N: r.Ledger.State().Size(), Hash: r.Ledger.State().Checkpoint.Root}
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
	if err := s.Pick(t.Context(), []int64{11, 10, 9}, func(*trail.Record) error { return nil }); err != nil {
		t.Errorf("entry 10 among others: %v", err)
	}
	if _, err := s.Tile(tlog.Tile{H: trail.TileHeight, L: 0, N: 0, W: trail.TileWidth}, of); !errors.Is(err, search.ErrHashes) {
		t.Errorf("the tile with the hash: %v", err)
	}
	if _, err := s.Tile(tlog.Tile{H: trail.TileHeight, L: 0, N: 1, W: trail.TileWidth}, of); err != nil {
		t.Errorf("another tile: %v", err)
	}
}

// TestAWrongHashIsServedInNoTile damages each hash of a running ledger's tree in
// turn: every tile that has it is refused, of whatever width, and the record is
// not blamed.
func TestAWrongHashIsServedInNoTile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newBed(t, dir, filestore.Options{}).Start(t)
	r.AppendMany(0, 301)
	s := r.Store.(*filestore.Store)
	head := r.Ledger.State().Checkpoint
	if err := s.Wait(t.Context(), head.Size); err != nil {
		t.Fatal(err)
	}
	of := tlog.Tree{N: head.Size, Hash: head.Root}
	flip := func(row int, at int64) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, tree.Dir, tree.Name(row)), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	for index := range head.Size {
		flip(0, index*32+index%32)
		n := index / trail.TileWidth
		least := int(index%trail.TileWidth) + 1
		for _, w := range []int{least, least + 1, 17, 45, 200, trail.TileWidth} {
			tile := tlog.Tile{H: trail.TileHeight, L: 0, N: n, W: w}
			if w < least || w > trail.TileWidth || n*trail.TileWidth+int64(w) > head.Size {
				continue
			}
			if _, err := s.Tile(tile, of); !errors.Is(err, search.ErrHashes) {
				t.Errorf("%s, where hash %d is wrong: %v", trail.TilePath(tile), index, err)
			}
		}
		if _, err := s.Record(t.Context(), index); err != nil {
			t.Errorf("entry %d, whose hash is wrong: %v", index, err)
		}
		flip(0, index*32+index%32)
	}
	for n := range head.Size >> 8 {
		flip(2, n*32)
		if _, err := s.Tile(tlog.Tile{H: trail.TileHeight, L: 1, N: 0, W: int(head.Size >> 8)}, of); !errors.Is(err, search.ErrHashes) {
			t.Errorf("level 1, where hash %d is wrong: %v", n, err)
		}
		flip(2, n*32)
	}
	for _, tile := range []tlog.Tile{{L: 0, N: 0, W: 256}, {L: 0, N: 0, W: 3}, {L: 0, N: 1, W: 45}, {L: 0, N: 1, W: 1}, {L: 1, N: 0, W: 1}} {
		if _, err := s.Tile(tile, of); err != nil {
			t.Errorf("%s, where all is right: %v", trail.TilePath(tile), err)
		}
	}
}
