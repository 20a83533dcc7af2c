// Package settings tells which settings of a program are others than at its last start,
// from digests of them: it keeps none of their values.
package settings

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Digests are SHA-256 of settings as YAML, in hexadecimal digits, by their names: those of
// the members of a structure are NAME.MEMBER.
type Digests map[string]string

// Of returns digests of a configuration that is written as a mapping, but for those of
// some names.
func Of(config any, but ...string) (Digests, error) {
	var tree map[string]yaml.Node
	text, err := yaml.Marshal(config)
	if err == nil {
		err = yaml.Unmarshal(text, &tree)
	}
	all := Digests{}
	for name, node := range tree {
		if slices.Contains(but, name) {
			continue
		}
		var members map[string]yaml.Node
		if node.Kind == yaml.MappingNode {
			err = errors.Join(err, node.Decode(&members))
		}
		if len(members) == 0 {
			err = errors.Join(err, all.add(name, &node))
		}
		for member, value := range members {
			err = errors.Join(err, all.add(name+"."+member, &value))
		}
	}
	return all, err
}

func (d Digests) add(name string, value *yaml.Node) error {
	text, err := yaml.Marshal(value)
	sum := sha256.Sum256(text)
	d[name] = hex.EncodeToString(sum[:])
	return err
}

// Read reads what was kept in a file; nil is for nothing.
func Read(file string) (d Digests, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	return d, err
}

// Keep keeps the digests in a file.
func (d Digests) Keep(file string) error {
	text, err := json.Marshal(d)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep digests of the settings: %w", err)
	}
	return nil
}

// Changed returns the names of those that are others than before, sorted.
func (d Digests) Changed(before Digests) (names []string) {
	both := maps.Clone(d)
	maps.Copy(both, before)
	for name := range both {
		if d[name] != before[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
