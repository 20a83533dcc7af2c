package retention

import (
	"fmt"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/tombstone"
)

// A Range is entries from First on and below End.
type Range struct {
	First int64 `json:"first"`
	End   int64 `json:"end"`
}

// A Plan says what a run would erase of a ledger.
type Plan struct {
	// Size is that of the ledger that it was made for, Now the time.
	Size int64     `json:"size"`
	Now  time.Time `json:"now"`
	// Details are the entries whose details are due and not held, in order;
	// those whose details are gone are left out.
	Details []Range `json:"details"`
	// DetailsCount is how many these are, Runs how many ranges.
	DetailsCount int64 `json:"detailsCount"`
	Runs         int   `json:"runs"`
	// Entries is the prefix in which every entry is due and none is held, up to
	// a multiple of [tombstone.Width]; it may be empty. Those with a member
	// "ledger" stay, for verification rests on them.
	Entries Range `json:"entries"`
	// Kept is how many entries stay whole below the end of the prefix, those
	// that runs before have kept among them.
	Kept int64 `json:"kept"`
	// Stops is why no more entries go; nil where there are no more.
	Stops *Stop `json:"stops,omitempty"`
	// Policies count, by what gave the term, the entries whose details go.
	Policies map[string]int64 `json:"policies"`
	// Held are the holds that keep details or entries that are due.
	Held []Keeping `json:"held"`
}

// A Stop is an entry that stays, and those after it.
type Stop struct {
	Index  int64  `json:"index"`
	Reason string `json:"reason"`
}

// A Keeping is what a hold keeps of that which is due.
type Keeping struct {
	Hold event.ID `json:"hold"`
	// Details and Entries are how many of each.
	Details int64 `json:"details"`
	Entries int64 `json:"entries"`
	// First is the first of the entries.
	First int64 `json:"first"`
}

// A Planner makes a plan of entries that it is told of one after the other.
type Planner struct {
	book     *Book
	policies *Policies
	plan     Plan
	first    int64 // below which entries are gone
	next     int64 // the entry it must be told of
	prefix   int64 // up to which every entry may go
	kept     int64 // entries in it that stay
	keeping  map[event.ID]int
}

// NewPlanner returns a planner for a ledger as of the size that the book has
// followed. Of the entries that are gone it need not be told.
func NewPlanner(b *Book, p *Policies, now time.Time) *Planner {
	first, kept := b.prefix()
	return &Planner{kept: kept, book: b, policies: p, first: first, next: first, prefix: first, keeping: map[event.ID]int{},
		plan: Plan{Size: b.Size(), Now: now, Kept: kept, Details: []Range{}, Policies: map[string]int64{}, Held: []Keeping{}}}
}

// maxShown bounds the ranges of a plan that are shown.
const maxShown = 1000

// Shown returns the plan as it is shown: with the first 1,000 ranges.
func (p *Plan) Shown() *Plan {
	if p == nil || len(p.Details) <= maxShown {
		return p
	}
	shown := *p
	shown.Details = p.Details[:maxShown]
	return &shown
}

// First returns the first entry that the planner must be told of, and Size the
// size of the ledger that the plan is for.
func (p *Planner) First() int64 { return p.first }

// Size is described with First.
func (p *Planner) Size() int64 { return p.plan.Size }

// Add tells of the next entry.
func (p *Planner) Add(s *Subject) error {
	if s.Index != p.next || s.Index >= p.plan.Size {
		return fmt.Errorf("%w: %d, and %d of %d is next", ErrOrder, s.Index, p.next, p.plan.Size)
	}
	p.next++
	term := p.policies.Term(s)
	details, entry := !s.Erased && !p.plan.Now.Before(term.Details), !p.plan.Now.Before(term.Entry)
	var held []*Hold
	if details || entry {
		held = p.book.Held(s, p.plan.Size)
	}
	for _, h := range held {
		k := p.keeps(h.ID, s.Index)
		if details {
			k.Details++
		}
		if entry {
			k.Entries++
		}
	}
	if details && len(held) == 0 {
		p.plan.Policies[term.DetailsBy]++
		p.plan.DetailsCount++
		if n := len(p.plan.Details) - 1; n >= 0 && p.plan.Details[n].End == s.Index {
			p.plan.Details[n].End++
		} else {
			p.plan.Details = append(p.plan.Details, Range{s.Index, s.Index + 1})
		}
	}
	if p.prefix < s.Index {
		return nil
	}
	switch {
	case !entry:
		p.plan.Stops = &Stop{s.Index, fmt.Sprintf("kept until %s by %s", event.FormatTime(term.Entry), term.EntryBy)}
	case len(held) > 0:
		p.plan.Stops = &Stop{s.Index, "held by " + held[0].ID.String()}
	default:
		if len(s.Event.Ledger) > 0 {
			p.kept++
		}
		if p.prefix++; p.prefix%tombstone.Width == 0 {
			p.plan.Kept = p.kept
		}
	}
	return nil
}

func (p *Planner) keeps(id event.ID, index int64) *Keeping {
	i, ok := p.keeping[id]
	if !ok {
		i = len(p.plan.Held)
		p.keeping[id] = i
		p.plan.Held = append(p.plan.Held, Keeping{Hold: id, First: index})
	}
	return &p.plan.Held[i]
}

// Plan returns the plan, once it was told of all entries.
func (p *Planner) Plan() (*Plan, error) {
	if p.next != p.plan.Size {
		return nil, fmt.Errorf("%w: the plan ends at %d of %d", ErrOrder, p.next, p.plan.Size)
	}
	plan := p.plan
	plan.Runs = len(plan.Details)
	plan.Entries = Range{p.first, max(p.first, p.prefix-p.prefix%tombstone.Width)}
	if plan.Stops == nil && plan.Entries.End < plan.Size {
		plan.Stops = &Stop{plan.Entries.End, fmt.Sprintf("entries go by the %d, and there are fewer", tombstone.Width)}
	}
	return &plan, nil
}
