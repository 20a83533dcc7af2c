package rest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

func TestAProofVerifiesAndProvesNothingElse(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 300)...)
	stranger := open(t).bed.Verifier
	for _, name := range []string{"0", "1", "255", "256", "300", sample(41).ID.String()} {
		a := d.as("viewer").get(events + "/" + name + "/proof").want(http.StatusOK)
		p, err := trail.ParseProof(a.body)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := d.store.Record(t.Context(), p.Index)
		if err != nil {
			t.Fatal(err)
		}
		if cp, err := p.Verify(rec.Entry, d.bed.Verifier); err != nil || cp.Size < 301 {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Verify(rec.Entry, stranger); err == nil {
			t.Errorf("%s: verifies with another ledger's key", name)
		}
		if _, err := p.Verify(append(slices.Clone(rec.Entry), ' '), d.bed.Verifier); err == nil {
			t.Errorf("%s: verifies another entry", name)
		}
		p.Index ^= 1
		if _, err := p.Verify(rec.Entry, d.bed.Verifier); err == nil {
			t.Errorf("%s: verifies at another index", name)
		}
		if a.header.Get("Content-Type") != "text/plain; charset=utf-8" || !strings.HasSuffix(a.header.Get("Content-Disposition"), `.tlog-proof"`) {
			t.Errorf("%s: %v", name, a.header)
		}
	}
}

// A told is one event of a story: its type and, behind a slash, its resource.
func (d *door) tell(correlationID string, told ...string) {
	d.t.Helper()
	for i, name := range told {
		eventType, resource, _ := strings.Cut(name, "/")
		e := sample(0)
		e.ID, e.EventType, e.CorrelationID, e.Severity = event.ID{}, eventType, correlationID, ""
		e.Timestamp = at.Add(time.Duration(i) * time.Minute)
		e.Resource = event.Resource{Kind: "Thing", Namespace: "production", Name: resource}
		d.as("recorder").record(e)
	}
}

// A timeline is the answer about an incident.
type timeline struct {
	CorrelationID, Status, Severity, StartedAt, LastAt string
	DurationMs, LedgerSize                             int64
	Total                                              int
	Events                                             []struct {
		SinceStartMs, SincePreviousMs int64
		Event                         struct {
			EventType string
			Index     int64
		}
	}
	Missing []struct {
		Expected []string
		Index    int64
		Reason   string
	}
}

