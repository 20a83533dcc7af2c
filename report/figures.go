package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// figures are what the numbers of one window are made of.
type figures struct {
	incidents, chaos      int
	severities, states    map[string]int
	reopened              int
	toDetect, toAnswer    durations
	toResolve             durations
	lives                 []life
	attempts              int
	detectExcluded        map[string]int
	answerExcluded        map[string]int
	resolveExcluded       map[string]int
	plans                 map[result]int
	modes                 map[string]int
	actions               map[string]ActionType
	finishedActions       map[string]int
	due, kept             int
	notYetDue, noTarget   int
	responseDue, answered int
	violations            []Violation
	requests              int
	decisions             map[string]int
	pending               int
	toDecide              durations
	decideExcluded        map[string]int
	reasons               []string
	targets               []Target
}

// in reports whether a time lies in the window.
func (t *Tally) in(at time.Time) bool { return !at.Before(t.q.From) && at.Before(t.q.To) }

func (t *Tally) figures() *figures {
	f := &figures{severities: map[string]int{}, states: map[string]int{}, detectExcluded: map[string]int{}, answerExcluded: map[string]int{},
		resolveExcluded: map[string]int{}, plans: map[result]int{}, modes: map[string]int{}, actions: map[string]ActionType{},
		finishedActions: map[string]int{}, decisions: map[string]int{}, decideExcluded: map[string]int{}, targets: t.promises()}
	for _, d := range t.detected {
		switch took := d.detected.Sub(d.started); {
		case d.started.IsZero():
			f.detectExcluded["start unknown"]++
		case took < 0:
			f.detectExcluded["detected before it started, by the clocks"]++
		default:
			f.toDetect = append(f.toDetect, took)
		}
	}
	for _, in := range t.incidents {
		t.incident(f, in)
	}
	slices.SortFunc(f.violations, func(a, b Violation) int {
		return strings.Compare(a.Namespace+"\x00"+a.CorrelationID+"\x00"+a.Issue, b.Namespace+"\x00"+b.CorrelationID+"\x00"+b.Issue)
	})
	slices.Sort(f.reasons)
	return f
}

func (t *Tally) incident(f *figures, in *incident) {
	chaos := in.chaos && !t.q.Chaos
	if chaos && t.in(in.created) {
		f.chaos++
	}
	s := in.standing()
	if t.in(in.created) && !chaos {
		f.incidents++
		f.severities[in.grade()]++
		f.states[s.state]++
		if s.reopened {
			f.reopened++
		}
		for _, p := range in.plans {
			if !p.executed.IsZero() {
				f.attempts++
			}
		}
		t.sla(f, in, s)
	}
	t.times(f, in, s, chaos)
	if chaos {
		return
	}
	for i := range in.plans {
		t.remediation(f, in, &in.plans[i])
	}
	for i := range in.approvals {
		t.approval(f, &in.approvals[i])
	}
}

// grade is the severity of an incident, in a word.
func (in *incident) grade() string {
	if in.severity == "" {
		return "unknown"
	}
	return in.severity
}

func (t *Tally) times(f *figures, in *incident, s standing, chaos bool) {
	if t.in(in.acknowledged) {
		switch took := in.acknowledged.Sub(in.created); {
		case chaos:
			f.answerExcluded["chaos experiment"]++
		case in.created.IsZero():
			f.answerExcluded["beginning not in the trail"]++
		case took < 0:
			f.answerExcluded["acknowledged before it was created, by the clocks"]++
		default:
			f.toAnswer = append(f.toAnswer, took)
		}
	}
	if t.in(s.resolved) {
		switch took := s.resolved.Sub(in.created); {
		case chaos:
			f.resolveExcluded["chaos experiment"]++
		case in.created.IsZero():
			f.resolveExcluded["beginning not in the trail"]++
		case took < 0:
			f.resolveExcluded["resolved before it was created, by the clocks"]++
		default:
			f.toResolve = append(f.toResolve, took)
		}
	}
	if chaos || in.created.IsZero() || !s.resolved.IsZero() && (s.resolved.Before(t.q.From) || s.resolved.Before(in.created)) {
		return
	}
	l := life{entry: max(0, t.q.From.Sub(in.created)), exit: t.q.To.Sub(in.created)}
	if !s.resolved.IsZero() {
		l.exit, l.ended = s.resolved.Sub(in.created), true
	}
	f.lives = append(f.lives, l)
}

