package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/brief"
)

// Late is how long after it happened an event may be recorded, before a report says so.
const Late = time.Hour

// ErrTooMuch means that a window has more facts or incidents than memory is given to.
var ErrTooMuch = errors.New("too much happened in the window for one report; ask for a shorter one, or one namespace")

const (
	maxFacts     = 32 << 20
	maxIncidents = 2_000_000
)

// A Question asks for a report.
type Question struct {
	// Namespace limits the report to events about resources there; empty for all.
	Namespace string
	// Scope, if not nil, limits it to these namespaces, whatever else is asked for.
	Scope []string
	// From is the first moment of the window, To the first behind it.
	From, To time.Time
	// Chaos has incidents of chaos experiments counted.
	Chaos bool
	// Targets are what is promised, beside what the trail says of IncidentSLAs; nil
	// means [Defaults].
	Targets []Target
}

// Check returns what is wrong with a question.
func (q *Question) Check() error {
	switch {
	case q.From.IsZero() || q.To.IsZero():
		return errors.New("window: a report needs a beginning and an end")
	case !q.From.Before(q.To):
		return fmt.Errorf("from: %s is not before to, %s", event.FormatTime(q.From), event.FormatTime(q.To))
	}
	return nil
}

// Before is the question about the window of the same length before.
func (q Question) Before() Question {
	q.From, q.To = q.From.Add(-q.To.Sub(q.From)), q.From
	return q
}

// History are the types of events of which a report wants those before its window, too:
// what began then may end in it.
func History() []string {
	return []string{"IssueCreated", "IssueResolved", "IssueEscalated", "IssueContained", "IssueAcknowledged", "AIInsightRequested", "ApprovalRequested",
		"orchestrator.lifecycle.created", "orchestrator.lifecycle.completed", "orchestrator.lifecycle.failed", "gateway.crd.created",
		"ApprovalGranted", "orchestrator.approval.requested", "orchestrator.approval.approved", "webhook.remediationapprovalrequest.decided",
		"aianalysis.approval.decision", "CircuitBreakerTriggered", "ConfigChanged", "IntentConfirmed", "RemediationExecuted", "workflowexecution.execution.started"}
}

// A Tally takes in the events that a report is made of, in any order, each once. It is
// for one goroutine.
type Tally struct {
	q        Question
	previous *Tally // of the window before, if that is compared

	facts     factTable
	alone     map[sort]int // facts that one event alone can tell, counted
	tellings  int
	incidents map[incidentKey]*incident
	targets   map[string]*Target // of IncidentSLAs, by resource and version
	breakers  map[string][]time.Time
	detected  map[string]*detection
	texts     map[string]uint16
	names     []string

	intents   []intent            // that may be confirmed
	confirmed map[string]struct{} // ids of intents

	late, erased, unreadable int
	seen                     bool // anything of the namespace
}

// An intent is an event that says what somebody asked for.
type intent struct {
	id string
	e  telling
}

type incidentKey struct{ cluster, namespace, id string }

type detection struct {
	started, detected time.Time
}

// NewTally returns a tally for a question that [Question.Check] found good. With compare
// it looks at the window before, too.
func NewTally(q Question, compare bool) *Tally {
	t := &Tally{q: q, alone: map[sort]int{}, incidents: map[incidentKey]*incident{}, targets: map[string]*Target{}, breakers: map[string][]time.Time{},
		detected: map[string]*detection{}, texts: map[string]uint16{}, confirmed: map[string]struct{}{}}
	if compare {
		t.previous = NewTally(q.Before(), false)
	}
	return t
}

// A telling is an event with what its details say.
type telling struct {
	brief.Event
	at      time.Time
	details map[string]string
}

func (e *telling) detail(names ...string) string {
	for _, name := range names {
		if v := e.details[name]; v != "" {
			return v
		}
	}
	return ""
}

// Add takes in an event: its brief, and the erasable content beside the entry, nil if it
// was erased.
func (t *Tally) Add(b *brief.Event, content []byte) error {
	at, err := brief.Time(b.Timestamp)
	if err != nil {
		t.unreadable++
		return nil
	}
	return t.add(b, at, content)
}

