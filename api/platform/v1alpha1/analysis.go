package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AIInsight is what a model says of an Issue.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=aiinsights,singular=aiinsight,shortName=ai
// +kubebuilder:printcolumn:name="Issue",type=string,JSONPath=`.spec.issueRef.name`
// +kubebuilder:printcolumn:name="Provider",type=string,JSONPath=`.spec.provider`
// +kubebuilder:printcolumn:name="Confidence",type=number,JSONPath=`.status.confidence`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AIInsight struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is asked.
	Spec AIInsightSpec `json:"spec,omitempty"`
	// What is answered.
	Status AIInsightStatus `json:"status,omitempty"`
}

// AIInsightSpec is what a model is asked.
type AIInsightSpec struct {
	// The Issue that it is asked about.
	IssueRef IssueRef `json:"issueRef"`
	// Who runs the model.
	Provider string `json:"provider"`
	// The model.
	Model string `json:"model"`
}

// AIInsightStatus is what a model answers.
type AIInsightStatus struct {
	// What it takes for the cause.
	// +optional
	Analysis string `json:"analysis,omitempty"`
	// How sure it is, from 0 to 1.
	// +optional
	Confidence float64 `json:"confidence,omitempty"`
	// What it recommends, in words.
	// +optional
	Recommendations []string `json:"recommendations,omitempty"`
	// What it recommends, as actions.
	// +optional
	SuggestedActions []SuggestedAction `json:"suggestedActions,omitempty"`
	// When it answered.
	// +optional
	GeneratedAt *metav1.Time `json:"generatedAt,omitempty"`
	// What the logs told it.
	// +optional
	LogAnalysis string `json:"logAnalysis,omitempty"`
	// The metrics that it was shown.
	// +optional
	MetricsContext string `json:"metricsContext,omitempty"`
	// The source code that it was shown.
	// +optional
	SourceCodeContext string `json:"sourceCodeContext,omitempty"`
	// What it was told of the state of deployments.
	// +optional
	GitOpsContext string `json:"gitOpsContext,omitempty"`
	// What else it takes to be affected.
	// +optional
	CascadeAnalysis string `json:"cascadeAnalysis,omitempty"`
	// What it expects the actions to affect.
	// +optional
	BlastRadiusPrediction string `json:"blastRadiusPrediction,omitempty"`
}

// SuggestedAction is an action that a model recommends.
type SuggestedAction struct {
	// What people call it.
	Name string `json:"name"`
	// Its type.
	Action string `json:"action"`
	// Why.
	// +optional
	Description string `json:"description,omitempty"`
	// Its parameters.
	// +optional
	Params map[string]string `json:"params,omitempty"`
}

// AIInsightList is a list of them.
//
// +kubebuilder:object:root=true
type AIInsightList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AIInsight `json:"items"`
}

// Runbook is what is to be done about a kind of Issue.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=runbooks,singular=runbook,shortName=rb
// +kubebuilder:printcolumn:name="Signal",type=string,JSONPath=`.spec.trigger.signalType`
// +kubebuilder:printcolumn:name="Severity",type=string,JSONPath=`.spec.trigger.severity`
// +kubebuilder:printcolumn:name="ResourceKind",type=string,JSONPath=`.spec.trigger.resourceKind`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Runbook struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is to be done, and when.
	Spec RunbookSpec `json:"spec,omitempty"`
}

// RunbookSpec is what is to be done, and when.
type RunbookSpec struct {
	// What it is for.
	// +optional
	Description string `json:"description,omitempty"`
	// The Issues that it is for.
	Trigger RunbookTrigger `json:"trigger"`
	// What is to be done.
	Steps []RunbookStep `json:"steps"`
	// How often it may be tried.
	// +optional
	// +kubebuilder:default=3
	MaxAttempts int32 `json:"maxAttempts,omitempty"`
}

// RunbookTrigger says which Issues a Runbook is for.
type RunbookTrigger struct {
	// Their kind of signal.
	SignalType string `json:"signalType"`
	// Their severity.
	// +kubebuilder:validation:Enum=critical;high;medium;low
	Severity string `json:"severity"`
	// The kind of resource that they affect.
	ResourceKind string `json:"resourceKind"`
}

// RunbookStep is a step of a Runbook.
type RunbookStep struct {
	// What people call it.
	Name string `json:"name"`
	// The type of the action.
	Action string `json:"action"`
	// What it does, and why.
	// +optional
	Description string `json:"description,omitempty"`
	// Its parameters.
	// +optional
	Params map[string]string `json:"params,omitempty"`
}

// RunbookList is a list of them.
//
// +kubebuilder:object:root=true
type RunbookList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Runbook `json:"items"`
}