func TestAnIncidentIsToldAsOneStoryWithWhatIsMissing(t *testing.T) {
	d := open(t)
	for id, tt := range map[string]struct {
		told    []string
		status  string
		missing []string // the first type that is expected, and at which event
	}{
		"whole": {[]string{"AnomalyDetected", "IssueCreated/i", "AIInsightRequested/a", "AIInsightCompleted/a", "ApprovalRequested/p", "ApprovalGranted/p",
			"RemediationExecuted/p", "RemediationSucceeded/p", "IssueResolved/i"}, "resolved", nil},
		"open":              {[]string{"IssueCreated/i"}, "open", nil},
		"contained":         {[]string{"IssueCreated/i", "IssueContained/i"}, "contained", nil},
		"escalated":         {[]string{"IssueCreated/i", "IssueEscalated/i"}, "escalated", nil},
		"no beginning":      {[]string{"IssueResolved/i"}, "resolved", []string{"IssueCreated 0"}},
		"no insight":        {[]string{"IssueCreated/i", "AIInsightRequested/a"}, "open", []string{"AIInsightCompleted 1"}},
		"no decision":       {[]string{"IssueCreated/i", "ApprovalRequested/p"}, "open", []string{"ApprovalGranted 1"}},
		"no request":        {[]string{"IssueCreated/i", "ApprovalGranted/p"}, "open", []string{"ApprovalRequested 1"}},
		"a request later":   {[]string{"ApprovalGranted/p", "ApprovalRequested/p"}, "open", []string{"ApprovalRequested 0", "ApprovalGranted 1"}},
		"another's request": {[]string{"ApprovalRequested/p", "ApprovalGranted/q"}, "open", []string{"ApprovalGranted 0", "ApprovalRequested 1"}},
		"no result":         {[]string{"IssueCreated/i", "RemediationExecuted/p"}, "open", []string{"RemediationSucceeded 1"}},
		"no execution":      {[]string{"IssueCreated/i", "RemediationFailed/p"}, "open", []string{"RemediationExecuted 1"}},
		"agentic steps":     {[]string{"IssueCreated/i", "AgenticStepExecuted/p", "RemediationSucceeded/p"}, "open", nil},
		"no end of chaos":   {[]string{"ChaosExperimentStarted/c"}, "open", []string{"ChaosExperimentCompleted 0"}},
		"no end of a workflow": {[]string{"orchestrator.lifecycle.created/r", "workflowexecution.execution.started/w"}, "open",
			[]string{"workflowexecution.workflow.completed 1"}},
		"no decision of an operator": {[]string{"orchestrator.approval.requested/r"}, "open", []string{"orchestrator.approval.approved 0"}},
		"no cause":                   {[]string{"orchestrator.lifecycle.completed/r"}, "resolved", []string{"gateway.signal.received 0"}},
	} {
		t.Run(id, func(t *testing.T) {
			d.tell(id, tt.told...)
			var story timeline
			d.as("viewer").get("/api/v1/audit/incidents/" + strings.ReplaceAll(id, " ", "%20")).want(http.StatusOK).into(&story)
			if story.CorrelationID != id || story.Status != tt.status || story.Total != len(tt.told) || len(story.Events) != len(tt.told) || story.LedgerSize == 0 {
				t.Fatalf("got %+v", story)
			}
			var missing []string
			for _, m := range story.Missing {
				at := slices.IndexFunc(story.Events, func(e struct {
					SinceStartMs, SincePreviousMs int64
					Event                         struct {
						EventType string
						Index     int64
					}
				}) bool {
					return e.Event.Index == m.Index
				})
				if missing = append(missing, fmt.Sprintf("%s %d", m.Expected[0], at)); m.Reason == "" {
					t.Error("no reason is given")
				}
			}
			if !slices.Equal(missing, tt.missing) {
				t.Errorf("missing %q, want %q", missing, tt.missing)
			}
			if want := int64(len(tt.told)-1) * 60_000; story.DurationMs != want || story.StartedAt != event.FormatTime(at) {
				t.Errorf("from %s for %d ms, want %d", story.StartedAt, story.DurationMs, want)
			}
			for i, e := range story.Events {
				if e.Event.EventType != strings.Split(tt.told[i], "/")[0] || e.SinceStartMs != int64(i)*60_000 || i > 0 && e.SincePreviousMs != 60_000 {
					t.Errorf("step %d: %+v", i, e)
				}
			}
		})
	}
}

func TestAnIncidentMayHaveAnyName(t *testing.T) {
	d := open(t)
	for _, id := range []string{"a/b", "a b", "..", "ünï", "a?b#c", "%2f", "a\nb", strings.Repeat("x", 512)} {
		d.tell(id, "IssueCreated/i")
		escaped := ""
		for _, b := range []byte(id) {
			escaped += fmt.Sprintf("%%%02X", b)
		}
		var story timeline
		d.as("viewer").get("/api/v1/audit/incidents/" + escaped).want(http.StatusOK).into(&story)
		if story.CorrelationID != id || story.Total != 1 {
			t.Errorf("%q: %+v", id, story)
		}
	}
}

func TestAnIncidentOfTooManyEventsIsNotToldInPart(t *testing.T) {
	many := open(t, echoes(rest.MaxIncident+1))
	many.tell("storm", "IssueCreated/i")
	many.as("viewer").get("/api/v1/audit/incidents/storm").problem(http.StatusUnprocessableEntity, "", "correlation_id")
	heavy := open(t, echoes(300))
	storm := large(t, 0, 1, 250<<10)
	storm[0].CorrelationID = "storm"
	heavy.as("recorder").record(storm...)
	heavy.as("viewer").get("/api/v1/audit/incidents/storm").problem(http.StatusUnprocessableEntity, "", "correlation_id")
	many.as("viewer").post("/api/v1/audit/verify-chain", `{"correlation_id":"storm"}`).problem(http.StatusUnprocessableEntity, "", "correlation_id")
}

// A tamperingStore gives out records that somebody has changed.
type tamperingStore struct {
	rest.Store
	at     int64
	change func(r *trail.Record)
}

func (s tamperingStore) Stored() search.Reader { return tampered{s.Store.Stored(), s} }

type tampered struct {
	search.Reader
	s tamperingStore
}

