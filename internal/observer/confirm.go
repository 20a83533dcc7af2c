package observer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/seglog"
)

// Intents are the events of admission, which say what somebody asked for.
type Intents interface {
	// Follow calls fn for each that stands behind an index in the ledger, until ctx
	// ends or fn fails.
	Follow(ctx context.Context, after int64, fn func(index int64, e *event.Event) error) error
	// Settled calls fn for each event behind an index that says what became of one.
	Settled(ctx context.Context, after int64, fn func(*event.Event)) error
}

// verdicts are the types of the events that say what became of an intent.
var verdicts = []string{"IntentConfirmed", "IntentUnconfirmed", "IntentFailed"}

// Settled implements [Intents].
func (l Ledger) Settled(ctx context.Context, after int64, fn func(*event.Event)) error {
	query := url.Values{"type": {strings.Join(verdicts, ",")}, "limit": {"1000"}}
	if l.Cluster != "" {
		query.Set("cluster", l.Cluster)
	}
	for {
		var page struct {
			Events []json.RawMessage `json:"events"`
			Next   string            `json:"next"`
		}
		if err := l.Client.Get(ctx, "/api/v1/audit", query, &page); err != nil {
			return err
		}
		for _, raw := range page.Events { // the newest first
			var at struct {
				Index int64 `json:"index"`
			}
			if err := json.Unmarshal(raw, &at); err != nil {
				return fmt.Errorf("read an event: %w", err)
			}
			if at.Index <= after {
				return nil
			}
			e, err := event.ParseServed(raw)
			if err != nil {
				return fmt.Errorf("read event %d: %w", at.Index, err)
			}
			fn(e)
		}
		if page.Next == "" {
			return nil
		}
		query.Set("cursor", page.Next)
	}
}

// Follow implements [Intents].
func (l Ledger) Follow(ctx context.Context, after int64, fn func(index int64, e *event.Event) error) error {
	query := url.Values{"detail_key": {capture.DetailIntent}, "detail_value": {capture.Admission}}
	if l.Cluster != "" {
		query.Set("cluster", l.Cluster)
	}
	return l.Client.Follow(ctx, query, strconv.FormatInt(after, 10), func(raw json.RawMessage) error {
		var at struct {
			Index int64 `json:"index"`
		}
		if err := json.Unmarshal(raw, &at); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		e, err := event.ParseServed(raw)
		if err != nil {
			return fmt.Errorf("read event %d: %w", at.Index, err)
		}
		return fn(at.Index, e)
	})
}

// Answers are what API servers answered to requests, by their audit logs.
type Answers interface {
	// Answer returns what came of the request of an intent; nil if it is not known.
	Answer(intent event.ID) *Answer
	// Live returns why the audit logs do not arrive; empty if they do.
	Live() string
}

// An Answer is an API server's to a request, as its audit log has it.
type Answer struct {
	At      time.Time
	AuditID string
	Code    int  // of HTTP
	Done    bool // it was not refused
	// Impersonator is who acted as the user that admission saw; empty for nobody.
	Impersonator string
}

func (a *Answer) details() map[string]string {
	d := map[string]string{"auditID": a.AuditID, "code": strconv.Itoa(a.Code)}
	if a.Impersonator != "" {
		d["impersonator"] = a.Impersonator
	}
	return d
}

// An intent is one that is to be confirmed.
type intent struct {
	index int64
	event *event.Event
	who   capture.Requester
	until time.Time // by when it is to be
	asked bool      // for the state that the resource is in
}

const (
	// patience is how long a state that was asked for may take to be seen.
	patience = time.Minute
	// remembered is how long it is known which states were seen.
	remembered = 10 * time.Minute
	// maxSeen bounds the states that are remembered of one resource.
	maxSeen = 256
	// settlePause is how often intents are looked at.
	settlePause = time.Second
)

// A sighting is a state that was seen.
type sighting struct {
	digest, version string
	at, until       time.Time
	gone            bool // the resource is deleted, or about to be
}

// saw remembers states.
func (o *Observer) saw(changes []*change) {
	now := o.c.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range changes {
		meta, _ := c.now["metadata"].(map[string]any)
		_, ending := meta["deletionTimestamp"]
		of := append(o.seen[c.uid], sighting{digestOf(c.now), c.version, c.at, now.Add(remembered), c.deleted || ending})
		o.seen[c.uid] = of[max(0, len(of)-maxSeen):]
	}
	if now.Sub(o.swept) > time.Minute {
		o.swept = now
		for uid, of := range o.seen {
			if now.After(of[len(of)-1].until) {
				delete(o.seen, uid)
			}
		}
	}
}

