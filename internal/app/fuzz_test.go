package app_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/graven-audit/graven/internal/app"
)

func FuzzReadConfig(f *testing.F) {
	for _, s := range []string{"data: x\nlisten: 127.0.0.1:0\n", "log:\n  public: hashes\n", "shutdownTimeout: 1m\n", "- a\n", "{", "a: &a [*a]\n", "data: !!binary x\n"} {
		f.Add(s)
	}
	path := filepath.Join(f.TempDir(), "graven.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = app.ReadConfig(path) // that it does not panic, and ends
	})
}
