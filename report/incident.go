package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
)

// sameTime is how far apart tellings of one end of an incident may be.
const sameTime = time.Minute

// An incident is what is known of one by the end of the window. Every member is the same
// in whatever order the events come.
type incident struct {
	key      incidentKey
	name     string // of the Issue
	severity string // when it was created; the gravest that was told
	chaos    bool
	auto     bool // an engine decided that nobody need approve

	created, acknowledged, analysed time.Time
	resolved, escalated, contained  []time.Time
	afterContainment                []time.Time // of resolved, those by a person
	plans                           []plan
	approvals                       []approval
}

// A plan is one remediation.
type plan struct {
	name     string
	executed time.Time
	ended    time.Time
	result   result
	mode     string
	actions  []action
}

type result byte

// Of what is told of one plan, the worst holds.
const (
	unfinished result = iota
	succeeded
	failed
	rolledBack
)

type action struct {
	fact uint64
	typ  string
	at   time.Time
}

// An approval is one request for a decision, and what was decided.
type approval struct {
	name, plan        string
	requested         time.Time
	granted, auto     time.Time
	rejected, expired time.Time
	reason            string
}

func (in *incident) plan(name string) *plan {
	i := slices.IndexFunc(in.plans, func(p plan) bool { return p.name == name })
	if i < 0 {
		i = len(in.plans)
		in.plans = append(in.plans, plan{name: strings.Clone(name)})
	}
	return &in.plans[i]
}

func (in *incident) approval(name string) *approval {
	i := slices.IndexFunc(in.approvals, func(a approval) bool { return a.name == name })
	if i < 0 {
		i = len(in.approvals)
		in.approvals = append(in.approvals, approval{name: strings.Clone(name)})
	}
	return &in.approvals[i]
}

// severities are the words for how grave an incident is, the gravest first.
var severities = []string{event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow, event.SeverityInfo}

// graver keeps the graver of two severities.
func graver(to *string, severity string) {
	if word, ok := event.Severity(severity); ok {
		if *to == "" || slices.Index(severities, word) < slices.Index(severities, *to) {
			*to = word
		}
	}
}

// note adds a time, unless another telling of the same has it.
func note(to *[]time.Time, at time.Time) {
	if !slices.ContainsFunc(*to, at.Equal) {
		*to = append(*to, at)
	}
}

// handlers say what an event means for the numbers, by its type.
var handlers = map[string]func(t *Tally, e *telling){
	"AnomalyDetected": (*Tally).anomaly,
	"IssueCreated":    (*Tally).begun, "orchestrator.lifecycle.created": (*Tally).begun, "gateway.crd.created": (*Tally).begun,
	"IssueAcknowledged":  about(func(in *incident, e *telling) { earliest(&in.acknowledged, e.at) }),
	"AIInsightRequested": about(func(in *incident, e *telling) { earliest(&in.analysed, e.at) }),
	"IssueContained":     about(func(in *incident, e *telling) { note(&in.contained, e.at) }),
	"IssueEscalated": about(func(in *incident, e *telling) {
		if e.detail("fromSeverity") == "" { // else it became graver, and is not given up
			note(&in.escalated, e.at)
		}
	}),
	"IssueResolved": about(func(in *incident, e *telling) {
		note(&in.resolved, e.at)
		if e.detail("mode") == "human-after-containment" {
			note(&in.afterContainment, e.at)
		}
	}),
	"orchestrator.lifecycle.failed": about(func(in *incident, e *telling) { note(&in.escalated, e.at) }),
	"orchestrator.lifecycle.completed": about(func(in *incident, e *telling) {
		switch {
		case string(e.Outcome) == event.OutcomeFailure, strings.EqualFold(e.detail("outcome"), "failure"), e.detail("crd_outcome") == "ManualReviewRequired":
			note(&in.escalated, e.at)
		default:
			note(&in.resolved, e.at)
		}
	}),
	"aianalysis.approval.decision": about(func(in *incident, e *telling) { in.auto = in.auto || e.detail("auto_approved") == "true" }),

	"RemediationExecuted":                 about(executed),
	"workflowexecution.execution.started": about(executed),
	"RemediationSucceeded":                about(ended(succeeded)), "workflowexecution.workflow.completed": about(ended(succeeded)),
	"RemediationFailed": about(ended(failed)), "workflowexecution.workflow.failed": about(ended(failed)),

	"ApprovalRequested": about(requested), "orchestrator.approval.requested": about(requested),
	"ApprovalGranted": about(decided), "orchestrator.approval.approved": about(decided),
	"ApprovalRejected": about(decided), "orchestrator.approval.rejected": about(decided),
	"ApprovalExpired": about(decided), "webhook.remediationapprovalrequest.decided": about(decided),

	"CircuitBreakerTriggered": func(t *Tally, e *telling) {
		times := t.breakers[string(e.Name)]
		note(&times, e.at)
		t.breakers[string(e.Name)] = times
	},
	"ConfigChanged": (*Tally).promise,
}

