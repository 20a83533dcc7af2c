package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// States of an ApprovalRequest.
const (
	ApprovalPending  = "Pending"
	ApprovalApproved = "Approved"
	ApprovalRejected = "Rejected"
	ApprovalExpired  = "Expired"
)

// ApprovalRequest asks people whether a RemediationPlan may be executed.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=approvalrequests,singular=approvalrequest,shortName=ar
// +kubebuilder:printcolumn:name="Issue",type=string,JSONPath=`.spec.issueRef.name`
// +kubebuilder:printcolumn:name="Plan",type=string,JSONPath=`.spec.remediationPlanRef`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Rule",type=string,JSONPath=`.spec.ruleName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ApprovalRequest struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is asked.
	Spec ApprovalRequestSpec `json:"spec,omitempty"`
	// What is answered.
	Status ApprovalRequestStatus `json:"status,omitempty"`
}

// ApprovalRequestSpec is what people are asked.
type ApprovalRequestSpec struct {
	// The Issue.
	IssueRef IssueRef `json:"issueRef"`
	// The name of the RemediationPlan.
	RemediationPlanRef string `json:"remediationPlanRef"`
	// The name of the ApprovalPolicy that asks for it.
	PolicyRef string `json:"policyRef"`
	// The rule of the policy.
	RuleName string `json:"ruleName"`
	// What is to be done.
	RequestedActions []RemediationAction `json:"requestedActions"`
	// Who asks.
	Requester string `json:"requester"`
	// What may be affected.
	// +optional
	BlastRadius *BlastRadius `json:"blastRadius,omitempty"`
	// What speaks for it.
	// +optional
	Evidence *ApprovalEvidence `json:"evidence,omitempty"`
	// After how many minutes it expires.
	// +optional
	// +kubebuilder:default=30
	TimeoutMinutes int32 `json:"timeoutMinutes"`
	// How many people must approve.
	// +optional
	// +kubebuilder:default=1
	RequiredApprovers int32 `json:"requiredApprovers"`
}

// BlastRadius is what an action may affect.
type BlastRadius struct {
	// How many pods.
	AffectedPods int32 `json:"affectedPods"`
	// How many services.
	AffectedServices int32 `json:"affectedServices"`
	// Which namespaces.
	// +optional
	AffectedNamespaces []string `json:"affectedNamespaces,omitempty"`
	// How large the risk is: low, medium, high or critical.
	RiskLevel string `json:"riskLevel"`
	// What may happen.
	Description string `json:"description"`
}

// ApprovalEvidence is what speaks for an action.
type ApprovalEvidence struct {
	// How sure the model is, from 0 to 1.
	AIConfidence float64 `json:"aiConfidence"`
	// What the model says.
	// +optional
	AIAnalysis string `json:"aiAnalysis,omitempty"`
	// How often it went well before, from 0 to 1.
	HistoricalSuccessRate float64 `json:"historicalSuccessRate"`
	// How often remediation was tried.
	PreviousAttempts int32 `json:"previousAttempts"`
	// The resource as it is.
	// +optional
	PreflightSnapshot string `json:"preflightSnapshot,omitempty"`
}

// ApprovalRequestStatus is what people answer.
type ApprovalRequestStatus struct {
	// What was decided.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Approved;Rejected;Expired
	State string `json:"state,omitempty"`
	// Who decided what.
	// +optional
	Decisions []ApprovalDecision `json:"decisions,omitempty"`
	// When it was approved.
	// +optional
	ApprovedAt *metav1.Time `json:"approvedAt,omitempty"`
	// When it was rejected.
	// +optional
	RejectedAt *metav1.Time `json:"rejectedAt,omitempty"`
	// When it expired.
	// +optional
	ExpiredAt *metav1.Time `json:"expiredAt,omitempty"`
	// Whether a policy approved it, and nobody else.
	// +optional
	AutoApproved bool `json:"autoApproved"`
	// What is known of it.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ApprovalDecision is a person's decision.
type ApprovalDecision struct {
	// Who decided, as they say.
	Approver string `json:"approver"`
	// approved or rejected.
	Decision string `json:"decision"`
	// Why.
	// +optional
	Reason string `json:"reason,omitempty"`
	// When.
	Timestamp metav1.Time `json:"timestamp"`
}

// ApprovalRequestList is a list of them.
//
// +kubebuilder:object:root=true
type ApprovalRequestList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ApprovalRequest `json:"items"`
}

