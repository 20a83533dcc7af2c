package event

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/graven-audit/graven/internal/jcs"
)

// entryVersion is the version of the entry format, the member "v".
const entryVersion = 1

// Digests are what an entry holds in place of the erasable content: each is
// SHA-256(salt ‖ canonical JSON of the content). Message and Original are nil
// where the event has none; Details never is, for "{}" stands for no details.
type Digests struct {
	Details, Message, Original *[32]byte
}

// Salt keeps a digest from being guessed back once the content is erased. It
// is erased with the content.
type Salt [16]byte

// Digests returns the digests of e's erasable content under salt.
func (e *Event) Digests(salt Salt) Digests {
	sum := func(content []byte) *[32]byte {
		h := sha256.New()
		h.Write(salt[:])
		h.Write(content)
		return (*[32]byte)(h.Sum(make([]byte, 0, 32)))
	}
	d := Digests{Details: sum(e.details())}
	if e.Error.Message != "" {
		d.Message = sum(jcs.AppendString(nil, e.Error.Message))
	}
	if len(e.Original) > 0 {
		d.Original = sum(appendStrings(nil, e.Original))
	}
	return d
}

func (e *Event) details() []byte {
	if len(e.Details) == 0 {
		return []byte("{}")
	}
	return e.Details
}

// AppendEntry appends the entry: the canonical JSON (RFC 8785) of e without
// its erasable content, for which d stands. e must be complete and valid.
func (e *Event) AppendEntry(dst []byte, d Digests) []byte {
	w := newWriter(dst)
	w.text("action", e.Action)
	w.open("actor")
	w.text("controller", e.Actor.Controller)
	w.text("name", e.Actor.Name)
	w.text("serviceAccount", e.Actor.ServiceAccount)
	w.text("type", e.Actor.Type)
	w.close()
	w.text("category", e.Category)
	w.text("cluster", e.Cluster)
	w.text("correlationID", e.CorrelationID)
	w.hash("detailsDigest", d.Details)
	w.number("durationMs", e.DurationMs)
	if e.Error.Code != "" || d.Message != nil {
		w.open("error")
		w.text("code", e.Error.Code)
		w.hash("messageDigest", d.Message)
		w.close()
	}
	w.text("eventType", e.EventType)
	w.text("fact", e.Fact)
	w.id("id", e.ID)
	w.raw("ledger", e.Ledger)
	w.text("name", e.Name)
	w.hash("originalDigest", d.Original)
	w.text("outcome", e.Outcome)
	w.id("parentID", e.ParentID)
	w.open("recorded")
	w.time("at", e.Recorded.At)
	w.text("attribution", e.Recorded.Attribution)
	w.text("principal", e.Recorded.Principal)
	w.flag("uncatalogued", e.Recorded.Uncatalogued)
	w.text("via", e.Recorded.Via)
	w.close()
	w.resource(e.Resource, false)
	w.number("retentionDays", int64(e.RetentionDays))
	w.flag("sensitive", e.Sensitive)
	w.text("severity", e.Severity)
	w.source(e.Source)
	w.time("timestamp", e.Timestamp)
	w.number("v", entryVersion)
	w.close()
	return w.dst
}

// ParseEntry reads an entry. The event it returns lacks the erasable content.
func ParseEntry(entry []byte) (*Event, Digests, error) {
	p := parser{s: jcs.NewScanner(entry), entry: true}
	if err := p.s.Object(p.member); err != nil {
		return nil, Digests{}, fieldError(err)
	}
	if err := p.s.End(); err != nil {
		return nil, Digests{}, fieldError(err)
	}
	if p.digest.Details == nil {
		return nil, Digests{}, &FieldError{Field: "detailsDigest", Reason: "missing"}
	}
	return &p.e, p.digest, nil
}

// Remains returns what stays of an entry whose retention has ended, beside its
// hash: the id, by which the event is known when it comes again, and the number
// that its source gave it, with the times.
func (e *Event) Remains() *Event {
	left := &Event{ID: e.ID, Timestamp: e.Timestamp, Source: e.Source, Recorded: Recorded{At: e.Recorded.At}}
	if e.EventType == TypeHeartbeat || e.EventType == TypeStopped { // a source falls silent without it
		left.EventType = e.EventType
	}
	return left
}

// AppendErasable appends e's erasable content as a canonical JSON object with
// the members details, message and original, each absent where empty.
func (e *Event) AppendErasable(dst []byte) []byte {
	w := newWriter(dst)
	w.raw("details", e.Details)
	w.text("message", e.Error.Message)
	if len(e.Original) > 0 {
		w.key("original")
		w.dst = appendStrings(w.dst, e.Original)
	}
	w.close()
	return w.dst
}

// SetErasable gives e the content that [Event.AppendErasable] wrote.
func (e *Event) SetErasable(content []byte) error {
	p := parser{s: jcs.NewScanner(content)}
	err := p.object(func(name string) func() error {
		switch name {
		case "details":
			return p.details
		case "message":
			return p.str(&p.e.Error.Message)
		case "original":
			return p.original
		}
		return nil
	})
	if err == nil {
		err = p.s.End()
	}
	if err != nil {
		return fieldError(err)
	}
	e.Details, e.canonical = p.e.Details, p.e.Details
	e.Error.Message, e.Original = p.e.Error.Message, p.e.Original
	return nil
}