// about is what an event means for the incident that it belongs to.
func about(fn func(in *incident, e *telling)) func(*Tally, *telling) {
	return func(t *Tally, e *telling) {
		if in := t.issue(e); in != nil {
			fn(in, e)
		}
	}
}

func (t *Tally) begun(e *telling) {
	in := t.issue(e)
	if in == nil {
		return
	}
	earliest(&in.created, e.at)
	if string(e.Kind) == "Issue" || string(e.Kind) == "RemediationRequest" {
		least(&in.name, string(e.Name))
	}
	if told := e.detail("severity"); told != "" {
		graver(&in.severity, told)
	} else if string(e.EventType) == "IssueCreated" {
		graver(&in.severity, string(e.Severity))
	}
	in.chaos = in.chaos || e.detail("chaosExperiment") != ""
}

func (t *Tally) anomaly(e *telling) {
	if e.at.Before(t.q.From) {
		return
	}
	key := cmp.Or(string(e.UID), string(e.Cluster)+"\x00"+string(e.Namespace)+"/"+string(e.Name))
	d := t.detected[key]
	if d == nil {
		d = &detection{}
		t.detected[key] = d
	}
	earliest(&d.detected, e.at)
	if started, err := event.ParseTime(e.detail("startedAt")); err == nil {
		earliest(&d.started, started)
	}
}

func executed(in *incident, e *telling) {
	p := in.plan(string(e.Name))
	earliest(&p.executed, e.at)
	least(&p.mode, e.detail("decisionMode"))
	typ := e.detail("action", "action_type")
	if typ == "" { // the plan was begun
		return
	}
	key := factKey(&e.Event)
	if !slices.ContainsFunc(p.actions, func(a action) bool { return a.fact == key }) {
		p.actions = append(p.actions, action{key, typ, e.at})
	}
}

func ended(how result) func(in *incident, e *telling) {
	return func(in *incident, e *telling) {
		p := in.plan(string(e.Name))
		is := how
		if how == failed && (e.detail("rollbackPerformed") == "true" || e.detail("state") == "RolledBack") {
			is = rolledBack
		}
		p.result = max(p.result, is)
		earliest(&p.ended, e.at)
	}
}

func requested(in *incident, e *telling) {
	a := in.approval(approvalName(e))
	least(&a.plan, e.detail("plan"))
	earliest(&a.requested, e.at)
}

func approvalName(e *telling) string {
	return cmp.Or(e.detail("rar_name", "request_name"), string(e.Name))
}

func decided(in *incident, e *telling) {
	a := in.approval(approvalName(e))
	least(&a.plan, e.detail("plan"))
	switch string(e.EventType) {
	case "ApprovalExpired":
		earliest(&a.expired, e.at)
	case "ApprovalRejected", "orchestrator.approval.rejected":
		a.reject(e)
	case "webhook.remediationapprovalrequest.decided":
		switch strings.ToLower(e.detail("decision")) {
		case "approved":
			earliest(&a.granted, e.at)
		case "rejected":
			a.reject(e)
		case "expired":
			earliest(&a.expired, e.at)
		}
	default:
		to := &a.granted
		if e.detail("auto") == "true" {
			to = &a.auto
		}
		earliest(to, e.at)
	}
}

