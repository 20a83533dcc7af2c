package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/graven-audit/graven/event"
)

// Limits that package event keeps to itself. The test holds them against it.
const (
	maxName          = 253
	maxRetentionDays = 36500
	maxExact         = 1<<53 - 1
)

// A schema is a JSON Schema (draft 2020-12), as far as an event needs it.
type schema struct {
	Schema        string   `json:"$schema,omitempty"`
	ID            string   `json:"$id,omitempty"`
	Title         string   `json:"title,omitempty"`
	Description   string   `json:"description,omitempty"`
	Type          string   `json:"type,omitempty"`
	Format        string   `json:"format,omitempty"`
	Pattern       string   `json:"pattern,omitempty"`
	MinLength     int      `json:"minLength,omitempty"`
	MaxLength     int      `json:"maxLength,omitempty"`
	Minimum       *int64   `json:"minimum,omitempty"`
	Maximum       *int64   `json:"maximum,omitempty"`
	Enum          []string `json:"enum,omitempty"`
	AnyOf         []schema `json:"anyOf,omitempty"`
	Not           *schema  `json:"not,omitempty"`
	Default       any      `json:"default,omitempty"`
	Examples      []any    `json:"examples,omitempty"`
	Required      []string `json:"required,omitempty"`
	Properties    members  `json:"properties,omitempty"`
	PropertyNames *schema  `json:"propertyNames,omitempty"`
	Additional    any      `json:"additionalProperties,omitempty"`
}

type member struct {
	name string
	schema
}

// members are properties in the order in which people read them.
type members []member

