package rest

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/jcs"
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
		"csv":         {"text/csv; charset=utf-8", "csv", func() []byte { return csvLine(nil, csvHeader) }, appendCSV},
		"cloudevents": {"application/x-ndjson", "cloudevents.ndjson", nil, s.appendCloudEvent},
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
	release, ok := s.exports.Take(c.by.Name)
	if !ok {
		return newProblem(http.StatusServiceUnavailable, "busy", "Too many exports and streams at a time", "try again")
	}
	defer release()
	cp, err := s.state()
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
	x := &exporter{s: s, c: c, q: &q, whole: whole, format: fm, w: bufio.NewWriterSize(c.w, 64<<10), checkpoint: cp}
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
	if c.w.status == 0 {
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
		proof, err := tlog.ProveRecord(x.checkpoint.Size, h.Record.Index, x.s.c.Store)
		if err != nil {
			return err
		}
		x.line.Proof = proof
		if proof == nil {
			x.line.Proof = tlog.RecordProof{}
		}
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

var csvHeader = []string{"index", "id", "name", "timestamp", "eventType", "category", "action", "outcome", "severity",
	"actorType", "actorName", "kind", "namespace", "resource", "correlationID", "cluster", "durationMs", "errorCode", "errorMessage",
	"details", "recordedAt", "principal", "attribution", "previousHash", "hash"}

func appendCSV(dst []byte, l *trail.Line) []byte {
	e := l.Event
	details := "{}"
	if len(e.Details) > 0 {
		details = string(e.Details)
	}
	return csvLine(dst, []string{itoa(l.Record.Index), e.ID.String(), e.Name, event.FormatTime(e.Timestamp), e.EventType, e.Category,
		e.Action, e.Outcome, e.Severity, e.Actor.Type, e.Actor.Name, e.Resource.Kind, e.Resource.Namespace, e.Resource.Name,
		e.CorrelationID, e.Cluster, itoa(e.DurationMs), e.Error.Code, e.Error.Message, details,
		event.FormatTime(e.Recorded.At), e.Recorded.Principal, e.Recorded.Attribution, trail.Hex(l.Previous), trail.Hex(l.Record.Chain)})
}

// csvLine appends a line of RFC 4180. A field that a spreadsheet would take
// for a formula gets an apostrophe before it, and so does one that begins with
// an apostrophe, so that taking one away gives the field back.
func csvLine(dst []byte, fields []string) []byte {
	var b strings.Builder
	safe := make([]string, len(fields))
	for i, f := range fields {
		if f != "" && strings.IndexByte("=+-@\t\r\n'", f[0]) >= 0 {
			f = "'" + f
		}
		safe[i] = f
	}
	w := csv.NewWriter(&b)
	w.Write(safe)
	w.Flush()
	return append(dst, b.String()...)
}

// appendCloudEvent appends an event as a CloudEvent 1.0 in JSON, on a line.
func (s *Server) appendCloudEvent(dst []byte, l *trail.Line) []byte {
	e := l.Event
	attribute := func(name, value string) {
		dst = append(append(append(dst, `,"`...), name...), `":`...)
		dst = jcs.AppendString(dst, value)
	}
	dst = append(dst, `{"specversion":"1.0"`...)
	attribute("id", e.ID.String())
	attribute("source", "urn:graven:"+s.c.Ledger.State().Checkpoint.Origin)
	attribute("type", "dev.graven.event."+e.EventType)
	if subject := strings.Trim(e.Resource.Namespace+"/"+e.Resource.Kind+"/"+e.Resource.Name, "/"); subject != "" {
		attribute("subject", subject)
	}
	attribute("time", event.FormatTime(e.Timestamp))
	attribute("datacontenttype", "application/json")
	if e.CorrelationID != "" {
		attribute("partitionkey", e.CorrelationID)
	}
	attribute("sequence", itoa(l.Record.Index))
	attribute("eventhash", trail.Hex(l.Record.Chain))
	attribute("severity", e.Severity)
	dst = append(dst, `,"data":`...)
	return append(e.AppendJSON(dst), "}\n"...)
}
