package rest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/upload"
	"github.com/graven-audit/graven/trail"
)

// maxItems bounds the events of one batch.
const maxItems = 10_000

// body reads a request's body, and has the memory for what is made of it.
func (s *Server) body(c *call) ([]byte, error) {
	data, held, err := s.bodies.Read(c.raw, c.r, c.share())
	if err != nil {
		return nil, bodyError(err)
	}
	c.body = held
	// Decoded, encoded and on its way to the disk, a body is in memory some
	// more times.
	return data, s.take(c, work*int64(len(data)))
}

func bodyError(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.Is(err, upload.ErrBusy):
		return problem.New(http.StatusServiceUnavailable, "busy", "Too many bodies at a time", "try again")
	case errors.Is(err, upload.ErrEncoding):
		p := problem.New(http.StatusUnsupportedMediaType, "encoding", "The body's encoding is not known", err.Error())
		p.Param = "Content-Encoding"
		return p
	case errors.Is(err, os.ErrDeadlineExceeded):
		p := problem.New(http.StatusRequestTimeout, "timeout", "The body took too long", "body: it did not arrive in time")
		p.Errors = []problem.Fault{{Field: "body", Reason: "it did not arrive in time"}}
		return p
	}
	p := problem.New(http.StatusBadRequest, "body", "The body cannot be read", "body: "+err.Error())
	p.Errors = []problem.Fault{{Field: "body", Reason: err.Error()}}
	return p
}

// identify gives an event without an id the one that its idempotency key and
// its position derive.
func identify(c *call, e *event.Event, position int) {
	if key := c.r.Header.Get("Idempotency-Key"); key != "" && e.ID.IsZero() {
		e.ID = event.DeriveID("idempotency-key", c.by.Via, c.by.Name, key, strconv.Itoa(position))
	}
}

// decode reads an event in either form, and tells whether it was the flat one.
// Its errors name members as that form does; what is found later must be
// translated.
func (s *Server) decode(raw []byte) (e *event.Event, flat bool, err error) {
	if e, flat, err = intake.Native(raw); err != nil {
		return nil, false, err
	}
	if _, ok := event.Lookup(e.EventType); s.c.StrictTypes && !ok && e.EventType != "" {
		field := "eventType"
		if flat {
			field = intake.FlatField(field)
		}
		err = &event.FieldError{Field: field, Reason: fmt.Sprintf("%.100q is not in the catalogue, and this server takes no others", e.EventType)}
	}
	return e, flat, err
}

// speaker reads the parameters asserted, observed and on_behalf_of, and returns how
// the ledger names the caller: with asserted=true, all that is sent was done by
// others; with observed=true, the caller has seen it in the state of a resource; with
// on_behalf_of, the caller vouches for somebody else who sent it.
func (s *Server) speaker(c *call) (by ledger.By, err error) {
	asserted, observed, principal := false, false, ""
	err = c.params(func(name, value string) (known bool, err error) {
		switch name {
		case "asserted":
			asserted, err = flag(name, value)
		case "observed":
			observed, err = flag(name, value)
		case "on_behalf_of":
			principal, err = value, access.CheckName(value)
			if err != nil {
				err = problem.Param(name, err.Error())
			}
		default:
			return false, nil
		}
		return true, err
	})
	switch {
	case err != nil:
		return by, err
	case observed && (asserted || principal != ""):
		return by, problem.Param("observed", "no use beside asserted or on_behalf_of")
	case observed && !c.by.Attests:
		return by, s.refuse(c, "attest", "it may not say what it has observed (observed)")
	case observed:
		by = c.recorder()
		by.Attribution = event.AttributionObserved
		return by, nil
	case principal == "" && asserted:
		return c.witness(), nil
	case principal == "":
		return c.recorder(), nil
	case asserted:
		return by, problem.Param("on_behalf_of", "no use beside asserted")
	case !c.by.Attests:
		return by, s.refuse(c, "attest", "it may not vouch for another (on_behalf_of)")
	}
	return ledger.By{Principal: principal, Via: ledger.ViaAdmission + c.by.Name}, nil
}

// receipt is the answer to a recorded event: Kubernaut's and ours.
type receipt struct {
	EventID        string `json:"event_id"`
	EventTimestamp string `json:"event_timestamp"`
	Message        string `json:"message"`
	ID             string `json:"id"`
	Name           string `json:"name"`
	// Index and LeafHash are not known of an event that is kept until the store
	// is back.
	Index      *int64 `json:"index,omitempty"`
	LeafHash   string `json:"leafHash,omitempty"`
	Duplicate  bool   `json:"duplicate"`
	Spooled    bool   `json:"spooled,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"`
}

func receiptOf(e *event.Event, r ledger.Receipt) receipt {
	rc := receipt{EventID: r.ID.String(), EventTimestamp: event.FormatTime(e.Timestamp), Message: "recorded", ID: r.ID.String(),
		Name: e.Name, Duplicate: r.Duplicate, Spooled: r.Spooled}
	switch {
	case r.Spooled:
		rc.Message = "kept until the store is back"
		return rc
	case r.Duplicate:
		rc.Message = "recorded before"
	}
	rc.Index, rc.LeafHash = &r.Index, trail.Hex(r.Leaf)
	return rc
}

