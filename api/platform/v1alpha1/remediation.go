package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// States of a RemediationPlan.
const (
	PlanPending         = "Pending"
	PlanWaitingApproval = "WaitingApproval"
	PlanExecuting       = "Executing"
	PlanVerifying       = "Verifying"
	PlanCompleted       = "Completed"
	PlanFailed          = "Failed"
	PlanRolledBack      = "RolledBack"
)

// RemediationPlan is an attempt to remedy an Issue.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=remediationplans,singular=remediationplan,shortName=rp
// +kubebuilder:printcolumn:name="Issue",type=string,JSONPath=`.spec.issueRef.name`
// +kubebuilder:printcolumn:name="Attempt",type=integer,JSONPath=`.spec.attempt`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RemediationPlan struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is to be done.
	Spec RemediationPlanSpec `json:"spec,omitempty"`
	// What was done.
	Status RemediationPlanStatus `json:"status,omitempty"`
}

// RemediationPlanSpec is what is to be done.
type RemediationPlanSpec struct {
	// The Issue that it is done for.
	IssueRef IssueRef `json:"issueRef"`
	// Which attempt it is, from 1 on.
	Attempt int32 `json:"attempt"`
	// How the Issue is to be remedied.
	Strategy string `json:"strategy"`
	// The actions, in order.
	// +optional
	Actions []RemediationAction `json:"actions,omitempty"`
	// What must hold meanwhile.
	// +optional
	SafetyConstraints []string `json:"safetyConstraints,omitempty"`
	// Whether a model decides each step, in place of the actions.
	// +optional
	AgenticMode bool `json:"agenticMode,omitempty"`
	// The steps that a model has taken.
	// +optional
	AgenticHistory []AgenticStep `json:"agenticHistory,omitempty"`
	// How many it may take.
	// +optional
	// +kubebuilder:default=10
	AgenticMaxSteps int32 `json:"agenticMaxSteps,omitempty"`
}

// RemediationAction is an action of a RemediationPlan.
type RemediationAction struct {
	// Its type, as RollbackDeployment.
	Type string `json:"type"`
	// Its parameters.
	// +optional
	Params map[string]string `json:"params,omitempty"`
}

// AgenticStep is a step that a model has taken.
type AgenticStep struct {
	// Its number, from 1 on.
	StepNumber int32 `json:"stepNumber"`
	// What the model says.
	AIMessage string `json:"aiMessage"`
	// What it had done, if anything.
	// +optional
	Action *RemediationAction `json:"action,omitempty"`
	// What came of it.
	// +optional
	Observation string `json:"observation,omitempty"`
	// When.
	Timestamp metav1.Time `json:"timestamp"`
}

// RemediationPlanStatus is what was done.
type RemediationPlanStatus struct {
	// How far it is.
	// +optional
	// +kubebuilder:validation:Enum=Pending;WaitingApproval;Executing;Verifying;Completed;Failed;RolledBack
	State string `json:"state,omitempty"`
	// When it began.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// When all actions were done.
	// +optional
	ActionsCompletedAt *metav1.Time `json:"actionsCompletedAt,omitempty"`
	// When it ended.
	// +optional
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`
	// What came of it.
	// +optional
	Result string `json:"result,omitempty"`
	// What was seen meanwhile.
	// +optional
	Evidence []EvidenceItem `json:"evidence,omitempty"`
	// How many steps a model has taken.
	// +optional
	AgenticStepCount int32 `json:"agenticStepCount,omitempty"`
	// When a model began.
	// +optional
	AgenticStartedAt *metav1.Time `json:"agenticStartedAt,omitempty"`
	// The resource as it was before.
	// +optional
	PreflightSnapshot *ResourceSnapshot `json:"preflightSnapshot,omitempty"`
	// The actions that were done.
	// +optional
	ActionCheckpoints []ActionCheckpoint `json:"actionCheckpoints,omitempty"`
	// Whether what was done was undone.
	// +optional
	RollbackPerformed bool `json:"rollbackPerformed,omitempty"`
	// What came of that.
	// +optional
	RollbackResult string `json:"rollbackResult,omitempty"`
	// Whether the resource is healthy after it failed.
	// +optional
	PostFailureHealthy *bool `json:"postFailureHealthy,omitempty"`
}

// EvidenceItem is something that was seen during a remediation.
type EvidenceItem struct {
	// Its type, as action_completed.
	Type string `json:"type"`
	// What was seen.
	Data string `json:"data"`
	// When.
	Timestamp metav1.Time `json:"timestamp"`
}

// ResourceSnapshot is a resource as it was.
//
// +kubebuilder:pruning:PreserveUnknownFields
type ResourceSnapshot struct {
	// How many replicas it had.
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`
	// The images of its containers.
	// +optional
	Images map[string]string `json:"images,omitempty"`
	// When.
	// +optional
	CapturedAt *metav1.Time `json:"capturedAt,omitempty"`
}

