// Command gen writes the documentation that follows from the code: the pages of
// event types and of the rules of findings, and the JSON Schema of an event. `go generate ./event` runs it,
// and its test fails when the files on disk are not what it would write.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// A document is a generated file of the directory docs.
type document struct {
	name string
	text []byte
}

func documents() []document {
	return []document{
		{"events.md", eventsPage()},
		{"event.schema.json", eventSchema()},
		{"findings.md", findingsPage()},
	}
}

func main() {
	docs := flag.String("docs", filepath.Join("..", "docs"), "directory to write to")
	flag.Parse()
	for _, d := range documents() {
		if err := os.WriteFile(filepath.Join(*docs, d.name), d.text, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}
