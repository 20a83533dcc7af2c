package rest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/storetest"
)

// numbered returns an event with a number of a source.
func numbered(name, epoch string, seq int64) *event.Event {
	e := storetest.Event(0)
	e.ID = event.NewID(time.Now())
	e.EventType, e.CorrelationID = "IssueCreated", ""
	e.Source = event.Source{Name: name, Epoch: epoch, Seq: seq}
	return e
}

// told returns what a recorder tells of itself.
func told(eventType, name string, seq int64, details map[string]any) *event.Event {
	e := numbered(name, "e", seq)
	e.EventType, e.Resource = eventType, event.Resource{Kind: "Recorder", Name: name}
	if details == nil {
		details = map[string]any{}
	}
	if err := e.SetDetails(details); err != nil {
		panic(err)
	}
	return e
}

func (c *caller) gaps(query string) *finding.Gaps {
	c.d.t.Helper()
	g := new(finding.Gaps)
	c.get("/api/v1/audit/gaps" + query).want(http.StatusOK).into(g)
	return g
}

// spans writes numbers as source/epoch:from-to.
func spans(list []finding.Missing) string {
	var texts []string
	for _, m := range list {
		texts = append(texts, m.Source+"/"+event.Span{Epoch: m.Epoch, From: m.From, To: m.To}.String())
	}
	return strings.Join(texts, " ")
}

func TestNumbersThatAreMissingAreNamedAndOthersAreNot(t *testing.T) {
	d := open(t)
	viewer, recorder := d.as("viewer"), d.as("recorder")
	if g := viewer.gaps(""); !g.Complete {
		t.Errorf("of an empty ledger: %+v", g)
	}
	var events []*event.Event
	for _, n := range []int64{3, 1, 2, 7, 5, 12} { // late ones, and three holes
		events = append(events, numbered("operator-0", "e", n))
	}
	events = append(events, numbered("whole", "e", 1), numbered("whole", "e", 2), numbered("anywhere", "", 500), numbered("anywhere", "", 502), numbered("late", "e", 2))
	recorder.record(events...)
	recorder.record(events...) // again: duplicates, which add nothing
	g := viewer.gaps("?source=operator-0")
	if got := spans(g.Missing); got != "operator-0/e:4 operator-0/e:6 operator-0/e:8-11" || g.Complete || g.IncidentsFrom != nil {
		t.Errorf("%s: %+v", got, g)
	}
	if got := spans(viewer.gaps("").Missing); strings.Count(got, "/") != 5 || strings.Contains(got, "whole") || !strings.Contains(got, "anywhere/:501") || !strings.Contains(got, "late/e:1") {
		t.Error(got)
	}
	recorder.record(numbered("operator-0", "e", 6), numbered("operator-0", "e", 4))
	if got := spans(viewer.gaps("?source=operator-0").Missing); got != "operator-0/e:8-11" {
		t.Errorf("what came late is still missing: %s", got)
	}
	if g := viewer.gaps("?source=whole"); !g.Complete {
		t.Errorf("%+v", g)
	}
	if g := viewer.gaps("?source=nobody"); !g.Complete {
		t.Errorf("%+v", g)
	}
	for query, want := range map[string]int{"from=2026-03-20": 0, "to=2026-03-18": 1, "from=2026-03-19&to=2026-03-19": 1} { // what a count begins without may be of any time before
		if g := viewer.gaps("?source=late&" + query); len(g.Missing) != want {
			t.Errorf("%s: %+v", query, g.Missing)
		}
	}
}

func TestWhatAPersonHasToldOfAGapIsNotMissing(t *testing.T) {
	d := open(t)
	recorder := d.as("recorder")
	account := func(eventType, name, uid string, seq int64) *event.Event {
		e := told(eventType, "operator-0", seq, map[string]any{"reason": "a test"})
		e.Actor = event.Actor{Type: "user", Name: "alice"}
		e.Resource = event.Resource{Kind: "QuarantinedEvent", Name: name, UID: uid}
		return e
	}
	recorder.record(numbered("operator-0", "e", 1), numbered("operator-0", "e", 10), numbered("other", "e", 1), numbered("other", "e", 3),
		account(event.TypeRetried, "operator-0", "e:3", 11), account(event.TypeDropped, "operator-0", "e:5-6", 12),
		account(event.TypeDropped, "operator-0", "another epoch:8", 13), account(event.TypeDropped, "operator-0", "nonsense", 14),
		account(event.TypeDropped, "other", "e:2", 15)) // which is not its to tell
	g := d.as("viewer").gaps("?source=operator-0")
	if got := spans(g.Missing); got != "operator-0/e:2 operator-0/e:4 operator-0/e:7-9" {
		t.Error(got)
	}
	if got := spans(g.Accounted); got != "operator-0/e:3 operator-0/e:5-6" || g.Accounted[0].Account == nil || g.Accounted[0].Account.Actor != "alice" || g.Accounted[1].Account.Type != event.TypeDropped {
		t.Errorf("%s: %+v", got, g.Accounted)
	}
	if g := d.as("viewer").gaps("?source=other"); spans(g.Missing) != "other/e:2" {
		t.Errorf("%+v", g)
	}
}