func (d tampered) Record(ctx context.Context, index int64) (trail.Record, error) {
	r, err := d.Reader.Record(ctx, index)
	if index == d.s.at {
		d.s.change(&r)
	}
	return r, err
}

func (d tampered) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	return d.Reader.Records(ctx, r, func(r *trail.Record) error {
		if r.Index == d.s.at {
			d.s.change(r)
		}
		return fn(r)
	})
}

func TestAVerdictNamesWhatWasChanged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *trail.Record)
		says   string
		kind   verify.Kind
	}{
		{"the incident", func(r *trail.Record) {
			r.Entry = []byte(strings.Replace(string(r.Entry), `"inc-0"`, `"inc-9"`, 1))
		}, "does not follow", verify.Changed},
		{"the entry", func(r *trail.Record) {
			r.Entry = []byte(strings.Replace(string(r.Entry), "remediation-reconciler", "remediation-reconcileR", 1))
		}, "does not follow", verify.Changed},
		{"entry and chain", func(r *trail.Record) {
			previous := r.Chain
			r.Entry = []byte(strings.Replace(string(r.Entry), "remediation-reconciler", "remediation-reconcileR", 1))
			r.Chain = trail.Link(previous, r.Entry)
		}, "does not follow", verify.Changed},
		{"the details", func(r *trail.Record) {
			r.Erasable = []byte(strings.Replace(string(r.Erasable), "Rollback", "Rollforward", 1))
		}, "do not match the entry's digest", verify.DetailsMismatch},
		{"the salt", func(r *trail.Record) { r.Salt[0] ^= 1 }, "do not match the entry's digest", verify.DetailsMismatch},
		{"details and salt, to nothing", func(r *trail.Record) { r.Salt, r.Erasable = event.Salt{}, nil }, "the details are missing", verify.DetailsMismatch},
		{"the entry, to its hash", func(r *trail.Record) { *r, _ = r.Prune() }, "only the entry's hash is left", verify.Missing},
		{"the entry, to a wrong hash", func(r *trail.Record) {
			*r, _ = r.Prune()
			r.Leaf[0] ^= 1
		}, "not under the signed checkpoint", verify.Changed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := open(t, change{store: func(s rest.Store) rest.Store { return tamperingStore{s, 3, tt.change} }})
			d.as("recorder").record(samples(0, 6)...)
			var v struct {
				IsValid        bool `json:"is_valid"`
				VerifiedEvents int  `json:"verified_events"`
				TamperedEvents []struct {
					Index   int64
					EventID string `json:"event_id"`
					Message string
				} `json:"tampered_events"`
			}
			d.as("viewer").post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`).want(http.StatusOK).into(&v)
			if v.IsValid || len(v.TamperedEvents) == 0 || v.TamperedEvents[0].Index != 3 || v.TamperedEvents[0].EventID != sample(2).ID.String() || !strings.Contains(v.TamperedEvents[0].Message, tt.says) {
				t.Errorf("verdict %+v", v)
			}
			var r struct {
				OK       bool
				Findings []verify.Finding
			}
			d.as("viewer").get("/api/v1/audit/verify?first=2&last=5").want(http.StatusOK).into(&r)
			if r.OK || len(r.Findings) == 0 || r.Findings[0].Index != 3 || r.Findings[0].Kind != tt.kind {
				t.Errorf("report %+v", r)
			}
			if acts := d.acts("AuditVerified", "valid"); !slices.Equal(acts, []string{"viewer false", "viewer false"}) {
				t.Errorf("recorded %v", acts)
			}
		})
	}
}

func TestTheLedgerIsVerifiedAsAWholeOrInParts(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 50)...)
	for query, entries := range map[string]int64{"": -1, "?first=0": -1, "?first=10&last=19": 10, "?last=0": 1, "?first=0&last=50": 51} { // -1 for all
		var r struct {
			Target, Origin, Checkpoint string
			OK                         bool
			Entries, Size              int64
		}
		d.as("viewer").get("/api/v1/audit/verify" + query).want(http.StatusOK).into(&r)
		if !r.OK || r.Target != r.Origin || r.Origin != "test.example/ledger" || strings.Contains(fmt.Sprint(r), d.dir) {
			t.Errorf("%s: %+v", query, r)
		}
		if cp, err := trail.OpenCheckpoint([]byte(r.Checkpoint), d.bed.Verifier); err != nil || cp.Size != r.Size {
			t.Errorf("%s: %v", query, err)
		}
		if entries < 0 {
			entries = r.Size
		}
		if r.Entries != entries {
			t.Errorf("%s: %d entries, want %d", query, r.Entries, entries)
		}
	}
}

func TestHealthAndReadinessNeedNoToken(t *testing.T) {
	d := open(t)
	holds(t, "health", d.as("").get("/healthz").want(http.StatusOK).body, `{"status":"ok"}`)
	holds(t, "readiness", d.as("").get("/readyz?verbose").want(http.StatusOK).body, `{"status":"ready"}`)
	if d.events() != 1 || len(d.recorded()) != 1 {
		t.Error("they were recorded")
	}
}

// A laggingStore never catches up.
type laggingStore struct{ rest.Store }

func (laggingStore) Wait(ctx context.Context, _ int64) error {
	<-ctx.Done()
	return fmt.Errorf("the index of /secret/path: %w", ctx.Err())
}

func (s laggingStore) Ready(ctx context.Context, size int64) error { return s.Wait(ctx, size) }

func TestAServerWhoseIndexLagsIsNotReady(t *testing.T) {
	d := open(t, change{store: func(s rest.Store) rest.Store { return laggingStore{s} }})
	for _, path := range []string{"/readyz", "/api/v1/audit"} {
		p := d.as("viewer").get(path).problem(http.StatusServiceUnavailable, "", "not-ready")
		if strings.Contains(p.Detail, "/secret") {
			t.Errorf("%s tells of files: %s", path, p.Detail)
		}
	}
	d.as("").get("/healthz").want(http.StatusOK)
	d.as("recorder").post(events, native).want(http.StatusCreated) // recording does not wait for it
}

// A laterStore lags once it is told to.
type laterStore struct {
	rest.Store
	lags *atomic.Bool
}

func (s laterStore) Wait(ctx context.Context, size int64) error {
	if s.lags.Load() {
		return laggingStore{}.Wait(ctx, size)
	}
	return s.Store.Wait(ctx, size)
}

func TestALagOfTheIndexDoesNotTakeAServerFromItsClientsAtOnce(t *testing.T) {
	var lags atomic.Bool
	var later atomic.Int64
	d := open(t, change{store: func(s rest.Store) rest.Store { return laterStore{s, &lags} },
		rest: func(c *rest.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		}})
	d.as("").get("/readyz").want(http.StatusOK)
	lags.Store(true)
	d.as("").get("/readyz").want(http.StatusOK)
	later.Store(int64(11 * time.Second))
	d.as("").get("/readyz").problem(http.StatusServiceUnavailable, "", "not-ready")
	lags.Store(false)
	d.as("").get("/readyz").want(http.StatusOK)
}

func TestMetricsCanBeParsedAndCount(t *testing.T) {
	d := open(t)
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
	d.as("viewer").get("/api/v1/audit?x=1").want(http.StatusBadRequest)
	d.as("").get("/nowhere/" + strings.Repeat("x", 100)).want(http.StatusNotFound)
	a := d.as("viewer").get("/metrics").want(http.StatusOK)
	line := regexp.MustCompile(`^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+$`)
	for text := range strings.Lines(string(a.body)) {
		if text = strings.TrimSuffix(text, "\n"); !strings.HasPrefix(text, "# ") && !line.MatchString(text) {
			t.Errorf("not a metric: %s", text)
		}
	}
	for _, want := range []string{`graven_http_requests_total{route="GET /api/v1/audit",status="200"} 1`, `graven_http_requests_total{route="GET /api/v1/audit",status="400"} 1`,
		`graven_http_requests_total{route="/",status="404"} 1`, `graven_http_request_duration_seconds_count{route="GET /api/v1/audit"} 2`} {
		if !strings.Contains(string(a.body), "\n"+want+"\n") {
			t.Errorf("no %s in\n%s", want, a.body)
		}
	}
	if one := string(d.as("viewer").get("/metrics?name[]=graven_http_requests_total").want(http.StatusOK).body); strings.Contains(one, "duration") {
		t.Errorf("asked for one metric: %s", one)
	}
}

// TestManyClientsAtOnceLeaveASoundLedger lets 64 clients record, list, export
// and verify at once; the harness verifies the ledger at the end.
func TestManyClientsAtOnceLeaveASoundLedger(t *testing.T) {
	const clients, rounds = 64, 2
	d := open(t)
	d.as("recorder").record(samples(0, 100)...)
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			c := d.as("superadmin")
			// get does what the answer 503 asks for: it tries again.
			get := func(path string) *answer {
				for {
					a := c.get(path)
					if a.status != http.StatusServiceUnavailable {
						return a
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
			for round := range rounds {
				switch first := 1000 + (n*rounds+round)*10; rng.IntN(7) {
				case 0:
					get("/api/v1/audit?limit=20&severity=high").want(http.StatusOK)
				case 1:
					get("/api/v1/audit/export?checkpoint=true&correlation_id=inc-3").want(http.StatusOK)
				case 2:
					holds(t, "report", get("/api/v1/audit/verify").want(http.StatusOK).body, `{"ok":true}`)
				case 3:
					body := get("/api/v1/audit/export?checkpoint=true").want(http.StatusOK).body
					if report := d.verified(t, body, d.bed.Verifier); report.Size < 101 {
						t.Errorf("an export of %d entries", report.Size)
					}
				default:
					list := samples(first, 10)
					c.record(list...)
					get(events + "/" + list[9].ID.String()).want(http.StatusOK) // one reads what one has written
				}
			}
		})
	}
	wg.Wait()
	report, err := d.store.Verify(t.Context(), verify.Options{Keys: []note.Verifier{d.bed.Verifier}})
	if err != nil || !report.OK() {
		t.Errorf("%+v, %v", report, err)
	}
}

// A mistakenStore gives out hashes of the tree that are wrong.
type mistakenStore struct{ rest.Store }

func (s mistakenStore) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes, err := s.Store.ReadHashes(indexes)
	for i := range hashes {
		hashes[i][0] ^= 1
	}
	return hashes, err
}

func TestNoProofIsGivenThatProvesNothing(t *testing.T) {
	d := open(t, change{store: func(s rest.Store) rest.Store { return mistakenStore{s} }})
	d.as("recorder").record(samples(0, 6)...)
	id := sample(2).ID.String()
	d.as("viewer").get("/api/v1/audit/events/" + id).want(http.StatusOK)
	if body := d.as("viewer").get("/api/v1/audit/events/" + id + "/proof").want(http.StatusInternalServerError).body; !strings.Contains(string(body), "graven reindex") {
		t.Errorf("the answer is %s", body)
	}
}

// TestWrongHashesAreToldApartFromWrongEntries damages a hash on the disk: what
// would be proven with it is refused, and no entry is blamed.
func TestWrongHashesAreToldApartFromWrongEntries(t *testing.T) {
	for name, at := range map[string]int64{"00": 3*32 + 7, "04": 32 + 7} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			d.as("recorder").record(samples(0, 60)...)
			size := d.ledger.State().Size()
			flipByte(t, filepath.Join(d.dir, "tree", name), at)
			defer flipByte(t, filepath.Join(d.dir, "tree", name), at)
			var r struct {
				OK       bool
				Entries  int64
				Findings []verify.Finding
			}
			d.as("viewer").get("/api/v1/audit/verify?first=1&last=30").want(http.StatusOK).into(&r)
			if r.OK || r.Entries != 30 || len(r.Findings) != 1 || r.Findings[0].Kind != verify.TileMismatch || !strings.Contains(r.Findings[0].Message, "graven reindex") {
				t.Errorf("report %+v", r)
			}
			tile := fmt.Sprintf("/log/tile/0/000.p/%d", size) // which is not shown to be right, where its own hashes are
			for _, ask := range []func() *answer{
				func() *answer { return d.as("viewer").get(tile) },
				func() *answer { return d.as("viewer").get("/api/v1/audit/events/" + sample(1).ID.String() + "/proof") },
				func() *answer { return d.as("viewer").post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`) },
			} {
				if body := string(ask().want(http.StatusInternalServerError).body); !strings.Contains(body, "graven reindex") || strings.Contains(body, "tampered") {
					t.Errorf("the answer is %s", body)
				}
			}
			d.as("viewer").get("/api/v1/audit/export?checkpoint=true&severity=high").problem(http.StatusInternalServerError, "", "graven reindex")
		})
	}
}

func flipByte(t *testing.T, path string, at int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
