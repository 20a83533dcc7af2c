package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestTheFilesAreWhatIsGenerated(t *testing.T) {
	for _, d := range documents() {
		onDisk, err := os.ReadFile(filepath.Join("..", "..", "docs", d.name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(onDisk, d.text) {
			t.Errorf("docs/%s is out of date; run make generate", d.name)
		}
	}
}

func TestThePageNamesEveryType(t *testing.T) {
	page := string(eventsPage())
	for _, typ := range event.Types() {
		for _, word := range append(append([]string{typ.Type}, typ.Aliases...), typ.Details...) {
			if !strings.Contains(page, "`"+word+"`") {
				t.Errorf("%s: no %s", typ.Type, word)
			}
		}
		if !strings.Contains(page, typ.Description) {
			t.Errorf("%s: no description", typ.Type)
		}
	}
}

// accepted does with an event in JSON what a server does before it records it.
func accepted(doc []byte) (*event.Event, error) {
	e, err := event.Parse(doc)
	if err != nil {
		return nil, err
	}
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		return nil, err
	}
	return e, e.CheckReserved()
}

// put returns the minimal example with the member at path set to v.
func put(t *testing.T, path []string, v any) []byte {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(exampleMinimal), &doc); err != nil {
		t.Fatal(err)
	}
	m := doc
	for _, name := range path[:len(path)-1] {
		inner, ok := m[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[name] = inner
		}
		m = inner
	}
	if m[path[len(path)-1]] = v; v == nil {
		delete(m, path[len(path)-1])
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// walk calls fn for every member that the schema names.
func walk(s schema, path []string, fn func(path []string, s schema)) {
	for _, m := range s.Properties {
		p := append(slices.Clone(path), m.name)
		fn(p, m.schema)
		walk(m.schema, p, fn)
	}
}

func TestTheSchemaAndTheServerAgree(t *testing.T) {
	walk(nativeEvent(), nil, func(path []string, s schema) {
		field := strings.Join(path, ".")
		canonical := strings.Replace(field, "Id", "ID", 1) // faults are named by the first spelling
		pass := func(what string, v any) {
			if _, err := accepted(put(t, path, v)); err != nil {
				t.Errorf("%s: %s is refused: %v", field, what, err)
			}
		}
		refuse := func(what string, v any) {
			_, err := accepted(put(t, path, v))
			if err == nil || !strings.HasPrefix(err.Error(), field+": ") && !strings.HasPrefix(err.Error(), canonical+": ") {
				t.Errorf("%s: %s gives %v", field, what, err)
			}
		}
		if s.Description == "" || s.Type != "object" && len(s.Examples) == 0 {
			t.Errorf("%s: no description or example", field)
		}
		for _, example := range s.Examples {
			pass("an example", example)
		}
		if s.MaxLength > 0 {
			pass("the longest string", strings.Repeat("x", s.MaxLength))
			refuse("a longer string", strings.Repeat("x", s.MaxLength+1))
		}
		if s.MinLength > 0 {
			refuse("the empty string", "")
		}
		if s.Maximum != nil {
			pass("the least number", *s.Minimum)
			pass("the greatest number", *s.Maximum)
			refuse("a lesser number", *s.Minimum-1)
			refuse("a greater number", *s.Maximum+1)
		}
		for _, any := range s.AnyOf {
			for _, word := range any.Enum {
				pass(word, word)
			}
		}
		if s.Not != nil {
			for _, word := range s.Not.Enum {
				if _, err := accepted(put(t, path, word)); err == nil {
					t.Errorf("%s: %s is accepted", field, word)
				}
			}
		}
		for _, name := range s.Required {
			_, err := accepted(put(t, append(slices.Clone(path), name), nil))
			var found event.Invalid
			if !errors.As(err, &found) || found[0].Field != field+"."+name {
				t.Errorf("%s.%s is required, but without it: %v", field, name, err)
			}
		}
		if s.Type == "object" && s.Additional == false {
			refuse := append(slices.Clone(path), "unknown")
			if _, err := accepted(put(t, refuse, "x")); err == nil || !strings.HasPrefix(err.Error(), field+".unknown: ") {
				t.Errorf("%s.unknown gives %v", field, err)
			}
		}
	})
	for _, example := range nativeEvent().Examples {
		if _, err := accepted(example.(json.RawMessage)); err != nil {
			t.Errorf("%v in %s", err, example)
		}
	}
	for _, name := range nativeEvent().Required {
		if _, err := accepted(put(t, []string{name}, nil)); err == nil {
			t.Errorf("%s is required, and yet nobody misses it", name)
		}
	}
	for _, pair := range nativeEvent().Not.AnyOf {
		doc := `{"` + pair.Required[0] + `":"","` + pair.Required[1] + `":""}`
		if _, err := event.Parse([]byte(doc)); err == nil || !strings.Contains(err.Error(), "stands twice") {
			t.Errorf("%s gives %v", doc, err)
		}
	}
}

func TestTheSchemaNamesEveryMember(t *testing.T) {
	id := event.NewID(now)
	e := event.Event{
		ID: id, Name: "n", EventType: "x", Timestamp: now, Actor: event.Actor{Type: "user", Name: "a", ServiceAccount: "s", Controller: "c"},
		Resource: event.Resource{APIVersion: "v1", Kind: "K", Namespace: "ns", Name: "n", UID: "u"}, Category: "c", Action: "a", Outcome: "success", Severity: "low",
		CorrelationID: "i", ParentID: id, Cluster: "c", Fact: "f", DurationMs: 1, Error: event.Failure{Code: "c", Message: "m"}, RetentionDays: 1, Sensitive: true,
		Source: event.Source{Name: "s", Epoch: "e", Seq: 1}, Original: map[string]string{"a": "b"},
	}
	var doc map[string]any
	if err := json.Unmarshal(e.AppendJSON(nil), &doc); err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	walk(nativeEvent(), nil, func(path []string, s schema) {
		named[strings.Join(path, ".")] = true
	})
	for name, v := range doc {
		if !named[name] {
			t.Errorf("%s is not in the schema", name)
		}
		inner, _ := v.(map[string]any)
		for n := range inner {
			if name != "original" && name != "details" && !named[name+"."+n] {
				t.Errorf("%s.%s is not in the schema", name, n)
			}
		}
	}
}

func TestAliasesAreReplacedByTerms(t *testing.T) {
	for field, aliases := range map[string][]string{"severity": severityAliases, "outcome": outcomeAliases, "actor.type": actorAliases} {
		for _, alias := range aliases {
			e, err := accepted(put(t, strings.Split(field, "."), alias))
			if err != nil || e.Original[field] != alias {
				t.Errorf("%s %s is no alias (%v)", field, alias, err)
			}
		}
	}
}
