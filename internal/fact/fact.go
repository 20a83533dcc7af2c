// Package fact finds the things that happened behind the events that tell of them: a
// fact may be told by a product itself, by a recorder, by who watches its resources and
// by who was asked at admission, and happened once.
//
//   - Who did it, and when, the telling says whose source is known best: admission, then
//     whom the server authenticated, then what was observed, then what a program says.
//   - What was asked for at admission alone is not done, until it was confirmed or
//     something else tells of it.
package fact

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/legible"
)

// A Telling is an event at its place in the ledger.
type Telling struct {
	Index int64
	Event *event.Event
	// Erased is set if the event's content is no longer there.
	Erased bool
}

// A Told is a telling with what its details say.
type Told struct {
	Telling
	Details map[string]string // each member in words
	// Intent is set if it says what somebody asked for; Became is what became of that, nil
	// while nothing is known.
	Intent bool
	Became *Verdict
}

// A Verdict is what became of an intent.
type Verdict struct{ EventType, Reason, By, Code, Impersonator string }

// A Fact is one thing that happened, as all that tell of it say together, the best known
// source first.
type Fact struct{ Tellings []*Told }

// Best is the telling whose source is known best.
func (f *Fact) Best() *Told { return f.Tellings[0] }

// Event is that of the best telling.
func (f *Fact) Event() *event.Event { return f.Tellings[0].Event }

// At is when it happened.
func (f *Fact) At() time.Time { return f.Event().Timestamp }

// Is reports whether any telling is of one of some types.
func (f *Fact) Is(types ...string) bool {
	return slices.ContainsFunc(f.Tellings, func(t *Told) bool { return slices.Contains(types, t.Event.EventType) })
}

// Detail returns what the best known telling that says one of names says.
func (f *Fact) Detail(names ...string) string {
	for _, t := range f.Tellings {
		for _, name := range names {
			if text := t.Details[name]; text != "" {
				return text
			}
		}
	}
	return ""
}

// maxText bounds what is kept of one detail, in runes.
const maxText = 2000

// said returns what an event's details say, each member in words. Nothing else is kept of
// them, for there may be much.
func said(e *event.Event) map[string]string {
	if len(e.Details) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(e.Details))
	d.UseNumber()
	var all map[string]any
	if d.Decode(&all) != nil {
		return nil // as if it had none: what is in the ledger was JSON when it came
	}
	m := make(map[string]string, len(all))
	for name, v := range all {
		m[name] = legible.Cut(Words(v), maxText)
	}
	return m
}

// Words are a detail as text. Lists of plain values are told one after the other.
func Words(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return strings.TrimSpace(v)
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	case []any:
		var all []string
		for _, member := range v {
			if m, ok := member.(map[string]any); ok {
				all = append(all, cmp.Or(Words(m["action"]), Words(m["workflow_id"]), Words(m["name"]), Words(m["type"]), compact(m)))
			} else {
				all = append(all, Words(member))
			}
		}
		return strings.Join(all, ", ")
	case map[string]any:
		if kind, name := Words(v["kind"]), Words(v["name"]); kind != "" && name != "" {
			return kind + "/" + name
		}
	}
	return compact(v)
}