func (a *approval) reject(e *telling) {
	earliest(&a.rejected, e.at)
	least(&a.reason, e.detail("reason", "decision_message"))
}

// decision returns when it was decided, and how: by whatever came first.
func (a *approval) decision() (at time.Time, how string) {
	for _, d := range []struct {
		at  time.Time
		how string
	}{{a.granted, "granted"}, {a.auto, "auto"}, {a.rejected, "rejected"}, {a.expired, "expired"}} {
		if !d.at.IsZero() && (at.IsZero() || d.at.Before(at)) {
			at, how = d.at, d.how
		}
	}
	return at, how
}

// promise takes in what a changed IncidentSLA promises.
func (t *Tally) promise(e *telling) {
	if string(e.Kind) != "IncidentSLA" {
		return
	}
	key := string(e.Cluster) + "\x00" + cmp.Or(string(e.UID), string(e.Namespace)+"/"+string(e.Name)) + "\x00"
	switch e.detail("operation") {
	case "deleted":
		key += "deleted"
	default:
		key += cmp.Or(e.detail("generation"), e.at.String())
	}
	d := e.details
	if d["resolutionTime"] == "" && d["responseTime"] == "" && d["operation"] != "deleted" {
		return // another telling may say what is promised
	}
	target, err := promised(d)
	if err != nil {
		t.unreadable++
		return
	}
	target.Namespace, target.since, target.name = string(e.Namespace), e.at, key[:strings.LastIndexByte(key, 0)]
	if had := t.targets[key]; had != nil {
		earliest(&had.since, e.at)
		return
	}
	t.targets[key] = &target
}

// promises returns the targets that hold: those of the trail, each until the next of the
// same resource, and those of the question.
func (t *Tally) promises() []Target {
	var all []Target
	for _, target := range t.targets {
		all = append(all, *target)
	}
	slices.SortFunc(all, func(a, b Target) int {
		return cmp.Or(cmp.Compare(a.name, b.name), a.since.Compare(b.since), cmp.Compare(a.Severity, b.Severity))
	})
	for i := range all[:max(len(all)-1, 0)] {
		if all[i].name == all[i+1].name {
			all[i].until = all[i+1].since
		}
	}
	all = slices.DeleteFunc(all, func(target Target) bool {
		return target.Severity == "" || target.Resolution == 0 && target.Response == 0
	})
	given := t.q.Targets
	if given == nil {
		given = Defaults()
	}
	return append(slices.Clone(given), all...)
}

// A standing is how an incident stood at the end of the window.
type standing struct {
	state    string
	resolved time.Time // zero while it is not
	reopened bool
}

func (in *incident) standing() standing {
	var ends []time.Time
	for _, at := range in.resolved {
		held := slices.ContainsFunc(in.contained, func(c time.Time) bool { return at.Sub(c).Abs() <= 5*time.Second })
		if !held || slices.ContainsFunc(in.afterContainment, at.Equal) { // ChatCLI calls what is contained resolved, too
			ends = append(ends, at)
		}
	}
	s := standing{state: "open"}
	var last time.Time
	for state, times := range map[string][]time.Time{"escalated": in.escalated, "contained": in.contained} {
		for _, at := range times {
			if at.After(last) || at.Equal(last) && state < s.state {
				last, s.state = at, state
			}
		}
	}
	if len(ends) == 0 {
		return s
	}
	slices.SortFunc(ends, time.Time.Compare)
	end := ends[len(ends)-1]
	for i := len(ends) - 1; i >= 0 && end.Sub(ends[i]) <= sameTime; i-- {
		s.resolved = ends[i] // the earliest telling of the last end
	}
	s.reopened = s.resolved.Sub(ends[0]) > sameTime
	again := last
	for _, p := range in.plans {
		if p.executed.After(again) {
			again = p.executed
		}
	}
	if again.Sub(end) > sameTime { // it began again, and did not end
		s.reopened, s.resolved = true, time.Time{}
		if !last.After(end) {
			s.state = "open"
		}
		return s
	}
	s.state = "resolved"
	return s
}
