package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/incident"
	"github.com/graven-audit/graven/internal/narrative"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/search"
)

// Bounds of an incident whose events are told as one story: their number, and
// the bytes of their records.
const (
	maxIncident      = 10_000
	maxIncidentBytes = 16 << 20
)

var errTooMany = problem.New(http.StatusUnprocessableEntity, "too-many", "The incident has too many events",
	"more than "+itoa(maxIncident)+", or more than "+itoa(maxIncidentBytes>>20)+" MiB; list or export them with correlation_id")

// events returns the events of an incident, in the ledger's order.
func (s *Server) events(c *call, correlationID string) ([]search.Hit, int64, error) {
	if correlationID == "" || len(correlationID) > event.MaxString {
		return nil, 0, problem.Param("correlation_id", "1 to "+itoa(event.MaxString)+" bytes")
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return nil, 0, err
	}
	f := search.Filter{CorrelationID: correlationID, Scope: c.by.Namespaces}
	var hits []search.Hit
	for _, limit := range []int{small, maxIncidentBytes} { // little memory mostly will do
		if err := s.take(c, work*int64(limit)); err != nil {
			return nil, 0, err
		}
		hits = nil
		bytes := 0
		err = s.find.Each(c.ctx(), &f, search.Range{End: cp.Size}, func(h search.Hit) error {
			if bytes += len(h.Record.Entry) + len(h.Record.Erasable); len(hits) == maxIncident || bytes > limit {
				return errTooMany
			}
			hits = append(hits, h)
			return nil
		})
		if !errors.Is(err, errTooMany) || len(hits) == maxIncident {
			break
		}
	}
	if err != nil {
		return nil, 0, err
	}
	if len(hits) == 0 {
		return nil, 0, s.noIncident(c)
	}
	return hits, cp.Size, nil
}

// noIncident answers that an incident has no events.
func (s *Server) noIncident(c *call) error {
	none := "no event has this correlation id, or you may not see it"
	e, err := s.find.Erased(c.ctx(), &search.Filter{})
	if err != nil {
		return err
	}
	if e != nil {
		none += "; " + e.String()
	}
	return problem.NotFound(none)
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

// stories are the forms of an incident's story, by the parameter format, with the
// types of their content. JSON is that of the timeline, too.
var stories = []struct{ name, contentType string }{
	{"json", "application/json"}, {"text", "text/plain; charset=utf-8"}, {"markdown", "text/markdown; charset=utf-8"},
}

// storyFormat returns in which form an incident is asked for: by the parameter or, without
// one, by what the caller accepts.
func (c *call) storyFormat() (format, contentType string, err error) {
	err = c.params(func(name, value string) (bool, error) {
		if name != "format" {
			return false, nil
		}
		for _, f := range stories {
			if f.name == value {
				format, contentType = f.name, f.contentType
				return true, nil
			}
		}
		return true, problem.Param("format", "one of json, text, markdown")
	})
	if err != nil || format != "" {
		return format, contentType, err
	}
	for accepted := range strings.SplitSeq(c.r.Header.Get("Accept"), ",") {
		media, _, err := mime.ParseMediaType(accepted)
		for _, f := range stories {
			if err == nil && strings.HasPrefix(f.contentType, media) && strings.Contains(media, "/") {
				return f.name, f.contentType, nil
			}
		}
	}
	return stories[0].name, stories[0].contentType, nil
}

// told returns events as a story is told of them.
func told(hits []search.Hit) []fact.Telling {
	tellings := make([]fact.Telling, len(hits))
	for i, h := range hits {
		tellings[i] = fact.Telling{Index: h.Record.Index, Event: h.Event, Erased: h.Record.Erasable == nil}
	}
	return tellings
}

func (s *Server) incident(c *call) error {
	format, contentType, err := c.storyFormat()
	if err != nil {
		return err
	}
	id := c.r.PathValue("correlation_id")
	hits, size, err := s.events(c, id)
	if err != nil {
		return err
	}
	story := narrative.New(id, told(hits), c.by.Namespaces)
	erased, err := s.find.Erased(c.ctx(), &search.Filter{})
	if err != nil {
		return err
	}
	if erased != nil {
		story.Missing = append(story.Missing, narrative.Missing{Kind: "erased", Text: erased.String(), Index: -1})
	}
	switch format {
	case "text":
		return c.write(http.StatusOK, contentType, story.Text())
	case "markdown":
		return c.write(http.StatusOK, contentType, story.Markdown())
	}
	book, err := s.holds.Book(c.ctx(), size)
	if err != nil {
		return err
	}
	byIndex := map[int64]search.Hit{}
	steps, n := make([]incident.Step, len(hits)), 4096
	for i, h := range hits {
		n += len(h.Record.Entry) + len(h.Record.Erasable) + 512
		steps[i] = incident.Step{Index: h.Record.Index, Event: h.Event}
		byIndex[h.Record.Index] = h
	}
	t := incident.New(id, steps)
	a := timeline{CorrelationID: id, Status: story.Status, Erased: erased, Story: story, Severity: t.Severity, StartedAt: event.FormatTime(t.Started), LastAt: event.FormatTime(t.Last),
		DurationMs: t.Last.Sub(t.Started).Milliseconds(), LedgerSize: size, Total: len(hits), Missing: []gap{}}
	if c.by.Namespaces != nil {
		a.Namespaces = c.by.Namespaces
	}
	for _, m := range story.Missing {
		if m.Kind == "step" {
			a.Missing = append(a.Missing, gap{m.Expected, m.Index, m.Text})
		}
	}
	body, err := json.Marshal(a)
	if err != nil {
		return errors.Join(errors.New("encode timeline"), err)
	}
	b := append(make([]byte, 0, n+len(body)), body[:len(body)-1]...)
	b = append(b, `,"events":[`...) // one by one, for there may be much of them
	for i, st := range t.Steps {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"sinceStartMs":%d,"sincePreviousMs":%d,"event":`, st.SinceStart.Milliseconds(), st.SincePrevious.Milliseconds())
		b = append(appendHit(b, byIndex[st.Index], book), '}')
	}
	return c.json(http.StatusOK, append(b, "]}\n"...))
}
