package report

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
)

// Report makes the report of what was added. began is when the first entry was recorded
// that the ledger still has; erased says that entries before it were erased.
func (t *Tally) Report(of Ledger, began time.Time, erased bool) (*ComplianceReport, error) {
	unconfirmed, err := t.settle()
	if err != nil {
		return nil, err
	}
	f := t.figures()
	r := &ComplianceReport{Namespace: t.q.Namespace, IncludesChaos: t.q.Chaos, Ledger: of, Notes: t.notes(f, began, erased, unconfirmed),
		Window: NewWindow(t.q.From, t.q.To)}
	r.AuditSummary = t.summary()
	r.fill(f)
	r.Numbers = t.numbers(f, r.AuditSummary.TotalEvents)
	if t.previous != nil {
		if _, err := t.previous.settle(); err != nil {
			return nil, err
		}
		if t.previous.total() == 0 && (began.IsZero() || began.After(t.previous.q.From)) {
			for i := range r.Numbers { // that nothing is known of it does not make it none
				r.Numbers[i].Change = unknown
			}
		} else {
			t.compare(r.Numbers, f, t.previous.figures())
		}
	}
	for i := range r.Numbers {
		r.place(&r.Numbers[i])
	}
	return r, nil
}

// NewWindow returns the window between two times.
func NewWindow(from, to time.Time) Window {
	return Window{From: from.UTC(), To: to.UTC(), Length: span(to.Sub(from))}
}

// span writes the length of a window.
func span(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return text(d)
}

func (t *Tally) summary() AuditSummary {
	a := AuditSummary{TotalEvents: t.total(), Tellings: t.tellings, EventsByType: map[string]int{}, EventsBySeverity: map[string]int{}, EventsByActor: map[string]int{}}
	count := func(of sort, n int) {
		a.EventsByType[t.names[of.typ]] += n
		a.EventsBySeverity[t.names[of.severity]] += n
		a.EventsByActor[t.names[of.actor]] += n
	}
	for i, key := range t.facts.keys {
		if key != 0 {
			count(t.facts.facts[i].sort, 1)
		}
	}
	for of, n := range t.alone {
		count(of, n)
	}
	return a
}

func (r *ComplianceReport) fill(f *figures) {
	r.IncidentMetrics = IncidentMetrics{TotalIncidents: f.incidents, IncidentsBySeverity: f.severities, IncidentsByState: f.states,
		Reopened: f.reopened, ChaosIncidents: f.chaos, MedianTimeToResolve: f.median()}
	if f.incidents > 0 {
		r.IncidentMetrics.MeanRemediationAttempts = rate(f.attempts, f.incidents)
	}
	finished := f.finished()
	m := &r.RemediationMetrics
	*m = RemediationMetrics{TotalRemediations: finished + f.plans[unfinished], Succeeded: f.plans[succeeded], Failed: f.plans[failed],
		RolledBack: f.plans[rolledBack], InProgress: f.plans[unfinished], SuccessRate: rate(f.plans[succeeded], finished), ByActionType: map[string]ActionType{}}
	for typ, of := range f.actions {
		of.SuccessRate = rate(of.Successful, f.finishedActions[typ])
		m.ByActionType[typ] = of
	}
	m.AutoVsManual = AutoVsManual{Auto: f.modes["auto"], AutoWithNotification: f.modes["autoWithNotification"], ManualApproved: f.modes["manualApproved"],
		ManualOnly: f.modes["manualOnly"], Unknown: f.modes["unknown"], AutoPercentage: rate(f.automatic())}
	r.SLAMetrics = SLAMetrics{TotalIssuesInWindow: f.due, ResolvedWithinSLA: f.kept, CompliancePercentage: rate(f.kept, f.due), NotYetDue: f.notYetDue,
		NoTarget: f.noTarget, ResponseDue: f.responseDue, RespondedWithinSLA: f.answered, ResponseSLAViolations: f.responseDue - f.answered,
		SLATargets: map[string]string{}, ResponseTargets: map[string]string{}, Violations: f.violations}
	if r.SLAMetrics.Violations == nil {
		r.SLAMetrics.Violations = []Violation{}
	}
	if more := len(f.violations) - MaxViolations; more > 0 {
		r.SLAMetrics.Violations, r.SLAMetrics.MoreViolations = f.violations[:MaxViolations], more
	}
	for _, target := range f.targets {
		if !target.until.IsZero() && !target.until.After(r.Window.From) || target.since.After(r.Window.To) {
			continue
		}
		name := target.Severity
		if target.Namespace != "" && target.Namespace != r.Namespace {
			name += " in " + target.Namespace
		}
		said := func(d time.Duration) string {
			if target.Hours != nil {
				return text(d) + " of working hours"
			}
			return text(d)
		}
		if target.Resolution > 0 {
			r.SLAMetrics.SLATargets[name] = said(target.Resolution)
		}
		if target.Response > 0 {
			r.SLAMetrics.ResponseTargets[name] = said(target.Response)
		}
	}
	r.ApprovalMetrics = ApprovalMetrics{TotalApprovalRequests: f.requests, AutoApproved: f.decisions["auto"], ManualApproved: f.decisions["granted"],
		Rejected: f.decisions["rejected"], Expired: f.decisions["expired"], Pending: f.pending, RejectionReasons: f.reasons}
	if f.reasons == nil {
		r.ApprovalMetrics.RejectionReasons = []string{}
	}
}

