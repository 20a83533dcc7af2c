package settings_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/graven-audit/graven/internal/settings"
)

type configuration struct {
	Name  string   `yaml:"name"`
	List  []string `yaml:"list"`
	Inner struct {
		A int `yaml:"a"`
		B int `yaml:"b"`
	} `yaml:"inner"`
}

func TestWhatWasChangedIsNamed(t *testing.T) {
	of := func(c configuration) settings.Digests {
		t.Helper()
		d, err := settings.Of(&c, "name")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	c := configuration{Name: "one", List: []string{"x"}}
	before := of(c)
	if got := of(c).Changed(before); len(got) > 0 {
		t.Errorf("changed without a change: %v", got)
	}
	c.Name, c.List, c.Inner.B = "two", []string{"x", "y"}, 7
	if got := of(c).Changed(before); !slices.Equal(got, []string{"inner.b", "list"}) {
		t.Errorf("changed: %v", got)
	}
	file := filepath.Join(t.TempDir(), "settings.json")
	if d, err := settings.Read(file); d != nil || err != nil {
		t.Errorf("of no file: %v, %v", d, err)
	}
	if err := before.Keep(file); err != nil {
		t.Fatal(err)
	}
	if d, err := settings.Read(file); err != nil || len(before.Changed(d)) > 0 {
		t.Errorf("kept and read: %v, %v", d, err)
	}
}
