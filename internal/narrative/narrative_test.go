package narrative_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/demo"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/narrative"
)

var update = flag.Bool("update", false, "write the golden files anew")

var at = time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)

type details = map[string]any

// A life is an incident as it is told to the ledger.
type life struct {
	t    *testing.T
	id   string
	now  time.Time
	told []fact.Telling
}

func begin(t *testing.T, id string) *life { return &life{t: t, id: id, now: at} }

func (l *life) pass(d time.Duration) { l.now = l.now.Add(d) }

// tell adds an event. The actor is "type/name", the resource "Kind/name", by one of the
// attributions and, behind a colon, the principal that recorded it.
func (l *life) tell(eventType, actor, resource, by string, d details) *event.Event {
	l.t.Helper()
	index := int64(100 + len(l.told))
	e := &event.Event{ID: event.DeriveID("test", l.id, string(rune('a'+len(l.told)))), EventType: eventType, Timestamp: l.now, CorrelationID: l.id, Cluster: "eu"}
	e.Actor.Type, e.Actor.Name, _ = strings.Cut(actor, "/")
	e.Resource.Namespace = "production"
	e.Resource.Kind, e.Resource.Name, _ = strings.Cut(resource, "/")
	if err := e.SetDetails(d); err != nil {
		l.t.Fatal(err)
	}
	e.Complete(l.now)
	e.Recorded.Attribution, e.Recorded.Principal, _ = strings.Cut(by, ":")
	e.Recorded.At = l.now.Add(20 * time.Millisecond)
	l.told = append(l.told, fact.Telling{Index: index, Event: e})
	return e
}

// one has events tell one fact.
func one(name string, events ...*event.Event) {
	for _, e := range events {
		e.Fact = name
	}
}

// state adds the state of a resource.
func (l *life) state(resource string, object details) {
	l.t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		l.t.Fatal(err)
	}
	l.tell(fact.Snapshot, "service/graven-operator", resource, "observed:graven-operator", details{"resourceVersion": "7", "object": string(text), "digest": capture.Digest(object), "because": "something was recorded of it"})
}

const (
	operator = "observed:system:serviceaccount:graven-system:graven-operator"
	webhook  = "admission:system:serviceaccount:graven-system:graven-operator"
	chatcli  = "asserted:system:serviceaccount:chatcli-system:chatcli-operator"
	services = "asserted:system:serviceaccount:kubernaut-system:datastorage-client"
)

