package control

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/brief"
)

// A procedure answers a check of which one event does not tell.
type procedure interface {
	// brief sees the brief of every event of the period, recorded is whether it lies in
	// the window, and not only in the time before.
	brief(b *brief.Event, index int64, at time.Time, inside bool)
	// wants reports whether the procedure is to see events of a type whole.
	wants(eventType string) bool
	// see sees those; once for each telling, in the ledger's order.
	see(s *seen)
	// close judges.
	close(t *tally, p *period)
}

// seen is an event that was read whole.
type seen struct {
	index  int64
	e      *event.Event
	d      map[string]string // the details, as text
	inside bool
	intent bool // asked for at admission, and nothing more
	erased bool // its details are gone
}

// A period is what is asked about.
type period struct {
	from, to  time.Time
	began     time.Time // the ledger's first entry that it still has
	confirmed map[string]bool
}

// days returns the days of the period, whole or in part, that the ledger has seen.
func (p *period) days() (days []time.Time) {
	day := p.from.UTC().Truncate(24 * time.Hour)
	for ; day.Before(p.to) && len(days) < 40_000; day = day.AddDate(0, 0, 1) {
		if end := day.AddDate(0, 0, 1); !p.began.IsZero() && end.After(p.began) {
			days = append(days, day)
		}
	}
	return days
}

// procedures are made anew for each assessment.
var procedures = map[string]func(c *Check) procedure{
	"verified": func(*Check) procedure { return &verified{good: map[string]bool{}, bad: map[string]bool{}} },
	"gaps": func(*Check) procedure {
		return &outages{types: []string{"CaptureGap"}, watched: map[string]bool{}, out: map[string]string{}}
	},
	"failures": func(*Check) procedure {
		return &outages{types: []string{"CaptureFailed"}, watched: map[string]bool{}, out: map[string]string{}}
	},
	"reconciled": func(*Check) procedure { return &reconciled{out: map[string]string{}} },
	"approved":   func(*Check) procedure { return &approved{story: newStory()} },
	"explained":  func(*Check) procedure { return &explained{story: newStory()} },
	"attributed": func(*Check) procedure { return &attributed{story: newStory()} },
	"results":    func(*Check) procedure { return &results{story: newStory()} },
	"ended": func(*Check) procedure {
		return &followed{story: newStory(), by: []string{"IssueResolved", "IssueContained", "IssueEscalated", "orchestrator.lifecycle.completed", "orchestrator.lifecycle.failed"}, why: "no end is recorded"}
	},
	"answered": func(*Check) procedure {
		return &followed{story: newStory(), by: []string{"AIInsightRequested", "AIInsightCompleted", "IssueAcknowledged", "RemediationPlanned", "aianalysis.aiagent.submit", "aianalysis.analysis.completed"}, why: "no analysis and no acknowledgement is recorded"}
	},
	"retention":  func(c *Check) procedure { return &each{judge: kept(c.Days)} },
	"clocks":     func(*Check) procedure { return &each{judge: timely} },
	"content":    func(*Check) procedure { return &each{judge: complete} },
	"catalogued": func(*Check) procedure { return &each{judge: catalogued} },
	"judged":     func(*Check) procedure { return &judgedFindings{after: map[string]bool{}} },
	"unforged":   func(*Check) procedure { return &unforged{} },
	"continuous": func(*Check) procedure { return &continuous{} },
}

// deaf is a procedure that sees nothing of what it does not say.
type deaf struct{}

func (deaf) brief(*brief.Event, int64, time.Time, bool) {}
func (deaf) wants(string) bool                          { return false }
func (deaf) see(*seen)                                  {}

// verified judges days by whether a verification of the whole ledger was good.
type verified struct {
	deaf
	good, bad map[string]bool
}

func (v *verified) wants(t string) bool { return t == "AuditVerified" }

