package account

import (
	"encoding/json"
	"fmt"
	"mime"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/incident"
	"github.com/graven-audit/graven/internal/narrative"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/search"
)

// A Form is one that a story may have.
type Form struct{ Name, ContentType string }

// forms are the forms of an incident's story, by the parameter format, with the
// types of their content. JSON is that of the timeline, too.
var forms = []Form{
	{"json", "application/json"}, {"text", "text/plain; charset=utf-8"}, {"markdown", "text/markdown; charset=utf-8"},
}

// ParseForm returns in which form an incident is asked for: by the parameter format or,
// without one, by what the caller accepts.
func ParseForm(params Params, accept string) (form Form, err error) {
	err = params(func(name, value string) (bool, error) {
		if name != "format" {
			return false, nil
		}
		for _, f := range forms {
			if f.Name == value {
				form = f
				return true, nil
			}
		}
		return true, problem.Param("format", "one of json, text, markdown")
	})
	if err != nil || form.Name != "" {
		return form, err
	}
	for accepted := range strings.SplitSeq(accept, ",") {
		media, _, err := mime.ParseMediaType(accepted)
		for _, f := range forms {
			if err == nil && strings.HasPrefix(f.ContentType, media) && strings.Contains(media, "/") {
				return f, nil
			}
		}
	}
	return forms[0], nil
}

// timeline is the answer to GET /api/v1/audit/incidents/{correlation_id}.
type timeline struct {
	CorrelationID string          `json:"correlationID"`
	Status        incident.Status `json:"status"`
	Severity      string          `json:"severity"`
	StartedAt     string          `json:"startedAt"`
	LastAt        string          `json:"lastAt"`
	DurationMs    int64           `json:"durationMs"`
	// LedgerSize is the size of the ledger that the answer was made from.
	LedgerSize int64 `json:"ledgerSize"`
	Total      int   `json:"total"`
	// Namespaces are those that the caller sees, if not all. What is missing
	// cannot be told then, and the status is that of what is seen.
	Namespaces []string `json:"namespaces,omitzero"`
	// Erased tells of entries that may have been the incident's.
	Erased  *search.Erasure `json:"erasedBelow,omitempty"`
	Missing []gap           `json:"missing"`
	// Story is what the events say, told.
	Story *narrative.Story `json:"narrative"`
}

type gap struct {
	Expected []string `json:"expected"`
	Index    int64    `json:"index"`
	Reason   string   `json:"reason"`
}

// told returns events as a story is told of them.
func told(hits []search.Hit) []fact.Telling {
	tellings := make([]fact.Telling, len(hits))
	for i, h := range hits {
		tellings[i] = fact.Telling{Index: h.Record.Index, Event: h.Event, Erased: h.Record.Erasable == nil}
	}
	return tellings
}

// A Told is an incident that is to be told.
type Told struct {
	CorrelationID string
	Hits          []search.Hit // in the ledger's order
	LedgerSize    int64
	// Namespaces are those that the caller sees, nil for all.
	Namespaces []string
	// Erased tells of entries that may have been the incident's; nil for none.
	Erased *search.Erasure
}

// Write writes the story in a form. Events are written by hit.
func (o *Told) Write(form Form, hit func(dst []byte, h search.Hit) []byte) ([]byte, error) {
	story := narrative.New(o.CorrelationID, told(o.Hits), o.Namespaces)
	if o.Erased != nil {
		story.Missing = append(story.Missing, narrative.Missing{Kind: "erased", Text: o.Erased.String(), Index: -1})
	}
	switch form.Name {
	case "text":
		return story.Text(), nil
	case "markdown":
		return story.Markdown(), nil
	}
	byIndex := map[int64]search.Hit{}
	steps, n := make([]incident.Step, len(o.Hits)), 4096
	for i, h := range o.Hits {
		n += len(h.Record.Entry) + len(h.Record.Erasable) + 512
		steps[i] = incident.Step{Index: h.Record.Index, Event: h.Event}
		byIndex[h.Record.Index] = h
	}
	t := incident.New(o.CorrelationID, steps)
	a := timeline{CorrelationID: o.CorrelationID, Status: story.Status, Severity: t.Severity, StartedAt: event.FormatTime(t.Started), LastAt: event.FormatTime(t.Last),
		DurationMs: t.Last.Sub(t.Started).Milliseconds(), LedgerSize: o.LedgerSize, Total: len(o.Hits), Namespaces: o.Namespaces, Erased: o.Erased, Missing: []gap{}, Story: story}
	for _, m := range story.Missing {
		if m.Kind == "step" {
			a.Missing = append(a.Missing, gap{m.Expected, m.Index, m.Text})
		}
	}
	body, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encode timeline: %w", err)
	}
	b := append(make([]byte, 0, n+len(body)), body[:len(body)-1]...)
	b = append(b, `,"events":[`...) // one by one, for there may be much of them
	for i, st := range t.Steps {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"sinceStartMs":%d,"sincePreviousMs":%d,"event":`, st.SinceStart.Milliseconds(), st.SincePrevious.Milliseconds())
		b = append(hit(b, byIndex[st.Index]), '}')
	}
	return append(b, "]}\n"...), nil
}
