package incident_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/demo"
	"github.com/graven-audit/graven/internal/incident"
)

var update = flag.Bool("update", false, "write the golden file anew")

var at = time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)

// steps makes a story, a minute between steps. A step is written as
// "Type Kind/name"; the index of each is ten times its place.
func steps(told ...string) []incident.Step {
	var list []incident.Step
	for i, text := range told {
		eventType, resource, _ := strings.Cut(text, " ")
		kind, name, _ := strings.Cut(resource, "/")
		list = append(list, incident.Step{Index: int64(10 * i), Event: &event.Event{
			EventType: eventType, Timestamp: at.Add(time.Duration(i) * time.Minute), Severity: event.SeverityInfo,
			Resource: event.Resource{Kind: kind, Namespace: "production", Name: name},
		}})
	}
	return list
}

// missing writes gaps as "index: expected types".
func missing(t *incident.Timeline) []string {
	var list []string
	for _, g := range t.Missing {
		list = append(list, fmt.Sprintf("%d: %s", g.Index, strings.Join(g.Expected, " ")))
	}
	return list
}

func TestEachRuleSeesWhatIsMissing(t *testing.T) {
	const (
		decision = "ApprovalGranted ApprovalRejected ApprovalExpired"
		result   = "RemediationSucceeded RemediationFailed"
		workflow = "workflowexecution.workflow.completed workflowexecution.workflow.failed"
		approval = "orchestrator.approval.approved orchestrator.approval.rejected webhook.remediationapprovalrequest.decided"
	)
	for _, tt := range []struct {
		name string
		told []string
		want []string
	}{
		{"nothing", nil, nil},
		{"a type that no rule knows", []string{"my.type"}, nil},

		{"an issue from beginning to end", []string{"IssueCreated Issue/i", "IssueResolved Issue/i"}, nil},
		{"an issue resolved of which the beginning is missing", []string{"IssueResolved Issue/i"}, []string{"0: IssueCreated"}},
		{"an issue escalated of which it is", []string{"IssueEscalated Issue/i"}, []string{"0: IssueCreated"}},
		{"an issue contained of which it is", []string{"IssueContained Issue/i"}, []string{"0: IssueCreated"}},
		{"an issue whose beginning comes later", []string{"IssueResolved Issue/i", "IssueCreated Issue/i"}, []string{"0: IssueCreated"}},
		{"an end told of another object", []string{"IssueCreated Issue/i", "IssueResolved RemediationPlan/p"}, nil},

		{"an insight", []string{"AIInsightRequested AIInsight/a", "AIInsightCompleted AIInsight/a"}, nil},
		{"an insight that failed", []string{"AIInsightRequested AIInsight/a", "AIInsightFailed AIInsight/a"}, nil},
		{"an insight without a result", []string{"AIInsightRequested AIInsight/a"}, []string{"0: AIInsightCompleted AIInsightFailed"}},
		{"an insight with another's result", []string{"AIInsightRequested AIInsight/a", "AIInsightCompleted AIInsight/b"}, []string{"0: AIInsightCompleted AIInsightFailed"}},

		{"an approval granted", []string{"ApprovalRequested ApprovalRequest/p", "ApprovalGranted ApprovalRequest/p"}, nil},
		{"an approval rejected", []string{"ApprovalRequested ApprovalRequest/p", "ApprovalRejected ApprovalRequest/p"}, nil},
		{"an approval that expired", []string{"ApprovalRequested ApprovalRequest/p", "ApprovalExpired ApprovalRequest/p"}, nil},
		{"a kind in another case, of letters with three", []string{"ApprovalRequested ris\u212a/p", "ApprovalGranted RI\u017fk/p"}, nil},
		{"a kind in another case", []string{"ApprovalRequested ApprovalRequest/p", "ApprovalGranted approvalrequest/p"}, nil},
		{"a request without a decision", []string{"ApprovalRequested ApprovalRequest/p"}, []string{"0: " + decision}},
		{"a decision without a request", []string{"ApprovalExpired ApprovalRequest/p"}, []string{"0: ApprovalRequested"}},
		{"a decision before its request", []string{"ApprovalGranted ApprovalRequest/p", "ApprovalRequested ApprovalRequest/p"}, []string{"0: ApprovalRequested", "10: " + decision}},
		{"a decision on another request", []string{"ApprovalRequested ApprovalRequest/p", "ApprovalGranted ApprovalRequest/q"}, []string{"0: " + decision, "10: ApprovalRequested"}},
		{"one decision of two", []string{"ApprovalRequested ApprovalRequest/p", "ApprovalRequested ApprovalRequest/q", "ApprovalGranted ApprovalRequest/p"}, []string{"10: " + decision}},

		{"a remediation", []string{"RemediationExecuted RemediationPlan/p", "RemediationSucceeded RemediationPlan/p"}, nil},
		{"a remediation that failed and was repeated", []string{"RemediationExecuted RemediationPlan/p", "RemediationFailed RemediationPlan/p", "RemediationExecuted RemediationPlan/p", "RemediationSucceeded RemediationPlan/p"}, nil},
		{"a repetition without a result", []string{"RemediationExecuted RemediationPlan/p", "RemediationFailed RemediationPlan/p", "RemediationExecuted RemediationPlan/p"}, []string{"20: " + result}},
		{"a remediation without a result", []string{"RemediationExecuted RemediationPlan/p"}, []string{"0: " + result}},
		{"a result without a remediation", []string{"RemediationFailed RemediationPlan/p"}, []string{"0: RemediationExecuted AgenticStepExecuted"}},
		{"a result of steps", []string{"AgenticStepExecuted RemediationPlan/p", "RemediationSucceeded RemediationPlan/p"}, nil},

		{"a chaos experiment", []string{"ChaosExperimentStarted ChaosExperiment/c", "ChaosExperimentCompleted ChaosExperiment/c"}, nil},
		{"a chaos experiment without an end", []string{"ChaosExperimentStarted ChaosExperiment/c"}, []string{"0: ChaosExperimentCompleted"}},

		{"Kubernaut's approval", []string{"orchestrator.approval.requested rr/r", "webhook.remediationapprovalrequest.decided rar/r"}, nil},
		{"Kubernaut's approval without a decision", []string{"orchestrator.approval.requested rr/r"}, []string{"0: " + approval}},
		{"Kubernaut's workflow", []string{"workflowexecution.execution.started w/w", "workflowexecution.workflow.failed x/y"}, nil},
		{"Kubernaut's workflow without a result", []string{"workflowexecution.execution.started w/w"}, []string{"0: " + workflow}},
		{"Kubernaut's request", []string{"gateway.signal.received s/s", "orchestrator.lifecycle.completed rr/r"}, nil},
		{"Kubernaut's request of a person", []string{"apifrontend.rr.created s/s", "orchestrator.lifecycle.completed rr/r"}, nil},
		{"Kubernaut's request without a cause", []string{"orchestrator.lifecycle.completed rr/r"}, []string{"0: gateway.signal.received apifrontend.rr.created"}},
	} {
		got := incident.New("inc-1", steps(tt.told...))
		if m := missing(got); !slices.Equal(m, tt.want) {
			t.Errorf("%s: missing %q, want %q", tt.name, m, tt.want)
		}
		for _, g := range got.Missing {
			if g.Reason == "" {
				t.Errorf("%s: no reason", tt.name)
			}
		}
	}
}

