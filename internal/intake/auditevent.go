package intake

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

const (
	auditEventVersion = "platform.chatcli.io/v1alpha1"
	correlationLabel  = "platform.chatcli.io/correlation-id"
)

// AuditEvent reads ChatCLI's AuditEvent objects in JSON: one, or a List or
// AuditEventList of them. The spec is an event in the native form whose
// details are strings, which covers the objects that ChatCLI documents and
// those that its code writes.
//
// The id is the spec's own, else it is derived from namespace, name and timestamp:
// an object that was restored from a backup has another uid, and is the same event.
// Labels stand for the spec's own members, of
// which only the correlation id may be missing there; the rest of the metadata
// is Kubernetes' business.
//
// Errors name the item, as in "items[3].spec.actor.name".
func AuditEvent(raw []byte) ([]*event.Event, error) {
	o, err := readObject(raw)
	if err != nil {
		return nil, err
	}
	switch o.kind {
	case "AuditEvent":
		e, err := o.event()
		if err != nil {
			return nil, err
		}
		return []*event.Event{e}, nil
	case "AuditEventList", "List":
		return o.events()
	}
	return nil, &event.FieldError{Field: "kind", Reason: fmt.Sprintf("expected AuditEvent, AuditEventList or List, found %.64q", o.kind)}
}

// An object is a Kubernetes object of which only the envelope is read.
type object struct {
	apiVersion, kind      string
	metadata, spec, items []byte
}

func readObject(raw []byte) (*object, error) {
	var o object
	s := jcs.NewScanner(raw)
	err := s.Members(func(name []byte) (err error) {
		switch string(name) {
		case "apiVersion":
			o.apiVersion, err = s.String()
		case "kind":
			o.kind, err = s.String()
		case "metadata":
			o.metadata, err = s.Skip()
		case "spec":
			o.spec, err = s.Skip()
		case "items":
			o.items, err = s.Skip()
		default:
			err = refuse("no such member of an AuditEvent")
		}
		return err
	})
	if err == nil {
		err = s.End()
	}
	return &o, fieldError(err)
}

func (o *object) events() ([]*event.Event, error) {
	if o.items == nil {
		return nil, &event.FieldError{Field: "items", Reason: "required"}
	}
	var events []*event.Event
	s := jcs.NewScanner(o.items)
	err := s.Array(func(i int) error {
		raw, err := s.Skip()
		if err != nil {
			return err
		}
		path := "items[" + strconv.Itoa(i) + "]"
		item, err := readObject(raw)
		if err != nil {
			return within(path, err)
		}
		if item.apiVersion == "" && item.kind == "" && o.kind != "List" {
			item.apiVersion, item.kind = o.apiVersion, "AuditEvent" // Go programs leave them out in a typed list
		}
		if item.kind != "AuditEvent" {
			return &event.FieldError{Field: path + ".kind", Reason: fmt.Sprintf("expected AuditEvent, found %.64q", item.kind)}
		}
		e, err := item.event()
		if err != nil {
			return within(path, err)
		}
		events = append(events, e)
		return nil
	})
	var j *jcs.Error
	switch {
	case errors.As(err, &j):
		return nil, within("items", fieldError(err))
	case err != nil:
		return nil, err
	}
	return events, nil
}

func (o *object) event() (*event.Event, error) {
	if o.apiVersion != auditEventVersion {
		return nil, &event.FieldError{Field: "apiVersion", Reason: fmt.Sprintf("expected %s, found %.64q", auditEventVersion, o.apiVersion)}
	}
	if o.spec == nil {
		return nil, &event.FieldError{Field: "spec", Reason: "required"}
	}
	m, err := readMetadata(o.metadata)
	if err != nil {
		return nil, within("metadata", err)
	}
	e, err := event.Parse(o.spec)
	if err == nil {
		err = checkSpec(e)
	}
	if err != nil {
		return nil, within("spec", err)
	}
	o.identify(e, m)
	return e, nil
}

// checkSpec reports what the AuditEvent's schema asks for and an event alone
// does not, and what is required of both, so that errors can name the item.
func checkSpec(e *event.Event) error {
	var found event.Invalid
	for _, m := range []struct {
		field string
		there bool
	}{
		{"eventType", e.EventType != ""},
		{"timestamp", !e.Timestamp.IsZero()},
		{"actor.type", e.Actor.Type != ""},
		{"actor.name", e.Actor.Name != ""},
		{"resource.kind", e.Resource.Kind != ""},
	} {
		if !m.there {
			found = append(found, &event.FieldError{Field: m.field, Reason: "required"})
		}
	}
	if len(found) > 0 {
		return found
	}
	if e.Details == nil {
		return nil
	}
	s := jcs.NewScanner(e.Details)
	err := s.Object(func([]byte) error {
		_, err := s.String()
		return err
	})
	return within("details", fieldError(err))
}