func TestASourceThatBreaksItsPromiseIsSilent(t *testing.T) {
	now := time.Now()
	d := open(t, change{rest: func(c *rest.Config) { c.Now = func() time.Time { return now } }})
	recorder, viewer := d.as("recorder"), d.as("viewer")
	within := func(n any) map[string]any { return map[string]any{"withinSeconds": n} }
	recorder.record(
		told(event.TypeHeartbeat, "lives", 1, within(7200)),
		told(event.TypeHeartbeat, "silent", 1, within(60)),
		told(event.TypeHeartbeat, "stopped", 1, within(60)), told(event.TypeStopped, "stopped", 2, nil),
		told(event.TypeStopped, "back", 1, nil), told(event.TypeHeartbeat, "back", 2, within(60)),
		told(event.TypeHeartbeat, "renewed", 1, within(60)),
		numbered("never promised", "e", 1),
		told(event.TypeHeartbeat, "hostile", 1, within(int64(1)<<52)), told(event.TypeHeartbeat, "\u202eodd\n\"'", 1, within("soon")))
	second := told(event.TypeHeartbeat, "renewed", 1, within(7200))
	second.Source.Epoch = "e2"
	recorder.record(second)
	if got := viewer.gaps("?source=silent"); len(got.Silent) != 0 {
		t.Errorf("before its time: %+v", got.Silent)
	}
	now = now.Add(time.Hour)
	var names []string
	g := viewer.gaps("")
	for _, s := range g.Silent {
		names = append(names, s.Source)
	}
	if got := fmt.Sprintf("%q", names); got != `["hostile" "\u202eodd\n\"'" "silent" "back"]` || g.Complete {
		t.Errorf("%s", got)
	}
	if g := viewer.gaps("?source=" + url.QueryEscape("\u202eodd\n\"'")); len(g.Silent) != 1 {
		t.Errorf("%+v", g)
	}
	if len(g.Renewed) != 1 || g.Renewed[0].Source != "renewed" || g.Renewed[0].Epoch != "e2" {
		t.Errorf("%+v", g.Renewed)
	}
	if g := viewer.gaps("?from=1h&source=silent"); len(g.Silent) != 1 || g.Silent[0].WithinSeconds != 60 {
		t.Errorf("%+v", g.Silent)
	}
	if g := viewer.gaps("?from=1m&source=silent"); len(g.Silent) != 0 {
		t.Errorf("who fell silent before: %+v", g.Silent)
	}
}

func TestANumberThatComesTwiceIsTold(t *testing.T) {
	d := open(t)
	d.as("recorder").record(numbered("twins", "e", 1), numbered("twins", "e", 1), numbered("twins", "e", 2))
	if g := d.as("viewer").gaps(""); len(g.Repeated) != 1 || g.Repeated[0].Events != 1 || g.Repeated[0].Source != "twins" || !g.Complete {
		t.Errorf("%+v", g)
	}
}

func TestIncidentsWithoutTheirStepsAreNamedPartByPart(t *testing.T) {
	d := open(t)
	recorder, viewer := d.as("recorder"), d.as("viewer")
	step := func(incident, eventType string, at time.Time) *event.Event {
		e := numbered("", "", 0)
		e.Source = event.Source{}
		e.EventType, e.Timestamp, e.CorrelationID = eventType, at, incident
		e.Resource = event.Resource{Kind: "RemediationPlan", Name: incident}
		return e
	}
	past := time.Now().Add(-time.Hour)
	var events []*event.Event
	const n = 520
	for i := range n {
		id := fmt.Sprintf("inc-%03d", i)
		events = append(events, step(id, "RemediationExecuted", past))
		if i%2 == 0 {
			events = append(events, step(id, "RemediationSucceeded", past.Add(time.Minute)))
		}
	}
	// Those of the first part go on in the second.
	for i := 0; i < n; i += 10 {
		events = append(events, step(fmt.Sprintf("inc-%03d", i), "RemediationExecuted", past.Add(2*time.Minute)))
	}
	events = append(events, step("running", "RemediationExecuted", time.Now()), step("old", "RemediationExecuted", past.AddDate(0, 0, -8)), step("", "RemediationExecuted", past))
	recorder.record(events...)
	found := map[string]int{}
	query, parts := "?", 0
	for {
		g := viewer.gaps(query)
		for _, in := range g.Incidents {
			found[in.CorrelationID]++
			if len(in.Missing) != 1 || in.Missing[0].Reason == "" || in.Status == "" {
				t.Fatalf("%+v", in)
			}
		}
		if parts++; g.Next == nil {
			break
		}
		query = fmt.Sprintf("?after=%d", *g.Next)
	}
	want := n/2 + n/10
	if len(found) != want || parts != 2 || found["inc-000"] != 1 || found["inc-001"] != 1 || found["running"]+found["old"] != 0 {
		t.Errorf("%d incidents, want %d, in %d parts", len(found), want, parts)
	}
	for id, times := range found {
		if times != 1 {
			t.Errorf("%s is told %d times", id, times)
		}
	}
	if g := viewer.gaps("?from=30d&to=7d"); len(g.Incidents) != 1 || g.Incidents[0].CorrelationID != "old" {
		t.Errorf("%+v", g.Incidents)
	}
	if g := viewer.gaps("?from=10m&settled=0s"); len(g.Incidents) != 1 || g.Incidents[0].CorrelationID != "running" {
		t.Errorf("%+v", g.Incidents)
	}
	if g := viewer.gaps("?settled=2d"); len(g.Incidents) != 0 {
		t.Errorf("%+v", g.Incidents)
	}
}

func TestGapsAreForThoseWhoSeeAll(t *testing.T) {
	d := open(t)
	d.token(access.Token{Name: "team", Role: access.Superadmin, Namespaces: []string{"payments"}}).get("/api/v1/audit/gaps").problem(http.StatusForbidden, "", "namespaces")
	for query, param := range map[string]string{"from=soon": "from", "to=x": "to", "settled=-1h": "settled", "after=x": "after", "after=-2": "after", "after=99999": "after",
		"source=": "source", "source=" + strings.Repeat("x", 513): "source", "from=1d&to=2d": "from", "limit=3": "limit"} {
		d.as("viewer").get("/api/v1/audit/gaps?"+query).problem(http.StatusBadRequest, param, "")
	}
}
