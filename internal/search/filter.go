// Package search holds questions about events: which ones ([Filter]), and
// which part of the answer ([Page]).
package search

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

// A Filter says which events are asked for. Its zero value matches all but
// access events. Lists match any of their elements; an empty one matches all.
type Filter struct {
	Types         []string // catalogue names
	Categories    []string
	Severities    []string
	Outcomes      []string
	Actor         string // actor.name
	CorrelationID string
	Namespace     string
	Kind          string
	Resource      string // resource.name
	Cluster       string
	Text          string    // stands somewhere in the event, in any case
	DetailKey     string    // a member of details
	DetailValue   string    // what that member is, as text
	From          time.Time // inclusive, by timestamp; zero for no bound
	To            time.Time // inclusive
	// Access includes the events that tell of reading the ledger itself.
	// They are also included where Types names one of them.
	Access bool
	// Scope, if not nil, limits the answer to these namespaces, whatever else
	// is asked for.
	Scope []string
}

// A ParamError says which parameter of a question is wrong, and why.
type ParamError struct {
	Param  string
	Reason string
}

func (e *ParamError) Error() string { return e.Param + ": " + e.Reason }

// Params are the names of a filter's parameters, the same on the command line,
// in URLs and in exports.
const (
	paramType        = "type"
	paramCategory    = "category"
	paramSeverity    = "severity"
	paramOutcome     = "outcome"
	paramActor       = "actor"
	paramCorrelation = "correlation_id"
	paramNamespace   = "namespace"
	paramKind        = "kind"
	paramResource    = "resource"
	paramCluster     = "cluster"
	paramText        = "q"
	paramDetailKey   = "detail_key"
	paramDetailValue = "detail_value"
	paramFrom        = "from"
	paramTo          = "to"
	paramAccess      = "access"
)

var params = []string{paramType, paramCategory, paramSeverity, paramOutcome, paramActor, paramCorrelation, paramNamespace, paramKind,
	paramResource, paramCluster, paramText, paramDetailKey, paramDetailValue, paramFrom, paramTo, paramAccess}

// aliases are other spellings of parameters, of the seed documents among them.
var aliases = map[string]string{
	"event_type": paramType, "event_category": paramCategory, "event_outcome": paramOutcome,
	"correlationId": paramCorrelation, "correlationID": paramCorrelation, "correlation-id": paramCorrelation,
	"since": paramFrom, "until": paramTo, "actor_id": paramActor, "cluster_id": paramCluster,
	"resource_type": paramKind, "resource_id": paramResource,
}

// Canonical returns the name under which a parameter is known here.
func Canonical(param string) string {
	if p, ok := aliases[param]; ok {
		return p
	}
	return param
}

// Set sets what a parameter asks for, and reports whether there is such a
// parameter. A value that cannot be read gives a [ParamError].
func (f *Filter) Set(param, value string, now time.Time) (bool, error) {
	bad := func(format string, args ...any) (bool, error) {
		return true, &ParamError{Param: param, Reason: fmt.Sprintf(format, args...)}
	}
	name := Canonical(param)
	switch {
	case !slices.Contains(params, name):
		return false, nil
	case len(value) > event.MaxString:
		return bad("%d bytes, the limit is %d", len(value), event.MaxString)
	case !utf8.ValidString(value) || strings.IndexByte(value, 0) >= 0:
		return bad("not valid UTF-8, or with NUL in it")
	case strings.Trim(value, ", ") == "" && name != paramDetailValue:
		// Somebody's variable was not set, and all events are not what they want.
		return bad("empty")
	}
	var err error
	switch name {
	case paramType:
		for _, t := range split(value) {
			f.Types = append(f.Types, event.CanonicalType(t))
		}
	case paramCategory:
		f.Categories = split(value)
	case paramSeverity:
		if f.Severities, err = terms(value, event.Severity); err != nil {
			return bad("%v: one of critical, high, medium, low, info", err)
		}
	case paramOutcome:
		if f.Outcomes, err = terms(value, event.Outcome); err != nil {
			return bad("%v: one of success, failure, pending, unknown", err)
		}
	case paramActor:
		f.Actor = value
	case paramCorrelation:
		f.CorrelationID = value
	case paramNamespace:
		f.Namespace = value
	case paramKind:
		f.Kind = value
	case paramResource:
		f.Resource = value
	case paramCluster:
		f.Cluster = value
	case paramText:
		f.Text = value
	case paramDetailKey:
		f.DetailKey = value
	case paramDetailValue:
		f.DetailValue = value
	case paramFrom:
		if f.From, err = ParseTime(value, now, false); err != nil {
			return bad("%v", err)
		}
	case paramTo:
		if f.To, err = ParseTime(value, now, true); err != nil {
			return bad("%v", err)
		}
	case paramAccess:
		if f.Access, err = strconv.ParseBool(value); err != nil {
			return bad("%.40q is neither true nor false", value)
		}
	}
	return true, nil
}

// Check holds the filter's parts against each other.
func (f *Filter) Check() error {
	if !f.From.IsZero() && !f.To.IsZero() && f.From.After(f.To) {
		return &ParamError{Param: paramFrom, Reason: event.FormatTime(f.From) + " is after to, " + event.FormatTime(f.To)}
	}
	switch {
	case f.DetailKey == "" && f.DetailValue != "":
		return &ParamError{Param: paramDetailKey, Reason: "missing beside " + paramDetailValue}
	case f.DetailKey != "" && f.DetailValue == "":
		return &ParamError{Param: paramDetailValue, Reason: "missing beside " + paramDetailKey}
	}
	return nil
}