func (f *figures) finished() int { return f.plans[succeeded] + f.plans[failed] + f.plans[rolledBack] }

// automatic returns how many remediations were executed without waiting for a person,
// of how many of which it is known.
func (f *figures) automatic() (auto, of int) {
	auto = f.modes["auto"] + f.modes["autoWithNotification"]
	return auto, auto + f.modes["manualApproved"] + f.modes["manualOnly"]
}

func (f *figures) median() string {
	if len(f.lives) == 0 {
		return NoValue
	}
	at, ok := median(f.lives)
	if !ok {
		return "not reached"
	}
	return text(at)
}

// place puts a number that is a duration where ChatCLI has it.
func (r *ComplianceReport) place(n *Number) {
	switch n.Key {
	case "incidentMetrics.mttd":
		r.IncidentMetrics.MTTD = n.Value
	case "incidentMetrics.mtta":
		r.IncidentMetrics.MTTA = n.Value
	case "incidentMetrics.mttr":
		r.IncidentMetrics.MTTR = n.Value
	case "approvalMetrics.meanApprovalTime":
		r.ApprovalMetrics.MeanApprovalTime = n.Value
	}
}

// notes say what a reader must know before using the numbers.
func (t *Tally) notes(f *figures, began time.Time, erased bool, unconfirmed int) []string {
	notes := []string{}
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if !t.seen {
		switch {
		case t.q.Namespace != "":
			add("The trail has no event of namespace %q up to the end of the window: is the name right?", t.q.Namespace)
		default:
			add("The trail has no event up to the end of the window.")
		}
	}
	switch {
	case began.IsZero():
		add("The ledger has no events.")
	case erased && began.After(t.q.From):
		add("Entries recorded before %s were erased at the end of their retention: what they told of this window is missing from every number.", event.FormatTime(began))
	case began.After(t.q.From):
		add("The ledger begins at %s, within or after this window: what happened before is in no number unless it was recorded later.", event.FormatTime(began))
	}
	if t.erased > 0 {
		add("The content of %d events of the window was erased: they count, and what their details said (an action, a reason, an experiment) does not.", t.erased)
	}
	if unconfirmed > 0 {
		add("%d acts were asked for at admission, and nothing confirms that they were done: they are not counted.", unconfirmed)
	}
	if t.late > 0 {
		add("%d events of the window were recorded more than %s after they say they happened.", t.late, text(Late))
	}
	if t.unreadable > 0 {
		add("The times or details of %d events could not be read: they are left out.", t.unreadable)
	}
	if f.chaos > 0 {
		add("%d incidents of chaos experiments are left out.", f.chaos)
	}
	if f.noTarget > 0 {
		add("For %d incidents no time of resolution is promised: they are in no number of the SLA section.", f.noTarget)
	}
	if n := f.modes["unknown"]; n > 0 {
		add("Of %d remediations the trail does not tell how it was decided to execute them: they are not in autoPercentage.", n)
	}
	return notes
}

