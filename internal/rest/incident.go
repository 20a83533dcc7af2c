package rest

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/incident"
	"github.com/graven-audit/graven/internal/search"
)

// Bounds of an incident whose events are told as one story: their number, and
// the bytes of their records.
const (
	maxIncident      = 10_000
	maxIncidentBytes = 64 << 20
	maxStories       = 4 // at a time, for each may take as much memory
)

var errTooMany = newProblem(http.StatusUnprocessableEntity, "too-many", "The incident has too many events",
	"more than "+itoa(maxIncident)+", or more than "+itoa(maxIncidentBytes>>20)+" MiB; list or export them with correlation_id")

// events returns the events of an incident, in the ledger's order.
func (s *Server) events(c *call, correlationID string) ([]search.Hit, int64, error) {
	if correlationID == "" || len(correlationID) > event.MaxString {
		return nil, 0, badParam("correlation_id", "1 to "+itoa(event.MaxString)+" bytes")
	}
	cp, err := s.state()
	if err != nil {
		return nil, 0, err
	}
	var hits []search.Hit
	bytes := 0
	f := search.Filter{CorrelationID: correlationID, Scope: c.by.Namespaces}
	err = s.find.Each(c.ctx(), &f, search.Range{End: cp.Size}, func(h search.Hit) error {
		if bytes += len(h.Record.Entry) + len(h.Record.Erasable); len(hits) == maxIncident || bytes > maxIncidentBytes {
			return errTooMany
		}
		hits = append(hits, h)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if len(hits) == 0 {
		return nil, 0, notFound("no event has this correlation id, or you may not see it")
	}
	return hits, cp.Size, nil
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
	LedgerSize int64  `json:"ledgerSize"`
	Total      int    `json:"total"`
	Events     []step `json:"events"`
	// Namespaces are those that the caller sees, if not all. What is missing
	// cannot be told then, and the status is that of what is seen.
	Namespaces []string `json:"namespaces,omitzero"`
	Missing    []gap    `json:"missing"`
}

type step struct {
	SinceStartMs    int64           `json:"sinceStartMs"`
	SincePreviousMs int64           `json:"sincePreviousMs"`
	Event           json.RawMessage `json:"event"`
}

type gap struct {
	Expected []string `json:"expected"`
	Index    int64    `json:"index"`
	Reason   string   `json:"reason"`
}

func (s *Server) incident(c *call) error {
	if err := c.noParams(); err != nil {
		return err
	}
	if err := s.stories.Acquire(c.ctx(), 1); err != nil {
		return err
	}
	defer s.stories.Release(1)
	id := c.r.PathValue("correlation_id")
	hits, size, err := s.events(c, id)
	if err != nil {
		return err
	}
	byIndex := map[int64]search.Hit{}
	steps := make([]incident.Step, len(hits))
	for i, h := range hits {
		steps[i] = incident.Step{Index: h.Record.Index, Event: h.Event}
		byIndex[h.Record.Index] = h
	}
	t := incident.New(id, steps)
	a := timeline{CorrelationID: id, Status: t.Status, Severity: t.Severity, StartedAt: event.FormatTime(t.Started), LastAt: event.FormatTime(t.Last),
		DurationMs: t.Last.Sub(t.Started).Milliseconds(), LedgerSize: size, Total: len(hits), Events: make([]step, len(t.Steps)), Missing: []gap{}}
	for i, st := range t.Steps {
		a.Events[i] = step{SinceStartMs: st.SinceStart.Milliseconds(), SincePreviousMs: st.SincePrevious.Milliseconds(),
			Event: appendHit(nil, byIndex[st.Index])}
	}
	if c.by.Namespaces != nil {
		a.Namespaces, t.Missing = c.by.Namespaces, nil
	}
	for _, g := range t.Missing {
		a.Missing = append(a.Missing, gap(g))
	}
	body, err := json.Marshal(a)
	if err != nil {
		return errors.Join(errors.New("encode timeline"), err)
	}
	return c.json(http.StatusOK, append(body, '\n'))
}
