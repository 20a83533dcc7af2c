package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Labels and annotations of an AuditEvent.
const (
	LabelEventType     = "platform.chatcli.io/event-type"
	LabelSeverity      = "platform.chatcli.io/severity"
	LabelCorrelationID = "platform.chatcli.io/correlation-id"
	// AnnotationImmutable, where it is "true", has a resource of any kind
	// protected as AuditEvents are.
	AnnotationImmutable = "platform.chatcli.io/immutable"
	// LabelMirror marks the AuditEvents that Graven's operator made of events of
	// the ledger. Its value is "whole", or "partial" where the details are left
	// out, because they have no room.
	LabelMirror = "graven.dev/mirror"
)

// Annotations that are the receipt of an AuditEvent: where in which ledger it is
// sealed. The operator writes them.
const (
	AnnotationIndex    = "graven.dev/index"
	AnnotationLeafHash = "graven.dev/leaf-hash"
	AnnotationOrigin   = "graven.dev/origin"
	// AnnotationSealedUID is the uid of the object that was sealed: what was made
	// of a copy of it, as by a tool that restores backups, has another.
	AnnotationSealedUID = "graven.dev/sealed-uid"
)

// Annotations that tell who created an AuditEvent. Admission writes them.
const (
	AnnotationCreatedBy       = "graven.dev/created-by"
	AnnotationCreatedByUID    = "graven.dev/created-by-uid"
	AnnotationCreatedByGroups = "graven.dev/created-by-groups" // a list in JSON
)

// AuditEvent is one thing that happened: who did what to which resource, when, and
// with what outcome. It cannot be changed once it is created. What is created is
// sealed into Graven's ledger; the object is a window onto it, and erases nothing
// there when it is deleted.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=auditevents,singular=auditevent,shortName=ae,scope=Namespaced,categories=audit
// +kubebuilder:printcolumn:name="EventType",type=string,JSONPath=`.spec.eventType`
// +kubebuilder:printcolumn:name="Actor",type=string,JSONPath=`.spec.actor.name`
// +kubebuilder:printcolumn:name="Resource",type=string,JSONPath=`.spec.resource.name`
// +kubebuilder:printcolumn:name="Severity",type=string,JSONPath=`.spec.severity`
// +kubebuilder:printcolumn:name="Timestamp",type=string,JSONPath=`.spec.timestamp`
// +kubebuilder:printcolumn:name="Correlation",type=string,JSONPath=`.spec.correlationID`,priority=1
// +kubebuilder:printcolumn:name="Outcome",type=string,JSONPath=`.spec.outcome`,priority=1
// +kubebuilder:printcolumn:name="Sealed",type=string,JSONPath=`.metadata.annotations.graven\.dev/index`,priority=1,description="The event's index in the ledger"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:selectablefield:JSONPath=`.spec.eventType`
// +kubebuilder:selectablefield:JSONPath=`.spec.severity`
// +kubebuilder:selectablefield:JSONPath=`.spec.correlationID`
// +kubebuilder:selectablefield:JSONPath=`.spec.actor.name`
// +kubebuilder:selectablefield:JSONPath=`.spec.actor.type`
// +kubebuilder:selectablefield:JSONPath=`.spec.resource.kind`
// +kubebuilder:selectablefield:JSONPath=`.spec.resource.namespace`
// +kubebuilder:selectablefield:JSONPath=`.spec.resource.name`
type AuditEvent struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What happened. It is permanent: a change of any part of it is refused.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="an audit event cannot be changed once it is created",reason=FieldValueForbidden
	Spec AuditEventSpec `json:"spec"`
}

// AuditEventList is a list of them.
//
// +kubebuilder:object:root=true
type AuditEventList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AuditEvent `json:"items"`
}

