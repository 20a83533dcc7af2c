// Package document splits what people write into JSON documents.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/yaml"
)

// Split splits an input of up to limit bytes into JSON documents: it is a
// JSON array, NDJSON or concatenated JSON, or YAML documents.
func Split(in io.Reader, limit int64) ([][]byte, error) {
	text, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("more than %d bytes; take it in parts", limit)
	}
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 {
		return nil, nil
	}
	if trimmed[0] == '[' {
		var items []json.RawMessage
		if err := json.Unmarshal(trimmed, &items); err != nil {
			return nil, err
		}
		return raws(items), nil
	}
	if trimmed[0] == '{' {
		var items []json.RawMessage
		dec := json.NewDecoder(bytes.NewReader(trimmed))
		for {
			var raw json.RawMessage
			err := dec.Decode(&raw)
			if errors.Is(err, io.EOF) {
				return raws(items), nil
			}
			if err != nil {
				return nil, err
			}
			items = append(items, raw)
		}
	}
	var out [][]byte
	for _, doc := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		if strings.TrimSpace(stripComments(doc)) == "" {
			continue
		}
		j, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}

func stripComments(doc []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(doc)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func raws(items []json.RawMessage) [][]byte {
	out := make([][]byte, len(items))
	for i, r := range items {
		out[i] = r
	}
	return out
}