// ActionCheckpoint is an action that was done.
type ActionCheckpoint struct {
	// Its place among the plan's actions, from 0 on.
	ActionIndex int32 `json:"actionIndex"`
	// Its type.
	ActionType string `json:"actionType"`
	// Whether it succeeded.
	Success bool `json:"success"`
	// The resource as it was before.
	// +optional
	SnapshotBefore *ResourceSnapshot `json:"snapshotBefore,omitempty"`
	// When.
	Timestamp metav1.Time `json:"timestamp"`
}

// RemediationPlanList is a list of them.
//
// +kubebuilder:object:root=true
type RemediationPlanList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RemediationPlan `json:"items"`
}

// PostMortem tells an incident after its end.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=postmortems,singular=postmortem,shortName=pm
// +kubebuilder:printcolumn:name="Issue",type=string,JSONPath=`.spec.issueRef.name`
// +kubebuilder:printcolumn:name="Severity",type=string,JSONPath=`.spec.severity`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PostMortem struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What it tells of.
	Spec PostMortemSpec `json:"spec,omitempty"`
	// What it tells.
	Status PostMortemStatus `json:"status,omitempty"`
}

// PostMortemSpec is what a PostMortem tells of.
type PostMortemSpec struct {
	// The Issue.
	IssueRef IssueRef `json:"issueRef"`
	// The resource that was affected.
	Resource ResourceRef `json:"resource"`
	// How grave it was.
	// +kubebuilder:validation:Enum=critical;high;medium;low
	Severity string `json:"severity"`
}

// PostMortemStatus is what a PostMortem tells. What is not named here is kept.
//
// +kubebuilder:pruning:PreserveUnknownFields
type PostMortemStatus struct {
	// How far its review is.
	// +optional
	// +kubebuilder:validation:Enum=Open;InReview;Closed
	State string `json:"state,omitempty"`
	// What happened, in short.
	// +optional
	Summary string `json:"summary,omitempty"`
	// The cause.
	// +optional
	RootCause string `json:"rootCause,omitempty"`
	// What was affected.
	// +optional
	Impact string `json:"impact,omitempty"`
	// What happened, in order.
	// +optional
	Timeline []TimelineEvent `json:"timeline,omitempty"`
	// What was done.
	// +optional
	ActionsExecuted []ActionRecord `json:"actionsExecuted,omitempty"`
	// How long it took.
	// +optional
	Duration string `json:"duration,omitempty"`
	// When it was written.
	// +optional
	GeneratedAt *metav1.Time `json:"generatedAt,omitempty"`
	// When it was reviewed.
	// +optional
	ReviewedAt *metav1.Time `json:"reviewedAt,omitempty"`
	// What a person says of it.
	// +optional
	Feedback *PostMortemFeedback `json:"feedback,omitempty"`
	// Whether a person has to do something.
	// +optional
	RequiresHumanAction bool `json:"requiresHumanAction,omitempty"`
	// What a person has to do.
	// +optional
	RequiredAction string `json:"requiredAction,omitempty"`
}

// TimelineEvent is something that happened in an incident.
type TimelineEvent struct {
	// When.
	Timestamp metav1.Time `json:"timestamp"`
	// Its type, as action_executed.
	Type string `json:"type"`
	// What happened.
	Detail string `json:"detail"`
}

// ActionRecord is something that was done in an incident.
type ActionRecord struct {
	// The type of the action.
	Action string `json:"action"`
	// Its parameters.
	// +optional
	Params map[string]string `json:"params,omitempty"`
	// success or failed.
	Result string `json:"result"`
	// What came of it.
	Detail string `json:"detail"`
	// When.
	Timestamp metav1.Time `json:"timestamp"`
}

// PostMortemFeedback is what a person says of a PostMortem.
type PostMortemFeedback struct {
	// The cause, where the model erred.
	// +optional
	OverrideRootCause string `json:"overrideRootCause,omitempty"`
	// How good the remediation was, from 1 to 5.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5
	RemediationAccuracy int32 `json:"remediationAccuracy,omitempty"`
	// What else there is to say.
	// +optional
	Comments string `json:"comments,omitempty"`
	// Who says it.
	// +optional
	ProvidedBy string `json:"providedBy,omitempty"`
	// When.
	// +optional
	ProvidedAt *metav1.Time `json:"providedAt,omitempty"`
}

// PostMortemList is a list of them.
//
// +kubebuilder:object:root=true
type PostMortemList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PostMortem `json:"items"`
}
