package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/narrative"
	"github.com/graven-audit/graven/internal/search"
)

// An Incident is an incident as the server tells it.
type Incident struct {
	CorrelationID, Status, Severity, StartedAt string
	DurationMs                                 int64
	Total                                      int
	Events                                     []struct {
		SinceStartMs int64
		Event        json.RawMessage
	}
	// Namespaces are those that the token is limited to, or nil. What is
	// missing cannot be told then.
	Namespaces []string
	// ErasedBelow tells of events that may have been the incident's.
	ErasedBelow *search.Erasure
	Missing     []struct {
		Expected []string
		Index    int64
		Reason   string
	}
	// Narrative is the story that the events tell.
	Narrative *narrative.Story
}

// Print writes the story.
func (t *Incident) Print(out io.Writer) error {
	fmt.Fprintf(out, "Incident %s: %s, severity %s, %d events in %s, from %s\n\n", Cell(t.CorrelationID), t.Status, t.Severity, t.Total,
		span(t.DurationMs), t.StartedAt)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, s := range t.Events {
		e, err := ParseEvent(s.Event)
		if err != nil {
			return err
		}
		v := e.Event
		fmt.Fprintf(w, "  +%s\t%s\t%s\t%s\t%s\t%s\n", span(s.SinceStartMs), Cell(v.EventType), Cell(Actor(v)), Cell(Resource(v)),
			Cell(v.Outcome), Cell(gist(v)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if t.Namespaces != nil {
		fmt.Fprintf(out, "\n  Only events of these namespaces are shown: %s\n", Cell(strings.Join(t.Namespaces, ", ")))
	}
	for _, m := range t.Missing {
		fmt.Fprintf(out, "\n  MISSING %s: %s (entry %d)\n", Cell(strings.Join(m.Expected, " or ")), Cell(m.Reason), m.Index)
	}
	return nil
}

func span(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// gist returns what an event's details say, in a few words.
func gist(e *event.Event) string {
	var details map[string]any
	if len(e.Details) == 0 || json.Unmarshal(e.Details, &details) != nil {
		return e.Error.Message
	}
	var words []string
	for _, key := range []string{"action", "target", "decision", "approver", "reason", "strategy", "resolution", "description", "result", "confidence", "failures", "type", "attempt"} {
		switch v := details[key].(type) {
		case string:
			if v != "" {
				words = append(words, key+"="+v)
			}
		case float64, bool:
			words = append(words, fmt.Sprintf("%s=%v", key, v))
		}
		if len(words) == 3 {
			break
		}
	}
	text := strings.Join(words, " ")
	if r := []rune(text); len(r) > 90 {
		text = string(r[:89]) + "…"
	}
	return text
}
