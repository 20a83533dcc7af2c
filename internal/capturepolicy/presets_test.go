package capturepolicy

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/graven-audit/graven/api/graven/v1alpha1"
	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/document"
)

// preset returns the policies of a file in config/capture.
func preset(t *testing.T, name string) []*capture.Program {
	t.Helper()
	f, err := config.Captures.Open("capture/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	docs, err := document.Split(f, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var programs []*capture.Program
	for _, doc := range docs {
		var p v1alpha1.CapturePolicy
		if strings.Contains(string(doc), "kind: ClusterRole\n") || strings.Contains(string(doc), `"kind":"ClusterRole"`) {
			checkRole(t, doc)
			continue
		}
		if err := yaml.UnmarshalStrict(doc, &p); err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		program, err := capture.Compile(policyOf(&p))
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		programs = append(programs, program)
	}
	return programs
}

// checkRole holds a preset's role against what its policies watch: rules says which.
func checkRole(t *testing.T, doc []byte) {
	t.Helper()
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(doc, &role); err != nil {
		t.Fatal(err)
	}
	if role.Labels["graven.dev/aggregate-to-capture"] != "true" {
		t.Errorf("%s is not aggregated", role.Name)
	}
	for _, rule := range role.Rules {
		if !slices.Equal(rule.Verbs, []string{"list", "watch"}) {
			t.Errorf("%s lets capture %v", role.Name, rule.Verbs)
		}
	}
}

func TestAllPresetsCompile(t *testing.T) {
	files, err := fs.Glob(config.Captures, "capture/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		preset(t, file[len("capture/"):len(file)-len(".yaml")])
	}
}

func TestThePolicyInTheDocsCompiles(t *testing.T) {
	page, err := os.ReadFile("../../docs/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "    apiVersion: graven.dev/v1alpha1\n")
	text, _, _ = strings.Cut("    apiVersion: graven.dev/v1alpha1\n"+text, "\n\n")
	var p v1alpha1.CapturePolicy
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(text, "\n    ", "\n")[4:]), &p); err != nil {
		t.Fatal(err)
	}
	if _, err := capture.Compile(policyOf(&p)); err != nil {
		t.Error(err)
	}
}

// A counter counts in memory, for ever.
type counter map[string]map[string]bool

func (c counter) Reaches(key, fact string, _ time.Time, _ time.Duration, times int) bool {
	if c[key] == nil {
		c[key] = map[string]bool{}
	}
	c[key][fact] = true
	return len(c[key]) == times
}

// nameOf returns the name of the resource that an input is of.
func nameOf(in *capture.Input) string {
	o := in.Object
	if o == nil {
		o = in.Old
	}
	return (&unstructured.Unstructured{Object: o}).GetName()
}

var noon = time.Date(2026, 3, 19, 12, 0, 0, 0, time.UTC)

// play shows states of one resource to policies, each after the other, and returns
// the events. A state is YAML without what all have in common; "gone" is a deletion.
func play(t *testing.T, programs []*capture.Program, kind capture.Resource, c counter, states ...string) []*event.Event {
	t.Helper()
	var events []*event.Event
	var old map[string]any
	for i, text := range states {
		var now map[string]any
		operation := "DELETE"
		if text != "gone" {
			now = object(t, kind, i, text)
			operation = "UPDATE"
			if old == nil {
				operation = "CREATE"
			}
		}
		in := &capture.Input{Object: now, Old: old, Operation: operation, Now: noon, Counter: c}
		for _, p := range programs {
			if p.Policy.At != capture.Watch || !p.Policy.Match.Matches(kind, operation, "production", nameOf(in)) {
				continue
			}
			found, err := p.Events(t.Context(), in)
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			for _, e := range found {
				e.Complete(noon)
				if err := e.Validate(noon.Add(24 * time.Hour)); err != nil {
					t.Errorf("%s: %v", e.EventType, err)
				}
				events = append(events, e)
			}
		}
		old = now
	}
	return events
}

