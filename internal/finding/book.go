package finding

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
)

// States of a finding.
const (
	open         = "open"
	acknowledged = "acknowledged" // somebody looks at it
	accepted     = "accepted"     // somebody answers for it, until a date
	resolved     = "resolved"
	withdrawn    = "withdrawn" // what came later explains it
)

var (
	// ErrNoFinding means that there is no such finding, or that one may not see it.
	ErrNoFinding = errors.New("there is no such finding")
	// ErrState means that a finding is in a state from which this is no step.
	ErrState = errors.New("the finding does not stand so that this could be done")
)

// A Finding is a finding with what became of it.
type Finding struct {
	ID         string    `json:"id" yaml:"id"`
	Rule       string    `json:"rule" yaml:"rule"`
	Title      string    `json:"title" yaml:"title"`
	Severity   string    `json:"severity" yaml:"severity"`
	State      string    `json:"state" yaml:"state"`
	Says       string    `json:"says" yaml:"says"`
	Subject    string    `json:"subject,omitempty" yaml:"subject,omitempty"`
	Incident   string    `json:"incident,omitempty" yaml:"incident,omitempty"`
	Cluster    string    `json:"cluster,omitempty" yaml:"cluster,omitempty"`
	Namespace  string    `json:"namespace,omitempty" yaml:"namespace,omitempty"`
	HappenedAt time.Time `json:"happenedAt" yaml:"happenedAt"`
	OpenedAt   time.Time `json:"openedAt" yaml:"openedAt"`
	// Until is when an acceptance ends, or ended.
	Until *time.Time `json:"acceptedUntil,omitempty" yaml:"acceptedUntil,omitempty"`
	// Evidence are the indexes of the entries that show it.
	Evidence []int64 `json:"evidence" yaml:"evidence"`
	// Steps are its own events, in the ledger's order.
	Steps []Turn `json:"steps" yaml:"steps"`

	timed bool
}

// A Turn is an event of a finding: what became of it, by whom and why.
type Turn struct {
	Index  int64      `json:"index" yaml:"index"`
	At     time.Time  `json:"at" yaml:"at"`
	Type   string     `json:"eventType" yaml:"eventType"`
	By     string     `json:"by" yaml:"by"`
	Reason string     `json:"reason,omitempty" yaml:"reason,omitempty"`
	Until  *time.Time `json:"until,omitempty" yaml:"until,omitempty"`
}

// A Query says which findings are asked for. Lists match any of their elements; empty
// ones, and zero values, match all.
type Query struct {
	Rules, States, Severities []string
	Incident, Namespace       string
	// From and To bound when it happened, inclusive.
	From, To time.Time
	// Scope, if not nil, are the namespaces that may be seen.
	Scope []string
	// Limit bounds how many are listed; 0 means all.
	Limit int
	// Before lists those only whose first event stands before this index; 0 means all.
	Before int64
}

// Set sets what a parameter asks for, and reports whether there is such a parameter.
func (q *Query) Set(param, value string, now time.Time) (bool, error) {
	var err error
	wrong := func(why string) error { return &search.ParamError{Param: param, Reason: why} }
	switch param {
	case "rule":
		q.Rules = strings.Split(value, ",")
	case "state":
		q.States = strings.Split(value, ",")
		for _, s := range q.States {
			if !slices.Contains([]string{open, acknowledged, accepted, resolved, withdrawn}, s) {
				err = wrong("open, acknowledged, accepted, resolved or withdrawn")
			}
		}
	case "severity":
		q.Severities = strings.Split(value, ",")
		for _, s := range q.Severities {
			if word, ok := event.Severity(s); !ok || word != s {
				err = wrong("critical, high, medium, low or info")
			}
		}
	case "incident":
		q.Incident = value
	case "namespace":
		q.Namespace = value
	case "from", "to":
		var at time.Time
		if at, err = search.ParseTime(value, now, param == "to"); err != nil {
			err = wrong(err.Error())
		}
		if param == "to" {
			q.To = at
		} else {
			q.From = at
		}
	case "limit":
		if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 || q.Limit > maxList {
			err = wrong("from 1 to 1000")
		}
	case "before":
		var n int
		if n, err = strconv.Atoi(value); err != nil || n < 0 {
			err = wrong("an index, as next tells it")
		}
		q.Before = int64(n)
	default:
		return false, nil
	}
	return true, err
}

