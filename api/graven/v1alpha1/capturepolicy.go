package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CapturePolicy says what to record of resources that nobody records, and what to
// refuse. Its conditions and its events are expressions in CEL over object,
// oldObject (null for none), operation, cluster and now; at admission over request,
// too. What is missing in an object is no condition. Whoever may create a
// CapturePolicy decides what stands in the ledger as observed: only
// administrators should.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cap
// +kubebuilder:printcolumn:name="At",type=string,JSONPath=`.spec.at`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Recorded",type=integer,JSONPath=`.status.recorded`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type CapturePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CapturePolicySpec   `json:"spec"`
	Status CapturePolicyStatus `json:"status,omitempty"`
}

// CapturePolicyList is a list of CapturePolicies.
//
// +kubebuilder:object:root=true
type CapturePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []CapturePolicy `json:"items"`
}

// CapturePolicySpec is what a policy says.
type CapturePolicySpec struct {
	// At is where the policy is applied: watch is what the state of a resource
	// became, admission is what somebody asks the API server to do.
	// +kubebuilder:validation:Enum=watch;admission
	At string `json:"at"`
	// Match says which resources the policy is about.
	Match CaptureMatch `json:"match"`
	// Variables may be used by name in what stands behind them.
	// +kubebuilder:validation:MaxItems=64
	Variables []CaptureVariable `json:"variables,omitempty"`
	// When is a condition for all that is recorded and required. Empty is always.
	When string `json:"when,omitempty"`
	// Record says which events there are, and what is in them.
	// +kubebuilder:validation:MaxItems=64
	Record []CaptureRecord `json:"record,omitempty"`
	// Require refuses requests. It is for admission only.
	// +kubebuilder:validation:MaxItems=64
	Require []CaptureRequirement `json:"require,omitempty"`
	// OnFailure says what becomes of a request at admission that cannot be
	// recorded: it is refused, or kept by the operator until it can be (the
	// default).
	// +kubebuilder:validation:Enum=refuse;spool
	OnFailure string `json:"onFailure,omitempty"`
}

// CaptureMatch says which resources a policy is about.
type CaptureMatch struct {
	// Resources are the kinds of resources.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Resources []CaptureResource `json:"resources"`
	// Operations are of CREATE, UPDATE, DELETE and, at admission, CONNECT. Empty
	// means all.
	Operations []string `json:"operations,omitempty"`
	// Namespaces are those whose resources match. Empty means all, and what is in
	// none.
	Namespaces []string `json:"namespaces,omitempty"`
	// ExceptNamespaces are those whose resources do not match.
	ExceptNamespaces []string `json:"exceptNamespaces,omitempty"`
	// Names are those of the resources that match. Empty means all. Where all policies
	// are about resources of one name, the operator reads no others, and needs no role
	// that lets it.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Names []string `json:"names,omitempty"`
}

// CaptureResource is a kind of resources.
type CaptureResource struct {
	// Group is the API group; empty for the core group.
	Group string `json:"group,omitempty"`
	// Version is the version of the group in which the policy reads the resource.
	Version string `json:"version"`
	// Resource is the name in the plural. At admission, a subresource may stand
	// behind a slash, as in workflowexecutions/status.
	Resource string `json:"resource"`
}

// CaptureVariable is an expression with a name.
type CaptureVariable struct {
	// Name is how it is called in other expressions.
	Name string `json:"name"`
	// Expression is what it stands for, in CEL.
	Expression string `json:"expression"`
}

// CaptureRecord says when there is an event, and what is in it.
type CaptureRecord struct {
	// Name is what messages call it.
	Name string `json:"name,omitempty"`
	// When is a condition. Empty is always.
	When string `json:"when,omitempty"`
	// Lasts is how long a resource that is watched must have stayed as it is: the
	// record is not looked at when it changes, but then, once, with the resource as
	// oldObject, too.
	// +optional
	Lasts metav1.Duration `json:"lasts,omitzero"`
	// Each gives a list: there is an event for each of its items, which is called
	// item in when and event. Empty is one event.
	Each string `json:"each,omitempty"`
	// Claim gives whom the resource names as who did it, at admission: where that is
	// not who asks, IdentityForged is recorded beside the event.
	Claim string `json:"claim,omitempty"`
	// Threshold has one event only where the same happens so often within a time.
	Threshold *CaptureThreshold `json:"threshold,omitempty"`
	// Event has an expression for each field of the event, by its name, as in
	// actor.name. eventType and fact are required: the fact names what happened,
	// independently of who tells it, as in {uid}/{type}/{which time}.
	Event map[string]string `json:"event"`
}

// CaptureThreshold is reached when the same happens so often within a time.
type CaptureThreshold struct {
	// Times is how often.
	// +kubebuilder:validation:Minimum=2
	Times int32 `json:"times"`
	// Within is in what time, as 1h.
	Within metav1.Duration `json:"within"`
	// By is an expression: what gives the same text is the same.
	By string `json:"by"`
}

// CaptureRequirement refuses requests.
type CaptureRequirement struct {
	// That is the condition that a request must meet.
	That string `json:"that"`
	// Message is what a refused request is answered with.
	Message string `json:"message"`
	// MessageExpression gives the message, where it can.
	MessageExpression string `json:"messageExpression,omitempty"`
}

// CapturePolicyStatus is what became of a policy.
type CapturePolicyStatus struct {
	// ObservedGeneration is the generation that the conditions are of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Recorded counts the events since the operator started.
	Recorded int64 `json:"recorded,omitempty"`
	// Conditions are Compiled (whether the expressions are good, and where they are
	// not), Watching (whether the resources are there, and may be read) or Registered
	// (whether the API server asks), Evaluated
	// (whether the expressions could be evaluated of late), and Ready, which is all
	// of these.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The conditions of a CapturePolicy.
const (
	ConditionReady      = "Ready"
	ConditionCompiled   = "Compiled"
	ConditionWatching   = "Watching"   // at watch
	ConditionRegistered = "Registered" // at admission
	ConditionEvaluated  = "Evaluated"
)
