package rest

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/account"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/verdict"
	"github.com/graven-audit/graven/verify"
)

// verifyChain answers POST /api/v1/audit/verify-chain: each event of an
// incident is held against its neighbour in the chain, against the signed
// checkpoint, and its details against their digest.
func (s *Server) verifyChain(c *call) error {
	data, err := s.body(c)
	if err != nil {
		return err
	}
	id, err := parseCorrelation(data)
	if err != nil {
		return err
	}
	if len(id) > event.MaxString {
		return problem.Param("correlation_id", "1 to "+itoa(event.MaxString)+" bytes")
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return err
	}
	if err := s.derived(c.ctx(), cp.Size); err != nil {
		return err
	}
	v, err := s.judge.Incident(c.ctx(), cp, id, c.by.Namespaces, account.MaxEvents, s.c.Now())
	switch {
	case errors.Is(err, verdict.ErrTooMany):
		return account.ErrTooMany
	case err != nil:
		return err
	case v.TotalEvents == 0:
		return s.noIncident(c)
	}
	if err := s.verified(c, map[string]any{"scope": "incident " + id, "valid": v.IsValid, "findings": len(v.TamperedEvents), "size": cp.Size}); err != nil {
		return err
	}
	return c.document(http.StatusOK, v)
}

func (s *Server) verified(c *call, details map[string]any) error {
	return s.c.Journal.Once(c.ctx(), ledger.Act{Type: "AuditVerified", By: c.recorder(), Details: details})
}

// verifyLedger answers GET /api/v1/audit/verify: the whole ledger or, with
// first and last, a range of it.
func (s *Server) verifyLedger(c *call) error {
	first, last := int64(0), int64(-1)
	err := c.params(func(name, value string) (bool, error) {
		place, ok := map[string]*int64{"first": &first, "last": &last}[name]
		if !ok {
			return false, nil
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return true, problem.Param(name, "not an index")
		}
		*place = n
		return true, nil
	})
	if err != nil {
		return err
	}
	if err := s.unscoped(c); err != nil {
		return err
	}
	if !s.verify.TryAcquire(1) {
		return problem.New(http.StatusServiceUnavailable, "busy", "Another verification is running", "try again")
	}
	defer s.verify.Release(1)
	var v *verify.Report
	scope := "ledger"
	if first == 0 && last < 0 {
		v, err = s.c.Store.Verify(c.ctx(), verify.Options{})
	} else {
		v, err = s.verifyRange(c, first, last)
		scope = "range"
	}
	if err != nil {
		return err
	}
	v.Target = v.Origin // a client has no use for a path of this machine
	if err := s.verified(c, map[string]any{"scope": scope, "first": first, "entries": v.Entries, "valid": v.OK(),
		"findings": int64(len(v.Findings)) + v.Omitted, "size": v.Size}); err != nil {
		return err
	}
	return c.document(http.StatusOK, v)
}

func (s *Server) verifyRange(c *call, first, last int64) (*verify.Report, error) {
	cp, err := s.state(c.ctx())
	if err != nil {
		return nil, err
	}
	if err := s.derived(c.ctx(), cp.Size); err != nil {
		return nil, err
	}
	return s.judge.Range(c.ctx(), cp, first, last)
}

// parseCorrelation reads which incident is asked for, as a JSON object.
func parseCorrelation(data []byte) (id string, err error) {
	sc := jcs.NewScanner(data)
	err = sc.Members(func(name []byte) error {
		if string(name) != "correlation_id" {
			return &jcs.Error{Reason: "no such member; there is correlation_id"}
		}
		id, err = sc.String()
		return err
	})
	if err == nil {
		err = sc.End()
	}
	if err == nil && id == "" {
		err = &event.FieldError{Field: "correlation_id", Reason: "required"}
	}
	return id, err
}