// Complete gives the rest its defaults, and holds the parts against each other.
func (q *Query) Complete() error {
	q.Limit = cmp.Or(q.Limit, 100)
	if !q.From.IsZero() && !q.To.IsZero() && q.To.Before(q.From) {
		return &search.ParamError{Param: "to", Reason: "it is before from"}
	}
	return nil
}

const maxList = 1000

func (q *Query) match(f *Finding) bool {
	in := func(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }
	return in(q.Rules, f.Rule) && in(q.States, f.State) && in(q.Severities, f.Severity) &&
		(q.Incident == "" || q.Incident == f.Incident) && (q.Namespace == "" || q.Namespace == f.Namespace) &&
		(q.From.IsZero() || !f.HappenedAt.Before(q.From)) && (q.To.IsZero() || !f.HappenedAt.After(q.To)) &&
		(q.Before == 0 || f.first() < q.Before)
}

func (f *Finding) first() int64 { return f.Steps[0].Index }

// A List is some findings, the newest first.
type List struct {
	Findings []*Finding `json:"findings" yaml:"findings"`
	// Total counts all that are asked for, also those that are not listed.
	Total int `json:"total" yaml:"total"`
	// BySeverity counts those by severity that nobody has dealt with, among them.
	BySeverity map[string]int `json:"open" yaml:"open"`
	// Next is what "before" has to be for the rest; 0 for none.
	Next int64 `json:"next,omitempty" yaml:"next,omitempty"`
}

// A Book reads findings from the ledger's events, and records what people say of them.
type Book struct {
	Find    *search.Finder
	Journal *ledger.Journal
	Now     func() time.Time
}

// List returns what is asked for of a ledger of some size.
func (b *Book) List(ctx context.Context, q *Query, size int64) (*List, error) {
	all, err := b.read(ctx, &search.Filter{Types: types(), Scope: q.Scope}, size)
	if err != nil {
		return nil, err
	}
	list := &List{Findings: []*Finding{}, BySeverity: map[string]int{}}
	for _, f := range slices.Backward(all) {
		if !q.match(f) {
			continue
		}
		list.Total++
		if f.State == open {
			list.BySeverity[f.Severity]++
		}
		if q.Limit == 0 || len(list.Findings) < q.Limit {
			list.Findings = append(list.Findings, f)
		} else {
			list.Next = list.Findings[q.Limit-1].first()
		}
	}
	return list, nil
}

// Get returns a finding by its id, as far as scope may see it.
func (b *Book) Get(ctx context.Context, id string, scope []string, size int64) (*Finding, error) {
	if _, err := event.ParseID(id); err != nil {
		return nil, &search.ParamError{Param: "id", Reason: err.Error()}
	}
	all, err := b.read(ctx, &search.Filter{Types: types(), Kind: kind, Resource: id, Scope: scope}, size)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, ErrNoFinding
	}
	return all[0], nil
}

// read folds the events that a filter selects into findings, in the order in which they
// were opened first.
func (b *Book) read(ctx context.Context, filter *search.Filter, size int64) (all []*Finding, err error) {
	byID := map[string]*Finding{}
	err = b.Find.Each(ctx, filter, search.Range{End: size}, func(h search.Hit) error {
		id := h.Event.Resource.Name
		f := byID[id]
		if f == nil {
			f = &Finding{ID: id}
			byID[id] = f
			all = append(all, f)
		}
		f.follow(h.Record.Index, h.Event)
		return nil
	})
	now := b.Now()
	for _, f := range all {
		if f.State == accepted && f.Until != nil && !f.Until.After(now) {
			f.State = open // an acceptance ends by itself
		}
	}
	return all, err
}

// said is what the details of a finding's events say.
type said struct {
	Rule, Title, Says, Subject, Incident, Reason string
	HappenedAt                                   time.Time
	Evidence                                     []int64
	Timed                                        bool
	Until                                        *time.Time
}