// TestManyStepsOfOneTypeAreHeldAgainstTheRulesAtOnce: each of them against all
// others would take half a minute.
func TestManyStepsOfOneTypeAreHeldAgainstTheRulesAtOnce(t *testing.T) {
	const many = 40_000
	told := make([]string, many)
	for i := range told {
		told[i] = fmt.Sprintf("ApprovalRequested ApprovalRequest/%d", i)
	}
	told[many-1] = "ApprovalGranted approvalREQUEST/7"
	list := steps(told...)
	began := time.Now()
	got := missing(incident.New("inc-1", list))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(got) != many-2 || got[6][:3] != "60:" || got[7][:3] != "80:" {
		t.Errorf("%d are missing, among them %q", len(got), got[:10])
	}
}

// TestRulesSpeakOfTypesThatThereAre finds rules that a renamed type has left behind.
func TestRulesSpeakOfTypesThatThereAre(t *testing.T) {
	for _, typ := range event.Types() {
		for _, g := range incident.New("inc-1", steps(typ.Type+" K/n")).Missing {
			for _, expected := range g.Expected {
				if known, ok := event.Lookup(expected); !ok || known.Type != expected {
					t.Errorf("after %s, %s is expected, which is not in the catalogue", typ.Type, expected)
				}
			}
		}
	}
}

