package event_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
)

func text(n int) string { return strings.Repeat("x", n) }

func TestLimitsHoldAtTheirEdges(t *testing.T) {
	long := func(set func(e *event.Event, s string), limit int) (at, past func(*event.Event)) {
		return func(e *event.Event) { set(e, text(limit)) }, func(e *event.Event) { set(e, text(limit+1)) }
	}
	type edge struct {
		field    string
		at, past func(*event.Event)
		want     string
	}
	var edges []edge
	for _, s := range []struct {
		field string
		limit int
		set   func(e *event.Event, s string)
	}{
		{"eventType", event.MaxString, func(e *event.Event, s string) { e.EventType = s }},
		{"name", 253, func(e *event.Event, s string) { e.Name = s }},
		{"actor.name", event.MaxString, func(e *event.Event, s string) { e.Actor.Name = s }},
		{"actor.serviceAccount", event.MaxString, func(e *event.Event, s string) { e.Actor.ServiceAccount = s }},
		{"actor.controller", event.MaxString, func(e *event.Event, s string) { e.Actor.Controller = s }},
		{"resource.apiVersion", event.MaxString, func(e *event.Event, s string) { e.Resource.APIVersion = s }},
		{"resource.kind", event.MaxString, func(e *event.Event, s string) { e.Resource.Kind = s }},
		{"resource.namespace", event.MaxString, func(e *event.Event, s string) { e.Resource.Namespace = s }},
		{"resource.name", event.MaxString, func(e *event.Event, s string) { e.Resource.Name = s }},
		{"resource.uid", event.MaxString, func(e *event.Event, s string) { e.Resource.UID = s }},
		{"category", event.MaxString, func(e *event.Event, s string) { e.Category = s }},
		{"action", event.MaxString, func(e *event.Event, s string) { e.Action = s }},
		{"correlationID", event.MaxString, func(e *event.Event, s string) { e.CorrelationID = s }},
		{"cluster", event.MaxString, func(e *event.Event, s string) { e.Cluster = s }},
		{"fact", event.MaxString, func(e *event.Event, s string) { e.Fact = s }},
		{"source.name", event.MaxString, func(e *event.Event, s string) { e.Source.Name = s }},
		{"error.code", event.MaxString, func(e *event.Event, s string) { e.Error.Code = s }},
		{"error.message", event.MaxMessage, func(e *event.Event, s string) { e.Error.Message = s }},
		{"original", event.MaxString, func(e *event.Event, s string) { e.Original = map[string]string{s: ""} }},
		{"original", event.MaxOriginal - len(`{"a":"","b":"c"}`), func(e *event.Event, s string) { e.Original = map[string]string{"a": s, "b": "c"} }},
		{"details", event.MaxDetails - len(`{"a":""}`), func(e *event.Event, s string) { e.Details = json.RawMessage(`{"a":"` + s + `"}`) }},
	} {
		at, past := long(s.set, s.limit)
		edges = append(edges, edge{s.field, at, past, "the limit is"})
	}
	depth := func(n int) func(*event.Event) {
		return func(e *event.Event) {
			e.Details = json.RawMessage(strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n))
		}
	}
	edges = append(edges,
		edge{"details" + strings.Repeat(".a", 10), depth(10), depth(11), "nested too deeply"},
		edge{"timestamp", func(e *event.Event) { e.Timestamp = now.Add(time.Hour) }, func(e *event.Event) { e.Timestamp = now.Add(time.Hour + 1) }, "more than 60 minutes ahead of the server's clock"},
		edge{"timestamp", func(e *event.Event) { e.Timestamp = time.Unix(0, 0) }, func(e *event.Event) { e.Timestamp = time.Unix(0, -1) }, "lies before 1970"},
		edge{"durationMs", func(e *event.Event) { e.DurationMs = 0 }, func(e *event.Event) { e.DurationMs = -1 }, "-1 is not within 0 and 9007199254740991"},
		edge{"durationMs", func(e *event.Event) { e.DurationMs = 1<<53 - 1 }, func(e *event.Event) { e.DurationMs = 1 << 53 }, "is not within"},
		edge{"source.seq", func(e *event.Event) { e.Source.Seq = 0 }, func(e *event.Event) { e.Source.Seq = -1 }, "is not within"},
		edge{"source.seq", func(e *event.Event) { e.Source.Seq = 1<<53 - 1 }, func(e *event.Event) { e.Source.Seq = 1 << 53 }, "is not within"},
		edge{"retentionDays", func(e *event.Event) { e.RetentionDays = 1 }, func(e *event.Event) { e.RetentionDays = 0 }, "is not within 1 and 36500"},
		edge{"retentionDays", func(e *event.Event) { e.RetentionDays = 36500 }, func(e *event.Event) { e.RetentionDays = 36501 }, "is not within"},
	)
	for _, tt := range edges {
		t.Run(tt.field+": "+tt.want, func(t *testing.T) {
			e := complete(t, full)
			tt.at(e)
			if err := e.Validate(now); err != nil {
				t.Errorf("at the edge: %v", err)
			}
			e = complete(t, full)
			tt.past(e)
			var found event.Invalid
			if !errors.As(e.Validate(now), &found) || len(found) != 1 {
				t.Fatalf("past the edge: %v", found)
			}
			fails(t, found[0], tt.field, tt.want)
		})
	}
}

