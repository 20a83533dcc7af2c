package narrative

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/legible"
	"github.com/graven-audit/graven/internal/snapshot"
)

// An Insight is what an analysis came to.
type Insight struct {
	Text       string `json:"text"`
	Finding    string `json:"finding,omitempty"` // its own words
	Confidence string `json:"confidence,omitempty"`
	By         string `json:"by,omitempty"`
	// Alternatives are what it suggests or weighed, the chosen one among them.
	Alternatives []string `json:"alternatives,omitempty"`
	At           string   `json:"at"`
	Index        int64    `json:"index"`
	// Snapshot is the entry with the state that Finding stands in; 0 for none.
	Snapshot int64 `json:"snapshot,omitempty"`
}

// A Decided is a request for approval, and what was decided.
type Decided struct {
	Request  string `json:"request"`
	Decision string `json:"decision"` // granted, rejected, expired, attempted, open
	// Who decided; empty where nobody did.
	Who         string `json:"who,omitempty"`
	WhoType     string `json:"whoType,omitempty"`
	Known       string `json:"known,omitempty"`
	Attribution string `json:"attribution,omitempty"`
	Reason      string `json:"reason,omitempty"`
	At          string `json:"at"`
	// AfterMs is how long it took from the request; 0 where that is not known.
	AfterMs int64    `json:"afterMs,omitempty"`
	State   string   `json:"state"`
	Notes   []string `json:"notes,omitempty"`
	Index   int64    `json:"index"`
}

// An Executed is something that was done, and what came of it.
type Executed struct {
	What     string `json:"what"`
	Target   string `json:"target,omitempty"`
	Resource string `json:"resource"`
	Result   string `json:"result"` // succeeded, failed, unknown
	Why      string `json:"why,omitempty"`
	At       string `json:"at"`
	Index    int64  `json:"index"`
	// ResultIndex is the entry that tells of the result; -1 for none.
	ResultIndex int64 `json:"resultIndex"`
}

func line(f *told) Line { return Line{f.step.Text, f.step.Index} }

// summarize makes the passages of a story.
func (s *Story) summarize(facts []*told, states []thought) {
	next := following(facts)
	for _, f := range facts {
		if mode := strings.ToLower(f.Detail("decisionMode")); s.Automatic == nil && f.Done() {
			if mode == "auto" || strings.HasPrefix(strings.NewReplacer("-", "", "_", "").Replace(mode), "autonotify") {
				s.Automatic = &Line{mode, f.step.Index}
			} else if f.Is("aianalysis.approval.decision") && (f.Detail("auto_approved") == "true" || f.Detail("approval_required") == "false") {
				s.Automatic = &Line{"auto_approved", f.step.Index}
			}
		}
		switch f.step.Part {
		case Signal:
			s.Signal = append(s.Signal, line(f))
		case Analysis:
			s.Analyses = analysed(s.Analyses, f, next[f], states)
		case Decision:
			s.Decisions = append(s.Decisions, line(f))
		case Effect:
			s.Effects = append(s.Effects, line(f))
		case End:
			s.End = append(s.End, line(f))
		}
	}
	s.approve(facts)
	s.execute(facts)
}

// conclusions are the types of events that end an analysis.
var conclusions = []string{"AIInsightCompleted", "AIInsightFailed", "PatternMatched", "RCAEnrichmentCompleted", "aianalysis.analysis.completed", "aianalysis.analysis.failed",
	"aiagent.rca.complete", "workflow.catalog.workflows_listed"}

// following returns behind each conclusion the next of its type about the same resource.
func following(facts []*told) map[*told]*told {
	type about struct {
		eventType string
		of        event.Resource
	}
	next, last := map[*told]*told{}, map[about]*told{}
	for _, f := range facts {
		if f.Is(conclusions...) {
			k := about{f.Event().EventType, f.Event().Resource}
			if before := last[k]; before != nil {
				next[before] = f
			}
			last[k] = f
		}
	}
	return next
}

