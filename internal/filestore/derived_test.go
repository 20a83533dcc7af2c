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
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// TestWhatIsDerivedIsMadeAgainOrRefused does to the index, the tree's hashes and
// the offsets what a power cut can: they are cut, have sectors of zeros, are
// gone, or are those of an earlier moment, each by itself. The ledger then opens,
// or says why not and opens once it was reindexed; it serves no wrong record and
// no wrong proof, and the log is not blamed.
func TestWhatIsDerivedIsMadeAgainOrRefused(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "data")
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
			data, how := lose(rng, whole[name], old[name])
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

// lose returns what is left of a file; nil means that it is gone.
func lose(rng *mathrand.Rand, data, old []byte) ([]byte, string) {
	data = bytes.Clone(data)
	at := rng.IntN(len(data) + 1)
	switch rng.IntN(5) {
	case 0:
		return data[:at], fmt.Sprintf("is cut at %d", at)
	case 1:
		at -= at % sector
		clear(data[at:])
		return data, fmt.Sprintf("is zeros from %d on", at)
	case 2:
		at -= at % sector
		clear(data[at:min(at+sector*(1+rng.IntN(4)), len(data))])
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
	for index := range head.Size {
		rec, err := store.Record(t.Context(), index)
		if errors.Is(err, search.ErrChanged) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil {
			continue // it refuses
		}
		proof, err := tlog.ProveRecord(head.Size, index, store)
		if err == nil && tlog.CheckRecord(proof, head.Size, head.Root, index, trail.LeafHash(rec.Entry)) != nil {
			t.Errorf("%s: the proof of entry %d is wrong", what, index)
		}
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
