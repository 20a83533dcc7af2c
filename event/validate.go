package event

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/graven-audit/graven/internal/jcs"
)

// Limits of an event. Sizes are in bytes.
const (
	MaxEntry        = 60 << 10  // the canonical entry
	MaxDetails      = 256 << 10 // details in canonical form
	MaxDetailsDepth = 10        // nesting of objects and arrays, details itself included
	MaxString       = 512       // every string that can be searched for
	MaxMessage      = 16 << 10  // error.message
	MaxOriginal     = 64 << 10  // original in canonical form
	MaxFuture       = time.Hour // how far a timestamp may lie ahead of the server's clock

	maxRetentionDays = 36500
	maxExact         = 1<<53 - 1
)

// Validate holds a complete event against the limits and returns every breach
// as an [Invalid], or nil. It brings Details into canonical form.
func (e *Event) Validate(now time.Time) error {
	var v validator
	v.required("eventType", e.EventType)
	v.word("eventType", e.EventType)
	v.required("actor.type", e.Actor.Type)
	v.required("actor.name", e.Actor.Name)
	v.required("resource.kind", e.Resource.Kind)
	v.time(e.Timestamp, now)
	v.term("actor.type", e.Actor.Type, actorTypes, "system, controller, service, user")
	v.term("outcome", e.Outcome, outcomes, "success, failure, pending, unknown")
	v.term("severity", e.Severity, severities, "critical, high, medium, low, info")
	v.label(e.Name)
	v.text("actor.name", e.Actor.Name, MaxString)
	v.text("actor.serviceAccount", e.Actor.ServiceAccount, MaxString)
	v.text("actor.controller", e.Actor.Controller, MaxString)
	v.text("resource.apiVersion", e.Resource.APIVersion, MaxString)
	v.text("resource.kind", e.Resource.Kind, MaxString)
	v.text("resource.namespace", e.Resource.Namespace, MaxString)
	v.text("resource.name", e.Resource.Name, MaxString)
	v.text("resource.uid", e.Resource.UID, MaxString)
	v.text("category", e.Category, MaxString)
	v.text("action", e.Action, MaxString)
	v.text("correlationID", e.CorrelationID, MaxString)
	v.text("cluster", e.Cluster, MaxString)
	v.text("fact", e.Fact, MaxString)
	v.text("source.name", e.Source.Name, MaxString)
	v.text("source.epoch", e.Source.Epoch, MaxString)
	v.text("error.code", e.Error.Code, MaxString)
	v.text("error.message", e.Error.Message, MaxMessage)
	v.number("durationMs", e.DurationMs, 0, maxExact)
	v.number("source.seq", e.Source.Seq, 0, maxExact)
	v.number("retentionDays", int64(e.RetentionDays), 1, maxRetentionDays)
	v.original(e.Original)
	v.details(e)
	if len(v.found) == 0 {
		return nil
	}
	return v.found
}

// CheckReserved returns an error that wraps [ErrReserved] if e is of a type,
// or bears a member, that only the ledger itself may record. A type that could
// be taken for a reserved one counts as that.
func (e *Event) CheckReserved() error {
	name := e.EventType
	if t := lookup(name); t == nil || t.Reserved {
		if reservedType, ok := loadCatalogue().reserved[folded(name)]; ok {
			return &reserved{FieldError{Field: "eventType", Reason: reservedType + " is " + ErrReserved.Error()}}
		}
	}
	if len(e.Ledger) > 0 {
		return &reserved{FieldError{Field: "ledger", Reason: ErrReserved.Error()}}
	}
	return nil
}

type validator struct {
	found Invalid
}

func (v *validator) fail(field, reason string, args ...any) {
	v.found = append(v.found, &FieldError{Field: field, Reason: fmt.Sprintf(reason, args...)})
}

func (v *validator) required(field, s string) {
	if s == "" {
		v.fail(field, "required")
	}
}