// ApprovalPolicy says which actions people must approve.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=approvalpolicies,singular=approvalpolicy,shortName=ap
// +kubebuilder:printcolumn:name="DefaultMode",type=string,JSONPath=`.spec.defaultMode`
// +kubebuilder:printcolumn:name="Enabled",type=boolean,JSONPath=`.spec.enabled`
// +kubebuilder:printcolumn:name="Approved",type=integer,JSONPath=`.status.totalApproved`
// +kubebuilder:printcolumn:name="Rejected",type=integer,JSONPath=`.status.totalRejected`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ApprovalPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What must be approved.
	Spec ApprovalPolicySpec `json:"spec,omitempty"`
	// What was.
	Status ApprovalPolicyStatus `json:"status,omitempty"`
}

// ApprovalPolicySpec says which actions people must approve.
type ApprovalPolicySpec struct {
	// The rules, of which the first that matches counts.
	Rules []ApprovalRule `json:"rules"`
	// What holds where none matches.
	// +optional
	// +kubebuilder:default=manual
	DefaultMode string `json:"defaultMode,omitempty"`
	// Whether the policy counts.
	// +optional
	// +kubebuilder:default=true
	Enabled bool `json:"enabled"`
}

// ApprovalRule is a rule of an ApprovalPolicy.
type ApprovalRule struct {
	// Its name.
	Name string `json:"name"`
	// What it is for.
	Match ApprovalMatch `json:"match"`
	// Who must approve: nobody, one, or several.
	// +optional
	// +kubebuilder:default=manual
	// +kubebuilder:validation:Enum=auto;manual;quorum
	Mode string `json:"mode"`
	// How many must approve.
	// +optional
	// +kubebuilder:default=1
	RequiredApprovers int32 `json:"requiredApprovers,omitempty"`
	// After how many minutes a request expires.
	// +optional
	// +kubebuilder:default=30
	TimeoutMinutes int32 `json:"timeoutMinutes,omitempty"`
	// When something may be done.
	// +optional
	ChangeWindow *ChangeWindow `json:"changeWindow,omitempty"`
	// When nobody has to approve.
	// +optional
	AutoApproveConditions *AutoApproveConditions `json:"autoApproveConditions,omitempty"`
}

// ApprovalMatch says what a rule is for. What is empty is for all.
type ApprovalMatch struct {
	// Severities of Issues.
	// +optional
	Severities []string `json:"severities,omitempty"`
	// Types of actions.
	// +optional
	ActionTypes []string `json:"actionTypes,omitempty"`
	// Namespaces.
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// Kinds of resources.
	// +optional
	ResourceKinds []string `json:"resourceKinds,omitempty"`
}

// ChangeWindow says when something may be done.
type ChangeWindow struct {
	// The zone of the hours.
	// +optional
	// +kubebuilder:default=UTC
	Timezone string `json:"timezone"`
	// The days, as Monday.
	// +optional
	AllowedDays []string `json:"allowedDays"`
	// The hour that it begins with.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=23
	StartHour int32 `json:"startHour"`
	// The hour that it ends with.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=23
	EndHour int32 `json:"endHour"`
}