func compact(v any) string {
	text, err := json.Marshal(v) // of what was decoded
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// Erased reports whether no telling has its content any more.
func (f *Fact) Erased() bool {
	return !slices.ContainsFunc(f.Tellings, func(t *Told) bool { return !t.Erased })
}

// Done reports whether it is more than an intent.
func (f *Fact) Done() bool {
	return slices.ContainsFunc(f.Tellings, func(t *Told) bool { return !t.Intent || t.Became != nil && t.Became.EventType == "IntentConfirmed" })
}

// Asked returns the intent, if any telling is one.
func (f *Fact) Asked() *Told {
	if i := slices.IndexFunc(f.Tellings, func(t *Told) bool { return t.Intent }); i >= 0 {
		return f.Tellings[i]
	}
	return nil
}

// Attributions are those of actors, the best known first.
var Attributions = []string{event.AttributionAdmission, event.AttributionAuthenticated, event.AttributionObserved, event.AttributionAsserted}

func rank(t *Told) int {
	if i := slices.Index(Attributions, t.Event.Recorded.Attribution); i >= 0 {
		return i
	}
	return len(Attributions)
}

// Snapshot is the type of events that have a state.
const Snapshot = "ResourceSnapshot"

// aside are events that tell of other events, or of how recording goes: they are no
// steps of an incident.
var aside = []string{Snapshot, "IntentConfirmed", "IntentUnconfirmed", "IntentFailed", "RecorderHeartbeat", "RecorderRepeated"}

// Of returns the facts among events, in order of time and, at one time, of the
// ledger.
func Of(given []Telling) []*Fact {
	verdicts := map[string]*Verdict{}
	judged := map[string]*Verdict{} // by the intent's fact, which erasing leaves
	var tellings []*Told
	for _, g := range given {
		t := &Told{Telling: g}
		if g.Event.EventType != Snapshot {
			t.Details = said(g.Event)
		}
		if typ := g.Event.EventType; strings.HasPrefix(typ, "Intent") && slices.Contains(aside, typ) {
			d := t.Details
			v := &Verdict{typ, d["reason"], d["by"], d["code"], d["impersonator"]}
			verdicts[d["intent"]] = v
			judged[g.Event.Cluster+"\x00"+strings.TrimSuffix(g.Event.Fact, "/"+typ)] = v
			continue
		}
		if slices.Contains(aside, g.Event.EventType) {
			continue
		}
		tellings = append(tellings, t)
	}
	byFact := map[string]*Fact{}
	var facts []*Fact
	for _, t := range tellings {
		e := t.Event
		t.Intent = e.Recorded.Attribution == event.AttributionAdmission && (t.Details["intent"] == event.AttributionAdmission || t.Erased && e.Outcome == event.OutcomePending)
		if t.Intent {
			if t.Became = verdicts[e.ID.String()]; t.Became == nil && e.Fact != "" {
				t.Became = judged[e.Cluster+"\x00"+e.Fact]
			}
		}
		key := e.Cluster + "\x00" + cmp.Or(e.Fact, e.ID.String())
		f := byFact[key]
		if f == nil {
			f = &Fact{}
			byFact[key] = f
			facts = append(facts, f)
		}
		f.Tellings = append(f.Tellings, t)
	}
	for _, f := range facts {
		slices.SortStableFunc(f.Tellings, func(a, b *Told) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Index, b.Index)) })
	}
	slices.SortStableFunc(facts, func(a, b *Fact) int {
		return cmp.Or(a.At().Compare(b.At()), cmp.Compare(a.Best().Index, b.Best().Index))
	})
	return facts
}

// Who returns who did what a fact tells, and how that is known. An actor that is a
// program may name the person who decided in its details.
func (f *Fact) Who() (name, kind, known string) {
	for _, t := range f.Tellings {
		a := t.Event.Actor
		if a.Type == event.ActorUser && a.Name != "" && a.Name != "unknown" {
			return a.Name, a.Type, how(t)
		}
	}
	best := f.Best()
	if best.Event.Recorded.Attribution == event.AttributionAdmission { // a service, by its own name
		return best.Event.Actor.Name, best.Event.Actor.Type, how(best)
	}
	for _, t := range f.Tellings {
		for _, name := range []string{"approver", "delegated_user", "decided_by", "resolvedBy", "user"} {
			if who := t.Details[name]; who != "" && who != "unknown" {
				return who, event.ActorUser, "named by " + best.Event.Actor.Type + " " + best.Event.Actor.Name + "; nothing shows that it was they"
			}
		}
	}
	return best.Event.Actor.Name, best.Event.Actor.Type, how(best)
}

// how says in words what an actor's name rests on.
func how(t *Told) string {
	e := t.Event
	switch e.Recorded.Attribution {
	case event.AttributionAdmission:
		if t.Became != nil && t.Became.Impersonator != "" {
			return "as the Kubernetes API server knew them, impersonated by " + t.Became.Impersonator
		}
		return "as the Kubernetes API server knew them"
	case event.AttributionAuthenticated:
		return "authenticated when it was recorded"
	case event.AttributionObserved:
		return "as the resource says; who changed it was not seen"
	}
	if e.Recorded.Principal != "" {
		return "as " + e.Recorded.Principal + " says"
	}
	return "as a program says"
}
