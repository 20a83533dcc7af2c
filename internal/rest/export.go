package rest

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/export"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// A format writes exported events.
type format struct {
	contentType string
	extension   string
	// begin returns what stands before the first event.
	begin func() []byte
	// line appends one event.
	line func(dst []byte, l *trail.Line) []byte
}

func (s *Server) formats() map[string]format {
	return map[string]format{
		"ndjson":      {"application/x-ndjson", "ndjson", nil, func(dst []byte, l *trail.Line) []byte { return l.Append(dst) }},
		"csv":         {"text/csv; charset=utf-8", "csv", export.CSVHeader, export.AppendCSV},
		"cloudevents": {"application/x-ndjson", "cloudevents.ndjson", nil, s.cloudEvent},
	}
}

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
			if _, ok := s.formats()[value]; !ok {
				return true, badParam("format", "one of ndjson, csv, cloudevents")
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
			return true, badParam(param, "an export has no parts; narrow it down by from and to")
		}
		return false, nil
	})
	if err == nil && q.checkpoint && q.format != "ndjson" {
		err = badParam("checkpoint", "only NDJSON can carry it")
	}
	return q, err
}

// positive reads a number from 1 on.
func positive(param, value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 1 {
		return 0, badParam(param, "not a number from 1 on")
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
	held, ok := s.exports.Take(c.by.Name, 1)
	if !ok {
		return newProblem(http.StatusServiceUnavailable, "busy", "Too many exports and streams at a time", "try again")
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
	fm := s.formats()[q.format]
	x := &exporter{s: s, c: c, q: &q, whole: whole, format: fm, w: bufio.NewWriterSize(c.w, 64<<10), checkpoint: cp, cosigned: cosigned}
	c.w.Header().Set("Content-Type", fm.contentType)
	c.w.Header().Set("Content-Disposition", `attachment; filename="audit-export-`+s.c.Now().UTC().Format("20060102-150405")+"."+fm.extension+`"`)
	if fm.begin != nil {
		x.w.Write(fm.begin())
	}
	if err := x.lines(); err != nil && !errors.Is(err, errEnough) {
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
	format     format
	w          *bufio.Writer
	checkpoint *trail.Checkpoint
	cosigned   *trail.Checkpoint
	count      int64

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
	return x.s.c.Store.Records(x.c.ctx(), all, func(r *trail.Record) error {
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

func (x *exporter) write(h search.Hit) error {
	previous := x.chain
	if h.Record.Index != x.last+1 || x.count == 0 {
		var err error
		if previous, err = x.s.previous(x.c, h.Record.Index); err != nil {
			return err
		}
	}
	x.last, x.chain = h.Record.Index, h.Record.Chain
	x.line = trail.Line{Event: h.Event, Record: h.Record, Previous: previous}
	if x.q.checkpoint && !x.whole {
		proof, err := search.Prove(x.s.c.Store, x.checkpoint, h.Record.Index, trail.LeafHash(h.Record.Entry))
		if err != nil {
			return err
		}
		x.line.Proof = append(tlog.RecordProof{}, proof...) // never nil
	}
	x.buf = x.format.line(x.buf[:0], &x.line)
	x.count++
	if _, err := x.w.Write(x.buf); err != nil {
		return err
	}
	if x.count == x.q.limit {
		return errEnough
	}
	return nil
}

// errEnough means that the limit of lines was reached.
var errEnough = errors.New("enough")

func (s *Server) cloudEvent(dst []byte, l *trail.Line) []byte {
	return export.AppendCloudEvent(dst, l, s.c.Ledger.State().Checkpoint.Origin)
}
