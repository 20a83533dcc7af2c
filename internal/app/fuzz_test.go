package app_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

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
		c, err := app.ReadConfig(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		// What is taken is what a plain reading of the same YAML gives.
		plain, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var again app.Config
		d := json.NewDecoder(bytes.NewReader(plain))
		d.DisallowUnknownFields()
		err = d.Decode(&again)
		var other *json.UnmarshalTypeError
		if errors.As(err, &other) && other.Type.Kind() == reflect.String {
			return // a number or a truth value is taken for a text where there is to be one
		}
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%q is read as %+v, and as %+v (%v)", text, c, again, err)
		}
	})
}