func TestFaultsAreFoundByField(t *testing.T) {
	for _, tt := range []struct {
		name   string
		break_ func(e *event.Event)
		field  string
		want   string
	}{
		{"no event type", func(e *event.Event) { e.EventType = "" }, "eventType", "required"},
		{"no actor type", func(e *event.Event) { e.Actor.Type = "" }, "actor.type", "required"},
		{"no actor", func(e *event.Event) { e.Actor.Name = "" }, "actor.name", "required"},
		{"no kind", func(e *event.Event) { e.Resource.Kind = "" }, "resource.kind", "required"},
		{"no time", func(e *event.Event) { e.Timestamp = time.Time{} }, "timestamp", "required"},
		{"a year far ahead", func(e *event.Event) { e.Timestamp = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }, "timestamp", "9999-01-01T00:00:00Z lies more than 60 minutes ahead"},
		{"a space in the event type", func(e *event.Event) { e.EventType = "a b" }, "eventType", "may hold letters, digits"},
		{"a letter that is not ASCII in the event type", func(e *event.Event) { e.EventType = "é" }, "eventType", "may hold letters, digits"},
		{"an alias that was not replaced", func(e *event.Event) { e.Severity = "warning" }, "severity", `"warning" is none of critical, high, medium, low, info`},
		{"an unknown severity", func(e *event.Event) { e.Severity = "loud" }, "severity", `"loud" is none of`},
		{"an unknown outcome", func(e *event.Event) { e.Outcome = "maybe" }, "outcome", `"maybe" is none of success, failure, pending, unknown`},
		{"an unknown actor type", func(e *event.Event) { e.Actor.Type = "robot" }, "actor.type", `"robot" is none of system, controller, service, user`},
		{"a capital in the name", func(e *event.Event) { e.Name = "Audit" }, "name", "may hold lower-case letters"},
		{"a hyphen at the end of the name", func(e *event.Event) { e.Name = "audit-" }, "name", "begin and end with a letter or digit"},
		{"a dot at its front", func(e *event.Event) { e.Name = ".audit" }, "name", "begin and end with a letter or digit"},
		{"bad UTF-8", func(e *event.Event) { e.Cluster = "\xff" }, "cluster", "not valid UTF-8"},
		{"NUL", func(e *event.Event) { e.Fact = "a\x00" }, "fact", "NUL in a string"},
		{"bad UTF-8 in a message", func(e *event.Event) { e.Error.Message = "\xff" }, "error.message", "not valid UTF-8"},
		{"NUL in an original", func(e *event.Event) { e.Original = map[string]string{"a": "\x00"} }, "original.a", "NUL in a string"},
		{"bad UTF-8 in the name of an original", func(e *event.Event) { e.Original = map[string]string{"\xff": ""} }, "original", "not valid UTF-8"},
		{"details that are no object", func(e *event.Event) { e.Details = json.RawMessage("[]") }, "details", "expected an object, found an array"},
		{"details that are no JSON", func(e *event.Event) { e.Details = json.RawMessage("{") }, "details", "expected a member name"},
		{"a type that lacks what it must say", func(e *event.Event) {
			e.EventType, e.Details = "LegalHoldPlaced", json.RawMessage(`{"hold":"h","scope":{}}`)
		}, "details.reason", "required for LegalHoldPlaced"},
		{"a type that lacks everything", func(e *event.Event) { e.EventType, e.Details = "LedgerStarted", nil }, "details.size", "required for LedgerStarted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := complete(t, full)
			tt.break_(e)
			var found event.Invalid
			if !errors.As(e.Validate(now), &found) || len(found) != 1 {
				t.Fatalf("found %v", found)
			}
			fails(t, found[0], tt.field, tt.want)
		})
	}
}

func TestAllFaultsAreReportedTogether(t *testing.T) {
	e := complete(t, minimal)
	e.EventType, e.Severity, e.Original = "", "loud", map[string]string{"b": "\x00", "a": "\x00"}
	const want = `eventType: required; severity: "loud" is none of critical, high, medium, low, info; original.a: NUL in a string; original.b: NUL in a string`
	if err := e.Validate(now); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestValidateBringsDetailsIntoCanonicalForm(t *testing.T) {
	e := complete(t, minimal)
	e.Details = json.RawMessage(` {"b":1.0, "a":[ ]} `)
	if err := e.Validate(now); err != nil {
		t.Fatal(err)
	}
	if string(e.Details) != `{"a":[],"b":1}` {
		t.Errorf("got %s", e.Details)
	}
	e.Details = json.RawMessage(`{}`)
	if err := e.Validate(now); err != nil || e.Details != nil {
		t.Errorf("empty details stay as %s (%v)", e.Details, err)
	}
}

// The limits of single fields must keep every valid event within the limit of
// an entry, which nothing else enforces.
func TestTheLargestValidEventHasAnEntryWithinTheLimit(t *testing.T) {
	worst := strings.Repeat("\x01", event.MaxString) // six bytes each in JSON
	e := complete(t, full)
	e.EventType, e.Name = text(event.MaxString), text(253)
	e.Actor = event.Actor{Type: event.ActorController, Name: worst, ServiceAccount: worst, Controller: worst}
	e.Resource = event.Resource{APIVersion: worst, Kind: worst, Namespace: worst, Name: worst, UID: worst}
	e.Category, e.Action, e.CorrelationID, e.Cluster, e.Fact = worst, worst, worst, worst, worst
	e.Error, e.Source = event.Failure{Code: worst, Message: text(event.MaxMessage)}, event.Source{Name: worst, Seq: 1<<53 - 1}
	e.DurationMs, e.RetentionDays = 1<<53-1, 36500
	if err := e.Validate(now); err != nil {
		t.Fatal(err)
	}
	e.Recorded = event.Recorded{At: now.Add(1), Principal: worst, Via: "tokenreview", Attribution: event.AttributionAuthenticated, Uncatalogued: true}
	if n := len(e.AppendEntry(nil, e.Digests(event.Salt{}))); n > event.MaxEntry {
		t.Errorf("%d bytes, the limit is %d", n, event.MaxEntry)
	}
}
