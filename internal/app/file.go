package app

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ReadConfig reads a configuration file for a server, and holds it against the
// rules.
func ReadConfig(path string) (Config, error) {
	c, lines, err := readConfig(path)
	if err != nil {
		return c, err
	}
	whole := c
	whole.Witnesses = slices.Clone(c.Witnesses)
	whole.Data = cmp.Or(c.Data, "graven-data") // which may be told elsewhere
	var bad *fieldError
	if err := whole.complete(); errors.As(err, &bad) && lines[bad.field] > 0 {
		return c, fmt.Errorf("read configuration %s: line %d: %w", path, lines[bad.field], err)
	} else if err != nil {
		return c, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return c, nil
}

// readConfig reads a configuration file, and returns in which line each field
// stands. It passes whatever is of the right form.
func readConfig(path string) (c Config, lines map[string]int, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return c, nil, fmt.Errorf("read configuration: %w", err)
	}
	f := form{lines: map[string]int{}}
	if err := f.read(data, &c); err != nil {
		return c, nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return c, f.lines, nil
}

// A form is that of a configuration's YAML.
type form struct{ lines map[string]int } // by field

// read reads the one document into c. It is looked through before, for the YAML
// library speaks of types where a user knows names, and passes over some of what
// is wrong.
func (f *form) read(data []byte, c *Config) error {
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // there is nothing, or comments
	} else if err != nil {
		return err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("line %d: there is more than one document", more.Line)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil
	}
	if err := f.check(root, reflect.TypeFor[Config](), ""); err != nil {
		return err
	}
	return root.Decode(c)
}

// check demands that a node has the form of a field of type t.
func (f *form) check(n *yaml.Node, t reflect.Type, field string) error {
	line := n.Line
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	is := func(kind yaml.Kind, tag string) bool { return n.Kind == kind && n.ShortTag() == tag }
	expect := func(what string) error {
		if field == "" {
			return fmt.Errorf("line %d: not %s", line, what)
		}
		return fmt.Errorf("line %d: %s: not %s; without the line it has its default", line, field, what)
	}
	switch {
	case t.Kind() == reflect.Struct:
		if !is(yaml.MappingNode, "!!map") {
			return expect("a list of names and their values: " + strings.Join(namesOf(t), ", "))
		}
		return f.members(n, t, field)
	case t.Kind() == reflect.Slice:
		if !is(yaml.SequenceNode, "!!seq") {
			return expect("a list")
		}
		for i, element := range n.Content {
			if err := f.check(element, t.Elem(), fmt.Sprintf("%s[%d]", field, i)); err != nil {
				return err
			}
		}
	case t == reflect.TypeFor[time.Duration]():
		if v, err := time.ParseDuration(n.Value); !is(yaml.ScalarNode, "!!str") || err != nil || v <= 0 {
			return expect("a duration longer than 0s, such as 20s or 1m30s")
		}
	case t.Kind() == reflect.String:
		if !is(yaml.ScalarNode, "!!str") {
			return expect("a text; put it in quotes")
		}
	case t.Kind() == reflect.Bool:
		if !is(yaml.ScalarNode, "!!bool") {
			return expect("true or false")
		}
	default:
		var v int64
		if !is(yaml.ScalarNode, "!!int") || n.Decode(&v) != nil || v < 1 {
			return expect("a whole number from 1 on")
		}
	}
	return nil
}

// members checks the members of a mapping.
func (f *form) members(n *yaml.Node, t reflect.Type, within string) error {
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		field := name.Value
		if within != "" {
			field = within + "." + name.Value
		}
		k := slices.Index(namesOf(t), name.Value)
		switch {
		case k < 0 || name.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: unknown field %q; there are %s", name.Line, field, strings.Join(namesOf(t), ", "))
		case f.lines[field] > 0:
			return fmt.Errorf("line %d: %s stands in line %d already", name.Line, field, f.lines[field])
		}
		f.lines[field] = name.Line
		if err := f.check(value, t.Field(k).Type, field); err != nil {
			return err
		}
	}
	return nil
}

// namesOf returns the names of a struct's fields that a file may have, which come
// first.
func namesOf(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			names = append(names, name)
		}
	}
	return names
}
