package rest_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// lines parses an NDJSON export.
func lines(t *testing.T, body []byte) (list []*trail.Line, end *trail.Trailer) {
	t.Helper()
	for text := range bytes.Lines(body) {
		if end != nil {
			t.Fatal("a line behind the trailer")
		}
		line, trailer, err := trail.ParseLine(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if trailer != nil {
			end = trailer
			continue
		}
		list = append(list, line)
	}
	return list, end
}

func TestTheWholeExportIsOneChain(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 300)...)
	d.as("recorder").post(events, fullFlat).want(http.StatusCreated)
	a := d.as("viewer").get("/api/v1/audit/export").want(http.StatusOK)
	list, end := lines(t, a.body)
	if len(list) != 302 || end != nil {
		t.Fatalf("%d lines, trailer %v", len(list), end)
	}
	var previous trail.Hash
	var tree trail.Tree
	for i, l := range list {
		if l.Record.Index != int64(i) || l.Previous != previous || trail.Link(previous, l.Record.Entry) != l.Record.Chain {
			t.Fatalf("line %d does not follow from the one before", i)
		}
		e, want, err := event.ParseEntry(l.Record.Entry)
		if err != nil {
			t.Fatal(err)
		}
		if !want.Equal(l.Event.Digests(l.Record.Salt)) || e.ID != l.Event.ID || e.EventType != l.Event.EventType {
			t.Errorf("line %d shows another event than its entry", i)
		}
		previous = l.Record.Chain
		tree.Append(trail.LeafHash(l.Record.Entry), nil)
	}
	if got := a.header.Get("Content-Disposition"); !regexp.MustCompile(`^attachment; filename="audit-export-\d{8}-\d{6}\.ndjson"$`).MatchString(got) {
		t.Errorf("Content-Disposition: %s", got)
	}
}

// verified checks an export as an auditor does, who has nothing but the keys.
func (d *door) verified(t *testing.T, body []byte, keys ...note.Verifier) *verify.Report {
	t.Helper()
	report, err := verify.Export(t.Context(), bytes.NewReader(body), verify.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Errorf("%s: entry %d: %s", f.Kind, f.Index, f.Message)
	}
	return report
}

func TestExportsVerifyOffline(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 300)...)
	d.as("recorder").post(batchRoute, full+"\n"+fullFlat).want(http.StatusCreated)
	team := d.token(access.Token{Name: "team", Role: access.Viewer, Namespaces: []string{"payments"}})
	for _, tt := range []struct {
		name, query string
		c           *caller
		filter      map[string]string
		count       int64
	}{
		{"the whole ledger", "", d.as("auditor"), map[string]string{}, 303},
		{"all that a viewer may see", "", d.as("viewer"), map[string]string{"access": "false"}, 303},
		{"the whole ledger, with who read what", "&access=true", d.as("auditor"), map[string]string{}, 304},
		{"one incident", "&correlation_id=inc-7", d.as("viewer"), map[string]string{"correlation_id": "inc-7"}, 6},
		{"a window", "&since=2026-03-19T14:30:00Z&until=2026-03-19T14:30:10Z", d.as("viewer"), map[string]string{"from": "2026-03-19T14:30:00Z", "to": "2026-03-19T14:30:10Z"}, 12},
		{"severities under other names", "&severity=error,moderate", d.as("viewer"), map[string]string{"severity": "high,medium"}, 303},
		{"a text", "&q=PLAN-29", d.as("viewer"), map[string]string{"q": "PLAN-29"}, 11},
		{"what one team sees", "", team, map[string]string{"scope": "payments"}, 101},
		{"nothing", "&actor=nobody", d.as("viewer"), map[string]string{"actor": "nobody"}, 0},
		{"the first five", "&limit=5", d.as("auditor"), map[string]string{"limit": "5"}, 5},
		{"the first three of one incident", "&limit=3&correlation_id=inc-7", d.as("viewer"), map[string]string{"correlation_id": "inc-7", "limit": "3"}, 3},
		{"the first entry", "&type=LedgerCreated", d.as("viewer"), map[string]string{"type": "LedgerCreated"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			size := d.ledger.State().Size()
			body := tt.c.get("/api/v1/audit/export?checkpoint=true" + tt.query).want(http.StatusOK).body
			list, end := lines(t, body)
			if end == nil || !maps.Equal(end.Filter, tt.filter) || end.Count != int64(len(list)) {
				t.Fatalf("trailer %+v behind %d lines", end, len(list))
			}
			cp, err := trail.OpenCheckpoint([]byte(end.Checkpoint), d.bed.Verifier)
			if err != nil || cp.Size != size {
				t.Fatalf("checkpoint of %d entries, want %d: %v", cp.Size, size, err)
			}
			if want := tt.count; len(tt.filter) > 0 && end.Count != want || len(tt.filter) == 0 && end.Count != size {
				t.Errorf("%d lines, want %d", end.Count, want)
			}
			for _, l := range list {
				if (l.Proof != nil) == end.Whole() {
					t.Errorf("entry %d: proof %v in a whole export %v", l.Record.Index, l.Proof, end.Whole())
				}
				if !end.Whole() {
					p := trail.Proof{Index: l.Record.Index, Hashes: l.Proof, Checkpoint: []byte(end.Checkpoint)}
					if _, err := p.Verify(l.Record.Entry, d.bed.Verifier); err != nil {
						t.Error(err)
					}
				}
			}
			if report := d.verified(t, body, d.bed.Verifier); !report.Authenticated || report.Entries != end.Count {
				t.Errorf("report: %+v", report)
			}
		})
	}
	if report := d.verified(t, d.as("auditor").get("/api/v1/audit/export").want(http.StatusOK).body); report.Authenticated {
		t.Error("without a checkpoint nothing is authenticated")
	}
}

