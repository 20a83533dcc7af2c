package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/trail"
)

// acts returns what was recorded of a type, each as a principal and details.
func (d *door) acts(eventType string, details ...string) []string {
	d.t.Helper()
	var list []string
	for _, e := range d.recorded(eventType) {
		act := e.Recorded.Principal
		for _, name := range details {
			act += " " + detail(e, name)
		}
		list = append(list, act)
	}
	return list
}

func (d *door) wantActs(eventType string, details []string, want ...string) {
	d.t.Helper()
	if got := d.acts(eventType, details...); !slices.Equal(got, want) {
		d.t.Errorf("%s recorded\n\t%s\nwant\n\t%s", eventType, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestReadsAreRecordedOnceForPrincipalRouteAndMinute(t *testing.T) {
	c := newClock()
	d := open(t, onClock(c))
	began := c.Now().UTC()
	const list, one = "GET /api/v1/audit", "GET /api/v1/audit/events/{id}"
	for range 5 {
		d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
		d.as("viewer").get(events + "/0").want(http.StatusOK)
	}
	d.as("auditor").get("/api/v1/audit?severity=high").want(http.StatusOK)
	d.as("auditor").get("/api/v1/audit?severity=loud").want(http.StatusBadRequest) // asked, too
	details := []string{"route", "count"}
	first := []string{"viewer " + list + " 1", "viewer " + one + " 1", "auditor " + list + " 1"}
	d.wantActs("AuditRead", details, first...)

	c.move(59 * time.Second)
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
	d.wantActs("AuditRead", details, first...)

	c.move(time.Second)
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
	d.wantActs("AuditRead", details, append(first, "viewer "+list+" 5", "viewer "+list+" 1")...)
	closing := d.recorded("AuditRead")[3]
	if detail(closing, "from") != event.FormatTime(began) || detail(closing, "to") != event.FormatTime(began.Add(59*time.Second)) {
		t.Errorf("the count is from %s to %s, want %s", detail(closing, "from"), detail(closing, "to"), event.FormatTime(began))
	}

	d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
	d.journal.Close()
	rest := d.acts("AuditRead", details...)[5:]
	slices.Sort(rest)
	if want := []string{"auditor " + list + " 1", "viewer " + list + " 1", "viewer " + one + " 4"}; !slices.Equal(rest, want) {
		t.Errorf("at the end %v, want %v", rest, want)
	}
}

func TestEveryRouteThatReadsIsRecorded(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	calls := requests(d)
	for _, r := range d.rest.Routes() {
		calls[r.Method+" "+r.Path](d.as("superadmin"))
	}
	got := map[string]int{}
	for _, e := range d.recorded("AuditRead", "AuditExported", "AuditVerified", "ReportGenerated") {
		if e.EventType == "AuditRead" {
			got[detail(e, "route")]++
		} else {
			got[e.EventType]++
		}
	}
	for name, perm := range needs {
		reads := perm == access.Read || perm == access.Verify || perm == access.ReadAccess || name == "GET /api/v1/tokens" || name == "POST /api/v1/erasures/plan"
		switch name {
		case "GET /metrics", "GET /openapi.json", "POST /api/v1/audit/verify-chain", "GET /api/v1/audit/verify", "GET /api/v1/compliance/report", "GET /api/v1/compliance/evidence", "GET /api/v1/compliance/frameworks", "GET /api/v1/compliance/frameworks/{name}", "GET /api/v1/findings/rules":
			reads = false // tell of no event, or are recorded as something else
		}
		if (got[name] == 1) != reads {
			t.Errorf("%s: recorded %d times", name, got[name])
		}
	}
	if got["AuditExported"] != 1 || got["AuditVerified"] != 1 || got["ReportGenerated"] != 1 {
		t.Errorf("%v", got)
	}
}

func TestFailedLoginsAreCountedForSourceAndMinute(t *testing.T) {
	c := newClock()
	d := open(t, onClock(c))
	d.secrets["wrong"] = "wrong"
	for range 10 {
		d.as("wrong").get("/api/v1/audit").want(http.StatusUnauthorized)
		d.as("").post(events, native).want(http.StatusUnauthorized)
	}
	details := []string{"source", "count"}
	d.wantActs("AuthenticationFailed", details, "graven 127.0.0.1 1")
	c.move(time.Minute)
	d.as("wrong").get("/api/v1/audit").want(http.StatusUnauthorized)
	d.wantActs("AuthenticationFailed", details, "graven 127.0.0.1 1", "graven 127.0.0.1 19", "graven 127.0.0.1 1")
	for _, e := range d.recorded("AuthenticationFailed") {
		if e.Actor != (event.Actor{Type: event.ActorSystem, Name: "graven"}) || e.Outcome != event.OutcomeFailure || detail(e, "reason") == "" || e.Recorded.Via != "internal" {
			t.Errorf("recorded %s", e.AppendJSON(nil))
		}
	}
}

func TestDenialsAreCountedForPrincipalRouteAndMinute(t *testing.T) {
	c := newClock()
	d := open(t, onClock(c))
	for range 4 {
		d.as("recorder").get("/api/v1/audit").want(http.StatusForbidden)
		d.as("recorder").get("/api/v1/tokens").want(http.StatusForbidden)
		d.as("viewer").get("/api/v1/tokens").want(http.StatusForbidden)
	}
	d.journal.Close()
	got := d.acts("PermissionDenied", "permission", "route", "count")
	slices.Sort(got)
	want := []string{"recorder read GET /api/v1/audit 1", "recorder read GET /api/v1/audit 3", "recorder tokens GET /api/v1/tokens 1",
		"recorder tokens GET /api/v1/tokens 3", "viewer tokens GET /api/v1/tokens 1", "viewer tokens GET /api/v1/tokens 3"}
	if !slices.Equal(got, want) {
		t.Errorf("recorded\n\t%s", strings.Join(got, "\n\t"))
	}
}

func TestEveryExportAndVerificationIsRecorded(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	size := strconv.FormatInt(d.ledger.State().Size(), 10)
	d.as("viewer").get("/api/v1/audit/export").want(http.StatusOK)
	d.as("viewer").get("/api/v1/audit/export").want(http.StatusOK)
	d.as("auditor").get("/api/v1/audit/export?format=csv&severity=high&since=2026-03-19").want(http.StatusOK)
	d.as("auditor").get("/api/v1/audit/export?severity=loud").want(http.StatusBadRequest) // there was none
	d.wantActs("AuditExported", []string{"format", "filter", "size"}, "viewer ndjson map[] "+size, "viewer ndjson map[] "+plus(size, 1),
		"auditor csv map[from:2026-03-19T00:00:00Z severity:high] "+plus(size, 2))
	for range 2 {
		d.as("auditor").get("/api/v1/audit/verify").want(http.StatusOK)
	}
	d.as("auditor").get("/api/v1/audit/verify?first=1&last=2").want(http.StatusOK)
	d.as("viewer").post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`).want(http.StatusOK)
	d.as("viewer").post("/api/v1/audit/verify-chain", `{"correlation_id":"none"}`).want(http.StatusNotFound)
	d.wantActs("AuditVerified", []string{"scope", "valid", "findings"}, "auditor ledger true 0", "auditor ledger true 0", "auditor range true 0", "viewer incident inc-0 true 0")
}

func plus(n string, more int) string {
	i, _ := strconv.Atoi(n)
	return strconv.Itoa(i + more)
}

// TestWhoReadWhatIsNotToldUnlessAskedFor also holds the permission to ask.
func TestWhoReadWhatIsNotToldUnlessAskedFor(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 2)...)
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
	d.as("viewer").get("/api/v1/audit/verify").want(http.StatusOK)
	read := d.recorded("AuditRead")[0]
	types := func(c *caller, query string) (list []string, total int) {
		var page struct {
			Total  int
			Events []struct{ EventType string }
		}
		c.get("/api/v1/audit?order=asc&limit=1000" + query).want(http.StatusOK).into(&page)
		for _, e := range page.Events {
			list = append(list, e.EventType)
		}
		return list, page.Total
	}
	for _, tt := range []struct {
		name, query string
		access      bool
	}{
		{"everything", "", false},
		{"by kind", "&kind=Ledger", false},
		{"by actor", "&actor=viewer", false},
		{"by text", "&q=route", false},
		{"by category", "&category=" + read.Category, false},
		{"asked for", "&access=true", true},
		{"asked for, by actor", "&access=true&actor=viewer", true},
		{"asked for, by text", "&access=true&q=route", true},
		{"asked for by type", "&type=AuditRead", true},
		{"asked for by type among others", "&type=RemediationExecuted,AuditRead", true},
	} {
		for _, who := range []string{"viewer", "auditor"} {
			if who == "viewer" && tt.access {
				for _, route := range []string{"/api/v1/audit?", events + "?", "/api/v1/audit/export?", "/api/v1/audit/stream?"} {
					d.as(who).get(route+strings.TrimPrefix(tt.query, "&")).problem(http.StatusForbidden, "", "access")
				}
				continue
			}
			list, total := types(d.as(who), tt.query)
			if total != len(list) || slices.Contains(list, "AuditRead") != tt.access {
				t.Errorf("%s as %s: total %d, %v", tt.name, who, total, list)
			}
			exported := string(d.as(who).get("/api/v1/audit/export?from=2020-01-01" + tt.query).want(http.StatusOK).body)
			if strings.Contains(exported, `"eventType":"AuditRead"`) != tt.access {
				t.Errorf("%s as %s: exported\n%s", tt.name, who, exported)
			}
		}
	}
	for _, name := range []string{read.ID.String(), fmt.Sprint(indexOf(d, read))} {
		d.as("viewer").get(events + "/" + name).want(http.StatusNotFound)
		d.as("viewer").get(events + "/" + name + "/proof").want(http.StatusNotFound)
		d.as("auditor").get(events + "/" + name).want(http.StatusOK)
		d.as("auditor").get(events + "/" + name + "/proof").want(http.StatusOK)
	}
	// The whole ledger is whole, for those who may see it.
	for who, sees := range map[string]bool{"auditor": true, "viewer": false} {
		whole := string(d.as(who).get("/api/v1/audit/export").want(http.StatusOK).body)
		if strings.Contains(whole, `"eventType":"AuditRead"`) != sees {
			t.Errorf("%s: access events in the whole export: %v", who, !sees)
		}
	}
}

func indexOf(d *door, e *event.Event) int {
	return slices.IndexFunc(d.recorded(), func(o *event.Event) bool { return o.ID == e.ID })
}

func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	d.ledger.Close()
	for name, call := range requests(d) {
		a := call(d.as("superadmin"))
		switch {
		case needs[name] == "" || name == "GET /metrics" || name == "GET /openapi.json" || name == "GET /healthz" || name == "GET /api/v1/compliance/frameworks" || name == "GET /api/v1/findings/rules":
		case a.status == http.StatusOK:
			t.Errorf("%s was done and not recorded", name)
		case a.status == http.StatusServiceUnavailable && len(a.body) > 0:
			a.problem(http.StatusServiceUnavailable, "", "stopped")
		}
	}
	d.as("").get("/api/v1/audit").want(http.StatusServiceUnavailable)
	d.as("recorder").get("/api/v1/audit").want(http.StatusServiceUnavailable)
	d.as("recorder").post(events, native).problem(http.StatusServiceUnavailable, "", "stopped")
	d.as("recorder").post(batchRoute, native).problem(http.StatusServiceUnavailable, "", "stopped")
}

func TestReadsAtOnceAreRecordedOnce(t *testing.T) {
	d := open(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { d.as("viewer").get("/api/v1/audit").want(http.StatusOK) })
	}
	wg.Wait()
	d.journal.Close()
	total := 0
	for _, e := range d.recorded("AuditRead") {
		n, _ := strconv.Atoi(detail(e, "count"))
		total += n
	}
	if n := len(d.recorded("AuditRead")); total != 50 || n != 2 {
		t.Errorf("%d events count %d reads", n, total)
	}
}

func TestAnAttackerFromManyPlacesDoesNotShutOutOthers(t *testing.T) {
	const places = 1100 // more than are told apart
	d := open(t)
	for n := range places {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/audit", nil)
		r.RemoteAddr = fmt.Sprintf("10.0.%d.%d:4711", n/256, n%256)
		w := httptest.NewRecorder()
		if d.rest.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
			t.Fatalf("from place %d: status %d: %s", n, w.Code, w.Body)
		}
	}
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
	d.as("recorder").get("/api/v1/audit").want(http.StatusForbidden)
	d.as("auditor").get("/api/v1/audit").want(http.StatusOK)
	if n := len(d.recorded("AuthenticationFailed")); n > 1001 {
		t.Errorf("%d failed logins recorded", n)
	}
	d.journal.Close()
	count := 0
	for _, e := range d.recorded("AuthenticationFailed") {
		n, _ := strconv.Atoi(detail(e, "count"))
		count += n
	}
	if count != places {
		t.Errorf("%d failed logins counted, want %d", count, places)
	}
}

func TestLogsTellWhatAnswersDoNot(t *testing.T) {
	d := open(t, change{store: func(s rest.Store) rest.Store { return brokenStore{s} }})
	d.as("recorder").record(samples(0, 3)...)
	a := d.as("viewer").get(events+"/1").problem(http.StatusInternalServerError, "", "internal")
	if strings.Contains(a.Detail, "/secret") {
		t.Errorf("the answer tells of files: %s", a.Detail)
	}
	if log := d.log.String(); !strings.Contains(log, "/secret/path") || !strings.Contains(log, "GET /api/v1/audit/events/{id}") {
		t.Errorf("the log does not: %s", log)
	}
}

// A brokenStore cannot read records.
type brokenStore struct{ rest.Store }

func (brokenStore) Record(context.Context, int64) (trail.Record, error) {
	return trail.Record{}, errors.New("read /secret/path: input/output error")
}