// toldThrice is ChatCLI's incident as its own events, the recorder, capture and admission
// tell it at once.
func toldThrice(t *testing.T) *life {
	l := begin(t, "web-errors-1773930600")
	one("u1/IssueCreated/", l.tell("IssueCreated", "controller/issue-reconciler", "Issue/web-errors-1773930600", chatcli, details{"severity": "high", "resource": "Deployment/web"}),
		l.tell("IssueCreated", "controller/anomaly-reconciler", "Issue/web-errors-1773930600", operator, details{"severity": "high", "description": "5xx above 4%", "resource": "Deployment/web", "riskScore": "72"}))
	l.pass(5 * time.Second)
	l.tell("AIInsightRequested", "controller/issue-reconciler", "AIInsight/web-errors-1773930600-insight", operator, details{"provider": "CLAUDEAI", "model": "large"})
	l.pass(9 * time.Second)
	l.tell("AIInsightCompleted", "controller/aiinsight-reconciler", "AIInsight/web-errors-1773930600-insight", operator, details{"provider": "CLAUDEAI", "model": "large", "confidence": "0.91", "suggestedActions": "RollbackDeployment, ScaleDeployment"})
	l.state("AIInsight/web-errors-1773930600-insight", details{"apiVersion": "platform.chatcli.io/v1alpha1", "kind": "AIInsight",
		"status": details{"analysis": "Revision 6 opens a connection per request.", "confidence": 0.91, "suggestedActions": []any{
			details{"name": "roll back", "action": "RollbackDeployment", "description": "to revision 5"}, details{"name": "scale", "action": "ScaleDeployment", "description": "to 8 replicas"}}}})
	l.pass(time.Second)
	l.tell("RemediationPlanned", "controller/issue-reconciler", "RemediationPlan/web-plan-1", operator, details{"attempt": "1", "strategy": "roll back web", "actions": "RollbackDeployment"})
	l.tell("ApprovalRequested", "controller/remediation-reconciler", "ApprovalRequest/approval-web-plan-1", operator, details{"plan": "web-plan-1", "policy": "production", "requiredApprovers": "1", "timeoutMinutes": "30"})
	l.pass(40 * time.Second)
	asked := l.tell("ApprovalGranted", "user/alice@example.com", "ApprovalRequest/approval-web-plan-1", webhook, details{"intent": "admission", "decision": "approved", "reason": "revision 5 was good",
		"admission": details{"username": "alice@example.com", "groups": []any{"sre"}}})
	asked.Outcome = event.OutcomePending
	one("u2/ApprovalGranted/", asked, l.tell("ApprovalGranted", "user/bob", "ApprovalRequest/approval-web-plan-1", operator, details{"approver": "bob", "plan": "web-plan-1", "reason": "revision 5 was good"}))
	l.tell("IntentConfirmed", "service/graven-operator", "ApprovalRequest/approval-web-plan-1", operator, details{"intent": asked.ID.String(), "eventType": "ApprovalGranted", "by": "watch", "impersonator": "system:serviceaccount:ops:console"})
	l.pass(2 * time.Second)
	one("u3/RemediationExecuted/0", l.tell("RemediationExecuted", "controller/remediation-reconciler", "RemediationPlan/web-plan-1", chatcli, details{"issue": "web-errors-1773930600"}),
		l.tell("RemediationExecuted", "controller/remediation-reconciler", "RemediationPlan/web-plan-1", operator, details{"action": "RollbackDeployment", "target": "deployment/web", "fromRevision": "6", "toRevision": "5"}))
	l.pass(31 * time.Second)
	one("u3/RemediationSucceeded/", l.tell("RemediationSucceeded", "controller/remediation-reconciler", "RemediationPlan/web-plan-1", operator, details{"result": "health verified", "duration": "31s"}))
	l.pass(time.Second)
	l.tell("IssueResolved", "controller/issue-reconciler", "Issue/web-errors-1773930600", operator, details{"resolution": "rolled back to revision 5", "mode": "remediation"})
	return l
}

