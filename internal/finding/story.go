package finding

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/brief"
	"github.com/graven-audit/graven/trail"
)

// A telling is what the judge needs of an event.
type telling struct {
	index       int64
	id          string
	eventType   string
	at          time.Time
	recorded    time.Time
	actorType   string
	actor       string
	kind        string
	namespace   string
	name        string
	uid         string
	cluster     string
	incident    string
	fact        string
	attribution string
	principal   string // who recorded it
	severity    string
	d           map[string]string
	intent      bool // asked for at admission, and nothing more
	erased      bool // what it said besides is gone
}

// tellingOf reads a record.
func tellingOf(r *trail.Record) (*telling, error) {
	var b brief.Event
	if err := b.Read(r.Entry); err != nil {
		return nil, err
	}
	at, err := brief.Time(b.Timestamp)
	if err != nil {
		return nil, err
	}
	recorded, err := brief.Time(b.RecordedAt)
	if err != nil {
		return nil, err
	}
	t := &telling{index: r.Index, id: string(b.ID), eventType: string(b.EventType), at: at, recorded: recorded, actorType: string(b.ActorType), actor: string(b.ActorName),
		kind: string(b.Kind), namespace: string(b.Namespace), name: string(b.Name), uid: string(b.UID), cluster: string(b.Cluster), incident: string(b.CorrelationID),
		fact: string(b.Fact), attribution: string(b.Attribution), principal: string(b.RecordedBy), severity: string(b.Severity), d: map[string]string{}, erased: r.Erasable == nil}
	if err := brief.Details(r.Erasable, func(name, value []byte) { t.d[string(name)] = string(value) }); err != nil {
		return nil, err
	}
	t.intent = t.attribution == event.AttributionAdmission && t.d["intent"] == "admission"
	return t, nil
}

// known reports whether who acted is known from an authenticated source.
func (t *telling) known() bool {
	return t.attribution == event.AttributionAdmission || t.attribution == event.AttributionAuthenticated
}

// A fact is one thing that happened, with all that tell of it.
type fact struct {
	tellings []*telling
	at       time.Time
}

func (f *fact) first() *telling { return f.tellings[0] }

func (f *fact) detail(names ...string) string {
	for _, t := range f.tellings {
		for _, name := range names {
			if t.d[name] != "" {
				return t.d[name]
			}
		}
	}
	return ""
}

// erased reports whether what decides may be among what was erased.
func (f *fact) erased() bool { return f.any(func(t *telling) bool { return t.erased }) }

func (f *fact) any(is func(*telling) bool) bool { return slices.ContainsFunc(f.tellings, is) }

// person returns who did it, by the source that is known best; empty if nobody tells.
func (f *fact) person() string {
	best, who := 9, ""
	for _, t := range f.tellings {
		name := t.actor
		if t.actorType != event.ActorUser {
			name = t.d["approver"]
		}
		rank := slices.Index([]string{event.AttributionAdmission, event.AttributionAuthenticated, event.AttributionObserved, event.AttributionAsserted}, t.attribution)
		if name != "" && name != "unknown" && rank < best {
			best, who = rank, name
		}
	}
	return who
}

// indexes are those of the tellings.
func indexes(facts ...*fact) (list []int64) {
	for _, f := range facts {
		for _, t := range f.tellings {
			list = append(list, t.index)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// A story is the facts of an incident, in the order in which the ledger came to know them.
type story struct {
	facts     []*fact
	confirmed map[string]bool
}

// tell makes a story of tellings, in the ledger's order.
func tell(tellings []*telling) *story {
	y := &story{confirmed: map[string]bool{}}
	byKey := map[string]*fact{}
	for _, t := range tellings {
		if t.eventType == "IntentConfirmed" {
			y.confirmed[t.d["intent"]] = true
		}
		key := t.cluster + "\x00" + cmp.Or(t.fact, t.id)
		f := byKey[key]
		if f == nil {
			f = &fact{at: t.at}
			byKey[key] = f
			y.facts = append(y.facts, f)
		}
		if t.at.Before(f.at) {
			f.at = t.at
		}
		f.tellings = append(f.tellings, t)
	}
	return y
}

// done returns the facts of some types that are more than an intent.
func (y *story) done(types ...string) (facts []*fact) {
	for _, f := range y.facts {
		if slices.Contains(types, f.first().eventType) && f.any(func(t *telling) bool { return !t.intent || y.confirmed[t.id] }) {
			facts = append(facts, f)
		}
	}
	return facts
}

// service reports whether a name is that of a service account, of which it proves
// nothing that it asked.
func service(name string) bool {
	return strings.HasPrefix(name, "system:serviceaccount:") || strings.HasPrefix(name, "system:")
}
