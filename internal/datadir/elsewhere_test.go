package datadir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/datadir"
)

func TestADirectoryWhoseLedgerGoesOnElsewhereIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := datadir.CheckHere(dir); err != nil {
		t.Fatal(err)
	}
	copied := &datadir.Elsewhere{Where: "/var/lib/graven"}
	moved := &datadir.Elsewhere{Where: "postgres://db.example:5432/graven", Moved: true}
	for text, want := range map[string]string{
		string(copied.Encode()):        "a copy of the ledger in /var/lib/graven",
		string(moved.Encode()):         "was moved to postgres://db.example:5432/graven",
		"":                             "is empty",
		"{":                            "unexpected EOF",
		`{"moved":true}`:               "does not say where",
		`{"where":"x","until":"noon"}`: "until",
		`{"where":"x"}{}`:              "does not say where",
	} {
		if err := os.WriteFile(filepath.Join(dir, datadir.ElsewhereFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := datadir.CheckHere(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseElsewhere(f *testing.F) {
	f.Add([]byte(nil))
	f.Add((&datadir.Elsewhere{Where: "/data", Moved: true}).Encode())
	f.Add([]byte(`{"where":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := datadir.ParseElsewhere(text)
		if err != nil || e == nil {
			return
		}
		again, err := datadir.ParseElsewhere(e.Encode())
		if err != nil || *again != *e {
			t.Errorf("%q became %q: %v", e.Encode(), text, err)
		}
	})
}
