package compliance

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/report"
)

// Write writes a report in a format.
func Write(r *report.ComplianceReport, format paper.Format) ([]byte, error) {
	switch format.Name {
	case "csv":
		return paper.CSV(Rows(r)), nil
	case "html":
		return Sheet(r).HTML()
	case "pdf":
		return Sheet(r).PDF()
	}
	return paper.Encode(r, format.Name)
}

// About says what a question is about, in words.
func About(q *report.Question) string {
	where := "all namespaces"
	switch {
	case q.Namespace != "":
		where = "namespace " + q.Namespace
	case q.Scope != nil:
		where = "namespaces " + strings.Join(q.Scope, ", ")
	}
	return fmt.Sprintf("%s · %s to %s (UTC)", where, moment(q.From), moment(q.To))
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// Origins are the facts that every sheet begins with.
func Origins(of report.Ledger) []paper.Fact {
	return []paper.Fact{{Name: "Ledger", Value: of.Origin}, {Name: "Checkpoint", Value: fmt.Sprintf("%d entries, root %s", of.Size, of.Root)}}
}

// Footer says how a sheet can be checked.
func Footer(of report.Ledger) string {
	return fmt.Sprintf("From the first %d entries of %s. Asked again with checkpoint=%d, the same bytes.", of.Size, of.Origin, of.Size)
}

// Sheet puts a report on paper.
func Sheet(r *report.ComplianceReport) *paper.Sheet {
	q := report.Question{Namespace: r.Namespace, From: r.Window.From, To: r.Window.To}
	s := &paper.Sheet{Title: "Compliance report", Subtitle: About(&q), Facts: Origins(r.Ledger), Warnings: r.Notes, Footer: Footer(r.Ledger)}
	chaos := "left out"
	if r.IncludesChaos {
		chaos = "counted"
	}
	s.Facts = append(s.Facts, paper.Fact{Name: "Chaos experiments", Value: chaos})
	glance := paper.Table{Columns: []paper.Column{{Title: "What", Share: 2.6}, {Title: "Value", Number: true, Share: 1.1}, {Title: "n", Number: true, Share: 0.6},
		{Title: "p50", Number: true}, {Title: "p90", Number: true}, {Title: "p95", Number: true}, {Title: "Before", Number: true, Share: 1.1}, {Title: "Change", Share: 1.7}}}
	for _, n := range r.Numbers {
		glance.Rows = append(glance.Rows, []string{n.Title, percent(n), strconv.Itoa(n.N), n.P50, n.P90, n.P95, percentOf(n.Key, n.Previous), n.Change})
	}
	s.Parts = append(s.Parts, paper.Part{Title: "At a glance", Table: &glance,
		Text: []string{"Before is the window of the same length that ended where this one begins. Change says what the difference means: \"no detectable change\" where chance alone would often make as much (at 5 %). What each number counts is said at the end."}})
	s.Parts = append(s.Parts,
		paper.Part{Title: "Incidents by severity", Bars: bars(r.IncidentMetrics.IncidentsBySeverity, severities)},
		paper.Part{Title: "Incidents by state at the end of the window", Bars: bars(r.IncidentMetrics.IncidentsByState, nil),
			Text: []string{"Contained means that the damage is held and the cause is not mended: it is not resolved."}},
		remediations(r), promises(r), approvals(r),
		paper.Part{Title: "Facts by type", Bars: bars(r.AuditSummary.EventsByType, nil),
			Text: []string{fmt.Sprintf("%d facts, told %d times: what several sources tell of one thing counts once.", r.AuditSummary.TotalEvents, r.AuditSummary.Tellings)}},
		paper.Part{Title: "Facts by severity", Bars: bars(r.AuditSummary.EventsBySeverity, severities)},
		paper.Part{Title: "Facts by kind of actor", Bars: bars(r.AuditSummary.EventsByActor, nil)})
	meaning := paper.Table{Columns: []paper.Column{{Title: "Number", Share: 1.3}, {Title: "What it counts", Share: 3.2}, {Title: "Left out", Share: 1.2}, {Title: "Events behind it", Share: 2.3}}}
	for _, n := range r.Numbers {
		meaning.Rows = append(meaning.Rows, []string{n.Title, n.Definition, excluded(n.Excluded), n.Evidence})
	}
	s.Parts = append(s.Parts, paper.Part{Title: "What the numbers mean", Table: &meaning,
		Text: []string{"Percentiles are by nearest rank; the 90th wants ten values, the 95th twenty. Times are those that events give themselves; their order, and what is late, is by the ledger."}})
	return s
}

// percent shows a rate as people read it.
func percent(n report.Number) string { return percentOf(n.Key, n.Value) }

func percentOf(key, value string) string {
	if !slices.ContainsFunc([]string{"Rate", "Percentage"}, func(end string) bool { return strings.HasSuffix(key, end) }) {
		return value
	}
	v, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return value
	}
	return strconv.FormatFloat(100*v, 'f', 1, 64) + " %"
}

