package access_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/access"
)

// FuzzOpenTokens opens lists of tokens. What is taken is written and read again
// as the same.
func FuzzOpenTokens(f *testing.F) {
	f.Add([]byte(`[{"name":"admin","role":"superadmin","createdAt":"2026-03-19T14:30:00Z","createdBy":"graven","hash":"` + strings.Repeat("ab", 32) + `"}]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`{"v":2}`))
	dir := f.TempDir()
	path := filepath.Join(dir, "tokens.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var saved []byte
		tokens, err := access.OpenTokens(path, func(data []byte) error { saved = data; return nil })
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		var want []access.Token
		if err := json.Unmarshal(data, &want); err != nil || len(want) != len(tokens.List()) {
			t.Fatalf("%q has %d tokens, and %d were read (%v)", data, len(want), len(tokens.List()), err)
		}
		now := time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)
		if tokens.Check(access.Token{Name: "new", Role: access.Viewer}, now) != nil {
			return // the name is taken
		}
		if err := tokens.Add(access.Token{Name: "new", Role: access.Viewer, CreatedBy: "x"}, access.NewSecret(), now); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, saved, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := access.OpenTokens(path, nil)
		if err != nil {
			t.Fatalf("what was saved is not read: %v: %s", err, saved)
		}
		is, err1 := json.Marshal(again.List())
		was, err2 := json.Marshal(tokens.List())
		if err1 != nil || err2 != nil || !bytes.Equal(is, was) {
			t.Errorf("went %s\ncame %s", was, is)
		}
	})
}