// observed is the place of the telling of who watches the resource, behind which its state
// stands; of the best known one, where nobody did.
func observed(f *told) int64 {
	for _, t := range f.Tellings {
		if t.Event.Recorded.Attribution == event.AttributionObserved {
			return t.Index
		}
	}
	return f.Best().Index
}

// moment is how far the clocks of those who tell of one moment may be apart.
const moment = 5 * time.Second

// analysed adds what an analysis came to, with what the state says that was kept of it
// before the next one of the same resource.
func analysed(to []Insight, f, next *told, states []thought) []Insight {
	if !f.Is(conclusions...) {
		return to
	}
	e := f.Event()
	in := Insight{Text: f.step.Text, Confidence: f.Detail("confidence"), By: strings.TrimSpace(f.Detail("provider") + " " + f.Detail("model")), At: f.step.At, Index: f.step.Index}
	if e.EventType == "workflow.catalog.workflows_listed" {
		in.Alternatives = list(f.Detail("results"))
	} else {
		in.Alternatives = list(f.Detail("suggestedActions", "possibleCauses", "workflow_id"))
	}
	in.Finding = f.Detail("rca_summary", "provider_response_summary")
	first, until := observed(f), int64(math.MaxInt64)
	if next != nil {
		until = observed(next)
	}
	for i := range states {
		st := &states[i]
		same := st.of.Kind == e.Resource.Kind && st.of.Namespace == e.Resource.Namespace && st.of.Name == e.Resource.Name
		if !same || st.index < first || st.index > until && until > first {
			continue
		}
		in.Finding, in.Snapshot, in.Confidence = st.finding, st.index, cmp.Or(in.Confidence, st.confidence)
		if len(st.alternatives) > 0 {
			in.Alternatives = st.alternatives
		}
		break
	}
	in.Finding = legible.Cut(in.Finding, maxText)
	return append(to, in)
}

// A thought is what the state of an analysis says.
type thought struct {
	of                  event.Resource
	index               int64
	finding, confidence string
	alternatives        []string
}

// thoughts returns what the states that were kept of analyses say, and which cannot be
// read.
func thoughts(given []fact.Telling) (all []thought, broken []snapshot.Broken) {
	var of []fact.Telling
	for _, g := range given {
		if g.Event.EventType == fact.Snapshot && (g.Event.Resource.Kind == "AIInsight" || g.Event.Resource.Kind == "AIAnalysis") {
			of = append(of, g)
		}
	}
	states, broken := snapshot.Assemble(of)
	for i := range states {
		st := &states[i]
		object, err := st.Read()
		if err != nil {
			broken = append(broken, st.Broken(err))
			continue
		}
		if t := thoughtOf(object); t.finding != "" {
			t.of, t.index = st.Resource, st.Index()
			all = append(all, t)
		}
	}
	return all, broken
}

func thoughtOf(object map[string]any) thought {
	status := func(path ...string) string {
		return snapshot.Text(object, append([]string{"status"}, path...)...)
	}
	t := thought{finding: legible.Cut(cmp.Or(status("analysis"), status("rootCauseAnalysis", "summary"), status("rootCause")), maxText),
		confidence: cmp.Or(status("confidence"), status("selectedWorkflow", "confidence"))}
	if chosen := status("selectedWorkflow", "workflowId"); chosen != "" {
		t.alternatives = append(t.alternatives, legible.Cut(chosen+" (chosen)"+after(": ", status("selectedWorkflow", "rationale"), ""), maxText))
	}
	for _, name := range []string{"suggestedActions", "alternativeWorkflows"} {
		members, _ := snapshot.At(object, "status", name).([]any)
		for _, m := range members[:min(len(members), 20)] {
			m, _ := m.(map[string]any)
			if name := cmp.Or(fact.Words(m["action"]), fact.Words(m["workflowId"]), fact.Words(m["name"])); name != "" {
				text := name + after(" (", fact.Words(m["confidence"]), ")") + after(": ", cmp.Or(fact.Words(m["description"]), fact.Words(m["rationale"])), "")
				t.alternatives = append(t.alternatives, legible.Cut(text, 300))
			}
		}
	}
	return t
}