// object returns a resource as the API server has it.
func object(t *testing.T, kind capture.Resource, version int, text string) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	o := map[string]any{}
	if err := utiljson.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	group := kind.Group + "/"
	if kind.Group == "" {
		group = ""
	}
	o["apiVersion"], o["kind"] = group+kind.Version, kinds[kind.Resource]
	meta, _ := o["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		o["metadata"] = meta
	}
	for name, value := range map[string]any{"name": "it", "namespace": "production", "uid": "u1", "resourceVersion": strconv.Itoa(100 + version),
		"generation": int64(1), "creationTimestamp": "2026-03-19T12:00:00Z"} {
		if _, ok := meta[name]; !ok {
			meta[name] = value
		}
	}
	return o
}

var kinds = map[string]string{"anomalies": "Anomaly", "issues": "Issue", "aiinsights": "AIInsight", "remediationplans": "RemediationPlan",
	"approvalrequests": "ApprovalRequest", "chaosexperiments": "ChaosExperiment", "postmortems": "PostMortem", "runbooks": "Runbook",
	"clusterregistrations": "ClusterRegistration", "servicelevelobjectives": "ServiceLevelObjective", "incidentslas": "IncidentSLA",
	"notificationpolicies": "NotificationPolicy", "escalationpolicies": "EscalationPolicy", "approvalpolicies": "ApprovalPolicy",
	"configmaps": "ConfigMap", "pods": "PodExecOptions", "nodes": "Node", "secrets": "Secret", "roles": "Role", "namespaces": "Namespace",
	"customresourcedefinitions": "CustomResourceDefinition", "capturepolicies": "CapturePolicy", "remediationrequests": "RemediationRequest", "remediationapprovalrequests": "RemediationApprovalRequest",
	"workflowexecutions": "WorkflowExecution", "notificationrequests": "NotificationRequest", "remediationworkflows": "RemediationWorkflow",
	"actiontypes": "ActionType", "agentsessions": "AgentSession", "signalprocessings": "SignalProcessing", "aianalyses": "AIAnalysis",
	"effectivenessassessments": "EffectivenessAssessment", "clusterrolebindings": "ClusterRoleBinding"}

// row is something that ChatCLI's controllers do, and what is to be recorded of it:
// type, actor, outcome, what the fact has behind the uid, and details.
type row struct {
	name, resource string
	states         []string
	want           []string
}

const (
	issue  = "{spec: {severity: high, signalType: oom_kill, source: prometheus, riskScore: 70, description: d, resource: {kind: Deployment, name: web, namespace: production}}, "
	plan   = "{spec: {issueRef: {name: inc}, attempt: 2, strategy: s, actions: [{type: ScaleDeployment}, {type: RestartDeployment}]}, "
	ask    = "{spec: {issueRef: {name: inc}, remediationPlanRef: plan-1, policyRef: p, ruleName: r, requester: chatcli-operator, timeoutMinutes: 30, requiredApprovers: 1}, "
	chaos  = "{spec: {experimentType: pod_kill, duration: 60s, target: {kind: Deployment, name: web, namespace: production}}, "
	think  = "{spec: {issueRef: {name: inc}, provider: p, model: m}, "
	at     = "2026-03-19T12:01:00Z"
	unix   = "1773921660"
	later  = "2026-03-19T12:03:15Z"
	shared = "{metadata: {labels: {platform.chatcli.io/"
)