// AutoApproveConditions say when nobody has to approve.
type AutoApproveConditions struct {
	// How sure the model must be, from 0 to 1.
	MinConfidence float64 `json:"minConfidence"`
	// How grave the Issue may be.
	MaxSeverity string `json:"maxSeverity"`
	// How often it must have gone well before, from 0 to 1.
	HistoricalSuccessRate float64 `json:"historicalSuccessRate"`
}

// ApprovalPolicyStatus counts what was decided.
type ApprovalPolicyStatus struct {
	// How many were approved.
	// +optional
	TotalApproved int64 `json:"totalApproved"`
	// How many were rejected.
	// +optional
	TotalRejected int64 `json:"totalRejected"`
	// How many expired.
	// +optional
	TotalExpired int64 `json:"totalExpired"`
	// How many the policy approved itself.
	// +optional
	TotalAutoApproved int64 `json:"totalAutoApproved"`
	// What is known of it.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ApprovalPolicyList is a list of them.
//
// +kubebuilder:object:root=true
type ApprovalPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ApprovalPolicy `json:"items"`
}

// ClusterRegistration is a cluster that is watched.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=clusterregistrations,singular=clusterregistration,shortName=cr
// +kubebuilder:printcolumn:name="DisplayName",type=string,JSONPath=`.spec.displayName`
// +kubebuilder:printcolumn:name="Region",type=string,JSONPath=`.spec.region`
// +kubebuilder:printcolumn:name="Environment",type=string,JSONPath=`.spec.environment`
// +kubebuilder:printcolumn:name="Connected",type=boolean,JSONPath=`.status.connected`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterRegistration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The cluster.
	Spec ClusterRegistrationSpec `json:"spec,omitempty"`
	// How it is.
	Status ClusterRegistrationStatus `json:"status,omitempty"`
}

// ClusterRegistrationSpec is a cluster that is watched.
type ClusterRegistrationSpec struct {
	// What people call it.
	DisplayName string `json:"displayName"`
	// The Secret that has the kubeconfig.
	KubeconfigSecretRef SecretRef `json:"kubeconfigSecretRef"`
	// Where it is.
	// +optional
	Region string `json:"region,omitempty"`
	// What it is for.
	// +optional
	// +kubebuilder:default=dev
	// +kubebuilder:validation:Enum=prod;staging;dev
	Environment string `json:"environment"`
	// How much depends on it.
	// +optional
	// +kubebuilder:default=standard
	// +kubebuilder:validation:Enum=critical;standard;non-critical
	Tier string `json:"tier"`
	// More about it.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// How often it is looked after.
	// +optional
	// +kubebuilder:default="30s"
	HealthCheckInterval string `json:"healthCheckInterval,omitempty"`
	// What it has, as prometheus.
	// +optional
	Capabilities []string `json:"capabilities,omitempty"`
	// How many remediations may run at a time.
	// +optional
	// +kubebuilder:default=3
	MaxConcurrentRemediations int32 `json:"maxConcurrentRemediations,omitempty"`
}

// SecretRef names a Secret in the same namespace.
type SecretRef struct {
	// Its name.
	Name string `json:"name"`
}

// ClusterRegistrationStatus is how a cluster is.
type ClusterRegistrationStatus struct {
	// Whether it answers.
	// +optional
	Connected bool `json:"connected"`
	// When it was last looked after.
	// +optional
	LastHealthCheck *metav1.Time `json:"lastHealthCheck,omitempty"`
	// The version of its API server.
	// +optional
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	// How many nodes it has.
	// +optional
	NodeCount int32 `json:"nodeCount"`
	// How many namespaces.
	// +optional
	NamespaceCount int32 `json:"namespaceCount"`
	// How many Issues are open.
	// +optional
	ActiveIssues int32 `json:"activeIssues"`
	// How many remediations run.
	// +optional
	ActiveRemediations int32 `json:"activeRemediations"`
	// What is known of it.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ClusterRegistrationList is a list of them.
//
// +kubebuilder:object:root=true
type ClusterRegistrationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterRegistration `json:"items"`
}
