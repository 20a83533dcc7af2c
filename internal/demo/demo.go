// Package demo makes up incidents of the kind that ChatCLI's AIOps operator
// handles, the same for the same seed, to show Graven with.
package demo

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/graven-audit/graven/event"
)

// An Incident is a story and the events that tell it.
type Incident struct {
	CorrelationID string
	Title         string
	Events        []*event.Event
}

// base is when the stories begin: a fixed day, so that a seed always gives the
// same events.
var base = time.Date(2026, 3, 18, 6, 0, 0, 0, time.UTC)

// Incidents returns a dozen incidents. The first is that of the seed
// documents' example.
func Incidents(seed uint64) []Incident {
	g := &generator{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x6772617665))}
	var out []Incident
	for i, tell := range []struct {
		title string
		fn    func(*story)
	}{
		{"A bad release is rolled back after an approval", approved},
		{"A crash loop is restarted without asking", automatic},
		{"A person rejects a rollback at peak hours and fixes it by hand", rejected},
		{"An approval expires unanswered and the issue escalates", expired},
		{"A first attempt fails, the second succeeds", retried},
		{"All attempts fail and people take over", escalated},
		{"A chaos experiment on a game day", chaos},
		{"Too many failures trip the circuit breaker", breaker},
		{"Trouble in staging reaches production", cascade},
		{"A node is contained and a person ends it", contained},
		{"An agent works step by step", agentic},
		{"Two people approve a risky change", quorum},
	} {
		out = append(out, g.story(i, tell.title, tell.fn))
	}
	return out
}

type generator struct {
	seed uint64
	rng  *rand.Rand
	seq  int64
}

var (
	namespaces  = []string{"production", "payments", "checkout", "search"}
	deployments = []string{"api-server", "ledger", "cart", "web", "billing", "catalog", "gateway", "orders"}
	people      = []string{"alice@example.com", "bob@example.com", "carl@example.com", "dora@example.com"}
)

// story makes the i-th incident.
func (g *generator) story(i int, title string, tell func(*story)) Incident {
	s := &story{g: g, number: i, at: base.Add(time.Duration(i)*3*time.Hour + time.Duration(g.rng.IntN(3600))*time.Second),
		id: fmt.Sprintf("inc-%06x", g.rng.Uint32()&0xffffff), ns: pick(g, namespaces), app: pick(g, deployments)}
	if i == 0 {
		s.id, s.ns, s.app = "inc-8f2a4b", "production", "api-server"
		s.at = time.Date(2026, 3, 19, 14, 24, 0, 123e6, time.UTC)
	}
	s.plan = "plan-rollback-" + s.app
	tell(s)
	return Incident{CorrelationID: s.id, Title: title, Events: s.events}
}

func pick[T any](g *generator, list []T) T { return list[g.rng.IntN(len(list))] }

// A story is an incident while it is told.
type story struct {
	g       *generator
	number  int
	id      string
	ns, app string
	plan    string
	attempt int
	at      time.Time
	events  []*event.Event
}

type details = map[string]any

// pass lets about d pass.
func (s *story) pass(d time.Duration) {
	s.at = s.at.Add(d + time.Duration(s.g.rng.Int64N(int64(d)/5+1))).Truncate(time.Millisecond)
}

// say adds an event. The actor is "type/name", the resource "Kind/name".
func (s *story) say(eventType, severity, actor, resource string, d details) *event.Event {
	s.g.seq++
	e := &event.Event{
		ID:            event.DeriveID("demo", strconv.FormatUint(s.g.seed, 10), strconv.Itoa(s.number), strconv.Itoa(len(s.events))),
		EventType:     eventType,
		Timestamp:     s.at,
		Severity:      severity,
		Actor:         event.Actor{},
		Resource:      event.Resource{APIVersion: "platform.chatcli.io/v1alpha1", Namespace: s.ns},
		CorrelationID: s.id,
		Cluster:       "eu-central-1",
		Source:        event.Source{Name: "chatcli-operator-0", Seq: s.g.seq},
	}
	e.Actor.Type, e.Actor.Name = cut(actor)
	if e.Actor.Type == event.ActorController {
		e.Actor.ServiceAccount = "chatcli-operator"
	}
	e.Resource.Kind, e.Resource.Name = cut(resource)
	if err := e.SetDetails(d); err != nil {
		panic("internal error: demo details: " + err.Error())
	}
	s.events = append(s.events, e)
	return e
}