func list(text string) (all []string) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

var (
	requests  = []string{"ApprovalRequested", "orchestrator.approval.requested"}
	decisions = []string{"ApprovalGranted", "ApprovalRejected", "ApprovalExpired", "ApprovalAttempted", "orchestrator.approval.approved", "orchestrator.approval.rejected",
		"webhook.remediationapprovalrequest.decided"}
)

func requestOf(f *told) string {
	return cmp.Or(f.Detail("rar_name", "request_name"), f.Event().Resource.Name)
}

// approve tells of every request for approval, and of every decision. Kubernaut's
// controllers tell of a decision a second time, as a fact of their own: what is known
// best of it stays.
func (s *Story) approve(facts []*told) {
	asked, tried := map[string]*told{}, map[string]*told{}
	open := map[string]bool{}
	for _, f := range facts {
		if f.Is(requests...) {
			name := requestOf(f)
			if asked[name] == nil {
				asked[name], open[name] = f, true
			}
			continue
		}
		if !f.Is(decisions...) {
			continue
		}
		d := decided(f)
		if d.Decision == "attempted" {
			tried[d.Request] = f
		} else if by := tried[d.Request]; by != nil && by.Event().Recorded.Attribution == event.AttributionAdmission && by.step.Who != d.Who {
			d.Notes = append(slices.Clip(d.Notes), "who asked the API server for it was "+by.step.WhoType+" "+by.step.Who)
		}
		if request := asked[d.Request]; request != nil {
			d.AfterMs = f.At().Sub(request.At()).Milliseconds()
		}
		if f.step.State == "done" && d.Decision != "attempted" {
			open[d.Request] = false
		}
		if i := same(s.Approvals, &d, f.Event().EventType); i >= 0 {
			if order(&d) < order(&s.Approvals[i]) {
				d.Reason, d.Notes = cmp.Or(d.Reason, s.Approvals[i].Reason), append(d.Notes, s.Approvals[i].Notes...)
				s.Approvals[i] = d
			} else {
				s.Approvals[i].Reason = cmp.Or(s.Approvals[i].Reason, d.Reason)
			}
			continue
		}
		s.Approvals = append(s.Approvals, d)
	}
	for _, f := range facts {
		if name := requestOf(f); f.Is(requests...) && open[name] && asked[name] == f {
			s.Approvals = append(s.Approvals, Decided{Request: name, Decision: "open", At: f.step.At, State: "done", Index: f.step.Index})
		}
	}
}

func order(d *Decided) int {
	i := slices.Index(fact.Attributions, d.Attribution)
	if i < 0 {
		i = len(fact.Attributions)
	}
	if d.State != "done" {
		i += 10
	}
	return i
}

// same returns which of the decisions an event tells of once more; -1 for none.
func same(had []Decided, d *Decided, eventType string) int {
	if !strings.HasPrefix(eventType, "orchestrator.") && !strings.HasPrefix(eventType, "webhook.") {
		return -1
	}
	for i := range had {
		if had[i].Request == d.Request && had[i].Decision == d.Decision {
			return i
		}
	}
	return -1
}

