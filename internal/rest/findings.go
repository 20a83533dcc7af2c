package rest

import (
	"net/http"

	"github.com/graven-audit/graven/internal/finding"
)

// findings answers GET /api/v1/findings.
func (s *Server) findings(c *call) error {
	var q finding.Query
	now := s.c.Now()
	err := c.params(func(name, value string) (bool, error) { return q.Set(name, value, now) })
	if err == nil {
		err = q.Complete()
	}
	if err != nil {
		return err
	}
	q.Scope = c.by.Namespaces
	cp, err := s.state(c.ctx())
	if err == nil {
		err = s.derived(c.ctx(), cp.Size)
	}
	if err != nil {
		return err
	}
	list, err := s.book.List(c.ctx(), &q, cp.Size)
	return c.answer(list, err)
}

// finding returns the finding that a call is about.
func (s *Server) finding(c *call) (*finding.Finding, error) {
	cp, err := s.state(c.ctx())
	if err == nil {
		err = s.derived(c.ctx(), cp.Size)
	}
	if err != nil {
		return nil, err
	}
	return s.book.Get(c.ctx(), c.r.PathValue("id"), c.by.Namespaces, cp.Size)
}

// getFinding answers GET /api/v1/findings/{id}.
func (s *Server) getFinding(c *call) error {
	f, err := s.finding(c)
	return c.answer(f, err)
}

// judgeFinding answers POST /api/v1/findings/{id}/… with what becomes of the finding.
func (s *Server) judgeFinding(act string) func(*call) error {
	return func(c *call) error {
		data, err := s.body(c)
		if err != nil {
			return err
		}
		o, err := finding.ParseOrder(data)
		if err != nil {
			return err
		}
		s.judging.Lock() // makes looking and recording one step
		defer s.judging.Unlock()
		f, err := s.finding(c)
		if err == nil {
			err = s.book.Act(c.ctx(), act, c.recorder(), f, o)
		}
		if err != nil {
			return err
		}
		return s.getFinding(c)
	}
}

// listRules answers GET /api/v1/findings/rules: what is looked for.
func (s *Server) listRules(c *call) error {
	return c.document(http.StatusOK, map[string]any{"rules": append(finding.Rules(), s.c.Rules...)})
}
