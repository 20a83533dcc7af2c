package intake

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/redact"
)

// paths names places for the reader of an event.
type paths []string

func (l *paths) add(p *redact.Place) { *l = append(*l, clip(p.String(), maxPath)) }

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
func flatten(v any, p *redact.Place, flat *paths) any {
	asText := func() any {
		flat.add(p)
		if n, ok := v.(json.Number); ok {
			return string(n)
		}
		return compact(v)
	}
	switch x := v.(type) {
	case map[string]any:
		if p.Depth > event.MaxDetailsDepth {
			return asText()
		}
		for name := range x {
			if strings.IndexByte(name, 0) >= 0 {
				return asText()
			}
		}
		for name, member := range x {
			x[name] = flatten(member, p.Member(name), flat)
		}
	case []any:
		if p.Depth > event.MaxDetailsDepth {
			return asText()
		}
		for i, element := range x {
			x[i] = flatten(element, p.Element(i), flat)
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
		omitted.add(redact.At(name))
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

// decode reads one JSON document and keeps numbers as they are written.
func decode(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(into)
}

// compact returns the JSON text of a decoded value.
func compact(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("internal error: decoded JSON does not encode: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}