func decided(f *told) Decided {
	e := f.Event()
	d := Decided{Request: requestOf(f), Reason: f.Detail("reason", "decision_message"), At: f.step.At, State: f.step.State, Notes: f.step.Notes,
		Index: f.step.Index, Attribution: e.Recorded.Attribution, Who: f.step.Who, WhoType: f.step.WhoType, Known: f.step.Known}
	said := strings.ToLower(f.Detail("decision"))
	switch {
	case f.Is("ApprovalAttempted"):
		d.Decision = "attempted"
	case f.Is("ApprovalExpired") || said == "expired":
		d.Decision = "expired"
	case f.Is("ApprovalGranted", "orchestrator.approval.approved") || said == "approved":
		d.Decision = "granted"
	case f.Is("ApprovalRejected", "orchestrator.approval.rejected") || said == "rejected":
		d.Decision = "rejected"
	case said != "":
		d.Decision = said
	default:
		d.Decision = "unknown"
	}
	if f.Detail("auto") == "true" {
		d.Notes = append(slices.Clip(d.Notes), "decided by a rule, not by a person")
	}
	return d
}

// execute tells what was done, with what came of it.
func (s *Story) execute(facts []*told) {
	type key struct{ cluster, namespace, name string }
	plan := func(f *told) key {
		return key{f.Event().Cluster, f.Event().Resource.Namespace, f.Event().Resource.Name}
	}
	named := map[key]bool{}       // plans of which actions are known
	results := map[string][]int{} // places of facts, by type
	for i, f := range facts {
		if f.Is("RemediationExecuted") && f.Detail("action") != "" {
			named[plan(f)] = true
		}
		if f.step.State == "done" && f.Is("RemediationSucceeded", "RemediationFailed", "workflowexecution.workflow.completed", "workflowexecution.workflow.failed") {
			results[f.Event().EventType] = append(results[f.Event().EventType], i)
		}
	}
	for i, f := range facts {
		if f.step.State != "done" && f.step.State != "asked" {
			continue
		}
		x := Executed{Target: f.Detail("target", "target_resource"), Resource: f.step.Resource, At: f.step.At, Index: f.step.Index, ResultIndex: -1, Result: "unknown"}
		var good, bad string
		switch {
		case f.Is("RemediationExecuted") && (f.Detail("action") != "" || !named[plan(f)]):
			x.What = cmp.Or(f.Detail("action", "strategy"), "plan "+f.Event().Resource.Name)
			good, bad = "RemediationSucceeded", "RemediationFailed"
		case f.Is("workflowexecution.execution.started"):
			x.What = "workflow " + cmp.Or(f.Detail("workflow_name", "workflow_id"), f.Event().Resource.Name)
			good, bad = "workflowexecution.workflow.completed", "workflowexecution.workflow.failed"
		case f.Is("AgenticStepExecuted"):
			x.What = "step " + f.Detail("stepNumber") + after(": ", f.Detail("action"), "")
			x.Why = f.Detail("observation")
			switch {
			case f.Event().Outcome == event.OutcomeFailure || strings.HasPrefix(x.Why, "FAILED") || strings.HasPrefix(x.Why, "REJECTED"):
				x.Result = "failed"
			case f.Event().Outcome == event.OutcomeSuccess || strings.HasPrefix(x.Why, "SUCCESS"):
				x.Result = "succeeded"
			}
		case f.Is("CircuitBreakerTriggered", "workflowexecution.block.cleared", "ChaosExperimentStarted", "PodCommand"):
			x.What, x.Result = f.step.Text, ""
		default:
			continue
		}
		if f.step.State != "done" {
			x.Result = f.step.State
		}
		if of := plan(f); x.Result == "unknown" {
			first := len(facts)
			for k, eventType := range []string{good, bad} {
				places := results[eventType]
				from, _ := slices.BinarySearch(places, i+1)
				for _, at := range places[from:] {
					end := facts[at]
					if at > first {
						break
					}
					if end.Event().Resource.Kind == f.Event().Resource.Kind && plan(end) != of {
						continue
					}
					first, x.ResultIndex, x.Result, x.Why = at, end.step.Index, "succeeded", end.Detail("result")
					if k == 1 {
						x.Result, x.Why = "failed", cmp.Or(end.Detail("result", "failure_message", "failure_reason"), strings.Trim(end.rest(), " ()"))
					}
					break
				}
			}
		}
		s.Actions = append(s.Actions, x)
	}
}
