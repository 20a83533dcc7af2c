package main

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"github.com/graven-audit/graven/event"
)

func TestNoFieldOfCSVIsAFormula(t *testing.T) {
	for _, name := range []string{"=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "'=1"} {
		var out bytes.Buffer
		if err := (&printer{w: &out, output: "csv"}).print([]found{{event: &event.Event{Actor: event.Actor{Name: name}}}}); err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if got := records[1][5]; got != "'"+strings.ReplaceAll(name, "\r\n", "\n") {
			t.Errorf("%q is written as %q", name, got)
		}
	}
}
