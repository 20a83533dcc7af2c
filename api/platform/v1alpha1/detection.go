package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// States of an Issue.
const (
	IssueDetected    = "Detected"
	IssueAnalyzing   = "Analyzing"
	IssueRemediating = "Remediating"
	IssueContained   = "Contained" // the impact is gone, and the cause is not
	IssueResolved    = "Resolved"
	IssueEscalated   = "Escalated"
	IssueFailed      = "Failed"
)

// ResourceRef names a resource.
type ResourceRef struct {
	// Its kind.
	Kind string `json:"kind"`
	// Its name.
	Name string `json:"name"`
	// Its namespace.
	Namespace string `json:"namespace"`
}

// IssueRef names an Issue in the same namespace.
type IssueRef struct {
	// Its name.
	Name string `json:"name"`
}

// Anomaly is a signal that something may be wrong.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=anomalies,singular=anomaly,shortName=anom
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.source`
// +kubebuilder:printcolumn:name="Signal",type=string,JSONPath=`.spec.signalType`
// +kubebuilder:printcolumn:name="Correlated",type=boolean,JSONPath=`.status.correlated`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Anomaly struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What was seen.
	Spec AnomalySpec `json:"spec,omitempty"`
	// What became of it.
	Status AnomalyStatus `json:"status,omitempty"`
}

// AnomalySpec is what was seen.
type AnomalySpec struct {
	// What saw it.
	// +kubebuilder:validation:Enum=prometheus;events;logs;webhook;watcher
	Source string `json:"source"`
	// The kind of signal.
	// +kubebuilder:validation:Enum=error_rate;latency;pod_restart;cpu_high;memory_high;oom_kill;pod_not_ready;deploy_failing;disk_pressure;node_not_ready;pid_pressure;network_unavailable;pod_capacity_high;pvc_pending;ingress_error;hpa_maxed;job_failed;cronjob_missed;certificate_expiring;image_pull_error;crashloop_backoff;helm_release_failed;argocd_degraded;config_drift
	SignalType string `json:"signalType"`
	// The resource that it was seen at.
	Resource ResourceRef `json:"resource"`
	// What was measured.
	Value string `json:"value"`
	// What it should not exceed.
	Threshold string `json:"threshold"`
	// What it means.
	// +optional
	Description string `json:"description,omitempty"`
}

// AnomalyStatus is what became of an anomaly.
type AnomalyStatus struct {
	// Whether it was put to an Issue, or suppressed.
	// +optional
	Correlated bool `json:"correlated"`
	// The Issue, or suppressed:{reason}.
	// +optional
	IssueRef *IssueRef `json:"issueRef,omitempty"`
}

// AnomalyList is a list of them.
//
// +kubebuilder:object:root=true
type AnomalyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Anomaly `json:"items"`
}

// Issue is something that is wrong, and stands for its incident.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=issues,singular=issue,shortName=iss
// +kubebuilder:printcolumn:name="Severity",type=string,JSONPath=`.spec.severity`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Risk",type=integer,JSONPath=`.spec.riskScore`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Issue struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wrong.
	Spec IssueSpec `json:"spec,omitempty"`
	// How far it is.
	Status IssueStatus `json:"status,omitempty"`
}

// IssueSpec is what is wrong.
type IssueSpec struct {
	// How grave it is.
	// +kubebuilder:validation:Enum=critical;high;medium;low
	Severity string `json:"severity"`
	// What saw it.
	// +kubebuilder:validation:Enum=prometheus;events;logs;webhook;watcher
	Source string `json:"source"`
	// The kind of signal.
	// +optional
	SignalType string `json:"signalType,omitempty"`
	// The resource that is affected.
	Resource ResourceRef `json:"resource"`
	// What it means.
	Description string `json:"description"`
	// The incident, where it has a name other than the Issue's.
	// +optional
	CorrelationId string `json:"correlationId,omitempty"`
	// How large the risk is, from 0 to 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	RiskScore int32 `json:"riskScore,omitempty"`
}

// IssueStatus is how far an Issue is.
type IssueStatus struct {
	// Its state.
	// +optional
	// +kubebuilder:validation:Enum=Detected;Analyzing;Remediating;Contained;Resolved;Escalated;Failed
	State string `json:"state,omitempty"`
	// When it was detected.
	// +optional
	DetectedAt *metav1.Time `json:"detectedAt,omitempty"`
	// How it was resolved.
	// +optional
	Resolution string `json:"resolution,omitempty"`
	// When it was resolved.
	// +optional
	ResolvedAt *metav1.Time `json:"resolvedAt,omitempty"`
	// How often remediation was tried.
	// +optional
	RemediationAttempts int32 `json:"remediationAttempts"`
	// How often it may be tried.
	// +optional
	// +kubebuilder:default=3
	MaxRemediationAttempts int32 `json:"maxRemediationAttempts"`
	// What is known of it.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Whether a person has to do something.
	// +optional
	RequiresHumanAction bool `json:"requiresHumanAction,omitempty"`
	// What a person has to do.
	// +optional
	RequiredAction string `json:"requiredAction,omitempty"`
}

// IssueList is a list of them.
//
// +kubebuilder:object:root=true
type IssueList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Issue `json:"items"`
}
