package rest_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/rest"
)

// A line is an event of the trails that checks are held against.
type line struct {
	minute    int
	eventType string
	actor     string // a person, or empty for a controller
	kind      string
	name      string
	details   map[string]any
}

var monday = time.Date(2026, 3, 16, 9, 0, 0, 0, time.UTC)

// lines records a trail; who attests records what people did.
func (d *door) lines(list ...line) {
	d.t.Helper()
	for i, l := range list {
		e := &event.Event{ID: event.DeriveID("line", fmt.Sprint(d.events(), i)), EventType: l.eventType, Timestamp: monday.Add(time.Duration(l.minute) * time.Minute),
			Actor: event.Actor{Type: event.ActorController, Name: "c"}, Resource: event.Resource{Kind: l.kind, Namespace: "production", Name: l.name}, CorrelationID: "inc-1"}
		if l.actor != "" {
			e.Actor = event.Actor{Type: event.ActorUser, Name: l.actor}
		}
		if l.details == nil {
			l.details = map[string]any{}
		}
		if err := e.SetDetails(l.details); err != nil {
			d.t.Fatal(err)
		}
		d.as("recorder").record(e)
	}
}

func (c *caller) controls(framework string) *control.Document {
	c.d.t.Helper()
	doc := new(control.Document)
	c.get("/api/v1/compliance/frameworks/" + framework + "?from=2026-03-16&to=2026-03-17").want(http.StatusOK).into(doc)
	return doc
}

func result(doc *control.Document, check string) string {
	i := slices.IndexFunc(doc.Checks, func(v control.Verdict) bool { return v.Check == check })
	if i < 0 {
		return "there is no such check"
	}
	return doc.Checks[i].Result
}

func TestChecksPassOnTheTrailThatShowsItAndNotOnTheOther(t *testing.T) {
	type d = map[string]any
	executed := line{10, "RemediationExecuted", "", "RemediationPlan", "p", d{"action": "Rollback", "decisionMode": "approval"}}
	granted := line{5, "ApprovalGranted", "john@company.com", "ApprovalRequest", "a", d{"plan": "p"}}
	for _, tt := range []struct {
		name, framework, check, want string
		trail                        []line
	}{
		{"nothing happened", "soc2", "approved-before-execution", "not enough evidence", nil},
		{"approved by another", "soc2", "approved-before-execution", "passed", []line{granted, executed}},
		{"never approved", "soc2", "approved-before-execution", "1 exception of 1", []line{executed}},
		{"approved later", "soc2", "approved-before-execution", "1 exception of 1", []line{executed, {20, "ApprovalGranted", "john@company.com", "ApprovalRequest", "a", d{"plan": "p"}}}},
		{"approved by who asked", "soc2", "approved-before-execution", "1 exception of 1",
			[]line{{4, "ApprovalRequested", "", "ApprovalRequest", "a", d{"plan": "p", "requester": "john@company.com"}}, granted, executed}},
		{"approved by an engine", "soc2", "approved-before-execution", "1 exception of 1", []line{{5, "ApprovalGranted", "", "ApprovalRequest", "a", d{"plan": "p", "auto": "true"}}, executed}},
		{"automatic ones need none", "soc2", "approved-before-execution", "not enough evidence", []line{{10, "RemediationExecuted", "", "RemediationPlan", "p", d{"decisionMode": "auto"}}}},
		{"automatic upon an analysis", "soc2", "automatic-execution-explained", "passed",
			[]line{{1, "AIInsightCompleted", "", "AIInsight", "i", nil}, {10, "RemediationExecuted", "", "RemediationPlan", "p", d{"decisionMode": "auto"}}}},
		{"automatic upon nothing", "soc2", "automatic-execution-explained", "1 exception of 1", []line{{10, "RemediationExecuted", "", "RemediationPlan", "p", d{"decisionMode": "auto"}}}},
		{"a program's word for who decided", "soc2", "decisions-attributed", "1 exception of 1", []line{granted}},
		{"a reason", "soc2", "decisions-reasoned", "passed", []line{{5, "ApprovalRejected", "john@company.com", "ApprovalRequest", "a", d{"reason": "too aggressive"}}}},
		{"no reason", "soc2", "decisions-reasoned", "1 exception of 1", []line{{5, "ApprovalRejected", "john@company.com", "ApprovalRequest", "a", nil}}},
		{"a result", "soc2", "results-recorded", "passed", []line{executed, {12, "RemediationFailed", "", "RemediationPlan", "p", nil}}},
		{"no result", "soc2", "results-recorded", "1 exception of 1", []line{executed}},
		{"an end", "soc2", "incidents-ended", "passed", []line{{0, "IssueCreated", "", "Issue", "i", nil}, {30, "IssueEscalated", "", "Issue", "i", nil}}},
		{"no end", "soc2", "incidents-ended", "1 exception of 1", []line{{0, "IssueCreated", "", "Issue", "i", nil}}},
		{"an analysis", "soc2", "incidents-answered", "passed", []line{{0, "IssueCreated", "", "Issue", "i", nil}, {1, "AIInsightRequested", "", "AIInsight", "i", nil}}},
		{"who changed it is not known", "soc2", "configuration-changes-attributed", "1 exception of 2",
			[]line{{0, "ConfigChanged", "unknown", "Runbook", "r", d{"operation": "updated"}}, {1, "ConfigChanged", "jane", "Runbook", "r", d{"operation": "updated"}}}},
		{"kept for long", "pci-dss", "retention-one-year", "passed", []line{granted}},
		{"long after it happened", "nist-800-53", "clocks-sane", "1 exception of 1", []line{granted}},
		{"of a known type", "nist-800-53", "catalogued-types", "passed", []line{granted}},
		{"of an unknown type", "nist-800-53", "catalogued-types", "1 exception of 1", []line{{5, "SomethingElse", "", "Pod", "p", nil}}},
		{"an actor without a name", "nist-800-53", "content-complete", "1 exception of 1", []line{{5, "ConfigChanged", "unknown", "Runbook", "r", d{"operation": "updated"}}}},
		{"no capture at all", "soc2", "no-capture-gap", "not enough evidence", []line{granted}},
		{"a forged identity nobody tried", "soc2", "no-forged-identity", "not enough evidence", []line{granted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			door := open(t)
			door.lines(tt.trail...)
			doc := door.as("auditor").controls(tt.framework)
			if got := result(doc, tt.check); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.check, got, tt.want)
			}
		})
	}
}

