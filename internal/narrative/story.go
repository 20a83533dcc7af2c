package narrative

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/incident"
	"github.com/graven-audit/graven/internal/legible"
	"github.com/graven-audit/graven/internal/snapshot"
)

// late is how long after it happened a fact may be recorded before the story says so,
// as a report does.
const late = time.Hour

// maxText bounds what one sentence quotes, in runes.
const maxText = 2000

// A Story is an incident, told.
type Story struct {
	CorrelationID string          `json:"correlationID"`
	Status        incident.Status `json:"status"`
	Severity      string          `json:"severity"`
	StartedAt     string          `json:"startedAt"`
	LastAt        string          `json:"lastAt"`
	DurationMs    int64           `json:"durationMs"`
	// Events is the number of tellings, Facts that of the things told.
	Events int `json:"events"`
	Facts  int `json:"facts"`

	Signal    []Line    `json:"signal"`
	Analyses  []Insight `json:"analysis"`
	Decisions []Line    `json:"decision"`
	Approvals []Decided `json:"approvals"`
	// Automatic is the mode in which an engine decided that nobody need be asked.
	Automatic *Line      `json:"automatic,omitempty"`
	Actions   []Executed `json:"actions"`
	Effects   []Line     `json:"effect"`
	End       []Line     `json:"end"`
	Steps     []*Step    `json:"steps"`
	Missing   []Missing  `json:"missing"`
	// Late says of facts that they were recorded long after they happened; empty where
	// none was.
	Late string `json:"late,omitempty"`
	// Limited are the namespaces that the reader sees, if not all: what is missing cannot
	// be told then.
	Limited []string `json:"namespaces,omitzero"`
}

// A Line is a sentence, and the entry that it rests on.
type Line struct {
	Text  string `json:"text"`
	Index int64  `json:"index"`
}

// A Source is an event that tells a fact.
type Source struct {
	Index       int64  `json:"index"`
	ID          string `json:"id"`
	EventType   string `json:"eventType"`
	Attribution string `json:"attribution,omitempty"`
	RecordedBy  string `json:"recordedBy,omitempty"`
}

// A Step is a fact in the story.
type Step struct {
	At           string `json:"at"`
	SinceStartMs int64  `json:"sinceStartMs"`
	Part         Part   `json:"part"`
	Text         string `json:"text"`
	EventType    string `json:"eventType"`
	Who          string `json:"who"`
	WhoType      string `json:"whoType"`
	Known        string `json:"known"` // what Who rests on
	Resource     string `json:"resource"`
	Outcome      string `json:"outcome"`
	// State is done, asked (nothing shows yet that it was done), unconfirmed (nobody will)
	// or refused (the API server says that it was not done).
	State string   `json:"state"`
	Notes []string `json:"notes,omitempty"`
	// LateMs is how long after it happened it was recorded, if that is more than an hour.
	LateMs int64 `json:"lateMs,omitempty"`
	// Index is the place of the telling whose source is known best, the first of Tellings.
	Index    int64    `json:"index"`
	Tellings []Source `json:"tellings"`
}

// A Missing is something that the trail does not say, or contradicts itself in.
type Missing struct {
	Kind     string   `json:"kind"` // step, intent, gap, erased, contradiction, recording
	Text     string   `json:"text"`
	Index    int64    `json:"index"` // of the event that shows it; -1 for none
	Expected []string `json:"expected,omitempty"`
}

// A told is a fact with the step that tells it.
type told struct {
	*fact.Fact
	step *Step
}

func of(given []fact.Telling) (all []*told) {
	for _, f := range fact.Of(given) {
		all = append(all, &told{Fact: f})
	}
	return all
}

