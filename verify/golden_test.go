package verify_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

var write = flag.Bool("write", false, "write the golden ledger of this version; those that were written stay as they are")

// Ledgers that earlier versions have written are good for ever.
func TestLedgersOfEarlierVersionsAreGood(t *testing.T) {
	t.Parallel()
	const dir = "testdata/v1"
	if *write {
		l := newLedger(t, 1, 1, 3, 0, 5, 1)
		for name, data := range l.image(t) {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, "ledger", name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "ledger", name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for name, lines := range map[string][]string{"whole.ndjson": l.export(t), "filtered.ndjson": l.filtered(t, 2, 4, 5)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "")), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	const root = "pUcytXu6UFECdO6D1OhIvPY4DQibHv2+MmEU8MVEIHw="
	vkey, err := os.ReadFile(filepath.Join(dir, "ledger", trail.VKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	key, err := trail.ParseKey(strings.TrimSpace(string(vkey)))
	if err != nil {
		t.Fatal(err)
	}
	o := verify.Options{Keys: []note.Verifier{key}}
	reports := map[string]*verify.Report{"ledger": checkDir(t, filepath.Join(dir, "ledger"), o)}
	for _, name := range []string{"whole.ndjson", "filtered.ndjson"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if reports[name], err = verify.Export(context.Background(), f, o); err != nil {
			t.Fatal(err)
		}
	}
	entries := map[string]int64{"ledger": 10, "whole.ndjson": 10, "filtered.ndjson": 3}
	for name, r := range reports {
		if !r.OK() || !r.Authenticated || r.Size != 10 || r.Root.String() != root || r.Entries != entries[name] || r.Origin != "ledger.example/prod" {
			t.Errorf("%s: %+v\n%s", name, r, describe(r))
		}
	}
}
