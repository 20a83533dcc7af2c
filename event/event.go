package event

import (
	"encoding/json"
	"time"
)

// An Event is one thing that happened.
//
// Callers must set EventType, Timestamp, Actor.Type, Actor.Name and
// Resource.Kind; [Event.Complete] gives the rest its defaults. Recorded and
// Ledger belong to the server that records the event.
type Event struct {
	// ID is minted by the producer and is the idempotency key, for ever:
	// the same id with the same content is recorded once.
	ID ID
	// Name is a label of the form audit-{unix seconds}-{6 of [a-z0-9]},
	// derived from ID. It is never a key.
	Name string
	// EventType is a type of the catalogue, or any other name.
	EventType string
	// Timestamp is when it happened, in UTC, as given, to the nanosecond.
	// The order of events is that of the ledger, never that of timestamps.
	Timestamp time.Time
	Actor     Actor
	Resource  Resource
	Category  string
	Action    string
	Outcome   string // one of the Outcome constants
	Severity  string // one of the Severity constants
	// CorrelationID names the incident; all events that share it belong together.
	CorrelationID string
	// ParentID is the id of the event that caused this one.
	ParentID ID
	Cluster  string
	// Fact names the thing that happened independently of who told it, so
	// that several tellings of one fact can be counted once.
	Fact string
	// Details is the event's own content: a JSON object, or nil for none.
	// Events made by this package hold it in canonical form (RFC 8785).
	Details    json.RawMessage
	DurationMs int64
	Error      Failure
	// RetentionDays is how long the event must be kept, counted from its
	// recording; 0 means [DefaultRetentionDays].
	RetentionDays int
	Sensitive     bool
	Source        Source
	// Original holds the caller's own words where the event uses others:
	// spellings that were aliases, and members of foreign forms that have no
	// place of their own. The key is the member's name.
	Original map[string]string
	Recorded Recorded
	// Ledger holds facts that verification believes, such as keys. Only the
	// ledger itself writes it.
	Ledger json.RawMessage

	canonical []byte // Details as this package made it canonical
}

// An Actor is who performed the act, as the event says. Who was
// authenticated when it was recorded stands in [Recorded].
type Actor struct {
	Type           string // one of the Actor constants
	Name           string
	ServiceAccount string
	Controller     string
}

// A Resource is what the act was done to.
type Resource struct {
	APIVersion string
	Kind       string
	Namespace  string
	Name       string
	UID        string
}

// A Failure is the error that an act ended in.
type Failure struct {
	Code    string
	Message string // erasable, like details
}

// A Source is the producer of events and its own count of them: a missing
// number proves a lost event.
type Source struct {
	Name string
	// Epoch names the count that Seq belongs to, which goes from 1 on without a
	// gap: a source that lost its count begins another. Empty where the count is
	// of no epoch, and may have begun anywhere.
	Epoch string
	Seq   int64
}

// Recorded says how the event came into the ledger. Only the server sets it.
type Recorded struct {
	At          time.Time
	Principal   string // who was authenticated
	Via         string // how: token, tokenreview, internal, anonymous
	Attribution string // one of the Attribution constants
	// Uncatalogued is set when EventType was in no catalogue.
	Uncatalogued bool
}

// Severities, highest first.
const (
	SeverityCritical = "critical"
	SeverityHigh     = "high"
	SeverityMedium   = "medium"
	SeverityLow      = "low"
	SeverityInfo     = "info"
)

// Types of the catalogue that recorders tell of themselves with.
const (
	TypeHeartbeat = "RecorderHeartbeat"
	TypeStopped   = "RecorderStopped"
	TypeRetried   = "QuarantineRetried"
	TypeDropped   = "QuarantineDropped"
	TypeRepeated  = "RecorderRepeated"
)

// Types of actors.
const (
	ActorSystem     = "system"
	ActorController = "controller"
	ActorService    = "service"
	ActorUser       = "user"
)

// Outcomes.
const (
	OutcomeSuccess = "success"
	OutcomeFailure = "failure"
	OutcomePending = "pending"
	OutcomeUnknown = "unknown"
)

// Attributions say what an event's actor rests on.
const (
	// AttributionAdmission: the identity comes from the Kubernetes API
	// server, sent by a principal that may attest it.
	AttributionAdmission = "admission"
	// AttributionAuthenticated: the actor is the authenticated principal.
	AttributionAuthenticated = "authenticated"
	// AttributionObserved: inferred from watching a resource.
	AttributionObserved = "observed"
	// AttributionAsserted: a caller says so.
	AttributionAsserted = "asserted"
)

// DefaultRetentionDays is seven years.
const DefaultRetentionDays = 2555

// Clone returns a copy that shares no memory that either side may change.
// Details and Ledger are shared: they are never changed in place.
func (e *Event) Clone() *Event {
	c := *e
	if e.Original != nil {
		c.Original = make(map[string]string, len(e.Original))
		for k, v := range e.Original {
			c.Original[k] = v
		}
	}
	return &c
}

// MarshalJSON returns the native form.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// UnmarshalJSON reads the native form as [ParseServed] does, so that what a
// server sends can be read back.
func (e *Event) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	p, err := ParseServed(data)
	if err != nil {
		return err
	}
	*e = *p
	return nil
}
