package recorder_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/recorder"
)

var now = time.Date(2026, 3, 19, 15, 0, 0, 123456789, time.UTC)

// A ledger takes events as a real one does: the same id is recorded once.
type ledger struct {
	t      *testing.T
	events []*event.Event
	ids    map[event.ID]string
	fails  error
}

func (l *ledger) Record(_ context.Context, e *event.Event) error {
	if l.fails != nil {
		return l.fails
	}
	e = e.Clone()
	words := string(e.AppendJSON(nil))
	if had, ok := l.ids[e.ID]; ok {
		if had != words {
			l.t.Errorf("id %s has two contents:\n%s\n%s", e.ID, had, words)
		}
		return nil
	}
	if l.ids == nil {
		l.ids = map[event.ID]string{}
	}
	l.ids[e.ID] = words
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		l.t.Errorf("%s is not valid: %v", e.EventType, err)
	}
	if e.Recorded.Uncatalogued {
		l.t.Errorf("%s is in no catalogue", e.EventType)
	}
	l.events = append(l.events, e)
	return nil
}

// words are what it has.
func (l *ledger) words() (all []string) {
	for _, e := range l.events {
		all = append(all, string(e.AppendJSON(nil)))
	}
	return all
}

// issues are those that can be read.
type issues map[string]*v1alpha1.Issue

func (i issues) Issue(_ context.Context, namespace, name string) (*v1alpha1.Issue, error) {
	if issue, ok := i[name]; ok && (namespace == "" || issue.Namespace == namespace) {
		return issue, nil
	}
	return nil, nil
}

var errAway = errors.New("the API server is away")

type unreadable struct{}

func (unreadable) Issue(context.Context, string, string) (*v1alpha1.Issue, error) {
	return nil, errAway
}

func at(minutes int) *metav1.Time {
	return &metav1.Time{Time: time.Date(2026, 3, 19, 14, minutes, 0, 0, time.UTC)}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "production", UID: types.UID("uid-of-" + name), CreationTimestamp: *at(0), Generation: 3}
}

// Objects of one incident.
func issue() *v1alpha1.Issue {
	m := meta("api-server-error-rate")
	m.Labels = map[string]string{"platform.chatcli.io/inc-id": "INC-20260319-001"}
	return &v1alpha1.Issue{ObjectMeta: m,
		Spec: v1alpha1.IssueSpec{Severity: "high", Source: "prometheus", SignalType: "error_rate", Description: "5xx above 5 %", RiskScore: 80,
			Resource: v1alpha1.ResourceRef{Kind: "Deployment", Name: "api-server", Namespace: "production"}, CorrelationId: "inc-8f2a4b"},
		Status: v1alpha1.IssueStatus{State: "Resolved", DetectedAt: at(1), ResolvedAt: at(21), Resolution: "rolled back", RemediationAttempts: 2, MaxRemediationAttempts: 3}}
}

func plan() *v1alpha1.RemediationPlan {
	m := meta("plan-rollback-api-server")
	m.Annotations = map[string]string{"platform.chatcli.io/decision-mode": "auto-notify", "platform.chatcli.io/confidence": "0.92"}
	return &v1alpha1.RemediationPlan{ObjectMeta: m,
		Spec: v1alpha1.RemediationPlanSpec{IssueRef: v1alpha1.IssueRef{Name: "api-server-error-rate"}, Attempt: 2, Strategy: "roll back",
			Actions: []v1alpha1.RemediationAction{
				{Type: "Rollback", Params: map[string]string{"deployment": "api-server", "fromRevision": "6", "toRevision": "5"}},
				{Type: "Rollback", Params: map[string]string{"deployment": "worker", "fromRevision": "3", "toRevision": "2"}}}},
		Status: v1alpha1.RemediationPlanStatus{State: "Completed", StartedAt: at(10), CompletedAt: at(12), Result: "healthy again"}}
}

func approval() *v1alpha1.ApprovalRequest {
	return &v1alpha1.ApprovalRequest{ObjectMeta: meta("approval-plan-rollback"),
		Spec: v1alpha1.ApprovalRequestSpec{IssueRef: v1alpha1.IssueRef{Name: "api-server-error-rate"}, RemediationPlanRef: "plan-rollback-api-server",
			PolicyRef: "production", RuleName: "rollbacks", Requester: "chatcli-operator", TimeoutMinutes: 30, RequiredApprovers: 1,
			BlastRadius: &v1alpha1.BlastRadius{RiskLevel: "high"}},
		Status: v1alpha1.ApprovalRequestStatus{State: "Approved", ApprovedAt: at(5),
			Decisions: []v1alpha1.ApprovalDecision{{Approver: "john@company.com", Decision: "approved", Reason: "seen it before", Timestamp: *at(5)}}}}
}

