package rest_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/report"
)

// lives makes the trails of incidents of March 2026, told once by each of tellers.
func lives(seed uint64, n int, tellers ...string) (events []*event.Event) {
	r := rand.New(rand.NewPCG(seed, 7))
	begin := time.Date(2026, 2, 20, 0, 0, 0, 0, time.UTC)
	tell := func(at time.Time, eventType, kind, name, incident string, details map[string]any) {
		actor := event.Actor{Type: event.ActorController, Name: "issue-reconciler"}
		if eventType == "ApprovalGranted" || eventType == "ApprovalRejected" {
			actor = event.Actor{Type: event.ActorUser, Name: "john@company.com"}
		}
		fact := fmt.Sprintf("uid-%s/%s/%d", name, eventType, at.Unix())
		for _, teller := range tellers {
			e := &event.Event{ID: event.DeriveID(teller, fact, fmt.Sprint(details["action"])), EventType: eventType, Timestamp: at, Actor: actor, Fact: fact + fmt.Sprint(details["action"]),
				Resource: event.Resource{Kind: kind, Namespace: "production", Name: name}, CorrelationID: incident}
			if s, ok := details["severity"].(string); ok {
				e.Severity = s
			}
			if details != nil {
				if err := e.SetDetails(details); err != nil {
					panic(err)
				}
			}
			events = append(events, e)
		}
	}
	seconds := func(most int) time.Duration { return time.Duration(1+r.IntN(most)) * time.Second }
	for i := range n {
		at := begin.Add(time.Duration(r.IntN(38*24*3600)) * time.Second)
		id := fmt.Sprintf("inc-%04d", i)
		issue, severity := "issue-"+id, []string{"critical", "high", "medium", "low"}[r.IntN(4)]
		detected := map[string]any{"signalType": "cpu"}
		if r.IntN(4) > 0 {
			detected["startedAt"] = event.FormatTime(at.Add(-seconds(600)))
		}
		tell(at, "AnomalyDetected", "Anomaly", "anomaly-"+id, id, detected)
		created := at.Add(seconds(5))
		details := map[string]any{"severity": severity}
		if r.IntN(10) == 0 {
			details["chaosExperiment"] = "game-day"
		}
		tell(created, "IssueCreated", "Issue", issue, id, details)
		if r.IntN(2) == 0 {
			tell(created.Add(seconds(900)), "IssueAcknowledged", "Issue", issue, id, nil)
		}
		end, good := created, false
		for attempt := range 1 + r.IntN(3) {
			plan := fmt.Sprintf("plan-%s-%d", id, attempt)
			mode := []string{"auto", "auto-notify", "approval", "manual"}[r.IntN(4)]
			if mode == "approval" {
				request := "approval-" + plan
				end = end.Add(seconds(60))
				asked := end
				tell(asked, "ApprovalRequested", "ApprovalRequest", request, id, map[string]any{"plan": plan})
				end = end.Add(seconds(1200))
				switch r.IntN(5) {
				case 0:
					tell(end, "ApprovalRejected", "ApprovalRequest", request, id, map[string]any{"plan": plan, "reason": fmt.Sprintf("reason %d", r.IntN(5))})
					continue
				case 1:
					tell(end, "ApprovalExpired", "ApprovalRequest", request, id, map[string]any{"plan": plan})
					continue
				case 2:
					tell(end, "ApprovalGranted", "ApprovalRequest", request, id, map[string]any{"plan": plan, "auto": "true"})
				default:
					tell(end, "ApprovalGranted", "ApprovalRequest", request, id, map[string]any{"plan": plan})
				}
			}
			end = end.Add(seconds(120))
			tell(end, "RemediationExecuted", "RemediationPlan", plan, id, map[string]any{"action": []string{"Rollback", "Restart", "Scale"}[r.IntN(3)], "decisionMode": mode})
			end = end.Add(seconds(600))
			if good = r.IntN(3) > 0; good {
				tell(end, "RemediationSucceeded", "RemediationPlan", plan, id, nil)
				break
			}
			tell(end, "RemediationFailed", "RemediationPlan", plan, id, nil)
		}
		end = end.Add(seconds(3000))
		switch {
		case good:
			tell(end, "IssueResolved", "Issue", issue, id, map[string]any{"mode": "remediation"})
		case r.IntN(3) == 0:
			tell(end, "IssueContained", "Issue", issue, id, nil)
		case r.IntN(2) == 0:
			tell(end, "IssueEscalated", "Issue", issue, id, nil)
		}
	}
	return events
}

