package narrative

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
	"github.com/graven-audit/graven/internal/snapshot"
)

// A telling is an event with what its details say.
type telling struct {
	snapshot.Telling
	details map[string]string // each member in words
	intent  bool
	became  *verdict // of an intent; nil while nothing is known
}

// A verdict is what became of an intent.
type verdict struct{ eventType, reason, by, code, impersonator string }

// A fact is one thing that happened, as all that tell of it say together, the best known
// source first.
type fact struct {
	tellings []*telling
	step     *Step
}

func (f *fact) best() *telling      { return f.tellings[0] }
func (f *fact) event() *event.Event { return f.tellings[0].Event }
func (f *fact) at() time.Time       { return f.event().Timestamp }
func (f *fact) typ() string         { return f.event().EventType }
func (f *fact) is(types ...string) bool {
	return slices.ContainsFunc(f.tellings, func(t *telling) bool { return slices.Contains(types, t.Event.EventType) })
}

// detail returns what the best known telling that says one of names says.
func (f *fact) detail(names ...string) string {
	for _, t := range f.tellings {
		for _, name := range names {
			if text := t.details[name]; text != "" {
				return text
			}
		}
	}
	return ""
}

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
		m[name] = legible.Cut(words(v), maxText)
	}
	return m
}

// words are a detail as text. Lists of plain values are told one after the other.
func words(v any) string {
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
				all = append(all, cmp.Or(words(m["action"]), words(m["workflow_id"]), words(m["name"]), words(m["type"]), compact(m)))
			} else {
				all = append(all, words(member))
			}
		}
		return strings.Join(all, ", ")
	case map[string]any:
		if kind, name := words(v["kind"]), words(v["name"]); kind != "" && name != "" {
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

// erased reports whether no telling has its content any more.
func (f *fact) erased() bool {
	return !slices.ContainsFunc(f.tellings, func(t *telling) bool { return !t.Erased })
}

// done reports whether it is more than an intent.
func (f *fact) done() bool {
	return slices.ContainsFunc(f.tellings, func(t *telling) bool { return !t.intent || t.became != nil && t.became.eventType == "IntentConfirmed" })
}

// asked returns the intent, if any telling is one.
func (f *fact) asked() *telling {
	if i := slices.IndexFunc(f.tellings, func(t *telling) bool { return t.intent }); i >= 0 {
		return f.tellings[i]
	}
	return nil
}

var attributions = []string{event.AttributionAdmission, event.AttributionAuthenticated, event.AttributionObserved, event.AttributionAsserted}

func rank(t *telling) int {
	if i := slices.Index(attributions, t.Event.Recorded.Attribution); i >= 0 {
		return i
	}
	return len(attributions)
}

// aside are events that tell of other events, or of how recording goes: they are no
// steps of an incident.
var aside = []string{snapshot.Type, "IntentConfirmed", "IntentUnconfirmed", "IntentFailed", "RecorderHeartbeat", "RecorderRepeated"}

// factsOf returns the facts among events, in order of time and, at one time, of the
// ledger.
func factsOf(given []snapshot.Telling) []*fact {
	verdicts := map[string]*verdict{}
	judged := map[string]*verdict{} // by the intent's fact, which erasing leaves
	var tellings []*telling
	for _, g := range given {
		t := &telling{Telling: g}
		if g.Event.EventType != snapshot.Type {
			t.details = said(g.Event)
		}
		if typ := g.Event.EventType; strings.HasPrefix(typ, "Intent") && slices.Contains(aside, typ) {
			d := t.details
			v := &verdict{typ, d["reason"], d["by"], d["code"], d["impersonator"]}
			verdicts[d["intent"]] = v
			judged[g.Event.Cluster+"\x00"+strings.TrimSuffix(g.Event.Fact, "/"+typ)] = v
			continue
		}
		if slices.Contains(aside, g.Event.EventType) {
			continue
		}
		tellings = append(tellings, t)
	}
	byFact := map[string]*fact{}
	var facts []*fact
	for _, t := range tellings {
		e := t.Event
		t.intent = e.Recorded.Attribution == event.AttributionAdmission && (t.details["intent"] == event.AttributionAdmission || t.Erased && e.Outcome == event.OutcomePending)
		if t.intent {
			if t.became = verdicts[e.ID.String()]; t.became == nil && e.Fact != "" {
				t.became = judged[e.Cluster+"\x00"+e.Fact]
			}
		}
		key := e.Cluster + "\x00" + cmp.Or(e.Fact, e.ID.String())
		f := byFact[key]
		if f == nil {
			f = &fact{}
			byFact[key] = f
			facts = append(facts, f)
		}
		f.tellings = append(f.tellings, t)
	}
	for _, f := range facts {
		slices.SortStableFunc(f.tellings, func(a, b *telling) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Index, b.Index)) })
	}
	slices.SortStableFunc(facts, func(a, b *fact) int {
		return cmp.Or(a.at().Compare(b.at()), cmp.Compare(a.best().Index, b.best().Index))
	})
	return facts
}

// who returns who did what a fact tells, and how that is known. An actor that is a
// program may name the person who decided in its details.
func (f *fact) who() (name, kind, known string) {
	for _, t := range f.tellings {
		a := t.Event.Actor
		if a.Type == event.ActorUser && a.Name != "" && a.Name != "unknown" {
			return a.Name, a.Type, how(t)
		}
	}
	best := f.best()
	if best.Event.Recorded.Attribution == event.AttributionAdmission { // a service, by its own name
		return best.Event.Actor.Name, best.Event.Actor.Type, how(best)
	}
	for _, t := range f.tellings {
		for _, name := range []string{"approver", "delegated_user", "decided_by", "resolvedBy", "user"} {
			if who := t.details[name]; who != "" && who != "unknown" {
				return who, event.ActorUser, "named by " + best.Event.Actor.Type + " " + best.Event.Actor.Name + "; nothing shows that it was they"
			}
		}
	}
	return best.Event.Actor.Name, best.Event.Actor.Type, how(best)
}

// how says in words what an actor's name rests on.
func how(t *telling) string {
	e := t.Event
	switch e.Recorded.Attribution {
	case event.AttributionAdmission:
		if t.became != nil && t.became.impersonator != "" {
			return "as the Kubernetes API server knew them, impersonated by " + t.became.impersonator
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
