package control

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/graven-audit/graven/event"
)

// MaxExceptions bounds the exceptions that a verdict lists.
const MaxExceptions = 1000

// What a verdict may be.
const (
	Passed    = "passed"
	NotEnough = "not enough evidence"
)

// A Verdict is what the trail answers to a check, over a period.
type Verdict struct {
	Check string `json:"check"`
	Title string `json:"title"`
	Asks  string `json:"asks"`
	// Result is [Passed], "n exceptions of N", or [NotEnough].
	Result string `json:"result"`
	// Unit is what was judged, instances or days; N how many, and Exceptions how many
	// of them are not as asked.
	Unit       string `json:"unit"`
	N          int    `json:"n"`
	Exceptions int    `json:"exceptions"`
	// Unknown counts those of which the trail does not tell, for what decides was
	// erased; they are not in N.
	Unknown int         `json:"unknown"`
	List    []Exception `json:"list"`
	Note    string      `json:"note,omitempty"`
}

// An Exception is an instance, or a day, that is not as a check asks.
type Exception struct {
	// Index and ID are of the event that shows it; -1 and empty of a day.
	Index int64  `json:"index"`
	ID    string `json:"id,omitempty"`
	When  string `json:"when"`
	What  string `json:"what"`
	Why   string `json:"why"`
}

// An Instance is one thing that a check judged.
type Instance struct {
	Check  string
	Index  int64 // -1 for a day
	ID     string
	When   string
	What   string
	Passed bool
	Why    string
}

// An Assessment is a framework held against a trail.
type Assessment struct {
	Framework *Framework
	Verdicts  []Verdict // of each check that it names, once
	Notes     []string
}

// Verdict returns that of a check.
func (a *Assessment) Verdict(check string) *Verdict {
	for i := range a.Verdicts {
		if a.Verdicts[i].Check == check {
			return &a.Verdicts[i]
		}
	}
	return nil
}

// A tally counts what one check judges.
type tally struct {
	check   *Check
	verdict Verdict
	all     func(Instance) // may be nil
}

func newTally(c *Check, all func(Instance)) *tally {
	return &tally{check: c, all: all, verdict: Verdict{Check: c.Name, Title: c.Title, Asks: c.Asks, Unit: c.Unit(), List: []Exception{}}}
}

// judge counts an instance; why says what is wrong with one that does not pass.
func (t *tally) judge(s subject, passed bool, why string) {
	v := &t.verdict
	v.N++
	if passed {
		why = ""
	}
	if t.all != nil {
		t.all(Instance{Check: v.Check, Index: s.index, ID: s.id, When: s.when, What: s.what, Passed: passed, Why: why})
	}
	if passed {
		return
	}
	v.Exceptions++
	if len(v.List) < MaxExceptions {
		v.List = append(v.List, Exception{Index: s.index, ID: s.id, When: s.when, What: s.what, Why: why})
	}
}

func (t *tally) close() Verdict {
	v := &t.verdict
	slices.SortStableFunc(v.List, func(a, b Exception) int { return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.When, b.When)) })
	switch {
	case v.N == 0:
		v.Result = NotEnough
	case v.Exceptions == 0:
		v.Result = Passed
	case v.Exceptions == 1:
		v.Result = fmt.Sprintf("1 exception of %d", v.N)
	default:
		v.Result = fmt.Sprintf("%d exceptions of %d", v.Exceptions, v.N)
	}
	return *v
}

// A subject is what is judged, in a reader's words.
type subject struct {
	index          int64
	id, when, what string
}

func subjectOf(index int64, e *event.Event) subject {
	what := e.EventType + " " + e.Resource.Kind
	if e.Resource.Name != "" {
		what += " " + e.Resource.Name
	}
	if e.Resource.Namespace != "" {
		what += " in " + e.Resource.Namespace
	}
	return subject{index, e.ID.String(), event.FormatTime(e.Timestamp), what}
}

func dayOf(day time.Time) subject {
	return subject{index: -1, when: day.Format(time.DateOnly), what: "the day " + day.Format(time.DateOnly) + " (UTC)"}
}
