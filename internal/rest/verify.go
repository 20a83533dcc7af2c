package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// chainVerdict is Kubernaut's answer to a verification of one incident.
type chainVerdict struct {
	CorrelationID    string     `json:"correlation_id"`
	IsValid          bool       `json:"is_valid"`
	TotalEvents      int        `json:"total_events"`
	VerifiedEvents   int        `json:"verified_events"`
	TamperedEvents   []tampered `json:"tampered_events,omitempty"`
	VerificationTime string     `json:"verification_time"`
	Message          string     `json:"message"`
	// Checkpoint is the signed statement that the events were held against.
	Checkpoint string `json:"checkpoint"`
	// Namespaces are those that the caller sees, if not all: events of others
	// were not verified.
	Namespaces []string `json:"namespaces,omitzero"`

	size int64 // of the ledger
}

type tampered struct {
	EventID        string `json:"event_id"`
	EventTimestamp string `json:"event_timestamp"`
	ExpectedHash   string `json:"expected_hash"`
	ActualHash     string `json:"actual_hash"`
	PreviousHash   string `json:"previous_hash"`
	Message        string `json:"message"`
	Index          int64  `json:"index"`

	kind verify.Kind
}

// verifyChain answers POST /api/v1/audit/verify-chain: each event of an
// incident is held against its neighbour in the chain, against the signed
// checkpoint, and its details against their digest.
func (s *Server) verifyChain(c *call) error {
	if err := c.noParams(); err != nil {
		return err
	}
	data, err := s.body(c)
	if err != nil {
		return err
	}
	id, err := parseCorrelation(data)
	if err != nil {
		return err
	}
	v, err := s.judge(c, id)
	if err != nil {
		return err
	}
	v.Message = fmt.Sprintf("all %d events verified under a signed checkpoint of %d entries", v.TotalEvents, v.size)
	if !v.IsValid {
		v.Message = fmt.Sprintf("%d of %d events do not verify", len(v.TamperedEvents), v.TotalEvents)
	}
	if err := s.verified(c, map[string]any{"scope": "incident " + id, "valid": v.IsValid, "findings": len(v.TamperedEvents), "size": v.size}); err != nil {
		return err
	}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, append(body, '\n'))
}

// judge checks the events of an incident: all that the index names, for one
// that was changed need not match any more.
func (s *Server) judge(c *call, id string) (*chainVerdict, error) {
	if len(id) > event.MaxString {
		return nil, badParam("correlation_id", "1 to "+itoa(event.MaxString)+" bytes")
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return nil, err
	}
	if err := s.derived(c.ctx(), cp.Size); err != nil {
		return nil, err
	}
	v := &chainVerdict{CorrelationID: id, VerificationTime: event.FormatTime(s.c.Now()), Checkpoint: string(cp.Note), Namespaces: c.by.Namespaces, size: cp.Size}
	f := search.Filter{CorrelationID: id, Scope: c.by.Namespaces}
	err = s.find.Candidates(c.ctx(), &f, search.Range{End: cp.Size}, func(index int64) error {
		r, err := s.c.Store.Stored().Record(c.ctx(), index)
		if err != nil {
			return err
		}
		t, err := s.check(c, cp, &r)
		if err != nil {
			return err
		}
		e, parseErr := r.Event()
		if t == nil && parseErr == nil && !f.Match(e) {
			return nil // its words share a hash with those asked for
		}
		if v.TotalEvents++; v.TotalEvents > maxIncident {
			return errTooMany
		}
		if t == nil {
			v.VerifiedEvents++
			return nil
		}
		if parseErr == nil {
			t.EventID, t.EventTimestamp = e.ID.String(), event.FormatTime(e.Timestamp)
		}
		v.TamperedEvents = append(v.TamperedEvents, *t)
		return nil
	})
	if err == nil && v.TotalEvents == 0 {
		err = notFound("no event has this correlation id, or you may not see it")
	}
	v.IsValid = len(v.TamperedEvents) == 0
	return v, err
}

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

func (s *Server) verified(c *call, details map[string]any) error {
	return s.c.Journal.Once(c.ctx(), ledger.Act{Type: "AuditVerified", By: c.recorder(), Details: details})
}

// check holds a record against its neighbour, the checkpoint and its digests.
// It returns what is wrong, or nil.
func (s *Server) check(c *call, cp *trail.Checkpoint, r *trail.Record) (*tampered, error) {
	previous, err := s.previous(c, r.Index)
	if err != nil {
		return nil, err
	}
	t := &tampered{kind: verify.Changed, Index: r.Index, PreviousHash: trail.Hex(previous), ActualHash: trail.Hex(r.Chain), ExpectedHash: trail.Hex(trail.Link(previous, r.Entry))}
	if t.ActualHash != t.ExpectedHash {
		t.Message = "the entry does not follow from the one before it"
		return t, nil
	}
	if _, err := search.Prove(s.c.Store, cp, r.Index, trail.LeafHash(r.Entry)); errors.Is(err, search.ErrChanged) {
		t.Message = "the entry is not under the signed checkpoint"
		return t, nil
	} else if err != nil {
		return nil, err
	}
	if err := verify.CheckPresent(r); err != nil {
		t.kind, t.Message = verify.DetailsMismatch, err.Error()
		return t, nil
	}
	return nil, nil
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
			return true, badParam(name, "not an index")
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
		return newProblem(http.StatusServiceUnavailable, "busy", "Another verification is running", "try again")
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
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, append(body, '\n'))
}

// maxVerifyRange bounds a range, so that its answer does not take for ever;
// the whole ledger is verified in another, faster way.
const maxVerifyRange = 100_000

func (s *Server) verifyRange(c *call, first, last int64) (*verify.Report, error) {
	cp, err := s.state(c.ctx())
	if err != nil {
		return nil, err
	}
	if last < 0 {
		last = cp.Size - 1
	}
	switch {
	case first > last:
		return nil, badParam("first", "lies behind last")
	case last >= cp.Size:
		return nil, badParam("last", "the ledger has "+itoa(cp.Size)+" entries")
	case last-first >= maxVerifyRange:
		return nil, badParam("last", "more than "+itoa(maxVerifyRange)+" entries; verify the whole ledger instead")
	}
	if err := s.derived(c.ctx(), cp.Size); err != nil {
		return nil, err
	}
	v := &verify.Report{Origin: cp.Origin, Size: cp.Size, Root: cp.Root, Checkpoint: cp.Note}
	unproven := int64(0) // entries whose hashes are wrong, which says nothing about them
	err = s.c.Store.Stored().Records(c.ctx(), search.Range{First: first, End: last + 1}, func(r *trail.Record) error {
		v.Entries++
		t, err := s.check(c, cp, r)
		if t != nil {
			v.Findings = append(v.Findings, verify.Finding{Kind: t.kind, Index: r.Index, Message: t.Message})
		}
		if errors.Is(err, search.ErrHashes) {
			unproven, err = unproven+1, nil
		}
		return err
	})
	if unproven > 0 {
		v.Findings = append(v.Findings, verify.Finding{Kind: verify.TileMismatch, Index: -1,
			Message: fmt.Sprintf("%d of the entries could not be held against the checkpoint: %v", unproven, search.ErrHashes)})
	}
	return v, err
}
