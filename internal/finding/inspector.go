package finding

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/brief"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// Types of the events that findings are made of. Only the ledger records them.
const (
	typeOpened       = "FindingOpened"
	typeWithdrawn    = "FindingWithdrawn"
	typeAcknowledged = "FindingAcknowledged"
	typeAccepted     = "FindingAccepted"
	typeResolved     = "FindingResolved"
	typeReopened     = "FindingReopened"
)

// kind is that of findings, as resources.
const kind = "Finding"

// types are those of the events that findings are made of.
func types() []string {
	return []string{typeOpened, typeWithdrawn, typeAcknowledged, typeAccepted, typeResolved, typeReopened}
}

const (
	// maxStory bounds the events of an incident that are judged together.
	maxStory = 5000
	// maxKept bounds the tellings that are kept in memory.
	maxKept = 10_000
)

// An Inspector reads a ledger from the front and says what each entry changes: which
// findings it opens, and which it explains. What it says of an entry follows from the
// entries up to it and from nothing else: read again, after a kill or by another server,
// it is the same, with the same ids. It is for one goroutine.
type Inspector struct {
	find   Searcher
	origin string
	custom []Rule
	wanted map[string]bool
	every  bool // the rules that users added ask for every event

	stories map[string]*kept
	clock   int64 // counts uses
	size    int   // tellings in stories
	// told are findings that were opened once and for all, as far as is remembered.
	told map[event.ID]bool
}

// kept is a story in memory.
type kept struct {
	tellings []*telling
	findings map[string]*found
	used     int64
}

// A Searcher finds earlier events, as [search.Finder] does.
type Searcher interface {
	Each(ctx context.Context, f *search.Filter, r search.Range, fn func(search.Hit) error) error
}

// NewInspector returns an inspector of the ledger called origin, which find searches.
// Custom are rules that [Compile] made ready.
func NewInspector(find Searcher, origin string, custom []Rule) *Inspector {
	x := &Inspector{find: find, origin: origin, custom: custom, wanted: map[string]bool{}, every: len(custom) > 0, stories: map[string]*kept{}, told: map[event.ID]bool{}}
	for _, t := range told {
		x.wanted[t] = true
	}
	for t := range plain {
		x.wanted[t] = true
	}
	return x
}

// Inspect returns the events to record of an entry, mostly none. Every entry below it
// must be in the index.
func (x *Inspector) Inspect(ctx context.Context, r *trail.Record) ([]*event.Event, error) {
	if r.Leaf != nil {
		return nil, nil
	}
	var b brief.Event
	if err := b.Read(r.Entry); err != nil {
		return nil, fmt.Errorf("entry %d: %w", r.Index, err)
	}
	if !x.wanted[string(b.EventType)] && !x.every && !tardy(&b) {
		return nil, nil
	}
	if known, ok := event.Lookup(string(b.EventType)); ok && (slices.Contains(types(), known.Type) || known.Access && known.Type != "AuditVerified") {
		return nil, nil // findings are not about findings, nor about reading
	}
	t, err := tellingOf(r)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", r.Index, err)
	}
	alone, err := judgeOne(t, x.custom, func() (*event.Event, error) {
		own := trail.Record{Index: r.Index, Entry: bytes.Clone(r.Entry), Erasable: bytes.Clone(r.Erasable), Salt: r.Salt}
		return own.Event()
	})
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", r.Index, err)
	}
	var events []*event.Event
	for _, f := range alone {
		events = x.once(events, f, t)
	}
	if t.eventType == "RemediationFailed" {
		f, err := x.failures(ctx, t)
		if err != nil {
			return nil, err
		}
		if f != nil {
			events = x.once(events, f, t)
		}
	}
	if id := incidentKey(t); id != "" && slices.Contains(told, t.eventType) {
		more, err := x.incident(ctx, id, t)
		if err != nil {
			return nil, err
		}
		events = append(events, more...)
	}
	return events, nil
}

// tardy reports whether an event was recorded long after it happened.
func tardy(b *brief.Event) bool {
	at, err := brief.Time(b.Timestamp)
	recorded, err2 := brief.Time(b.RecordedAt)
	return err == nil && err2 == nil && recorded.Sub(at) > maxLate
}

func incidentKey(t *telling) string {
	if t.incident == "" {
		return ""
	}
	return t.cluster + "\x00" + t.incident
}

// incident judges the story of an incident with and without its newest event: what is
// new is opened, what is gone is withdrawn.
func (x *Inspector) incident(ctx context.Context, id string, t *telling) ([]*event.Event, error) {
	k, err := x.story(ctx, id, t)
	if err != nil || len(k.tellings) >= maxStory {
		return nil, err
	}
	before := k.findings
	k.tellings = append(k.tellings, t)
	x.size++
	k.findings = judged(k.tellings)
	var events []*event.Event
	for _, key := range keysOf(k.findings) {
		if f := k.findings[key]; before[key] == nil {
			events = append(events, x.opened(f, t, t.id))
		}
	}
	for _, key := range keysOf(before) {
		if f := before[key]; k.findings[key] == nil {
			events = append(events, x.withdrawn(f, t))
		}
	}
	x.forget(id)
	return events, nil
}

func judged(tellings []*telling) map[string]*found {
	all := map[string]*found{}
	for _, f := range judge(tellings) {
		all[f.key()] = f
	}
	return all
}