var chatcli = []row{
	{"an anomaly is seen, and belongs to an Issue", "anomalies",
		[]string{"{spec: {source: prometheus, signalType: oom_kill, value: '3', threshold: '1', resource: {kind: Deployment, name: web}}}",
			"{spec: {source: prometheus, signalType: oom_kill}, status: {correlated: true, issueRef: {name: inc}}}"},
		[]string{"AnomalyDetected system:watcher-bridge success AnomalyDetected/ target=deployment/web", "AnomalyCorrelated system:correlation-engine success AnomalyCorrelated/ issue=inc"}},
	{"an anomaly is noise", "anomalies",
		[]string{"{spec: {signalType: x}, status: {correlated: true, issueRef: {name: 'suppressed:cooldown'}}}"},
		[]string{"AnomalyDetected system:watcher-bridge success AnomalyDetected/ signalType=x", "AnomalyCorrelated system:correlation-engine success AnomalyCorrelated/ suppressed=cooldown"}},
	{"an Issue is remedied", "issues",
		[]string{issue + "status: {}}", issue + "status: {state: Analyzing, remediationAttempts: 0}}",
			issue + "status: {state: Resolved, remediationAttempts: 1, detectedAt: '" + at + "', resolvedAt: '" + later + "', resolution: r, conditions: [{type: Resolved, reason: RemediationSucceeded}]}}"},
		[]string{"IssueCreated controller:anomaly-reconciler success IssueCreated/ riskScore=70", "IssueResolved controller:issue-reconciler success IssueResolved/1 1773921795 mode=remediation"}},
	{"an Issue is resolved by a person, who is named later", "issues",
		[]string{issue + "status: {state: Analyzing}}", issue + "status: {state: Resolved, resolvedAt: '" + at + "'}}", "{metadata: {annotations: {aiops.chatcli.io/resolved-by: jane}}, spec: {severity: high}, status: {state: Resolved, resolvedAt: '" + at + "'}}"},
		[]string{"IssueCreated controller:anomaly-reconciler success IssueCreated/ ", "IssueResolved user:unknown success IssueResolved/0 " + unix + " mode=unknown",
			"IssueResolverNamed user:jane success IssueResolverNamed/jane mode=manual"}},
	{"an Issue is taken care of, and put off", "issues",
		[]string{issue + "status: {state: Analyzing}}", "{metadata: {annotations: {aiops.chatcli.io/acknowledged-at: '" + at + "', aiops.chatcli.io/acknowledged-by: operator}}, spec: {severity: high}, status: {state: Analyzing}}",
			"{metadata: {annotations: {aiops.chatcli.io/acknowledged-at: '" + at + "', aiops.chatcli.io/acknowledged-by: operator, aiops.chatcli.io/snoozed-until: '" + later + "'}}, spec: {severity: high}, status: {state: Analyzing}}"},
		[]string{"IssueCreated controller:anomaly-reconciler success IssueCreated/ ", "IssueAcknowledged user:operator success IssueAcknowledged/" + at + " at=" + at, "IssueSnoozed user:unknown success IssueSnoozed/" + later + " until=" + later}},
	{"a contained Issue is not resolved", "issues",
		[]string{issue + "status: {state: Remediating, remediationAttempts: 2}}", issue + "status: {state: Contained, remediationAttempts: 2, requiredAction: act, conditions: [{type: Contained, reason: ContainmentApplied, lastTransitionTime: '" + at + "'}]}}"},
		[]string{"IssueCreated controller:anomaly-reconciler success IssueCreated/ ", "IssueContained controller:issue-reconciler success IssueContained/2 required_action=act"}},
	{"an Issue is escalated, and graver, and then called less", "issues",
		[]string{issue + "status: {state: Remediating}}", issue + "status: {state: Escalated, remediationAttempts: 5, maxRemediationAttempts: 5, conditions: [{type: Escalated, reason: MaxAttemptsReached}]}}",
			"{spec: {severity: critical}, status: {state: Escalated}}", "{metadata: {generation: 3}, spec: {severity: low}, status: {state: Escalated}}"},
		[]string{"IssueCreated controller:anomaly-reconciler success IssueCreated/ ", "IssueEscalated controller:issue-reconciler failure IssueEscalated/5 reason=MaxAttemptsReached",
			"IssueEscalated controller:issue-reconciler failure IssueEscalated/severity critical toSeverity=critical", "ConfigChanged user:unknown success ConfigChanged/severity 3 toSeverity=low"}},
	{"an Issue is late, and others are called", "issues",
		[]string{issue + "status: {}}", "{metadata: {annotations: {platform.chatcli.io/sla-violated: response}}, spec: {severity: high}}",
			"{metadata: {annotations: {platform.chatcli.io/sla-violated: 'response,resolution', platform.chatcli.io/escalation-level: '1', platform.chatcli.io/escalation-policy: night}}, spec: {severity: high}}"},
		[]string{"IssueCreated controller:anomaly-reconciler success IssueCreated/ ", "SLABreach controller:sla-reconciler failure SLABreach/response type=response",
			"SLABreach controller:sla-reconciler failure SLABreach/resolution type=resolution", "EscalationTriggered controller:notification-reconciler success EscalationTriggered/night 1 policy=night"}},
	{"an Issue is of several clusters", "issues",
		[]string{issue + "status: {}}", "{metadata: {annotations: {platform.chatcli.io/cross-cluster-correlation: cc-1, platform.chatcli.io/affected-clusters: 'west,east', platform.chatcli.io/cascade-detected: 'true', platform.chatcli.io/cascade-source-cluster: staging}}, spec: {severity: high}}"},
		[]string{"IssueCreated controller:anomaly-reconciler success IssueCreated/ ", "CrossClusterCorrelation system:correlation-engine success CrossClusterCorrelation/cc-1 clusters=west,east", "CascadeDetected system:cascade-detector success CascadeDetected/ sourceCluster=staging"}},
	{"a model answers, is asked again, and answers", "aiinsights",
		[]string{think + "status: {}}", think + "status: {analysis: a, confidence: 0.9, generatedAt: '" + at + "', suggestedActions: [{action: ScaleDeployment}], logAnalysis: l}}", think + "status: {}}", think + "status: {analysis: b, generatedAt: '" + later + "'}}"},
		[]string{"AIInsightRequested controller:issue-reconciler pending AIInsightRequested/ provider=p", "AIInsightCompleted controller:aiinsight-reconciler success AIInsightCompleted/" + unix + " suggestedActions=ScaleDeployment",
			"RCAEnrichmentCompleted controller:aiinsight-reconciler success RCAEnrichmentCompleted/logAnalysis " + at + " contexts=logAnalysis",
			"AIInsightRequested controller:issue-reconciler pending AIInsightRequested/after " + unix + " reanalysis=true", "AIInsightCompleted controller:aiinsight-reconciler success AIInsightCompleted/1773921795 model=m"}},
	{"a model never answers", "aiinsights", []string{think + "status: {}}", "gone"},
		[]string{"AIInsightRequested controller:issue-reconciler pending AIInsightRequested/ ", "ConfigChanged user:unknown success ConfigChanged/deleted operation=deleted", "AIInsightFailed controller:aiinsight-reconciler failure AIInsightFailed/ derived=true"}},
	{"a pattern is known", "aiinsights", []string{"{metadata: {annotations: {platform.chatcli.io/pattern-fingerprint: f00}}, spec: {issueRef: {name: inc}}}"},
		[]string{"AIInsightRequested controller:issue-reconciler pending AIInsightRequested/ ", "PatternMatched system:decision-engine success PatternMatched/f00 fingerprint=f00"}},
	{"a plan succeeds", "remediationplans",
		[]string{plan + "metadata: {annotations: {platform.chatcli.io/confidence: '0.93'}}}", plan + "status: {state: WaitingApproval}}", plan + "status: {state: Executing, startedAt: '" + at + "'}}",
			plan + "status: {state: Executing, startedAt: '" + at + "', actionCheckpoints: [{actionIndex: 0, actionType: ScaleDeployment, success: true, timestamp: '" + at + "'}]}}",
			plan + "status: {state: Completed, startedAt: '" + at + "', completedAt: '" + later + "', result: fine, actionCheckpoints: [{actionIndex: 0, actionType: ScaleDeployment, success: true, timestamp: '" + at + "'}, {actionIndex: 1, actionType: RestartDeployment, success: false, timestamp: '" + later + "'}]}}"},
		[]string{"RemediationPlanned controller:issue-reconciler success RemediationPlanned/ actions=ScaleDeployment,RestartDeployment", "ConfidenceCalculated system:decision-engine success ConfidenceCalculated/ final=0.93",
			"RemediationPlanned controller:issue-reconciler pending RemediationPlanned/waiting for approval phase=WaitingApproval",
			"RemediationExecuted controller:remediation-reconciler pending RemediationExecuted/started phase=started", "RemediationExecuted controller:remediation-reconciler success RemediationExecuted/0 ScaleDeployment action=ScaleDeployment",
			"RemediationExecuted controller:remediation-reconciler failure RemediationExecuted/1 RestartDeployment action=RestartDeployment", "RemediationSucceeded controller:remediation-reconciler success RemediationSucceeded/ duration=135s"}},
	{"a plan that is seen only when it is over", "remediationplans",
		[]string{plan + "status: {state: Pending}}", plan + "status: {state: RolledBack, startedAt: '" + at + "', rollbackPerformed: true, result: bad}}"},
		[]string{"RemediationPlanned controller:issue-reconciler success RemediationPlanned/ ", "RemediationExecuted controller:remediation-reconciler pending RemediationExecuted/started derived=true", "RemediationFailed controller:remediation-reconciler failure RemediationFailed/ rollbackPerformed=true"}},
	{"an agent goes step by step", "remediationplans",
		[]string{plan + "status: {}}", "{spec: {issueRef: {name: inc}, agenticMode: true, agenticHistory: [{stepNumber: 1, aiMessage: why, action: {type: DeletePod}, observation: 'SUCCESS: gone', timestamp: '" + at + "'}]}}"},
		[]string{"RemediationPlanned controller:issue-reconciler success RemediationPlanned/ ", "AgenticStepExecuted controller:remediation-reconciler success AgenticStepExecuted/1 action=DeletePod"}},
	{"an approval is granted by a person", "approvalrequests",
		[]string{ask + "status: {state: Pending}}", "{metadata: {annotations: {platform.chatcli.io/approve: 'jane:it is safe'}}, " + ask[1:] + "status: {state: Pending}}",
			ask + "status: {state: Approved, approvedAt: '" + at + "', decisions: [{approver: jane, decision: approved, reason: it is safe, timestamp: '" + at + "'}]}}"},
		[]string{"ApprovalRequested controller:remediation-reconciler pending ApprovalRequested/ requester=chatcli-operator", "ApprovalAttempted user:jane pending ApprovalAttempted/approve after 100 reason=it is safe",
			"ApprovalGranted user:jane success ApprovalGranted/ decisionSeconds=60"}},
	{"an approval whose decision is lost", "approvalrequests",
		[]string{ask + "status: {state: Pending}}", "{metadata: {annotations: {platform.chatcli.io/reject: 'jane:no'}}, " + ask[1:] + "status: {state: Pending}}", ask + "status: {state: Pending}}", ask + "status: {state: Expired, expiredAt: '" + at + "'}}"},
		[]string{"ApprovalRequested controller:remediation-reconciler pending ApprovalRequested/ ", "ApprovalAttempted user:jane pending ApprovalAttempted/reject after 100 decision=rejected",
			"ApprovalExpired system:approval-reconciler failure ApprovalExpired/ timeoutMinutes=30"}},
	{"an approval by REST, which drops who it was", "approvalrequests",
		[]string{ask + "status: {state: Pending}}", ask + "status: {state: Approved, autoApproved: false}}"},
		[]string{"ApprovalRequested controller:remediation-reconciler pending ApprovalRequested/ ", "ApprovalGranted user:unknown success ApprovalGranted/ approver=unknown"}},
	{"an approval is rejected", "approvalrequests",
		[]string{ask + "status: {}}", ask + "status: {state: Rejected, rejectedAt: '" + at + "', decisions: [{approver: bob, decision: rejected, reason: unsafe}]}}"},
		[]string{"ApprovalRequested controller:remediation-reconciler pending ApprovalRequested/ ", "ApprovalRejected user:bob failure ApprovalRejected/ reason=unsafe"}},
	{"an experiment runs and fails", "chaosexperiments",
		[]string{chaos + "status: {state: Pending}}", chaos + "status: {state: Running, startedAt: '" + at + "'}}", chaos + "status: {state: Aborted, startedAt: '" + at + "', completedAt: '" + later + "', result: unsafe}}"},
		[]string{"ChaosExperimentStarted controller:chaos-reconciler pending ChaosExperimentStarted//" + unix + "000000000 type=pod_kill", "ChaosExperimentCompleted controller:chaos-reconciler failure ChaosExperimentCompleted//1773921795000000000 state=Aborted"}},
	{"an experiment is a dry run", "chaosexperiments",
		[]string{"{spec: {experimentType: pod_kill, dryRun: true}, status: {state: Completed, startedAt: '" + at + "', completedAt: '" + at + "'}}"},
		[]string{"ChaosExperimentStarted controller:chaos-reconciler pending ChaosExperimentStarted//" + unix + "000000000 dryRun=true", "ChaosExperimentCompleted controller:chaos-reconciler success ChaosExperimentCompleted//" + unix + "000000000 dryRun=true"}},
	{"a post-mortem is written, reviewed, and answered", "postmortems",
		[]string{"{spec: {issueRef: {name: inc}}, status: {state: Open, rootCause: r}}", "{metadata: {annotations: {platform.chatcli.io/reviewed-by: jane}}, spec: {issueRef: {name: inc}}, status: {state: InReview, reviewedAt: '" + at + "'}}",
			"{metadata: {annotations: {platform.chatcli.io/reviewed-by: jane}}, spec: {issueRef: {name: inc}}, status: {state: InReview, feedback: {providedBy: bob, providedAt: '" + later + "', comments: c}}}"},
		[]string{"PostMortemCreated controller:remediation-reconciler success PostMortemCreated/ rootCause=r", "ConfigChanged user:jane success ConfigChanged/Open InReview 101 to=InReview", "ConfigChanged user:bob success ConfigChanged/feedback " + later + " comments=c"}},
	{"a runbook is generated, and then changed by hand", "runbooks",
		[]string{shared + "auto-generated: 'true', platform.chatcli.io/source-issue: inc}}, spec: {trigger: {signalType: s}, steps: [{action: DeletePod}]}}", shared + "auto-generated: 'true'}, generation: 2}, spec: {trigger: {signalType: s}, maxAttempts: 3}}"},
		[]string{"RunbookGenerated controller:remediation-reconciler success RunbookGenerated/ steps=DeletePod", "ConfigChanged user:unknown success ConfigChanged/updated 2 changedKeys=spec.maxAttempts,spec.steps"}},
	{"a cluster goes, and is back", "clusterregistrations",
		[]string{"{spec: {displayName: West}, status: {connected: true, nodeCount: 3, lastHealthCheck: '" + at + "'}}", "{spec: {displayName: West}, status: {connected: false, lastHealthCheck: '" + later + "'}}"},
		[]string{"ConfigChanged user:unknown success ConfigChanged/created operation=created", "ClusterConnected controller:federation-reconciler success ClusterConnected//" + unix + "000000000 nodeCount=3", "ClusterDisconnected controller:federation-reconciler failure ClusterDisconnected//1773921795000000000 lastHealthCheck=" + later}},
	{"a service uses up what may go wrong", "servicelevelobjectives",
		[]string{"{spec: {serviceName: pay}, status: {activeAlerts: [{window: 1h, burnRate: 14.4, severity: critical, firedAt: '" + at + "'}]}}", "{spec: {serviceName: pay}, status: {activeAlerts: [{window: 1h, burnRate: 15, severity: critical, firedAt: '" + later + "'}]}}"},
		[]string{"SLOViolation controller:slo-reconciler failure SLOViolation/1h " + unix + " burn_rate=14.4", "ConfigChanged user:unknown success ConfigChanged/created "}},
	{"an agreement is broken", "incidentslas", []string{"{spec: {severity: high}, status: {recentViolations: [{issueName: inc, type: resolution, elapsed: 5h, threshold: 4h, violatedAt: '" + at + "'}]}}"},
		[]string{"SLABreach controller:sla-reconciler failure SLABreach/inc resolution " + at + " elapsed=5h", "ConfigChanged user:unknown success ConfigChanged/created "}},
	{"people are told, or not", "notificationpolicies", []string{"{status: {recentDeliveries: [{channel: slack, sentAt: '" + at + "', success: false, error: e}]}}"},
		[]string{"NotificationSent controller:notification-reconciler failure NotificationSent/slack " + at + " false error=e", "ConfigChanged user:unknown success ConfigChanged/created "}},
	{"somebody else is called", "escalationpolicies", []string{"{status: {activeEscalations: [{issueName: inc, currentLevel: 2, escalatedAt: '" + at + "'}]}}"},
		[]string{"EscalationTriggered controller:notification-reconciler success EscalationTriggered/inc 2 " + at + " policy=it", "ConfigChanged user:unknown success ConfigChanged/created "}},
	{"a policy is changed and goes", "approvalpolicies", []string{"{spec: {enabled: true, rules: []}}", "{metadata: {generation: 2}, spec: {enabled: false, rules: []}}", "gone"},
		[]string{"ConfigChanged user:unknown success ConfigChanged/created ", "ConfigChanged user:unknown success ConfigChanged/updated 2 changedKeys=spec.enabled", "ConfigChanged user:unknown success ConfigChanged/deleted operation=deleted"}},
	{"a kind of Issue is learned", "configmaps", []string{"{metadata: {name: chatcli-pattern-store}, data: {f00: '{}'}}"},
		[]string{"PatternLearned system:decision-engine success PatternLearned/f00 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a fingerprint=f00"}},
	{"a role is granted and taken", "clusterrolebindings",
		[]string{"{roleRef: {name: chatcli-aiops-operator}, subjects: [{kind: User, name: jane}]}", "{roleRef: {name: chatcli-aiops-operator}, subjects: [{kind: User, name: bob}]}"},
		[]string{"RoleGranted user:unknown success RoleGranted/User /jane 100 user=jane", "RoleGranted user:unknown success RoleGranted/User /bob 101 user=bob", "RoleRevoked user:unknown success RoleRevoked/User /jane 101 user=jane"}},
}