func (t *Tally) add(b *brief.Event, at time.Time, content []byte) error {
	if t.previous != nil {
		if err := t.previous.add(b, at, content); err != nil {
			return err
		}
	}
	if string(b.EventType) == "IntentConfirmed" {
		d, err := details(content)
		if err == nil {
			t.confirmed[d["intent"]] = struct{}{}
		}
	}
	if !at.Before(t.q.To) || !t.within(b) {
		return nil
	}
	t.seen = true
	inside := !at.Before(t.q.From)
	h := handlers[string(b.EventType)]
	if !inside && h == nil {
		return nil
	}
	intended := string(b.Attribution) == event.AttributionAdmission
	if !intended {
		if inside && !ours(b.EventType) {
			if err := t.count(b, false); err != nil {
				return err
			}
			if recorded, err := brief.Time(b.RecordedAt); err == nil && recorded.Sub(at) > Late {
				t.late++
			}
		}
		if h == nil {
			return nil
		}
	}
	d, err := details(content)
	if err != nil {
		t.unreadable++
		return nil
	}
	if content == nil && inside {
		t.erased++
	}
	e := telling{Event: *b, at: at, details: d}
	if intended {
		if d["intent"] == "admission" {
			e.own()
			t.intents = append(t.intents, intent{string(b.ID), e})
			return nil
		}
		if inside {
			if err := t.count(b, false); err != nil {
				return err
			}
		}
	}
	if h != nil {
		h(t, &e)
	}
	if len(t.incidents) > maxIncidents {
		return ErrTooMuch
	}
	return nil
}

// ours reports whether events of a type tell of Graven's own work, or of reading the
// ledger, and so of nothing that a report counts.
func ours(eventType []byte) bool { return aside()[string(eventType)] }

var aside = sync.OnceValue(func() map[string]bool {
	types := map[string]bool{}
	for _, t := range event.Types() {
		switch t.Family {
		case "graven", "graven-operator", "graven-recorder":
			types[t.Type] = true
		}
		types[t.Type] = types[t.Type] || t.Access
	}
	return types
})

// own has e keep its texts, which lie in somebody else's memory.
func (e *telling) own() {
	for _, text := range []*[]byte{&e.ID, &e.EventType, &e.Severity, &e.Outcome, &e.ActorType, &e.ActorName, &e.Cluster, &e.Namespace,
		&e.Kind, &e.Name, &e.UID, &e.CorrelationID, &e.Fact, &e.Timestamp, &e.RecordedAt, &e.RecordedBy, &e.Attribution} {
		*text = slices.Clone(*text)
	}
}

// settle takes in the intents that were confirmed, and returns how many were not. A
// telling of what was done makes no second fact of it.
func (t *Tally) settle() (unconfirmed int, err error) {
	for _, in := range t.intents {
		inside := !in.e.at.Before(t.q.From)
		if _, ok := t.confirmed[in.id]; !ok {
			if inside && !t.facts.has(factKey(&in.e.Event)) {
				unconfirmed++
			}
			continue
		}
		if inside {
			if err := t.count(&in.e.Event, true); err != nil {
				return 0, err
			}
		}
		if h := handlers[string(in.e.EventType)]; h != nil {
			h(t, &in.e)
		}
	}
	t.intents = nil
	return unconfirmed, nil
}

// within reports whether an event is about a namespace that was asked for.
func (t *Tally) within(b *brief.Event) bool {
	namespace := b.Namespace
	if len(namespace) == 0 && string(b.Kind) == "Namespace" {
		namespace = b.Name
	}
	return (t.q.Namespace == "" || t.q.Namespace == string(namespace)) && (t.q.Scope == nil || slices.Contains(t.q.Scope, string(namespace)))
}

func details(content []byte) (map[string]string, error) {
	d := map[string]string{}
	err := brief.Details(content, func(name, value []byte) { d[string(name)] = string(value) })
	return d, err
}