func experiment() *v1alpha1.ChaosExperiment {
	return &v1alpha1.ChaosExperiment{ObjectMeta: meta("kill-a-pod"),
		Spec: v1alpha1.ChaosExperimentSpec{ExperimentType: "pod_kill", Duration: "2m", Target: v1alpha1.ResourceRef{Kind: "Deployment", Name: "api-server", Namespace: "production"}},
		Status: v1alpha1.ChaosExperimentStatus{State: "Completed", StartedAt: at(30), CompletedAt: at(32), Result: "recovered", RecoveryVerified: true,
			RecoveryTime: "45s", PodsAffected: 1}}
}

func insight() *v1alpha1.AIInsight {
	return &v1alpha1.AIInsight{ObjectMeta: meta("api-server-error-rate-insight"),
		Spec: v1alpha1.AIInsightSpec{IssueRef: v1alpha1.IssueRef{Name: "api-server-error-rate"}, Provider: "example", Model: "m-1"},
		Status: v1alpha1.AIInsightStatus{Analysis: "a bad release", Confidence: 0.92, GeneratedAt: at(3),
			SuggestedActions: []v1alpha1.SuggestedAction{{Action: "Rollback"}, {Action: "Scale"}}}}
}

func anomaly() *v1alpha1.Anomaly {
	return &v1alpha1.Anomaly{ObjectMeta: meta("watcher-error-rate-api-server-1773928800"),
		Spec: v1alpha1.AnomalySpec{Source: "prometheus", SignalType: "error_rate", Value: "7.2", Threshold: "5", Description: "5xx",
			Resource: v1alpha1.ResourceRef{Kind: "Deployment", Name: "api-server", Namespace: "production"}},
		Status: v1alpha1.AnomalyStatus{Correlated: true, IssueRef: &v1alpha1.IssueRef{Name: "api-server-error-rate"}}}
}

func slo() *v1alpha1.ServiceLevelObjective {
	return &v1alpha1.ServiceLevelObjective{ObjectMeta: meta("api-availability"), Spec: v1alpha1.ServiceLevelObjectiveSpec{ServiceName: "api"},
		Status: v1alpha1.ServiceLevelObjectiveStatus{ActiveAlerts: []v1alpha1.SLOAlert{{Window: "1h/6h", BurnRate: 15.2, Severity: "critical", FiredAt: *at(7)}}}}
}

func cluster() *v1alpha1.ClusterRegistration {
	return &v1alpha1.ClusterRegistration{ObjectMeta: meta("eu-1"), Spec: v1alpha1.ClusterRegistrationSpec{DisplayName: "EU 1", Environment: "prod", Tier: "critical"},
		Status: v1alpha1.ClusterRegistrationStatus{LastHealthCheck: at(8), KubernetesVersion: "v1.36.3", NodeCount: 5}}
}

