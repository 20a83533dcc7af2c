package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v2"

	"github.com/graven-audit/graven/event"
)

// outputs are the values of -o.
var outputs = []string{"table", "wide", "json", "yaml", "ndjson", "csv", "name"}

func outputFlag(cmd *cobra.Command, o *string, def string) {
	cmd.Flags().StringVarP(o, "output", "o", def, "how to print: "+strings.Join(outputs, ", "))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputs, cobra.ShellCompDirectiveNoFileComp)))
}

// A found event is an event as the server sends it, with its place.
type found struct {
	event *event.Event
	index int64
	raw   json.RawMessage
}

func parseFound(raw json.RawMessage) (found, error) {
	f := found{raw: raw}
	var place struct {
		Index int64 `json:"index"`
	}
	if err := json.Unmarshal(raw, &place); err != nil {
		return f, err
	}
	f.index = place.Index
	var err error
	f.event, err = event.ParseServed(raw)
	return f, err
}

// printable replaces what a terminal would act upon. Text in events comes
// from anywhere.
func printable(s string) string {
	if strings.IndexFunc(s, hostile) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hostile(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hostile reports whether a rune is a control or changes the direction of text.
func hostile(r rune) bool {
	return r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar
}

// cell makes s fit for one cell of a table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(printable(s), "\n", " ")
}

func actorOf(e *event.Event) string { return e.Actor.Type + "/" + e.Actor.Name }

func resourceOf(e *event.Event) string {
	r := e.Resource
	name := r.Kind
	if r.Name != "" {
		name += "/" + r.Name
	}
	if r.Namespace != "" && r.Namespace != r.Name {
		name += " (" + r.Namespace + ")"
	}
	return name
}

// clock prints a time for people: in UTC, to the second.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// print writes events in the form called output.
func (f *printer) print(events []found) error {
	switch f.output {
	case "table", "wide":
		return f.table(events)
	case "json", "yaml":
		list := make([]json.RawMessage, len(events))
		for i, e := range events {
			list[i] = e.raw
		}
		doc := map[string]any{"total": f.total, "returned": len(events), "events": list}
		if f.next != "" {
			doc["next"] = f.next
		}
		return printDocument(f.w, f.output, doc)
	case "ndjson":
		for _, e := range events {
			if _, err := fmt.Fprintf(f.w, "%s\n", e.raw); err != nil {
				return err
			}
		}
	case "csv":
		return f.csv(events)
	case "name":
		for _, e := range events {
			if _, err := fmt.Fprintln(f.w, printable(e.event.Name)); err != nil {
				return err
			}
		}
	default:
		return usage("-o %s: one of %s", f.output, strings.Join(outputs, ", "))
	}
	return nil
}

// A printer writes lists of events.
type printer struct {
	w      io.Writer
	output string
	total  int64
	next   string
}

func (f *printer) table(events []found) error {
	w := tabwriter.NewWriter(f.w, 0, 8, 2, ' ', 0)
	wide := f.output == "wide"
	head := "INDEX\tTIME\tTYPE\tSEVERITY\tACTOR\tRESOURCE\tOUTCOME\tINCIDENT"
	if wide {
		head += "\tACTION\tID\tRECORDED BY\tATTRIBUTION"
	}
	fmt.Fprintln(w, head)
	for _, x := range events {
		e := x.event
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s", x.index, clock(e.Timestamp), cell(e.EventType), cell(e.Severity),
			cell(actorOf(e)), cell(resourceOf(e)), cell(e.Outcome), cell(e.CorrelationID))
		if wide {
			fmt.Fprintf(w, "\t%s\t%s\t%s\t%s", cell(e.Action), e.ID, cell(e.Recorded.Principal), cell(e.Recorded.Attribution))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func (f *printer) csv(events []found) error {
	w := csv.NewWriter(f.w)
	w.Write([]string{"index", "time", "type", "severity", "actorType", "actor", "kind", "namespace", "resource", "outcome", "incident", "id"})
	for _, x := range events {
		e := x.event
		record := []string{itoa(x.index), event.FormatTime(e.Timestamp), e.EventType, e.Severity, e.Actor.Type, e.Actor.Name,
			e.Resource.Kind, e.Resource.Namespace, e.Resource.Name, e.Outcome, e.CorrelationID, e.ID.String()}
		for i, s := range record {
			if s != "" && strings.IndexByte("=+-@\t\r\n'", s[0]) >= 0 {
				record[i] = "'" + s // or a spreadsheet takes it for a formula; one more gives the field back
			}
		}
		w.Write(record)
	}
	w.Flush()
	return w.Error()
}

// printDocument writes v as indented JSON or YAML.
func printDocument(w io.Writer, output string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if output == "yaml" {
		if data, err = toYAML(data); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// toYAML writes JSON as YAML. It goes through values, for YAML readers refuse
// some of the characters, and some of the keys, that JSON may have.
func toYAML(text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return yaml.Marshal(numbers(v))
}

// numbers replaces the numbers in v by such as YAML knows.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}

// A progress shows how far something has come, on a terminal only.
type progress struct {
	w     io.Writer
	what  string
	on    bool
	began time.Time
	last  time.Time
}

func newProgress(w io.Writer, what string) *progress {
	f, ok := w.(*os.File)
	on := false
	if ok {
		if info, err := f.Stat(); err == nil {
			on = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return &progress{w: w, what: what, on: on, began: time.Now()}
}

// show tells that done of total are done; a total of 0 is unknown.
func (p *progress) show(done, total int64) {
	if !p.on || time.Since(p.last) < 200*time.Millisecond {
		return
	}
	p.last = time.Now()
	rate := float64(done) / max(time.Since(p.began).Seconds(), 0.001)
	if total > 0 {
		left := time.Duration(float64(total-done) / max(rate, 1e-9) * float64(time.Second)).Round(time.Second)
		fmt.Fprintf(p.w, "\r\033[K%s %d of %d (%d%%), %.0f/s, %s left", p.what, done, total, 100*done/total, rate, left)
		return
	}
	fmt.Fprintf(p.w, "\r\033[K%s %d, %.0f/s", p.what, done, rate)
}

// end wipes the line.
func (p *progress) end() {
	if p.on && !p.last.IsZero() {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
