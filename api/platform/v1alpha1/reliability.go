package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// States of a ChaosExperiment.
const (
	ChaosPending   = "Pending"
	ChaosRunning   = "Running"
	ChaosCompleted = "Completed"
	ChaosFailed    = "Failed"
	ChaosAborted   = "Aborted"
)

// ChaosExperiment breaks something, to see whether it is remedied.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=chaosexperiments,singular=chaosexperiment,shortName=chaos
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.experimentType`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.target.name`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Duration",type=string,JSONPath=`.spec.duration`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ChaosExperiment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is broken.
	Spec ChaosExperimentSpec `json:"spec,omitempty"`
	// What came of it.
	Status ChaosExperimentStatus `json:"status,omitempty"`
}

// ChaosExperimentSpec is what is broken.
type ChaosExperimentSpec struct {
	// How.
	// +kubebuilder:validation:Enum=pod_kill;pod_failure;cpu_stress;memory_stress;network_delay;network_loss;disk_stress
	ExperimentType string `json:"experimentType"`
	// The resource.
	Target ResourceRef `json:"target"`
	// For how long, as 5m.
	Duration string `json:"duration"`
	// How much.
	// +optional
	Parameters map[string]string `json:"parameters,omitempty"`
	// When, as cron has it; once without.
	// +optional
	Schedule string `json:"schedule,omitempty"`
	// Whether nothing is broken.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
	// What must hold.
	// +optional
	SafetyChecks ChaosSafetyChecks `json:"safetyChecks,omitempty"`
	// What is looked for afterwards.
	// +optional
	PostExperiment PostExperiment `json:"postExperiment,omitempty"`
	// The Issue that it is about.
	// +optional
	LinkedIssueRef *IssueRef `json:"linkedIssueRef,omitempty"`
	// Whether it is to be run.
	// +optional
	// +kubebuilder:default=true
	Enabled bool `json:"enabled"`
}

// ChaosSafetyChecks is what must hold in an experiment.
type ChaosSafetyChecks struct {
	// How many pods must stay healthy.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinHealthyPods int32 `json:"minHealthyPods,omitempty"`
	// How many experiments may run at a time.
	// +optional
	// +kubebuilder:default=1
	MaxConcurrentExperiments int32 `json:"maxConcurrentExperiments,omitempty"`
	// Whether an Issue with the same resource ends it.
	// +optional
	AbortOnIssueDetected bool `json:"abortOnIssueDetected,omitempty"`
	// Whether people must approve it.
	// +optional
	RequireApproval bool `json:"requireApproval,omitempty"`
	// The only namespaces that it may be run in.
	// +optional
	AllowedNamespaces []string `json:"allowedNamespaces,omitempty"`
	// Namespaces that it may not be run in.
	// +optional
	BlockedNamespaces []string `json:"blockedNamespaces,omitempty"`
}

// PostExperiment is what is looked for after an experiment.
type PostExperiment struct {
	// Whether the resource recovers.
	// +optional
	VerifyRecovery bool `json:"verifyRecovery,omitempty"`
	// For how long that is waited for.
	// +optional
	RecoveryTimeout string `json:"recoveryTimeout,omitempty"`
	// Whether it is broken again after it was remedied.
	// +optional
	RunRemediationTest bool `json:"runRemediationTest,omitempty"`
}