func kubernautApproved(t *testing.T) *life {
	l := begin(t, "rr-3f2a9c-11aa22bb")
	l.tell("gateway.signal.received", "service/gateway", "Signal/KubePodCrashLooping", services, details{"signal_name": "KubePodCrashLooping", "signal_type": "alert", "severity": "critical", "resource_kind": "Deployment", "resource_name": "cart", "namespace": "production", "fingerprint": "3f2a9c"})
	one("rr/orchestrator.lifecycle.created/", l.tell("orchestrator.lifecycle.created", "service/remediationorchestrator", "RemediationRequest/rr-3f2a9c-11aa22bb", services, details{"rr_name": "rr-3f2a9c-11aa22bb"}),
		l.tell("orchestrator.lifecycle.created", "service/remediationorchestrator", "RemediationRequest/rr-3f2a9c-11aa22bb", operator, details{"rr_name": "rr-3f2a9c-11aa22bb", "signal_name": "KubePodCrashLooping", "severity": "critical"}))
	l.pass(20 * time.Second)
	l.tell("workflow.catalog.workflows_listed", "service/kubernaut-agent", "Workflow/catalog", services, details{"workflow_count": 2, "results": []any{details{"workflow_id": "rollback-v2", "score": 0.93}, details{"workflow_id": "restart-v1", "score": 0.61}}})
	l.tell("aianalysis.analysis.completed", "service/aianalysis", "AIAnalysis/ai-rr-3f2a9c", services, details{"confidence": 0.93, "workflow_id": "rollback-v2", "approval_required": true, "approval_reason": "production environment"})
	l.pass(time.Second)
	l.tell("orchestrator.approval.requested", "service/remediationorchestrator", "RemediationApprovalRequest/rar-rr-3f2a9c", services, details{"rar_name": "rar-rr-3f2a9c", "workflow_id": "rollback-v2", "confidence": 0.93})
	l.pass(3 * time.Minute)
	decided := l.tell("webhook.remediationapprovalrequest.decided", "user/alice@example.com", "RemediationApprovalRequest/rar-rr-3f2a9c", webhook, details{"intent": "admission", "request_name": "rar-rr-3f2a9c", "decision": "Approved", "decision_message": "bad build, seen in staging"})
	decided.Outcome = event.OutcomePending
	one("rar/webhook.remediationapprovalrequest.decided/", decided, l.tell("orchestrator.approval.approved", "service/remediationorchestrator", "RemediationApprovalRequest/rar-rr-3f2a9c", operator, details{"rar_name": "rar-rr-3f2a9c", "decision": "Approved", "decided_by": "alice@example.com"}))
	l.tell("IntentConfirmed", "service/graven-operator", "RemediationApprovalRequest/rar-rr-3f2a9c", operator, details{"intent": decided.ID.String(), "by": "watch"})
	l.tell("orchestrator.approval.approved", "service/remediationorchestrator", "RemediationApprovalRequest/rar-rr-3f2a9c", services, details{"rar_name": "rar-rr-3f2a9c", "decision": "Approved"})
	l.pass(time.Second)
	l.tell("workflowexecution.selection.completed", "service/workflowexecution", "WorkflowExecution/we-rr-3f2a9c", services, details{"workflow_id": "rollback-v2", "workflow_version": "2.1.0", "target_resource": "production/deployment/cart"})
	l.tell("workflowexecution.execution.started", "service/workflowexecution", "WorkflowExecution/we-rr-3f2a9c", services, details{"workflow_id": "rollback-v2", "target_resource": "production/deployment/cart"})
	l.pass(48 * time.Second)
	l.tell("workflowexecution.workflow.completed", "service/workflowexecution", "WorkflowExecution/we-rr-3f2a9c", services, details{"workflow_id": "rollback-v2", "duration": "48s"})
	l.pass(5 * time.Minute)
	l.tell("effectiveness.health.assessed", "service/effectivenessmonitor", "EffectivenessAssessment/ea-rr-3f2a9c", services, details{"assessed": true, "score": 1.0})
	l.tell("effectiveness.assessment.completed", "service/effectivenessmonitor", "EffectivenessAssessment/ea-rr-3f2a9c", services, details{"reason": "full", "score": 0.95, "components_assessed": []any{"health", "alert"}})
	l.tell("orchestrator.lifecycle.completed", "service/remediationorchestrator", "RemediationRequest/rr-3f2a9c-11aa22bb", operator, details{"crd_outcome": "Remediated"})
	return l
}

func kubernautBlocked(t *testing.T) *life {
	l := begin(t, "rr-blocked-1")
	l.tell("gateway.signal.received", "service/gateway", "Signal/HighMemory", services, details{"signal_name": "HighMemory", "severity": "high"})
	l.tell("orchestrator.lifecycle.created", "service/remediationorchestrator", "RemediationRequest/rr-blocked-1", operator, details{"rr_name": "rr-blocked-1"})
	l.pass(time.Second)
	l.tell("orchestrator.routing.blocked", "service/remediationorchestrator", "RemediationRequest/rr-blocked-1", operator, details{"rr_name": "rr-blocked-1", "block_reason": "ConsecutiveFailures", "block_message": "3 consecutive failures", "blocked_until": "2026-03-19T15:30:01Z"})
	l.pass(time.Minute)
	cleared := l.tell("workflowexecution.block.cleared", "user/mallory@example.com", "WorkflowExecution/we-rr-blocked-1", webhook, details{"intent": "admission", "clear_reason": "we looked at it together"})
	cleared.Outcome = event.OutcomePending
	l.tell("IntentUnconfirmed", "service/graven-operator", "WorkflowExecution/we-rr-blocked-1", operator, details{"intent": cleared.ID.String(), "reason": "the state that was asked for was not seen"})
	return l
}