// record answers POST /api/v1/audit/events.
func (s *Server) record(c *call) error {
	by, err := s.speaker(c)
	if err != nil {
		return err
	}
	data, err := s.body(c)
	if err != nil {
		return err
	}
	e, flat, err := s.decode(data)
	if err != nil {
		return err
	}
	if err := s.recordable(c, e); err != nil {
		return err
	}
	identify(c, e, 0)
	results, cover, err := s.c.Recorder.Append(c.ctx(), by, []*event.Event{e})
	if err != nil {
		return err
	}
	if err := results[0].Err; err != nil {
		if err := s.conflict(c, results[0]); err != nil {
			return err
		}
		return problemOf(err, flat)
	}
	if err := s.conflict(c, results[0]); err != nil {
		s.report(c, problemOf(err, false)) // the event says it, too: original.id
	}
	rc := receiptOf(e, results[0].Receipt)
	status := http.StatusAccepted
	if !rc.Spooled {
		status, rc.Checkpoint = http.StatusCreated, string(cover.Note)
	}
	c.w.Header().Set("Location", "/api/v1/audit/events/"+rc.ID)
	return c.document(status, rc)
}

// conflict records that an event has not got the id that it bore.
func (s *Server) conflict(c *call, r ledger.Result) error {
	if act, ok := r.Conflict(c.recorder()); ok {
		return s.c.Journal.Record(c.ctx(), act)
	}
	return nil
}

// outcome is what became of one event of a batch.
type outcome struct {
	*receipt
	// Position counts the batch's events from 0; blank lines do not count.
	Position int              `json:"position"`
	Status   int              `json:"status"`
	Error    *problem.Problem `json:"error,omitempty"`
}

// batchAnswer is Kubernaut's answer to a batch, and ours.
type batchAnswer struct {
	EventIDs   []string  `json:"event_ids"`
	Message    string    `json:"message"`
	Accepted   int       `json:"accepted"`
	Duplicates int       `json:"duplicates"`
	Rejected   int       `json:"rejected"`
	Spooled    int       `json:"spooled,omitempty"`
	Items      []outcome `json:"items"`
	Checkpoint string    `json:"checkpoint,omitempty"`
}

// An item is an event of a batch, or what is wrong with it in the words of its
// form. flat says that what is found later must be translated.
type item struct {
	event *event.Event
	flat  bool
	err   error
}

// recordBatch answers POST /api/v1/audit/events/batch. The body is a JSON
// array or NDJSON.
func (s *Server) recordBatch(c *call) error {
	by, err := s.speaker(c)
	if err != nil {
		return err
	}
	data, err := s.body(c)
	if err != nil {
		return err
	}
	raws, err := intake.Batch(c.r.Header.Get("Content-Type"), data, maxItems)
	if err != nil {
		return err
	}
	items := make([]item, len(raws))
	for i, raw := range raws {
		it := &items[i]
		if it.event, it.flat, it.err = s.decode(raw); it.err == nil {
			identify(c, it.event, i)
			it.err = s.recordable(c, it.event)
		}
	}
	return s.answerBatch(c, by, items, http.StatusCreated, http.StatusMultiStatus)
}

func tooMany() *problem.Problem {
	p := problem.New(http.StatusRequestEntityTooLarge, "too-many", "The batch has too many events", fmt.Sprintf("body: the limit is %d", maxItems))
	p.Errors = []problem.Fault{{Field: "body", Reason: fmt.Sprintf("more than %d events", maxItems)}}
	return p
}

// answerBatch records the good items and tells of each what became of it.
func (s *Server) answerBatch(c *call, by ledger.By, items []item, good, mixed int) error {
	var events []*event.Event
	for _, it := range items {
		if it.err == nil {
			events = append(events, it.event)
		}
	}
	results, cover, err := s.c.Recorder.Append(c.ctx(), by, events)
	if err != nil {
		return err
	}
	recorded := slices.ContainsFunc(results, func(r ledger.Result) bool { return r.Err == nil })
	a := batchAnswer{EventIDs: []string{}, Items: make([]outcome, len(items))}
	for i, it := range items {
		v := outcome{Position: i, Status: http.StatusCreated}
		var p *problem.Problem
		if it.err != nil {
			p = problemOf(it.err, false)
		} else {
			r := results[0]
			results = results[1:]
			if r.Err == nil {
				if err := s.conflict(c, r); err != nil {
					s.report(c, problemOf(err, false)) // the event says it, too: original.id
				}
				rc := receiptOf(it.event, r.Receipt)
				v.receipt = &rc
				a.EventIDs = append(a.EventIDs, rc.ID)
				if r.Duplicate {
					a.Duplicates++
				}
				if r.Spooled {
					v.Status = http.StatusAccepted
					a.Spooled++
				}
			} else if p = problemOf(r.Err, it.flat); p.Retry && !recorded {
				return p
			} else if err := s.conflict(c, r); err != nil {
				p = problemOf(err, false) // of this one only, for others were recorded
			}
		}
		if p != nil {
			v.Error, v.Status = p, p.Status
			s.report(c, p)
			a.Rejected++
		}
		a.Items[i] = v
	}
	a.Accepted = len(items) - a.Rejected
	a.Message = fmt.Sprintf("%d of %d events recorded", a.Accepted, len(items))
	if a.Spooled > 0 {
		a.Message = fmt.Sprintf("%d of %d events recorded, %d kept until the store is back", a.Accepted-a.Spooled, len(items), a.Spooled)
	}
	if cover != nil && a.Accepted > a.Spooled {
		a.Checkpoint = string(cover.Note)
	}
	if a.Spooled > 0 && good == http.StatusCreated {
		good = http.StatusAccepted
	}
	if a.Rejected > 0 {
		good = mixed
	}
	return c.document(good, a)
}
