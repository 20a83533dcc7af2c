package rest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/trail"
)

// maxItems bounds the events of one batch.
const maxItems = 10_000

// zstdWindow bounds what a zstd body may refer back to, as RFC 8878 asks of
// decoders, and is the memory that each takes.
const zstdWindow = 8 << 20

// firstRead is the memory that is taken for any body, however small.
const firstRead = 8 << 10

// body reads a request's body, decompressed, within the bounds of size, time
// and memory. release must be called when it is not needed any more.
func (s *Server) body(c *call) (data []byte, release func(), err error) {
	if c.r.ContentLength > s.c.MaxBody {
		return nil, nil, tooLarge(s.c.MaxBody)
	}
	// Memory is taken as the body arrives, so that slow senders of large
	// bodies do not shut out others.
	var taken int64
	free := func() { s.bodies.Release(taken) }
	take := func(n int64) error {
		if !s.bodies.TryAcquire(n) {
			return newProblem(http.StatusServiceUnavailable, "busy", "Too many bodies at a time", "try again")
		}
		taken += n
		return nil
	}
	defer func() {
		if err != nil {
			free()
		}
	}()
	in, done, err := decoded(http.MaxBytesReader(c.raw, c.r.Body, s.c.MaxBody), c.r.Header.Get("Content-Encoding"), take)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	var buf []byte
	for {
		if len(buf) == cap(buf) {
			more := min(max(int64(cap(buf)), firstRead), s.c.MaxBody+1-int64(cap(buf)))
			if err := take(more); err != nil {
				return nil, nil, err
			}
			buf = append(make([]byte, 0, int64(cap(buf))+more), buf...)
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > s.c.MaxBody:
			return nil, nil, tooLarge(s.c.MaxBody)
		case errors.Is(err, io.EOF):
			// From here on the connection is only watched, for as long as the answer takes.
			_ = c.rc.SetReadDeadline(time.Time{})
			return buf, free, nil
		case err != nil:
			return nil, nil, bodyError(err)
		}
	}
}

// decoded returns a body without its encoding. done must be called in the end.
func decoded(in io.Reader, encoding string, take func(int64) error) (out io.Reader, done func(), err error) {
	done = func() {}
	switch strings.ToLower(encoding) {
	case "", "identity":
		return in, done, nil
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, nil, bodyError(err)
		}
		return z, done, nil
	case "zstd":
		if err := take(zstdWindow); err != nil {
			return nil, nil, err
		}
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, bodyError(err)
		}
		return z, z.Close, nil
	}
	p := newProblem(http.StatusUnsupportedMediaType, "encoding", "The body's encoding is not known", "Content-Encoding: gzip, zstd or none")
	p.Param = "Content-Encoding"
	return nil, nil, p
}

func bodyError(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		p := newProblem(http.StatusRequestTimeout, "timeout", "The body took too long", "body: it did not arrive in time")
		p.Errors = []fault{{"body", "it did not arrive in time"}}
		return p
	}
	p := newProblem(http.StatusBadRequest, "body", "The body cannot be read", "body: "+err.Error())
	p.Errors = []fault{{"body", err.Error()}}
	return p
}

