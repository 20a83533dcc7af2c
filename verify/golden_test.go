package verify_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/tombstone"
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

	"testdata/v2/filtered.ndjson":                     "d62d4302b37e64b1c2965788efe00055dd977e446c7fc608926f91852c46822a",
	"testdata/v2/ledger/format":                       "53c234e5e8472b6ac51c1ae1cab3fe06fad053beb8ebfd8977b010655bfdd3c3",
	"testdata/v2/ledger/keys/ledger.vkey":             "7e4db74339475063ffb88fa00e17b8b3517d5ed993cc50471524a021c9bbfe90",
	"testdata/v2/ledger/log/00000000000000000000.seg": "2ec80a62db33a49140a2a871cf780ce4127a7d74158e8791b7d07881397a8ea7",
	"testdata/v2/ledger/log/00000000000000000200.seg": "c97fa06a9b3506cd353bb892495c50cb8e3fc2d2c9ae3e6820e14829d358de86",
	"testdata/v2/ledger/log/00000000000000000270.seg": "6cb6919199deaa8118e26d44be367e37c7fbf21ffa7b4a963f28ab5956a9d157",
	"testdata/v2/ledger/tip":                          "f02db456e8b8d47898118e2564ad5f0b691b75d3c1dbe0a3974f3c382120144c",
	"testdata/v2/ledger/tree/00":                      "1cfcf8824f428ac9d4efbcc765ce52b8657b835c876037e23d81d51f782e313b",
	"testdata/v2/ledger/tree/04":                      "54ac6e2a7ce84b54afd6f411c4ecaf049ed923bc0e1e6f7f9b9c1823953cdd00",
	"testdata/v2/ledger/tree/08":                      "bae93dde288944fcc3dea1253f92a40243bf2af6bbe8a8554ec62b2b1b1dbf72",
	"testdata/v2/whole.ndjson":                        "9f42691f0bfa7a2a8e1ae005966dc171d6a552fec756a5317883b8c01822b2c0",
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

var write = flag.Bool("write", false, "write the golden ledger of a new version; those that were written stay as they are")

// versions are the golden ledgers, by the format of their directory: one, and one
// in which entries and content were erased.
var versions = []struct {
	dir, root string
	// entries are how many of them the ledger has, and pruned how many of those
	// are gone. An export by a filter has those at filtered.
	entries, pruned int64
	filtered        []int
	// erased are those that have lost their content only.
	erased []int64
	// make returns the ledger. What stands in the directory was made by the code
	// of its time.
	make func(t *testing.T) *ledger
}{
	{"testdata/v1", "pUcytXu6UFECdO6D1OhIvPY4DQibHv2+MmEU8MVEIHw=", 10, 0, []int{2, 4, 5}, nil, func(t *testing.T) *ledger {
		return newLedger(t, 1, 1, 3, 0, 5, 1)
	}},
	{"testdata/v2", "CXPLK9g5PKAQ3wD0WPmWOzd97U4Q7TC7eyGlvrpks0s=", 277, 256, []int{258, 261, 276}, []int64{260, 261, 262}, func(t *testing.T) *ledger {
		l := newLedger(t, 2, 1, 199, 0, 70, 0, 6)
		l.append(t, l.stone(t, func(s *tombstone.Tombstone) {
			s.AsOf, s.Kept, s.Details = 276, 1, []tombstone.Run{{First: 260, Count: 3}}
		}))
		l.seal(t)
		l.prune(t)
		return l
	}},
}

// Ledgers that earlier versions have written are good for ever.
func TestLedgersOfEarlierVersionsAreGood(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		if _, err := os.Stat(v.dir); *write && os.IsNotExist(err) {
			l := v.make(t)
			i := l.image(t)
			if v.pruned > 0 {
				i[datadir.FormatFile] = []byte("2\n")
			}
			i.eraseFrames(t, v.erased...)
			for _, index := range v.erased {
				l.erase(int(index))
			}
			files := map[string][]byte{"whole.ndjson": []byte(strings.Join(l.export(t), "")), "filtered.ndjson": []byte(strings.Join(l.filtered(t, v.filtered...), ""))}
			for name, data := range i {
				files["ledger/"+name] = data
			}
			for name, data := range files {
				path := filepath.Join(v.dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
		}
		vkey, err := os.ReadFile(filepath.Join(v.dir, "ledger", trail.VKeyFile))
		if err != nil {
			t.Fatal(err)
		}
		key, err := trail.ParseKey(strings.TrimSpace(string(vkey)))
		if err != nil {
			t.Fatal(err)
		}
		o := verify.Options{Keys: []note.Verifier{key}}
		reports := map[string]*verify.Report{"ledger": checkDir(t, filepath.Join(v.dir, "ledger"), o)}
		for _, name := range []string{"whole.ndjson", "filtered.ndjson"} {
			f, err := os.Open(filepath.Join(v.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if reports[name], err = verify.Export(t.Context(), f, o); err != nil {
				t.Fatal(err)
			}
		}
		entries := map[string]int64{"ledger": v.entries, "whole.ndjson": v.entries, "filtered.ndjson": int64(len(v.filtered))}
		for name, r := range reports {
			if !r.OK() || !r.Authenticated || r.Size != v.entries || r.Root.String() != v.root || r.Entries != entries[name] || r.Origin != "ledger.example/prod" || name != "filtered.ndjson" && r.Pruned != v.pruned {
				t.Errorf("%s/%s: %+v\n%s", v.dir, name, r, describe(r))
			}
		}
	}
}
