// Package terminal writes for people: lists of events in the forms that kubectl
// knows, documents, receipts, reports of verifications, and how far something
// has come. What it writes of an event's text a terminal does not act upon. And it
// reads from them: which events they mean, by the flags of a [Filter].
package terminal

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"go.yaml.in/yaml/v2"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/legible"
	"github.com/graven-audit/graven/internal/search"
)

// Outputs are the forms of a list of events, the values of -o.
var Outputs = []string{"table", "wide", "json", "yaml", "ndjson", "csv", "name"}

// An Event is an event as a server sends it, with its place.
type Event struct {
	*event.Event
	Index int64
	Raw   json.RawMessage // as it came
}

// ParseEvent reads an event that a server sent.
func ParseEvent(raw json.RawMessage) (Event, error) {
	f := Event{Raw: raw}
	var place struct {
		Index int64 `json:"index"`
	}
	if err := json.Unmarshal(raw, &place); err != nil {
		return f, err
	}
	f.Index = place.Index
	var err error
	f.Event, err = event.ParseServed(raw)
	return f, err
}

// Printable replaces what a terminal would act upon. Text in events comes
// from anywhere.
func Printable(s string) string { return legible.Text(s) }

// Cell makes s fit for one cell of a table.
func Cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(Printable(s), "\n", " ")
}

// Actor names who acted, as type/name.
func Actor(e *event.Event) string { return e.Actor.Type + "/" + e.Actor.Name }

// Resource names what was acted upon.
func Resource(e *event.Event) string {
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

// Clock writes a time: in UTC, to the second.
func Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// A List is events, as far as one answer holds them.
type List struct {
	Events []Event
	Total  int64  // how many there are
	Next   string // cursor of those that follow, or ""
	// Erased tells of events that may have been among them; nil for none.
	Erased *search.Erasure
}

// Print writes the list in one of [Outputs].
func (l *List) Print(w io.Writer, output string) error {
	switch output {
	case "table", "wide":
		return l.table(w, output == "wide")
	case "json", "yaml":
		return l.document(w, output)
	case "csv":
		return l.csv(w)
	case "ndjson", "name":
		for _, e := range l.Events {
			line := string(e.Raw)
			if output == "name" {
				line = Printable(e.Name)
			}
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("print events as %q: one of %s", output, strings.Join(Outputs, ", "))
}

func (l *List) document(w io.Writer, output string) error {
	list := make([]json.RawMessage, len(l.Events))
	for i, e := range l.Events {
		list[i] = e.Raw
	}
	doc := map[string]any{"total": l.Total, "returned": len(list), "events": list}
	if l.Next != "" {
		doc["next"] = l.Next
	}
	return Document(w, output, doc)
}

func (l *List) table(out io.Writer, wide bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	head := "INDEX\tTIME\tTYPE\tSEVERITY\tACTOR\tRESOURCE\tOUTCOME\tINCIDENT"
	if wide {
		head += "\tACTION\tID\tRECORDED BY\tATTRIBUTION"
	}
	fmt.Fprintln(w, head)
	for _, e := range l.Events {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s", e.Index, Clock(e.Timestamp), Cell(e.EventType), Cell(e.Severity),
			Cell(Actor(e.Event)), Cell(Resource(e.Event)), Cell(e.Outcome), Cell(e.CorrelationID))
		if wide {
			fmt.Fprintf(w, "\t%s\t%s\t%s\t%s", Cell(e.Action), e.ID, Cell(e.Recorded.Principal), Cell(e.Recorded.Attribution))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func (l *List) csv(out io.Writer) error {
	w := csv.NewWriter(out)
	w.Write([]string{"index", "time", "type", "severity", "actorType", "actor", "kind", "namespace", "resource", "outcome", "incident", "id"})
	for _, e := range l.Events {
		record := []string{strconv.FormatInt(e.Index, 10), event.FormatTime(e.Timestamp), e.EventType, e.Severity, e.Actor.Type, e.Actor.Name,
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

// Document writes v as indented JSON or YAML.
func Document(w io.Writer, output string, v any) error {
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

// A Progress shows how far something has come, on a terminal only.
type Progress struct {
	w     io.Writer
	what  string
	on    bool
	began time.Time
	last  time.Time
}

// NewProgress returns one that writes to w, and says what is counted.
func NewProgress(w io.Writer, what string) *Progress {
	return &Progress{w: w, what: what, on: isTerminal(w), began: time.Now()}
}

// Show tells that done of total are done; a total of 0 is unknown.
func (p *Progress) Show(done, total int64) {
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

// End wipes the line.
func (p *Progress) End() {
	if p.on && !p.last.IsZero() {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