func (m members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		text, err := marshal(p.schema)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", p.name, text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// eventSchema returns the JSON Schema of an event as callers send it.
func eventSchema() []byte {
	text, err := marshal(nativeEvent())
	if err != nil {
		panic("internal error: " + err.Error())
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		panic("internal error: " + err.Error())
	}
	return b.Bytes()
}

func nativeEvent() schema {
	return schema{
		Schema: "https://json-schema.org/draft/2020-12/schema",
		ID:     "https://github.com/graven-audit/graven/blob/main/docs/event.schema.json",
		Title:  "Graven event",
		Description: "One thing that happened: who did what to which resource, when, and with what outcome. This is the native form, as callers send it. " +
			"Members that this schema does not name are refused, and so is a member that stands twice; one that is null counts as absent. " +
			"Strings are UTF-8 without NUL, and maxLength counts bytes. Written by internal/gen; the event types are described in events.md.",
		Type:       "object",
		Examples:   []any{json.RawMessage(exampleFull), json.RawMessage(exampleMinimal)},
		Required:   []string{"eventType", "timestamp", "actor", "resource"},
		Properties: append(whatHappened(), whatBelongsToIt()...),
		Not: &schema{AnyOf: []schema{
			{Required: []string{"correlationID", "correlationId"}},
			{Required: []string{"parentID", "parentId"}},
		}},
		Additional: false,
	}
}

func whatHappened() members {
	return members{
		{"id", id("The event's UUID, minted by its producer (UUIDv7 is best), and its idempotency key for ever: the same id with the same content is recorded once, with other content it is refused. Without one the server mints one.")},
		{"name", schema{
			Description: "A label that is legal as the name of a Kubernetes object. It is never a key. By default audit-{seconds of the timestamp}-{6 characters that follow from the id}.",
			Type:        "string", Pattern: "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", MaxLength: maxName, Examples: []any{"audit-1710856200-a7f3b2"},
		}},
		{"eventType", eventType()},
		{"timestamp", schema{
			Description: fmt.Sprintf("When it happened: RFC 3339 with a zone and at most nine digits of a second, kept as given, in UTC. From 1970 on, and at most %.0f minutes ahead of the server's clock. The ledger's order is that of recording.", event.MaxFuture.Minutes()),
			Type:        "string", Format: "date-time", Examples: []any{"2026-03-19T14:30:00.123Z"},
		}},
		{"actor", schema{
			Description: "Who performed the act, as the event says. Who was authenticated when it was recorded is kept apart from it.",
			Type:        "object", Required: []string{"type", "name"}, Additional: false,
			Properties: members{
				{"type", term("What kind of actor it is.", []string{event.ActorSystem, event.ActorController, event.ActorService, event.ActorUser}, actorAliases)},
				{"name", required(text("Who it is: the name of a user, a service or a component.", "remediation-reconciler"))},
				{"serviceAccount", text("The Kubernetes service account that it runs as.", "chatcli-operator")},
				{"controller", text("The controller that it is part of.", "remediation-controller")},
			},
		}},
		{"resource", schema{
			Description: "What the act was done to.",
			Type:        "object", Required: []string{"kind"}, Additional: false,
			Properties: members{
				{"apiVersion", text("API group and version.", "apps/v1")},
				{"kind", required(text("Its kind.", "Deployment"))},
				{"namespace", text("Its namespace; absent where it has none.", "production")},
				{"name", text("Its name.", "api-server")},
				{"uid", text("Its UID, which tells it from others that had its name.", "83f83ee1-3b04-4964-bde4-768a04130598")},
			},
		}},
		{"category", text("By default that of the event type; \"other\" for a type outside the catalogue.", "remediation")},
		{"action", text("What was done, in a word. By default that of the event type, or the type's last word.", "executed")},
		{"outcome", term("How it ended. By default that of the event type, or unknown.", []string{event.OutcomeSuccess, event.OutcomeFailure, event.OutcomePending, event.OutcomeUnknown}, outcomeAliases)},
		{"severity", term("How much it matters. By default that of the event type, or info.", []string{event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow, event.SeverityInfo}, severityAliases)},
	}
}

func whatBelongsToIt() members {
	return members{
		{"correlationID", text("The incident: all events that share it belong together.", "inc-8f2a4b")},
		{"correlationId", text("Another spelling of correlationID; not both.", "inc-8f2a4b")},
		{"parentID", id("The id of the event that caused this one.")},
		{"parentId", id("Another spelling of parentID; not both.")},
		{"cluster", text("The cluster in which it happened.", "eu-1")},
		{"fact", text("A name for the thing that happened, independent of who tells it, so that several tellings of one fact can be counted once.", "83f83ee1-3b04-4964-bde4-768a04130598/Executing/1")},
		{"details", schema{
			Description: fmt.Sprintf("The event's own content, which may be erased later. At most %d bytes in canonical form (RFC 8785), and objects and arrays nest at most %d deep, the details included. An integer that a float64 cannot hold exactly is refused; send it as a string. The usual keys of each event type are in events.md.", event.MaxDetails, event.MaxDetailsDepth),
			Type:        "object", Examples: []any{map[string]string{"action": "Rollback", "target": "deployment/api-server"}},
		}},
		{"durationMs", number("How long it took, in milliseconds.", 0, maxExact, 12000)},
		{"error", schema{
			Description: "The error that the act ended in.",
			Type:        "object", Additional: false,
			Properties: members{
				{"code", text("A word or number for it.", "Forbidden")},
				{"message", schema{Description: "What it said. It may be erased later.", Type: "string", MaxLength: event.MaxMessage, Examples: []any{"deployments.apps is forbidden"}}},
			},
		}},
		{"retentionDays", withDefault(number("How long the event must be kept, in days from its recording.", 1, maxRetentionDays, event.DefaultRetentionDays), event.DefaultRetentionDays)},
		{"sensitive", schema{Description: "Marks content that few should read.", Type: "boolean", Examples: []any{true}}},
		{"source", schema{
			Description: "The producer of events, and its own count of them, in which a missing number proves a lost event.",
			Type:        "object", Additional: false,
			Properties: members{
				{"name", text("Which producer it is.", "operator-0")},
				{"epoch", text("Which of its counts the number belongs to. A count that has a name begins with 1; a source that lost its count begins another.", "8RZ3K5V6PTQ2M7XJ")},
				{"seq", number("The number of this event.", 0, maxExact, 4711)},
			},
		}},
		{"original", schema{
			Description: fmt.Sprintf("The caller's own words where the event uses others, by member. The server adds spellings that it replaced. At most %d bytes in canonical form; it may be erased later.", event.MaxOriginal),
			Type:        "object", PropertyNames: &schema{MaxLength: event.MaxString}, Additional: schema{Type: "string"},
			Examples: []any{map[string]string{"severity": "warning"}},
		}},
	}
}

// eventType lists the catalogue, so that editors can offer it, and leaves room
// for any other name.
func eventType() schema {
	var names, reserved []string
	for _, t := range event.Types() {
		all := append([]string{t.Type}, t.Aliases...)
		if t.Reserved {
			reserved = append(reserved, all...)
		} else {
			names = append(names, all...)
		}
	}
	return schema{
		Description: "What kind of thing happened: a type of the catalogue or one of its aliases, or any other name. A strict server refuses what is not in the catalogue.",
		Type:        "string", MinLength: 1, MaxLength: event.MaxString,
		AnyOf: []schema{
			{Title: "Types of the catalogue and their aliases", Enum: names},
			{Title: "Any other type", Pattern: "^[A-Za-z0-9._/:-]+$"},
		},
		Not:      &schema{Description: "Types that only the ledger itself records", Enum: reserved},
		Examples: []any{"RemediationExecuted"},
	}
}

// Aliases of the terms, which package event replaces.
var (
	severityAliases = []string{"crit", "fatal", "emergency", "error", "err", "alert", "warning", "warn", "moderate", "notice", "informational", "information", "debug"}
	outcomeAliases  = []string{"succeeded", "ok", "completed", "passed", "failed", "error", "denied", "rejected", "in_progress", "running", "started"}
	actorAliases    = []string{"operator", "serviceaccount", "external", "agent", "ai", "human", "person"}
)

func term(description string, terms, aliases []string) schema {
	return schema{
		Description: description + " The server accepts all of these in any case, replaces aliases by their terms, and keeps the caller's spelling.",
		Type:        "string",
		AnyOf:       []schema{{Title: "Terms", Enum: terms}, {Title: "Aliases", Enum: aliases}},
		Examples:    []any{terms[0]},
	}
}

func text(description, example string) schema {
	return schema{Description: description, Type: "string", MaxLength: event.MaxString, Examples: []any{example}}
}

func required(s schema) schema {
	s.MinLength = 1
	return s
}

func id(description string) schema {
	return schema{Description: description, Type: "string", Format: "uuid", Examples: []any{"019310a2-7a3c-7000-8000-000000000001"}}
}

func number(description string, low, high int64, example int) schema {
	return schema{Description: description, Type: "integer", Minimum: &low, Maximum: &high, Examples: []any{example}}
}

func withDefault(s schema, v any) schema {
	s.Default = v
	return s
}

const (
	exampleFull = `{
		"id": "019310a2-7a3c-7000-8000-000000000001",
		"eventType": "RemediationExecuted",
		"timestamp": "2026-03-19T14:30:00.123Z",
		"actor": {"type": "controller", "name": "remediation-reconciler", "serviceAccount": "chatcli-operator"},
		"resource": {"apiVersion": "platform.chatcli.io/v1alpha1", "kind": "RemediationPlan", "namespace": "production", "name": "plan-rollback-api-server"},
		"outcome": "success",
		"severity": "high",
		"correlationID": "inc-8f2a4b",
		"details": {"action": "Rollback", "target": "deployment/api-server", "fromRevision": "6", "toRevision": "5"},
		"durationMs": 12000,
		"source": {"name": "operator-0", "seq": 4711}
	}`
	exampleMinimal = `{
		"eventType": "ApprovalGranted",
		"timestamp": "2026-03-19T14:29:41Z",
		"actor": {"type": "user", "name": "john@company.com"},
		"resource": {"kind": "ApprovalRequest"}
	}`
)
