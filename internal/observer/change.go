package observer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
)

// A change is a new state of a resource.
type change struct {
	uid, version, namespace string
	at                      time.Time // by the resource's own account
	since                   time.Time // from when on the state lasts
	now                     object    // the state; the last one, where it is deleted
	deleted                 bool
	// derived is set if there may have been states in between that were not seen.
	derived bool
	// fresh, if not nil, are the policies that were not shown it before.
	fresh []*capture.Program
}

// name returns the resource's.
func (c *change) name() string {
	meta, _ := c.now["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	return name
}

// A told is what is to be recorded of a change, and the state that is kept once it is
// durable.
type told struct {
	events []*event.Event
	next   *state // nil if the resource is gone
}

// A judge says what is to be recorded of changes.
type judge struct {
	kind     capture.Resource
	programs []*capture.Program
	cluster  string
	counter  capture.Counter
	now      func() time.Time
	// count is told how many events each policy has given, and failed why one has
	// not.
	count  func(policy string, events int)
	failed func(policy string, err error)
	// quiet are failures that were told, until when they are not told again.
	quiet map[string]time.Time
}

// judge returns what is to be recorded of a change. before is the state until then;
// nil if there is none.
func (j *judge) judge(ctx context.Context, c *change, before *state) (told, error) {
	next := &state{UID: c.uid, Version: c.version, Object: c.now, At: c.at, Since: c.since}
	var old object
	if before != nil {
		next.Snapshot, next.Recorded, next.Facts, next.Gone, old = before.Snapshot, before.Recorded, maps.Clone(before.Facts), before.Gone, before.Object
	}
	var t told
	if before != nil && c.fresh == nil && !c.derived && (c.deleted || before.Version != c.version) {
		was := *before
		events, _, err := j.lasted(ctx, &was, c.since)
		if err != nil {
			return t, err
		}
		t.events, next.Told = events, was.Told
	}
	record := func(programs []*capture.Program, operation string, object, old object) error {
		for _, p := range programs {
			if !p.Policy.Match.Matches(j.kind, operation, c.namespace, c.name()) {
				continue
			}
			events, err := p.Events(ctx, &capture.Input{Object: object, Old: old, Operation: operation, Cluster: j.cluster, Now: c.at, Counter: j.counter})
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				j.failed(p.Policy.Name, err)
			}
			if len(events) > 0 {
				next.Recorded = true
			}
			events = next.again(p.Policy.Name, c, events)
			if err != nil && j.loud(p.Policy.Name+"/"+c.uid) {
				events = append(events, j.failure(p.Policy.Name, c, err))
			}
			for _, e := range events {
				if e, err = j.valid(p.Policy.Name, c, e, before != nil && c.derived); err != nil {
					return err
				}
				t.events = append(t.events, e)
			}
			if len(events) > 0 {
				j.count(p.Policy.Name, len(events))
			}
		}
		return nil
	}
	if c.fresh != nil {
		if err := record(c.fresh, "CREATE", c.now, nil); err != nil {
			return t, err
		}
	}
	changed := before == nil || before.Version != c.version && digestOf(old) != digestOf(c.now)
	if changed {
		operation := "UPDATE"
		if before == nil {
			operation = "CREATE"
		}
		if err := record(j.programs, operation, c.now, old); err != nil {
			return t, err
		}
	}
	if c.deleted {
		if err := record(j.programs, "DELETE", nil, c.now); err != nil {
			return t, err
		}
	}
	told := len(t.events) > 0
	next.Recorded = next.Recorded || told
	if before != nil && next.Recorded && before.Snapshot != digestOf(old) && loses(old, c.now) {
		if err := j.snapshot(&t, c, before.Version, old, "what it says is lost in the next state"); err != nil {
			return t, err
		}
	}
	if next.Snapshot != digestOf(c.now) && (told || c.deleted && next.Recorded) {
		because := "something was recorded of it"
		if c.deleted {
			because = "it was deleted"
		}
		if err := j.snapshot(&t, c, c.version, c.now, because); err != nil {
			return t, err
		}
		next.Snapshot = digestOf(c.now)
	}
	if t.next = next; c.deleted {
		t.next = &state{UID: c.uid, Version: c.version, Gone: c.at}
	}
	return t, nil
}

// maxFacts bounds the facts of a resource that are remembered.
const maxFacts = 200

