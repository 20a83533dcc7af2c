package paper

import (
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// Encode writes v as indented JSON, or as YAML with its members in the same order that
// sorting gives them.
func Encode(v any, format string) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", format, err)
	}
	if format == "yaml" {
		return yaml.JSONToYAML(text)
	}
	return append(text, '\n'), nil
}

// A Format is a form that a document may have.
type Format struct{ Name, ContentType, Extension string }

// Formats are those that reports may have.
var Formats = []Format{
	{"json", "application/json", "json"}, {"yaml", "application/yaml", "yaml"}, {"csv", "text/csv; charset=utf-8", "csv"},
	{"html", "text/html; charset=utf-8", "html"}, {"pdf", "application/pdf", "pdf"},
}

// Named returns the format of a name.
func Named(name string) (Format, bool) {
	for _, f := range Formats {
		if f.Name == name {
			return f, true
		}
	}
	return Format{}, false
}