func TestAnIncidentStandsAsItsLastEndSays(t *testing.T) {
	for _, tt := range []struct {
		told []string
		want incident.Status
	}{
		{nil, incident.Open},
		{[]string{"AnomalyDetected"}, incident.Open},
		{[]string{"IssueCreated"}, incident.Open},
		{[]string{"IssueCreated", "IssueResolved"}, incident.Resolved},
		{[]string{"IssueCreated", "IssueContained"}, incident.Contained},
		{[]string{"IssueCreated", "IssueEscalated"}, incident.Escalated},
		{[]string{"IssueCreated", "IssueContained", "IssueResolved"}, incident.Resolved},
		{[]string{"IssueCreated", "IssueResolved", "IssueCreated"}, incident.Open},
		{[]string{"IssueCreated", "IssueResolved", "PostMortemCreated"}, incident.Resolved},
		{[]string{"orchestrator.lifecycle.created"}, incident.Open},
		{[]string{"orchestrator.lifecycle.created", "orchestrator.lifecycle.completed"}, incident.Resolved},
		{[]string{"orchestrator.lifecycle.created", "orchestrator.lifecycle.failed"}, incident.Failed},
	} {
		if got := incident.New("inc-1", steps(tt.told...)).Status; got != tt.want {
			t.Errorf("%q: %s, want %s", tt.told, got, tt.want)
		}
	}
}

func TestWhatWasCompletedWithoutSuccessHasFailed(t *testing.T) {
	list := steps("orchestrator.lifecycle.created", "orchestrator.lifecycle.completed")
	list[1].Event.Outcome = event.OutcomeFailure
	if got := incident.New("inc-1", list).Status; got != incident.Failed {
		t.Errorf("%s", got)
	}
}

func TestAStoryIsToldInTheOrderOfItsTimestamps(t *testing.T) {
	list := steps("IssueResolved Issue/i", "IssueCreated Issue/i", "a", "b")
	list[0].Event.Timestamp, list[1].Event.Timestamp = list[1].Event.Timestamp, list[0].Event.Timestamp
	list[3].Event.Timestamp = list[2].Event.Timestamp // equal times keep the ledger's order
	list[2].Event.Severity, list[3].Event.Severity = event.SeverityHigh, event.SeverityLow
	before := slices.Clone(list)
	got := incident.New("inc-1", list)
	var order []int64
	for _, s := range got.Steps {
		order = append(order, s.Index)
	}
	if !slices.Equal(order, []int64{10, 0, 20, 30}) || got.Missing != nil || got.Status != incident.Resolved {
		t.Errorf("order %v, missing %q, status %s", order, missing(got), got.Status)
	}
	if got.CorrelationID != "inc-1" || !got.Started.Equal(at) || !got.Last.Equal(at.Add(2*time.Minute)) || got.Severity != event.SeverityHigh {
		t.Errorf("from %s to %s, %s", got.Started, got.Last, got.Severity)
	}
	if s := got.Steps[2]; s.SinceStart != 2*time.Minute || s.SincePrevious != time.Minute || got.Steps[3].SincePrevious != 0 || got.Steps[0].SinceStart != 0 {
		t.Errorf("%+v", got.Steps)
	}
	if !slices.Equal(list, before) {
		t.Error("the caller's steps were changed")
	}
}

func TestAnIncidentIsAsSevereAsItsWorstEvent(t *testing.T) {
	for _, tt := range []struct {
		severities []string
		want       string
	}{
		{[]string{"info", "critical", "high"}, "critical"},
		{[]string{"low", "medium", "info"}, "medium"},
		{[]string{"", "low"}, "low"},
		{[]string{"low", ""}, "low"},
		{[]string{""}, ""},
	} {
		list := steps(make([]string, len(tt.severities))...)
		for i, s := range tt.severities {
			list[i].Event.Severity = s
		}
		if got := incident.New("inc-1", list).Severity; got != tt.want {
			t.Errorf("%q: %q, want %q", tt.severities, got, tt.want)
		}
	}
}

// TestTheDemonstrationsStories holds the stories of the demonstration, with
// which people see Graven first, against what they read like.
func TestTheDemonstrationsStories(t *testing.T) {
	var b strings.Builder
	for _, story := range demo.Incidents(1) {
		var list []incident.Step
		for i, e := range story.Events {
			e.Complete(at)
			list = append(list, incident.Step{Index: int64(i), Event: e})
		}
		tl := incident.New(story.CorrelationID, list)
		fmt.Fprintf(&b, "%s: %s\n%s, %s, %s\n", story.CorrelationID, story.Title, tl.Status, tl.Severity, tl.Last.Sub(tl.Started))
		for _, s := range tl.Steps {
			fmt.Fprintf(&b, "  +%-12s %s %s/%s by %s\n", s.SinceStart, s.Event.EventType, s.Event.Resource.Kind, s.Event.Resource.Name, s.Event.Actor.Name)
		}
		for _, g := range tl.Missing {
			fmt.Fprintf(&b, "  missing behind or before %d: %s (%s)\n", g.Index, strings.Join(g.Expected, " or "), g.Reason)
		}
		b.WriteByte('\n')
	}
	const golden = "testdata/stories.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the stories have changed; go test ./internal/incident -update writes them anew\n%s", b.String())
	}
}