// New tells the incident of events, which are given in the ledger's order. limited are
// the namespaces that the reader sees, nil for all.
func New(correlationID string, given []fact.Telling, limited []string) *Story {
	facts := of(given)
	s := &Story{CorrelationID: correlationID, Events: 0, Facts: len(facts), Limited: limited, Signal: []Line{}, Analyses: []Insight{}, Decisions: []Line{},
		Approvals: []Decided{}, Actions: []Executed{}, Effects: []Line{}, End: []Line{}, Steps: []*Step{}, Missing: []Missing{}}
	t := incident.New(correlationID, ends(facts))
	s.Status, s.Severity, s.DurationMs = t.Status, t.Severity, t.Last.Sub(t.Started).Milliseconds()
	if len(facts) > 0 {
		first, last := facts[0].At(), facts[len(facts)-1].At()
		s.StartedAt, s.LastAt, s.DurationMs = event.FormatTime(first), event.FormatTime(last), last.Sub(first).Milliseconds()
	}
	for _, f := range facts {
		f.step = step(f, facts[0].At())
		if held(f, facts) != nil {
			f.step.Notes = append(f.step.Notes, "told in the moment in which it was contained: it counts as contained")
		}
		s.Steps = append(s.Steps, f.step)
		s.Events += len(f.Tellings)
	}
	states, broken := thoughts(given)
	s.summarize(facts, states)
	s.missing(t, facts, broken)
	return s
}

// ends returns the steps by which an incident stands as it does: what was done. ChatCLI
// tells of what is contained that it was resolved, too; who says so at the same moment
// says nothing new.
func ends(facts []*told) (steps []incident.Step) {
	for _, f := range facts {
		if !f.Done() || held(f, facts) != nil {
			continue
		}
		e := f.Event()
		if e.EventType == "webhook.remediationapprovalrequest.decided" || e.Recorded.Attribution == event.AttributionAdmission {
			for _, t := range f.Tellings { // the one that rules know
				steps = append(steps, incident.Step{Index: t.Index, Event: t.Event})
			}
			continue
		}
		steps = append(steps, incident.Step{Index: f.Best().Index, Event: e})
	}
	return steps
}

// held returns the fact that an incident was contained, if f tells of the same moment
// that it was resolved.
func held(f *told, facts []*told) *told {
	mode := strings.ToLower(f.Detail("mode"))
	if f.Event().EventType != "IssueResolved" || f.Event().Actor.Type == event.ActorUser || strings.Contains(mode, "human") || mode == "manual" {
		return nil
	}
	for _, c := range facts {
		if c.Event().EventType == "IssueContained" && c.At().Sub(f.At()).Abs() <= moment && c.Event().Resource.Name == f.Event().Resource.Name {
			return c
		}
	}
	return nil
}

// step tells a fact.
func step(f *told, start time.Time) *Step {
	e := f.Event()
	s := &Step{At: event.FormatTime(e.Timestamp), SinceStartMs: e.Timestamp.Sub(start).Milliseconds(), EventType: e.EventType, Resource: resource(e.Resource),
		Outcome: e.Outcome, State: "done", Index: f.Best().Index}
	s.Part, s.Text = f.tale()
	s.Text = legible.Cut(s.Text, maxText)
	s.Who, s.WhoType, s.Known = f.Who()
	for _, t := range f.Tellings {
		s.Tellings = append(s.Tellings, Source{t.Index, t.Event.ID.String(), t.Event.EventType, t.Event.Recorded.Attribution, t.Event.Recorded.Principal})
	}
	if !f.Done() {
		in := f.Asked()
		switch {
		case in.Became == nil:
			s.State = "asked"
			s.Notes = append(s.Notes, "it was asked for, and nothing shows that it was done")
		case in.Became.EventType == "IntentFailed":
			s.State = "refused"
			s.Notes = append(s.Notes, "the API server did not do it"+after(" (status ", in.Became.Code, ")"))
		default:
			s.State = "unconfirmed"
			s.Notes = append(s.Notes, "it was asked for, and cannot be confirmed"+after(": ", in.Became.Reason, ""))
		}
	}
	if f.Erased() {
		s.Notes = append(s.Notes, "its content was erased")
	}
	if a := e.Actor; e.Recorded.Attribution == event.AttributionAdmission && a.Name != s.Who {
		s.Notes = append(s.Notes, "it was written by "+a.Type+" "+a.Name+", as the Kubernetes API server knew it")
	}
	if claim := others(f, s.Who); claim != "" {
		s.Notes = append(s.Notes, "others that tell of it name "+claim)
	}
	if at := e.Recorded.At; !at.IsZero() && at.Sub(e.Timestamp) > late {
		s.LateMs = at.Sub(e.Timestamp).Milliseconds()
	}
	return s
}