func (t *Tally) sla(f *figures, in *incident, s standing) {
	target := closest(f.targets, in.severity, in.key.namespace, in.created)
	if target == nil {
		f.noTarget++
		return
	}
	end := s.resolved
	if end.IsZero() {
		end = t.q.To
	}
	took := target.Hours.between(in.created, end)
	switch {
	case target.Resolution == 0:
		f.noTarget++
	case !s.resolved.IsZero() && took <= target.Resolution:
		f.due++
		f.kept++
	case took <= target.Resolution:
		f.notYetDue++
	default:
		f.due++
		name := in.name
		if name == "" {
			name = in.key.id
		}
		f.violations = append(f.violations, Violation{Issue: name, Namespace: in.key.namespace, CorrelationID: in.key.id, Severity: in.severity,
			SLATarget: text(target.Resolution), ActualResolution: text(took), Open: s.resolved.IsZero(), Reason: t.reason(in, s, end)})
	}
	if target.Response == 0 {
		return
	}
	var answered time.Time
	for _, at := range []time.Time{in.acknowledged, in.analysed} {
		if !at.IsZero() {
			earliest(&answered, at)
		}
	}
	end = answered
	if end.IsZero() {
		end = t.q.To
	}
	switch took := target.Hours.between(in.created, end); {
	case !answered.IsZero() && took <= target.Response:
		f.responseDue++
		f.answered++
	case took > target.Response:
		f.responseDue++
	}
}

// reason says why an incident took too long, as far as the trail tells.
func (t *Tally) reason(in *incident, s standing, end time.Time) string {
	var why []string
	for _, at := range t.breakers[in.key.namespace] {
		if !at.Before(in.created) && at.Before(end) {
			why = append(why, "Circuit breaker was open during the incident")
			break
		}
	}
	var waited time.Duration
	for _, a := range in.approvals {
		at, how := a.decision()
		switch {
		case a.requested.IsZero() || how == "auto":
		case at.IsZero() || at.After(end):
			waited += max(0, end.Sub(a.requested))
		default:
			waited += max(0, at.Sub(a.requested))
		}
	}
	if waited > 0 && 4*waited >= end.Sub(in.created) {
		why = append(why, "Manual approval took "+spoken(waited))
	}
	bad, good := 0, 0
	for _, p := range in.plans {
		switch p.result {
		case succeeded:
			good++
		case failed, rolledBack:
			bad++
		}
	}
	switch {
	case bad == 1 && good > 0:
		why = append(why, "Initial remediation failed, second attempt succeeded")
	case bad > 0 && good > 0:
		why = append(why, fmt.Sprintf("%d remediations failed before one succeeded", bad))
	case bad > 0:
		why = append(why, fmt.Sprintf("%d of %d remediations failed", bad, len(in.plans)))
	case len(in.plans) == 0:
		why = append(why, "No remediation was executed")
	}
	if s.reopened {
		why = append(why, "It was reopened after it had been resolved")
	}
	switch s.state {
	case "escalated", "contained":
		why = append(why, "It was "+s.state+" and not resolved")
	}
	if len(why) == 0 {
		return "The trail tells no reason"
	}
	return strings.Join(why, "; ")
}

// spoken writes a duration in words.
func spoken(d time.Duration) string {
	n, unit := int(d.Round(time.Second)/time.Second), "second"
	switch {
	case d >= 2*time.Hour:
		n, unit = int(d.Round(time.Hour)/time.Hour), "hour"
	case d >= time.Minute:
		n, unit = int(d.Round(time.Minute)/time.Minute), "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

func (t *Tally) remediation(f *figures, in *incident, p *plan) {
	switch {
	case p.result != unfinished && t.in(p.ended):
		f.plans[p.result]++
	case p.result == unfinished && t.in(p.executed):
		f.plans[unfinished]++
	}
	if t.in(p.executed) {
		f.modes[p.decided(in)]++
	}
	for _, a := range p.actions {
		if !t.in(a.at) {
			continue
		}
		of := f.actions[a.typ]
		of.Total++
		if p.result == succeeded {
			of.Successful++
		}
		if p.result != unfinished {
			f.finishedActions[a.typ]++
		}
		f.actions[a.typ] = of
	}
}

// decided says in which way it was decided to execute a plan.
func (p *plan) decided(in *incident) string {
	mode := strings.ToLower(strings.ReplaceAll(p.mode, "_", "-"))
	for _, a := range in.approvals {
		if at, how := a.decision(); how == "granted" && (a.plan == p.name || a.plan == "") && !at.After(p.executed) && mode != "manual" {
			return "manualApproved"
		}
	}
	switch mode {
	case "auto":
		return "auto"
	case "auto-notify", "autonotify", "auto-with-notification":
		return "autoWithNotification"
	case "manual", "manual-only":
		return "manualOnly"
	}
	if in.auto {
		return "auto"
	}
	return "unknown"
}

func (t *Tally) approval(f *figures, a *approval) {
	at, how := a.decision()
	if t.in(a.requested) {
		f.requests++
		if how == "" {
			f.pending++
		}
	}
	if !t.in(at) {
		return
	}
	f.decisions[how]++
	if how == "rejected" && a.reason != "" && !slices.Contains(f.reasons, a.reason) {
		f.reasons = append(f.reasons, a.reason)
	}
	if how != "granted" && how != "rejected" {
		return
	}
	switch took := at.Sub(a.requested); {
	case a.requested.IsZero():
		f.decideExcluded["request not in the trail"]++
	case took < 0:
		f.decideExcluded["decided before it was requested, by the clocks"]++
	default:
		f.toDecide = append(f.toDecide, took)
	}
}