func TestDaysAreJudgedByWhetherTheLedgerWasVerifiedOnThem(t *testing.T) {
	c := newClock()
	d := open(t, onClock(c))
	d.as("recorder").record(samples(0, 3)...)
	d.as("auditor").get("/api/v1/audit/verify").want(http.StatusOK)
	day := c.Now().UTC()
	doc := new(control.Document)
	ask := func(to time.Time) string {
		d.as("auditor").get("/api/v1/compliance/frameworks/soc2?from=" + day.Format(time.DateOnly) + "&to=" + to.Format(time.RFC3339)).want(http.StatusOK).into(doc)
		return result(doc, "chain-verified-daily")
	}
	c.move(2 * time.Second)
	if got := ask(c.Now()); got != "passed" {
		t.Errorf("on the day of a verification: %s", got)
	}
	c.move(24 * time.Hour)
	d.as("auditor").get("/api/v1/audit/verify?first=0&last=1").want(http.StatusOK) // of a part
	if got := ask(c.Now()); got != "1 exception of 2" {
		t.Errorf("with a day without one: %s", got)
	}
}

func TestWhatAFrameworkDoesNotHaveIsAnError(t *testing.T) {
	d := open(t)
	d.as("viewer").get("/api/v1/compliance/frameworks/sox").problem(http.StatusNotFound, "", "there are dora, eu-ai-act")
	d.as("viewer").get("/api/v1/compliance/frameworks/soc2?window=0").problem(http.StatusBadRequest, "window", "")
	var list struct{ Frameworks []control.Framework }
	d.as("viewer").get("/api/v1/compliance/frameworks").want(http.StatusOK).into(&list)
	if len(list.Frameworks) != 7 {
		t.Errorf("%d frameworks", len(list.Frameworks))
	}
	for _, format := range []string{"yaml", "csv", "html", "pdf"} {
		if len(d.as("viewer").get("/api/v1/compliance/frameworks/dora?format="+format).want(http.StatusOK).body) < 1000 {
			t.Errorf("%s is short", format)
		}
	}
}

func TestFindingsThatNobodyDealsWithAreExceptions(t *testing.T) {
	d := open(t, change{rest: func(c *rest.Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } }}) // the day is not over
	judged := func() string {
		t.Helper()
		doc := new(control.Document)
		d.as("auditor").get("/api/v1/compliance/frameworks/soc2?window=1d").want(http.StatusOK).into(doc)
		return result(doc, "findings-judged")
	}
	if got := judged(); got != "not enough evidence" {
		t.Errorf("without findings: %s", got)
	}
	d.found("one", "resolve")
	id := d.found("two", "acknowledge")
	if got := judged(); got != "1 exception of 2" {
		t.Errorf("with one that is only acknowledged: %s", got)
	}
	d.as("admin").post(findingsPath+"/"+id+"/resolve", `{"reason":"settled with the team"}`).want(http.StatusOK)
	if got := judged(); got != control.Passed {
		t.Errorf("with both resolved: %s", got)
	}
}