// others returns the people whom other tellings of a fact name.
func others(f *told, who string) string {
	var names []string
	add := func(name string) {
		if name != "" && name != "unknown" && name != who && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, t := range f.Tellings {
		if t.Event.Actor.Type == event.ActorUser {
			add(t.Event.Actor.Name)
		}
		for _, name := range []string{"approver", "decided_by"} {
			add(t.Details[name])
		}
	}
	return strings.Join(names, ", ")
}

// after returns a text between others, or nothing where it is empty.
func after(before, text, behind string) string {
	if text == "" {
		return ""
	}
	return before + text + behind
}

func resource(r event.Resource) string {
	name := r.Kind
	if r.Name != "" {
		name += "/" + r.Name
	}
	return name + after(" (", r.Namespace, ")")
}

// missing tells what the trail does not say.
func (s *Story) missing(t *incident.Timeline, facts []*told, broken []snapshot.Broken) {
	if s.Limited == nil {
		for _, g := range t.Missing {
			s.Missing = append(s.Missing, Missing{"step", g.Reason, g.Index, g.Expected})
		}
	}
	erased, tardy := 0, 0
	first, most := int64(-1), time.Duration(0)
	for _, f := range facts {
		if after := time.Duration(f.step.LateMs) * time.Millisecond; after > 0 {
			tardy, most = tardy+1, max(most, after)
		}
		if f.step.State != "done" {
			s.Missing = append(s.Missing, Missing{"intent", f.step.Text + ", by " + f.step.Who + ": " + f.step.Notes[0], f.step.Index, nil})
		}
		if f.Erased() {
			if erased++; first < 0 {
				first = f.step.Index
			}
		}
		if c := held(f, facts); c != nil {
			s.Missing = append(s.Missing, Missing{"contradiction", "it was told to be resolved in the moment in which it was contained: it counts as contained", f.step.Index, nil})
		}
		switch f.Event().EventType {
		case "CaptureGap":
			s.Missing = append(s.Missing, Missing{"gap", f.step.Text, f.step.Index, nil})
		case "CaptureFailed":
			s.Missing = append(s.Missing, Missing{"recording", "A capture policy failed" + after(": ", f.Detail("policy"), "") + after(", ", f.Detail("reason"), ""), f.step.Index, nil})
		}
	}
	if tardy > 0 {
		s.Late = fmt.Sprintf("%d of %d facts were recorded more than an hour after they happened, at most %s", tardy, len(facts), most.Round(time.Second))
		if most > 48*time.Hour {
			s.Late = fmt.Sprintf("%d of %d facts were recorded more than an hour after they happened, at most %d days", tardy, len(facts), int(most.Hours()/24))
		}
	}
	if erased > 0 {
		s.Missing = append(s.Missing, Missing{"erased", fmt.Sprintf("the content of %d of %d facts was erased: what their details said is not told", erased, len(facts)), first, nil})
	}
	for _, b := range broken {
		kind := "recording"
		if b.Erased {
			kind = "erased"
		}
		s.Missing = append(s.Missing, Missing{kind, "the state of " + resource(b.Resource) + after(" at resourceVersion ", b.Version, "") + " cannot be read: " + b.Reason, b.Index, nil})
	}
}