func TestWhatChatCLIDoesIsRecorded(t *testing.T) {
	programs := append(preset(t, "chatcli"), preset(t, "federation")...)
	seen := map[string]bool{"CircuitBreakerTriggered": true} // of several plans, below
	for _, r := range chatcli {
		t.Run(r.name, func(t *testing.T) {
			kind := capture.Resource{Group: "platform.chatcli.io", Version: "v1alpha1", Resource: r.resource}
			switch r.resource {
			case "configmaps":
				kind = capture.Resource{Version: "v1", Resource: r.resource}
			case "clusterrolebindings":
				kind = capture.Resource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: r.resource}
			}
			events := play(t, programs, kind, counter{}, r.states...)
			for i, e := range events {
				seen[e.EventType] = true
				if i >= len(r.want) {
					t.Errorf("unwanted: %s %s %s", e.EventType, e.Fact, e.Details)
					continue
				}
				head := r.want[i]
				detail := ""
				if at := strings.LastIndex(head, "="); at >= 0 {
					at = strings.LastIndex(head[:at], " ")
					head, detail = head[:at], head[at+1:]
				}
				got := fmt.Sprintf("%s %s:%s %s %s", e.EventType, e.Actor.Type, e.Actor.Name, e.Outcome, strings.TrimPrefix(e.Fact, "u1/"))
				if got != strings.TrimSuffix(head, " ") {
					t.Errorf("got  %s\nwant %s", got, head)
				}
				if key, value, ok := strings.Cut(detail, "="); ok {
					var d map[string]string
					if err := json.Unmarshal(e.Details, &d); err != nil || d[key] != value {
						t.Errorf("%s: %s=%q, want %q, %v", e.EventType, key, d[key], value, err)
					}
				}
			}
			if len(events) < len(r.want) {
				t.Errorf("%d events, want %d", len(events), len(r.want))
			}
		})
	}
	for _, typ := range event.Types() {
		if typ.Family == "chatcli" && !seen[typ.Type] {
			t.Errorf("%s is never recorded", typ.Type)
		}
	}
}

