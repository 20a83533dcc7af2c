package rest

import (
	"context"
	"net/http"

	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/problem"
)

// planRetention answers GET /api/v1/retention/plan.
func (s *Server) planRetention(c *call) error {
	if err := s.unscoped(c); err != nil {
		return err
	}
	if !s.verify.TryAcquire(1) { // it reads the whole ledger, too
		return problem.New(http.StatusServiceUnavailable, "busy", "The whole ledger is being read", "somebody verifies it, or plans a run; try again")
	}
	defer s.verify.Release(1)
	p, err := s.eraser.Plan(c.ctx())
	return c.answer(p.Shown(), err)
}

// runRetention answers POST /api/v1/retention/run.
func (s *Server) runRetention(c *call) error {
	if err := s.unscoped(c); err != nil {
		return err
	}
	// What was recorded as erased is erased, whether or not the caller waits.
	result, err := s.eraser.Run(context.WithoutCancel(c.ctx()), c.recorder(), false)
	return c.answer(result, err)
}

// erase answers POST /api/v1/erasures and, with look, …/plan.
func (s *Server) erase(look bool) func(*call) error {
	return func(c *call) error {
		o, err := s.order(c)
		if err != nil {
			return err
		}
		if look {
			a, err := s.eraser.Look(c.ctx(), c.custodian(), o)
			return c.erased(a, err)
		}
		a, err := s.eraser.Erase(c.ctx(), c.custodian(), o)
		return c.erased(a, err)
	}
}

// confirmErasure answers POST /api/v1/erasures/{id}/confirm.
func (s *Server) confirmErasure(c *call) error {
	a, err := s.eraser.Confirm(c.ctx(), c.custodian(), c.r.PathValue("id"))
	return c.erased(a, err)
}

// erased answers with an erasure, or a request that waits for another person.
func (c *call) erased(a *erasure.Answer, err error) error {
	if err == nil && !a.Erased && a.Left == "" && a.Request != "" {
		return c.document(http.StatusAccepted, a)
	}
	return c.answer(a, err)
}
