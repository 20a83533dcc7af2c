package rest_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

const findingsPath = "/api/v1/findings"

// found opens a finding, as what looks for them does, has some things done to it, and
// returns its id.
func (d *door) found(about string, acts ...string) string {
	d.t.Helper()
	id := event.DeriveID("found", about)
	e := &event.Event{ID: event.DeriveID("opened", about), EventType: "FindingOpened", Timestamp: time.Now().UTC().Add(-time.Minute), Severity: event.SeverityHigh,
		Actor: event.Actor{Type: event.ActorSystem, Name: "graven"}, Resource: event.Resource{Kind: "Finding", Namespace: "payments", Name: id.String()}}
	err := e.SetDetails(map[string]any{"rule": "decision-lost", "title": "A decision was lost", "says": about, "incident": "inc-0",
		"happenedAt": event.FormatTime(at), "evidence": []int64{1}, "subject": "ApprovalRequest " + about})
	if err == nil {
		err = d.ledger.Own(d.t.Context(), e)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	for _, act := range acts {
		d.as("superadmin").post(findingsPath+"/"+id.String()+"/"+act, `{"reason":"for a test of it"}`).want(http.StatusOK)
	}
	return id.String()
}

// keeper returns what looks for findings in a door's ledger, and goes on where file says.
func (d *door) keeper(file string, custom ...finding.Rule) *finding.Keeper {
	holds := custody.New(d.ledger, d.journal, d.store, time.Now)
	find := &search.Finder{Index: d.store, Reader: search.Present{Reader: d.store, Tombs: holds}, Tombs: holds}
	return &finding.Keeper{Ledger: d.ledger, Find: find, Store: d.store, Book: &finding.Book{Find: find, Journal: d.journal, Now: time.Now},
		Gaps: &finding.Finder{Sources: d.store, Search: *find, Now: time.Now}, File: file, Origin: d.bed.Verifier.Name(),
		Custom: custom, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// listed returns the findings that a query lists.
func (c *caller) listed(query string) *finding.List {
	c.d.t.Helper()
	list := new(finding.List)
	c.get(findingsPath + query).want(http.StatusOK).into(list)
	return list
}

func TestPeopleSayWhatBecomesOfAFinding(t *testing.T) {
	d := open(t)
	id := d.found("one")
	admin := d.as("admin")
	act := func(what, body string) *answer { return admin.post(findingsPath+"/"+id+"/"+what, body) }
	state := func() string {
		f := new(finding.Finding)
		d.as("viewer").get(findingsPath + "/" + id).want(http.StatusOK).into(f)
		return f.State
	}
	soon := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	for _, step := range []struct{ act, body, state string }{
		{"acknowledge", `{"reason":"the platform team asks"}`, "acknowledged"},
		{"accept", `{"reason":"known, and mended in May","until":"` + soon + `"}`, "accepted"},
		{"resolve", `{"reason":"the controller was mended"}`, "resolved"},
		{"reopen", `{"reason":"it happened once more"}`, "open"},
	} {
		act(step.act, step.body).want(http.StatusOK)
		if got := state(); got != step.state {
			t.Errorf("after %s it is %s", step.act, got)
		}
	}
	for _, e := range d.recorded("FindingAcknowledged", "FindingAccepted", "FindingResolved", "FindingReopened") {
		if e.Actor.Name != "admin" || e.Recorded.Principal != "admin" || e.CorrelationID != "" {
			t.Errorf("%s: by %s, recorded by %s, of %q", e.EventType, e.Actor.Name, e.Recorded.Principal, e.CorrelationID)
		}
	}
	f := new(finding.Finding)
	admin.get(findingsPath + "/" + id).want(http.StatusOK).into(f)
	if len(f.Steps) != 5 || f.Steps[2].Reason != "known, and mended in May" || f.Steps[2].Until == nil || f.Steps[1].By != "admin" {
		t.Errorf("its steps are %+v", f.Steps)
	}
}

func TestAnAcceptanceEndsAtItsTime(t *testing.T) {
	now := time.Now()
	d := open(t, change{rest: func(c *rest.Config) { c.Now = func() time.Time { return now } }})
	id := d.found("one")
	d.as("admin").post(findingsPath+"/"+id+"/accept", `{"reason":"until the release","until":"`+now.Add(time.Hour).UTC().Format(time.RFC3339)+`"}`).want(http.StatusOK)
	if list := d.as("viewer").listed("?state=accepted"); list.Total != 1 {
		t.Fatalf("%d are accepted", list.Total)
	}
	now = now.Add(2 * time.Hour)
	if list := d.as("viewer").listed("?state=open"); list.Total != 1 || list.BySeverity["high"] != 1 {
		t.Errorf("%d stand after it: %v", list.Total, list.BySeverity)
	}
}

func TestWhatIsSaidOfAFindingWronglyIsRefused(t *testing.T) {
	d := open(t)
	id := d.found("one")
	admin := d.as("admin")
	before := d.ledger.State().Size()
	for _, c := range []struct {
		path, body string
		status     int
		field      string
	}{
		{id + "/resolve", `{}`, 400, "reason"},
		{id + "/resolve", `{"reason":"short"}`, 400, "reason"},
		{id + "/resolve", `{"reason":"` + strings.Repeat("x", 2001) + `"}`, 400, "reason"},
		{id + "/resolve", `{"reason":"well reasoned","until":"2030-01-01"}`, 400, "until"},
		{id + "/resolve", `{"reason":"well reasoned","by":"somebody else"}`, 400, "by"},
		{id + "/accept", `{"reason":"well reasoned"}`, 400, "until"},
		{id + "/accept", `{"reason":"well reasoned","until":"soon"}`, 400, "until"},
		{id + "/accept", `{"reason":"well reasoned","until":"2020-01-01"}`, 400, "until"},
		{id + "/accept", `{"reason":"well reasoned","until":"2999-01-01"}`, 400, "until"},
		{id + "/reopen", `{"reason":"well reasoned"}`, 409, ""},
		{event.DeriveID("none").String() + "/resolve", `{"reason":"well reasoned"}`, 404, ""},
		{"nonsense/resolve", `{"reason":"well reasoned"}`, 400, ""},
	} {
		a := admin.post(findingsPath+"/"+c.path, c.body).want(c.status)
		if c.field != "" && !strings.Contains(string(a.body), `"field":"`+c.field+`"`) {
			t.Errorf("%s %s: %s", c.path, c.body, a.body)
		}
	}
	for _, query := range []string{"?state=closed", "?severity=worst", "?from=then", "?limit=0", "?limit=1001", "?before=x", "?from=2026-02-01&to=2026-01-01", "?what=1"} {
		admin.get(findingsPath + query).want(http.StatusBadRequest)
	}
	if n := len(d.recorded("FindingAcknowledged", "FindingAccepted", "FindingResolved", "FindingReopened")); n != 0 {
		t.Errorf("%d steps were recorded, from size %d on", n, before)
	}
}

func TestAFindingIsSeenByThoseOfItsNamespace(t *testing.T) {
	d := open(t)
	id := d.found("one")
	dev := d.token(access.Token{Name: "dev", Role: access.Viewer, Namespaces: []string{"staging"}})
	pay := d.token(access.Token{Name: "pay", Role: access.Viewer, Namespaces: []string{"payments"}})
	if n := dev.listed("").Total; n != 0 {
		t.Errorf("another namespace sees %d", n)
	}
	dev.get(findingsPath + "/" + id).want(http.StatusNotFound)
	if n := pay.listed("?namespace=payments&rule=decision-lost&severity=high,low&incident=inc-0").Total; n != 1 {
		t.Errorf("its own namespace sees %d", n)
	}
}

func TestFindingsAreListedInParts(t *testing.T) {
	d := open(t)
	for i := range 7 {
		d.found(fmt.Sprint(i))
	}
	var says []string
	query := "?limit=3"
	for {
		list := d.as("viewer").listed(query)
		for _, f := range list.Findings {
			says = append(says, f.Says)
		}
		if list.Next == 0 {
			break
		}
		query = fmt.Sprintf("?limit=3&before=%d", list.Next)
	}
	if got := strings.Join(says, " "); got != "6 5 4 3 2 1 0" {
		t.Errorf("listed %s", got)
	}
}

// TestNothingIsFoundTwice inspects a ledger of which half was inspected before, from the
// front, by another server, and once more after what was kept of it was lost.
func TestNothingIsFoundTwice(t *testing.T) {
	d := open(t)
	var trail []*event.Event
	for i := range 30 {
		asked, done := sample(2*i), sample(2*i+1)
		asked.EventType, asked.Resource.Kind, asked.CorrelationID = "ApprovalRequested", "ApprovalRequest", fmt.Sprint("inc-", i)
		done.CorrelationID, done.Resource.Namespace = asked.CorrelationID, asked.Resource.Namespace
		if err := asked.SetDetails(map[string]any{"plan": done.Resource.Name}); err != nil {
			t.Fatal(err)
		}
		trail = append(trail, asked, done)
	}
	file := filepath.Join(t.TempDir(), "inspected.json")
	look := func(k *finding.Keeper) {
		t.Helper()
		d.follow()
		if err := k.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.follow()
	}
	opened := func() (ids []string) {
		for _, e := range d.recorded("FindingOpened") {
			ids = append(ids, e.ID.String())
		}
		return ids
	}
	d.as("recorder").record(trail[:31]...)
	look(d.keeper(file))
	half := len(opened())
	d.as("recorder").record(trail[31:]...)
	look(d.keeper(file))
	all := opened()
	if half == 0 || len(all) <= half {
		t.Fatalf("%d findings, then %d", half, len(all))
	}
	look(d.keeper(file))
	look(d.keeper(filepath.Join(t.TempDir(), "lost.json")))
	if again := opened(); !slices.Equal(all, again) {
		t.Errorf("%d findings became %d", len(all), len(again))
	}
	list := d.as("viewer").listed("?rule=executed-without-approval&limit=1000")
	if list.Total != 30 {
		t.Errorf("%d executions without approval, of 30", list.Total)
	}
}

// TestTheDefectsThatTheTrailShowsAreFound plays what ChatCLI is known to do: each line is
// an incident as its objects tell it, and what is to be found in it.
func TestTheDefectsThatTheTrailShowsAreFound(t *testing.T) {
	d := open(t)
	const approval, plan = "ApprovalRequest/approval-plan-1", "RemediationPlan/plan-1"
	type told struct{ eventType, actor, on, details string }
	defects := map[string]struct {
		events []told
		found  []string
	}{
		"a contained incident is told to be resolved": {[]told{
			{"IssueContained", "controller/issue-reconciler", "Issue/i", `{}`}, {"IssueResolved", "controller/issue-reconciler", "Issue/i", `{}`}},
			[]string{"contained-as-resolved"}},
		"a decision by annotation is overwritten": {[]told{
			{"ApprovalRequested", "controller/remediation-reconciler", approval, `{"plan":"plan-1"}`},
			{"ApprovalAttempted", "user/jane", approval, `{"plan":"plan-1","decision":"approved"}`},
			{"ApprovalExpired", "system/approval-reconciler", approval, `{"plan":"plan-1"}`}},
			[]string{"decision-lost"}},
		"who decided over REST is pruned": {[]told{
			{"ApprovalRequested", "controller/remediation-reconciler", approval, `{"plan":"plan-1"}`},
			{"ApprovalGranted", "user/unknown", approval, `{"plan":"plan-1","approver":"unknown"}`}},
			[]string{"approver-unknown"}},
		"one person makes a quorum": {[]told{
			{"ApprovalRequested", "controller/remediation-reconciler", approval, `{"plan":"plan-1","requiredApprovers":"2"}`},
			{"ApprovalGranted", "user/jane", approval, `{"plan":"plan-1","approver":"jane","approvers":"jane, jane"}`}},
			[]string{"approver-asserted", "quorum-by-one-person"}},
		"whoever asks approves": {[]told{
			{"RemediationPlanned", "user/jane", plan, `{}`},
			{"ApprovalRequested", "controller/remediation-reconciler", approval, `{"plan":"plan-1","requester":"system:serviceaccount:chatcli:operator"}`},
			{"ApprovalGranted", "user/jane", approval, `{"plan":"plan-1","approver":"jane"}`}},
			[]string{"approver-asserted", "self-approval"}},
		"the approval cannot be asked for, and it goes on": {[]told{
			{"RemediationExecuted", "controller/remediation-reconciler", plan, `{"decisionMode":"require-approval"}`}},
			[]string{"executed-without-approval"}},
		"an agent's plan goes on before it is approved": {[]told{
			{"ApprovalRequested", "controller/remediation-reconciler", approval, `{"plan":"plan-1"}`},
			{"RemediationExecuted", "controller/remediation-reconciler", plan, `{}`},
			{"ApprovalGranted", "user/jane", approval, `{"plan":"plan-1","approver":"jane"}`}},
			[]string{"approver-asserted", "decision-after-execution"}},
		"nobody trips the circuit breaker": {[]told{
			{"RemediationFailed", "controller/r", "RemediationPlan/a", `{}`}, {"RemediationFailed", "controller/r", "RemediationPlan/b", `{}`},
			{"RemediationFailed", "controller/r", "RemediationPlan/c", `{}`}},
			[]string{"circuit-breaker"}},
		"a retention job deletes what was never sealed": {[]told{
			{"AuditEventDeletedUnsealed", "service/graven-operator", "AuditEvent/a", `{"creator":"chatcli"}`}},
			[]string{"record-deleted-unsealed"}},
		"nothing is wrong": {[]told{
			{"IssueCreated", "controller/issue-reconciler", "Issue/i", `{}`}, {"RemediationPlanned", "controller/r", plan, `{"decisionMode":"auto"}`},
			{"RemediationExecuted", "controller/r", plan, `{"decisionMode":"auto"}`}, {"RemediationSucceeded", "controller/r", plan, `{}`},
			{"IssueResolved", "controller/r", "Issue/i", `{}`}}, nil},
	}
	attests := d.token(access.Token{Name: "attests", Role: access.Recorder, Attests: true})
	now := time.Now().UTC().Add(-time.Minute)
	for name, c := range defects {
		var events []*event.Event
		for i, s := range c.events {
			actorType, actor, _ := strings.Cut(s.actor, "/")
			kind, object, _ := strings.Cut(s.on, "/")
			e := &event.Event{EventType: s.eventType, Timestamp: now.Add(time.Duration(i) * time.Second), Actor: event.Actor{Type: actorType, Name: actor}, CorrelationID: name,
				Resource: event.Resource{Kind: kind, Name: object, Namespace: strings.ReplaceAll(name, " ", "-")}, Details: []byte(s.details)}
			e.ID = event.DeriveID(name, fmt.Sprint(i))
			events = append(events, e)
		}
		attests.record(events...)
	}
	d.follow()
	if err := d.keeper(filepath.Join(t.TempDir(), "inspected.json")).Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, c := range defects {
		var found []string
		for _, f := range d.as("viewer").listed("?state=open&namespace=" + strings.ReplaceAll(name, " ", "-")).Findings {
			found = append(found, f.Rule)
		}
		if slices.Sort(found); !slices.Equal(found, c.found) {
			t.Errorf("%s: found %v, want %v", name, found, c.found)
		}
	}
}

// TestWhatIsOverdueIsFoundAndWithdrawnOnceItIsDone lets a day pass over a ledger that
// nobody verifies.
func TestWhatIsOverdueIsFoundAndWithdrawnOnceItIsDone(t *testing.T) {
	var in atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(in.Load())) }
	d := open(t, change{ledger: func(c *ledger.Config) { c.Now = clock }, rest: func(c *rest.Config) { c.Now = clock }})
	k := d.keeper(filepath.Join(t.TempDir(), "inspected.json"))
	k.Now, k.Book.Now, k.Gaps.Now = clock, clock, clock
	tick := func(after time.Duration) (states []string) {
		t.Helper()
		in.Store(int64(after))
		d.follow()
		if err := k.Tick(t.Context(), d.ledger.State().Size()); err != nil {
			t.Fatal(err)
		}
		for _, f := range d.as("viewer").listed("").Findings {
			states = append(states, f.Rule+" "+f.State)
		}
		slices.Sort(states)
		return states
	}
	one, seven := sample(1), sample(2)
	one.Source, seven.Source = event.Source{Name: "operator-0", Seq: 1}, event.Source{Name: "operator-0", Seq: 7}
	d.as("recorder").record(one, seven)
	if got := tick(0); !slices.Equal(got, []string{"source-gap open"}) {
		t.Errorf("found at once: %v", got)
	}
	want := []string{"source-gap open", "verification-overdue open"}
	if got := tick(26 * time.Hour); !slices.Equal(got, want) {
		t.Errorf("after a day: %v", got)
	}
	if got := tick(27 * time.Hour); !slices.Equal(got, want) {
		t.Errorf("an hour later: %v", got)
	}
	d.as("auditor").get("/api/v1/audit/verify").want(http.StatusOK)
	if got := tick(28 * time.Hour); !slices.Equal(got, []string{"source-gap open", "verification-overdue withdrawn"}) {
		t.Errorf("after a verification: %v", got)
	}
}

// changedAt reads a ledger in which one entry was changed on the disk.
type changedAt struct {
	search.Reader
	index int64
}

func (c changedAt) Record(ctx context.Context, index int64) (trail.Record, error) {
	if index == c.index {
		return trail.Record{}, fmt.Errorf("%w: entry %d", search.ErrChanged, index)
	}
	return c.Reader.Record(ctx, index)
}

func (c changedAt) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	return c.Reader.Records(ctx, r, func(rec *trail.Record) error {
		if rec.Index == c.index {
			return fmt.Errorf("%w: entry %d", search.ErrChanged, rec.Index)
		}
		return fn(rec)
	})
}

// TestAnEntryThatWasChangedKeepsNobodyFromTheRest has an execution without approval stand
// behind it.
func TestAnEntryThatWasChangedKeepsNobodyFromTheRest(t *testing.T) {
	d := open(t)
	asked, done := sample(6), sample(7)
	asked.EventType, asked.Resource.Kind = "ApprovalRequested", "ApprovalRequest"
	if err := asked.SetDetails(map[string]any{"plan": done.Resource.Name}); err != nil {
		t.Fatal(err)
	}
	d.as("recorder").record(append(samples(0, 5), asked, done)...)
	d.follow()
	k := d.keeper(filepath.Join(t.TempDir(), "inspected.json"))
	k.Find.Reader = changedAt{k.Find.Reader, 4}
	for range 2 {
		if err := k.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.follow()
	}
	var found []string
	for _, f := range d.as("viewer").listed("").Findings {
		if f.Rule != "late-event" {
			found = append(found, f.Rule+": "+f.Says)
		}
	}
	slices.Sort(found)
	want := []string{"executed-without-approval: plan-7 was executed, and no grant stands before it", "verification-failed: entry 4 was changed where it is kept"}
	if !slices.Equal(found, want) {
		t.Errorf("found %q", found)
	}
}