// count counts the fact that an event tells. Of several tellings, the one whose source
// is known best says who did it and how grave it is; of equal ones, that with the least
// hash of its id.
func (t *Tally) count(b *brief.Event, intended bool) error {
	if !intended {
		t.tellings++
	}
	weight := uint64(7)
	switch string(b.Attribution) {
	case event.AttributionAdmission:
		weight = 0
	case event.AttributionAuthenticated:
		weight = 1
	case event.AttributionObserved:
		weight = 2
	}
	typ, err := t.text(b.EventType)
	if err != nil {
		return err
	}
	severity, err := t.text(b.Severity)
	if err != nil {
		return err
	}
	actor, err := t.text(b.ActorType)
	if err != nil {
		return err
	}
	of := sort{typ: typ, severity: severity, actor: actor}
	if len(b.Fact) == 0 {
		t.alone[of]++
		return nil
	}
	id := hash64(b.ID)
	if !t.facts.put(factKey(b), fact{order: weight<<60 | id>>4, sort: of}) {
		return ErrTooMuch
	}
	return nil
}

// total is how many facts there are.
func (t *Tally) total() int {
	n := t.facts.n
	for _, of := range t.alone {
		n += of
	}
	return n
}

// text returns the number of one of few texts.
func (t *Tally) text(text []byte) (uint16, error) {
	n, ok := t.texts[string(text)]
	if !ok {
		if len(t.names) == 1<<16-1 {
			return 0, ErrTooMuch
		}
		n = uint16(len(t.names))
		t.names = append(t.names, string(text))
		t.texts[string(text)] = n
	}
	return n, nil
}

// factKey is the hash of the fact that an event tells; of its id, where it tells none.
func factKey(b *brief.Event) uint64 {
	if len(b.Fact) == 0 {
		return hash64(b.ID)
	}
	var buf [256]byte
	return hash64(append(append(append(buf[:0], b.Cluster...), 0), b.Fact...))
}

func hash64(text []byte) uint64 {
	sum := sha256.Sum256(text)
	return binary.LittleEndian.Uint64(sum[:])
}

// A fact is one thing that happened, as its best telling says.
type fact struct {
	order uint64 // the least counts
	sort
}

// A sort is what facts are counted by, as numbers of texts.
type sort struct{ typ, severity, actor uint16 }

// A factTable holds facts by the hash of what they are: open addressing, for there are
// many.
type factTable struct {
	keys  []uint64 // 0 for none
	facts []fact
	n     int
}

func (f *factTable) place(key uint64) (int, bool) {
	mask := uint64(len(f.keys) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		if f.keys[i] == key || f.keys[i] == 0 {
			return int(i), f.keys[i] == key
		}
	}
}

func (f *factTable) has(key uint64) bool {
	if f.n == 0 {
		return false
	}
	_, ok := f.place(max(key, 1))
	return ok
}

// put puts in a fact, or the better telling of one; false where there is no room.
func (f *factTable) put(key uint64, x fact) bool {
	key = max(key, 1)
	if 4*f.n >= 3*len(f.keys) {
		old := *f
		f.keys, f.facts = make([]uint64, max(1024, 2*len(old.keys))), make([]fact, max(1024, 2*len(old.keys)))
		for i, k := range old.keys {
			if k != 0 {
				at, _ := f.place(k)
				f.keys[at], f.facts[at] = k, old.facts[i]
			}
		}
	}
	at, ok := f.place(key)
	if !ok {
		if f.n == maxFacts {
			return false
		}
		f.n++
		f.keys[at], f.facts[at] = key, x
	} else if x.order < f.facts[at].order {
		f.facts[at] = x
	}
	return true
}

// earliest keeps the earlier of two times; zero is none.
func earliest(to *time.Time, at time.Time) {
	if to.IsZero() || at.Before(*to) {
		*to = at
	}
}

// least keeps the lesser of two texts, empty being none: of several tellings in any
// order the same one stays.
func least(to *string, text string) {
	if *to == "" || text != "" && text < *to {
		*to = text
	}
}

// issue returns the incident that an event belongs to: by its correlation id, or the
// name of the Issue that it is about.
func (t *Tally) issue(e *telling) *incident {
	id := cmp.Or(string(e.CorrelationID), e.detail("issue", "issueName", "rr_name"))
	if id == "" && (string(e.Kind) == "Issue" || string(e.Kind) == "RemediationRequest") {
		id = string(e.Name)
	}
	if id == "" {
		return nil
	}
	key := incidentKey{string(e.Cluster), string(e.Namespace), id}
	in := t.incidents[key]
	if in == nil {
		key = incidentKey{strings.Clone(key.cluster), strings.Clone(key.namespace), strings.Clone(id)}
		in = &incident{key: key}
		t.incidents[key] = in
	}
	return in
}