// ChaosExperimentStatus is what came of an experiment.
type ChaosExperimentStatus struct {
	// How far it is.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Running;Completed;Failed;Aborted
	State string `json:"state,omitempty"`
	// When it began.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// When it ended.
	// +optional
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`
	// What came of it.
	// +optional
	Result string `json:"result,omitempty"`
	// Whether the resource recovered.
	// +optional
	RecoveryVerified bool `json:"recoveryVerified"`
	// How long that took.
	// +optional
	RecoveryTime string `json:"recoveryTime,omitempty"`
	// How many pods were affected.
	// +optional
	PodsAffected int32 `json:"podsAffected"`
	// The resource as it was before.
	// +optional
	PreExperimentSnapshot string `json:"preExperimentSnapshot,omitempty"`
	// The resource as it was afterwards.
	// +optional
	PostExperimentSnapshot string `json:"postExperimentSnapshot,omitempty"`
	// What is known of it.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ChaosExperimentList is a list of them.
//
// +kubebuilder:object:root=true
type ChaosExperimentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ChaosExperiment `json:"items"`
}

// IncidentSLA says how soon Issues of one severity must be answered and resolved.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=incidentslas,singular=incidentsla,shortName=sla
// +kubebuilder:printcolumn:name="Severity",type=string,JSONPath=`.spec.severity`
// +kubebuilder:printcolumn:name="ResponseTime",type=string,JSONPath=`.spec.responseTime`
// +kubebuilder:printcolumn:name="ResolutionTime",type=string,JSONPath=`.spec.resolutionTime`
// +kubebuilder:printcolumn:name="Violations",type=integer,JSONPath=`.status.totalViolations`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IncidentSLA struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is promised.
	Spec IncidentSLASpec `json:"spec,omitempty"`
	// What was kept.
	Status IncidentSLAStatus `json:"status,omitempty"`
}

// IncidentSLASpec is what is promised.
type IncidentSLASpec struct {
	// The severity of the Issues.
	// +kubebuilder:validation:Enum=critical;high;medium;low
	Severity string `json:"severity"`
	// How soon they are answered, as 15m.
	ResponseTime string `json:"responseTime"`
	// How soon they are resolved.
	ResolutionTime string `json:"resolutionTime"`
	// The policy by which others are called.
	// +optional
	EscalationPolicyRef string `json:"escalationPolicyRef,omitempty"`
	// The policy by which people are told.
	// +optional
	NotificationPolicyRef string `json:"notificationPolicyRef,omitempty"`
	// Whether other hours do not count.
	// +optional
	BusinessHoursOnly bool `json:"businessHoursOnly,omitempty"`
	// The hours.
	// +optional
	BusinessHours *BusinessHours `json:"businessHours,omitempty"`
}

// BusinessHours are hours in which people work.
type BusinessHours struct {
	// The zone of the hours.
	// +optional
	// +kubebuilder:default=UTC
	Timezone string `json:"timezone"`
	// The hour that they begin with.
	// +optional
	// +kubebuilder:default=9
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=23
	StartHour int32 `json:"startHour"`
	// The hour that they end with.
	// +optional
	// +kubebuilder:default=18
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=23
	EndHour int32 `json:"endHour"`
	// The days, as Monday.
	// +optional
	// +kubebuilder:default={Monday,Tuesday,Wednesday,Thursday,Friday}
	WorkDays []string `json:"workDays"`
}

// IncidentSLAStatus is what was kept of a promise.
type IncidentSLAStatus struct {
	// How many violations are open.
	// +optional
	ActiveViolations int32 `json:"activeViolations"`
	// How many there were.
	// +optional
	TotalViolations int64 `json:"totalViolations"`
	// How much was kept, in percent.
	// +optional
	CompliancePercentage float64 `json:"compliancePercentage"`
	// How many Issues were looked at.
	// +optional
	TotalIssuesTracked int64 `json:"totalIssuesTracked"`
	// How soon they were answered.
	// +optional
	AverageResponseTime string `json:"averageResponseTime,omitempty"`
	// How soon they were resolved.
	// +optional
	AverageResolutionTime string `json:"averageResolutionTime,omitempty"`
	// The last violations.
	// +optional
	RecentViolations []SLAViolation `json:"recentViolations,omitempty"`
	// When the last one was.
	// +optional
	LastViolationAt *metav1.Time `json:"lastViolationAt,omitempty"`
	// What is known of it.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SLAViolation is a promise that was not kept.
type SLAViolation struct {
	// The Issue.
	IssueName string `json:"issueName"`
	// response or resolution.
	Type string `json:"type"`
	// How long it took.
	Elapsed string `json:"elapsed"`
	// How long it might have taken.
	Threshold string `json:"threshold"`
	// When.
	ViolatedAt metav1.Time `json:"violatedAt"`
}

// IncidentSLAList is a list of them.
//
// +kubebuilder:object:root=true
type IncidentSLAList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IncidentSLA `json:"items"`
}

// ServiceLevelObjective says how well a service must work.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=servicelevelobjectives,singular=servicelevelobjective,shortName=slo
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.serviceName`
// +kubebuilder:printcolumn:name="Target%",type=number,JSONPath=`.spec.target.percentage`
// +kubebuilder:printcolumn:name="Current",type=number,JSONPath=`.status.currentValue`
// +kubebuilder:printcolumn:name="BurnRate1h",type=number,JSONPath=`.status.burnRate1h`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ServiceLevelObjective struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is aimed at.
	Spec ServiceLevelObjectiveSpec `json:"spec,omitempty"`
	// What is reached.
	Status ServiceLevelObjectiveStatus `json:"status,omitempty"`
}

