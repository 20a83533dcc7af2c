package app_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/graven-audit/graven/internal/app"
)

func FuzzReadConfig(f *testing.F) {
	for _, s := range []string{"data: x\nlisten: 127.0.0.1:0\n", "log:\n  public: hashes\n", "shutdownTimeout: 1m\n", "- a\n", "{", "a: &a [*a]\n", "data: !!binary x\n", "data: &a x\nlisten: *a\n", "maxConnections: 0x10\n", "witnesses:\n- {url: x, key: y}\n", "<<: {data: x}\n", "--- a\n--- b\n"} {
		f.Add(s)
	}
	path := filepath.Join(f.TempDir(), "graven.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := app.ReadConfig(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		// What is taken is what a plain reading of the same YAML gives.
		var again app.Config
		d := yaml.NewDecoder(strings.NewReader(text))
		d.KnownFields(true)
		if err := d.Decode(&again); err != nil && !errors.Is(err, io.EOF) || !reflect.DeepEqual(again, c) {
			t.Errorf("%q is read as %+v, and as %+v (%v)", text, c, again, err)
		}
	})
}