type metadata struct {
	name, namespace, correlationID string
}

func readMetadata(raw []byte) (m metadata, err error) {
	if raw == nil {
		return m, nil
	}
	s := jcs.NewScanner(raw)
	text := func(dst *string) error {
		if null, err := s.Null(); null || err != nil {
			return err
		}
		var err error
		*dst, err = s.String()
		return err
	}
	err = s.Object(func(name []byte) error {
		switch string(name) {
		case "name":
			return text(&m.name)
		case "namespace":
			return text(&m.namespace)
		case "labels":
			if null, err := s.Null(); null || err != nil {
				return err
			}
			return s.Object(func(label []byte) error {
				if string(label) == correlationLabel {
					return text(&m.correlationID)
				}
				_, err := s.Skip()
				return err
			})
		}
		_, err := s.Skip()
		return err
	})
	return m, fieldError(err)
}

var objectName = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$`)

// factOf returns the fact that an event of ChatCLI's own code tells, as the recorder
// and capture name it; empty where its words do not say which.
func factOf(e *event.Event) string {
	if e.Resource.UID == "" {
		return ""
	}
	t, ok := event.Lookup(e.EventType)
	if !ok {
		return ""
	}
	var d struct{ Attempts, Type string }
	if len(e.Details) > 0 && json.Unmarshal(e.Details, &d) != nil {
		return ""
	}
	which := ""
	switch t.Type {
	case "IssueCreated", "RemediationSucceeded", "RemediationFailed", "ApprovalRequested", "ApprovalGranted", "ApprovalRejected", "ApprovalExpired":
	case "IssueEscalated", "IssueContained":
		which = d.Attempts
	case "IssueResolved": // ChatCLI says so of a contained Issue, too, at another time
		which = d.Attempts + " " + strconv.FormatInt(e.Timestamp.Unix(), 10)
	case "SLABreach":
		which = d.Type
	case "RemediationExecuted":
		if e.EventType != "remediation_started" {
			return ""
		}
		which = "started"
	default:
		return ""
	}
	return e.Resource.UID + "/" + t.Type + "/" + which
}

// identify gives e what the object's metadata knows of it, and the fact that it tells.
func (o *object) identify(e *event.Event, m metadata) {
	if e.Fact == "" {
		e.Fact = factOf(e)
	}
	if e.CorrelationID == "" {
		e.CorrelationID = m.correlationID
	}
	for name := range e.Original {
		if strings.HasPrefix(name, "metadata.") { // which only metadata itself can say
			delete(e.Original, name)
		}
	}
	if m.namespace != e.Resource.Namespace && m.namespace != "" {
		e.Original = with(e.Original, "metadata.namespace", m.namespace)
	}
	switch {
	case objectName.MatchString(m.name):
		e.Name = m.name
	case m.name != "":
		e.Original = with(e.Original, "metadata.name", m.name)
	}
	if !e.ID.IsZero() {
		return
	}
	parts := []string{"auditevent", m.namespace, m.name, event.FormatTime(e.Timestamp)}
	if m.name == "" {
		spec, err := jcs.Transform(o.spec, event.MaxDetailsDepth+1)
		if err != nil {
			panic("internal error: a spec that was parsed is not canonical: " + err.Error())
		}
		parts = append(parts, string(spec))
	}
	e.ID = event.DeriveID(parts...)
}

// within prefixes the fields that err names. What it says of bytes counts from
// the part's beginning and not the document's, so that goes.
func within(path string, err error) error {
	if err == nil {
		return nil
	}
	under := func(f *event.FieldError) *event.FieldError {
		field := path
		switch {
		case f.Field == "body":
		case f.Field[0] == '[':
			field += f.Field
		default:
			field += "." + f.Field
		}
		reason := f.Reason
		if i := strings.LastIndex(reason, " at byte "); i >= 0 {
			reason = reason[:i]
		}
		return &event.FieldError{Field: field, Reason: reason}
	}
	var all event.Invalid
	var one *event.FieldError
	switch {
	case errors.Is(err, event.ErrReserved):
		return fmt.Errorf("%s.%w", path, err)
	case errors.As(err, &all):
		out := make(event.Invalid, len(all))
		for i, f := range all {
			out[i] = under(f)
		}
		return out
	case errors.As(err, &one):
		return under(one)
	}
	return err
}