// follow takes over what the next of a finding's events says. Details may have been
// erased; what became of the finding, the event's type tells.
func (f *Finding) follow(index int64, e *event.Event) {
	var d said
	if len(e.Details) > 0 {
		if err := json.Unmarshal(e.Details, &d); err != nil {
			d = said{Says: "its details cannot be read: " + err.Error()}
		}
	}
	step := Turn{Index: index, At: e.Timestamp, Type: e.EventType, By: e.Actor.Name, Reason: d.Reason, Until: d.Until}
	switch e.EventType {
	case typeOpened:
		f.State, f.Severity, f.Cluster, f.Namespace = open, e.Severity, e.Cluster, e.Resource.Namespace
		f.Rule, f.Title, f.Says, f.Subject, f.Incident = d.Rule, d.Title, d.Says, d.Subject, d.Incident
		f.Evidence, f.HappenedAt, f.timed = d.Evidence, d.HappenedAt, d.Timed
		if len(f.Steps) == 0 {
			f.OpenedAt = e.Timestamp
		}
	case typeWithdrawn:
		f.State, step.Reason = withdrawn, d.Says
	case typeAcknowledged:
		f.State = acknowledged
	case typeAccepted:
		f.State, f.Until = accepted, d.Until
	case typeResolved:
		f.State = resolved
	case typeReopened:
		f.State = open
	}
	f.Steps = append(f.Steps, step)
}

// An Order is what a person says of a finding.
type Order struct {
	Reason string
	// Until is when an acceptance ends.
	Until string
}

// ParseOrder reads an order.
func ParseOrder(data []byte) (*Order, error) {
	o := &Order{}
	members := map[string]*string{"reason": &o.Reason, "until": &o.Until}
	sc := jcs.NewScanner(data)
	err := sc.Members(func(name []byte) (err error) {
		to, ok := members[string(name)]
		if !ok {
			return &jcs.Error{Reason: "no such member"}
		}
		*to, err = sc.String()
		return err
	})
	if err == nil {
		err = sc.End()
	}
	return o, err
}

// steps says from which states each thing can be done, and the event that tells of it.
var steps = map[string]struct {
	eventType string
	from      []string
}{
	"acknowledge": {typeAcknowledged, []string{open}},
	"accept":      {typeAccepted, []string{open, acknowledged, accepted}},
	"resolve":     {typeResolved, []string{open, acknowledged, accepted}},
	"reopen":      {typeReopened, []string{acknowledged, accepted, resolved}},
}

const (
	minReason = 10
	maxReason = 2000
	// maxAccepted bounds how long a finding may be accepted.
	maxAccepted = 366 * 24 * time.Hour
)

// Act is one of acknowledge, accept, resolve and reopen, said of a finding.
func (b *Book) Act(ctx context.Context, act string, by ledger.By, f *Finding, o *Order) error {
	step := steps[act]
	details := map[string]any{"rule": f.Rule, "reason": o.Reason}
	if f.Incident != "" {
		details["incident"] = f.Incident
	}
	if len([]rune(o.Reason)) < minReason || len(o.Reason) > maxReason {
		return &event.FieldError{Field: "reason", Reason: "at least 10 characters that others will understand, and at most 2000 bytes"}
	}
	switch {
	case act == "accept":
		now := b.Now()
		until, err := search.ParseTime(o.Until, now, true)
		switch {
		case o.Until == "":
			return &event.FieldError{Field: "until", Reason: "missing: an acceptance ends at a time or date"}
		case err != nil:
			return &event.FieldError{Field: "until", Reason: err.Error()}
		case !until.After(now) || until.Sub(now) > maxAccepted:
			return &event.FieldError{Field: "until", Reason: "not in the year to come"}
		}
		details["until"] = event.FormatTime(until.UTC())
	case o.Until != "":
		return &event.FieldError{Field: "until", Reason: "only an acceptance ends at a time"}
	}
	if !slices.Contains(step.from, f.State) {
		return errors.Join(ErrState, errors.New("it is "+f.State))
	}
	return b.Journal.Once(ctx, ledger.Act{Type: step.eventType, By: by, Details: details,
		Resource: event.Resource{Kind: kind, Namespace: f.Namespace, Name: f.ID}})
}