func TestAnExportHoldsWhatWasThereWhenItBegan(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 40)...)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 1000; ; n++ {
			select {
			case <-stop:
				return
			default:
				d.as("recorder").record(sample(n))
			}
		}
	}()
	for range 10 {
		list, end := lines(t, d.as("auditor").get("/api/v1/audit/export?checkpoint=true").want(http.StatusOK).body)
		cp, err := trail.OpenCheckpoint([]byte(end.Checkpoint), d.bed.Verifier)
		if err != nil {
			t.Fatal(err)
		}
		var tree trail.Tree
		for _, l := range list {
			tree.Append(trail.LeafHash(l.Record.Entry), nil)
		}
		if tree.Size() != cp.Size || tree.Root() != cp.Root {
			t.Errorf("%d lines under a checkpoint of %d entries", tree.Size(), cp.Size)
		}
	}
	close(stop)
	<-done
}

// TestSpreadsheetsDoNotRunWhatAnExportSays records fields that would be
// formulas, and reads them back.
func TestSpreadsheetsDoNotRunWhatAnExportSays(t *testing.T) {
	d := open(t)
	texts := []string{`=cmd|' /C calc'!A0`, "+1+2", "-2+3", "@SUM(A1)", "\t=1+2", "\r=1", "\n=1", "'=1", "''x", `"quoted", and, commas`, "two\nlines", "tail\r\nCRLF", "plain", "ünïcode", ";=1"}
	for i, text := range texts {
		e := sample(i)
		e.Actor.Name, e.Resource.Name, e.Error.Message, e.CorrelationID = text, text, text, text
		d.as("recorder").record(e)
	}
	a := d.as("viewer").get("/api/v1/audit/export?format=csv&type=RemediationExecuted").want(http.StatusOK)
	rows, err := csv.NewReader(bytes.NewReader(a.body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(texts)+1 || a.header.Get("Content-Type") != "text/csv; charset=utf-8" || !strings.HasSuffix(a.header.Get("Content-Disposition"), `.csv"`) {
		t.Fatalf("%d rows, headers %v", len(rows), a.header)
	}
	column := func(name string) int { return slices.Index(rows[0], name) }
	for i, row := range rows[1:] {
		for _, field := range row {
			if field != "" && strings.ContainsAny(field[:1], "=+-@\t\r\n") {
				t.Errorf("the field %q begins a formula", field)
			}
		}
		want := strings.ReplaceAll(texts[i], "\r\n", "\n") // as readers of CSV have it
		for _, name := range []string{"actorName", "resource", "errorMessage", "correlationID"} {
			if got := strings.TrimPrefix(row[column(name)], "'"); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		var details map[string]any
		if err := json.Unmarshal([]byte(row[column("details")]), &details); err != nil || details["number"] != float64(i) {
			t.Errorf("details %q: %v", row[column("details")], err)
		}
		if row[column("timestamp")] != event.FormatTime(sample(i).Timestamp) || row[column("id")] != sample(i).ID.String() || len(row[column("hash")]) != 64 {
			t.Errorf("row %v", row)
		}
	}
	if empty := d.as("viewer").get("/api/v1/audit/export?format=csv&actor=nobody").want(http.StatusOK); !strings.HasPrefix(string(empty.body), "index,id,") || strings.Count(string(empty.body), "\n") != 1 {
		t.Errorf("without events: %q", empty.body)
	}
}

func TestCloudEventsHaveWhatTheirSpecificationRequires(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 50)...)
	d.as("recorder").post(batchRoute, full+"\n"+fullFlat+"\n"+with(native, "resource", `{"kind":"Node"}`)).want(http.StatusCreated)
	a := d.as("viewer").get("/api/v1/audit/export?format=cloudevents").want(http.StatusOK)
	seen := map[string]bool{}
	n := 0
	for line := range bytes.Lines(a.body) {
		n++
		var ce map[string]any
		if err := json.Unmarshal(line, &ce); err != nil {
			t.Fatal(err)
		}
		for name, v := range ce {
			if !regexp.MustCompile(`^[a-z0-9]{1,20}$`).MatchString(name) {
				t.Errorf("an attribute called %s", name)
			}
			if s, ok := v.(string); name != "data" && (!ok || s == "") {
				t.Errorf("the attribute %s is %v", name, v)
			}
		}
		source, err := url.Parse(ce["source"].(string))
		if ce["specversion"] != "1.0" || err != nil || !source.IsAbs() || ce["datacontenttype"] != "application/json" {
			t.Errorf("%s", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, ce["time"].(string)); err != nil {
			t.Error(err)
		}
		data, err := json.Marshal(ce["data"])
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.ParseServed(data)
		if err != nil || e.ID.String() != ce["id"] || ce["type"] != "dev.graven.event."+e.EventType {
			t.Errorf("%v: %s", err, line)
		}
		key := ce["source"].(string) + " " + ce["id"].(string)
		if seen[key] {
			t.Errorf("%s stands twice", key)
		}
		seen[key] = true
	}
	if n != int(d.ledger.State().Size())-1 {
		t.Errorf("%d events", n)
	}
	again := d.as("viewer").get("/api/v1/audit/export?format=cloudevents&type=RemediationExecuted").want(http.StatusOK)
	for line := range bytes.Lines(again.body) {
		if !bytes.Contains(a.body, line) {
			t.Error("an event has another form when it is exported again")
		}
	}
}

// A failingStore gives up in the middle of the records.
type failingStore struct {
	rest.Store
	at int64
}

func (s failingStore) Record(ctx context.Context, index int64) (trail.Record, error) {
	if index >= s.at {
		return trail.Record{}, errors.New("read: input/output error")
	}
	return s.Store.Record(ctx, index)
}

func (s failingStore) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	if r.End > s.at {
		r.End = s.at
		return errors.Join(s.Store.Records(ctx, r, fn), errors.New("read: input/output error"))
	}
	return s.Store.Records(ctx, r, fn)
}

func TestAnExportThatBreaksOffDoesNotEndWell(t *testing.T) {
	for _, tt := range []struct {
		name  string
		at    int64
		begun bool
	}{
		{"before the first byte was sent", 3, false},
		{"in the middle", 280, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := open(t, change{store: func(s rest.Store) rest.Store { return failingStore{s, tt.at} }})
			d.as("recorder").record(samples(0, 300)...)
			for _, query := range []string{"", "?checkpoint=true", "?format=csv", "?format=cloudevents", "?severity=high", "?severity=high&checkpoint=true"} {
				a := d.as("viewer").get("/api/v1/audit/export" + query)
				switch {
				case tt.begun && (a.err == nil || a.status != http.StatusOK):
					t.Errorf("%s: status %d, %d bytes, and a good end", query, a.status, len(a.body))
				case tt.begun && !errors.Is(a.err, io.ErrUnexpectedEOF):
					t.Errorf("%s: %v", query, a.err)
				case !tt.begun:
					a.problem(http.StatusInternalServerError, "", "internal")
					if a.header.Get("Content-Disposition") != "" {
						t.Errorf("%s: the problem is an attachment", query)
					}
				}
			}
			if log := d.log.String(); !strings.Contains(log, "input/output error") {
				t.Errorf("the log does not say why: %s", log)
			}
			if metrics := string(d.as("viewer").get("/metrics").body); !strings.Contains(metrics, `route="GET /api/v1/audit/export"`) {
				t.Error("no metric tells of it")
			}
		})
	}
}

// TestALongAnswerLeavesNoDeadlineBehind looks at the connection that an export
// has used: the next request on it must have its own time.
func TestALongAnswerLeavesNoDeadlineBehind(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	for _, path := range []string{"/api/v1/audit/export", "/api/v1/audit", "/nowhere"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+d.secrets["viewer"])
		w.set = nil
		d.rest.ServeHTTP(w, r)
		if len(w.set) == 0 || !w.set[0].IsZero() {
			t.Errorf("%s begins with the deadlines %v", path, w.set)
		}
	}
}

// deadlines remembers the deadlines for writing.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (w *deadlines) SetWriteDeadline(t time.Time) error {
	w.set = append(w.set, t)
	return nil
}