// ServiceLevelObjectiveSpec is what is aimed at.
type ServiceLevelObjectiveSpec struct {
	// The service.
	ServiceName string `json:"serviceName"`
	// What it is about.
	// +optional
	Description string `json:"description,omitempty"`
	// What is measured.
	Indicator SLOIndicator `json:"indicator"`
	// What it must be.
	Target SLOTarget `json:"target"`
	// When people are told.
	// +optional
	AlertPolicy SLOAlertPolicy `json:"alertPolicy,omitempty"`
	// Whether it counts.
	// +optional
	// +kubebuilder:default=true
	Enabled bool `json:"enabled"`
}

// SLOIndicator is what is measured.
type SLOIndicator struct {
	// What it says.
	// +kubebuilder:validation:Enum=availability;latency;error_rate;throughput
	Type string `json:"type"`
	// Where it is from.
	// +optional
	// +kubebuilder:default=issues
	// +kubebuilder:validation:Enum=prometheus;watcher;issues
	MetricSource string `json:"metricSource"`
	// A query in PromQL.
	// +optional
	PrometheusQuery string `json:"prometheusQuery,omitempty"`
	// The resource.
	// +optional
	Resource *ResourceRef `json:"resource,omitempty"`
	// Which percentile of latencies, as p99.
	// +optional
	LatencyPercentile string `json:"latencyPercentile,omitempty"`
	// What it must not exceed, in milliseconds.
	// +optional
	LatencyThresholdMs int64 `json:"latencyThresholdMs,omitempty"`
}

// SLOTarget is what must be reached.
type SLOTarget struct {
	// In percent.
	Percentage float64 `json:"percentage"`
	// In which time, as 30d.
	// +optional
	// +kubebuilder:default="30d"
	Window string `json:"window"`
}

// SLOAlertPolicy says when people are told.
type SLOAlertPolicy struct {
	// By how fast the budget burns.
	// +optional
	BurnRateWindows []BurnRateWindow `json:"burnRateWindows,omitempty"`
	// Whether they are told that nothing is left of it.
	// +optional
	PageOnBudgetExhausted bool `json:"pageOnBudgetExhausted,omitempty"`
	// The policy by which they are told.
	// +optional
	NotificationPolicyRef string `json:"notificationPolicyRef,omitempty"`
}

// BurnRateWindow says how fast a budget may burn.
type BurnRateWindow struct {
	// A short time, as 1h.
	ShortWindow string `json:"shortWindow"`
	// A long time, as 6h.
	LongWindow string `json:"longWindow"`
	// How fast it may burn in both.
	BurnRateThreshold float64 `json:"burnRateThreshold"`
	// How grave it is if it burns faster.
	// +kubebuilder:validation:Enum=critical;high;medium;low
	Severity string `json:"severity"`
}

// ServiceLevelObjectiveStatus is what is reached.
type ServiceLevelObjectiveStatus struct {
	// What was measured.
	// +optional
	CurrentValue float64 `json:"currentValue"`
	// Whether it is what it must be.
	// +optional
	TargetMet bool `json:"targetMet"`
	// How much may go wrong, as a part of 1.
	// +optional
	ErrorBudgetTotal float64 `json:"errorBudgetTotal"`
	// What is left of that, as a part of 1.
	// +optional
	ErrorBudgetRemaining float64 `json:"errorBudgetRemaining"`
	// What is used up, in percent.
	// +optional
	ErrorBudgetConsumedPercentage float64 `json:"errorBudgetConsumedPercentage"`
	// How fast it burns, in the last hour.
	// +optional
	BurnRate1h float64 `json:"burnRate1h"`
	// In the last 6 hours.
	// +optional
	BurnRate6h float64 `json:"burnRate6h"`
	// In the last day.
	// +optional
	BurnRate24h float64 `json:"burnRate24h"`
	// In the last 3 days.
	// +optional
	BurnRate72h float64 `json:"burnRate72h"`
	// When it was measured.
	// +optional
	LastCalculatedAt *metav1.Time `json:"lastCalculatedAt,omitempty"`
	// What people are told.
	// +optional
	ActiveAlerts []SLOAlert `json:"activeAlerts,omitempty"`
	// What is known of it.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SLOAlert is something that people are told.
type SLOAlert struct {
	// The times, as 1h/6h.
	Window string `json:"window"`
	// How fast the budget burns.
	BurnRate float64 `json:"burnRate"`
	// How grave it is.
	// +kubebuilder:validation:Enum=critical;high;medium;low
	Severity string `json:"severity"`
	// Since when.
	FiredAt metav1.Time `json:"firedAt"`
}

// ServiceLevelObjectiveList is a list of them.
//
// +kubebuilder:object:root=true
type ServiceLevelObjectiveList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceLevelObjective `json:"items"`
}
