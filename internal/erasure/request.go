package erasure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

const (
	typeRequested = "ErasureRequested"
	// requestAge is for how long a request may be confirmed.
	requestAge = 7 * 24 * time.Hour
	// maxRemaining bounds the values of a field that an answer shows.
	maxRemaining = 10
)

var (
	// ErrNothing means that no event has content that the order is about.
	ErrNothing = errors.New("no event with content is like this, or you may not see it")
	// ErrNoRequest means that there is no such request to be confirmed.
	ErrNoRequest = errors.New("no such erasure waits to be confirmed")
	// ErrSamePerson means that somebody would confirm their own request.
	ErrSamePerson = errors.New("another person must confirm what you have asked for")
)

// An Answer tells of an erasure that somebody asked for.
type Answer struct {
	// Request is the id by which another person confirms it; empty where it is
	// only a plan, or needs nobody else.
	Request string `json:"request,omitempty"`
	// Erased is set once the content is gone. Left says why it is still there,
	// though the ledger has it that it goes, and nobody sees it any more.
	Erased bool   `json:"erased"`
	Left   string `json:"left,omitempty"`
	// Events is how many events lose, or lost, their content, from First to
	// Last.
	Events int64 `json:"events"`
	First  int64 `json:"first"`
	Last   int64 `json:"last"`
	// Held are the legal holds that keep some of them, so that none is erased.
	Held []string `json:"held,omitempty"`
	// Remaining are identifying fields of the entries, with values that stay in
	// the ledger for ever: up to ten of each.
	Remaining map[string][]string `json:"remaining"`
}

// chosen is what an order is about.
type chosen struct {
	answer Answer
	asOf   int64
	runs   []tombstone.Run
}

// choose finds the events whose content an order is about.
func (x *Eraser) choose(ctx context.Context, c custody.Caller, o *custody.Order) (*chosen, error) {
	for field, set := range map[string]bool{"hold_id": o.Hold != "", "future": o.Future} {
		if set {
			return nil, &event.FieldError{Field: field, Reason: "an order to erase says nothing of holds, nor of the future"}
		}
	}
	o.Scope.Namespaces = c.Namespaces
	if err := (&retention.Fact{Scope: &o.Scope, Reason: o.Reason, Case: o.Case}).Check(); err != nil {
		return nil, err
	}
	book, _, err := x.state(ctx)
	if err != nil {
		return nil, err
	}
	ch := &chosen{asOf: book.Size(), answer: Answer{First: -1, Remaining: map[string][]string{}}}
	err = x.c.Holds.Select(ctx, &o.Scope, ch.asOf, func(s *retention.Subject, unsure error) error {
		if s.Erased || book.Erased(s.Index) {
			return nil
		}
		if unsure != nil {
			return &event.FieldError{Field: "match", Reason: fmt.Sprintf("of entry %d it cannot be told whether it is meant: %v", s.Index, unsure)}
		}
		for _, h := range book.Held(s, ch.asOf) {
			if id := h.ID.String(); !slices.Contains(ch.answer.Held, id) {
				ch.answer.Held = append(ch.answer.Held, id)
			}
		}
		return ch.add(s)
	})
	if err == nil && ch.answer.Events == 0 {
		err = ErrNothing
	}
	return ch, err
}

// add takes in an event.
func (ch *chosen) add(s *retention.Subject) error {
	if n := len(ch.runs) - 1; n >= 0 && ch.runs[n].End() == s.Index {
		ch.runs[n].Count++
	} else if ch.runs = append(ch.runs, tombstone.Run{First: s.Index, Count: 1}); len(ch.runs) > tombstone.MaxRuns {
		return &event.FieldError{Field: "scope", Reason: fmt.Sprintf("more than %d runs of events at a time; narrow it down, by time for example", tombstone.MaxRuns)}
	}
	ch.count(s)
	return nil
}

// count counts an event, and what of it stays.
func (ch *chosen) count(s *retention.Subject) {
	a, e := &ch.answer, s.Event
	if a.Events == 0 {
		a.First = s.Index
	}
	a.Events, a.Last = a.Events+1, s.Index
	for field, value := range map[string]string{"actor.name": e.Actor.Name, "actor.serviceAccount": e.Actor.ServiceAccount,
		"recorded.principal": e.Recorded.Principal, "resource.name": e.Resource.Name, "resource.namespace": e.Resource.Namespace,
		"correlationID": e.CorrelationID, "source.name": e.Source.Name, "cluster": e.Cluster} {
		if known := a.Remaining[field]; value != "" && len(known) < maxRemaining && !slices.Contains(known, value) {
			a.Remaining[field] = append(known, value)
		}
	}
}

// Look says what an order would erase, and what stays.
func (x *Eraser) Look(ctx context.Context, c custody.Caller, o *custody.Order) (*Answer, error) {
	ch, err := x.choose(ctx, c, o)
	if err != nil {
		return nil, err
	}
	return &ch.answer, nil
}

