package custody

import (
	"context"
	"strconv"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
)

// An Order says what to hold, or to release, and why.
type Order struct {
	Scope  retention.Scope
	Reason string
	Case   string
	// Future places a hold although there is no event yet that it keeps.
	Future bool
	// Hold is the id of the hold that is to be released.
	Hold string
}

// ParseOrder reads an order. Points in time may be dates, or ages.
func ParseOrder(data []byte, now time.Time) (*Order, error) {
	o := &Order{}
	s := &o.Scope
	texts := map[string]*string{"event": &s.Event, "correlation_id": &s.CorrelationID, "actor": &s.Actor, "kind": &s.Kind,
		"namespace": &s.Namespace, "resource": &s.Resource, "match": &s.Match, "case": &o.Case, "hold_id": &o.Hold,
		"reason": &o.Reason, "release_reason": &o.Reason}
	sc := jcs.NewScanner(data)
	seen := map[string]bool{}
	err := sc.Members(func(name []byte) error {
		field := string(name)
		if field == "release_reason" {
			field = "reason" // both is one too many
		}
		if seen[field] {
			return &jcs.Error{Reason: "stands twice"}
		}
		seen[field] = true
		switch field {
		case "from", "to":
			return moment(sc, &s.From, &s.To, field, now)
		case "future":
			var err error
			o.Future, err = sc.Bool()
			return err
		}
		to, ok := texts[field]
		if !ok {
			return &jcs.Error{Reason: "no such member"}
		}
		text, err := sc.String()
		if err == nil && text == "" {
			return &jcs.Error{Reason: "empty"} // somebody's variable was not set
		}
		*to = text
		return err
	})
	if err == nil {
		err = sc.End()
	}
	return o, err
}

func moment(sc *jcs.Scanner, from, to **time.Time, field string, now time.Time) error {
	text, err := sc.String()
	if err != nil {
		return err
	}
	t, err := search.ParseTime(text, now, field == "to")
	if err != nil {
		return &jcs.Error{Reason: err.Error()}
	}
	t = t.UTC()
	if field == "to" {
		from = to
	}
	*from = &t
	return nil
}

// one returns the event that a scope names by its id or index; nil for none.
func (k *Keeper) one(ctx context.Context, name string, size int64) (*search.Hit, error) {
	index, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		id, err := event.ParseID(name)
		if err != nil {
			return nil, err
		}
		if err := k.find.Ready(ctx, size); err != nil {
			return nil, err
		}
		found := []int64{-1}
		if err := k.store.Find(ctx, []event.ID{id}, found); err != nil {
			return nil, err
		}
		index = found[0]
	}
	if index < 0 || index >= size {
		return nil, nil
	}
	h, err := k.find.Get(ctx, index)
	return &h, err
}

// An Answer is a hold as doors tell of it: Kubernaut's members, and ours.
type Answer struct {
	ID            string          `json:"hold_id"`
	CorrelationID string          `json:"correlation_id,omitempty"`
	Scope         retention.Scope `json:"scope"`
	Reason        string          `json:"reason"`
	Case          string          `json:"case,omitempty"`
	PlacedBy      string          `json:"placed_by"`
	PlacedAt      string          `json:"placed_at"`
	// Index is that of the entry that placed it.
	Index int64 `json:"index"`
	// Affected are the events in its scope that there are; nil where nobody
	// asked, or to count them would take too long.
	Affected *int64 `json:"events_affected,omitempty"`
	// Released are the events in its scope that it keeps no more. Other holds
	// may still keep them.
	Released      *int64 `json:"events_released,omitempty"`
	ReleasedBy    string `json:"released_by,omitempty"`
	ReleasedAt    string `json:"released_at,omitempty"`
	ReleaseReason string `json:"release_reason,omitempty"`
	// Versions are how it stood, the first as it was placed.
	Versions []Version `json:"versions,omitempty"`
}

// A Version is how a hold stood from an entry on.
type Version struct {
	Index  int64           `json:"index"`
	By     string          `json:"by"`
	At     string          `json:"at"`
	Reason string          `json:"reason"`
	Case   string          `json:"case,omitempty"`
	Scope  retention.Scope `json:"scope"`
}

func versionOf(v *retention.Version) Version {
	return Version{Index: v.Index, By: v.By, At: event.FormatTime(v.At), Reason: v.Reason, Case: v.Case, Scope: v.Scope}
}

func answer(h *retention.Hold, affected *int64) *Answer {
	p, v := h.Placed(), h.Last()
	a := &Answer{ID: h.ID.String(), CorrelationID: v.Scope.CorrelationID, Scope: v.Scope, Reason: v.Reason, Case: v.Case,
		PlacedBy: p.By, PlacedAt: event.FormatTime(p.At), Index: p.Index, Affected: affected}
	if r := h.Released; r != nil {
		a.ReleasedBy, a.ReleasedAt, a.ReleaseReason = r.By, event.FormatTime(r.At), r.Reason
	}
	return a
}

// AppendMember appends the member "legalHolds" of an event's object: the ids of
// the holds that keep it. Where none does, or there is no book, it appends
// nothing.
func AppendMember(dst []byte, b *retention.Book, h *search.Hit) []byte {
	if b == nil {
		return dst
	}
	held := Held(b, h)
	if len(held) == 0 {
		return dst
	}
	dst = append(dst, `,"legalHolds":[`...)
	for _, x := range held {
		dst = append(append(append(dst, '"'), x.ID.String()...), '"', ',')
	}
	dst[len(dst)-1] = ']'
	return dst
}
