package report_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/brief"
	"github.com/graven-audit/graven/report"
)

// at is a time of the week that the tests are about.
func at(text string) time.Time {
	t, err := time.Parse("Mon 15:04:05", text)
	if err != nil {
		panic(err)
	}
	day := map[byte]int{'M': 0, 'T': 1, 'W': 2, 'F': 4}[text[0]]
	if strings.HasPrefix(text, "Thu") {
		day = 3
	}
	if strings.HasPrefix(text, "Sat") {
		day = 5
	}
	if strings.HasPrefix(text, "Sun") {
		day = -1
	}
	return time.Date(2026, 3, 2+day, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// A telling is one line of a trail.
type telling struct {
	when, eventType, kind, name, incident string
	details                               map[string]string
	fact, attribution, severity           string
}

func (l telling) event(n int) *event.Event {
	e := &event.Event{ID: event.DeriveID("test", fmt.Sprint(n)), EventType: l.eventType, Timestamp: at(l.when), Actor: event.Actor{Type: "controller", Name: "c"},
		Resource: event.Resource{Kind: l.kind, Namespace: "production", Name: l.name}, CorrelationID: l.incident, Fact: l.fact, Severity: l.severity}
	if err := e.SetDetails(l.details); err != nil {
		panic(err)
	}
	e.Complete(e.Timestamp)
	e.Recorded = event.Recorded{At: e.Timestamp.Add(time.Second), Principal: "p", Via: "token", Attribution: l.attribution}
	if l.attribution == "" {
		e.Recorded.Attribution = event.AttributionAsserted
	}
	return e
}

func add(t *testing.T, to *report.Tally, e *event.Event) {
	t.Helper()
	var b brief.Event
	if err := b.Read(e.AppendEntry(nil, e.Digests(event.Salt{1}))); err != nil {
		t.Fatal(err)
	}
	if err := to.Add(&b, e.AppendErasable(nil)); err != nil {
		t.Fatal(err)
	}
}

var week = report.Question{Namespace: "production", From: at("Mon 00:00:00"), To: at("Mon 00:00:00").AddDate(0, 0, 6)}

func made(t *testing.T, q report.Question, events []*event.Event) *report.ComplianceReport {
	t.Helper()
	tally := report.NewTally(q, true)
	for _, e := range events {
		add(t, tally, e)
	}
	r, err := tally.Report(report.Ledger{Origin: "example.org/ledger", Size: int64(len(events))}, at("Sun 00:00:00").AddDate(0, 0, -30), false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readTrail reads testdata/week.csv: a trail, and beside it what it comes to by hand.
func readTrail(t *testing.T) (events []*event.Event) {
	t.Helper()
	f, err := os.Open("testdata/week.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := csv.NewReader(f)
	c.FieldsPerRecord = -1
	c.Comment = '#'
	rows, err := c.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows[1:] {
		l := telling{when: row[0], eventType: row[1], kind: row[2], name: row[3], incident: row[4], details: map[string]string{}}
		for _, pair := range row[5:] {
			name, value, _ := strings.Cut(pair, "=")
			if name != "" {
				l.details[name] = value
			}
		}
		if v := l.details["at"]; v != "" {
			l.details["startedAt"] = event.FormatTime(at(v))
			delete(l.details, "at")
		}
		l.fact = l.name + "/" + l.eventType + "/" + l.when
		l.severity = l.details["severity"]
		events = append(events, l.event(i))
	}
	return events
}

func TestAWeekIsWhatItComesToByHand(t *testing.T) {
	r := made(t, week, readTrail(t))
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("testdata/week.expected.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		var v any = whole
		for _, name := range strings.Split(row[0], "/") {
			switch in := v.(type) {
			case map[string]any:
				v = in[name]
			case []any:
				var i int
				if _, err := fmt.Sscan(name, &i); err != nil || i >= len(in) {
					t.Fatalf("%s: %s is no place in a list of %d", row[0], name, len(in))
				}
				v = in[i]
			}
		}
		if got := fmt.Sprint(v); got != row[1] {
			t.Errorf("%s is %s, by hand it is %s (%s)", row[0], got, row[1], row[2])
		}
	}
	if t.Failed() {
		t.Log(string(text))
	}
}

func TestTheOrderAndNumberOfTellingsChangeNothing(t *testing.T) {
	events := readTrail(t)
	want := made(t, week, events)
	for seed := range uint64(20) {
		told := make([]*event.Event, 0, 3*len(events))
		for i, e := range events {
			told = append(told, e)
			for n := range 2 { // by others, who know no more
				other := e.Clone()
				other.ID = event.DeriveID("other", fmt.Sprint(seed, i, n))
				told = append(told, other)
			}
		}
		r := rand.New(rand.NewPCG(seed, 1))
		r.Shuffle(len(told), func(i, j int) { told[i], told[j] = told[j], told[i] })
		got := made(t, week, told)
		got.AuditSummary.Tellings, got.Ledger.Size = want.AuditSummary.Tellings, want.Ledger.Size
		was, _ := json.Marshal(want)
		is, _ := json.Marshal(got)
		for i := range got.Notes {
			if strings.Contains(got.Notes[i], "recorded more than") {
				got.Notes[i] = want.Notes[i]
			}
		}
		if string(was) != string(is) {
			t.Fatalf("seed %d: shuffled and told three times it is\n%s\nand not\n%s", seed, is, was)
		}
	}
}

func TestAnIntentCountsOnceItIsConfirmed(t *testing.T) {
	intent := telling{when: "Tue 10:00:00", eventType: "ApprovalGranted", kind: "ApprovalRequest", name: "a", incident: "inc-1",
		fact: "u/ApprovalGranted/", attribution: event.AttributionAdmission, details: map[string]string{"intent": "admission", "plan": "p"}}.event(1)
	asked := telling{when: "Tue 09:50:00", eventType: "ApprovalRequested", kind: "ApprovalRequest", name: "a", incident: "inc-1", details: map[string]string{"plan": "p"}}.event(2)
	if r := made(t, week, []*event.Event{asked, intent}); r.ApprovalMetrics.ManualApproved != 0 || r.ApprovalMetrics.Pending != 1 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "asked for at admission") {
		t.Errorf("an intent alone: %+v, %q", r.ApprovalMetrics, r.Notes)
	}
	confirmed := telling{when: "Tue 10:00:01", eventType: "IntentConfirmed", kind: "ApprovalRequest", name: "a", details: map[string]string{"intent": intent.ID.String()}}.event(3)
	if r := made(t, week, []*event.Event{asked, intent, confirmed}); r.ApprovalMetrics.ManualApproved != 1 || r.ApprovalMetrics.MeanApprovalTime != "10m" || r.AuditSummary.TotalEvents != 2 {
		t.Errorf("a confirmed intent: %+v, %+v", r.ApprovalMetrics, r.AuditSummary)
	}
}

func TestQuestionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, q := range []report.Question{{}, {From: at("Tue 00:00:00"), To: at("Mon 00:00:00")}, {From: at("Tue 00:00:00"), To: at("Tue 00:00:00")}} {
		if q.Check() == nil {
			t.Errorf("%+v is taken", q)
		}
	}
	if _, err := (&report.ComplianceReporter{}).GenerateReport(t.Context(), "", 0); err == nil || !strings.Contains(err.Error(), "window") {
		t.Errorf("a window of 0: %v", err)
	}
}

func TestNothingGivesNoNumbers(t *testing.T) {
	r := made(t, week, nil)
	if r.IncidentMetrics.MTTR != report.NoValue || r.SLAMetrics.CompliancePercentage != 0 || len(r.Notes) == 0 {
		t.Errorf("of nothing: %+v %+v %q", r.IncidentMetrics, r.SLAMetrics, r.Notes)
	}
	for _, n := range r.Numbers {
		if n.N == 0 && n.Value != "0" && n.Value != report.NoValue {
			t.Errorf("%s of nothing is %s", n.Key, n.Value)
		}
	}
}
