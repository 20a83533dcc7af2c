package finding

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/search"
)

const (
	// Window is how far back incidents are looked at, unless a question says
	// from when on.
	Window = 7 * 24 * time.Hour
	// Settled is a good value for [Question.Settled].
	Settled = 15 * time.Minute

	// maxSpans bounds what is told of each kind, and maxAccounts what people
	// have told of one source.
	maxSpans    = 1000
	maxAccounts = 10_000
	// maxIncidents bounds the incidents that one answer is made of, and the
	// others one of them.
	maxIncidents = 500
	maxSteps     = 10_000
	// maxEvents bounds the events of which it is looked whether they belong to
	// an incident, for one answer.
	maxEvents = 50_000
	// MaxBytes bounds the records of an incident, in bytes. What is larger is
	// told to be.
	MaxBytes = 4 << 20
	// maxTime bounds the work for one answer.
	maxTime = 10 * time.Second
)

// A Question asks what is missing.
type Question struct {
	// From and To bound, by the timestamps of events, when it went missing;
	// zero for no bound, but that of [Window] for incidents.
	From, To time.Time
	// Source asks for that source only, and for no incidents.
	Source string
	// Settled is how long nothing must have happened in an incident before
	// something counts as missing in it.
	Settled time.Duration
	// After is the index behind which incidents are looked for: -1, or Next of
	// the part before, with which sources are told no more.
	After int64
}

// Set sets what a parameter asks for, and reports whether there is such a
// parameter. A value that cannot be read gives a [search.ParamError].
func (q *Question) Set(param, value string, now time.Time) (known bool, err error) {
	switch param {
	case "from":
		q.From, err = search.ParseTime(value, now, false)
	case "to":
		q.To, err = search.ParseTime(value, now, true)
	case "settled":
		q.Settled, err = search.ParseAge(value)
	case "after":
		q.After, err = strconv.ParseInt(value, 10, 64)
		if err != nil || q.After < -1 {
			err = errors.New("not the index of an entry, or -1")
		}
	case "source":
		if q.Source = value; value == "" || len(value) > event.MaxString {
			err = fmt.Errorf("1 to %d bytes", event.MaxString)
		}
	default:
		return false, nil
	}
	if err != nil {
		err = &search.ParamError{Param: param, Reason: err.Error()}
	}
	return true, err
}

// A Place is an entry.
type Place struct {
	Index int64     `json:"index"`
	At    time.Time `json:"at"` // the event's timestamp
}

