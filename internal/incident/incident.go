// Package incident makes one story of the events that share a correlation id:
// in order, with how it ended and with the steps that are missing.
package incident

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/graven-audit/graven/event"
)

// A Step is an event of an incident.
type Step struct {
	Index int64
	Event *event.Event
	// SinceStart and SincePrevious are by the events' own timestamps.
	SinceStart    time.Duration
	SincePrevious time.Duration
}

// A Gap is a step that should be there and is not.
type Gap struct {
	// Expected are the event types of which one is missing.
	Expected []string
	// Index is that of the event that makes one expect it.
	Index  int64
	Reason string
}

// A Status says how an incident stands.
type Status string

// The statuses. Contained is not resolved: the damage is held, the cause is not.
const (
	Open      Status = "open"
	Contained Status = "contained"
	Escalated Status = "escalated"
	Failed    Status = "failed"
	Resolved  Status = "resolved"
)

// A Timeline is an incident's story.
type Timeline struct {
	CorrelationID string
	Status        Status
	Severity      string // the highest of any event
	Started       time.Time
	Last          time.Time
	Steps         []Step
	Missing       []Gap
}

// New makes the timeline of an incident's events, given in the ledger's order.
func New(correlationID string, steps []Step) *Timeline {
	t := &Timeline{CorrelationID: correlationID, Status: Open, Steps: slices.Clone(steps)}
	if len(steps) == 0 {
		return t
	}
	slices.SortStableFunc(t.Steps, func(a, b Step) int { return a.Event.Timestamp.Compare(b.Event.Timestamp) })
	t.Started = t.Steps[0].Event.Timestamp
	t.Last = t.Steps[len(t.Steps)-1].Event.Timestamp
	previous := t.Started
	for i := range t.Steps {
		s := &t.Steps[i]
		s.SinceStart = s.Event.Timestamp.Sub(t.Started)
		s.SincePrevious = s.Event.Timestamp.Sub(previous)
		previous = s.Event.Timestamp
		if status, ok := ends[s.Event.EventType]; ok {
			if t.Status = status; status == Resolved && s.Event.Outcome == event.OutcomeFailure {
				t.Status = Failed // Kubernaut says of what failed that it was completed, too
			}
		}
		if t.Severity == "" || rank(s.Event.Severity) < rank(t.Severity) {
			t.Severity = s.Event.Severity
		}
	}
	t.Missing = missing(t.Steps)
	return t
}

// ends are the types that say how an incident stands from there on.
var ends = map[string]Status{
	"IssueCreated": Open, "IssueResolved": Resolved, "IssueEscalated": Escalated, "IssueContained": Contained,
	"orchestrator.lifecycle.created": Open, "orchestrator.lifecycle.completed": Resolved, "orchestrator.lifecycle.failed": Failed,
}

func rank(severity string) int {
	return slices.Index([]string{event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow, event.SeverityInfo, ""}, severity)
}

// A rule says which steps belong together. Seeing one of given, one of wanted
// is expected: later or, with before, earlier.
type rule struct {
	given, wanted []string
	before        bool
	// anyResource lets a step on another resource count.
	anyResource bool
	reason      string
}

var rules = []rule{
	{given: []string{"IssueResolved", "IssueEscalated", "IssueContained"}, wanted: []string{"IssueCreated"}, before: true, anyResource: true,
		reason: "an issue ended whose beginning was not recorded"},
	{given: []string{"AIInsightRequested"}, wanted: []string{"AIInsightCompleted", "AIInsightFailed"},
		reason: "an analysis was requested and no result was recorded"},
	{given: []string{"ApprovalRequested"}, wanted: []string{"ApprovalGranted", "ApprovalRejected", "ApprovalExpired"},
		reason: "an approval was requested and no decision was recorded"},
	{given: []string{"ApprovalGranted", "ApprovalRejected", "ApprovalExpired"}, wanted: []string{"ApprovalRequested"}, before: true,
		reason: "a decision was recorded on a request that was not"},
	{given: []string{"RemediationExecuted"}, wanted: []string{"RemediationSucceeded", "RemediationFailed"},
		reason: "a remediation was executed and no result was recorded"},
	{given: []string{"RemediationSucceeded", "RemediationFailed"}, wanted: []string{"RemediationExecuted", "AgenticStepExecuted"}, before: true,
		reason: "a result was recorded of a remediation whose execution was not"},
	{given: []string{"ChaosExperimentStarted"}, wanted: []string{"ChaosExperimentCompleted"},
		reason: "a chaos experiment was started and its end was not recorded"},
	{given: []string{"orchestrator.approval.requested"}, anyResource: true,
		wanted: []string{"orchestrator.approval.approved", "orchestrator.approval.rejected", "webhook.remediationapprovalrequest.decided"},
		reason: "an approval was requested and no decision was recorded"},
	{given: []string{"workflowexecution.execution.started"}, wanted: []string{"workflowexecution.workflow.completed", "workflowexecution.workflow.failed"}, anyResource: true,
		reason: "a workflow was started and no result was recorded"},
	{given: []string{"orchestrator.lifecycle.completed"}, wanted: []string{"gateway.signal.received", "apifrontend.rr.created"}, before: true, anyResource: true,
		reason: "a remediation request was completed whose cause was not recorded"},
}

// Expecting returns the types of events that make one expect others: an incident
// without any of them lacks nothing.
func Expecting() (types []string) {
	for _, r := range rules {
		types = append(types, r.given...)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// A mark is a type of steps on a resource or, without one, on any.
type mark struct{ eventType, kind, namespace, name string }

func (r *rule) mark(e *event.Event, eventType string) mark {
	if r.anyResource {
		return mark{eventType: eventType}
	}
	return mark{eventType, strings.Map(fold, e.Resource.Kind), e.Resource.Namespace, e.Resource.Name}
}

// fold returns the same for all cases of a letter.
func fold(r rune) rune {
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	return least
}

// missing holds the steps, which are in order of time, against the rules.
func missing(steps []Step) []Gap {
	type span struct{ first, last int } // in steps
	seen := map[mark]span{}
	for i, s := range steps {
		for k := range rules {
			if r := &rules[k]; slices.Contains(r.wanted, s.Event.EventType) {
				m := r.mark(s.Event, s.Event.EventType)
				at, known := seen[m]
				if !known {
					at.first = i
				}
				at.last = i
				seen[m] = at
			}
		}
	}
	var gaps []Gap
	for i, s := range steps {
		for k := range rules {
			r := &rules[k]
			if slices.Contains(r.given, s.Event.EventType) && !slices.ContainsFunc(r.wanted, func(eventType string) bool {
				at, known := seen[r.mark(s.Event, eventType)]
				return known && (r.before && at.first < i || !r.before && at.last > i)
			}) {
				gaps = append(gaps, Gap{Expected: r.wanted, Index: s.Index, Reason: r.reason})
			}
		}
	}
	return gaps
}