func keysOf(m map[string]*found) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// story returns the story of an incident up to an event, from memory or from the ledger.
func (x *Inspector) story(ctx context.Context, id string, t *telling) (*kept, error) {
	x.clock++
	if k := x.stories[id]; k != nil {
		k.used = x.clock
		return k, nil
	}
	k := &kept{used: x.clock}
	f := search.Filter{CorrelationID: t.incident, Types: told}
	err := x.find.Each(ctx, &f, search.Range{End: t.index}, func(h search.Hit) error {
		if h.Event.Cluster != t.cluster || len(k.tellings) == maxStory {
			return nil
		}
		earlier, err := tellingOf(&h.Record)
		if err == nil {
			k.tellings = append(k.tellings, earlier)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("story of entry %d: %w", t.index, err)
	}
	k.findings = judged(k.tellings)
	x.size += len(k.tellings)
	x.stories[id] = k
	return k, nil
}

// forget makes room, for the stories that were used longest ago.
func (x *Inspector) forget(but string) {
	if x.size <= maxKept {
		return
	}
	uses := make([]int64, 0, len(x.stories))
	for _, k := range x.stories {
		uses = append(uses, k.used)
	}
	slices.Sort(uses)
	limit := uses[len(uses)/2]
	for id, k := range x.stories {
		if k.used <= limit && id != but {
			x.size -= len(k.tellings)
			delete(x.stories, id)
		}
	}
}

// maxFailures bounds the failures of a namespace that are looked through.
const maxFailures = 128

// failures judges the failures in a namespace up to one of them.
func (x *Inspector) failures(ctx context.Context, t *telling) (*found, error) {
	if x.told[x.id("circuit-breaker", breakerSubject(t, t.at))] && x.told[x.id("circuit-breaker", breakerSubject(t, t.at.Add(-time.Hour)))] {
		return nil, nil
	}
	var around []*telling
	f := search.Filter{Types: []string{"RemediationFailed"}, Namespace: t.namespace, Cluster: t.cluster, From: t.at.Add(-time.Hour), To: t.at.Add(time.Hour)}
	err := x.find.Each(ctx, &f, search.Range{End: t.index}, func(h search.Hit) error {
		if h.Event.Cluster != t.cluster || h.Event.Resource.Namespace != t.namespace {
			return nil
		}
		earlier, err := tellingOf(&h.Record)
		if err != nil {
			return err
		}
		if around = append(around, earlier); len(around) == maxFailures {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("failures before entry %d: %w", t.index, err)
	}
	return breaker(around, t), nil
}

// id is the id of a finding: that of its rule and of what it is about.
func (x *Inspector) id(rule, subject string) event.ID { return idOf(x.origin, rule, subject) }

func idOf(origin, rule, subject string) event.ID {
	return event.DeriveID("finding", origin, rule, subject)
}

// once opens a finding that nothing explains later, unless it was.
func (x *Inspector) once(events []*event.Event, f *found, t *telling) []*event.Event {
	id := x.id(f.rule.Name, f.subject)
	if x.told[id] {
		return events
	}
	if len(x.told) >= maxKept {
		clear(x.told)
	}
	x.told[id] = true
	return append(events, x.opened(f, t, ""))
}

// about returns an event about a finding that follows from an entry. Of several for the
// same finding, the occasion tells them apart.
func (x *Inspector) about(eventType, rule, subject, occasion string, because *telling) *event.Event {
	id := x.id(rule, subject)
	return &event.Event{ID: event.DeriveID(eventType, id.String(), occasion), EventType: eventType, Timestamp: because.recorded,
		Actor: event.Actor{Type: event.ActorSystem, Name: "graven"}, Cluster: because.cluster,
		Resource: event.Resource{Kind: kind, Namespace: because.namespace, Name: id.String()}}
}

func (x *Inspector) opened(f *found, because *telling, occasion string) *event.Event {
	e := x.about(typeOpened, f.rule.Name, f.subject, occasion, because)
	e.Severity = f.rule.Severity
	evidence := f.evidence
	if len(evidence) > maxEvidence {
		evidence = evidence[:maxEvidence]
	}
	set(e, map[string]any{"rule": f.rule.Name, "title": f.rule.Title, "says": cut(f.says), "incident": f.on.incident, "happenedAt": event.FormatTime(f.at),
		"evidence": evidence, "event": f.on.id, "subject": cut(strings.TrimSpace(f.on.kind + " " + f.on.name))})
	return e
}

// maxEvidence bounds the entries that a finding names.
const maxEvidence = 100

func (x *Inspector) withdrawn(f *found, because *telling) *event.Event {
	e := x.about(typeWithdrawn, f.rule.Name, f.subject, because.id, because)
	set(e, map[string]any{"rule": f.rule.Name, "incident": f.on.incident, "because": because.index, "says": "explained by " + because.eventType + ", entry " + fmt.Sprint(because.index)})
	return e
}

// set gives an event its details. What events say was sound when it was recorded; should
// it not be, the finding stands all the same.
func set(e *event.Event, details map[string]any) {
	err := e.SetDetails(details)
	if err == nil {
		return
	}
	less := map[string]any{"rule": details["rule"], "title": details["title"], "says": "what the evidence says cannot be told: " + err.Error()}
	if err := e.SetDetails(less); err != nil {
		panic("internal error: details of a finding: " + err.Error()) // of our own words
	}
}

// cut bounds a text that comes from events.
func cut(text string) string {
	if len(text) > 400 {
		text = string(bytes.ToValidUTF8([]byte(text[:400]), nil)) + "…"
	}
	return text
}