func kubernautFailed(t *testing.T) *life {
	l := begin(t, "rr-failed-1")
	l.tell("gateway.signal.received", "service/gateway", "Signal/DiskFull", services, details{"signal_name": "DiskFull", "severity": "high"})
	l.tell("orchestrator.lifecycle.created", "service/remediationorchestrator", "RemediationRequest/rr-failed-1", operator, details{"rr_name": "rr-failed-1"})
	l.pass(time.Second)
	l.tell("aianalysis.approval.decision", "service/aianalysis", "AIAnalysis/ai-rr-failed-1", services, details{"approval_required": false, "auto_approved": true, "decision": "auto_approved", "confidence": 0.97})
	l.tell("workflowexecution.execution.started", "service/workflowexecution", "WorkflowExecution/we-rr-failed-1", services, details{"workflow_id": "expand-volume"})
	l.pass(time.Minute)
	l.tell("workflowexecution.workflow.failed", "service/workflowexecution", "WorkflowExecution/we-rr-failed-1", services, details{"workflow_id": "expand-volume", "failure_reason": "TaskFailed", "failure_message": "no storage class allows expansion"})
	l.tell("orchestrator.lifecycle.completed", "service/remediationorchestrator", "RemediationRequest/rr-failed-1", services, details{"crd_outcome": "Failed"}).Outcome = event.OutcomeFailure
	return l
}

func chatcliContained(t *testing.T) *life {
	l := begin(t, "cart-node-1")
	l.tell("IssueCreated", "controller/issue-reconciler", "Issue/cart-node-1", operator, details{"severity": "critical", "description": "node stopped reporting"})
	l.tell("RemediationExecuted", "controller/remediation-reconciler", "RemediationPlan/cart-plan-1", operator, details{"action": "CordonNode", "target": "node/n7", "decisionMode": "auto"})
	l.pass(10 * time.Second)
	l.tell("RemediationSucceeded", "controller/remediation-reconciler", "RemediationPlan/cart-plan-1", operator, details{"result": "contained"})
	l.tell("IssueContained", "controller/issue-reconciler", "Issue/cart-node-1", chatcli, details{"required_action": "replace the node"})
	l.pass(time.Second)
	l.tell("IssueResolved", "controller/issue-reconciler", "Issue/cart-node-1", chatcli, details{"resolution": "contained"})
	return l
}

func hostile(t *testing.T) *life {
	const evil = "\x1b[2J\x1b]0;owned\a<script>alert(1)</script> | [x](https://evil.example) ![p](https://evil.example/p.png) **bold** `code` \u202etxt\nforged line [0]"
	l := begin(t, "inc|<b>\x1b[31m")
	l.tell("IssueCreated", "controller/"+"issue\x1b[1m-reconciler", "Issue/i", chatcli, details{"severity": "high", "description": evil, "resource": evil})
	l.tell("AIInsightCompleted", "controller/aiinsight-reconciler", "AIInsight/i-insight", chatcli, details{"confidence": evil, "suggestedActions": evil})
	l.tell("ApprovalRequested", "controller/remediation-reconciler", "ApprovalRequest/a", chatcli, details{"plan": evil})
	l.tell("ApprovalGranted", "user/"+evil, "ApprovalRequest/a", chatcli, details{"approver": evil, "reason": evil})
	l.tell("RemediationExecuted", "controller/remediation-reconciler", "RemediationPlan/p", chatcli, details{"action": evil, "target": []any{evil, details{"kind": evil, "name": evil}}})
	e := l.tell("RemediationFailed", "controller/remediation-reconciler", "RemediationPlan/p", chatcli, details{"result": evil})
	e.Error = event.Failure{Code: "E", Message: evil}
	l.tell("my.own|type", "system/x", "K|<i>/n", chatcli, details{"evil": evil})
	return l
}

// erased is the first life after its content has gone.
func erased(t *testing.T) *life {
	l := toldThrice(t)
	for i := range l.told {
		e := l.told[i].Event.Clone()
		e.Details, e.Error.Message, e.Original = nil, "", nil
		l.told[i].Event, l.told[i].Erased = e, true
	}
	return l
}

func demonstrated(t *testing.T, n int) *life {
	story := demo.Incidents(1)[n]
	l := begin(t, story.CorrelationID)
	for i, e := range story.Events {
		e.Complete(at)
		e.Recorded = event.Recorded{At: e.Timestamp.Add(time.Second), Principal: "chatcli-operator", Attribution: event.AttributionAsserted}
		l.told = append(l.told, fact.Telling{Index: int64(i), Event: e})
	}
	return l
}