func cut(s string) (string, string) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// begin tells how the trouble was noticed.
func (s *story) begin(signal, severity, what string) {
	s.say("AnomalyDetected", severity, "system/watcher-bridge", "Anomaly/watcher-"+signal+"-"+s.app,
		details{"source": "prometheus", "signalType": signal, "value": fmt.Sprintf("%.2f", 0.8+s.g.rng.Float64()*4),
			"threshold": "0.75", "target": "deployment/" + s.app, "description": what, "startedAt": event.FormatTime(s.at.Add(-2 * time.Minute))})
	s.pass(4 * time.Second)
	s.say("IssueCreated", severity, "controller/anomaly-reconciler", s.issue(), details{"severity": severity, "resource": "Deployment/" + s.app,
		"signalType": signal, "riskScore": strconv.Itoa(40 + s.g.rng.IntN(60)), "description": what})
	s.pass(2 * time.Second)
	s.say("AnomalyCorrelated", "low", "system/correlation-engine", "Anomaly/watcher-"+signal+"-"+s.app, details{"issue": s.app + "-" + signal, "signalType": signal})
}

func (s *story) issue() string { return "Issue/" + s.app + "-issue" }

// think tells of the analysis and of the decision.
func (s *story) think(mode string) float64 {
	confidence := 0.80 + s.g.rng.Float64()*0.19
	insight := "AIInsight/" + s.app + "-issue-insight"
	s.pass(time.Second)
	s.say("AIInsightRequested", "low", "controller/issue-reconciler", insight, details{"provider": "CLAUDEAI", "model": "large", "reanalysis": s.attempt > 0})
	s.pass(9 * time.Second)
	s.say("AIInsightCompleted", "low", "controller/aiinsight-reconciler", insight, details{"provider": "CLAUDEAI", "model": "large",
		"confidence": fmt.Sprintf("%.2f", confidence), "suggestedActions": "RollbackDeployment,RestartDeployment"})
	s.pass(time.Second)
	s.say("PatternMatched", "low", "system/decision-engine", "ConfigMap/chatcli-pattern-store", details{"fingerprint": fmt.Sprintf("%012x", s.g.rng.Uint64()>>16),
		"successCount": strconv.Itoa(1 + s.g.rng.IntN(9))})
	s.say("ConfidenceCalculated", "low", "system/decision-engine", s.issue(), details{"base": fmt.Sprintf("%.2f", confidence-0.05),
		"final": fmt.Sprintf("%.2f", confidence), "decisionMode": mode})
	return confidence
}

// planned tells of a plan.
func (s *story) planned(action, mode string) {
	s.attempt++
	s.pass(time.Second)
	s.say("RemediationPlanned", "low", "controller/issue-reconciler", s.remediation(), details{"attempt": strconv.Itoa(s.attempt), "strategy": action + " of " + s.app,
		"actions": action, "decisionMode": mode})
}

func (s *story) remediation() string { return "RemediationPlan/" + s.plan }

func (s *story) approval() string { return "ApprovalRequest/approval-" + s.plan }

func (s *story) ask(required int) {
	s.pass(time.Second)
	s.say("ApprovalRequested", "medium", "controller/remediation-reconciler", s.approval(), details{"plan": s.plan, "policy": "production-changes",
		"riskLevel": "high", "requiredApprovers": strconv.Itoa(required), "timeoutMinutes": "30"}).Outcome = event.OutcomePending
}

// execute tells of an action and of its result.
func (s *story) execute(action, severity, mode string, good bool) {
	s.pass(2 * time.Second)
	from := 3 + s.g.rng.IntN(9)
	s.say("RemediationExecuted", severity, "controller/remediation-reconciler", s.remediation(), details{"action": action, "target": "deployment/" + s.app,
		"fromRevision": strconv.Itoa(from), "toRevision": strconv.Itoa(from - 1), "decisionMode": mode, "attempt": strconv.Itoa(max(s.attempt, 1))})
	began := s.at
	s.pass(12 * time.Second)
	took := s.at.Sub(began)
	if good {
		s.say("RemediationSucceeded", severity, "controller/remediation-reconciler", s.remediation(),
			details{"duration": took.String(), "result": "success"}).DurationMs = took.Milliseconds()
		return
	}
	e := s.say("RemediationFailed", "high", "controller/remediation-reconciler", s.remediation(), details{"duration": took.String(), "result": "health check failed",
		"attempt": strconv.Itoa(max(s.attempt, 1)), "rollbackPerformed": true})
	e.DurationMs, e.Error = took.Milliseconds(), event.Failure{Code: "VerificationFailed", Message: "pods did not become ready in time"}
}

