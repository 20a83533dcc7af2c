package intake

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

// A place is where a value stands in the details. Depth counts objects and
// arrays, the details themselves being the first.
type place struct {
	up    *place
	name  string
	index int // of an element; -1 for a member
	depth int
}

func (p *place) member(name string) *place {
	return &place{up: p, name: name, index: -1, depth: p.depth + 1}
}

func (p *place) element(i int) *place {
	return &place{up: p, index: i, depth: p.depth + 1}
}

func (p *place) String() string {
	switch {
	case p.up == nil:
		return p.name
	case p.index >= 0:
		return p.up.String() + "[" + strconv.Itoa(p.index) + "]"
	}
	return p.up.String() + "." + p.name
}

// topMember is the place of a member of the details.
func topMember(name string) *place { return &place{name: name, index: -1, depth: 2} }

// paths names places for the reader of an event.
type paths []string

func (l *paths) add(p *place) { *l = append(*l, clip(p.String(), maxPath)) }

const (
	maxPaths = 100
	maxPath  = 256
)

// list returns the first paths in order, and "…" for the others.
func (l paths) list() []string {
	slices.Sort(l)
	l = slices.Compact(l)
	if len(l) > maxPaths {
		return append(l[:maxPaths:maxPaths], "…")
	}
	return l
}

// clip cuts s at a character to at most limit bytes, and keeps out NUL, which
// no string of an event may hold.
func clip(s string, limit int) string {
	s = strings.ReplaceAll(s, "\x00", "\ufffd")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}

// flatten returns v, which stands at p, in a shape that details can hold. What
// nests too deeply, numbers that a float64 would round, and strings or names
// with NUL stand as their JSON text, and flat notes where.
func flatten(v any, p *place, flat *paths) any {
	asText := func() any {
		flat.add(p)
		if n, ok := v.(json.Number); ok {
			return string(n)
		}
		return compact(v)
	}
	switch x := v.(type) {
	case map[string]any:
		if p.depth > event.MaxDetailsDepth {
			return asText()
		}
		for name := range x {
			if strings.IndexByte(name, 0) >= 0 {
				return asText()
			}
		}
		for name, member := range x {
			x[name] = flatten(member, p.member(name), flat)
		}
	case []any:
		if p.depth > event.MaxDetailsDepth {
			return asText()
		}
		for i, element := range x {
			x[i] = flatten(element, p.element(i), flat)
		}
	case json.Number:
		if _, err := jcs.Transform([]byte(x), 0); err != nil {
			return asText()
		}
	case string:
		if strings.IndexByte(x, 0) >= 0 {
			return asText()
		}
	}
	return v
}

// fit returns the details that hold members, in JSON. Where they are too large,
// the objects of the request go first, the response's before the request's,
// and then whatever is largest. What goes leaves its size and digest, and is
// named among the omitted.
func fit(members map[string]any, omitted paths) (json.RawMessage, error) {
	texts := make(map[string][]byte, len(members)+1)
	for name, v := range members {
		text, err := jcs.Transform([]byte(compact(v)), event.MaxDetailsDepth-1)
		if err != nil {
			return nil, &event.FieldError{Field: name, Reason: err.Error()}
		}
		texts[name] = text
	}
	gone := map[string]bool{}
	for {
		if len(omitted) > 0 {
			texts["omitted"] = []byte(compact(omitted.list()))
		}
		name := victim(texts, gone)
		if name == "" {
			return join(texts), nil
		}
		texts[name], gone[name] = omission(texts[name]), true
		omitted.add(topMember(name))
	}
}

// omission stands for a text that has no room.
func omission(text []byte) []byte {
	sum := sha256.Sum256(text)
	return []byte(`{"omitted":"` + strconv.Itoa(len(text)) + ` bytes","sha256":"` + hex.EncodeToString(sum[:]) + `"}`)
}

// victim returns the member to omit next, or "" if all fit or none would help.
func victim(texts map[string][]byte, gone map[string]bool) string {
	if len(join(texts)) <= event.MaxDetails {
		return ""
	}
	for _, name := range []string{"responseObject", "requestObject"} {
		if texts[name] != nil && !gone[name] {
			return name
		}
	}
	largest := ""
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		list := name == "redacted" || name == "flattened" || name == "omitted"
		if !list && !gone[name] && len(texts[name]) > max(len(texts[largest]), 2*maxPath) {
			largest = name
		}
	}
	return largest
}

func join(texts map[string][]byte) []byte {
	b := []byte{'{'}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(jcs.AppendString(b, name), ':'), texts[name]...)
	}
	return append(b, '}')
}