func TestWholeLives(t *testing.T) {
	for name, l := range map[string]*life{
		"chatcli-told-thrice": toldThrice(t), "chatcli-contained": chatcliContained(t), "kubernaut-approved": kubernautApproved(t), "kubernaut-blocked": kubernautBlocked(t),
		"kubernaut-failed": kubernautFailed(t), "hostile": hostile(t), "erased": erased(t),
		"chatcli-approved": demonstrated(t, 0), "chatcli-auto": demonstrated(t, 1), "chatcli-rejected": demonstrated(t, 2), "chatcli-escalated": demonstrated(t, 5),
		"chatcli-quorum": demonstrated(t, 11),
	} {
		s := narrative.New(l.id, l.told, nil)
		golden(t, name+".txt", s.Text())
		golden(t, name+".md", s.Markdown())
		text, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "kubernaut-approved") || strings.HasPrefix(name, "chatcli-told") {
			golden(t, name+".json", append(text, '\n'))
		}
		var back narrative.Story
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Text(), s.Text()) || !bytes.Equal(back.Markdown(), s.Markdown()) {
			t.Errorf("%s: read from JSON it is told otherwise", name)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed; go test ./internal/narrative -update writes it anew\n%s", name, got)
	}
}

func TestHostileTextReachesNeitherTerminalNorMarkup(t *testing.T) {
	s := narrative.New(hostile(t).id, hostile(t).told, []string{"a|<b>\x1b"})
	for name, text := range map[string]string{"text": string(s.Text()), "Markdown": string(s.Markdown())} {
		for _, r := range text {
			if r != '\n' && r < 0x20 || r == '\u202e' || r == 0x7f {
				t.Errorf("%s has %q", name, r)
			}
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "forged line") {
				t.Errorf("%s: the text has made a line of its own", name)
			}
		}
	}
	md := string(s.Markdown())
	for _, markup := range []string{"<script", "<b>", "<i>", "x](", "p](", "https://", "**bold**", "`code`"} {
		if strings.Contains(md, markup) {
			t.Errorf("Markdown has %s", markup)
		}
	}
	for line := range strings.Lines(md) {
		if strings.HasPrefix(line, "| 20") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 7 {
			t.Errorf("a row has other cells: %s", line)
		}
	}
}

func TestTheSameEventsToldAnyWayAreTheSameFacts(t *testing.T) {
	l := toldThrice(t)
	s := narrative.New(l.id, l.told, nil)
	if s.Facts != 9 || len(s.Approvals) != 1 || s.Approvals[0].Who != "alice@example.com" || s.Approvals[0].Attribution != event.AttributionAdmission {
		t.Errorf("%d facts, %+v", s.Facts, s.Approvals)
	}
	if len(s.Actions) != 1 || s.Actions[0].Result != "succeeded" {
		t.Errorf("%+v", s.Actions)
	}
}

func TestAnIntentAloneIsNotDone(t *testing.T) {
	l := toldThrice(t)
	var asked []fact.Telling
	for _, told := range l.told {
		if e := told.Event; e.EventType == "ApprovalGranted" && e.Recorded.Attribution != event.AttributionAdmission || e.EventType == "IntentConfirmed" {
			continue
		}
		asked = append(asked, told)
	}
	s := narrative.New(l.id, asked, nil)
	if len(s.Approvals) != 2 || s.Approvals[0].State != "asked" || s.Approvals[1].Decision != "open" {
		t.Errorf("%+v", s.Approvals)
	}
	kinds := map[string]int{}
	for _, m := range s.Missing {
		kinds[m.Kind]++
	}
	if kinds["intent"] != 1 || kinds["step"] != 1 {
		t.Errorf("%+v", s.Missing)
	}
}

func TestWhatWasRecordedLateIsSaid(t *testing.T) {
	l := toldThrice(t)
	l.told[0].Event.Recorded.At = l.told[0].Event.Timestamp.Add(90 * time.Hour)
	l.told[1].Event.Recorded.At = l.told[0].Event.Timestamp.Add(72 * time.Hour)
	if s := narrative.New(l.id, l.told, nil); !strings.Contains(s.Late, "1 of 9 facts") || !strings.Contains(s.Late, "at most 3 days") || !strings.Contains(string(s.Text()), s.Late) {
		t.Errorf("%q", s.Late)
	}
}

func TestNothingIsAStoryOfNothing(t *testing.T) {
	s := narrative.New("none", nil, nil)
	if s.Facts != 0 || !strings.Contains(string(s.Text()), "No event says what was noticed") || len(s.Markdown()) == 0 {
		t.Errorf("%s", s.Text())
	}
}
