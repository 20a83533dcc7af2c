package retention

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/graven-audit/graven/event"
)

// A Scope says which events a hold keeps: those of which all that it names is
// true, recorded before the hold or after it. Its members are called as the
// parameters of a search are.
type Scope struct {
	// Event is one event, by its id or its index.
	Event         string `json:"event,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	Actor         string `json:"actor,omitempty"` // actor.name
	Kind          string `json:"kind,omitempty"`  // resource.kind
	Namespace     string `json:"namespace,omitempty"`
	Resource      string `json:"resource,omitempty"` // resource.name
	// From and To bound the event's timestamp, both inclusive.
	From *time.Time `json:"from,omitempty"`
	To   *time.Time `json:"to,omitempty"`
	// Match is a condition in CEL over the event.
	Match string `json:"match,omitempty"`
	// Namespaces, if not nil, are the only ones: those of whoever placed it.
	Namespaces []string `json:"namespaces,omitempty"`
}

// Check tells what is wrong with a scope, by its members.
func (s *Scope) Check() error {
	var found event.Invalid
	fail := func(field, reason string, args ...any) {
		found = append(found, &event.FieldError{Field: field, Reason: fmt.Sprintf(reason, args...)})
	}
	for _, m := range []struct{ field, value string }{
		{"event", s.Event}, {"correlation_id", s.CorrelationID}, {"actor", s.Actor}, {"kind", s.Kind},
		{"namespace", s.Namespace}, {"resource", s.Resource},
	} {
		if reason := badText(m.value, event.MaxString); reason != "" {
			fail(m.field, "%s", reason)
		}
	}
	if s.Event != "" {
		index, err := strconv.ParseUint(s.Event, 10, 63)
		if _, notID := event.ParseID(s.Event); notID != nil && (err != nil || strconv.FormatUint(index, 10) != s.Event) {
			fail("event", "neither an id nor an index")
		}
	}
	if s.From != nil && s.To != nil && s.From.After(*s.To) {
		fail("from", "%s is after to, %s", event.FormatTime(*s.From), event.FormatTime(*s.To))
	}
	if s.Match != "" {
		if _, err := Compile(s.Match); err != nil {
			fail("match", "%v", err)
		}
	}
	if s.Namespaces != nil && len(s.Namespaces) == 0 {
		fail("namespaces", "none: nothing could be held")
	}
	if len(found) > 0 {
		return found
	}
	if s.empty() {
		return event.Invalid{{Field: "correlation_id", Reason: "required, or another of event, actor, kind, namespace, resource, from, to, match"}}
	}
	return nil
}

// empty reports whether the scope names nothing.
func (s *Scope) empty() bool {
	return s.Event == "" && s.CorrelationID == "" && s.Actor == "" && s.Kind == "" && s.Namespace == "" && s.Resource == "" &&
		s.From == nil && s.To == nil && s.Match == ""
}

func badText(s string, limit int) string {
	switch {
	case len(s) > limit:
		return fmt.Sprintf("%d bytes, the limit is %d", len(s), limit)
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		return "not valid UTF-8, or with NUL in it"
	}
	return ""
}

// Equal reports whether two scopes say the same.
func (s *Scope) Equal(o *Scope) bool { return s.String() == o.String() }

// String returns the scope as JSON.
func (s *Scope) String() string {
	text, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Of reports whether the scope names a correlation id, and nothing else.
func (s *Scope) Of(correlationID string) bool {
	only := Scope{CorrelationID: s.CorrelationID, Namespaces: s.Namespaces}
	return s.CorrelationID == correlationID && s.Equal(&only)
}

// Within reports whether the scope is limited to some of the namespaces; nil
// stands for all.
func (s *Scope) Within(namespaces []string) bool {
	if namespaces == nil {
		return true
	}
	return s.Namespaces != nil && !slices.ContainsFunc(s.Namespaces, func(ns string) bool { return !slices.Contains(namespaces, ns) })
}

// A Matcher finds out which events a scope names. It may be used concurrently.
type Matcher struct {
	scope   Scope
	unread  error // why the scope is not known
	compile func() (*Expression, error)
}

// Matcher returns a matcher of the scope. It takes an expression that cannot be
// compiled, too, and cannot tell then.
func (s *Scope) Matcher() *Matcher {
	m := &Matcher{scope: *s}
	m.compile = sync.OnceValues(func() (*Expression, error) { return Compile(m.scope.Match) })
	return m
}

// Match reports whether the scope names the subject. Where that cannot be told,
// unsure says why.
func (m *Matcher) Match(s *Subject) (is bool, unsure error) {
	if m.unread != nil {
		return false, m.unread
	}
	e, c := s.Event, &m.scope
	is = names(c.CorrelationID, e.CorrelationID) && names(c.Actor, e.Actor.Name) && names(c.Kind, e.Resource.Kind) &&
		names(c.Namespace, e.Resource.Namespace) && names(c.Resource, e.Resource.Name) &&
		(c.From == nil || !e.Timestamp.Before(*c.From)) && (c.To == nil || !e.Timestamp.After(*c.To)) &&
		(c.Namespaces == nil || slices.Contains(c.Namespaces, e.Resource.Namespace)) &&
		(c.Event == "" || c.Event == strconv.FormatInt(s.Index, 10) || strings.EqualFold(c.Event, e.ID.String()))
	if !is || c.Match == "" {
		return is, nil
	}
	x, err := m.compile()
	if err != nil {
		return false, err
	}
	return x.Match(s)
}

func names(want, s string) bool { return want == "" || want == s }