// identify gives an event without an id the one that its idempotency key and
// its position derive.
func identify(c *call, e *event.Event, position int) {
	if key := c.r.Header.Get("Idempotency-Key"); key != "" && e.ID.IsZero() {
		e.ID = event.DeriveID("idempotency-key", c.by.Name, key, strconv.Itoa(position))
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

// speaker reads the parameter asserted, and returns how the ledger names the
// caller: with asserted=true, all that is sent was done by others.
func (c *call) speaker() (ledger.By, error) {
	asserted, err := c.only("asserted")
	if asserted {
		return c.witness(), err
	}
	return c.recorder(), err
}

// receipt is the answer to a recorded event: Kubernaut's and ours.
type receipt struct {
	EventID        string `json:"event_id"`
	EventTimestamp string `json:"event_timestamp"`
	Message        string `json:"message"`
	ID             string `json:"id"`
	Name           string `json:"name"`
	Index          int64  `json:"index"`
	LeafHash       string `json:"leafHash"`
	Duplicate      bool   `json:"duplicate"`
	Checkpoint     string `json:"checkpoint,omitempty"`
}

func receiptOf(e *event.Event, r ledger.Receipt) receipt {
	rc := receipt{EventID: r.ID.String(), EventTimestamp: event.FormatTime(e.Timestamp), Message: "recorded", ID: r.ID.String(),
		Name: e.Name, Index: r.Index, LeafHash: trail.Hex(r.Leaf), Duplicate: r.Duplicate}
	if r.Duplicate {
		rc.Message = "recorded before"
	}
	return rc
}

// record answers POST /api/v1/audit/events.
func (s *Server) record(c *call) error {
	by, err := c.speaker()
	if err != nil {
		return err
	}
	data, release, err := s.body(c)
	if err != nil {
		return err
	}
	defer release()
	e, flat, err := s.decode(data)
	if err != nil {
		return err
	}
	identify(c, e, 0)
	results, cover, err := s.c.Ledger.Append(c.ctx(), by, []*event.Event{e})
	if err != nil {
		return err
	}
	if err := results[0].Err; err != nil {
		if err := s.conflict(c, results[0]); err != nil {
			return err
		}
		return problemOf(err, flat)
	}
	rc := receiptOf(e, results[0].Receipt)
	rc.Checkpoint = string(cover.Note)
	body, err := json.Marshal(rc)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/api/v1/audit/events/"+rc.ID)
	return c.json(http.StatusCreated, append(body, '\n'))
}

// conflict records that an id came back with other content.
func (s *Server) conflict(c *call, r ledger.Result) error {
	if !errors.Is(r.Err, ledger.ErrConflict) {
		return nil
	}
	return s.c.Journal.Record(c.ctx(), ledger.Act{Type: "IdempotencyConflict", By: c.recorder(),
		Details: map[string]any{"id": r.ID.String(), "index": r.Index, "principal": c.by.Name}})
}

// verdict is what became of one event of a batch.
type verdict struct {
	*receipt
	// Position counts the batch's events from 0; blank lines do not count.
	Position int      `json:"position"`
	Status   int      `json:"status"`
	Error    *problem `json:"error,omitempty"`
}

// batchAnswer is Kubernaut's answer to a batch, and ours.
type batchAnswer struct {
	EventIDs   []string  `json:"event_ids"`
	Message    string    `json:"message"`
	Accepted   int       `json:"accepted"`
	Duplicates int       `json:"duplicates"`
	Rejected   int       `json:"rejected"`
	Items      []verdict `json:"items"`
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
	by, err := c.speaker()
	if err != nil {
		return err
	}
	data, release, err := s.body(c)
	if err != nil {
		return err
	}
	defer release()
	var items []item
	each := func(raw []byte) error {
		if len(items) == maxItems {
			return tooMany()
		}
		var it item
		it.event, it.flat, it.err = s.decode(raw)
		if it.err == nil {
			identify(c, it.event, len(items))
		}
		items = append(items, it)
		return nil
	}
	if err := eachItem(c.r.Header.Get("Content-Type"), data, each); err != nil {
		return err
	}
	if len(items) == 0 {
		return problemOf(&event.FieldError{Field: "body", Reason: "no events"}, false)
	}
	return s.answerBatch(c, by, items, http.StatusCreated, http.StatusMultiStatus)
}

func tooMany() error {
	p := newProblem(http.StatusRequestEntityTooLarge, "too-many", "The batch has too many events", fmt.Sprintf("body: the limit is %d", maxItems))
	p.Errors = []fault{{"body", fmt.Sprintf("more than %d events", maxItems)}}
	return p
}

// eachItem calls fn for each event of an array or of NDJSON.
func eachItem(contentType string, data []byte, fn func(raw []byte) error) error {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && contentType != "" {
		return badParam("Content-Type", err.Error())
	}
	sc := jcs.NewScanner(data)
	switch {
	case media == "application/x-ndjson" || media == "application/jsonl" || sc.Kind() == '{':
		for line := range bytes.Lines(data) {
			if line = bytes.Trim(line, " \t\r\n"); len(line) == 0 {
				continue
			}
			if err := fn(line); err != nil {
				return err
			}
		}
		return nil
	case sc.Kind() == '[':
		// The whole array is split first: where it is cut off, nothing counts.
		raws, err := jcs.Elements(data, maxItems)
		if err != nil {
			return err
		}
		if len(raws) > maxItems {
			return tooMany()
		}
		for _, raw := range raws {
			if err := fn(raw); err != nil {
				return err
			}
		}
		return nil
	}
	return &event.FieldError{Field: "body", Reason: "neither a JSON array of events nor NDJSON"}
}

// answerBatch records the good items and tells of each what became of it.
func (s *Server) answerBatch(c *call, by ledger.By, items []item, good, mixed int) error {
	var events []*event.Event
	for _, it := range items {
		if it.err == nil {
			events = append(events, it.event)
		}
	}
	results, cover, err := s.c.Ledger.Append(c.ctx(), by, events)
	if err != nil {
		return err
	}
	a := batchAnswer{EventIDs: []string{}, Items: make([]verdict, len(items))}
	for i, it := range items {
		v := verdict{Position: i, Status: http.StatusCreated}
		var p *problem
		if it.err != nil {
			p = problemOf(it.err, false)
		} else {
			r := results[0]
			results = results[1:]
			if r.Err == nil {
				rc := receiptOf(it.event, r.Receipt)
				v.receipt = &rc
				a.EventIDs = append(a.EventIDs, rc.ID)
				if r.Duplicate {
					a.Duplicates++
				}
			} else if p = problemOf(r.Err, it.flat); p.retry {
				return p // none of the batch was recorded
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
	if cover != nil && a.Accepted > 0 {
		a.Checkpoint = string(cover.Note)
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	status := good
	if a.Rejected > 0 {
		status = mixed
	}
	return c.json(status, append(body, '\n'))
}