// Erase erases the content of the events that an order is about, none of which
// may be held. Where two must want it, it is a request that another confirms.
func (x *Eraser) Erase(ctx context.Context, c custody.Caller, o *custody.Order) (*Answer, error) {
	if x.c.Ledger.ReadOnly() {
		return nil, ledger.ErrReadOnly
	}
	x.acting.Lock()
	defer x.acting.Unlock()
	ch, err := x.choose(ctx, c, o)
	if err != nil {
		return nil, err
	}
	if len(ch.answer.Held) > 0 {
		return &ch.answer, fmt.Errorf("%w: %s", ErrHeld, strings.Join(ch.answer.Held, ", "))
	}
	t := &tombstone.Tombstone{AsOf: ch.asOf, Details: ch.runs}
	details := map[string]any{"reason": o.Reason, "events": ch.answer.Events, "scope": &o.Scope}
	if o.Case != "" {
		details["case"] = o.Case
	}
	id := event.NewID(x.c.Clock.Now())
	act := ledger.Act{Type: tombstone.TypeContentErased, ID: id, By: c.By, Resource: event.Resource{Kind: "Erasure", Name: id.String()}, Details: details}
	if x.c.Confirmations < 2 {
		counts, err := x.bury(ctx, act, t)
		if err == nil && !counts {
			err = ErrOvertaken
		}
		if err != nil {
			return nil, err
		}
		return x.done(ctx, ch.answer), nil
	}
	act.Type = typeRequested
	act.Facts = map[string]any{"requested": t.Member()["erased"]}
	if err := x.c.Journal.Once(ctx, act); err != nil {
		return nil, err
	}
	ch.answer.Request = id.String()
	return &ch.answer, nil
}

// Confirm erases what somebody else has asked for.
func (x *Eraser) Confirm(ctx context.Context, c custody.Caller, request string) (*Answer, error) {
	if x.c.Ledger.ReadOnly() {
		return nil, ledger.ErrReadOnly
	}
	x.acting.Lock()
	defer x.acting.Unlock()
	r, err := x.request(ctx, request)
	if err != nil {
		return nil, err
	}
	if !r.visible(c) {
		return nil, ErrNoRequest
	}
	if r.event.Recorded.Principal == c.By.Principal {
		return nil, ErrSamePerson
	}
	for range maxTries {
		ch, err := x.requested(ctx, request, r)
		if err != nil {
			return nil, err
		}
		counts, err := x.bury(ctx, ledger.Act{Type: tombstone.TypeContentErased, By: c.By, Resource: event.Resource{Kind: "Erasure", Name: request},
			Details: map[string]any{"reason": r.reason, "events": ch.answer.Events, "request": request, "requestedBy": r.event.Recorded.Principal}},
			&tombstone.Tombstone{AsOf: ch.asOf, Details: r.runs})
		if err != nil {
			return nil, err
		}
		if counts {
			return x.done(ctx, ch.answer), nil
		}
	}
	return nil, ErrOvertaken
}

// requested looks at what a request is about, as it is now.
func (x *Eraser) requested(ctx context.Context, name string, r *pending) (*chosen, error) {
	book, size, err := x.state(ctx)
	if err != nil {
		return nil, err
	}
	ch := &chosen{asOf: size, answer: Answer{Request: name, Remaining: map[string][]string{}}}
	for _, run := range r.runs {
		err := x.reader().Records(ctx, search.Range{First: run.First, End: run.End()}, func(rec *trail.Record) error {
			if rec.Erasable == nil {
				return nil // it went another way
			}
			e, err := rec.Event()
			if err != nil {
				return err
			}
			s := &retention.Subject{Index: rec.Index, Event: e}
			if held := book.Held(s, size); len(held) > 0 {
				return fmt.Errorf("%w: %s", ErrHeld, held[0].ID)
			}
			ch.count(s)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if ch.answer.Events == 0 {
		return nil, ErrNoRequest
	}
	return ch, nil
}

// done has the store erase what was recorded, and says so.
func (x *Eraser) done(ctx context.Context, a Answer) *Answer {
	a.Left = x.carryOut(ctx)
	a.Erased = a.Left == ""
	return &a
}

// A pending is a request that waits to be confirmed.
type pending struct {
	event  *event.Event
	reason string
	scope  retention.Scope
	runs   []tombstone.Run
}

// visible reports whether a caller may confirm the request.
func (p *pending) visible(c custody.Caller) bool { return p.scope.Within(c.Namespaces) }

// request returns a request by its id, if it waits to be confirmed.
func (x *Eraser) request(ctx context.Context, name string) (*pending, error) {
	id, err := event.ParseID(name)
	if err != nil {
		return nil, ErrNoRequest
	}
	_, size, err := x.state(ctx)
	if err != nil {
		return nil, err
	}
	index, err := x.find(ctx, id, size)
	if err != nil {
		return nil, err
	}
	if index < 0 {
		return nil, ErrNoRequest
	}
	rec, err := x.reader().Record(ctx, index)
	if err != nil {
		return nil, err
	}
	return x.readRequest(&rec)
}

func (x *Eraser) readRequest(rec *trail.Record) (*pending, error) {
	e, err := rec.Event()
	if err != nil {
		return nil, err
	}
	if e.EventType != typeRequested || x.c.Clock.Now().Sub(e.Recorded.At) > requestAge {
		return nil, ErrNoRequest
	}
	var member struct {
		Requested json.RawMessage `json:"requested"`
	}
	if err := json.Unmarshal(e.Ledger, &member); err != nil {
		return nil, fmt.Errorf("entry %d: %w", rec.Index, err)
	}
	t, err := tombstone.Parse(rec.Index, fmt.Appendf(nil, `{"erased":%s}`, member.Requested))
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", rec.Index, err)
	}
	p := &pending{event: e, runs: t.Details}
	var details struct {
		Reason string          `json:"reason"`
		Scope  retention.Scope `json:"scope"`
	}
	if err := json.Unmarshal(e.Details, &details); err != nil || len(p.runs) == 0 {
		return nil, ErrNoRequest // its own content was erased
	}
	p.reason, p.scope = details.Reason, details.Scope
	return p, nil
}
