package trail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Tiles and bundles hold up to TileWidth hashes or entries.
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight
)

// TilePath returns the path of a hash tile or, where t.L is -1, of an entry
// bundle, as C2SP tlog-tiles has it: "tile/0/x001/067" or
// "tile/entries/000.p/12".
func TilePath(t tlog.Tile) string {
	t.H = TileHeight
	path := strings.TrimPrefix(t.Path(), "tile/"+strconv.Itoa(TileHeight)+"/")
	return "tile/" + strings.Replace(path, "data/", "entries/", 1)
}

// ParseTilePath reads what [TilePath] writes.
func ParseTilePath(path string) (tlog.Tile, error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || strings.HasPrefix(rest, "data/") {
		return tlog.Tile{}, fmt.Errorf("not a tile path: %.100q", path)
	}
	if after, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + after
	}
	t, err := tlog.ParseTilePath("tile/" + strconv.Itoa(TileHeight) + "/" + rest)
	if err != nil {
		return tlog.Tile{}, fmt.Errorf("not a tile path: %.100q", path)
	}
	return t, nil
}

// AppendBundled appends an entry as it stands in an entry bundle: behind its
// length as a big-endian uint16.
func AppendBundled(dst, entry []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(entry)))
	return append(dst, entry...)
}

// ParseBundle returns the entries of a bundle. They share its memory.
func ParseBundle(data []byte) ([][]byte, error) {
	var entries [][]byte
	for len(data) > 0 {
		if len(data) < 2 {
			return nil, errors.New("entry bundle: cut off")
		}
		n := int(binary.BigEndian.Uint16(data))
		if len(data) < 2+n {
			return nil, errors.New("entry bundle: cut off")
		}
		entries = append(entries, data[2:2+n])
		data = data[2+n:]
	}
	if len(entries) > TileWidth {
		return nil, fmt.Errorf("entry bundle: %d entries, the limit is %d", len(entries), TileWidth)
	}
	return entries, nil
}