// link is the question that the events behind a number answer.
func (t *Tally) link(types ...string) string {
	q := url.Values{"from": {event.FormatTime(t.q.From)}, "to": {event.FormatTime(t.q.To.Add(-1))}}
	if len(types) > 0 {
		q.Set("type", strings.Join(types, ","))
	}
	if t.q.Namespace != "" {
		q.Set("namespace", t.q.Namespace)
	}
	return "/api/v1/audit?" + q.Encode()
}

// numbers says what each number is about.
func (t *Tally) numbers(f *figures, total int) []Number {
	created := []string{"IssueCreated", "orchestrator.lifecycle.created", "gateway.crd.created"}
	resolved := []string{"IssueResolved", "orchestrator.lifecycle.completed"}
	executed := []string{"RemediationExecuted", "workflowexecution.execution.started"}
	results := []string{"RemediationSucceeded", "RemediationFailed", "workflowexecution.workflow.completed", "workflowexecution.workflow.failed"}
	decided := []string{"ApprovalGranted", "ApprovalRejected", "orchestrator.approval.approved", "orchestrator.approval.rejected", "webhook.remediationapprovalrequest.decided"}
	var all []Number
	count := func(key, title string, n int, definition string, types ...string) {
		all = append(all, Number{Key: key, Title: title, Value: strconv.Itoa(n), N: n, Definition: definition, Evidence: t.link(types...)})
	}
	share := func(key, title string, part, whole int, definition string, types ...string) {
		n := Number{Key: key, Title: title, Value: NoValue, N: whole, Definition: definition, Evidence: t.link(types...)}
		if whole > 0 {
			n.Value = strconv.FormatFloat(rate(part, whole), 'f', 3, 64)
		}
		all = append(all, n)
	}
	times := func(key, title string, d durations, excluded map[string]int, definition string, types ...string) {
		n := Number{Key: key, Title: title, Definition: definition, Excluded: excluded, Evidence: t.link(types...)}
		d.describe(&n)
		all = append(all, n)
	}
	count("incidentMetrics.totalIncidents", "Incidents", f.incidents,
		"Incidents that were created in the window: Issues of ChatCLI, RemediationRequests of Kubernaut. Those of chaos experiments count only where the report says so.", created...)
	times("incidentMetrics.mttd", "Mean time to detect", f.toDetect, f.detectExcluded,
		"From when the problem began (startedAt of AnomalyDetected: the time of the alert or of the metric) to when it was detected (the event's own time). Population: anomalies detected in the window. Mean; percentiles by nearest rank.", "AnomalyDetected")
	times("incidentMetrics.mtta", "Mean time to acknowledge", f.toAnswer, f.answerExcluded,
		"From when the incident was created to when a person first acknowledged it. Population: incidents acknowledged in the window.", "IssueAcknowledged")
	times("incidentMetrics.mttr", "Mean time to resolve", f.toResolve, f.resolveExcluded,
		"From when the incident was created to when it was last resolved; contained and escalated are not resolved. Population: incidents resolved in the window, whenever they were created.", resolved...)
	all = append(all, Number{Key: "incidentMetrics.medianTimeToResolve", Title: "Median time to resolve, with open incidents", Value: f.median(), N: len(f.lives),
		Definition: "Kaplan–Meier median of the time from creation to resolution. Population: all incidents open at any time in the window; those not resolved by its end are censored there, those that began before it enter at its beginning. \"not reached\" means that fewer than half are resolved, however long they are followed.",
		Evidence:   t.link(append(slices.Clone(created), resolved...)...)})
	mean := Number{Key: "incidentMetrics.meanRemediationAttempts", Title: "Remediations per incident", Value: NoValue, N: f.incidents,
		Definition: "Remediation plans that were executed for the incidents of the window, by its end, divided by those incidents.", Evidence: t.link(executed...)}
	if f.incidents > 0 {
		mean.Value = strconv.FormatFloat(rate(f.attempts, f.incidents), 'f', -1, 64)
	}
	all = append(all, mean)
	count("incidentMetrics.reopened", "Incidents reopened", f.reopened,
		"Incidents of the window that were acted on, contained, escalated or resolved again more than a minute after they had been resolved.", resolved...)
	count("remediationMetrics.totalRemediations", "Remediations", f.finished()+f.plans[unfinished],
		"Remediation plans that ended in the window, and those that were executed in it and had not ended by its end.", append(slices.Clone(executed), results...)...)
	share("remediationMetrics.successRate", "Success rate", f.plans[succeeded], f.finished(),
		"Plans that succeeded, of those that ended in the window. What failed or was rolled back is no success; of contradicting results the worst holds.", results...)
	auto, known := f.automatic()
	share("remediationMetrics.autoVsManual.autoPercentage", "Executed without waiting for a person", auto, known,
		"Plans executed in the window in the mode auto or auto-notify, of all whose mode the trail tells. A plan counts as approved where a grant by a person stands before its execution.", executed...)
	share("slaMetrics.compliancePercentage", "Resolved within the SLA", f.kept, f.due,
		"Incidents created in the window and resolved within what was promised for their severity when they were created, of those that are resolved or past that time. Lowering the severity later changes nothing; those not yet due are apart. Where the promise counts working hours only, so does the clock.", append(slices.Clone(created), resolved...)...)
	share("slaMetrics.responseRate", "Answered within the SLA", f.answered, f.responseDue,
		"Incidents created in the window that were acknowledged, or whose analysis was requested, within the response time that was promised, of those answered or past it.", "IssueAcknowledged", "AIInsightRequested", "IssueCreated")
	count("approvalMetrics.totalApprovalRequests", "Approval requests", f.requests, "Approvals that were requested in the window.", "ApprovalRequested", "orchestrator.approval.requested")
	times("approvalMetrics.meanApprovalTime", "Mean time to decide", f.toDecide, f.decideExcluded,
		"From the request to the decision, granted or rejected by a person. Population: decisions made in the window. Expired and automatic ones are not among them.", decided...)
	count("auditSummary.totalEvents", "Facts in the trail", total,
		"Things that happened in the window, each counted once however often it was told. Events that tell of reading the ledger, or of Graven's own work (snapshots, confirmations, signs of life), are not among them.")
	return all
}