// confirms returns the state that an intent asked for, if it was seen.
func (o *Observer) confirms(in *intent) (sighting, bool) {
	o.mu.Lock()
	of := slices.Clone(o.seen[in.event.Resource.UID])
	o.mu.Unlock()
	for _, s := range of {
		if in.follows(s.version) && (in.who.Operation == "DELETE" && s.gone || in.who.Operation != "DELETE" && s.digest == in.who.After) {
			return s, true
		}
	}
	return sighting{}, false
}

// follows reports whether a state is one that came behind the one in which the resource
// was when the request was made.
func (in *intent) follows(version string) bool {
	return in.who.BeforeVersion == "" || later(version, in.who.BeforeVersion)
}

// stands reports whether a resource is in the state that an intent asked for, which may
// have come before there was anybody to see it.
func (o *Observer) stands(ctx context.Context, in *intent, kind capture.Resource) (sighting, bool) {
	in.asked = true
	of := o.c.API.Resource(schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: kind.Resource}).Namespace(in.event.Resource.Namespace)
	list, err := of.List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", in.event.Resource.Name).String()})
	if err != nil {
		o.c.Log.Warn("see whether an intent was done", "resource", kind.Resource, "error", err)
		return sighting{}, false
	}
	for i := range list.Items {
		u := &list.Items[i]
		if string(u.GetUID()) != in.event.Resource.UID {
			continue
		}
		if in.who.Operation == "DELETE" {
			return sighting{version: u.GetResourceVersion(), at: in.event.Timestamp}, u.GetDeletionTimestamp() != nil
		}
		return sighting{version: u.GetResourceVersion(), at: in.event.Timestamp}, in.follows(u.GetResourceVersion()) && digestOf(capture.Clean(u.Object, o.key)) == in.who.After
	}
	return sighting{version: list.GetResourceVersion(), at: in.event.Timestamp}, in.who.Operation == "DELETE"
}