// again has what a policy tells of a resource a second time be another fact: the same
// may happen to it again, and a policy sees two states only. A policy that is shown the
// last state, because it is new, has told some of it before if it was there before.
func (st *state) again(policy string, c *change, events []*event.Event) []*event.Event {
	told := events[:0]
	for _, e := range events {
		if at, ok := strings.CutSuffix(e.Fact, c.version); ok && !strings.ContainsAny(at[max(0, len(at)-1):], "0123456789") {
			told = append(told, e) // it says which time
			continue
		}
		sum := sha256.Sum256([]byte(policy + "\x00" + e.Fact))
		key := hex.EncodeToString(sum[:8])
		n := st.Facts[key]
		switch {
		case n > 0 && c.fresh != nil:
			continue
		case n == 0 && len(st.Facts) >= maxFacts:
		case n == 0 || c.fresh == nil && !c.derived:
			if st.Facts == nil {
				st.Facts = map[string]int{}
			}
			if st.Facts[key] = n + 1; n > 0 {
				e.Fact += " #" + strconv.Itoa(n+1)
				e.ID = event.DeriveID("capture/again", e.ID.String(), e.Fact)
			}
		}
		told = append(told, e)
	}
	return told
}

// lasted returns what is to be recorded because a state has lasted until a time, and
// when it is to be looked again; zero for not at all. The state remembers it.
func (j *judge) lasted(ctx context.Context, st *state, until time.Time) (events []*event.Event, again time.Time, err error) {
	u := unstructured.Unstructured{Object: st.Object}
	c := &change{uid: st.UID, version: st.Version, namespace: u.GetNamespace(), at: st.At, now: st.Object}
	for _, p := range j.programs {
		if !p.Lasts() || !p.Policy.Match.Matches(j.kind, "UPDATE", c.namespace, c.name()) {
			continue
		}
		found, later, err := p.Lasted(ctx, &capture.Input{Object: c.now, Old: c.now, Operation: "UPDATE", Cluster: j.cluster, Now: until.UTC(), Counter: j.counter}, st.Since.UTC())
		if ctx.Err() != nil {
			return nil, again, ctx.Err()
		}
		if err != nil {
			j.failed(p.Policy.Name, err)
			if j.loud(p.Policy.Name + "/" + c.uid) {
				events = append(events, j.failure(p.Policy.Name, c, err))
			}
		}
		if !later.IsZero() && (again.IsZero() || later.Before(again)) {
			again = later
		}
		given := 0
		for _, e := range found {
			if slices.Contains(st.Told, e.Fact) {
				continue
			}
			st.Told = append(slices.Clip(st.Told), e.Fact)
			if e, err = j.valid(p.Policy.Name, c, e, false); err != nil {
				return nil, again, err
			}
			events, given = append(events, e), given+1
		}
		if given > 0 {
			j.count(p.Policy.Name, given)
		}
	}
	return events, again, nil
}

// valid returns an event as the ledger takes it, or one that says why it would not.
func (j *judge) valid(policy string, c *change, e *event.Event, derived bool) (*event.Event, error) {
	now := j.now()
	e.ClampTimestamp(now)
	e.Complete(now)
	var marked error
	if derived {
		marked = mark(e)
		// The same may have been told when it was seen, and that be forgotten.
		e.ID = event.DeriveID("capture/derived", e.ID.String())
	}
	if err := errors.Join(marked, e.CheckReserved(), e.Validate(now)); err != nil {
		j.failed(policy, err)
		e = j.failure(policy, c, err)
		e.Complete(now)
		return e, e.Validate(now)
	}
	return e, nil
}

// mark has an event say that it follows from states before and after.
func mark(e *event.Event) error {
	details := map[string]any{}
	if len(e.Details) > 0 {
		if err := json.Unmarshal(e.Details, &details); err != nil {
			return err
		}
	}
	details["derived"] = "true"
	return e.SetDetails(details)
}

// own returns an event of the operator's own about a change. Its id is of all that it
// says: in other words, it is told again.
func (j *judge) own(eventType string, c *change, which, correlationID string, details any) *event.Event {
	e := &event.Event{EventType: eventType, Timestamp: c.at.UTC(), Cluster: j.cluster, Actor: event.Actor{Type: event.ActorService, Name: "graven-operator"},
		Resource: about(c.now), Fact: c.uid + "/" + eventType + "/" + which, CorrelationID: correlationID}
	if err := e.SetDetails(details); err != nil { // strings are JSON
		panic(err)
	}
	e.ClampTimestamp(j.now())
	e.ID = event.DeriveID("capture", j.cluster, e.Fact, correlationID, string(e.Details)).Reserve()
	return e
}

