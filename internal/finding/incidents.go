package finding

import (
	"context"
	"errors"

	"github.com/graven-audit/graven/internal/incident"
	"github.com/graven-audit/graven/internal/search"
)

// incidents finds the incidents that lack steps. It looks at those that have an
// event which makes one expect others, in the order of the first of them.
func (x *Finder) incidents(ctx context.Context, q Question, g *Gaps, size int64) error {
	now := x.Now()
	if q.From.IsZero() {
		q.From = now.Add(-Window)
	}
	g.IncidentsFrom = &q.From
	f := search.Filter{Types: incident.Expecting(), From: q.From, To: q.To}
	if err := f.Check(); err != nil {
		return nil // the window ends before it begins
	}
	seen, events := map[string]bool{}, 0
	err := x.Search.Each(ctx, &f, search.Range{First: q.After + 1, End: size}, func(h search.Hit) error {
		id := h.Event.CorrelationID
		fresh := id != "" && !seen[id]
		if events == maxEvents || fresh && len(seen) == maxIncidents {
			before := h.Record.Index - 1
			g.Next = &before
			return errEnough
		}
		if events++; !fresh {
			return nil
		}
		seen[id] = true
		return x.incident(ctx, &f, q, g, h, size)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

// incident looks at the incident of an event, the first that was asked for.
func (x *Finder) incident(ctx context.Context, asked *search.Filter, q Question, g *Gaps, first search.Hit, size int64) error {
	id := first.Event.CorrelationID
	var steps []incident.Step
	bytes, before := 0, false
	err := x.Search.Each(ctx, &search.Filter{CorrelationID: id}, search.Range{End: size}, func(h search.Hit) error {
		if before = before || h.Record.Index < first.Record.Index && asked.Match(h.Event); before {
			return errEnough // the part before has told of it
		}
		if bytes += len(h.Record.Entry) + len(h.Record.Erasable); len(steps) == maxSteps || bytes > MaxBytes {
			g.Incidents = append(g.Incidents, Incident{CorrelationID: id, Last: h.Event.Timestamp, Missing: []Step{}, TooLarge: true})
			return errEnough
		}
		steps = append(steps, incident.Step{Index: h.Record.Index, Event: h.Event})
		return nil
	})
	if err != nil {
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}
	t := incident.New(id, steps)
	if len(t.Missing) == 0 || x.Now().Sub(t.Last) < q.Settled {
		return nil
	}
	in := Incident{CorrelationID: id, Status: string(t.Status), Last: t.Last}
	for _, m := range t.Missing {
		in.Missing = append(in.Missing, Step(m))
	}
	g.Incidents = append(g.Incidents, in)
	return nil
}
