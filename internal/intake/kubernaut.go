package intake

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

// flatVersion is the version of the flat form that is meant where none is given.
const flatVersion = "1.0"

// Kubernaut reads one event in Kubernaut's flat form: the AuditEventRequest
// that its services send, and the AuditEvent that its query API returns. Of
// the members that a server sets, event_id becomes the id; the hashes, holds
// and event_date speak of another ledger and are passed over.
//
// As in Kubernaut itself a duration of 0, an empty string and null stand for
// no value. Missing members are reported together, as [event.Invalid].
func Kubernaut(raw []byte) (*event.Event, error) {
	r := flatReader{s: jcs.NewScanner(raw)}
	err := r.s.Object(r.member)
	if err == nil {
		err = r.s.End()
	}
	if err != nil {
		return nil, fieldError(err)
	}
	r.missing()
	r.defaults()
	if len(r.found) > 0 {
		return nil, r.found
	}
	return &r.e, nil
}

// A flatReader reads the members of the flat form.
type flatReader struct {
	s       *jcs.Scanner
	e       event.Event
	version string
	data    bool // event_data is there
	seen    uint64
	found   event.Invalid
}

func (r *flatReader) member(name []byte) error {
	e := &r.e
	switch string(name) {
	case "version", "event_version":
		return r.once(0, r.text(&r.version))
	case "event_id":
		return r.once(1, r.id(&e.ID))
	case "event_type":
		return r.once(2, r.text(&e.EventType))
	case "event_timestamp":
		return r.once(3, r.time)
	case "event_category":
		return r.once(4, r.text(&e.Category))
	case "event_action":
		return r.once(5, r.text(&e.Action))
	case "event_outcome":
		return r.once(6, r.text(&e.Outcome))
	case "actor_type":
		return r.once(7, r.text(&e.Actor.Type))
	case "actor_id":
		return r.once(8, r.text(&e.Actor.Name))
	case "resource_type":
		return r.once(9, r.text(&e.Resource.Kind))
	case "resource_id":
		return r.once(10, r.text(&e.Resource.Name))
	case "namespace":
		return r.once(11, r.text(&e.Resource.Namespace))
	case "cluster_id", "cluster_name":
		return r.once(12, r.text(&e.Cluster))
	case "correlation_id":
		return r.once(13, r.text(&e.CorrelationID))
	case "parent_event_id":
		return r.once(14, r.id(&e.ParentID))
	case "event_data":
		return r.once(15, r.details)
	case "severity":
		return r.once(16, r.text(&e.Severity))
	case "duration_ms":
		return r.once(17, r.number(&e.DurationMs))
	case "error_code":
		return r.once(18, r.text(&e.Error.Code))
	case "error_message":
		return r.once(19, r.text(&e.Error.Message))
	case "retention_days":
		return r.once(20, r.days)
	case "is_sensitive":
		return r.once(21, r.flag(&e.Sensitive))
	case "actor_ip":
		return r.once(22, r.stray("actor_ip"))
	case "resource_name":
		return r.once(23, r.stray("resource_name"))
	case "trace_id":
		return r.once(24, r.stray("trace_id"))
	case "span_id":
		return r.once(25, r.stray("span_id"))
	case "parent_event_date":
		return r.once(26, r.date)
	case "event_metadata":
		return r.once(27, r.metadata)
	case "event_hash", "previous_event_hash", "hash_algorithm", "event_date",
		"legal_hold", "legal_hold_reason", "legal_hold_placed_by", "legal_hold_placed_at", "legal_hold_set_by", "legal_hold_set_at":
		_, err := r.s.Skip()
		return err
	}
	return refuse("no such member of an event in Kubernaut's form")
}

// missing notes what Kubernaut's specification requires and the event lacks.
func (r *flatReader) missing() {
	e := &r.e
	for _, m := range []struct {
		field string
		there bool
	}{
		{"version", r.version != ""},
		{"event_type", e.EventType != ""},
		{"event_timestamp", !e.Timestamp.IsZero()},
		{"event_category", e.Category != ""},
		{"event_action", e.Action != ""},
		{"event_outcome", e.Outcome != ""},
		{"correlation_id", e.CorrelationID != ""},
		{"event_data", r.data},
	} {
		if !m.there {
			r.found = append(r.found, &event.FieldError{Field: m.field, Reason: "required"})
		}
	}
}