// resolved tells of the end.
func (s *story) resolved(actor, mode, how string) {
	s.pass(8 * time.Second)
	s.say("IssueResolved", "low", actor, s.issue(), details{"resolution": how, "mode": mode, "attempts": strconv.Itoa(s.attempt),
		"durationSeconds": strconv.Itoa(int(s.at.Sub(s.events[0].Timestamp).Seconds()))})
	s.pass(20 * time.Second)
	s.say("PostMortemCreated", "info", "controller/postmortem-reconciler", "PostMortem/pm-"+s.app+"-issue", details{"issue": s.app + "-issue"})
}

func automatic(s *story) {
	s.begin("crashloop_backoff", "low", "pods restart again and again")
	s.think("auto")
	s.planned("RestartDeployment", "auto")
	s.execute("RestartDeployment", "low", "auto", true)
	s.resolved("controller/issue-reconciler", "remediation", "restarted")
}

func approved(s *story) {
	s.begin("error_rate", "high", "error rate rose after the rollout of revision 6")
	s.think("approval")
	s.planned("Rollback", "approval")
	s.ask(1)
	s.pass(90 * time.Second)
	s.say("ApprovalGranted", "medium", "user/john@company.com", s.approval(), details{"approver": "john@company.com", "reason": "error budget is burning, revision 5 was good", "plan": s.plan})
	s.execute("Rollback", "high", "approval", true)
	s.resolved("controller/issue-reconciler", "remediation", "rolled back to revision 5")
}

func rejected(s *story) {
	s.begin("latency", "medium", "p99 latency above 2s")
	s.think("approval")
	s.planned("Rollback", "approval")
	s.ask(1)
	who := pick(s.g, people)
	s.pass(4 * time.Minute)
	s.say("ApprovalRejected", "high", "user/"+who, s.approval(), details{"approver": who, "reason": "Action too aggressive for peak hours", "plan": s.plan})
	s.pass(11 * time.Minute)
	s.resolved("user/"+who, "manual", "cache warmed by hand")
}

func expired(s *story) {
	s.begin("memory_high", "high", "memory close to the limit")
	s.think("approval")
	s.planned("AdjustResources", "approval")
	s.ask(1)
	s.pass(30 * time.Minute)
	s.say("ApprovalExpired", "high", "system/approval-reconciler", s.approval(), details{"timeoutMinutes": "30", "plan": s.plan})
	s.pass(2 * time.Second)
	s.say("IssueEscalated", "high", "controller/issue-reconciler", s.issue(), details{"reason": "approval expired", "attempts": "0", "maxAttempts": "5"})
	s.pass(3 * time.Second)
	s.say("NotificationSent", "info", "controller/notification-controller", s.issue(), details{"channel": "pagerduty", "success": true}).Outcome = event.OutcomeSuccess
}

func retried(s *story) {
	s.begin("deploy_failing", "medium", "new pods do not become ready")
	s.think("auto-notify")
	s.planned("RestartDeployment", "auto-notify")
	s.execute("RestartDeployment", "medium", "auto-notify", false)
	s.plan += "-2"
	s.think("auto-notify")
	s.planned("Rollback", "auto-notify")
	s.execute("Rollback", "medium", "auto-notify", true)
	s.resolved("controller/issue-reconciler", "remediation", "second attempt: rolled back")
}

func escalated(s *story) {
	s.begin("pvc_pending", "critical", "volume claims stay pending")
	plan := s.plan
	for i := range 3 {
		s.plan = fmt.Sprintf("%s-%d", plan, i+1)
		s.think("auto-notify")
		s.planned("ResizePVC", "auto-notify")
		s.execute("ResizePVC", "high", "auto-notify", false)
	}
	s.pass(time.Second)
	s.say("IssueEscalated", "critical", "controller/issue-reconciler", s.issue(), details{"attempts": "3", "maxAttempts": "3", "reason": "MaxAttemptsReached"})
	s.pass(2 * time.Second)
	s.say("EscalationTriggered", "high", "controller/escalation-controller", s.issue(), details{"level": "2", "policy": "storage-oncall"})
	s.pass(14 * time.Minute)
	s.say("SLABreach", "critical", "controller/sla-controller", s.issue(), details{"type": "resolution", "elapsed": "16m", "threshold": "15m"})
}

func chaos(s *story) {
	experiment := "ChaosExperiment/pod-kill-" + s.app
	who := pick(s.g, people)
	s.say("ApprovalRequested", "medium", "user/"+who, "ApprovalRequest/chaos-pod-kill-"+s.app, details{"policy": "chaos-safety", "riskLevel": "medium"}).Outcome = event.OutcomePending
	s.pass(5 * time.Minute)
	s.say("ApprovalGranted", "medium", "user/dora@example.com", "ApprovalRequest/chaos-pod-kill-"+s.app, details{"approver": "dora@example.com", "reason": "game day, runbook GD-7"})
	s.pass(time.Second)
	s.say("ChaosExperimentStarted", "medium", "controller/chaos-reconciler", experiment, details{"type": "pod_kill", "target": "deployment/" + s.app, "duration": "60s", "dryRun": false}).Outcome = event.OutcomePending
	s.pass(65 * time.Second)
	s.say("ChaosExperimentCompleted", "low", "controller/chaos-reconciler", experiment, details{"type": "pod_kill", "result": "recovered", "podsAffected": "2",
		"recoveryVerified": true, "recoveryTime": "21s"}).Outcome = event.OutcomeSuccess
}