// The same numbers, asked of the export in SQL by somebody who knows only the
// definitions that stand in the report.
const truth = `
CREATE TABLE e (type text, at timestamptz, name text, incident text, d jsonb, fact text, severity text);
COPY e FROM STDIN WITH (FORMAT csv);
%s\.
CREATE VIEW one AS SELECT DISTINCT ON (fact) * FROM e WHERE at < '2026-04-01' ORDER BY fact, d;
CREATE VIEW w AS SELECT * FROM one WHERE at >= '2026-03-01';
CREATE VIEW i AS SELECT c.incident, c.at AS created, c.d->>'severity' AS severity, c.d->>'chaosExperiment' IS NOT NULL AS chaos,
  (SELECT max(at) FROM one WHERE incident = c.incident AND type = 'IssueResolved') AS resolved,
  (SELECT min(at) FROM one WHERE incident = c.incident AND type = 'IssueAcknowledged') AS acknowledged,
  (SELECT count(DISTINCT name) FROM one WHERE incident = c.incident AND type = 'RemediationExecuted') AS attempts
  FROM one c WHERE type = 'IssueCreated';
CREATE VIEW due AS SELECT *, coalesce(resolved, '2026-04-01') - created AS took,
  CASE severity WHEN 'critical' THEN interval '15m' WHEN 'high' THEN interval '30m' WHEN 'medium' THEN interval '2h' ELSE interval '8h' END AS target
  FROM i WHERE NOT chaos AND created >= '2026-03-01';
CREATE VIEW p AS SELECT x.name, x.incident, min(x.at) AS at, min(x.d->>'decisionMode') AS mode, min(x.d->>'action') AS action,
  (SELECT type FROM one WHERE name = x.name AND type IN ('RemediationSucceeded', 'RemediationFailed')) AS result,
  (SELECT at FROM one WHERE name = x.name AND type IN ('RemediationSucceeded', 'RemediationFailed')) AS ended,
  (SELECT count(*) > 0 FROM one WHERE type = 'ApprovalGranted' AND d->>'plan' = x.name AND d->>'auto' IS NULL) AS approved
  FROM one x JOIN i USING (incident) WHERE x.type = 'RemediationExecuted' AND NOT i.chaos GROUP BY x.name, x.incident;
CREATE VIEW a AS SELECT r.name, r.at AS asked, x.type, x.at AS decided, x.d->>'auto' AS auto, x.d->>'reason' AS reason
  FROM one r JOIN i USING (incident) LEFT JOIN one x ON x.name = r.name AND x.type IN ('ApprovalGranted', 'ApprovalRejected', 'ApprovalExpired')
  WHERE r.type = 'ApprovalRequested' AND NOT i.chaos;
SELECT 'incidents=' || count(*) FROM due;
SELECT 'chaos=' || count(*) FROM i WHERE chaos AND created >= '2026-03-01';
SELECT 'severity ' || severity || '=' || count(*) FROM due GROUP BY severity;
SELECT 'mttd=' || round(extract(epoch FROM avg(at - (d->>'startedAt')::timestamptz)))::int || ' of ' || count(*) FROM w WHERE type = 'AnomalyDetected' AND d->>'startedAt' IS NOT NULL;
SELECT 'mtta=' || round(extract(epoch FROM avg(acknowledged - created)))::int || ' of ' || count(*) FROM i WHERE NOT chaos AND acknowledged >= '2026-03-01';
SELECT 'mttr=' || round(extract(epoch FROM avg(resolved - created)))::int || ' of ' || count(*) FROM i WHERE NOT chaos AND resolved >= '2026-03-01';
SELECT 'mttr p90=' || round(extract(epoch FROM percentile_disc(0.9) WITHIN GROUP (ORDER BY resolved - created)))::int FROM i WHERE NOT chaos AND resolved >= '2026-03-01';
SELECT 'attempts=' || round(sum(attempts)::numeric / count(*), 3)::float FROM due;
SELECT 'succeeded=' || count(*) FILTER (WHERE result = 'RemediationSucceeded') || ' failed=' || count(*) FILTER (WHERE result = 'RemediationFailed') FROM p WHERE ended >= '2026-03-01';
SELECT 'action ' || action || '=' || count(*) || ',' || count(*) FILTER (WHERE result = 'RemediationSucceeded') FROM p WHERE at >= '2026-03-01' GROUP BY action;
SELECT 'mode ' || CASE WHEN mode = 'approval' AND NOT approved THEN 'unknown' ELSE mode END || '=' || count(*) FROM p WHERE at >= '2026-03-01' GROUP BY CASE WHEN mode = 'approval' AND NOT approved THEN 'unknown' ELSE mode END;
SELECT 'sla=' || count(*) FILTER (WHERE resolved IS NOT NULL AND took <= target) || ' of ' || count(*) FILTER (WHERE resolved IS NOT NULL OR took > target) FROM due;
SELECT 'asked=' || count(*) FROM a WHERE asked >= '2026-03-01';
SELECT 'granted=' || count(*) FILTER (WHERE type = 'ApprovalGranted' AND auto IS NULL) || ' auto=' || count(*) FILTER (WHERE auto IS NOT NULL) ||
  ' rejected=' || count(*) FILTER (WHERE type = 'ApprovalRejected') || ' expired=' || count(*) FILTER (WHERE type = 'ApprovalExpired') FROM a WHERE decided >= '2026-03-01';
SELECT 'deciding=' || round(extract(epoch FROM avg(decided - asked)))::int FROM a WHERE decided >= '2026-03-01' AND (type = 'ApprovalGranted' AND auto IS NULL OR type = 'ApprovalRejected');
SELECT 'reasons=' || string_agg(DISTINCT reason, ',' ORDER BY reason) FROM a WHERE type = 'ApprovalRejected' AND decided >= '2026-03-01';
SELECT 'total=' || count(*) FROM w;
SELECT 'type ' || type || '=' || count(*) FROM w GROUP BY type;
`

