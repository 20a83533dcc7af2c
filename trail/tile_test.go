package trail_test

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

func TestTilePathsAreThoseOfC2SP(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tile tlog.Tile
		path string
	}{
		{tlog.Tile{L: 0, N: 0, W: 256}, "tile/0/000"},
		{tlog.Tile{L: 0, N: 1234067, W: 256}, "tile/0/x001/x234/067"},
		{tlog.Tile{L: 0, N: 1067, W: 8}, "tile/0/x001/067.p/8"},
		{tlog.Tile{L: 1, N: 255, W: 255}, "tile/1/255.p/255"},
		{tlog.Tile{L: 5, N: 0, W: 1}, "tile/5/000.p/1"},
		{tlog.Tile{L: 63, N: 0, W: 1}, "tile/63/000.p/1"},
		{tlog.Tile{L: -1, N: 0, W: 256}, "tile/entries/000"},
		{tlog.Tile{L: -1, N: 1067, W: 112}, "tile/entries/x001/067.p/112"},
	} {
		if got := trail.TilePath(tt.tile); got != tt.path {
			t.Errorf("%+v: path %q, want %q", tt.tile, got, tt.path)
		}
		tt.tile.H = trail.TileHeight
		if got, err := trail.ParseTilePath(tt.path); err != nil || got != tt.tile {
			t.Errorf("%q: %+v, %v", tt.path, got, err)
		}
	}
}

func TestOtherPathsAreNoTiles(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/1067", "tile/0/x001/67", "tile/0/001/067",
		"tile/0/x000/067", "tile/00/000", "tile/-1/000", "tile/a/000", "tile/0/-01", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/08",
		"tile/0/000.p", "tile/0/000/", "/tile/0/000", "tile/8/0/000", "tile/data/000", "tile/entries/x", "tile/entries/", "tile/0/000.tmp", "tile/../0/000",
		"tile/0/x999999999999999999999/000",
	} {
		if got, err := trail.ParseTilePath(path); err == nil {
			t.Errorf("%q was read as %+v", path, got)
		}
	}
}

func FuzzParseTilePath(f *testing.F) {
	f.Add("tile/0/x001/067.p/8")
	f.Add("tile/entries/000")
	f.Add("tile/entries/x999/x999/999.p/255")
	f.Add("tile/63/000.p/256")
	f.Add("tile/data/000")
	f.Add("tile/entries/data/000")
	f.Add("tile/-1/000")
	f.Add("tile/0/x000/001.p/0")
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := trail.ParseTilePath(path)
		if err == nil && (trail.TilePath(tile) != path || tile.L < -1 || tile.N < 0 || tile.W < 1 || tile.W > trail.TileWidth) {
			t.Errorf("%q was read as %+v", path, tile)
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(trail.AppendBundled(trail.AppendBundled(nil, []byte("one")), nil))
	f.Add([]byte{0})
	f.Add([]byte{0, 5, 'x'})
	f.Add(make([]byte, 2*(trail.TileWidth+1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := trail.ParseBundle(data)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = trail.AppendBundled(again, e)
		}
		if !bytes.Equal(again, data) || len(entries) > trail.TileWidth {
			t.Errorf("%x comes back as %x, of %d entries", data, again, len(entries))
		}
	})
}

func TestABundleIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	var want [][]byte
	var data []byte
	for i := range trail.TileWidth {
		want = append(want, []byte(strings.Repeat("x", i*255)))
		data = trail.AppendBundled(data, want[i])
	}
	got, err := trail.ParseBundle(data)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("entry %d differs", i)
		}
	}
	if got, err := trail.ParseBundle(nil); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
	if got := trail.AppendBundled(nil, []byte("ab")); string(got) != "\x00\x02ab" {
		t.Errorf("written as %q", got)
	}
	for _, bad := range [][]byte{{0}, {0, 1}, data[:len(data)-1], trail.AppendBundled(data, nil)} {
		if _, err := trail.ParseBundle(bad); err == nil {
			t.Errorf("no error for %d bytes", len(bad))
		}
	}
}