// AppendJSON appends the native form. The members that readers expect are always
// there; the others only where they say something.
func (e *Event) AppendJSON(dst []byte) []byte {
	w := newWriter(dst)
	w.event(e)
	w.close()
	return w.dst
}

func (w *writer) event(e *Event) {
	w.id("id", e.ID)
	w.always("name", e.Name)
	w.always("eventType", e.EventType)
	w.time("timestamp", e.Timestamp)
	w.open("actor")
	w.always("type", e.Actor.Type)
	w.always("name", e.Actor.Name)
	w.text("serviceAccount", e.Actor.ServiceAccount)
	w.text("controller", e.Actor.Controller)
	w.close()
	w.resource(e.Resource, true)
	w.text("category", e.Category)
	w.text("action", e.Action)
	w.text("outcome", e.Outcome)
	w.key("details")
	w.dst = append(w.dst, e.details()...)
	w.always("correlationID", e.CorrelationID)
	w.always("severity", e.Severity)
	w.id("parentID", e.ParentID)
	w.text("cluster", e.Cluster)
	w.text("fact", e.Fact)
	w.number("durationMs", e.DurationMs)
	if e.Error != (Failure{}) {
		w.open("error")
		w.text("code", e.Error.Code)
		w.text("message", e.Error.Message)
		w.close()
	}
	w.number("retentionDays", int64(e.RetentionDays))
	w.flag("sensitive", e.Sensitive)
	w.source(e.Source)
	if len(e.Original) > 0 {
		w.key("original")
		w.dst = appendStrings(w.dst, e.Original)
	}
	if e.Recorded != (Recorded{}) {
		w.open("recorded")
		w.time("at", e.Recorded.At)
		w.text("principal", e.Recorded.Principal)
		w.text("via", e.Recorded.Via)
		w.text("attribution", e.Recorded.Attribution)
		w.flag("uncatalogued", e.Recorded.Uncatalogued)
		w.close()
	}
	w.raw("ledger", e.Ledger)
}

// A writer appends the members of JSON objects. Members that are empty are
// left out, but for those written with always.
type writer struct {
	dst []byte
}

func newWriter(dst []byte) *writer { return &writer{append(dst, '{')} }

func (w *writer) key(name string) {
	if w.dst[len(w.dst)-1] != '{' {
		w.dst = append(w.dst, ',')
	}
	w.dst = append(w.dst, '"')
	w.dst = append(w.dst, name...)
	w.dst = append(w.dst, '"', ':')
}

func (w *writer) open(name string) {
	w.key(name)
	w.dst = append(w.dst, '{')
}

func (w *writer) close() { w.dst = append(w.dst, '}') }

func (w *writer) always(name, s string) {
	w.key(name)
	w.dst = jcs.AppendString(w.dst, s)
}

func (w *writer) text(name, s string) {
	if s != "" {
		w.always(name, s)
	}
}

func (w *writer) raw(name string, value []byte) {
	if len(value) > 0 {
		w.key(name)
		w.dst = append(w.dst, value...)
	}
}

func (w *writer) number(name string, n int64) {
	if n != 0 {
		w.key(name)
		w.dst = strconv.AppendInt(w.dst, n, 10)
	}
}

func (w *writer) flag(name string, b bool) {
	if b {
		w.key(name)
		w.dst = append(w.dst, "true"...)
	}
}

func (w *writer) id(name string, id ID) {
	if !id.IsZero() {
		w.key(name)
		w.dst = append(w.dst, '"')
		w.dst = append(id.append(w.dst), '"')
	}
}

func (w *writer) time(name string, t time.Time) {
	if !t.IsZero() {
		w.key(name)
		w.dst = append(w.dst, '"')
		w.dst = append(appendTime(w.dst, t), '"')
	}
}

func (w *writer) hash(name string, h *[32]byte) {
	if h != nil {
		w.key(name)
		w.dst = append(w.dst, '"')
		w.dst = append(hex.AppendEncode(w.dst, h[:]), '"')
	}
}

// resource writes its members in sorted order, which suits both forms.
func (w *writer) resource(r Resource, full bool) {
	w.open("resource")
	w.text("apiVersion", r.APIVersion)
	w.always("kind", r.Kind)
	if full {
		w.always("name", r.Name)
		w.always("namespace", r.Namespace)
	} else {
		w.text("name", r.Name)
		w.text("namespace", r.Namespace)
	}
	w.text("uid", r.UID)
	w.close()
}

func (w *writer) source(s Source) {
	if s != (Source{}) {
		w.open("source")
		w.text("epoch", s.Epoch)
		w.text("name", s.Name)
		w.number("seq", s.Seq)
		w.close()
	}
}

// appendStrings appends m as a canonical object.
func appendStrings(dst []byte, m map[string]string) []byte {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, jcs.Compare)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(jcs.AppendString(dst, name), ':')
		dst = jcs.AppendString(dst, m[name])
	}
	return append(dst, '}')
}

// Equal reports whether two sets of digests are the same.
func (d Digests) Equal(o Digests) bool {
	same := func(a, b *[32]byte) bool { return a == b || a != nil && b != nil && *a == *b }
	return same(d.Details, o.Details) && same(d.Message, o.Message) && same(d.Original, o.Original)
}