func (v *verified) see(s *seen) {
	if s.d["scope"] != "ledger" {
		return
	}
	day := s.e.Timestamp.UTC().Format(time.DateOnly)
	if s.d["valid"] == "true" {
		v.good[day] = true
	} else {
		v.bad[day] = true
	}
}

func (v *verified) close(t *tally, p *period) {
	for _, day := range p.days() {
		name := day.Format(time.DateOnly)
		switch {
		case v.bad[name]:
			t.judge(dayOf(day), false, "a verification found something wrong")
		default:
			t.judge(dayOf(day), v.good[name], "no verification of the whole ledger is recorded")
		}
	}
}

// outages judges the days on which capture was at work by whether something kept it
// from it.
type outages struct {
	types   []string
	watched map[string]bool
	out     map[string]string // day: why
}

func (o *outages) brief(b *brief.Event, _ int64, at time.Time, inside bool) {
	switch string(b.Attribution) {
	case event.AttributionObserved, event.AttributionAdmission:
		if inside {
			o.watched[at.UTC().Format(time.DateOnly)] = true
		}
	}
}

func (o *outages) wants(t string) bool { return slices.Contains(o.types, t) }

func (o *outages) see(s *seen) {
	from, to := s.e.Timestamp, s.e.Timestamp
	if since, err := event.ParseTime(s.d["since"]); err == nil && since.Before(from) {
		from = since
	}
	if until, err := event.ParseTime(s.d["until"]); err == nil && until.After(to) {
		to = until
	}
	why := fmt.Sprintf("%s, entry %d: %s", s.e.EventType, s.index, s.d["reason"])
	for day := from.UTC().Truncate(24 * time.Hour); !day.After(to) && to.Sub(from) < 4000*24*time.Hour; day = day.AddDate(0, 0, 1) {
		o.out[day.Format(time.DateOnly)] = why
	}
}

func (o *outages) close(t *tally, p *period) {
	for _, day := range p.days() {
		name := day.Format(time.DateOnly)
		if why, out := o.out[name]; out || o.watched[name] {
			t.judge(dayOf(day), !out, why)
		}
	}
}

// reconciled judges days by whether API servers' audit logs and the trail agree.
type reconciled struct {
	deaf
	changes []coverage
	out     map[string]string
}

type coverage struct {
	at      time.Time
	covered bool
	reason  string
}

func (r *reconciled) wants(t string) bool {
	return t == "AuditLogCoverageChanged" || t == "WriteUnexplained" || t == "ClaimUnwitnessed"
}

func (r *reconciled) see(s *seen) {
	if s.e.EventType == "AuditLogCoverageChanged" {
		r.changes = append(r.changes, coverage{s.e.Timestamp, s.d["covered"] == "true", s.d["reason"]})
		return
	}
	r.out[s.e.Timestamp.UTC().Format(time.DateOnly)] = fmt.Sprintf("%s, entry %d", s.e.EventType, s.index)
}

func (r *reconciled) close(t *tally, p *period) {
	slices.SortStableFunc(r.changes, func(a, b coverage) int { return a.at.Compare(b.at) })
	for _, day := range p.days() {
		end := day.AddDate(0, 0, 1)
		covered, known, why := false, false, "the audit logs did not cover the day"
		for _, c := range r.changes {
			if !c.at.Before(end) {
				break
			}
			known = true
			if !c.at.After(day) {
				covered = c.covered
			} else if !c.covered {
				covered = false
			}
			if !c.covered {
				why = "not covered: " + c.reason
			}
		}
		if !known {
			continue
		}
		mismatch, out := r.out[day.Format(time.DateOnly)]
		if out {
			why = mismatch
		}
		t.judge(dayOf(day), covered && !out, why)
	}
	if len(r.changes) == 0 {
		t.verdict.Note = "No audit log of an API server was received."
	}
}

// each judges every event of the window by itself.
type each struct {
	deaf
	judge func(b *brief.Event, at time.Time) string // what is wrong
	n     int
	bad   []subject
	whys  []string
	more  int
}

