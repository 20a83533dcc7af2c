package rest

import (
	"net/http"

	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
)

// custodian returns how the keeper of holds names the caller.
func (c *call) custodian() custody.Caller {
	return custody.Caller{By: c.recorder(), Namespaces: c.by.Namespaces}
}

// order reads what to hold, or to release.
func (s *Server) order(c *call) (*custody.Order, error) {
	data, err := s.body(c)
	if err != nil {
		return nil, err
	}
	return custody.ParseOrder(data, s.c.Now())
}

// placeHold answers POST /api/v1/audit/legal-hold.
func (s *Server) placeHold(c *call) error {
	o, err := s.order(c)
	if err != nil {
		return err
	}
	a, err := s.holds.Place(c.ctx(), c.custodian(), o)
	return c.answer(a, err)
}

// changeHold answers POST /api/v1/audit/legal-hold/{id}.
func (s *Server) changeHold(c *call) error {
	o, err := s.order(c)
	if err != nil {
		return err
	}
	a, err := s.holds.Change(c.ctx(), c.custodian(), c.r.PathValue("id"), o)
	return c.answer(a, err)
}

// releaseHold answers DELETE /api/v1/audit/legal-hold, and …/{id}, where the id
// may be a correlation id.
func (s *Server) releaseHold(c *call) error {
	o, err := s.order(c)
	if err != nil {
		return err
	}
	a, err := s.holds.Release(c.ctx(), c.custodian(), c.r.PathValue("id"), o)
	return c.answer(a, err)
}

// listHolds answers GET /api/v1/audit/legal-hold.
func (s *Server) listHolds(c *call) error {
	released, err := c.only("released")
	if err != nil {
		return err
	}
	list, err := s.holds.List(c.ctx(), c.custodian(), released)
	return c.answer(map[string]any{"holds": list, "total": len(list)}, err)
}

// getHold answers GET /api/v1/audit/legal-hold/{id}.
func (s *Server) getHold(c *call) error {
	a, err := s.holds.Get(c.ctx(), c.custodian(), c.r.PathValue("id"))
	return c.answer(a, err)
}

// answer answers with a document, unless there is an error.
func (c *call) answer(v any, err error) error {
	if err != nil {
		return err
	}
	return c.document(http.StatusOK, v)
}

// holdOf returns what Kubernaut's form says of the first of the holds that keep
// an event, or nil.
func holdOf(b *retention.Book, h *search.Hit) *intake.Hold {
	for _, held := range custody.Held(b, h) {
		return &intake.Hold{Reason: held.Last().Reason, SetBy: held.Placed().By, SetAt: held.Placed().At}
	}
	return nil
}
