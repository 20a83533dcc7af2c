package verify_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// golden are the SHA-256 of the files of all golden ledgers. They were released,
// and stay as they are for ever: a line is only ever added here.
var golden = map[string]string{
	"testdata/v1/filtered.ndjson":                     "3e928309df1056a36b7332b6bf724175ebda74ed28dcaa29358e89cbbc68a994",
	"testdata/v1/whole.ndjson":                        "49c50f3cff3e63e4f65e7076e91b55af4021f18c76504dfead2dbab563f6e5d9",
	"testdata/v1/ledger/tip":                          "1417078b31b7b40813a5686484575eefdab1ee02f3a7d79d3987113b912e159e",
	"testdata/v1/ledger/keys/ledger.vkey":             "7e4db74339475063ffb88fa00e17b8b3517d5ed993cc50471524a021c9bbfe90",
	"testdata/v1/ledger/log/00000000000000000000.seg": "16c3b38f53f06cb9e6b73bceb7867c7201d19e299b24fdfdbf5b4cb4d41bd1f2",
	"testdata/v1/ledger/log/00000000000000000004.seg": "90a9e2006b56b0f0d6f84da1a4b0ba4a42e400ed507874a05709776cd642d51f",
}

func TestTheGoldenFilesAreThoseThatWereReleased(t *testing.T) {
	t.Parallel()
	found := map[string]string{}
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "fuzz" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		sum := sha256.Sum256(data)
		found[filepath.ToSlash(path)] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(found, golden) {
		t.Errorf("found %v\nwant  %v", found, golden)
	}
}

var write = flag.Bool("write", false, "write the golden ledger of this version; those that were written stay as they are")

// Ledgers that earlier versions have written are good for ever.
func TestLedgersOfEarlierVersionsAreGood(t *testing.T) {
	t.Parallel()
	const dir = "testdata/v1"
	if _, err := os.Stat(dir); *write && err == nil {
		t.Fatalf("%s was released and is not written again; write that of a new version beside it", dir)
	}
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
