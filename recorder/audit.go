package recorder

import (
	"context"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
)

// An AuditRecorder has the twelve functions that ChatCLI documents, as it
// documents them: without contexts. They wait for the local disk only.
type AuditRecorder struct {
	recorder *Recorder
}

// NewAuditRecorder returns one that records by way of r.
func NewAuditRecorder(r *Recorder) *AuditRecorder { return &AuditRecorder{r} }

// RecordAnomalyDetected is [Recorder.RecordAnomalyDetected].
func (ar *AuditRecorder) RecordAnomalyDetected(anomaly *v1alpha1.Anomaly) error {
	return ar.recorder.RecordAnomalyDetected(context.Background(), anomaly)
}

// RecordIssueCreated is [Recorder.RecordIssueCreated].
func (ar *AuditRecorder) RecordIssueCreated(issue *v1alpha1.Issue) error {
	return ar.recorder.RecordIssueCreated(context.Background(), issue)
}

// RecordIssueResolved is [Recorder.RecordIssueResolved].
func (ar *AuditRecorder) RecordIssueResolved(issue *v1alpha1.Issue, resolution string) error {
	return ar.recorder.RecordIssueResolved(context.Background(), issue, resolution)
}

// RecordAIInsightCompleted is [Recorder.RecordAIInsightCompleted].
func (ar *AuditRecorder) RecordAIInsightCompleted(insight *v1alpha1.AIInsight) error {
	return ar.recorder.RecordAIInsightCompleted(context.Background(), insight)
}

// RecordConfidenceCalculated is [Recorder.RecordConfidenceCalculated].
func (ar *AuditRecorder) RecordConfidenceCalculated(issue string, confidence float64, factors map[string]float64) error {
	return ar.recorder.RecordConfidenceCalculated(context.Background(), issue, confidence, factors)
}

// RecordPatternMatched is [Recorder.RecordPatternMatched].
func (ar *AuditRecorder) RecordPatternMatched(fingerprint string, issue string) error {
	return ar.recorder.RecordPatternMatched(context.Background(), fingerprint, issue)
}

// RecordRemediationExecuted is [Recorder.RecordRemediationExecuted].
func (ar *AuditRecorder) RecordRemediationExecuted(plan *v1alpha1.RemediationPlan, action string) error {
	return ar.recorder.RecordRemediationExecuted(context.Background(), plan, action)
}

// RecordRemediationResult is [Recorder.RecordRemediationResult].
func (ar *AuditRecorder) RecordRemediationResult(plan *v1alpha1.RemediationPlan, success bool) error {
	return ar.recorder.RecordRemediationResult(context.Background(), plan, success)
}

// RecordCircuitBreakerTriggered is [Recorder.RecordCircuitBreakerTriggered].
func (ar *AuditRecorder) RecordCircuitBreakerTriggered(namespace string, failures int) error {
	return ar.recorder.RecordCircuitBreakerTriggered(context.Background(), namespace, failures)
}

// RecordApprovalDecision is [Recorder.RecordApprovalDecision].
func (ar *AuditRecorder) RecordApprovalDecision(request *v1alpha1.ApprovalRequest, decision string) error {
	return ar.recorder.RecordApprovalDecision(context.Background(), request, decision)
}

// RecordRoleChange is [Recorder.RecordRoleChange].
func (ar *AuditRecorder) RecordRoleChange(user string, role string, action string) error {
	return ar.recorder.RecordRoleChange(context.Background(), user, role, action)
}

// RecordChaosExperiment is [Recorder.RecordChaosExperiment].
func (ar *AuditRecorder) RecordChaosExperiment(experiment *v1alpha1.ChaosExperiment, phase string) error {
	return ar.recorder.RecordChaosExperiment(context.Background(), experiment, phase)
}
