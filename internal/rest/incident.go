package rest

import (
	"errors"
	"net/http"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/account"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/reconstruct"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

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
	for _, limit := range []int{small, account.MaxBytes} { // little memory mostly will do
		if err := s.take(c, work*int64(limit)); err != nil {
			return nil, 0, err
		}
		hits = nil
		bytes := 0
		err = s.find.Each(c.ctx(), &f, search.Range{End: cp.Size}, func(h search.Hit) error {
			if bytes += len(h.Record.Entry) + len(h.Record.Erasable); len(hits) == account.MaxEvents || bytes > limit {
				return account.ErrTooMany
			}
			hits = append(hits, h)
			return nil
		})
		if !errors.Is(err, account.ErrTooMany) || len(hits) == account.MaxEvents {
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

// incident answers GET /api/v1/audit/incidents/{correlation_id}.
func (s *Server) incident(c *call) error {
	form, err := account.ParseForm(c.params, c.r.Header.Get("Accept"))
	if err != nil {
		return err
	}
	id := c.r.PathValue("correlation_id")
	hits, size, err := s.events(c, id)
	if err != nil {
		return err
	}
	book, err := s.holds.Book(c.ctx(), size)
	if err != nil {
		return err
	}
	erased, err := s.find.Erased(c.ctx(), &search.Filter{})
	if err != nil {
		return err
	}
	told := account.Told{CorrelationID: id, Hits: hits, LedgerSize: size, Namespaces: c.by.Namespaces, Erased: erased}
	body, err := told.Write(form, func(dst []byte, h search.Hit) []byte { return appendHit(dst, h, book) })
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, form.ContentType, body)
}

// reconstructing answers with what is made of an incident, or a resource, as it was at a
// moment. of are the parameters beside that.
func (s *Server) reconstructing(make func(t *account.Teller, c *call, cp *trail.Checkpoint, q *reconstruct.Question, id string) (any, error), of ...string) func(*call) error {
	return func(c *call) error {
		q, err := account.ParseQuestion(c.params, s.c.Now(), of...)
		if err != nil {
			return err
		}
		id := c.r.PathValue("correlation_id")
		if len(id) > event.MaxString {
			return problem.Param("correlation_id", "1 to "+itoa(event.MaxString)+" bytes")
		}
		if err := s.take(c, work*account.MaxBytes); err != nil {
			return err
		}
		cp, err := s.state(c.ctx())
		if err == nil {
			err = s.derived(c.ctx(), cp.Size)
		}
		if err != nil {
			return err
		}
		made, err := make(&account.Teller{Find: &s.find, Judge: &s.judge, Now: s.c.Now}, c, cp, q, id)
		if err == nil && made == nil {
			err = s.noIncident(c)
		}
		if err != nil {
			return err
		}
		return c.document(http.StatusOK, made)
	}
}

func incidentAsItWas(t *account.Teller, c *call, cp *trail.Checkpoint, q *reconstruct.Question, id string) (any, error) {
	return t.Incident(c.ctx(), cp, q, id, c.by.Namespaces)
}

func resourceAsItWas(t *account.Teller, c *call, cp *trail.Checkpoint, q *reconstruct.Question, _ string) (any, error) {
	return t.Resource(c.ctx(), cp, q, c.by.Namespaces)
}

func requestAsItWas(t *account.Teller, c *call, cp *trail.Checkpoint, q *reconstruct.Question, id string) (any, error) {
	return t.Request(c.ctx(), cp, q, id, c.by.Namespaces)
}