func excluded(counts map[string]int) string {
	var all []string
	for _, why := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%d: %s", counts[why], why))
	}
	return strings.Join(all, "; ")
}

var severities = []string{"critical", "high", "medium", "low", "info", "unknown"}

// bars are counts as a chart: in a given order, or the greatest first.
func bars(counts map[string]int, order []string) []paper.Bar {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if order != nil {
			return cmp.Or(cmp.Compare(slices.Index(order, a), slices.Index(order, b)), cmp.Compare(a, b))
		}
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	all := []paper.Bar{}
	for _, name := range names {
		all = append(all, paper.Bar{Label: name, Value: float64(counts[name]), Text: strconv.Itoa(counts[name])})
	}
	return all
}

func remediations(r *report.ComplianceReport) paper.Part {
	m := r.RemediationMetrics
	t := &paper.Table{Columns: []paper.Column{{Title: "Action", Share: 2}, {Title: "Executed", Number: true}, {Title: "Successful", Number: true}, {Title: "Success rate", Number: true}}}
	for _, name := range slices.Sorted(maps.Keys(m.ByActionType)) {
		a := m.ByActionType[name]
		t.Rows = append(t.Rows, []string{name, strconv.Itoa(a.Total), strconv.Itoa(a.Successful), strconv.FormatFloat(100*a.SuccessRate, 'f', 1, 64) + " %"})
	}
	by := m.AutoVsManual
	return paper.Part{Title: "Remediations", Table: t, Text: []string{
		fmt.Sprintf("%d succeeded, %d failed, %d were rolled back, %d had not ended.", m.Succeeded, m.Failed, m.RolledBack, m.InProgress),
		fmt.Sprintf("Executed automatically: %d, and %d with a notification. Approved by a person: %d. By hand: %d. Not known: %d.", by.Auto, by.AutoWithNotification, by.ManualApproved, by.ManualOnly, by.Unknown),
		"An action was executed in the window; it was successful if its plan succeeded by the window's end. The rate is of those whose plan has ended."}}
}

func promises(r *report.ComplianceReport) paper.Part {
	m := r.SLAMetrics
	var targets []string
	for _, name := range slices.SortedFunc(maps.Keys(m.SLATargets), func(a, b string) int {
		return cmp.Or(cmp.Compare(slices.Index(severities, a), slices.Index(severities, b)), cmp.Compare(a, b))
	}) {
		targets = append(targets, name+" "+m.SLATargets[name])
	}
	t := &paper.Table{Columns: []paper.Column{{Title: "Incident", Share: 2}, {Title: "Severity"}, {Title: "Promised", Number: true}, {Title: "Took", Number: true}, {Title: "Why, as far as the trail tells", Share: 3}}}
	for _, v := range m.Violations {
		took := v.ActualResolution
		if v.Open {
			took += " so far"
		}
		t.Rows = append(t.Rows, []string{v.Issue, v.Severity, v.SLATarget, took, v.Reason})
	}
	p := paper.Part{Title: "Promises that were not kept", Table: t, Text: []string{
		fmt.Sprintf("%d of %d incidents that were due were resolved in time; %d are not due yet.", m.ResolvedWithinSLA, m.TotalIssuesInWindow, m.NotYetDue),
		"Promised: " + strings.Join(targets, ", ") + "."}}
	if m.ResponseDue > 0 {
		p.Text = append(p.Text, fmt.Sprintf("%d of %d were answered in time.", m.RespondedWithinSLA, m.ResponseDue))
	}
	if m.MoreViolations > 0 {
		p.Text = append(p.Text, fmt.Sprintf("%d more are not listed.", m.MoreViolations))
	}
	return p
}

