package intake

import (
	"strconv"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

// A Row is what Kubernaut's AuditEvent says beside the event: the hashes of
// the ledger's chain in hexadecimal, and the hold that forbids to erase it, if
// there is one.
type Row struct {
	Hash, PreviousHash string
	Hold               *Hold
}

// A Hold says why an event is kept, who ordered it and when.
type Hold struct {
	Reason, SetBy string
	SetAt         time.Time
}

// AppendKubernaut appends e as an AuditEvent of Kubernaut's query API. An
// event that came in through [Kubernaut] shows every member that it came with,
// in the caller's own words.
func AppendKubernaut(dst []byte, e *event.Event, row Row) []byte {
	said := spelling(e)
	w := rowWriter{append(dst, '{')}
	w.text("event_id", e.ID.String())
	w.text("version", or(e.Original["version"], flatVersion))
	w.text("event_timestamp", event.FormatTime(e.Timestamp))
	w.text("event_date", e.Timestamp.UTC().Format(time.DateOnly))
	w.text("event_type", said.EventType)
	w.text("event_category", e.Category)
	w.text("event_action", e.Action)
	w.text("event_outcome", said.Outcome)
	w.text("actor_type", said.Actor.Type)
	w.text("actor_id", e.Actor.Name)
	w.optional("actor_ip", e.Original["actor_ip"])
	w.text("resource_type", e.Resource.Kind)
	w.text("resource_id", e.Resource.Name)
	w.optional("resource_name", e.Original["resource_name"])
	w.text("correlation_id", e.CorrelationID)
	w.optional("parent_event_id", e.ParentID.String())
	if date := e.Original["parent_event_date"]; isDate(date) {
		w.text("parent_event_date", date)
	}
	w.optional("trace_id", e.Original["trace_id"])
	w.optional("span_id", e.Original["span_id"])
	w.optional("namespace", e.Resource.Namespace)
	w.optional("cluster_id", e.Cluster)
	w.text("severity", said.Severity)
	if e.DurationMs != 0 {
		w.number("duration_ms", e.DurationMs)
	}
	w.optional("error_code", e.Error.Code)
	w.optional("error_message", e.Error.Message)
	w.number("retention_days", int64(e.RetentionDays))
	w.flag("is_sensitive", e.Sensitive)
	w.text("event_hash", row.Hash)
	w.text("previous_event_hash", row.PreviousHash)
	w.text("hash_algorithm", "sha256")
	w.flag("legal_hold", row.Hold != nil)
	if h := row.Hold; h != nil {
		w.text("legal_hold_reason", h.Reason)
		w.text("legal_hold_set_at", event.FormatTime(h.SetAt))
		w.text("legal_hold_set_by", h.SetBy)
	}
	if len(e.Details) == 0 {
		w.raw("event_data", []byte("{}"))
	} else {
		w.raw("event_data", e.Details)
	}
	if m := eventMetadata(e); m != nil {
		w.raw("event_metadata", m)
	}
	return append(w.dst, '}')
}

// spelling returns an event of which the respelt members are as the caller
// wrote them. A caller may write Original as well, so its words count only
// where they mean what the event says.
func spelling(e *event.Event) event.Event {
	said := *e
	o := e.Original
	type_, severity, outcome, actor := o["eventType"], o["severity"], o["outcome"], o["actor.type"]
	if type_ == "" && severity == "" && outcome == "" && actor == "" {
		return said
	}
	meant := event.Event{ID: e.ID, Name: e.Name, EventType: type_, Severity: severity, Outcome: outcome, Actor: event.Actor{Type: actor}}
	meant.Complete(e.Timestamp)
	for _, m := range []struct {
		says        *string
		meant, word string
	}{
		{&said.EventType, meant.EventType, type_},
		{&said.Severity, meant.Severity, severity},
		{&said.Outcome, meant.Outcome, outcome},
		{&said.Actor.Type, meant.Actor.Type, actor},
	} {
		if m.word != "" && m.meant == *m.says {
			*m.says = m.word
		}
	}
	return said
}

// eventMetadata returns the event_metadata of e in canonical form, or nil: what a
// caller put into Original need not be an object, nor JSON.
func eventMetadata(e *event.Event) []byte {
	text := e.Original["event_metadata"]
	if text == "" {
		return nil
	}
	m, err := jcs.Transform([]byte(text), event.MaxDetailsDepth)
	if err != nil || m[0] != '{' {
		return nil
	}
	return m
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// A rowWriter appends the members of a JSON object.
type rowWriter struct{ dst []byte }

func (w *rowWriter) key(name string) {
	if w.dst[len(w.dst)-1] != '{' {
		w.dst = append(w.dst, ',')
	}
	w.dst = append(append(append(w.dst, '"'), name...), '"', ':')
}

func (w *rowWriter) raw(name string, json []byte) {
	w.key(name)
	w.dst = append(w.dst, json...)
}

func (w *rowWriter) text(name, s string) {
	w.key(name)
	w.dst = jcs.AppendString(w.dst, s)
}

func (w *rowWriter) optional(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

func (w *rowWriter) number(name string, n int64) {
	w.key(name)
	w.dst = strconv.AppendInt(w.dst, n, 10)
}

func (w *rowWriter) flag(name string, b bool) {
	w.key(name)
	w.dst = strconv.AppendBool(w.dst, b)
}