func (x *each) brief(b *brief.Event, index int64, at time.Time, inside bool) {
	if !inside {
		return
	}
	x.n++
	why := x.judge(b, at)
	switch {
	case why == "":
	case len(x.bad) == MaxExceptions:
		x.more++
	default:
		x.bad = append(x.bad, subject{index, string(b.ID), event.FormatTime(at), string(b.EventType) + " " + string(b.Kind) + " " + string(b.Name)})
		x.whys = append(x.whys, why)
	}
}

func (x *each) close(t *tally, _ *period) {
	for i, s := range x.bad {
		t.judge(s, false, x.whys[i])
	}
	t.verdict.N, t.verdict.Exceptions = x.n, len(x.bad)+x.more
}

func kept(days int64) func(*brief.Event, time.Time) string {
	return func(b *brief.Event, _ time.Time) string {
		has := b.RetentionDays
		if has == 0 {
			has = event.DefaultRetentionDays
		}
		if has >= days {
			return ""
		}
		return fmt.Sprintf("to be kept for %d days", has)
	}
}

func timely(b *brief.Event, at time.Time) string {
	recorded, err := brief.Time(b.RecordedAt)
	if err != nil {
		return "its time of recording cannot be read"
	}
	switch late := recorded.Sub(at); {
	case late > time.Hour:
		return "recorded " + late.Round(time.Second).String() + " after it happened"
	case late < -time.Minute:
		return "recorded " + (-late).Round(time.Second).String() + " before it happened"
	}
	return ""
}

func complete(b *brief.Event, _ time.Time) string {
	var lacks []string
	for _, m := range []struct {
		name  string
		value []byte
	}{{"type", b.EventType}, {"actor", b.ActorName}, {"resource", b.Kind}, {"outcome", b.Outcome}, {"severity", b.Severity}} {
		if len(m.value) == 0 {
			lacks = append(lacks, m.name)
		}
	}
	if string(b.ActorName) == "unknown" {
		lacks = append(lacks, "the actor's name")
	}
	if len(lacks) == 0 {
		return ""
	}
	return "lacks " + strings.Join(lacks, ", ")
}

func catalogued(b *brief.Event, _ time.Time) string {
	if _, ok := event.Lookup(string(b.EventType)); ok {
		return ""
	}
	return "a type that the catalogue does not have"
}

// unforged judges what was seen at admission by whether it claimed another actor.
type unforged struct {
	n   int
	bad []subject
	why []string
}

func (u *unforged) brief(b *brief.Event, _ int64, _ time.Time, inside bool) {
	if inside && string(b.Attribution) == event.AttributionAdmission && string(b.EventType) != "IdentityForged" {
		u.n++
	}
}

func (u *unforged) wants(t string) bool { return t == "IdentityForged" }

func (u *unforged) see(s *seen) {
	if s.inside {
		u.bad = append(u.bad, subjectOf(s.index, s.e))
		u.why = append(u.why, "claimed to be "+s.d["claimed"]+", and was "+s.e.Actor.Name)
	}
}

func (u *unforged) close(t *tally, _ *period) {
	for i, s := range u.bad {
		t.judge(s, false, u.why[i])
	}
	t.verdict.N += u.n
}

// continuous judges starts and stops of the ledger: after a stop comes a start.
type continuous struct {
	deaf
	list []*seen
}

func (c *continuous) wants(t string) bool {
	return t == "LedgerStarted" || t == "LedgerStopped" || t == "LedgerCreated"
}

func (c *continuous) see(s *seen) {
	if s.inside {
		c.list = append(c.list, s)
	}
}

func (c *continuous) close(t *tally, _ *period) {
	for i, s := range c.list {
		stopped := s.e.EventType == "LedgerStopped" && !slices.ContainsFunc(c.list[i+1:], func(later *seen) bool { return later.e.EventType == "LedgerStarted" })
		t.judge(subjectOf(s.index, s.e), !stopped, "no start follows in the period")
	}
}
