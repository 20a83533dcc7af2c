package rest

import (
	"bufio"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/export"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// An exportQuestion says what to export, and how.
type exportQuestion struct {
	filter     search.Filter
	format     string
	checkpoint bool
	limit      int64 // of lines; 0 for none
}

// all reports whether everything is asked for.
func (q *exportQuestion) all() bool { return q.filter.All() && q.limit == 0 }

// params returns the question as parameters.
func (q *exportQuestion) params() map[string]string {
	params := q.filter.Params()
	if q.limit > 0 {
		params["limit"] = itoa(q.limit)
	}
	return params
}

func (s *Server) exportQuestion(c *call) (exportQuestion, error) {
	q := exportQuestion{format: "ndjson"}
	var err error
	q.filter, _, err = s.question(c, func(param, value string) (known bool, err error) {
		switch param {
		case "format":
			if _, ok := export.Formats("")[value]; !ok {
				return true, problem.Param("format", "one of ndjson, csv, cloudevents")
			}
			q.format = value
			return true, nil
		case "checkpoint":
			q.checkpoint, err = flag(param, value)
			return true, err
		case "limit":
			q.limit, err = positive(param, value)
			return true, err
		case "offset", "cursor", "order":
			return true, problem.Param(param, "an export has no parts; narrow it down by from and to")
		}
		return false, nil
	})
	if err == nil && q.checkpoint && q.format != "ndjson" {
		err = problem.Param("checkpoint", "only NDJSON can carry it")
	}
	return q, err
}

// positive reads a number from 1 on.
func positive(param, value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 1 {
		return 0, problem.Param(param, "not a number from 1 on")
	}
	return n, nil
}

// export answers GET /api/v1/audit/export. Without any filter it is the whole
// ledger, access events included, so that its lines form one chain; for those
// who may not see who read what, these are left out.
func (s *Server) export(c *call) error {
	q, err := s.exportQuestion(c)
	if err != nil {
		return err
	}
	held, ok := s.exports.Take(c.share(), 1)
	if !ok {
		return problem.New(http.StatusServiceUnavailable, "busy", "Too many exports and streams at a time", "try again")
	}
	defer held.Release()
	cosigned := s.cosigned() // before the newest, which then extends it
	cp, err := s.state(c.ctx())
	if err != nil {
		return err
	}
	whole := q.all() && q.filter.Scope == nil && c.by.Can(access.ReadAccess)
	if err := s.c.Journal.Once(c.ctx(), ledger.Act{Type: "AuditExported", By: c.recorder(),
		Details: map[string]any{"format": q.format, "filter": q.params(), "size": cp.Size}}); err != nil {
		return err
	}
	if !whole || q.checkpoint {
		if err := s.derived(c.ctx(), cp.Size); err != nil {
			return err
		}
	}
	fm := export.Formats(cp.Origin)[q.format]
	x := &exporter{s: s, c: c, q: &q, whole: whole, format: fm, w: bufio.NewWriterSize(c.w, 64<<10), checkpoint: cp, cosigned: cosigned}
	c.w.Header().Set("Content-Type", fm.ContentType)
	c.w.Header().Set("Content-Disposition", `attachment; filename="audit-export-`+s.c.Now().UTC().Format("20060102-150405")+"."+fm.Extension+`"`)
	if fm.Begin != nil {
		x.w.Write(fm.Begin())
	}
	if err := x.lines(); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := x.settle(math.MaxInt64); err != nil {
		return err
	}
	if q.checkpoint {
		if err := x.trailer(); err != nil {
			return err
		}
	}
	if c.w.Status == 0 {
		c.w.WriteHeader(http.StatusOK) // for an export of nothing
	}
	return x.w.Flush()
}

// An exporter writes the lines of one export.
type exporter struct {
	s          *Server
	c          *call
	q          *exportQuestion
	whole      bool // the whole ledger, whose lines prove each other
	format     export.Format
	w          *bufio.Writer
	checkpoint *trail.Checkpoint
	cosigned   *trail.Checkpoint
	count      int64 // of lines
	matched    int64

	owed *retention.Owed // tombstones that lines without content need

	line  trail.Line
	buf   []byte
	last  int64 // index of the line before
	chain trail.Hash
}

// lines writes the lines of all events that match.
func (x *exporter) lines() error {
	all := search.Range{End: x.checkpoint.Size}
	if !x.whole {
		return x.s.find.Each(x.c.ctx(), &x.q.filter, all, x.write)
	}
	return x.s.find.Reader.Records(x.c.ctx(), all, func(r *trail.Record) error {
		if r.Leaf != nil && x.q.format != "ndjson" {
			return nil // it is in the chain, and tells nothing
		}
		e, err := r.Event()
		if err != nil {
			return err
		}
		return x.write(search.Hit{Event: e, Record: *r})
	})
}

// trailer writes the last line, with the checkpoint.
func (x *exporter) trailer() error {
	t := trail.Trailer{Checkpoint: string(x.checkpoint.Note), Filter: x.q.params(), Count: x.count}
	if x.whole {
		t.Filter = map[string]string{}
	} else if len(t.Filter) == 0 {
		t.Filter["access"] = "false"
	}
	if x.cosigned.Size > 0 {
		var err error
		if t.Extends, err = search.ProveExtends(x.s.c.Store, x.checkpoint, x.cosigned); err != nil {
			return err
		}
		t.Cosigned = string(x.cosigned.Note)
	}
	return json.NewEncoder(x.w).Encode(t)
}

// write writes the line of an event that matches, and before it the tombstones
// that lines before it need.
func (x *exporter) write(h search.Hit) error {
	err := x.settle(h.Record.Index)
	if err == nil {
		err = x.put(h)
	}
	if x.matched++; err == nil && x.matched == x.q.limit {
		return errEnough
	}
	return err
}

// settle writes the tombstones before an index that lines need.
func (x *exporter) settle(before int64) error {
	for {
		index, ok := x.owed.Next(before)
		if !ok {
			return nil
		}
		h, err := x.s.find.Get(x.c.ctx(), index)
		if err == nil {
			err = x.put(h)
		}
		if err != nil {
			return err
		}
	}
}

// owe takes note of the tombstone that a line without content needs.
func (x *exporter) owe(index int64) error {
	if x.q.format != "ndjson" {
		return nil
	}
	if x.owed == nil {
		book, err := x.s.holds.Book(x.c.ctx(), x.checkpoint.Size)
		if err != nil {
			return err
		}
		x.owed = retention.NewOwed(book, x.checkpoint.Size, !x.whole && x.q.filter.Scope == nil)
	}
	if !x.owed.Need(index) {
		return problem.New(http.StatusServiceUnavailable, "erasing", "Content is being erased", "export again")
	}
	return nil
}

// put writes a line.
func (x *exporter) put(h search.Hit) error {
	if h.Record.Erasable == nil {
		if err := x.owe(h.Record.Index); err != nil {
			return err
		}
	}
	previous := x.chain
	if h.Record.Index != x.last+1 || x.count == 0 {
		var err error
		if previous, err = x.s.chainBefore(x.c.ctx(), h.Record.Index); err != nil {
			return err
		}
	}
	x.last, x.chain = h.Record.Index, h.Record.Chain
	x.line = trail.Line{Event: h.Event, Record: h.Record, Previous: previous}
	if x.q.checkpoint && !x.whole {
		proof, err := search.Prove(x.s.c.Store, x.checkpoint, h.Record.Index, h.Record.LeafHash())
		if err != nil {
			return err
		}
		x.line.Proof = append(tlog.RecordProof{}, proof...) // never nil
	}
	x.buf = x.format.Line(x.buf[:0], &x.line)
	x.count++
	_, err := x.w.Write(x.buf)
	return err
}

// errEnough means that the limit of lines was reached.
var errEnough = errors.New("enough")
