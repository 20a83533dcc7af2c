package control

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
)

// A fact is one thing that happened, as all that tell of it say together.
type fact struct {
	tellings []*seen
	at       time.Time // the earliest
}

func (f *fact) first() *seen { return f.tellings[0] }

// detail returns what the first telling that says so says.
func (f *fact) detail(names ...string) string {
	for _, s := range f.tellings {
		for _, name := range names {
			if s.d[name] != "" {
				return s.d[name]
			}
		}
	}
	return ""
}

func (f *fact) any(is func(*seen) bool) bool { return slices.ContainsFunc(f.tellings, is) }

func (f *fact) inside() bool { return f.any(func(s *seen) bool { return s.inside }) }

// A story is the facts that a procedure holds against each other.
type story struct {
	facts map[string]*fact
	order []*fact
}

func newStory() story { return story{facts: map[string]*fact{}} }

func (y *story) add(s *seen) {
	key := s.e.Cluster + "\x00" + cmp.Or(s.e.Fact, s.e.ID.String())
	f := y.facts[key]
	if f == nil {
		f = &fact{at: s.e.Timestamp}
		y.facts[key] = f
		y.order = append(y.order, f)
	}
	if s.e.Timestamp.Before(f.at) {
		f.at = s.e.Timestamp
	}
	f.tellings = append(f.tellings, s)
}

// done returns the facts that are more than an intent, of some types.
func (y *story) done(p *period, types ...string) (facts []*fact) {
	for _, f := range y.order {
		if slices.Contains(types, f.first().e.EventType) && f.any(func(s *seen) bool { return !s.intent || p.confirmed[s.e.ID.String()] }) {
			facts = append(facts, f)
		}
	}
	return facts
}

// incident names the incident of an event, within its cluster and namespace.
func incident(e *event.Event, d map[string]string) string {
	id := cmp.Or(e.CorrelationID, d["issue"], d["rr_name"], e.Resource.Name)
	return strings.Join([]string{e.Cluster, e.Resource.Namespace, id}, "\x00")
}

func incidentOf(f *fact) string { return incident(f.first().e, f.first().d) }

var (
	executions = []string{"RemediationExecuted", "workflowexecution.execution.started"}
	grants     = []string{"ApprovalGranted", "orchestrator.approval.approved", "webhook.remediationapprovalrequest.decided"}
	rejections = []string{"ApprovalRejected", "orchestrator.approval.rejected"}
	requests   = []string{"ApprovalRequested", "orchestrator.approval.requested"}
	changes    = []string{"RemediationPlanned", "RunbookGenerated", "ConfigChanged"}
	outcomes   = []string{"RemediationSucceeded", "RemediationFailed", "workflowexecution.workflow.completed", "workflowexecution.workflow.failed"}
	analyses   = []string{"AIInsightCompleted", "ConfidenceCalculated", "PatternMatched", "aianalysis.analysis.completed", "aiagent.rca.complete"}
	begun      = []string{"IssueCreated", "orchestrator.lifecycle.created"}
)

// automatic reports whether an execution was decided by an engine alone.
func automatic(f *fact) bool {
	switch strings.ToLower(strings.ReplaceAll(f.detail("decisionMode"), "_", "-")) {
	case "auto", "auto-notify", "autonotify":
		return true
	}
	return false
}

// approved judges executions of high risk by who approved them, and when.
type approved struct {
	deaf
	story
}

func (a *approved) wants(t string) bool {
	return slices.Contains(slices.Concat(executions, grants, requests, changes), t)
}
func (a *approved) see(s *seen) { a.add(s) }

func (a *approved) close(t *tally, p *period) {
	authors := map[string][]string{} // of plans, and of requests: people
	note := func(key, who string) {
		if who != "" && !slices.Contains(authors[key], who) {
			authors[key] = append(authors[key], who)
		}
	}
	for _, f := range a.done(p, slices.Concat(requests, changes)...) {
		for _, s := range f.tellings {
			plan := cmp.Or(s.d["plan"], s.e.Resource.Name)
			note(s.e.Resource.Namespace+"/"+plan, s.d["requester"])
			if s.e.Actor.Type == event.ActorUser && s.e.Actor.Name != "unknown" {
				note(s.e.Resource.Namespace+"/"+plan, s.e.Actor.Name)
			}
		}
	}
	given := map[string][]*fact{} // by plan, or by incident where they name none
	for _, g := range a.done(p, grants...) {
		if g.detail("auto") == "true" || strings.EqualFold(g.detail("decision"), "rejected") {
			continue
		}
		key := incidentOf(g)
		if plan := g.detail("plan"); plan != "" {
			key = g.first().e.Resource.Namespace + "/" + plan
		}
		given[key] = append(given[key], g)
	}
	for _, f := range a.done(p, executions...) {
		s := f.first()
		if !f.inside() || s.e.Severity != event.SeverityCritical && s.e.Severity != event.SeverityHigh || automatic(f) {
			continue
		}
		if s.erased && f.detail("decisionMode") == "" {
			t.verdict.Unknown++
			continue
		}
		plan := s.e.Resource.Namespace + "/" + s.e.Resource.Name
		why := "no grant by a person stands before it"
		passed := false
		for _, g := range slices.Concat(given[plan], given[incidentOf(f)]) {
			who := approver(g)
			switch {
			case g.at.After(f.at):
				why = "it was granted after it had been executed"
			case who == "" || who == "unknown":
				why = "who granted it is not known"
			case slices.Contains(authors[plan], who):
				why = who + " granted it, and had asked for it or changed it"
			default:
				passed = true
			}
			if passed {
				break
			}
		}
		t.judge(subjectOf(s.index, s.e), passed, why)
	}
}

