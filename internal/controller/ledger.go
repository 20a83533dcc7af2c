package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// Types of the events that the operator tells of itself with.
const (
	typeRefused = "AuditEventRefused"
	typeCopied  = "AuditEventCopied"
	typeLost    = "AuditEventDeletedUnsealed"
	// typeSnapshot is what capture keeps of resources.
	typeSnapshot = "ResourceSnapshot"
	// typeRequest is what the API servers' own audit logs have. To mirror such events
	// would give more of them.
	typeRequest = "KubernetesAPIRequest"
)

// family is that of these types, in the catalogue.
const family = "graven-operator"

// own returns an event of the operator's own doing.
func own(eventType string, at time.Time, resource event.Resource) *event.Event {
	e := &event.Event{EventType: eventType, Timestamp: at.UTC(), Resource: resource,
		Actor: event.Actor{Type: event.ActorService, Name: "graven-operator"}}
	e.ClampTimestamp(time.Now())
	return e
}

// A Ledger is the server, as far as the operator needs it.
type Ledger struct {
	client  *client.Client
	cluster string                 // the operator's, for events that do not say theirs
	known   atomic.Pointer[string] // the ledger's origin
}

// errNotYet means that the server keeps an event, and has no place for it yet.
var errNotYet = errors.New("the server keeps the event until its store is back")

// record records an event, and returns its receipt. creator is on whose behalf;
// empty is the operator's own.
func (l *Ledger) record(ctx context.Context, creator string, e *event.Event) (*client.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if e.Cluster == "" {
		e.Cluster = l.cluster
	}
	r, err := l.client.RecordSyncFor(ctx, creator, e)
	switch {
	case err != nil:
		return nil, err
	case r.Spooled:
		return nil, errNotYet
	}
	cp, err := trail.ReadCheckpoint([]byte(r.Checkpoint))
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint of a receipt: %w", err)
	}
	l.known.Store(&cp.Origin)
	return r, nil
}

// Record implements [rbac.Sender].
func (l *Ledger) Record(ctx context.Context, e *event.Event) error {
	_, err := l.record(ctx, "", e)
	return err
}

// Tell implements [protection.Ledger].
func (l *Ledger) Tell(ctx context.Context, eventType, severity string, at time.Time, resource event.Resource, details map[string]string) error {
	e := own(eventType, at, resource)
	e.Severity, e.ID = severity, event.DeriveID(eventType, l.cluster, at.UTC().Format(time.RFC3339Nano)).Reserve() // however often it is told
	if err := e.SetDetails(details); err != nil {
		return err
	}
	return l.Record(ctx, e)
}

// Told implements [protection.Ledger], of the operator's own cluster.
func (l *Ledger) Told(ctx context.Context, eventType string) (json.RawMessage, error) {
	q := url.Values{"type": {eventType}, "limit": {"1"}}
	if l.cluster != "" {
		q.Set("cluster", l.cluster)
	}
	events, _, err := l.list(ctx, q)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	return events[0].Details, nil
}

// self returns how the ledger names an operator that does not say on whose behalf it
// records; empty if none has told of the protection.
func (l *Ledger) self(ctx context.Context) (string, error) {
	last, err := l.last(ctx, "AuditEventProtectionChanged")
	if err != nil || last == nil {
		return "", err
	}
	return last.Recorded.Principal, nil
}

// origin returns the ledger's origin.
func (l *Ledger) origin(ctx context.Context) (string, error) {
	if o := l.known.Load(); o != nil {
		return *o, nil
	}
	origin, _, err := l.newest(ctx)
	return origin, err
}

// newest returns the ledger's origin and size as they are now: another ledger may
// have taken its place.
func (l *Ledger) newest(ctx context.Context) (origin string, size int64, err error) {
	text, err := l.read(ctx, "/log/checkpoint?newest=true")
	if err != nil {
		return "", 0, err
	}
	cp, err := trail.ReadCheckpoint(text)
	if err != nil {
		return "", 0, err
	}
	l.known.Store(&cp.Origin)
	return cp.Origin, cp.Size, nil
}

// line returns an event with what it is checked with, by its id or index.
func (l *Ledger) line(ctx context.Context, id string) (*trail.Line, error) {
	text, err := l.read(ctx, "/api/v1/audit/events/"+url.PathEscape(id))
	if err != nil {
		return nil, err
	}
	line, _, err := trail.ParseLine(text)
	if err == nil {
		err = line.Check(text)
	}
	if err != nil {
		return nil, fmt.Errorf("event %s as the server sent it: %w", id, err)
	}
	return line, nil
}

func (l *Ledger) at(ctx context.Context, index int64) (*trail.Line, error) {
	return l.line(ctx, strconv.FormatInt(index, 10))
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 8 << 20

func (l *Ledger) read(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	path, ask, _ := strings.Cut(path, "?")
	query, err := url.ParseQuery(ask)
	if err != nil {
		return nil, err
	}
	resp, err := l.client.Do(ctx, http.MethodGet, path, query, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}

// A seen is an event as lists and streams have it.
type seen struct {
	Index         int64           `json:"index"`
	EventType     string          `json:"eventType"`
	CorrelationID string          `json:"correlationID"`
	Timestamp     time.Time       `json:"timestamp"`
	Details       json.RawMessage `json:"details"`
	Recorded      struct {
		Principal string `json:"principal"`
	} `json:"recorded"`
}

// tells reports whether an event tells of an object that a user created.
func (e *seen) tells(creator string) bool {
	var d struct {
		Creator string `json:"creator"`
	}
	return json.Unmarshal(e.Details, &d) == nil && d.Creator == creator
}

// list returns events that a query asks for, and how many there are in all.
func (l *Ledger) list(ctx context.Context, query url.Values) ([]seen, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var a struct {
		Total  int64  `json:"total"`
		Events []seen `json:"events"`
	}
	err := l.client.Get(ctx, "/api/v1/audit", query, &a)
	return a.Events, a.Total, err
}

// last returns the newest event of some types; nil if there is none.
func (l *Ledger) last(ctx context.Context, types string) (*seen, error) {
	events, _, err := l.list(ctx, url.Values{"type": {types}, "limit": {"1"}})
	if err != nil || len(events) == 0 {
		return nil, err
	}
	return &events[0], nil
}

// status returns the server's answer to a request that it did not take; 0 for
// another error.
func status(err error) int {
	var p *client.Problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}
