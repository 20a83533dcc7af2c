package control

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/brief"
	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/report"
	"github.com/graven-audit/graven/trail"
)

// Before is how long before its window an assessment looks for what explains what
// happened in it: a grant, an analysis, a request.
const Before = 30 * 24 * time.Hour

// An Auditor holds trails against frameworks.
type Auditor struct {
	Book   *Book
	Source *compliance.Source
	// Population, if not nil, has every instance that is judged one by one.
	Population func(Instance)
}

// Assess judges the checks of a framework over a window.
func (a *Auditor) Assess(ctx context.Context, q *report.Question, f *Framework) (*Assessment, error) {
	x := &assessor{q: q, period: period{from: q.From, to: q.To, confirmed: map[string]bool{}}, wanted: map[string][]*judged{}}
	for _, c := range a.Book.named(f) {
		j := &judged{tally: newTally(c, a.Population)}
		if c.Procedure != "" {
			j.procedure = procedures[c.Procedure](c)
		} else {
			j.procedure = &condition{check: c, facts: newStory()}
		}
		x.judged = append(x.judged, j)
	}
	began, _, err := a.Source.Began(ctx)
	if err != nil {
		return nil, err
	}
	x.period.began = began
	if err := a.Source.Scan(ctx, q.From.Add(-Before), x.see); err != nil {
		return nil, err
	}
	out := &Assessment{Framework: f, Notes: []string{}}
	for _, j := range x.judged {
		j.procedure.close(j.tally, &x.period)
		v := j.tally.close()
		if v.Unknown > 0 {
			v.Note = fmt.Sprintf("Of %d more the trail does not tell: what decides was erased.", v.Unknown)
		}
		out.Verdicts = append(out.Verdicts, v)
	}
	switch {
	case began.IsZero():
		out.Notes = append(out.Notes, "The ledger has no events.")
	case began.After(q.From):
		out.Notes = append(out.Notes, fmt.Sprintf("The ledger begins at %s, within or after this period: of the days before it nothing is said.", event.FormatTime(began)))
	}
	if q.Namespace != "" || q.Scope != nil {
		out.Notes = append(out.Notes, "Events about no namespace, such as verifications and changes of access, count in full; all others only in the namespaces that were asked for.")
	}
	if x.erased > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("The details of %d events of the period were erased.", x.erased))
	}
	return out, nil
}

type judged struct {
	*tally
	procedure
}

type assessor struct {
	q      *report.Question
	period period
	judged []*judged
	wanted map[string][]*judged // by event type
	erased int
}

func (x *assessor) see(r *trail.Record, b *brief.Event) error {
	at, err := brief.Time(b.Timestamp)
	if err != nil || !at.Before(x.q.To) || at.Before(x.q.From.Add(-Before)) {
		return nil
	}
	if !x.within(b) {
		return nil
	}
	inside := !at.Before(x.q.From)
	for _, j := range x.judged {
		j.procedure.brief(b, r.Index, at, inside)
	}
	wanted, ok := x.wanted[string(b.EventType)]
	if !ok {
		for _, j := range x.judged {
			if j.wants(string(b.EventType)) {
				wanted = append(wanted, j)
			}
		}
		x.wanted[string(b.EventType)] = wanted
	}
	confirms := string(b.EventType) == "IntentConfirmed"
	if len(wanted) == 0 && !confirms {
		return nil
	}
	e, err := r.Event()
	if err != nil {
		return fmt.Errorf("entry %d: %w", r.Index, err)
	}
	// The record lives during this call only.
	s := &seen{index: r.Index, e: e, inside: inside, d: map[string]string{}, erased: r.Erasable == nil}
	e.Details = bytes.Clone(e.Details)
	if err := brief.Details(r.Erasable, func(name, value []byte) { s.d[string(name)] = string(value) }); err != nil {
		return fmt.Errorf("entry %d: %w", r.Index, err)
	}
	s.intent = e.Recorded.Attribution == event.AttributionAdmission && s.d["intent"] == "admission"
	if s.erased && inside {
		x.erased++
	}
	if confirms {
		x.period.confirmed[s.d["intent"]] = true
	}
	for _, j := range wanted {
		j.procedure.see(s)
	}
	return nil
}

// within reports whether an event is about what was asked for.
func (x *assessor) within(b *brief.Event) bool {
	if len(b.Namespace) == 0 {
		return x.q.Scope == nil
	}
	namespace := string(b.Namespace)
	return (x.q.Namespace == "" || x.q.Namespace == namespace) && (x.q.Scope == nil || slices.Contains(x.q.Scope, namespace))
}

// condition judges events one by one, each fact once: it passes if one of its tellings
// does.
type condition struct {
	deaf
	check *Check
	facts story
}

func (c *condition) wants(t string) bool { return slices.Contains(c.check.Instances, t) }

func (c *condition) see(s *seen) {
	if s.inside {
		c.facts.add(s)
	}
}

func (c *condition) close(t *tally, p *period) {
	for _, f := range c.facts.done(p, c.check.Instances...) {
		of, passed, unsure := c.check.of == nil, false, false
		why := "not so: " + c.check.Pass
		for _, s := range f.tellings {
			subject := &retention.Subject{Index: s.index, Event: s.e, Erased: s.erased}
			if c.check.of != nil {
				is, err := c.check.of.Match(subject)
				of, unsure = of || is, unsure || err != nil
			}
			is, err := c.check.pass.Match(subject)
			passed, unsure = passed || is, unsure || err != nil
		}
		switch {
		case !passed && unsure:
			t.verdict.Unknown++
		case of:
			t.judge(subjectOf(f.first().index, f.first().e), passed, why)
		}
	}
}