// A Missing is numbers that a source gave to events and the ledger lacks.
type Missing struct {
	Source string `json:"source"`
	Epoch  string `json:"epoch,omitempty"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	// Behind is the event with the number before; nil where the source's count
	// begins with what is missing. Before is the one with the number after.
	Behind *Place `json:"behind"`
	Before Place  `json:"before"`
	// Account is what a person has told of it; the events are not missing then.
	Account *Account `json:"account,omitempty"`
}

// An Account is an event that tells what became of others.
type Account struct {
	Place
	Type  string `json:"type"`
	Actor string `json:"actor"`
}

// A Silent is a source that did not keep its promise of a sign of life.
type Silent struct {
	Source string `json:"source"`
	Epoch  string `json:"epoch,omitempty"`
	// Last is its newest event, as of when the ledger recorded it.
	Last Place `json:"last"`
	// WithinSeconds is what it promised; 0 if that was erased.
	WithinSeconds int64 `json:"withinSeconds"`
	// Since is when the promise was broken.
	Since time.Time `json:"since"`
}

// A Renewed is a source that began its count anew: what it had not delivered
// yet may be lost, and no number tells how much.
type Renewed struct {
	Source string `json:"source"`
	Epoch  string `json:"epoch,omitempty"`
	First  Place  `json:"first"`
}

// A Repeated is a count in which numbers are borne by several events: two
// sources have one name, or a source went back to an older copy of its spool.
type Repeated struct {
	Source string `json:"source"`
	Epoch  string `json:"epoch,omitempty"`
	// Events are how many bear a number that an earlier one bears.
	Events int64 `json:"events"`
	Last   Place `json:"last"`
}

// An Incident is one that lacks steps.
type Incident struct {
	CorrelationID string    `json:"correlationID"`
	Status        string    `json:"status"`
	Last          time.Time `json:"lastAt"`
	Missing       []Step    `json:"missing"`
	// TooLarge is set for one that was not looked at, for its size.
	TooLarge bool `json:"tooLarge,omitempty"`
}

// A Step is one that an incident lacks.
type Step struct {
	Expected []string `json:"expected"`
	Index    int64    `json:"index"`
	Reason   string   `json:"reason"`
}

// Gaps is what is missing.
type Gaps struct {
	// LedgerSize is the size of the ledger that it was told of.
	LedgerSize int64 `json:"ledgerSize"`
	// Complete says that nothing is missing, as far as this part tells: there
	// is nothing in Missing, Silent and Incidents, and nothing was left out.
	Complete bool      `json:"complete"`
	Missing  []Missing `json:"missing"`
	// Accounted is what would be missing, had nobody told what became of it.
	Accounted []Missing  `json:"accounted"`
	Silent    []Silent   `json:"silent"`
	Renewed   []Renewed  `json:"renewed"`
	Repeated  []Repeated `json:"repeated"`
	Incidents []Incident `json:"incidents"`
	// IncidentsFrom is from when on incidents were looked at; nil if none were.
	IncidentsFrom *time.Time `json:"incidentsFrom,omitempty"`
	// More says that there is more of a source's kinds than is told.
	More bool `json:"more,omitempty"`
	// Next is where the next part of the incidents begins; nil for the last.
	Next *int64 `json:"next,omitempty"`
}

// Join adds the next part to those before it; nil is none.
func (g *Gaps) Join(part *Gaps) *Gaps {
	if g == nil {
		return part
	}
	g.Incidents = append(g.Incidents, part.Incidents...)
	g.LedgerSize, g.Next = part.LedgerSize, part.Next
	g.Complete = g.complete()
	return g
}

func (g *Gaps) complete() bool {
	return len(g.Missing)+len(g.Silent)+len(g.Incidents) == 0 && !g.More && g.Next == nil
}

// Events returns how many events are missing.
func (g *Gaps) Events() (n int64) {
	for _, m := range g.Missing {
		n += m.To - m.From + 1
	}
	return n
}

// A Finder finds what is missing.
type Finder struct {
	Sources Sources
	Search  search.Finder
	Now     func() time.Time
}

// errEnough ends a list.
var errEnough = errors.New("enough")

func newGaps(size int64) *Gaps {
	return &Gaps{LedgerSize: size, Missing: []Missing{}, Accounted: []Missing{}, Silent: []Silent{}, Renewed: []Renewed{}, Repeated: []Repeated{}, Incidents: []Incident{}}
}

// lost returns the numbers that are missing and the sources that fell silent, and
// nothing else.
func (x *Finder) lost(ctx context.Context, size int64) (*Gaps, error) {
	g := newGaps(size)
	if err := search.Await(ctx, size, x.Sources.Derived); err != nil {
		return nil, err
	}
	return g, cmp.Or(x.missing(ctx, Question{}, g), x.silent(ctx, Question{}, g))
}

// Gaps answers a question as of when the ledger had size entries.
func (x *Finder) Gaps(ctx context.Context, q Question, size int64) (*Gaps, error) {
	if !q.From.IsZero() && !q.To.IsZero() && q.From.After(q.To) {
		return nil, &search.ParamError{Param: "from", Reason: event.FormatTime(q.From) + " is after to, " + event.FormatTime(q.To)}
	}
	if q.After >= size {
		return nil, &search.ParamError{Param: "after", Reason: "not the index of an entry"}
	}
	if err := search.Await(ctx, size, x.Sources.Derived); err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	g := newGaps(size)
	var err error
	if q.After < 0 {
		err = cmp.Or(x.missing(bounded, q, g), x.silent(bounded, q, g), x.odd(bounded, q, g))
	}
	if err == nil && q.Source == "" {
		err = x.incidents(bounded, q, g, size)
	}
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return nil, search.ErrTooBroad
	}
	g.Complete = g.complete()
	return g, err
}

// within reports whether a stretch of time touches what was asked for.
func (q *Question) within(from, to time.Time) bool {
	return (q.From.IsZero() || !to.Before(q.From)) && (q.To.IsZero() || !from.After(q.To))
}

// missing finds the numbers that are missing.
func (x *Finder) missing(ctx context.Context, q Question, g *Gaps) error {
	begin, err := x.Search.Begin(ctx)
	if err != nil {
		return err
	}
	told := accounts{finder: x, size: g.LedgerSize, byName: map[string][]account{}}
	err = x.Sources.Holes(ctx, q.Source, func(h Hole) error {
		after, err := x.Search.Get(ctx, h.After)
		if err != nil {
			return err
		}
		e := after.Event
		m := Missing{Source: e.Source.Name, Epoch: e.Source.Epoch, From: h.From, To: h.To, Before: Place{h.After, e.Timestamp}}
		from := time.Time{}
		if h.Before >= 0 {
			behind, err := x.Search.Get(ctx, h.Before)
			if err != nil {
				return err
			}
			from = behind.Event.Timestamp
			m.Behind = &Place{h.Before, from}
		}
		// A source's clock may be set back between two events.
		if !q.within(earlier(from, e.Timestamp), later(from, e.Timestamp)) {
			return nil
		}
		list, err := told.split(ctx, m)
		if err != nil {
			return err
		}
		for _, m := range list {
			into := &g.Missing
			if m.Account != nil {
				into = &g.Accounted
			} else if h.After < begin && h.Before < begin {
				continue // what was told of it may be erased as they are
			}
			if len(*into) == maxSpans {
				g.More = true
				return errEnough
			}
			*into = append(*into, m)
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// An account is what was told of a span.
type account struct {
	event.Span
	Account
}

// accounts are what was told, by source. Only what bears the source's own name
// counts: whoever may record under that could fill its numbers as well.
type accounts struct {
	finder *Finder
	size   int64
	byName map[string][]account
}

func (a *accounts) of(ctx context.Context, name string) ([]account, error) {
	if list, ok := a.byName[name]; ok {
		return list, nil
	}
	list := []account{}
	f := search.Filter{Types: []string{event.TypeRetried, event.TypeDropped, event.TypeRepeated}, Resource: name}
	err := a.finder.Search.Each(ctx, &f, search.Range{End: a.size}, func(h search.Hit) error {
		s, err := event.ParseSpan(h.Event.Resource.UID)
		if err != nil || h.Event.Source.Name != name {
			return nil
		}
		list = append(list, account{s, Account{Place{h.Record.Index, h.Event.Timestamp}, h.Event.EventType, h.Event.Actor.Name}})
		if len(list) == maxAccounts {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	slices.SortFunc(list, func(a, b account) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Index, b.Index)) })
	a.byName[name] = list
	return list, nil
}

// split parts what is missing from what somebody accounts for.
func (a *accounts) split(ctx context.Context, m Missing) ([]Missing, error) {
	told, err := a.of(ctx, m.Source)
	if err != nil {
		return nil, err
	}
	var parts []Missing
	part := func(from, to int64, by *Account) {
		if from <= to {
			p := m
			p.From, p.To, p.Account = from, to, by
			parts = append(parts, p)
		}
	}
	next := m.From
	for i := range told {
		t := &told[i]
		if t.Epoch != m.Epoch || t.To < next || t.From > m.To {
			continue
		}
		part(next, t.From-1, nil)
		part(max(next, t.From), min(t.To, m.To), &t.Account)
		next = min(t.To, m.To) + 1
	}
	part(next, m.To, nil)
	return parts, nil
}

// silent finds the sources that broke a promise.
func (x *Finder) silent(ctx context.Context, q Question, g *Gaps) error {
	newest := map[string]Count{} // a source's other counts are over
	err := x.Sources.Signed(ctx, q.Source, func(c Count) error {
		h, err := x.Search.Get(ctx, c.First)
		if err != nil {
			return err
		}
		if name := h.Event.Source.Name; newest[name].Last <= c.Last {
			newest[name] = c
		}
		if g.More = g.More || len(newest) > 10*maxSpans; g.More {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	now := x.Now()
	for _, c := range newest {
		sign, err := x.Search.Get(ctx, c.Sign)
		if err != nil {
			return err
		}
		last, err := x.Search.Get(ctx, c.Last)
		if err != nil {
			return err
		}
		if sign.Event.EventType == event.TypeStopped {
			continue
		}
		var promise struct {
			WithinSeconds int64 `json:"withinSeconds"`
		}
		// What is no promise, or was erased, is one that is long broken.
		if json.Unmarshal(sign.Event.Details, &promise) != nil || promise.WithinSeconds < 0 || promise.WithinSeconds > int64(24*time.Hour/time.Second)*366 {
			promise.WithinSeconds = 0
		}
		at := last.Event.Recorded.At
		since := at.Add(time.Duration(promise.WithinSeconds) * time.Second)
		if now.After(since) && q.within(since, since) {
			g.Silent = append(g.Silent, Silent{last.Event.Source.Name, last.Event.Source.Epoch, Place{c.Last, at}, promise.WithinSeconds, since})
		}
	}
	slices.SortFunc(g.Silent, func(a, b Silent) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Last.Index, b.Last.Index))
	})
	if len(g.Silent) > maxSpans {
		g.Silent, g.More = g.Silent[:maxSpans], true
	}
	return nil
}

// odd finds counts that were begun anew, or in which numbers came twice.
func (x *Finder) odd(ctx context.Context, q Question, g *Gaps) error {
	err := x.Sources.Odd(ctx, q.Source, func(c Count) error {
		if len(g.Renewed) == maxSpans || len(g.Repeated) == maxSpans {
			g.More = true
			return errEnough
		}
		first, err := x.Search.Get(ctx, c.First)
		if err != nil {
			return err
		}
		by, at := first.Event.Source, first.Event.Timestamp
		if c.Earlier > 0 && q.within(at, at) {
			g.Renewed = append(g.Renewed, Renewed{by.Name, by.Epoch, Place{c.First, at}})
		}
		last, err := x.Search.Get(ctx, c.Last)
		if err != nil {
			return err
		}
		if n := c.Entries - c.Distinct; n > 0 && q.within(at, last.Event.Timestamp) {
			g.Repeated = append(g.Repeated, Repeated{by.Name, by.Epoch, n, Place{c.Last, last.Event.Timestamp}})
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	slices.SortFunc(g.Renewed, func(a, b Renewed) int { return cmp.Compare(a.First.Index, b.First.Index) })
	slices.SortFunc(g.Repeated, func(a, b Repeated) int { return cmp.Compare(a.Last.Index, b.Last.Index) })
	return err
}