// Params returns the parameters that give this filter; its scope is shown as
// "scope".
func (f *Filter) Params() map[string]string {
	m := map[string]string{
		paramType: strings.Join(f.Types, ","), paramCategory: strings.Join(f.Categories, ","),
		paramSeverity: strings.Join(f.Severities, ","), paramOutcome: strings.Join(f.Outcomes, ","),
		paramActor: f.Actor, paramCorrelation: f.CorrelationID, paramNamespace: f.Namespace, paramKind: f.Kind,
		paramResource: f.Resource, paramCluster: f.Cluster, paramText: f.Text,
		paramDetailKey: f.DetailKey, paramDetailValue: f.DetailValue,
	}
	if !f.From.IsZero() {
		m[paramFrom] = event.FormatTime(f.From)
	}
	if !f.To.IsZero() {
		m[paramTo] = event.FormatTime(f.To)
	}
	if f.Access {
		m[paramAccess] = "true"
	}
	maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
	if f.Scope != nil {
		m["scope"] = strings.Join(f.Scope, ",")
	}
	return m
}

// All reports whether the filter asks for every event, access events aside.
func (f *Filter) All() bool { return len(f.Params()) == 0 || len(f.Params()) == 1 && f.Access }

// WithAccess reports whether access events are asked for.
func (f *Filter) WithAccess() bool {
	return f.Access || slices.ContainsFunc(f.Types, func(name string) bool {
		t, ok := event.Lookup(name)
		return ok && t.Access
	})
}

// Match reports whether e is asked for. It is the meaning of the filter;
// indexes only make finding candidates fast.
func (f *Filter) Match(e *event.Event) bool {
	return in(f.Types, e.EventType) && in(f.Categories, e.Category) && in(f.Severities, e.Severity) && in(f.Outcomes, e.Outcome) &&
		is(f.Actor, e.Actor.Name) && is(f.CorrelationID, e.CorrelationID) && is(f.Namespace, e.Resource.Namespace) &&
		is(f.Kind, e.Resource.Kind) && is(f.Resource, e.Resource.Name) && is(f.Cluster, e.Cluster) &&
		(f.From.IsZero() || !e.Timestamp.Before(f.From)) && (f.To.IsZero() || !e.Timestamp.After(f.To)) &&
		(f.WithAccess() || !isAccess(e)) &&
		(f.Scope == nil || slices.Contains(f.Scope, e.Resource.Namespace)) &&
		f.matchText(e) && f.matchDetail(e)
}

// scans reports whether the filter asks for what no index knows, so that
// candidates must be read to be counted.
func (f *Filter) scans() bool { return f.Text != "" || f.DetailKey != "" }

// matchText looks for the text as it stands and as it is written in JSON.
func (f *Filter) matchText(e *event.Event) bool {
	if f.Text == "" {
		return true
	}
	all, text := strings.ToLower(string(e.AppendJSON(nil))), strings.ToLower(f.Text)
	quoted := string(jcs.AppendString(nil, text))
	return strings.Contains(all, text) || strings.Contains(all, quoted[1:len(quoted)-1])
}

func (f *Filter) matchDetail(e *event.Event) bool {
	if f.DetailKey == "" {
		return true
	}
	var details map[string]json.RawMessage
	if len(e.Details) == 0 || json.Unmarshal(e.Details, &details) != nil {
		return false
	}
	value, ok := details[f.DetailKey]
	if !ok {
		return false
	}
	text := string(value)
	if value[0] == '"' && json.Unmarshal(value, &text) != nil {
		return false
	}
	return text == f.DetailValue
}

func isAccess(e *event.Event) bool {
	t, ok := event.Lookup(e.EventType)
	return ok && t.Access
}

func in(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }

func is(want, s string) bool { return want == "" || want == s }

func split(list string) []string {
	var out []string
	for _, s := range strings.Split(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func terms(list string, term func(string) (string, bool)) ([]string, error) {
	var out []string
	for _, s := range split(list) {
		t, ok := term(s)
		if !ok {
			return nil, fmt.Errorf("%.40q is unknown", s)
		}
		out = append(out, t)
	}
	return out, nil
}

// ParseTime reads a point in time: an RFC 3339 time, a date, or how long ago it
// was, as in 90m, 24h, 7d. A date stands for its beginning or, with end, for
// its last nanosecond, in UTC.
func ParseTime(s string, now time.Time, end bool) (time.Time, error) {
	if d, err := ParseAge(s); err == nil {
		return now.Add(-d).UTC(), nil
	}
	if day, err := time.Parse("2006-01-02", s); err == nil {
		if end {
			day = day.AddDate(0, 0, 1).Add(-1)
		}
		return day, nil
	}
	t, err := event.ParseTime(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.60q is neither a time (2026-03-19T14:30:00Z), a date (2026-03-19) nor an age (24h, 7d)", s)
	}
	return t, nil
}

// ParseAge reads a duration, which may be in days or weeks, as in 90m, 24h, 7d.
func ParseAge(s string) (time.Duration, error) {
	if n := len(s) - 1; n > 0 && (s[n] == 'd' || s[n] == 'w') {
		days, err := strconv.ParseFloat(s[:n], 64)
		if s[n] == 'w' {
			days *= 7
		}
		if err != nil || !(days >= 0 && days < 36500) {
			return 0, fmt.Errorf("not an age: %q", s)
		}
		return time.Duration(days * 24 * float64(time.Hour)), nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("not an age: %q", s)
	}
	return d, err
}
