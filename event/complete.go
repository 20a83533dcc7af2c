package event

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/graven-audit/graven/internal/jcs"
)

// Complete replaces aliases by the catalogue's terms, keeping the caller's
// spelling in Original, and fills in what the caller left out:
//
//   - ID is minted (UUIDv7) and Name derived from it.
//   - Category, Action, Outcome and Severity are those of the event type;
//     for a type outside the catalogue they are "other", the last word of the
//     type, "unknown" and "info".
//   - RetentionDays is [DefaultRetentionDays].
//
// It sets Recorded.Uncatalogued for a type outside the catalogue.
func (e *Event) Complete(now time.Time) {
	e.respell("severity", &e.Severity, severities)
	e.respell("outcome", &e.Outcome, outcomes)
	e.respell("actor.type", &e.Actor.Type, actorTypes)
	t := lookup(e.EventType)
	known := t != nil
	if known {
		e.keep("eventType", &e.EventType, t.Type)
	} else {
		t = &Type{Category: "other", Action: lastWord(e.EventType), Outcome: OutcomeUnknown, Severity: SeverityInfo}
	}
	e.Recorded.Uncatalogued = !known
	setDefault(&e.Category, t.Category)
	setDefault(&e.Action, t.Action)
	setDefault(&e.Outcome, t.Outcome)
	setDefault(&e.Severity, t.Severity)
	if e.RetentionDays == 0 {
		e.RetentionDays = DefaultRetentionDays
	}
	if e.ID.IsZero() {
		e.ID = NewID(now)
	}
	if e.Name == "" {
		e.Name = nameOf(e.ID, e.Timestamp)
	}
}

// SetDetails gives e the details that v is in JSON, which must be an object.
// Where v is a json.RawMessage or []byte, it is taken as JSON text.
func (e *Event) SetDetails(v any) error {
	text, ok := v.([]byte)
	if raw, is := v.(json.RawMessage); is {
		text, ok = raw, true
	}
	if !ok {
		var err error
		if text, err = json.Marshal(v); err != nil {
			return &FieldError{Field: "details", Reason: err.Error()}
		}
	}
	p := parser{s: jcs.NewScanner(text)}
	err := p.details()
	if err == nil {
		err = p.s.End()
	}
	if err != nil {
		return fieldError(jcs.Within("details", err))
	}
	e.Details, e.canonical = p.e.Details, p.e.Details
	return nil
}

func setDefault(s *string, to string) {
	if *s == "" {
		*s = to
	}
}

// respell replaces an alias by the term it stands for.
func (e *Event) respell(field string, s *string, terms map[string]string) {
	if *s == "" {
		return
	}
	if term, ok := terms[*s]; ok {
		e.keep(field, s, term)
	} else if term, ok := terms[strings.ToLower(*s)]; ok {
		e.keep(field, s, term)
	}
}

// keep sets *s to term, and remembers how the caller spelt it.
func (e *Event) keep(field string, s *string, term string) {
	if *s == term {
		return
	}
	e.KeepOriginal(field, *s)
	*s = term
}

// KeepOriginal remembers how the caller spelt a field, unless it is remembered
// already.
func (e *Event) KeepOriginal(field, spelling string) {
	if e.Original == nil {
		e.Original = make(map[string]string, 1)
	}
	if _, ok := e.Original[field]; !ok {
		e.Original[field] = spelling
	}
}

// ClampTimestamp has a time that lies further ahead of now than a ledger takes
// ([MaxFuture]) be now, and remembers the other: for events whose times a clock gave that
// nobody can set right.
func (e *Event) ClampTimestamp(now time.Time) {
	if e.Timestamp.After(now.Add(MaxFuture)) {
		e.KeepOriginal("timestamp", FormatTime(e.Timestamp))
		e.Timestamp = now.UTC()
	}
}

// Rename gives the event another id. The one that it had is kept, as long as there
// is room for it.
func (e *Event) Rename(id ID) {
	was := e.ID
	e.ID = id
	if _, ok := e.Original["id"]; ok || was.IsZero() {
		return
	}
	e.KeepOriginal("id", was.String())
	if len(appendStrings(nil, e.Original)) > MaxOriginal {
		delete(e.Original, "id")
	}
}

func lastWord(eventType string) string {
	return eventType[strings.LastIndexAny(eventType, "./:")+1:]
}

// The keys of these tables are in lower case; input in any case is accepted.
var (
	severities = map[string]string{
		"critical": SeverityCritical, "crit": SeverityCritical, "fatal": SeverityCritical, "emergency": SeverityCritical,
		"high": SeverityHigh, "error": SeverityHigh, "err": SeverityHigh, "alert": SeverityHigh,
		"medium": SeverityMedium, "warning": SeverityMedium, "warn": SeverityMedium, "moderate": SeverityMedium,
		"low": SeverityLow, "notice": SeverityLow,
		"info": SeverityInfo, "informational": SeverityInfo, "information": SeverityInfo, "debug": SeverityInfo,
	}
	outcomes = map[string]string{
		"success": OutcomeSuccess, "succeeded": OutcomeSuccess, "ok": OutcomeSuccess, "completed": OutcomeSuccess, "passed": OutcomeSuccess,
		"failure": OutcomeFailure, "failed": OutcomeFailure, "error": OutcomeFailure, "denied": OutcomeFailure, "rejected": OutcomeFailure,
		"pending": OutcomePending, "in_progress": OutcomePending, "running": OutcomePending, "started": OutcomePending,
		"unknown": OutcomeUnknown,
	}
	actorTypes = map[string]string{
		"system": ActorSystem, "controller": ActorController, "operator": ActorController,
		"service": ActorService, "serviceaccount": ActorService, "external": ActorService, "agent": ActorService, "ai": ActorService,
		"user": ActorUser, "human": ActorUser, "person": ActorUser,
	}
)

// Severity returns the severity that s names, also by an alias and in any
// case, and whether there is one.
func Severity(s string) (string, bool) { return term(severities, s) }

// Outcome returns the outcome that s names, also by an alias and in any case,
// and whether there is one.
func Outcome(s string) (string, bool) { return term(outcomes, s) }

func term(terms map[string]string, s string) (string, bool) {
	t, ok := terms[strings.ToLower(s)]
	return t, ok
}
