package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
)

// prune makes a directory and a whole export of a ledger whose first 256 entries
// were erased.
func prune(t *testing.T) (dir, vkey, export string) {
	t.Helper()
	dir = t.TempDir()
	b := storetest.NewBed(t, func(b *storetest.Bed) (storetest.Store, error) {
		return filestore.Open(dir, filestore.Options{Verifier: b.Verifier, SegmentSize: 64 << 10})
	})
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, trail.VKeyFile), []byte(b.VerifierKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x := b.Pruned(t, 300)
	size := x.Size()
	checkpoint := x.Ledger.State().Checkpoint
	var out []byte
	var before trail.Hash
	err := x.Present().Records(t.Context(), search.Range{End: size}, func(r *trail.Record) error {
		e, err := r.Event()
		out = (&trail.Line{Event: e, Record: *r, Previous: before}).Append(out)
		before = r.Chain
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	last, err := json.Marshal(trail.Trailer{Checkpoint: string(checkpoint.Note), Filter: map[string]string{}, Count: size})
	if err != nil {
		t.Fatal(err)
	}
	export = filepath.Join(t.TempDir(), "ledger.ndjson")
	if err := os.WriteFile(export, append(append(out, last...), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := x.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	x.Stop()
	return dir, b.VerifierKey, export
}

func TestItBelievesThatEntriesWereErasedWhereATombstoneSaysSo(t *testing.T) {
	dir, vkey, export := prune(t)
	for _, target := range []string{dir, export} {
		if code, text := verdict(target, "--key", vkey); code != 0 || !strings.Contains(text, "note: 255 of the entries below 256 were erased") {
			t.Errorf("exit code %d:\n%s", code, text)
		}
	}
	data, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(bytes.Lines(data))
	// edit returns the export with one line changed as a record is.
	edit := func(i int, change func(*trail.Record)) []byte {
		l, _, err := trail.ParseLine(bytes.TrimSuffix(lines[i], []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		change(&l.Record)
		if l.Event, err = l.Record.Event(); err != nil {
			t.Fatal(err)
		}
		other := slices.Clone(lines)
		other[i] = l.Append(nil)
		return bytes.Join(other, nil)
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"a leaf is changed", edit(9, func(r *trail.Record) { r.Leaf[0] ^= 1 }), "are not the "},
		{"the chain's last value is changed", edit(255, func(r *trail.Record) { r.Chain[0] ^= 1 }), "is not the one that the tombstone says"},
		{"an index is changed", edit(9, func(r *trail.Record) { r.Index ^= 1 }), "stands where entry 9 should"},
		{"another entry is gone", edit(270, func(r *trail.Record) {
			if *r, err = r.Prune(); err != nil {
				t.Fatal(err)
			}
		}), "entry 270: only the entry's hash is left, and no tombstone"},
		{"the tombstone is behind the end", bytes.Join(lines[:290], nil), "nothing in the export is signed"},
		{"it is an export by a filter", []byte(strings.Replace(string(data), `"filter":{}`, `"filter":{"type":"x"}`, 1)), "does not show that it matches"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.ndjson")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if code, text := verdict(path, "--key", vkey); code != 3 || !strings.Contains(text, tt.want) {
				t.Errorf("exit code %d, want %q:\n%.2000s", code, tt.want, text)
			}
		})
	}
}

func TestItAgreesWithTheOtherVerifierWhereEntriesWereErased(t *testing.T) {
	dir, _, export := prune(t)
	agree(t, dir, export)
}