// said writes a report as the SQL above writes its numbers.
func said(r *report.ComplianceReport) map[string]bool {
	lines := map[string]bool{}
	add := func(format string, args ...any) { lines[fmt.Sprintf(format, args...)] = true }
	number := map[string]report.Number{}
	for _, n := range r.Numbers {
		number[n.Key] = n
	}
	in, re, sla, ap := r.IncidentMetrics, r.RemediationMetrics, r.SLAMetrics, r.ApprovalMetrics
	add("incidents=%d", in.TotalIncidents)
	add("chaos=%d", in.ChaosIncidents)
	for name, n := range in.IncidentsBySeverity {
		add("severity %s=%d", name, n)
	}
	for short, key := range map[string]string{"mttd": "incidentMetrics.mttd", "mtta": "incidentMetrics.mtta", "mttr": "incidentMetrics.mttr"} {
		add("%s=%d of %d", short, secondsOf(number[key].Value), number[key].N)
	}
	add("mttr p90=%d", secondsOf(number["incidentMetrics.mttr"].P90))
	add("attempts=%s", strconv.FormatFloat(in.MeanRemediationAttempts, 'f', -1, 64))
	add("succeeded=%d failed=%d", re.Succeeded, re.Failed)
	for name, a := range re.ByActionType {
		add("action %s=%d,%d", name, a.Total, a.Successful)
	}
	add("mode auto=%d", re.AutoVsManual.Auto)
	add("mode auto-notify=%d", re.AutoVsManual.AutoWithNotification)
	add("mode approval=%d", re.AutoVsManual.ManualApproved)
	add("mode manual=%d", re.AutoVsManual.ManualOnly)
	add("mode unknown=%d", re.AutoVsManual.Unknown)
	add("sla=%d of %d", sla.ResolvedWithinSLA, sla.TotalIssuesInWindow)
	add("asked=%d", ap.TotalApprovalRequests)
	add("granted=%d auto=%d rejected=%d expired=%d", ap.ManualApproved, ap.AutoApproved, ap.Rejected, ap.Expired)
	add("deciding=%d", secondsOf(ap.MeanApprovalTime))
	add("reasons=%s", strings.Join(ap.RejectionReasons, ","))
	add("total=%d", r.AuditSummary.TotalEvents)
	for name, n := range r.AuditSummary.EventsByType {
		add("type %s=%d", name, n)
	}
	return lines
}

func secondsOf(text string) int {
	d, err := time.ParseDuration(text)
	if err != nil {
		return -1
	}
	return int(d.Round(time.Second).Seconds())
}

const march = "/api/v1/compliance/report?namespace=production&from=2026-03-01&to=2026-03-31"

func (c *caller) report(path string) *report.ComplianceReport {
	c.d.t.Helper()
	r := new(report.ComplianceReport)
	c.get(path).want(http.StatusOK).into(r)
	return r
}