// confirm has all intents confirmed, or called unconfirmed, until ctx ends.
func (o *Observer) confirm(ctx context.Context) {
	if o.c.Intents == nil {
		return
	}
	arrived := make(chan *intent)
	after, err := o.settled()
	if err != nil {
		o.c.Log.Warn("read up to where intents are confirmed", "error", err)
	}
	last := after
	settled := o.alreadySettled(ctx, after)
	go func() {
		for ctx.Err() == nil {
			err := o.c.Intents.Follow(ctx, after, func(index int64, e *event.Event) error {
				after = index
				in := &intent{index: index, event: e, until: o.c.Now().Add(patience)}
				var d struct {
					Admission capture.Requester `json:"admission"`
				}
				if json.Unmarshal(e.Details, &d) != nil || e.Cluster != o.c.Cluster || e.Recorded.Attribution != event.AttributionAdmission {
					return nil // another's, or erased
				}
				if in.who = d.Admission; settled[e.ID] {
					return nil
				}
				select {
				case arrived <- in:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if ctx.Err() == nil {
				o.c.Log.Warn("intents are not confirmed for now", "error", err)
				select {
				case <-time.After(lastPause):
				case <-ctx.Done():
				}
			}
		}
	}()
	tick := time.NewTicker(settlePause)
	defer tick.Stop()
	var pending []*intent
	for {
		select {
		case in := <-arrived:
			pending, last = append(pending, in), in.index
			continue
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		was := len(pending)
		if was == 0 {
			continue
		}
		pending, err = o.settle(ctx, pending)
		upTo := last
		if len(pending) > 0 {
			upTo = pending[0].index - 1
		}
		if err == nil && len(pending) < was {
			err = o.keepSettled(upTo)
		}
		if err != nil && ctx.Err() == nil {
			o.c.Log.Warn("confirm intents", "error", err)
		}
	}
}

// alreadySettled returns the intents behind an index of which it was told what became of
// them: by an operator before this one, or by this one before it was killed.
func (o *Observer) alreadySettled(ctx context.Context, after int64) map[event.ID]bool {
	for {
		settled := map[event.ID]bool{}
		err := o.c.Intents.Settled(ctx, after, func(e *event.Event) {
			var d struct{ Intent string }
			if json.Unmarshal(e.Details, &d) != nil {
				return // it was erased, as what it is of
			}
			if id, err := event.ParseID(d.Intent); err == nil && e.ID == verdictID(e.EventType, id) {
				settled[id] = true
			}
		})
		if err == nil || ctx.Err() != nil {
			return settled
		}
		o.c.Log.Warn("read what became of intents", "error", err)
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
		}
	}
}

// settle records what became of intents, and returns those that are open.
func (o *Observer) settle(ctx context.Context, pending []*intent) ([]*intent, error) {
	var open []*intent
	var events []*event.Event
	for _, in := range pending {
		e := o.verdict(ctx, in)
		if e == nil {
			open = append(open, in)
			continue
		}
		events = append(events, e)
	}
	for part := range slices.Chunk(events, maxBatch) {
		if err := client.RecordInParts(ctx, o.c.Sender, part...); err != nil {
			return pending, err
		}
	}
	return open, nil
}

// verdict returns the event that says what became of an intent; nil if that is not
// known yet.
func (o *Observer) verdict(ctx context.Context, in *intent) *event.Event {
	now := o.c.Now()
	kind, watchable := in.kind()
	changes := in.who.Before != in.who.After || in.who.After == ""
	state, seen := o.confirms(in)
	if late := !now.Before(in.until) || in.event.Recorded.At.Before(o.began); !seen && watchable && changes && late && !in.asked {
		state, seen = o.stands(ctx, in, kind)
		in.asked = now.Before(in.until) // else there is no other time
	}
	// Where the API server's audit log arrives, it is waited for: it tells besides who
	// impersonated whom.
	var told *Answer
	awaited := false
	if o.c.Answers != nil {
		told = o.c.Answers.Answer(in.event.ID)
		awaited = told == nil && o.c.Answers.Live() == "" && now.Before(in.until)
	}
	switch {
	case told != nil && !told.Done:
		return in.verdict("IntentFailed", told.At, told.details())
	case awaited:
		return nil
	case seen:
		details := map[string]string{"by": "watch"}
		if told != nil {
			details = told.details()
			details["by"] = "watch, audit log"
		}
		details["resourceVersion"] = state.version
		return in.verdict("IntentConfirmed", state.at, details)
	case told != nil && (!watchable || !changes || !now.Before(in.until)):
		details := told.details()
		details["by"] = "audit log"
		return in.verdict("IntentConfirmed", told.At, details)
	}
	said := func(reason string) *event.Event {
		return in.verdict("IntentUnconfirmed", in.event.Timestamp, map[string]string{"reason": reason})
	}
	switch {
	case !watchable:
		return said("not covered: only the API server's audit log can tell")
	case !changes:
		return said("nothing was to change")
	case now.Before(in.until):
		return nil
	}
	if reason, message := o.Kind(kind); reason != "Watching" {
		return said("not covered: the resource is not watched: " + reason + " " + message)
	}
	return said("the state that was asked for was not seen")
}

// kind returns the kind of resources that an intent is of, and whether its state can
// be seen.
func (in *intent) kind() (kind capture.Resource, watchable bool) {
	parts := strings.Split(in.who.Resource, "/")
	if len(parts) != 3 || in.event.Resource.UID == "" || in.who.Operation == "CONNECT" || in.who.SubResource != "" && in.who.SubResource != "status" {
		return kind, false
	}
	return capture.Resource{Group: parts[0], Version: parts[1], Resource: parts[2]}, true
}

// verdictID returns the id of the event that says what became of an intent.
func verdictID(eventType string, intent event.ID) event.ID {
	return event.DeriveID(eventType, intent.String()).Reserve()
}

func (in *intent) verdict(eventType string, at time.Time, details map[string]string) *event.Event {
	e := &event.Event{EventType: eventType, Timestamp: at.UTC(), Cluster: in.event.Cluster, Actor: event.Actor{Type: event.ActorService, Name: "graven-operator"},
		Resource: in.event.Resource, CorrelationID: in.event.CorrelationID, Fact: in.event.Fact + "/" + eventType}
	e.ClampTimestamp(time.Now())
	e.ID = verdictID(eventType, in.event.ID)
	details["intent"], details["eventType"] = in.event.ID.String(), in.event.EventType
	if err := e.SetDetails(details); err != nil { // strings are JSON
		panic(err)
	}
	return e
}

const settledFile = "settled.json"

// settled returns the index up to which intents are settled; -1 for none.
func (o *Observer) settled() (int64, error) {
	text, err := os.ReadFile(filepath.Join(o.c.Dir, settledFile))
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	index, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return -1, err
	}
	return index, nil
}

func (o *Observer) keepSettled(index int64) error {
	return seglog.WriteFile(seglog.OS{}, filepath.Join(o.c.Dir, settledFile), strconv.AppendInt(nil, index, 10))
}