// defaults fills in what Kubernaut's server does.
func (r *flatReader) defaults() {
	e := &r.e
	for _, d := range []struct {
		field *string
		value string
	}{
		{&e.Actor.Type, event.ActorService},
		{&e.Actor.Name, e.Category},
		{&e.Resource.Kind, e.Category},
		{&e.Resource.Name, e.CorrelationID},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if r.version != flatVersion {
		r.keep("version", r.version)
	}
}

func (r *flatReader) once(bit int, read func() error) error {
	if r.seen&(1<<bit) != 0 {
		return refuse("stands twice")
	}
	r.seen |= 1 << bit
	if null, err := r.s.Null(); null || err != nil {
		return err
	}
	return read()
}

func (r *flatReader) text(dst *string) func() error {
	return func() (err error) {
		*dst, err = r.s.String()
		return err
	}
}

func (r *flatReader) number(dst *int64) func() error {
	return func() (err error) {
		*dst, err = r.s.Int()
		return err
	}
}

func (r *flatReader) flag(dst *bool) func() error {
	return func() (err error) {
		*dst, err = r.s.Bool()
		return err
	}
}

func (r *flatReader) id(dst *event.ID) func() error {
	return func() error {
		text, err := r.s.String()
		if err != nil || text == "" {
			return err
		}
		if *dst, err = event.ParseID(text); err != nil {
			return refuse(err.Error())
		}
		return nil
	}
}

func (r *flatReader) time() error {
	text, err := r.s.String()
	if err != nil || text == "" {
		return err
	}
	if r.e.Timestamp, err = event.ParseTime(text); err != nil {
		return refuse(err.Error())
	}
	return nil
}

// days refuses what would otherwise stand for the default.
func (r *flatReader) days() error {
	n, err := r.s.Int()
	if err != nil {
		return err
	}
	if n < 1 {
		return refuse("must be at least 1 day")
	}
	r.e.RetentionDays = int(min(n, math.MaxInt32))
	return nil
}

func (r *flatReader) details() error {
	if r.s.Kind() != '{' {
		return r.s.Object(nil) // says what stands there instead
	}
	canonical, err := r.s.Canonical(nil, event.MaxDetailsDepth)
	if err != nil {
		return err
	}
	if len(canonical) > event.MaxDetails {
		return refuse(fmt.Sprintf("%d bytes, the limit is %d", len(canonical), event.MaxDetails))
	}
	r.data = true
	return r.e.SetDetails(json.RawMessage(canonical))
}

// stray reads a member that an event has no place for.
func (r *flatReader) stray(name string) func() error {
	return func() error {
		text, err := r.s.String()
		if err == nil && text != "" {
			r.keep(name, text)
		}
		return err
	}
}

func (r *flatReader) date() error {
	text, err := r.s.String()
	if err != nil || text == "" {
		return err
	}
	if !isDate(text) {
		return refuse("not a date such as 2026-03-19")
	}
	r.keep("parent_event_date", text)
	return nil
}

// isDate accepts a time, too, which Go programs write for a date.
func isDate(s string) bool {
	if _, err := time.Parse(time.DateOnly, s); err == nil {
		return true
	}
	_, err := event.ParseTime(s)
	return err == nil
}

func (r *flatReader) metadata() error {
	if r.s.Kind() != '{' {
		return r.s.Object(nil)
	}
	canonical, err := r.s.Canonical(nil, event.MaxDetailsDepth)
	if err == nil {
		r.e.Original = with(r.e.Original, "event_metadata", string(canonical))
	}
	return err
}

// keep puts a member into Original. Kubernaut's own columns are narrower than
// the limit here.
func (r *flatReader) keep(name, text string) {
	if len(text) > event.MaxString {
		r.found = append(r.found, &event.FieldError{Field: name, Reason: fmt.Sprintf("%d bytes, the limit is %d", len(text), event.MaxString)})
		return
	}
	r.e.Original = with(r.e.Original, name, text)
}

func with(m map[string]string, name, text string) map[string]string {
	if m == nil {
		m = make(map[string]string, 2)
	}
	m[name] = text
	return m
}

// FlatField returns the name that a field of an event, as [event.Event.Validate]
// reports it, has in Kubernaut's form.
func FlatField(native string) string {
	if name, ok := strings.CutPrefix(native, "original."); ok {
		return name
	}
	for _, f := range []struct{ native, flat string }{
		{"id", "event_id"},
		{"eventType", "event_type"},
		{"timestamp", "event_timestamp"},
		{"category", "event_category"},
		{"action", "event_action"},
		{"outcome", "event_outcome"},
		{"actor.type", "actor_type"},
		{"actor.name", "actor_id"},
		{"resource.kind", "resource_type"},
		{"resource.name", "resource_id"},
		{"resource.namespace", "namespace"},
		{"cluster", "cluster_id"},
		{"correlationID", "correlation_id"},
		{"parentID", "parent_event_id"},
		{"durationMs", "duration_ms"},
		{"error.code", "error_code"},
		{"error.message", "error_message"},
		{"retentionDays", "retention_days"},
		{"sensitive", "is_sensitive"},
		{"original", "event_metadata"}, // the only one of them that can be large
		{"details", "event_data"},
	} {
		rest, ok := strings.CutPrefix(native, f.native)
		if ok && (rest == "" || f.native == "details" && (rest[0] == '.' || rest[0] == '[')) {
			return f.flat + rest
		}
	}
	return native
}
