package rest

import (
	"net/http"

	"github.com/graven-audit/graven/internal/finding"
)

// gaps answers GET /api/v1/audit/gaps: what is missing.
func (s *Server) gaps(c *call) error {
	q := finding.Question{After: -1, Settled: finding.Settled}
	now := s.c.Now()
	err := c.params(func(name, value string) (bool, error) { return q.Set(name, value, now) })
	if err != nil {
		return err
	}
	if err := s.unscoped(c); err != nil {
		return err
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return err
	}
	if err := s.take(c, work*finding.MaxBytes); err != nil {
		return err
	}
	x := finding.Finder{Sources: s.c.Store, Search: s.find, Now: s.c.Now}
	g, err := x.Gaps(c.ctx(), q, cp.Size)
	if err != nil {
		return err
	}
	return c.document(http.StatusOK, g)
}