func breaker(s *story) {
	s.begin("oom_kill", "high", "containers are killed for memory")
	plan := s.plan
	for i := range 3 {
		s.plan = fmt.Sprintf("%s-%d", plan, i+1)
		s.planned("RestartDeployment", "auto")
		s.execute("RestartDeployment", "medium", "auto", false)
	}
	s.pass(time.Second)
	s.say("CircuitBreakerTriggered", "critical", "system/decision-engine", "Namespace/"+s.ns, details{"failures": "3", "window": "1h", "threshold": "3"})
	s.pass(26 * time.Minute)
	s.say("ConfigChanged", "medium", "user/"+pick(s.g, people), "Deployment/"+s.app, details{"changedKeys": "resources.limits.memory", "operation": "update"})
	s.resolved("user/"+pick(s.g, people), "manual", "memory limit raised")
}

func cascade(s *story) {
	s.begin("error_rate", "medium", "errors in staging")
	s.pass(6 * time.Minute)
	s.say("CascadeDetected", "high", "system/cascade-detector", s.issue(), details{"sourceCluster": "staging-1", "sourceIssue": s.app + "-staging-issue", "signal": "error_rate"})
	s.say("CrossClusterCorrelation", "critical", "system/correlation-engine", s.issue(), details{"clusters": "staging-1,eu-central-1", "clusterCount": "2",
		"originalSeverity": "medium", "elevatedSeverity": "critical"})
	s.think("approval")
	s.planned("Rollback", "approval")
	s.ask(1)
	s.pass(50 * time.Second)
	s.say("ApprovalGranted", "medium", "user/alice@example.com", s.approval(), details{"approver": "alice@example.com", "reason": "same build as staging", "plan": s.plan})
	s.execute("Rollback", "high", "approval", true)
	s.resolved("controller/issue-reconciler", "remediation", "rolled back in both clusters")
}

func contained(s *story) {
	s.begin("node_not_ready", "critical", "node stopped reporting")
	s.think("auto-notify")
	s.planned("CordonNode", "auto-notify")
	s.execute("CordonNode", "high", "auto-notify", true)
	s.pass(3 * time.Second)
	s.say("IssueContained", "medium", "controller/issue-reconciler", s.issue(), details{"requiredAction": "replace the node", "attempts": "1"})
	s.pass(38 * time.Minute)
	s.resolved("user/carl@example.com", "human-after-containment", "node replaced")
}

func agentic(s *story) {
	s.begin("config_drift", "medium", "running configuration differs from git")
	s.think("auto-notify")
	s.planned("Custom", "auto-notify")
	for i, step := range []string{"ExecDiagnostic", "ArgoSyncApp", "ExecDiagnostic"} {
		s.pass(5 * time.Second)
		s.say("AgenticStepExecuted", "low", "controller/remediation-reconciler", s.remediation(), details{"stepNumber": strconv.Itoa(i + 1), "action": step,
			"observation": "SUCCESS", "reasoning": "compare, sync, compare again"}).Outcome = event.OutcomeSuccess
	}
	s.execute("ArgoSyncApp", "medium", "auto-notify", true)
	s.pass(time.Second)
	s.say("RunbookGenerated", "info", "controller/issue-reconciler", "Runbook/auto-config-drift", details{"source": "agentic", "sourceIssue": s.app + "-issue"})
	s.resolved("controller/issue-reconciler", "remediation", "synchronised")
}

func quorum(s *story) {
	s.begin("certificate_expiry", "high", "ingress certificate expires in 40 hours")
	s.think("approval")
	s.planned("RotateSecret", "approval")
	s.ask(2)
	for i, who := range []string{"bob@example.com", "dora@example.com"} {
		s.pass(3 * time.Minute)
		s.say("ApprovalGranted", "medium", "user/"+who, s.approval(), details{"approver": who, "reason": "rotation is due", "plan": s.plan, "quorum": fmt.Sprintf("%d of 2", i+1)})
	}
	s.execute("RotateSecret", "high", "approval", true)
	s.resolved("controller/issue-reconciler", "remediation", "certificate rotated")
}
