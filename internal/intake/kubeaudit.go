package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/redact"
)

const kubeAuditVersion = "audit.k8s.io/v1"

// maxMember bounds what is decoded of one member of an audit event, in bytes.
// Details have room for far less.
const maxMember = 4 << 20

// A kubeEvent is an audit.k8s.io/v1 Event, as far as fields of an event come
// from it. The details hold all of it.
type kubeEvent struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	AuditID    string `json:"auditID"`
	Stage      string `json:"stage"`
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ImpersonatedUser *struct{} `json:"impersonatedUser"`
	ObjectRef        struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		UID         string `json:"uid"`
		APIGroup    string `json:"apiGroup"`
		APIVersion  string `json:"apiVersion"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus *struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Reason  string `json:"reason"`
		Code    int    `json:"code"`
		Details struct {
			UID string `json:"uid"`
		} `json:"details"`
	} `json:"responseStatus"`
	Received string `json:"requestReceivedTimestamp"`
	Reached  string `json:"stageTimestamp"`
}

// KubeAudit reads one audit.k8s.io/v1 Event of a Kubernetes API server.
//
// The actor is who was authenticated; whom they impersonated stands in the
// details, and so does everything else that the API server said, under its own
// name. Credentials are removed, and what details cannot hold is brought into
// a shape that they can; the details' members redacted, flattened and omitted
// say where. Nothing that a client of the API server sends can make its audit
// event unfit to be recorded.
func KubeAudit(raw []byte) (*event.Event, error) {
	var k kubeEvent
	if err := json.Unmarshal(raw, &k); err != nil {
		return nil, jsonError(err)
	}
	if err := k.check(); err != nil {
		return nil, err
	}
	received, reached, err := k.times()
	if err != nil {
		return nil, err
	}
	e := &event.Event{
		// A client may choose the audit id (header Audit-ID), and would hide a
		// request behind an earlier one if that were all.
		ID:        event.DeriveID("kube-audit", k.AuditID, k.Stage, event.FormatTime(received)),
		EventType: "KubernetesAPIRequest",
		Timestamp: received,
		Actor:     k.actor(),
		Action:    clip(k.Verb, event.MaxString),
	}
	if !reached.IsZero() {
		e.DurationMs = max(0, reached.Sub(received).Milliseconds())
	}
	d, err := k.decode(raw)
	if err != nil {
		return nil, err
	}
	request, response := d.members["requestObject"], d.members["responseObject"]
	dryRun := isDryRun(k.RequestURI, request)
	e.Resource = k.resource(request, response)
	e.Outcome, e.Error = k.outcome()
	e.Severity = k.severity(e.Outcome == event.OutcomeSuccess && !dryRun)
	text, err := d.json(dryRun)
	if err == nil {
		err = e.SetDetails(text)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// ErrTooMany means that a list has more items than the caller takes.
var ErrTooMany = errors.New("too many items")

// An itemList is a list of up to limit items that are not decoded yet.
type itemList struct {
	limit int
	items []json.RawMessage
}

func (l *itemList) UnmarshalJSON(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	l.items = nil
	if t, err := d.Token(); err != nil || t == nil {
		return err
	} else if t != json.Delim('[') {
		return &event.FieldError{Field: "items", Reason: "expected an array"}
	}
	for d.More() {
		if len(l.items) == l.limit {
			return ErrTooMany
		}
		var item json.RawMessage
		if err := d.Decode(&item); err != nil {
			return err
		}
		l.items = append(l.items, item)
	}
	return nil
}

// KubeAuditList reads an EventList of up to limit items, as the API server's
// audit webhook posts it, and calls each for every item with the event or the
// reason why there is none. It returns the first error of each, or its own for
// a malformed list.
func KubeAuditList(raw []byte, limit int, each func(i int, e *event.Event, err error) error) error {
	var list struct {
		Kind       string   `json:"kind"`
		APIVersion string   `json:"apiVersion"`
		Items      itemList `json:"items"`
	}
	list.Items.limit = limit
	var field *event.FieldError
	if err := json.Unmarshal(raw, &list); errors.Is(err, ErrTooMany) || errors.As(err, &field) {
		return err
	} else if err != nil {
		return jsonError(err)
	}
	if err := expect("kind", list.Kind, "EventList"); err != nil {
		return err
	}
	if err := expect("apiVersion", list.APIVersion, kubeAuditVersion); err != nil {
		return err
	}
	for i, item := range list.Items.items {
		e, err := KubeAudit(item)
		if err := each(i, e, err); err != nil {
			return err
		}
	}
	return nil
}

func expect(field, found, want string) error {
	if found == want {
		return nil
	}
	return &event.FieldError{Field: field, Reason: fmt.Sprintf("expected %s, found %.64q", want, found)}
}

// check reports what an audit event cannot be without. Items of a list do not
// say their kind.
func (k *kubeEvent) check() error {
	if k.Kind != "" || k.APIVersion != "" {
		if err := expect("kind", k.Kind, "Event"); err != nil {
			return err
		}
		if err := expect("apiVersion", k.APIVersion, kubeAuditVersion); err != nil {
			return err
		}
	}
	var found event.Invalid
	for _, m := range []struct{ field, s string }{
		{"auditID", k.AuditID},
		{"stage", k.Stage},
		{"verb", k.Verb},
		{"requestReceivedTimestamp", or(k.Received, k.Reached)},
	} {
		if m.s == "" {
			found = append(found, &event.FieldError{Field: m.field, Reason: "required"})
		}
	}
	if len(found) > 0 {
		return found
	}
	return nil
}

func (k *kubeEvent) times() (received, reached time.Time, err error) {
	for _, t := range []struct {
		field, s string
		dst      *time.Time
	}{
		{"requestReceivedTimestamp", k.Received, &received},
		{"stageTimestamp", k.Reached, &reached},
	} {
		if t.s == "" {
			continue
		}
		if *t.dst, err = event.ParseTime(t.s); err != nil {
			return received, reached, &event.FieldError{Field: t.field, Reason: err.Error()}
		}
	}
	if received.IsZero() {
		received = reached
	}
	return received, reached, nil
}

// A document is an audit event as decoded JSON, cleaned of credentials.
type document struct {
	members           map[string]any
	redacted, omitted paths
	credentials       redact.Redactor
}

// Members that say what was done to the others.
var ours = []string{"dryRun", "redacted", "flattened", "omitted"}

func (k *kubeEvent) decode(raw []byte) (*document, error) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, jsonError(err)
	}
	delete(given, "kind")
	delete(given, "apiVersion")
	d := &document{members: make(map[string]any, len(given)+len(ours))}
	d.credentials = redact.Redactor{Redacted: d.redacted.add, Omitted: d.omitted.add}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		as := strings.ReplaceAll(name, "\x00", "\ufffd")
		for _, taken := d.members[as]; taken || slices.Contains(ours, as); _, taken = d.members[as] {
			as = "audit." + as
		}
		p := redact.At(as)
		if n := len(given[name]); n > maxMember {
			// Without a digest: it would be one of credentials, too.
			d.members[as] = map[string]any{"omitted": strconv.Itoa(n) + " bytes"}
			d.omitted.add(p)
			continue
		}
		var v any
		if err := decode(given[name], &v); err != nil {
			return nil, jsonError(err)
		}
		d.members[as] = d.member(name, v, k.role(), p)
	}
	return d, nil
}

// member cleans a member of an audit event about an object of role as.
func (d *document) member(name string, v any, as redact.Role, p *redact.Place) any {
	switch name {
	case "requestObject", "responseObject":
		return d.credentials.Body(v, as, p)
	case "annotations":
		return d.credentials.Annotations(v, as, p)
	case "requestURI":
		if uri, ok := v.(string); ok {
			return d.credentials.URI(uri, p)
		}
	case "responseStatus":
		if m, ok := get(v, "metadata").(map[string]any); ok && len(m) == 0 {
			delete(v.(map[string]any), "metadata")
		}
	}
	return d.credentials.Clean(v, redact.Plain, p)
}

// json returns the details that d makes.
func (d *document) json(dryRun bool) (json.RawMessage, error) {
	var flat paths
	for name, v := range d.members {
		d.members[name] = flatten(v, redact.At(name), &flat)
	}
	if dryRun {
		d.members["dryRun"] = true
	}
	if len(d.redacted) > 0 {
		d.members["redacted"] = d.redacted.list()
	}
	if len(flat) > 0 {
		d.members["flattened"] = flat.list()
	}
	return fit(d.members, d.omitted)
}

// get returns a member of a decoded object, or nil.
func get(v any, names ...string) any {
	for _, name := range names {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// jsonError names the member at which encoding/json failed.
func jsonError(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind):
		want := map[reflect.Kind]string{reflect.String: "a string", reflect.Struct: "an object", reflect.Map: "an object", reflect.Int: "a whole number", reflect.Slice: "an array"}[kind.Type.Kind()]
		return &event.FieldError{Field: or(kind.Field, "body"), Reason: fmt.Sprintf("expected %s, found %s", want, kind.Value)}
	case errors.As(err, &syntax):
		return &event.FieldError{Field: "body", Reason: fmt.Sprintf("%v at byte %d", err, syntax.Offset)}
	}
	return &event.FieldError{Field: "body", Reason: err.Error()}
}