// told is one call of each kind, with what its event must have.
var told = []struct {
	name  string
	tell  func(r *recorder.Recorder, ar *recorder.AuditRecorder) error
	event string // type, actor, resource, incident, severity
	at    string
	has   map[string]string // of the details
}{
	{"an anomaly", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordAnomalyDetected(anomaly())
	},
		"AnomalyDetected system:watcher-bridge Anomaly/watcher-error-rate-api-server-1773928800 inc-8f2a4b low", "14:00",
		map[string]string{"source": "prometheus", "signalType": "error_rate", "value": "7.2", "threshold": "5", "target": "deployment/api-server"}},
	{"an Issue", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error { return ar.RecordIssueCreated(issue()) },
		"IssueCreated controller:anomaly-reconciler Issue/api-server-error-rate inc-8f2a4b high", "14:00",
		map[string]string{"severity": "high", "signalType": "error_rate", "resource": "Deployment/api-server", "riskScore": "80", "incId": "INC-20260319-001"}},
	{"its end", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordIssueResolved(issue(), "rollback to 5")
	},
		"IssueResolved controller:issue-reconciler Issue/api-server-error-rate inc-8f2a4b low", "14:21",
		map[string]string{"resolution": "rollback to 5", "attempts": "2", "durationSeconds": "1200", "mode": "remediation"}},
	{"an answer", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordAIInsightCompleted(insight())
	},
		"AIInsightCompleted controller:aiinsight-reconciler AIInsight/api-server-error-rate-insight inc-8f2a4b low", "14:03",
		map[string]string{"provider": "example", "model": "m-1", "confidence": "0.92", "nSuggestedActions": "2", "suggestedActions": "Rollback,Scale"}},
	{"a confidence", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordConfidenceCalculated("api-server-error-rate", 0.92, map[string]float64{"base": 0.8, "pattern": 0.12})
	}, "ConfidenceCalculated system:decision-engine Issue/api-server-error-rate inc-8f2a4b low", "",
		map[string]string{"confidence": "0.92", "base": "0.8", "pattern": "0.12"}},
	{"a pattern", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordPatternMatched("9c1a", "api-server-error-rate")
	}, "PatternMatched system:decision-engine Issue/api-server-error-rate inc-8f2a4b low", "", map[string]string{"fingerprint": "9c1a"}},
	{"an action", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		p := plan()
		return ar.RecordRemediationExecuted(p, p.Spec.Actions[0].Type)
	}, "RemediationExecuted controller:remediation-reconciler RemediationPlan/plan-rollback-api-server inc-8f2a4b high", "14:10",
		map[string]string{"action": "Rollback", "target": "deployment/api-server", "fromRevision": "6", "toRevision": "5", "confidence": "0.92", "decisionMode": "auto-notify"}},
	{"a success", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordRemediationResult(plan(), true)
	},
		"RemediationSucceeded controller:remediation-reconciler RemediationPlan/plan-rollback-api-server inc-8f2a4b high", "14:12",
		map[string]string{"duration": "2m0s", "result": "healthy again"}},
	{"a failure", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordRemediationResult(plan(), false)
	},
		"RemediationFailed controller:remediation-reconciler RemediationPlan/plan-rollback-api-server inc-8f2a4b high", "14:12",
		map[string]string{"result": "healthy again", "attempt": "2"}},
	{"a circuit breaker", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordCircuitBreakerTriggered("production", 3)
	}, "CircuitBreakerTriggered system:decision-engine Namespace/production production critical", "", map[string]string{"failures": "3", "window": "1h"}},
	{"an approval that is asked for", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordApprovalDecision(approval(), "requested")
	}, "ApprovalRequested controller:remediation-reconciler ApprovalRequest/approval-plan-rollback inc-8f2a4b medium", "14:00",
		map[string]string{"plan": "plan-rollback-api-server", "rule": "rollbacks", "policy": "production", "riskLevel": "high"}},
	{"an approval", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordApprovalDecision(approval(), "approved")
	}, "ApprovalGranted user:john@company.com ApprovalRequest/approval-plan-rollback inc-8f2a4b medium", "14:05",
		map[string]string{"approver": "john@company.com", "reason": "seen it before", "decisionSeconds": "300", "plan": "plan-rollback-api-server"}},
	{"an approval that expired", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordApprovalDecision(approval(), "Expired")
	}, "ApprovalExpired system:approval-reconciler ApprovalRequest/approval-plan-rollback inc-8f2a4b high", "", map[string]string{"timeoutMinutes": "30"}},
	{"a role", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordRoleChange("john@company.com", "operator", "granted")
	}, "RoleGranted controller:rbac-manager ClusterRoleBinding/operator:john@company.com  high", "", map[string]string{"user": "john@company.com", "role": "operator"}},
	{"an experiment that begins", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordChaosExperiment(experiment(), "started")
	}, "ChaosExperimentStarted controller:chaos-reconciler ChaosExperiment/kill-a-pod kill-a-pod medium", "14:30",
		map[string]string{"type": "pod_kill", "target": "deployment/api-server", "phase": "started"}},
	{"an experiment", func(_ *recorder.Recorder, ar *recorder.AuditRecorder) error {
		return ar.RecordChaosExperiment(experiment(), "completed")
	}, "ChaosExperimentCompleted controller:chaos-reconciler ChaosExperiment/kill-a-pod kill-a-pod low", "14:32",
		map[string]string{"result": "recovered", "podsAffected": "1", "recoveryVerified": "true", "recoveryTime": "45s"}},

	{"an Issue that is contained", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordIssueContained(context.Background(), issue(), "scale up again")
	}, "IssueContained controller:issue-reconciler Issue/api-server-error-rate inc-8f2a4b medium", "", map[string]string{"required_action": "scale up again"}},
	{"an Issue that is escalated", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordIssueEscalated(context.Background(), issue())
	}, "IssueEscalated controller:issue-reconciler Issue/api-server-error-rate inc-8f2a4b high", "", map[string]string{"attempts": "2", "maxAttempts": "3"}},
	{"a notification", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordNotificationSent(context.Background(), "slack", issue(), false, "channel_not_found")
	}, "NotificationSent controller:notification-reconciler Issue/api-server-error-rate inc-8f2a4b medium", "", map[string]string{"channel": "slack", "success": "false"}},
	{"an SLO", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordSLOViolation(context.Background(), slo(), "1h/6h", 15.2)
	}, "SLOViolation controller:slo-reconciler ServiceLevelObjective/api-availability api-availability critical", "14:07", map[string]string{"burn_rate": "15.20", "window": "1h/6h"}},
	{"an SLA", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordSLABreach(context.Background(), issue(), "resolution", 20*time.Minute, 15*time.Minute)
	}, "SLABreach controller:sla-reconciler Issue/api-server-error-rate inc-8f2a4b critical", "", map[string]string{"elapsed": "20m0s", "threshold": "15m0s"}},
	{"a pattern that was learned", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordPatternLearned(context.Background(), "production", recorder.Pattern{Fingerprint: "9c1a", SuccessCount: 4})
	}, "PatternLearned system:pattern-store ConfigMap/chatcli-pattern-store  low", "", map[string]string{"successCount": "4"}},
	{"a configuration", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordConfigChanged(context.Background(), &v1alpha1.ApprovalPolicy{ObjectMeta: meta("production")}, "updated")
	}, "ConfigChanged controller:config-watcher ApprovalPolicy/production  medium", "", map[string]string{"operation": "updated", "generation": "3"}},
	{"a cluster", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordClusterConnected(context.Background(), cluster())
	}, "ClusterConnected controller:federation-reconciler ClusterRegistration/eu-1  info", "14:08", map[string]string{"kubernetesVersion": "v1.36.3", "tier": "critical"}},
	{"a cluster that is gone", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordClusterDisconnected(context.Background(), cluster())
	}, "ClusterDisconnected controller:federation-reconciler ClusterRegistration/eu-1  medium", "14:08", map[string]string{"lastHealthCheck": "2026-03-19T14:08:00Z"}},
	{"an escalation", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordEscalationTriggered(context.Background(), issue(), "on-call", 2)
	}, "EscalationTriggered controller:notification-reconciler Issue/api-server-error-rate inc-8f2a4b high", "", map[string]string{"policy": "on-call", "currentLevel": "2"}},
	{"a post mortem", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordPostMortemCreated(context.Background(), &v1alpha1.PostMortem{ObjectMeta: meta("pm"),
			Spec: v1alpha1.PostMortemSpec{IssueRef: v1alpha1.IssueRef{Name: "api-server-error-rate"}}, Status: v1alpha1.PostMortemStatus{RootCause: "a bad release"}})
	}, "PostMortemCreated controller:remediation-reconciler PostMortem/pm inc-8f2a4b low", "14:00", map[string]string{"rootCause": "a bad release"}},
	{"a runbook", func(r *recorder.Recorder, _ *recorder.AuditRecorder) error {
		return r.RecordRunbookGenerated(context.Background(), &v1alpha1.Runbook{ObjectMeta: meta("auto-error-rate"),
			Spec: v1alpha1.RunbookSpec{Steps: []v1alpha1.RunbookStep{{Action: "Rollback"}}}})
	}, "RunbookGenerated controller:remediation-reconciler Runbook/auto-error-rate  medium", "14:00", map[string]string{"steps": "Rollback"}},
}