func approvals(r *report.ComplianceReport) paper.Part {
	m := r.ApprovalMetrics
	t := &paper.Table{Columns: []paper.Column{{Title: "Reasons for rejections"}}}
	for _, reason := range m.RejectionReasons {
		t.Rows = append(t.Rows, []string{reason})
	}
	return paper.Part{Title: "Approvals", Table: t, Bars: []paper.Bar{
		{Label: "granted by a person", Value: float64(m.ManualApproved), Text: strconv.Itoa(m.ManualApproved)},
		{Label: "granted automatically", Value: float64(m.AutoApproved), Text: strconv.Itoa(m.AutoApproved)},
		{Label: "rejected", Value: float64(m.Rejected), Text: strconv.Itoa(m.Rejected)},
		{Label: "expired", Value: float64(m.Expired), Text: strconv.Itoa(m.Expired)},
		{Label: "not decided", Value: float64(m.Pending), Text: strconv.Itoa(m.Pending)}}}
}

// Rows are a report as CSV: a line for each number.
func Rows(r *report.ComplianceReport) [][]string {
	rows := [][]string{{"key", "title", "value", "n", "p50", "p90", "p95", "previous", "change", "excluded", "definition", "evidence"}}
	for _, n := range r.Numbers {
		rows = append(rows, []string{n.Key, n.Title, n.Value, strconv.Itoa(n.N), n.P50, n.P90, n.P95, n.Previous, n.Change, excluded(n.Excluded), n.Definition, n.Evidence})
	}
	count := func(key string, n int) {
		rows = append(rows, []string{key, "", strconv.Itoa(n), "", "", "", "", "", "", "", "", ""})
	}
	counts := func(key string, m map[string]int) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			count(key+"."+name, m[name])
		}
	}
	counts("incidentMetrics.incidentsBySeverity", r.IncidentMetrics.IncidentsBySeverity)
	counts("incidentMetrics.incidentsByState", r.IncidentMetrics.IncidentsByState)
	m := r.RemediationMetrics
	for _, name := range slices.Sorted(maps.Keys(m.ByActionType)) {
		count("remediationMetrics.byActionType."+name+".total", m.ByActionType[name].Total)
		count("remediationMetrics.byActionType."+name+".successful", m.ByActionType[name].Successful)
	}
	by := m.AutoVsManual
	for _, c := range []struct {
		key string
		n   int
	}{{"remediationMetrics.autoVsManual.auto", by.Auto}, {"remediationMetrics.autoVsManual.autoWithNotification", by.AutoWithNotification},
		{"remediationMetrics.autoVsManual.manualApproved", by.ManualApproved}, {"remediationMetrics.autoVsManual.manualOnly", by.ManualOnly},
		{"remediationMetrics.autoVsManual.unknown", by.Unknown}, {"slaMetrics.totalIssuesInWindow", r.SLAMetrics.TotalIssuesInWindow},
		{"slaMetrics.resolvedWithinSLA", r.SLAMetrics.ResolvedWithinSLA}, {"slaMetrics.notYetDue", r.SLAMetrics.NotYetDue},
		{"approvalMetrics.autoApproved", r.ApprovalMetrics.AutoApproved}, {"approvalMetrics.manualApproved", r.ApprovalMetrics.ManualApproved},
		{"approvalMetrics.rejected", r.ApprovalMetrics.Rejected}, {"approvalMetrics.expired", r.ApprovalMetrics.Expired}} {
		count(c.key, c.n)
	}
	for i, v := range r.SLAMetrics.Violations {
		rows = append(rows, []string{"slaMetrics.violations." + strconv.Itoa(i), v.Issue, v.ActualResolution, "", "", "", "", "", "", "", v.Severity + ", promised " + v.SLATarget + ": " + v.Reason, ""})
	}
	counts("auditSummary.eventsByType", r.AuditSummary.EventsByType)
	counts("auditSummary.eventsBySeverity", r.AuditSummary.EventsBySeverity)
	counts("auditSummary.eventsByActor", r.AuditSummary.EventsByActor)
	return rows
}

// Made is what an event tells of a document that was made.
func Made(q *Question, of report.Ledger, kind, format, digest string) map[string]any {
	d := map[string]any{"document": kind, "format": format, "sha256": digest, "from": event.FormatTime(q.From), "to": event.FormatTime(q.To), "size": of.Size, "root": of.Root}
	if q.Namespace != "" {
		d["namespace"] = q.Namespace
	}
	if q.Framework != "" {
		d["framework"] = q.Framework
	}
	return d
}