func (v *validator) text(field, s string, limit int) {
	switch {
	case len(s) > limit:
		v.fail(field, "%d bytes, the limit is %d", len(s), limit)
	case jcs.Plain(s):
	case !utf8.ValidString(s):
		v.fail(field, "not valid UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		v.fail(field, "NUL in a string")
	}
}

// word holds event types to characters that need no quoting anywhere.
func (v *validator) word(field, s string) {
	if len(s) > MaxString {
		v.fail(field, "%d bytes, the limit is %d", len(s), MaxString)
		return
	}
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-/:", c) >= 0 {
			continue
		}
		v.fail(field, "may hold letters, digits and . _ - / : only")
		return
	}
}

// label holds names to what Kubernetes accepts as an object's name.
func (v *validator) label(s string) {
	if len(s) > 253 {
		v.fail("name", "%d bytes, the limit is 253", len(s))
		return
	}
	for i := range len(s) {
		c := s[i]
		edge := i == 0 || i == len(s)-1
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || !edge && (c == '-' || c == '.') {
			continue
		}
		v.fail("name", "may hold lower-case letters, digits, - and . only, and begin and end with a letter or digit")
		return
	}
}

func (v *validator) term(field, s string, terms map[string]string, list string) {
	if s != "" && terms[s] != s {
		v.fail(field, "%.64q is none of %s", s, list)
	}
}

func (v *validator) number(field string, n, low, high int64) {
	if n < low || n > high {
		v.fail(field, "%d is not within %d and %d", n, low, high)
	}
}

func (v *validator) time(t, now time.Time) {
	switch {
	case t.IsZero():
		v.fail("timestamp", "required")
	case t.Before(time.Unix(0, 0)):
		v.fail("timestamp", "%s lies before 1970", FormatTime(t))
	case t.After(now.Add(MaxFuture)):
		v.fail("timestamp", "%s lies more than %.0f minutes ahead of the server's clock", FormatTime(t), MaxFuture.Minutes())
	}
}

func (v *validator) original(m map[string]string) {
	if len(m) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		v.text("original", name, MaxString)
		v.text("original."+name, m[name], MaxOriginal)
	}
	if n := len(appendStrings(nil, m)); n > MaxOriginal {
		v.fail("original", "%d bytes, the limit is %d", n, MaxOriginal)
	}
}

func (v *validator) details(e *Event) {
	var required []string
	if t := lookup(e.EventType); t != nil {
		required = t.Required
	}
	if len(required) == 0 && e.detailsCanonical() {
		return
	}
	var have uint64 // a bit for each of required
	mark := func(name []byte) {
		for i := range required {
			if required[i] == string(name) {
				have |= 1 << i
			}
		}
	}
	if len(e.Details) > len("{}") && len(e.Details) <= MaxDetails && jcs.CanonicalObject(e.Details, MaxDetailsDepth, mark) {
		e.canonical = e.Details
	} else if err := v.canonicalize(e, mark); err != nil {
		v.found = append(v.found, err)
		return
	}
	for i, name := range required {
		if have&(1<<i) == 0 {
			v.fail("details."+name, "required for %s", e.EventType)
		}
	}
}

// canonicalize brings Details into canonical form and calls mark for the names
// of its members.
func (v *validator) canonicalize(e *Event, mark func(name []byte)) *FieldError {
	if !e.detailsCanonical() {
		if err := e.SetDetails(e.Details); err != nil {
			var f *FieldError
			if !errors.As(err, &f) {
				f = &FieldError{Field: "details", Reason: err.Error()}
			}
			return f
		}
	}
	s := jcs.NewScanner(e.details())
	err := s.Object(func(name []byte) error {
		mark(name)
		_, err := s.Skip()
		return err
	})
	if err != nil {
		panic("internal error: canonical details do not parse: " + err.Error())
	}
	return nil
}

// detailsCanonical reports whether Details is the very memory that this
// package made canonical.
func (e *Event) detailsCanonical() bool {
	return len(e.Details) == 0 ||
		len(e.canonical) == len(e.Details) && &e.canonical[0] == &e.Details[0]
}