func TestAModelThatDoesNotAnswerForAQuarterOfAnHourHasFailed(t *testing.T) {
	kind := capture.Resource{Group: "platform.chatcli.io", Version: "v1alpha1", Resource: "aiinsights"}
	for status, want := range map[string]string{"{}": "u1/AIInsightFailed/1773922500", "{analysis: a, generatedAt: '" + at + "'}": ""} {
		state := object(t, kind, 0, "{spec: {issueRef: {name: inc}, provider: p, model: m}, status: "+status+"}")
		got := ""
		for _, p := range preset(t, "chatcli") {
			if !p.Policy.Match.Matches(kind, "UPDATE", "production", "it") {
				continue
			}
			events, _, err := p.Lasted(t.Context(), &capture.Input{Object: state, Old: state, Operation: "UPDATE", Now: noon.Add(time.Hour)}, noon)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				got += e.Fact
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", status, got, want)
		}
	}
}

func TestThreePlansThatFailOpenTheCircuitBreaker(t *testing.T) {
	programs, c := preset(t, "chatcli"), counter{}
	kind := capture.Resource{Group: "platform.chatcli.io", Version: "v1alpha1", Resource: "remediationplans"}
	var opened []*event.Event
	for _, uid := range []string{"a", "b", "c", "d"} {
		for _, e := range play(t, programs, kind, c, "{metadata: {uid: "+uid+"}}", "{metadata: {uid: "+uid+"}, status: {state: Failed, completedAt: '"+at+"'}}") {
			if e.EventType == "CircuitBreakerTriggered" {
				opened = append(opened, e)
			}
		}
	}
	if len(opened) != 1 || opened[0].Fact != "c/CircuitBreakerTriggered/" || opened[0].Resource.Kind != "Namespace" || opened[0].CorrelationID != "production" {
		t.Errorf("%+v", opened)
	}
}
