package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A spec is openapi.json, against which every answer of these tests is held.
type spec struct {
	doc      map[string]any
	mux      *http.ServeMux // finds the operation of a request
	mu       sync.Mutex     // guards what follows
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema
}

const specURL = "file:///openapi.json"

var loadSpec = sync.OnceValues(func() (*spec, error) {
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	s := &spec{doc: doc.(map[string]any), mux: http.NewServeMux(), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	s.compiler.DefaultDraft(jsonschema.Draft2020)
	s.compiler.AssertFormat()
	if err := s.compiler.AddResource(specURL, doc); err != nil {
		return nil, err
	}
	for _, op := range s.operations() {
		path := op.path
		if op.rest() {
			path = strings.Replace(path, "{path}", "{path...}", 1)
		}
		s.mux.Handle(op.method+" "+path, op)
	}
	return s, nil
})

func theSpec(t *testing.T) *spec {
	t.Helper()
	s, err := loadSpec()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An operation is one method of one path.
type operation struct {
	method, path string
	pointer      string // where it stands in the document
	item         map[string]any
}

// ServeHTTP makes an operation fit for a mux, which only has to find it.
func (operation) ServeHTTP(http.ResponseWriter, *http.Request) {}

// rest reports whether the path's last part stands for all that is left.
func (op operation) rest() bool { return strings.HasSuffix(op.path, "/{path}") }

func (s *spec) operations() []operation {
	var list []operation
	paths := s.doc["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for method, item := range paths[path].(map[string]any) {
			list = append(list, operation{strings.ToUpper(method), path,
				"/paths/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(path) + "/" + method, item.(map[string]any)})
		}
	}
	return list
}

// at returns what a pointer leads to, and references are followed.
func (s *spec) at(pointer string) (any, bool) {
	var v any = s.doc
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		switch t := v.(type) {
		case map[string]any:
			v = t[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i >= len(t) {
				return nil, false
			}
			v = t[i]
		}
		if v == nil {
			return nil, false
		}
	}
	return s.follow(v), true
}

// follow returns what a reference leads to; anything else is itself.
func (s *spec) follow(v any) any {
	for {
		m, ok := v.(map[string]any)
		ref, is := m["$ref"].(string)
		if !ok || !is {
			return v
		}
		v, _ = s.at(strings.TrimPrefix(ref, "#"))
	}
}

// parameters returns an operation's parameters that stand in a place, by name.
func (s *spec) parameters(op operation, in string) map[string]map[string]any {
	found := map[string]map[string]any{}
	list, _ := op.item["parameters"].([]any)
	for _, p := range list {
		if p := s.follow(p).(map[string]any); p["in"] == in {
			found[p["name"].(string)] = p
		}
	}
	return found
}

// check holds an answer against what the document says of it.
func (s *spec) check(req *http.Request, a *answer) error {
	h, _ := s.mux.Handler(req)
	op, ok := h.(operation)
	if !ok || a.status == http.StatusMethodNotAllowed {
		return nil // not of any route
	}
	status := strconv.Itoa(a.status)
	responses := op.item["responses"].(map[string]any)
	response, ok := s.follow(responses[status]).(map[string]any)
	if !ok {
		return fmt.Errorf("openapi.json does not tell of status %s", status)
	}
	media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	content, _ := response["content"].(map[string]any)
	described, ok := content[media].(map[string]any)
	switch {
	case len(content) == 0 && len(a.body) == 0, req.Method == http.MethodHead:
		return nil
	case !ok:
		return fmt.Errorf("openapi.json does not tell of %q with status %s", media, status)
	case media == "application/x-ndjson" && a.err == nil:
		return s.lines(req, described["schema"], a.body)
	case !strings.HasSuffix(media, "json") || a.err != nil || len(a.body) > 1<<20:
		return nil
	}
	return s.fits(described["schema"], a.body)
}

// lines checks the first lines of an export, but for its trailer.
func (s *spec) lines(req *http.Request, schema any, body []byte) error {
	if format := req.URL.Query().Get("format"); format != "" && format != "ndjson" {
		return nil
	}
	n := 0
	for line := range bytes.Lines(body) {
		if n++; n > 20 || bytes.HasPrefix(line, []byte(`{"checkpoint"`)) {
			break
		}
		if err := s.fits(schema, line); err != nil {
			return err
		}
	}
	return nil
}

// fits holds a JSON text against a schema of the document; members that the
// schema does not describe do not fit.
func (s *spec) fits(schema any, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	compiled, err := s.compile(schema)
	if err != nil {
		return err
	}
	if err := compiled.Validate(v); err != nil {
		return err
	}
	return s.described("", schema, v)
}

func (s *spec) compile(schema any) (*jsonschema.Schema, error) {
	text, err := json.Marshal(schema)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.schemas[string(text)]; c != nil {
		return c, nil
	}
	// A schema within the document is compiled as one of its own that refers
	// back to the document.
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.ReplaceAll(string(text), `"#/`, `"`+specURL+`#/`)))
	if err != nil {
		return nil, err
	}
	url := fmt.Sprintf("file:///schema-%d.json", len(s.schemas))
	if err := s.compiler.AddResource(url, doc); err != nil {
		return nil, err
	}
	c, err := s.compiler.Compile(url)
	s.schemas[string(text)] = c
	return c, err
}

// described reports the first member of v that the schema does not name.
func (s *spec) described(path string, schema, v any) error {
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			for _, m := range s.parts(schema) {
				if items, ok := m["items"]; ok {
					if err := s.described(fmt.Sprintf("%s[%d]", path, i), items, item); err != nil {
						return err
					}
				}
			}
		}
	case map[string]any:
		properties, free := map[string]any{}, true
		for _, m := range s.parts(schema) {
			if p, ok := m["properties"].(map[string]any); ok {
				maps.Copy(properties, p)
				free = false
			}
		}
		for name, member := range v {
			if p, ok := properties[name]; ok {
				if err := s.described(path+"."+name, p, member); err != nil {
					return err
				}
			} else if !free {
				return fmt.Errorf("openapi.json does not tell of the member %s.%s", path, name)
			}
		}
	}
	return nil
}

// parts returns a schema and those that it is made of.
func (s *spec) parts(schema any) []map[string]any {
	m, ok := s.follow(schema).(map[string]any)
	if !ok {
		return nil
	}
	list := []map[string]any{m}
	for _, of := range []string{"allOf", "oneOf", "anyOf"} {
		subs, _ := m[of].([]any)
		for _, sub := range subs {
			list = append(list, s.parts(sub)...)
		}
	}
	return list
}