// compare says of each number what it was before, and what can be said of the difference.
func (t *Tally) compare(numbers []Number, now, then *figures) {
	was := map[string]Number{}
	for _, n := range t.previous.numbers(then, t.previous.total()) {
		was[n.Key] = n
	}
	autoNow, knownNow := now.automatic()
	autoThen, knownThen := then.automatic()
	change := map[string]string{
		"incidentMetrics.totalIncidents":                 compareCounts(now.incidents, then.incidents),
		"incidentMetrics.mttd":                           compareTimes(now.toDetect, then.toDetect),
		"incidentMetrics.mtta":                           compareTimes(now.toAnswer, then.toAnswer),
		"incidentMetrics.mttr":                           compareTimes(now.toResolve, then.toResolve),
		"incidentMetrics.reopened":                       compareRates(now.reopened, now.incidents, then.reopened, then.incidents),
		"remediationMetrics.totalRemediations":           compareCounts(now.finished()+now.plans[unfinished], then.finished()+then.plans[unfinished]),
		"remediationMetrics.successRate":                 compareRates(now.plans[succeeded], now.finished(), then.plans[succeeded], then.finished()),
		"remediationMetrics.autoVsManual.autoPercentage": compareRates(autoNow, knownNow, autoThen, knownThen),
		"slaMetrics.compliancePercentage":                compareRates(now.kept, now.due, then.kept, then.due),
		"slaMetrics.responseRate":                        compareRates(now.answered, now.responseDue, then.answered, then.responseDue),
		"approvalMetrics.totalApprovalRequests":          compareCounts(now.requests, then.requests),
		"approvalMetrics.meanApprovalTime":               compareTimes(now.toDecide, then.toDecide),
		"auditSummary.totalEvents":                       compareCounts(t.total(), t.previous.total()),
	}
	for i := range numbers {
		n := &numbers[i]
		n.Previous, n.Change = was[n.Key].Value, change[n.Key]
	}
}