func TestEveryNumberOfAReportIsWhatSQLComesTo(t *testing.T) {
	d := open(t)
	events := lives(1, 300, "chatcli")
	for i := 0; i < len(events); i += 500 {
		d.as("recorder").record(events[i:min(i+500, len(events))]...)
	}
	got := said(d.as("viewer").report(march))

	var rows strings.Builder
	w := csv.NewWriter(&rows)
	export := d.as("auditor").get("/api/v1/audit/export?namespace=production").want(http.StatusOK)
	for line := range strings.Lines(string(export.body)) {
		var e struct {
			EventType, Timestamp, CorrelationID, Fact, Severity string
			Resource                                            struct{ Name string }
			Details                                             json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if len(e.Details) == 0 {
			e.Details = json.RawMessage("{}")
		}
		if err := w.Write([]string{e.EventType, e.Timestamp, e.Resource.Name, e.CorrelationID, string(e.Details), e.Fact, e.Severity}); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	server := testenv.StartPostgres(t)
	missing := 0
	for line := range strings.Lines(server.SQL(server.Database(), fmt.Sprintf(truth, rows.String()))) {
		line = strings.TrimSpace(line)
		if !strings.Contains(line, "=") {
			continue
		}
		if !got[line] && !strings.HasSuffix(line, "=0") {
			t.Errorf("SQL says %s, and the report does not", line)
		}
		delete(got, line)
		missing++
	}
	if missing < 30 {
		t.Fatalf("SQL said %d things only", missing)
	}
	for line := range got {
		if !strings.HasSuffix(line, "=0") {
			t.Errorf("the report says %s, and SQL does not", line)
		}
	}
}

func TestTheSameLivesToldByManyGiveTheSameReport(t *testing.T) {
	one, many := open(t), open(t)
	one.as("recorder").record(lives(2, 40, "chatcli")...)
	events := lives(2, 40, "chatcli", "capture", "recorder")
	rand.New(rand.NewPCG(3, 3)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	many.as("recorder").record(events...)
	plain := func(r *report.ComplianceReport) string {
		r.Ledger, r.AuditSummary.Tellings, r.Notes = report.Ledger{}, 0, nil
		text, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if a, b := plain(one.as("viewer").report(march)), plain(many.as("viewer").report(march)); a != b {
		t.Errorf("told once\n%s\ntold by three, in any order\n%s", a, b)
	}
}

func TestAReportIsTheSameAtTheSameCheckpointAndItsMakingIsRecorded(t *testing.T) {
	d := open(t)
	d.as("recorder").record(lives(4, 20, "chatcli")...)
	size := d.as("viewer").report(march).Ledger.Size
	d.as("recorder").record(lives(5, 20, "chatcli")...)
	for _, format := range []string{"json", "yaml", "csv", "html", "pdf"} {
		path := fmt.Sprintf("%s&format=%s&checkpoint=%d", march, format, size)
		first, second := d.as("viewer").get(path).want(http.StatusOK), d.as("auditor").get(path).want(http.StatusOK)
		if string(first.body) != string(second.body) || len(first.body) == 0 {
			t.Errorf("%s: %d bytes, then %d others", format, len(first.body), len(second.body))
		}
	}
	made := d.recorded("ReportGenerated")
	if len(made) != 11 || !strings.Contains(string(made[10].Details), `"format":"pdf"`) {
		t.Errorf("%d are recorded, want 11", len(made))
	}
	d.as("viewer").get(march+"&checkpoint=99999999").problem(http.StatusBadRequest, "checkpoint", "")
	d.as("viewer").get(march+"&window=0").problem(http.StatusBadRequest, "window", "")
}

func TestWhoSeesSomeNamespacesHasAReportOfThose(t *testing.T) {
	d := open(t)
	d.as("recorder").record(lives(6, 10, "chatcli")...)
	outside := d.as("viewer").report(strings.Replace(march, "namespace=production&", "", 1))
	if outside.IncidentMetrics.TotalIncidents == 0 {
		t.Fatal("there are no incidents")
	}
	payments := d.token(access.Token{Name: "team", Role: access.Viewer, Namespaces: []string{"payments"}})
	if r := payments.report(strings.Replace(march, "namespace=production&", "", 1)); r.IncidentMetrics.TotalIncidents != 0 || r.AuditSummary.TotalEvents != 0 {
		t.Errorf("who sees payments has %+v", r.IncidentMetrics)
	}
	if r := payments.report(march); r.AuditSummary.TotalEvents != 0 || len(r.Notes) == 0 {
		t.Errorf("who sees payments has of production %+v, %q", r.AuditSummary, r.Notes)
	}
}
