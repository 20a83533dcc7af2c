package reconstruct

import (
	"slices"
	"strings"

	"github.com/graven-audit/graven/internal/fact"
)

// A kind is what is known of the resources of a kind without having seen one: which
// members it must have, which one expects, and what events say of them.
type kind struct {
	apiVersion string
	required   []member
	expected   []string
	rules      []rule
}

// A member is one that must be there, with a placeholder that its schema takes.
type member struct {
	path        string
	placeholder any
	// oneOf are the values that the schema takes; nil for any.
	oneOf []string
}

// unknown is the placeholder of texts. Whoever reads the object sees that it is one.
const unknown = "unknown"

// A rule says what events of some types say of a member. The value is a detail, or the
// first of several that is there; behind = a constant; or, with an @, something of the
// event. What stands behind > makes another type of it.
type rule struct {
	types, path, value string
}

var severities = []string{"critical", "high", "medium", "low"}

var kinds = map[string]*kind{
	"RemediationRequest": {apiVersion: "kubernaut.ai/v1alpha1",
		required: []member{{"spec.signalName", unknown, nil}, {"spec.signalType", "alert", nil}, {"spec.signalFingerprint", strings.Repeat("0", 64), nil}, {"spec.severity", unknown, nil},
			{"spec.targetType", "kubernetes", []string{"kubernetes", "aws", "azure", "gcp", "datadog"}}, {"spec.targetResource.kind", unknown, nil}, {"spec.targetResource.name", unknown, nil},
			{"spec.firingTime", "1970-01-01T00:00:00Z", nil}, {"spec.receivedTime", "1970-01-01T00:00:00Z", nil}},
		expected: []string{"spec.signalLabels", "spec.signalAnnotations", "spec.originalPayload", "spec.providerData", "status.overallPhase", "status.timeoutConfig"},
		rules: []rule{
			{"gateway.signal.received gateway.crd.created gateway.signal.deduplicated apifrontend.rr.created", "spec.signalName", "signal_name"},
			{"gateway.signal.received gateway.crd.created gateway.signal.deduplicated", "spec.signalType", "signal_type>signal"},
			{"apifrontend.rr.created", "spec.signalType", "=alert"},
			{"gateway.signal.received gateway.crd.created gateway.signal.deduplicated apifrontend.rr.created", "spec.signalFingerprint", "fingerprint>fingerprint"},
			{"gateway.signal.received gateway.crd.created apifrontend.rr.created orchestrator.lifecycle.created", "spec.severity", "severity"},
			{"gateway.signal.received gateway.crd.created apifrontend.rr.created", "spec.signalSource", "signal_source"},
			{"gateway.signal.received", "spec.targetType", "=kubernetes"},
			{"apifrontend.rr.created", "spec.targetType", "=kubernetes"},
			{"gateway.signal.received gateway.crd.created apifrontend.rr.created", "spec.targetResource.kind", "resource_kind|target_kind"},
			{"gateway.signal.received gateway.crd.created apifrontend.rr.created", "spec.targetResource.name", "resource_name|target_name"},
			{"gateway.signal.received gateway.crd.created", "spec.targetResource.namespace", "namespace"},
			{"gateway.signal.received", "spec.receivedTime", "@time"},
			{"apifrontend.rr.created", "spec.receivedTime", "@time"},
			{"gateway.signal.received", "spec.firingTime", "original_payload>firing"},
			{"gateway.signal.received", "spec.signalLabels", "signal_labels>texts"},
			{"gateway.signal.received", "spec.signalAnnotations", "signal_annotations>texts"},
			{"gateway.signal.received", "spec.originalPayload", "original_payload>text"},
			{"aianalysis.analysis.completed", "spec.providerData", "provider_response_summary>text"},
			{"orchestrator.lifecycle.created", "status.timeoutConfig", "timeout_config>durations"},
			{"webhook.remediationrequest.timeout_modified", "status.timeoutConfig", "new_timeout_config>durations"},
			{"webhook.remediationrequest.timeout_modified", "status.lastModifiedBy", "@who"},
			{"webhook.remediationrequest.timeout_modified", "status.lastModifiedAt", "@time"},
			{"orchestrator.lifecycle.created", "status.overallPhase", "=Pending"},
			{"orchestrator.lifecycle.created orchestrator.lifecycle.started", "status.startTime", "@time"},
			{"orchestrator.lifecycle.transitioned", "status.overallPhase", "to_phase"},
			{"orchestrator.routing.blocked", "status.overallPhase", "=Blocked"},
			{"orchestrator.routing.blocked", "status.blockReason", "block_reason"},
			{"orchestrator.routing.blocked", "status.blockMessage", "block_message"},
			{"orchestrator.routing.blocked", "status.blockedUntil", "blocked_until>time"},
			{"orchestrator.routing.blocked", "status.blockingWorkflowExecution", "blocking_workflow_execution"},
			{"orchestrator.routing.blocked", "status.duplicateOf", "duplicate_of"},
			{"remediation.workflow_created", "status.preRemediationSpecHash", "pre_remediation_spec_hash"},
			{"workflowexecution.selection.completed", "status.selectedWorkflowRef", "@workflow"},
			{"workflowexecution.execution.started", "status.executionRef", "@execution"},
			{"orchestrator.lifecycle.completed orchestrator.lifecycle.failed", "status.overallPhase", "@phase"},
			{"orchestrator.lifecycle.completed orchestrator.lifecycle.failed", "status.outcome", "crd_outcome"},
			{"orchestrator.lifecycle.completed orchestrator.lifecycle.failed", "status.completedAt", "@time"},
			{"orchestrator.lifecycle.completed orchestrator.lifecycle.failed", "status.failurePhase", "failure_phase"},
			{"orchestrator.lifecycle.completed orchestrator.lifecycle.failed", "status.failureReason", "failure_reason|error_details>text"},
			{"orchestrator.lifecycle.completed orchestrator.lifecycle.failed", "status.skipReason", "skip_reason"},
		}},
	"RemediationApprovalRequest": {apiVersion: "kubernaut.ai/v1alpha1",
		required: []member{{"spec.remediationRequestRef.name", unknown, nil}, {"spec.aiAnalysisRef.name", unknown, nil}, {"spec.confidence", 0, nil}, {"spec.confidenceLevel", "low", []string{"low", "medium", "high"}},
			{"spec.investigationSummary", unknown, nil}, {"spec.reason", unknown, nil}, {"spec.whyApprovalRequired", unknown, nil}, {"spec.requiredBy", "1970-01-01T00:00:00Z", nil},
			{"spec.recommendedActions", []any{map[string]any{"action": unknown, "rationale": unknown}}, nil}, {"spec.recommendedWorkflow.workflowId", unknown, nil},
			{"spec.recommendedWorkflow.version", unknown, nil}, {"spec.recommendedWorkflow.executionBundle", unknown, nil}, {"spec.recommendedWorkflow.rationale", unknown, nil}},
		expected: []string{"status.decision"},
		rules: []rule{
			{"orchestrator.approval.requested", "spec.remediationRequestRef.name", "rr_name|@correlation"},
			{"orchestrator.approval.requested", "spec.recommendedWorkflow.workflowId", "workflow_id"},
			{"orchestrator.approval.requested", "spec.confidence", "confidence>number"},
			{"orchestrator.approval.requested", "spec.confidenceLevel", "confidence>level"},
			{"orchestrator.approval.requested", "spec.requiredBy", "required_by>time"},
			{"orchestrator.approval.requested", "spec.reason", "reason"},
			{"orchestrator.approval.requested", "status.createdAt", "@time"},
			{"webhook.remediationapprovalrequest.decided", "spec.aiAnalysisRef.name", "ai_analysis_ref"},
			{"webhook.remediationapprovalrequest.decided", "spec.remediationRequestRef.name", "@correlation"},
			{"webhook.remediationapprovalrequest.decided orchestrator.approval.approved orchestrator.approval.rejected", "status.decision", "@decision"},
			{"webhook.remediationapprovalrequest.decided orchestrator.approval.approved orchestrator.approval.rejected", "status.decidedAt", "decided_at>time|@time"},
			{"webhook.remediationapprovalrequest.decided orchestrator.approval.approved orchestrator.approval.rejected", "status.decidedBy", "@decider"},
			{"webhook.remediationapprovalrequest.decided", "status.decidedVia", "delegated_via"},
			{"webhook.remediationapprovalrequest.decided orchestrator.approval.approved orchestrator.approval.rejected", "status.decisionMessage", "decision_message"},
		}},
	"EffectivenessAssessment": {apiVersion: "kubernaut.ai/v1alpha1",
		required: []member{{"spec.correlationID", unknown, nil}, {"spec.targetResource.kind", unknown, nil}, {"spec.targetResource.name", unknown, nil}, {"spec.targetResource.namespace", unknown, nil},
			{"spec.config.alertManagerEnabled", false, nil}, {"spec.config.prometheusEnabled", false, nil}, {"spec.config.scoringThreshold", 0, nil},
			{"spec.config.stabilizationWindow", unknown, nil}, {"spec.config.validityDeadline", "1970-01-01T00:00:00Z", nil}},
		expected: []string{"status.phase"},
		rules: []rule{
			{"orchestrator.ea.created effectiveness.assessment.scheduled effectiveness.assessment.completed effectiveness.health.assessed", "spec.correlationID", "correlation_id|@correlation"},
			{"effectiveness.assessment.scheduled", "spec.config.validityDeadline", "validity_deadline>time"},
			{"effectiveness.assessment.scheduled", "spec.config.stabilizationWindow", "stabilization_window>text"},
			{"effectiveness.assessment.scheduled", "status.phase", "=Pending"},
			{"effectiveness.health.assessed", "status.components.healthAssessed", "assessed>bool"},
			{"effectiveness.health.assessed", "status.components.healthScore", "score>number"},
			{"effectiveness.alert.assessed", "status.components.alertAssessed", "assessed>bool"},
			{"effectiveness.alert.assessed", "status.components.alertScore", "score>number"},
			{"effectiveness.metrics.assessed", "status.components.metricsAssessed", "assessed>bool"},
			{"effectiveness.metrics.assessed", "status.components.metricsScore", "score>number"},
			{"effectiveness.hash.computed", "status.components.hashComputed", "=true>bool"},
			{"effectiveness.hash.computed", "status.components.postRemediationSpecHash", "post_remediation_spec_hash"},
			{"effectiveness.assessment.completed", "status.phase", "=Completed"},
			{"effectiveness.assessment.completed", "status.assessmentReason", "reason"},
			{"effectiveness.assessment.completed", "status.completedAt", "completed_at>time|@time"},
		}},
	"Issue": {apiVersion: "platform.chatcli.io/v1alpha1",
		required: []member{{"spec.severity", "low", severities}, {"spec.source", "events", []string{"prometheus", "events", "logs", "webhook", "watcher"}}, {"spec.description", unknown, nil},
			{"spec.resource.kind", unknown, nil}, {"spec.resource.name", unknown, nil}, {"spec.resource.namespace", unknown, nil}},
		expected: []string{"spec.signalType", "status.state"},
		rules: []rule{
			{"IssueCreated", "spec.severity", "severity|@severity"}, {"IssueCreated", "spec.source", "source"}, {"IssueCreated", "spec.description", "description"},
			{"IssueCreated", "spec.resource.kind", "resource>first"}, {"IssueCreated", "spec.resource.name", "resource>last"}, {"IssueCreated", "spec.resource.namespace", "resourceNamespace|@namespace"},
			{"IssueCreated", "spec.signalType", "signalType"}, {"IssueCreated", "spec.riskScore", "riskScore>int"}, {"IssueCreated", "status.state", "=Detected"},
			{"IssueEscalated", "spec.severity", "toSeverity"}, {"IssueEscalated", "status.state", "@escalated"}, {"IssueEscalated", "status.remediationAttempts", "attempts>int"},
			{"IssueContained", "status.state", "=Contained"}, {"IssueContained", "status.requiredAction", "required_action"}, {"IssueContained", "status.requiresHumanAction", "=true>bool"},
			{"IssueContained", "status.remediationAttempts", "attempts>int"},
			{"IssueResolved", "status.state", "@resolved"}, {"IssueResolved", "status.resolution", "resolution"}, {"IssueResolved", "status.resolvedAt", "@time"},
			{"IssueResolved", "status.remediationAttempts", "attempts>int"},
		}},
	"AIInsight": {apiVersion: "platform.chatcli.io/v1alpha1",
		required: []member{{"spec.issueRef.name", unknown, nil}, {"spec.provider", unknown, nil}, {"spec.model", unknown, nil}},
		expected: []string{"status.analysis", "status.confidence"},
		rules: []rule{
			{"AIInsightRequested AIInsightCompleted AIInsightFailed", "spec.issueRef.name", "issue|@issue"}, {"AIInsightRequested AIInsightCompleted AIInsightFailed", "spec.provider", "provider"},
			{"AIInsightRequested AIInsightCompleted AIInsightFailed", "spec.model", "model"}, {"AIInsightCompleted", "status.confidence", "confidence>number"},
			{"AIInsightCompleted", "status.generatedAt", "@time"}, {"AIInsightCompleted", "status.suggestedActions", "suggestedActions>suggested"},
		}},
	"RemediationPlan": {apiVersion: "platform.chatcli.io/v1alpha1",
		required: []member{{"spec.issueRef.name", unknown, nil}, {"spec.attempt", 1, nil}, {"spec.strategy", unknown, nil}},
		expected: []string{"spec.actions", "status.state"},
		rules: []rule{
			{"RemediationPlanned RemediationExecuted", "spec.issueRef.name", "issue|@issue"}, {"RemediationPlanned RemediationExecuted RemediationFailed", "spec.attempt", "attempt>int"},
			{"RemediationPlanned RemediationExecuted", "spec.strategy", "strategy"}, {"RemediationPlanned", "spec.actions", "actions>actions"}, {"RemediationPlanned", "spec.agenticMode", "agentic>bool"},
			{"RemediationPlanned", "status.state", "@planned"}, {"RemediationExecuted", "status.state", "=Executing"}, {"RemediationExecuted", "status.startedAt", "@first"},
			{"RemediationSucceeded", "status.state", "=Completed"}, {"RemediationSucceeded RemediationFailed", "status.completedAt", "@time"}, {"RemediationSucceeded RemediationFailed", "status.result", "result"},
			{"RemediationFailed", "status.state", "@rolledback"}, {"RemediationFailed", "status.rollbackPerformed", "rollbackPerformed>bool"}, {"RemediationFailed", "status.rollbackResult", "rollbackResult"},
			{"RemediationFailed", "status.postFailureHealthy", "postFailureHealthy>bool"},
		}},
	"ApprovalRequest": {apiVersion: "platform.chatcli.io/v1alpha1",
		required: []member{{"spec.issueRef.name", unknown, nil}, {"spec.remediationPlanRef", unknown, nil}, {"spec.policyRef", unknown, nil}, {"spec.ruleName", unknown, nil},
			{"spec.requester", unknown, nil}, {"spec.requestedActions", []any{}, nil}},
		expected: []string{"status.state"},
		rules: []rule{
			{"ApprovalRequested", "spec.issueRef.name", "issue|@issue"}, {"ApprovalRequested ApprovalGranted ApprovalRejected", "spec.remediationPlanRef", "plan"}, {"ApprovalRequested", "spec.policyRef", "policy"},
			{"ApprovalRequested", "spec.ruleName", "rule"}, {"ApprovalRequested", "spec.requester", "requester"}, {"ApprovalRequested", "spec.requiredApprovers", "requiredApprovers>int"},
			{"ApprovalRequested RemediationPlanned", "spec.requestedActions", "actions>actions"}, {"ApprovalRequested", "spec.timeoutMinutes", "timeoutMinutes>int"}, {"ApprovalRequested", "status.state", "=Pending"},
			{"ApprovalGranted", "status.state", "=Approved"}, {"ApprovalGranted", "status.approvedAt", "@time"}, {"ApprovalGranted", "status.autoApproved", "auto>bool"},
			{"ApprovalRejected", "status.state", "=Rejected"}, {"ApprovalRejected", "status.rejectedAt", "@time"},
			{"ApprovalExpired", "status.state", "=Expired"}, {"ApprovalExpired", "status.expiredAt", "@time"},
			{"ApprovalGranted ApprovalRejected", "status.decisions", "@decisions"},
		}},
	"Anomaly": {apiVersion: "platform.chatcli.io/v1alpha1",
		required: []member{{"spec.source", "watcher", []string{"prometheus", "events", "logs", "webhook", "watcher"}}, {"spec.signalType", "error_rate", []string{"error_rate", "latency", "pod_restart", "cpu_high",
			"memory_high", "oom_kill", "pod_not_ready", "deploy_failing", "disk_pressure", "node_not_ready", "pid_pressure", "network_unavailable", "pod_capacity_high", "pvc_pending", "ingress_error", "hpa_maxed",
			"job_failed", "cronjob_missed", "certificate_expiring", "image_pull_error", "crashloop_backoff", "helm_release_failed", "argocd_degraded", "config_drift"}},
			{"spec.value", unknown, nil}, {"spec.threshold", unknown, nil}, {"spec.resource.kind", unknown, nil}, {"spec.resource.name", unknown, nil}, {"spec.resource.namespace", unknown, nil}},
		expected: []string{"spec.description"},
		rules: []rule{
			{"AnomalyDetected", "spec.source", "source"}, {"AnomalyDetected", "spec.signalType", "signalType"}, {"AnomalyDetected", "spec.value", "value>text"}, {"AnomalyDetected", "spec.threshold", "threshold>text"},
			{"AnomalyDetected", "spec.resource.kind", "target>first"}, {"AnomalyDetected", "spec.resource.name", "target>last"}, {"AnomalyDetected", "spec.resource.namespace", "targetNamespace|@namespace"},
			{"AnomalyDetected", "spec.description", "description"}, {"AnomalyCorrelated", "status.correlated", "=true>bool"}, {"AnomalyCorrelated", "status.issueRef.name", "issue"},
		}},
	"PostMortem": {apiVersion: "platform.chatcli.io/v1alpha1",
		required: []member{{"spec.issueRef.name", unknown, nil}, {"spec.severity", "low", severities}, {"spec.resource.kind", unknown, nil}, {"spec.resource.name", unknown, nil}, {"spec.resource.namespace", unknown, nil}},
		expected: []string{"status.state"},
		rules: []rule{
			{"IssueCreated", "spec.severity", "severity|@severity"}, {"IssueCreated", "spec.resource.kind", "resource>first"}, {"IssueCreated", "spec.resource.name", "resource>last"},
			{"IssueCreated", "spec.resource.namespace", "resourceNamespace|@namespace"},
			{"PostMortemCreated", "spec.issueRef.name", "issue|@issue"}, {"PostMortemCreated", "status.generatedAt", "generatedAt>time"}, {"PostMortemCreated", "status.duration", "duration"},
			{"PostMortemCreated", "status.rootCause", "rootCause"}, {"PostMortemCreated", "status.impact", "impact"}, {"PostMortemCreated", "status.requiresHumanAction", "requiresHumanAction>bool"},
			{"PostMortemCreated", "status.requiredAction", "requiredAction"}, {"PostMortemCreated", "status.state", "=Open"},
		}},
}