// loud reports whether a failure is to be told, and not only counted: once in ten
// minutes for each policy and resource.
func (j *judge) loud(what string) bool {
	now := j.now()
	if len(j.quiet) > 10_000 {
		clear(j.quiet)
	}
	if until := j.quiet[what]; now.Before(until) {
		return false
	}
	if j.quiet == nil {
		j.quiet = map[string]time.Time{}
	}
	j.quiet[what] = now.Add(10 * time.Minute)
	return true
}

// failure returns the event that says that a policy has failed on a change.
func (j *judge) failure(policy string, c *change, err error) *event.Event {
	field := ""
	var wrong *capture.EvalError
	if errors.As(err, &wrong) {
		field = wrong.Field
	}
	return j.own("CaptureFailed", c, policy+"/"+c.version, "", map[string]string{"policy": policy, "field": field, "reason": cut(err.Error(), 4096), "resourceVersion": c.version})
}

// typeSnapshot is the type of an event that has a resource's state.
const typeSnapshot = "ResourceSnapshot"

// A snapshot is what such an event has in its details. Object is the state as JSON,
// or a part of that: the Part-th of Parts, from 1 on.
type snapshot struct {
	ResourceVersion string `json:"resourceVersion"`
	Object          string `json:"object"`
	Digest          string `json:"digest"`
	Because         string `json:"because"`
	Part            int    `json:"part,omitempty"`
	Parts           int    `json:"parts,omitempty"`
}

// maxPart bounds what one event has of a snapshot, in bytes of JSON.
const maxPart = 192 << 10

// snapshot adds a state to what is told, in parts if it is large.
func (j *judge) snapshot(t *told, c *change, version string, o object, because string) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	correlationID := ""
	if len(t.events) > 0 {
		correlationID = t.events[0].CorrelationID
	}
	var parts []string
	for rest := string(text); rest != ""; {
		part := quotable(rest, maxPart)
		parts, rest = append(parts, part), rest[len(part):]
	}
	for i, part := range parts {
		d := snapshot{ResourceVersion: version, Object: part, Digest: digestOf(o), Because: because}
		if len(parts) > 1 {
			d.Part, d.Parts = i+1, len(parts)
		}
		e := j.own(typeSnapshot, c, version+"/"+strconv.Itoa(i+1), correlationID, d)
		e.Complete(j.now())
		if err := e.Validate(j.now()); err != nil {
			return fmt.Errorf("keep a snapshot of %s: %w", c.uid, err)
		}
		t.events = append(t.events, e)
	}
	return nil
}

// quotable returns the beginning of a text that takes up to n bytes as JSON.
func quotable(text string, n int) string {
	for i, r := range text {
		switch size := utf8.RuneLen(r); {
		case r == '"' || r == '\\':
			n -= 2
		case r < 0x20 || r == utf8.RuneError || r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029': // as encoding/json writes them
			n -= 6
		default:
			n -= size
		}
		if n < 0 {
			return text[:i]
		}
	}
	return text
}

// cut shortens text to a number of bytes, not amid a letter.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && text[n]&0xC0 == 0x80 {
		n--
	}
	return text[:n]
}

func digestOf(o object) string { return capture.Digest(o) }

// loses reports whether something that a state says beside its metadata is not in
// the next one: a member is gone, or empty.
func loses(old, next any) bool {
	switch old := old.(type) {
	case object:
		n, _ := next.(object)
		for name, member := range old {
			if name != "metadata" && loses(member, n[name]) {
				return true
			}
		}
		return false
	case map[string]any:
		n, _ := next.(map[string]any)
		for name, member := range old {
			if loses(member, n[name]) {
				return true
			}
		}
		return false
	case []any:
		n, _ := next.([]any)
		return len(n) < len(old)
	case string:
		n, _ := next.(string)
		return old != "" && n == ""
	}
	return old != nil && next == nil
}

// about names a resource.
func about(o object) event.Resource {
	str := func(from map[string]any, name string) string {
		s, _ := from[name].(string)
		return s
	}
	meta, _ := o["metadata"].(map[string]any)
	return event.Resource{APIVersion: str(o, "apiVersion"), Kind: str(o, "kind"), Namespace: str(meta, "namespace"), Name: str(meta, "name"), UID: str(meta, "uid")}
}

// namesOf returns the names of policies in order, once each.
func namesOf(programs []*capture.Program) []string {
	var names []string
	for _, p := range programs {
		names = append(names, p.Policy.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// later reports whether a resourceVersion is another than one that was seen, and not
// an older one. They are numbers that grow, of one API server.
func later(version, seen string) bool {
	v, err1 := strconv.ParseUint(version, 10, 64)
	s, err2 := strconv.ParseUint(seen, 10, 64)
	if err1 != nil || err2 != nil {
		return version != seen
	}
	return cmp.Compare(v, s) > 0
}
