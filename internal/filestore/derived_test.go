package filestore_test

import (
	"bytes"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testdisk"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// TestWhatIsDerivedIsMadeAgainOrRefused does to the index, the tree's hashes and
// the offsets what a power cut can: they are cut, have sectors of zeros, are
// gone, or are those of an earlier moment, each by itself. The ledger then opens,
// or says why not and opens once it was reindexed; it serves no wrong record and
// no wrong proof, and the log is not blamed.
func TestWhatIsDerivedIsMadeAgainOrRefused(t *testing.T) {
	dir := filepath.Join(testdisk.MemoryDir(t), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	bed := newBed(t, dir, filestore.Options{SegmentSize: 32 << 10})
	const early, all = 260, 620
	r := bed.Start(t)
	r.AppendMany(0, early)
	r.Stop()
	old := load(t, dir)
	r = bed.Start(t)
	r.AppendMany(early, all-early)
	r.Stop()
	whole := load(t, dir)
	var names []string
	for name := range whole {
		if withoutIndex(name) || strings.HasPrefix(name, "tree/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	refused := 0
	for seed := range uint64(derivedHarms) {
		rng := mathrand.New(mathrand.NewPCG(seed, 9))
		for name, data := range whole { // and what the ledger before left is gone
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		for name := range load(t, dir) {
			if _, ok := whole[name]; !ok {
				if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
					t.Fatal(err)
				}
			}
		}
		var what string
		for range 1 + rng.IntN(3) {
			name := names[rng.IntN(len(names))]
			data, how := lose(rng, whole[name], old[name], strings.HasPrefix(name, "tree/"))
			what += name + " " + how + "; "
			path := filepath.Join(dir, filepath.FromSlash(name))
			err := os.Remove(path)
			if data != nil {
				err = os.WriteFile(path, data, 0o600)
			}
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		if r, err := bed.TryStart(t); err == nil {
			if serves(t, what, r, bed) {
				continue
			}
		} else if errors.Is(err, filestore.ErrTip) {
			t.Errorf("seed %d: %s: the log is blamed: %v", seed, what, err)
		}
		refused++
		if _, err := filestore.Reindex(dir, filestore.Options{Verifier: bed.Verifier, SegmentSize: 32 << 10}); err != nil {
			t.Errorf("seed %d: %s: reindex: %v", seed, what, err)
			continue
		}
		if !serves(t, what, bed.Start(t), bed) {
			t.Errorf("seed %d: %s: the index does not follow once it was made anew", seed, what)
		}
	}
	t.Logf("of %d harms %d were refused", derivedHarms, refused)
}

// TestOffsetsThatLeadElsewhereAreMadeAnew: whoever wrote into them stops neither
// the reading nor the following of the log.
func TestOffsetsThatLeadElsewhereAreMadeAnew(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{
		"to other records": func(data []byte) []byte { return slices.Concat(data[4:], data[:4]) },
		"to one record":    func(data []byte) []byte { return bytes.Repeat(data[:4], len(data)/4) },
		"nowhere":          func(data []byte) []byte { return bytes.Repeat([]byte{0xfe}, len(data)) },
	} {
		for _, indexed := range []bool{true, false} {
			dir := filepath.Join(testdisk.MemoryDir(t), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			bed := newBed(t, dir, filestore.Options{SegmentSize: 32 << 10})
			r := bed.Start(t)
			r.AppendMany(0, 300)
			r.Stop()
			files, err := filepath.Glob(filepath.Join(dir, "offsets", "*"))
			if err != nil || len(files) < 2 {
				t.Fatal(files, err)
			}
			for _, path := range files {
				data, err := os.ReadFile(path)
				if err == nil {
					err = os.WriteFile(path, harm(data), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if !indexed {
				if err := os.Remove(filepath.Join(dir, datadir.IndexFile)); err != nil {
					t.Fatal(err)
				}
			}
			r = bed.Start(t)
			size := r.Ledger.State().Size()
			if err := r.Store.Wait(t.Context(), size); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for first := size - 1; first >= 0; first -= 7 {
				if rec, err := r.Store.Record(t.Context(), first); err != nil || rec.Index != first {
					t.Fatalf("%s: record %d: %v", name, first, err)
				}
				next := first
				err := r.Store.Records(t.Context(), search.Range{First: first, End: size}, func(rec *trail.Record) error {
					if rec.Index != next {
						return fmt.Errorf("record %d comes as %d", rec.Index, next)
					}
					next++
					return nil
				})
				if err != nil || next != size {
					t.Fatalf("%s: records from %d on, up to %d: %v", name, first, next, err)
				}
			}
			r.Stop()
		}
	}
}

// lose returns what is left of a file; nil means that it is gone. One that may
// rot has a bit flipped at times.
func lose(rng *mathrand.Rand, data, old []byte, rots bool) ([]byte, string) {
	data = bytes.Clone(data)
	at := rng.IntN(len(data) + 1)
	if rots && rng.IntN(3) == 0 {
		at = rng.IntN(len(data))
		data[at] ^= 1 << rng.IntN(8)
		return data, fmt.Sprintf("has a bit flipped at %d", at)
	}
	switch rng.IntN(5) {
	case 0:
		return data[:at], fmt.Sprintf("is cut at %d", at)
	case 1:
		at -= at % testdisk.Sector
		clear(data[at:])
		return data, fmt.Sprintf("is zeros from %d on", at)
	case 2:
		at -= at % testdisk.Sector
		clear(data[at:min(at+testdisk.Sector*(1+rng.IntN(4)), len(data))])
		return data, fmt.Sprintf("has sectors of zeros at %d", at)
	case 3:
		return old, "is older"
	default:
		return nil, "is gone"
	}
}

// serves checks each record and its proof, that the ledger goes on, and that
// nothing but what is derived is found wrong with it. It reports whether the
// index follows, without which queries are refused.
func serves(t *testing.T, what string, r *storetest.Running, bed *storetest.Bed) (follows bool) {
	t.Helper()
	defer r.Stop()
	store := r.Store.(*filestore.Store)
	head := store.Head().Checkpoint
	leaves := []trail.Hash{} // nil where one cannot be read
	for index := range head.Size {
		rec, err := store.Record(t.Context(), index)
		if errors.Is(err, search.ErrChanged) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil {
			leaves = nil
			continue // it refuses
		}
		if leaves != nil {
			leaves = append(leaves, trail.LeafHash(rec.Entry))
		}
		if _, err := search.Prove(store, head, index, trail.LeafHash(rec.Entry)); errors.Is(err, search.ErrChanged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if leaves != nil {
		tilesAreRight(t, what, store, leaves)
	}
	if _, _, err := r.Ledger.Append(t.Context(), storetest.By, []*event.Event{storetest.Event(100_000)}); err != nil {
		t.Errorf("%s: it does not go on: %v", what, err)
	}
	follows = r.Store.Wait(t.Context(), r.Ledger.State().Size()) == nil
	report, err := r.Store.Verify(t.Context(), verify.Options{Keys: []note.Verifier{bed.Verifier}})
	if err != nil {
		t.Errorf("%s: verify: %v", what, err)
		report = &verify.Report{}
	}
	for _, f := range report.Findings {
		if f.Kind != verify.TileMismatch && f.Kind != verify.IndexMismatch {
			t.Errorf("%s: %s: entry %d: %s", what, f.Kind, f.Index, f.Message)
		}
	}
	return follows
}

// tilesAreRight demands of tiles of every width that they are right, or refused
// as what is derived.
func tilesAreRight(t *testing.T, what string, store *filestore.Store, leaves []trail.Hash) {
	t.Helper()
	head := store.Head().Checkpoint
	var above []trail.Hash
	for level := 0; len(leaves) > 0; level++ {
		var width trail.Tree
		for i, leaf := range leaves {
			width.Append(leaf, nil)
			tile := tlog.Tile{H: trail.TileHeight, L: level, N: int64(i / trail.TileWidth), W: i%trail.TileWidth + 1}
			data, err := store.Tile(tile, tlog.Tree{N: head.Size, Hash: head.Root})
			want := leaves[i/trail.TileWidth*trail.TileWidth : i+1]
			if err == nil && !bytes.Equal(data, concat(want)) {
				t.Fatalf("%s: a wrong tile is served: %s", what, trail.TilePath(tile))
			}
			if err != nil && !strings.Contains(err.Error(), "graven reindex") {
				t.Fatalf("%s: %s is refused without a hint: %v", what, trail.TilePath(tile), err)
			}
			if tile.W == trail.TileWidth {
				above, width = append(above, width.Root()), trail.Tree{}
			}
		}
		leaves, above = above, nil
	}
}

func concat(hashes []trail.Hash) (data []byte) {
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return data
}