// order is that of kinds in a document: what others are made for comes first.
var order = []string{"RemediationRequest", "SignalProcessing", "AIAnalysis", "RemediationApprovalRequest", "WorkflowExecution", "EffectivenessAssessment", "NotificationRequest",
	"Anomaly", "Issue", "AIInsight", "RemediationPlan", "ApprovalRequest", "PostMortem"}

func rankOf(kind string) int {
	if i := slices.Index(order, kind); i >= 0 {
		return i
	}
	return len(order)
}

// subject returns which resource of a kind a fact tells of, by name; empty for none.
// Kubernaut's services tell of a remediation request in the name of whatever they work
// on.
func subject(f *fact.Fact, kind string) string {
	e := f.Event()
	own := func(kind string) string {
		if e.Resource.Kind == kind {
			return e.Resource.Name
		}
		return ""
	}
	switch kind {
	case "RemediationRequest":
		if name := own(kind); name != "" {
			return name
		}
		if !tells(kind, f) {
			return ""
		}
		if name := f.Detail("rr_name", "remediation_request"); name != "" {
			return strings.TrimPrefix(name[strings.LastIndexByte(name, '/')+1:], "/")
		}
		return e.CorrelationID
	case "RemediationApprovalRequest":
		if name := own(kind); name != "" {
			return name
		}
		if tells(kind, f) {
			return f.Detail("rar_name", "request_name")
		}
	case "EffectivenessAssessment":
		if name := own(kind); name != "" {
			return name
		}
		if tells(kind, f) {
			return f.Detail("ea_name")
		}
	default:
		return own(kind)
	}
	return ""
}

// tells reports whether a rule of a kind is about a fact.
func tells(kind string, f *fact.Fact) bool {
	k := kinds[kind]
	return k != nil && slices.ContainsFunc(k.rules, func(r rule) bool { return r.about(f) })
}

func (r *rule) about(f *fact.Fact) bool {
	return slices.ContainsFunc(f.Tellings, func(t *fact.Told) bool { return slices.Contains(strings.Fields(r.types), t.Event.EventType) })
}