// start returns a recorder that goes on in a directory.
func start(t *testing.T, l *ledger, dir string, at time.Time, known recorder.Issues) *recorder.Recorder {
	t.Helper()
	r, err := recorder.New(recorder.Config{Sender: l, Dir: dir, Issues: known, ServiceAccount: "chatcli-operator", Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsToldAgainAfterARestartIsRecordedOnceWithItsContent(t *testing.T) {
	for _, c := range told {
		t.Run(c.name, func(t *testing.T) {
			l, dir, known := &ledger{t: t}, t.TempDir(), issues{"api-server-error-rate": issue()}
			for restart := range 3 {
				r := start(t, l, dir, now.Add(time.Duration(restart)*10*time.Second), known)
				for range 2 {
					if err := c.tell(r, recorder.NewAuditRecorder(r)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if len(l.events) != 1 {
				t.Fatalf("%d events", len(l.events))
			}
			e := l.events[0]
			got := strings.Join([]string{e.EventType, e.Actor.Type + ":" + e.Actor.Name, e.Resource.Kind + "/" + e.Resource.Name, e.CorrelationID, e.Severity}, " ")
			if got != c.event {
				t.Errorf("recorded\n%s, want\n%s", got, c.event)
			}
			if c.at != "" && e.Timestamp.Format("15:04") != c.at || c.at == "" && !e.Timestamp.Equal(now) {
				t.Errorf("at %v, want %s", e.Timestamp, c.at)
			}
			if (e.Actor.Type == event.ActorController) != (e.Actor.ServiceAccount == "chatcli-operator") {
				t.Errorf("actor %+v", e.Actor)
			}
			if e.Resource.UID != "" && !strings.HasPrefix(e.Fact, e.Resource.UID+"/"+e.EventType) {
				t.Errorf("fact %q", e.Fact)
			}
			var details map[string]string
			if err := json.Unmarshal(e.Details, &details); err != nil {
				t.Fatal(err)
			}
			for name, want := range c.has {
				if details[name] != want {
					t.Errorf("details %v\nlack %s: %s", details, name, want)
				}
			}
		})
	}
}

func TestTwoActionsOfOneTypeAreTwo(t *testing.T) {
	l := &ledger{t: t}
	r := start(t, l, "", now, nil)
	p := plan()
	for i := range p.Spec.Actions {
		for range 2 { // once before it is done, and again after a crash
			if err := r.RecordRemediationExecuted(t.Context(), p, "Rollback"); err != nil {
				t.Fatal(err)
			}
		}
		p.Status.ActionCheckpoints = append(p.Status.ActionCheckpoints, v1alpha1.ActionCheckpoint{ActionIndex: int32(i), ActionType: "Rollback", Success: true, Timestamp: *at(11 + i)})
	}
	if len(l.events) != 2 || l.events[0].Fact == l.events[1].Fact || !strings.Contains(string(l.events[1].Details), "deployment/worker") {
		t.Errorf("%d events: %v", len(l.events), l.words())
	}
	// A model decides each step, and the plan has no checkpoints.
	agentic := plan()
	agentic.UID, agentic.Spec.AgenticMode, agentic.Spec.Actions = "agentic", true, nil
	for i := range 2 {
		if err := r.RecordRemediationExecuted(t.Context(), agentic, "ScaleDeployment"); err != nil {
			t.Fatal(err)
		}
		agentic.Spec.AgenticHistory = append(agentic.Spec.AgenticHistory, v1alpha1.AgenticStep{StepNumber: int32(i + 1), Timestamp: *at(20 + i)})
	}
	if len(l.events) != 4 {
		t.Errorf("%d events: %v", len(l.events), l.words())
	}
}

func TestWhatHasChangedBetweenTwoTellingsIsToldAgainAsItWasFirst(t *testing.T) {
	l, dir := &ledger{t: t}, t.TempDir()
	p, a, e := plan(), anomaly(), experiment()
	p.Status.StartedAt, p.Status.CompletedAt = nil, nil // the status could not be written yet
	a.Status.IssueRef = nil
	e.Status.StartedAt = nil
	for i := range 2 {
		r := start(t, l, dir, now.Add(time.Duration(i)*time.Hour), nil)
		err := errors.Join(r.RecordRemediationExecuted(t.Context(), p, "Rollback"), r.RecordRemediationResult(t.Context(), p, true), r.RecordAnomalyDetected(t.Context(), a),
			r.RecordSLABreach(t.Context(), issue(), "response", time.Duration(31+i)*time.Minute, time.Minute), r.RecordSLOViolation(t.Context(), slo(), "1h/6h", 14.4+float64(i)),
			r.RecordChaosExperiment(t.Context(), e, "started"))
		if err != nil {
			t.Fatal(err)
		}
		p, a, e = plan(), anomaly(), experiment()
	}
	if len(l.events) != 6 {
		t.Errorf("%d events: %v", len(l.events), l.words())
	}
}

func TestWhatIsNowOneWayAndNowTheOtherIsToldEachTime(t *testing.T) {
	l, dir := &ledger{t: t}, t.TempDir()
	minutes := 0
	tell := func(do func(r *recorder.Recorder) error) {
		t.Helper()
		minutes++
		for range 2 {
			if err := do(start(t, l, dir, now.Add(time.Duration(minutes)*time.Minute), nil)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, action := range []string{"granted", "revoked", "granted"} {
		tell(func(r *recorder.Recorder) error {
			return r.RecordRoleChange(t.Context(), "john@company.com", "admin", action)
		})
	}
	c := cluster()
	for i, connected := range []bool{true, true, false, false, true} {
		c.Status.LastHealthCheck = at(20 + i)
		tell(func(r *recorder.Recorder) error {
			if connected {
				return r.RecordClusterConnected(t.Context(), c)
			}
			return r.RecordClusterDisconnected(t.Context(), c)
		})
	}
	var types []string
	facts := map[string]bool{}
	for _, e := range l.events {
		types = append(types, e.EventType)
		facts[e.Fact] = true
	}
	if got := strings.Join(types, " "); got != "RoleGranted RoleRevoked RoleGranted ClusterConnected ClusterDisconnected ClusterConnected" {
		t.Error(got)
	}
	if len(facts) != 4 { // roles have none here
		t.Errorf("facts %v", facts)
	}
}

func TestAThingThatHappensAgainIsAnotherFact(t *testing.T) {
	l := &ledger{t: t}
	again := issue()
	again.Status.ResolvedAt = at(50)
	known := issues{"api-server-error-rate": issue()}
	for i := range 2 {
		r := start(t, l, "", now.Add(time.Duration(i)*time.Hour), known)
		err := errors.Join(r.RecordNotificationSent(t.Context(), "slack", issue(), true, ""),
			r.RecordPatternMatched(t.Context(), []string{"9c1a", "77f0"}[i], "api-server-error-rate"),
			r.RecordIssueResolved(t.Context(), []*v1alpha1.Issue{issue(), again}[i], ""))
		if err != nil {
			t.Fatal(err)
		}
	}
	facts := map[string]bool{}
	for _, e := range l.events {
		facts[e.Fact] = true
	}
	if len(l.events) != 6 || len(facts) != 6 {
		t.Errorf("%d events of %d facts: %v", len(l.events), len(facts), l.words())
	}
}

func TestTheSameWordsAreANewTellingAfterTenMinutes(t *testing.T) {
	l, dir := &ledger{t: t}, t.TempDir()
	for _, minutes := range []int{0, 9, 18, 29, 30, 41} { // each within ten minutes of the last goes on with it
		if err := start(t, l, dir, now.Add(time.Duration(minutes)*time.Minute), nil).RecordCircuitBreakerTriggered(t.Context(), "production", 3); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.events) != 3 {
		t.Errorf("%d events, want those of the minutes 0, 29 and 41", len(l.events))
	}
}

func TestAnIssueThatCannotBeReadIsAnErrorAndOneThatIsGoneStandsForItself(t *testing.T) {
	l := &ledger{t: t}
	r := start(t, l, "", now, unreadable{})
	for _, err := range []error{r.RecordRemediationResult(t.Context(), plan(), true), r.RecordPatternMatched(t.Context(), "9c1a", "api-server-error-rate")} {
		if !errors.Is(err, errAway) {
			t.Errorf("told without its incident: %v", err)
		}
	}
	if len(l.events) != 0 {
		t.Errorf("%v", l.words())
	}
	r = start(t, l, "", now, issues{})
	if err := errors.Join(r.RecordRemediationResult(t.Context(), plan(), true), r.RecordPatternMatched(t.Context(), "9c1a", "production/api-server-error-rate")); err != nil {
		t.Fatal(err)
	}
	for _, e := range l.events {
		if e.CorrelationID != "api-server-error-rate" {
			t.Errorf("%s is of the incident %q", e.EventType, e.CorrelationID)
		}
	}
	if l.events[1].Resource.Namespace != "production" {
		t.Errorf("resource %+v", l.events[1].Resource)
	}
}

func TestASuppressedAnomalyIsOfNoIncident(t *testing.T) {
	l := &ledger{t: t}
	a := anomaly()
	a.Status.IssueRef.Name = "suppressed:cooldown"
	if err := start(t, l, "", now, nil).RecordAnomalyDetected(t.Context(), a); err != nil || l.events[0].CorrelationID != "" {
		t.Errorf("%v, %v", l.words(), err)
	}
}

func TestWhoApprovedIsUnknownWhereNobodyIsNamed(t *testing.T) {
	l := &ledger{t: t}
	a := approval()
	a.Status = v1alpha1.ApprovalRequestStatus{State: "Approved"}
	if err := start(t, l, "", now, nil).RecordApprovalDecision(t.Context(), a, "granted"); err != nil || l.events[0].Actor.Name != "unknown" {
		t.Errorf("%v, %v", l.words(), err)
	}
	a.UID, a.Status.AutoApproved = "another", true
	if err := start(t, l, "", now, nil).RecordApprovalDecision(t.Context(), a, "granted"); err != nil || l.events[1].Actor.Type != event.ActorSystem {
		t.Errorf("%v, %v", l.words(), err)
	}
}

func TestAQuorumIsTheLastApproversDecision(t *testing.T) {
	l := &ledger{t: t}
	a := approval()
	a.Status.ApprovedAt = nil
	a.Status.Decisions = append(a.Status.Decisions, v1alpha1.ApprovalDecision{Approver: "jane@company.com", Decision: "approved", Timestamp: *at(9)})
	if err := start(t, l, "", now, nil).RecordApprovalDecision(t.Context(), a, "granted"); err != nil {
		t.Fatal(err)
	}
	if e := l.events[0]; e.Actor.Name != "jane@company.com" || !e.Timestamp.Equal(at(9).Time) {
		t.Errorf("%v", l.words())
	}
}

func TestAnObjectOfAnotherGroupBearsItsOwnKind(t *testing.T) {
	l := &ledger{t: t}
	r := start(t, l, "", now, nil)
	o := &metav1.PartialObjectMetadata{ObjectMeta: meta("chatcli-pattern-store")}
	if err := r.RecordConfigChanged(t.Context(), o, "updated"); err == nil || !strings.Contains(err.Error(), "unknown kind") {
		t.Errorf("without a kind: %v", err)
	}
	o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
	o.Generation, o.ResourceVersion = 0, "17"
	if err := r.RecordConfigChanged(t.Context(), o, "updated"); err != nil {
		t.Fatal(err)
	}
	o.ResourceVersion = "18"
	if err := r.RecordConfigChanged(t.Context(), o, "updated"); err != nil {
		t.Fatal(err)
	}
	if len(l.events) != 2 || l.events[0].Resource.APIVersion != "v1" || l.events[0].Resource.Kind != "ConfigMap" {
		t.Errorf("%v", l.words())
	}
}

func TestAnActionsParametersDoNotPassForWhatIsKnownOfIt(t *testing.T) {
	l := &ledger{t: t}
	p := plan()
	p.Annotations = nil
	p.Spec.Actions[0].Params = map[string]string{"decisionMode": "manual", "confidence": "0.99", "approver": "ciso", "password": "secret", "target": "deployment/x"}
	if err := start(t, l, "", now, nil).RecordRemediationExecuted(t.Context(), p, "Rollback"); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"manual", "0.99", "ciso", "secret"} {
		if strings.Contains(string(l.events[0].Details), word) {
			t.Errorf("details %s", l.events[0].Details)
		}
	}
}

func TestWordsThatSayNothingAreRefused(t *testing.T) {
	l := &ledger{t: t}
	r := start(t, l, "", now, nil)
	for want, err := range map[string]error{
		`decision is "maybe"`:     r.RecordApprovalDecision(t.Context(), approval(), "maybe"),
		`phase is ""`:             r.RecordChaosExperiment(t.Context(), experiment(), ""),
		`action is "given"`:       r.RecordRoleChange(t.Context(), "x", "viewer", "given"),
		`breach is "late"`:        r.RecordSLABreach(t.Context(), issue(), "late", 0, 0),
		`operation is "replaced"`: r.RecordConfigChanged(t.Context(), issue(), "replaced"),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if len(l.events) != 0 {
		t.Errorf("%v", l.words())
	}
}

func TestWhatIsRefusedIsNotKept(t *testing.T) {
	l, dir := &ledger{t: t}, t.TempDir()
	i := issue()
	i.Name = strings.Repeat("x", 600) // which no API server takes
	if err := start(t, l, dir, now, nil).RecordIssueCreated(t.Context(), i); err == nil || !strings.Contains(err.Error(), "resource.name") {
		t.Errorf("600 bytes: %v", err)
	}
	if err := start(t, l, dir, now, nil).RecordIssueCreated(t.Context(), issue()); err != nil || len(l.events) != 1 {
		t.Errorf("%v, %v", l.words(), err)
	}
}

func TestFilesOfOthersAreLetBe(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "spool"), 0o700), os.WriteFile(filepath.Join(dir, "0001.seg"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	start(t, &ledger{t: t}, dir, time.Now().AddDate(1, 0, 0), nil)
	if _, err := os.Stat(filepath.Join(dir, "0001.seg")); err != nil {
		t.Error(err)
	}
}

func TestHostileTextIsRecordedAsFarAsItCanBe(t *testing.T) {
	l := &ledger{t: t}
	r := start(t, l, "", now, nil)
	i := issue()
	i.Spec.Description = strings.Repeat("ü\x00\xff\x1b[31m", 1<<18)
	p := plan()
	p.Status.Result = strings.Repeat("x", 1<<20)
	if err := errors.Join(r.RecordIssueCreated(t.Context(), i), r.RecordRemediationResult(t.Context(), p, false)); err != nil {
		t.Fatal(err)
	}
	if len(l.events) != 2 {
		t.Errorf("%d events", len(l.events))
	}
}

// TestNobodyKeepsADecisionFromTheLedger by what they call themselves, or how grave they
// say that something is.
func TestNobodyKeepsADecisionFromTheLedger(t *testing.T) {
	for _, approver := range []string{strings.Repeat("x", 600), "a\x00b", "a\xffb"} {
		l := &ledger{t: t}
		r := start(t, l, "", now, nil)
		a := approval()
		a.Status.Decisions[len(a.Status.Decisions)-1].Approver = approver
		i := issue()
		i.Spec.Severity, i.Spec.CorrelationId = "P1", strings.Repeat("c", 600)
		i.Annotations = map[string]string{"aiops.chatcli.io/resolved-by": approver}
		err := errors.Join(r.RecordApprovalDecision(t.Context(), a, "approved"), r.RecordIssueCreated(t.Context(), i), r.RecordIssueResolved(t.Context(), i, ""))
		if err != nil || len(l.events) != 3 {
			t.Fatalf("%d events, %v", len(l.events), err)
		}
		if e := l.events[0]; e.Original["actor.name"] == "" || e.Actor.Name == "" {
			t.Errorf("%+v", e)
		}
		if e := l.events[1]; e.Original["severity"] != "P1" || e.Original["correlationID"] == "" {
			t.Errorf("%+v", e)
		}
	}
}

// TestWhatIsWrittenAgainIsToldOnce though its time is another then.
func TestWhatIsWrittenAgainIsToldOnce(t *testing.T) {
	l, dir := &ledger{t: t}, t.TempDir()
	for minute := range 5 {
		i := issue()
		i.Status.ResolvedAt = at(20 + minute)
		slo := &v1alpha1.ServiceLevelObjective{ObjectMeta: metav1.ObjectMeta{Name: "pay", Namespace: "production", UID: "u9"}}
		slo.Status.ActiveAlerts = []v1alpha1.SLOAlert{{Window: "1h", Severity: "page", FiredAt: *at(20 + minute)}}
		r := start(t, l, dir, now.Add(time.Duration(minute)*time.Minute), nil)
		if err := errors.Join(r.RecordIssueResolved(t.Context(), i, ""), r.RecordSLOViolation(t.Context(), slo, "1h", 14)); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.events) != 2 {
		t.Errorf("%v", l.words())
	}
}

func TestWhatWasToldIsForgottenAfterThirtyDays(t *testing.T) {
	l, dir := &ledger{t: t}, t.TempDir()
	if err := start(t, l, dir, now, nil).RecordIssueCreated(t.Context(), issue()); err != nil {
		t.Fatal(err)
	}
	for days, want := range map[int]int{29: 1, 31: 0} {
		start(t, l, dir, time.Now().AddDate(0, 0, days), nil)
		if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) > want {
			t.Errorf("after %d days there are %v", days, files)
		}
	}
}

func TestWhatCannotBeKeptIsAnError(t *testing.T) {
	l := &ledger{t: t, fails: errors.New("no room")}
	if err := start(t, l, "", now, nil).RecordIssueCreated(t.Context(), issue()); !errors.Is(err, l.fails) {
		t.Error(err)
	}
	dir := t.TempDir()
	r := start(t, l, dir, now, nil)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := r.RecordCircuitBreakerTriggered(t.Context(), "production", 3); err == nil || errors.Is(err, l.fails) {
		t.Errorf("without a directory: %v", err)
	}
	dir = t.TempDir()
	l.fails = nil
	if err := start(t, l, dir, now, nil).RecordIssueCreated(t.Context(), issue()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := start(t, l, dir, now, nil).RecordIssueCreated(t.Context(), issue()); err == nil || !strings.Contains(err.Error(), filepath.Base(files[0])) {
		t.Errorf("with a damaged file: %v", err)
	}
	if _, err := recorder.New(recorder.Config{}); err == nil {
		t.Error("without a Sender")
	}
}