// AuditEventSpec is what happened.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.correlationID) && has(self.correlationId))",message="correlationID and correlationId are the same; give one"
type AuditEventSpec struct {
	// What happened, as one word: a type of the catalogue, as
	// RemediationExecuted or IssueCreated, or any other. Other spellings, as
	// issue_created, are taken too.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._/:-]+$`
	EventType string `json:"eventType"`

	// When it happened (RFC 3339), to the nanosecond at most, as in
	// 2026-03-19T14:30:00.123Z. Times in UTC and of one width sort as text.
	// +required
	Timestamp Timestamp `json:"timestamp"`

	// Who did it.
	// +required
	Actor AuditActor `json:"actor"`

	// The resource that it was done to.
	// +required
	Resource AuditResource `json:"resource"`

	// How grave it is. Without one it is that of the event's type. "warning" is
	// another word for medium.
	// +optional
	// +kubebuilder:validation:Enum=critical;high;medium;low;info;warning
	Severity string `json:"severity,omitempty"`

	// The incident that it belongs to: all events that have the same belong
	// together.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	CorrelationID string `json:"correlationID,omitempty"`

	// Another spelling of correlationID, which ChatCLI's own code has.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	CorrelationId string `json:"correlationId,omitempty"`

	// What there is to say about events of this type: names and values.
	// +optional
	// +kubebuilder:validation:MaxProperties=256
	// +kubebuilder:validation:XValidation:rule="self.map(k, size(k) + size(self[k])).sum() <= 245760",message="details have 240 KiB at most"
	Details map[string]AuditDetail `json:"details,omitempty"`

	// The kind of activity, as remediation or approval. Without one it is that
	// of the event's type.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Category string `json:"category,omitempty"`

	// What was done, as executed or approved. Without one it is that of the
	// event's type.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Action string `json:"action,omitempty"`

	// How it ended. Without one it is that of the event's type.
	// +optional
	// +kubebuilder:validation:Enum=success;failure;pending;unknown
	Outcome string `json:"outcome,omitempty"`

	// What went wrong, if something did.
	// +optional
	Error *AuditError `json:"error,omitempty"`

	// How long it took, in milliseconds.
	// +optional
	// +kubebuilder:validation:Minimum=0
	DurationMs int64 `json:"durationMs,omitempty"`

	// The event's id, a UUID, which is recorded once, however often it is told.
	// Without one it follows from the object's namespace, name and timestamp.
	// +optional
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`
	ID string `json:"id,omitempty"`

	// The event's name, of the form audit-{unix seconds}-{6 letters and digits}.
	// Without one it follows from its id.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// The id of the event that caused this one.
	// +optional
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`
	ParentID string `json:"parentID,omitempty"`

	// The cluster in which it happened.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Cluster string `json:"cluster,omitempty"`

	// The thing that happened, whoever tells of it: several tellings of one fact
	// have the same, and count once.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Fact string `json:"fact,omitempty"`

	// How many days the event is kept at least, from its recording on. A policy
	// may ask for more.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=36500
	RetentionDays int32 `json:"retentionDays,omitempty"`

	// Whether the details are sensitive.
	// +optional
	Sensitive bool `json:"sensitive,omitempty"`

	// Who counts the events that it sends, so that a gap shows.
	// +optional
	Source *AuditSource `json:"source,omitempty"`

	// The words of a mirrored event's producer where the event uses others.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Original map[string]AuditDetail `json:"original,omitempty"`
}

// AuditDetail is a detail's value, which is text.
//
// +kubebuilder:validation:MaxLength=65536
type AuditDetail string

// AuditActor is who did something, as the event says. Who it was that created
// the object is recorded beside it.
type AuditActor struct {
	// system, controller, service or user.
	// +required
	// +kubebuilder:validation:Enum=system;controller;service;user
	Type string `json:"type"`

	// The actor's name, as remediation-reconciler or john@company.com.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Name string `json:"name"`

	// The service account that a controller or service runs as.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	ServiceAccount string `json:"serviceAccount,omitempty"`

	// The controller that acted, where the name is that of its type.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Controller string `json:"controller,omitempty"`
}

// AuditResource is the resource that something was done to.
type AuditResource struct {
	// Its API version, as platform.chatcli.io/v1alpha1.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	APIVersion string `json:"apiVersion,omitempty"`

	// Its kind, as RemediationPlan.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Kind string `json:"kind"`

	// Its name.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Name string `json:"name,omitempty"`

	// Its namespace, if it has one.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Namespace string `json:"namespace,omitempty"`

	// Its uid.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	UID string `json:"uid,omitempty"`
}

// AuditError is what went wrong.
type AuditError struct {
	// A code that programs know it by.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Code string `json:"code,omitempty"`

	// What people are told. It can be erased from the ledger, as details can.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Message string `json:"message,omitempty"`
}

// AuditSource is who counts the events that it sends.
type AuditSource struct {
	// Its name.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Name string `json:"name,omitempty"`

	// The count that seq is of: a source that lost its count begins another.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Epoch string `json:"epoch,omitempty"`

	// The event's number, from 1 on and without gaps.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Seq int64 `json:"seq,omitempty"`
}

// Timestamp is a time in the form of RFC 3339, as it was written: neither its
// precision nor its offset is lost when an object is read and written again.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:Format=date-time
// +kubebuilder:validation:MaxLength=40
// +kubebuilder:validation:Pattern=`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`
type Timestamp string

// NewTimestamp returns a time in UTC with nine digits of a second, so that all of
// them sort as text.
func NewTimestamp(t time.Time) Timestamp {
	return Timestamp(t.UTC().Format("2006-01-02T15:04:05.000000000Z"))
}

// Time returns the time.
func (t Timestamp) Time() (time.Time, error) { return time.Parse(time.RFC3339Nano, string(t)) }