// approver returns the person who decided, by the telling whose source is known best.
func approver(f *fact) string {
	best, who := 9, ""
	for _, s := range f.tellings {
		rank := slices.Index([]string{event.AttributionAdmission, event.AttributionAuthenticated, event.AttributionObserved, event.AttributionAsserted}, s.e.Recorded.Attribution)
		name := s.e.Actor.Name
		if s.e.Actor.Type != event.ActorUser {
			name = s.d["approver"]
		}
		if name != "" && rank < best {
			best, who = rank, name
		}
	}
	return who
}

// explained judges automatic executions by whether an analysis stands before them.
type explained struct {
	deaf
	story
}

func (x *explained) wants(t string) bool {
	return slices.Contains(slices.Concat(executions, analyses), t)
}
func (x *explained) see(s *seen) { x.add(s) }

func (x *explained) close(t *tally, p *period) {
	earliest := map[string]time.Time{}
	for _, f := range x.done(p, analyses...) {
		key := incidentOf(f)
		if had, ok := earliest[key]; !ok || f.at.Before(had) {
			earliest[key] = f.at
		}
	}
	for _, f := range x.done(p, executions...) {
		if !f.inside() || !automatic(f) {
			continue
		}
		at, ok := earliest[incidentOf(f)]
		t.judge(subjectOf(f.first().index, f.first().e), ok && !at.After(f.at) || f.detail("confidence") != "", "no analysis, confidence or pattern of the incident stands before it")
	}
}

// attributed judges decisions by how it is known who made them.
type attributed struct {
	deaf
	story
}

func (a *attributed) wants(t string) bool {
	return slices.Contains(slices.Concat(grants, rejections), t)
}
func (a *attributed) see(s *seen) { a.add(s) }

func (a *attributed) close(t *tally, p *period) {
	for _, f := range a.done(p, slices.Concat(grants, rejections)...) {
		if !f.inside() || f.detail("auto") == "true" {
			continue
		}
		known := f.any(func(s *seen) bool {
			by := s.e.Recorded.Attribution
			return s.e.Actor.Name != "unknown" && (by == event.AttributionAdmission || by == event.AttributionAuthenticated)
		})
		t.judge(subjectOf(f.first().index, f.first().e), known, "that it was "+cmp.Or(approver(f), "nobody known")+", a program says and nothing shows")
	}
}

// results judges executions by whether a result is recorded.
type results struct {
	deaf
	story
}

func (r *results) wants(t string) bool {
	return slices.Contains(slices.Concat(executions, outcomes), t)
}
func (r *results) see(s *seen) { r.add(s) }

func (r *results) close(t *tally, p *period) {
	known := map[string]bool{}
	key := func(f *fact) string {
		e := f.first().e
		return e.Cluster + "\x00" + e.Resource.Namespace + "/" + e.Resource.Name
	}
	for _, f := range r.done(p, outcomes...) {
		known[key(f)] = true
	}
	for _, f := range r.done(p, executions...) {
		if f.inside() {
			t.judge(subjectOf(f.first().index, f.first().e), known[key(f)], "no result is recorded by the end of the period")
		}
	}
}

// followed judges incidents by whether one of some events follows.
type followed struct {
	deaf
	story
	by  []string
	why string
}

func (f *followed) wants(t string) bool { return slices.Contains(begun, t) || slices.Contains(f.by, t) }
func (f *followed) see(s *seen)         { f.add(s) }

func (f *followed) close(t *tally, p *period) {
	ends := map[string]bool{}
	for _, x := range f.done(p, f.by...) {
		ends[incidentOf(x)] = true
	}
	for _, x := range f.done(p, begun...) {
		if x.inside() {
			t.judge(subjectOf(x.first().index, x.first().e), ends[incidentOf(x)], f.why)
		}
	}
}

// judgedFindings judges findings, above low severity, by whether somebody says what became of
// them, or what came later explains them.
type judgedFindings struct {
	deaf
	opened []*seen
	after  map[string]bool
}

var verdicts = []string{"FindingAccepted", "FindingResolved", "FindingWithdrawn"}

func (j *judgedFindings) wants(t string) bool {
	return t == "FindingOpened" || slices.Contains(verdicts, t)
}

func (j *judgedFindings) see(s *seen) {
	switch id := s.e.Resource.Name; {
	case s.e.EventType != "FindingOpened":
		j.after[id] = true
	case s.inside && s.e.Severity != event.SeverityLow && s.e.Severity != event.SeverityInfo:
		j.opened = append(j.opened, s)
	}
}

func (j *judgedFindings) close(t *tally, _ *period) {
	for _, s := range j.opened {
		t.judge(subjectOf(s.index, s.e), j.after[s.e.Resource.Name], "nobody says what became of it: "+s.d["rule"]+", "+s.d["says"])
	}
}
