package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/retention"
)

// maxLate is how long after it happened an event may be recorded.
const maxLate = time.Hour

// A found is something that is wrong.
type found struct {
	rule    *Rule
	subject string // what it is about: with the rule, its identity
	on      *telling
	at      time.Time // when it happened
	says    string
	// evidence are the entries that show it.
	evidence []int64
}

func (f *found) key() string { return f.rule.Name + "\x00" + f.subject }

// plain are rules that one event shows by itself.
var plain = map[string]func(t *telling) (rule, says string){
	"IdentityForged": func(t *telling) (string, string) {
		return "forged-actor", fmt.Sprintf("claimed to be %s, and was %s", t.d["claimed"], t.actor)
	},
	"WriteUnexplained": func(t *telling) (string, string) {
		return "write-unexplained", fmt.Sprintf("%s: %s %s", cmp.Or(t.d["user"], t.actor), t.d["verb"], t.d["resource"])
	},
	"ClaimUnwitnessed": func(t *telling) (string, string) {
		return "claim-unwitnessed", fmt.Sprintf("%s by %s on %s", t.d["eventType"], t.d["actor"], t.d["target"])
	},
	"CaptureGap": func(t *telling) (string, string) {
		return "source-gap", fmt.Sprintf("%s from %s to %s: %s", t.d["resources"], t.d["since"], t.d["until"], t.d["reason"])
	},
	"CaptureFailed": func(t *telling) (string, string) {
		return "capture-failed", fmt.Sprintf("%s, %s: %s", t.d["policy"], t.d["field"], t.d["reason"])
	},
	"AuditEventDeletedUnsealed": func(t *telling) (string, string) {
		return "record-deleted-unsealed", "created by " + t.d["creator"]
	},
	"WitnessRefused": func(t *telling) (string, string) { return "witness-refused", t.d["witness"] + ": " + t.d["reason"] },
	"AuditEventCopied": func(t *telling) (string, string) {
		if t.d["faithful"] == "true" {
			return "", ""
		}
		return "forged-record", "created by " + t.d["creator"] + ", in place of entry " + t.d["claimedIndex"]
	},
	"AuditVerified": func(t *telling) (string, string) {
		if t.d["valid"] != "false" {
			return "", ""
		}
		return "verification-failed", t.d["findings"] + " findings in " + t.d["scope"]
	},
	"AuditEventProtectionChanged": func(t *telling) (string, string) {
		if t.d["lacks"] == "" {
			return "", ""
		}
		return "guard-weakened", fmt.Sprintf("protection is %s, was %s: %s", t.d["rung"], t.d["was"], t.d["lacks"])
	},
	"GuardChanged": func(t *telling) (string, string) {
		if t.d["operation"] == "CREATE" || t.d["operation"] == "created" {
			return "", ""
		}
		return "guard-weakened", fmt.Sprintf("%s %s: %s by %s", t.kind, t.name, strings.ToLower(t.d["operation"]), t.actor)
	},
	"LedgerConfigChanged": func(t *telling) (string, string) {
		if keys := strings.ToLower(t.d["changedKeys"]); !strings.Contains(keys, "retention") && !strings.Contains(keys, "erasure") {
			return "", ""
		}
		return "retention-weakened", t.d["changedKeys"]
	},
	"ConfigChanged": func(t *telling) (string, string) {
		if t.d["fromSeverity"] == "" || t.d["toSeverity"] == "" {
			return "", ""
		}
		return "severity-lowered", fmt.Sprintf("%s from %s to %s", t.name, t.d["fromSeverity"], t.d["toSeverity"])
	},
	"IntentUnconfirmed": func(t *telling) (string, string) {
		if t.d["reason"] == "nothing was to change" {
			return "", ""
		}
		return "unconfirmed-intent", t.d["eventType"] + ": " + t.d["reason"]
	},
}

// judgeOne returns what an event shows by itself.
func judgeOne(t *telling, custom []Rule, e func() (*event.Event, error)) ([]*found, error) {
	var all []*found
	add := func(r *Rule, subject, says string) {
		all = append(all, &found{rule: r, subject: subject, on: t, at: t.at, says: says, evidence: []int64{t.index}})
	}
	if fn := plain[t.eventType]; fn != nil {
		if rule, says := fn(t); rule != "" {
			add(find(rule), cmp.Or(t.fact, t.id), says)
		}
	}
	if late := t.recorded.Sub(t.at); late > maxLate {
		if known, ok := event.Lookup(t.eventType); !ok || !strings.HasPrefix(known.Family, "graven") {
			add(find("late-event"), t.cluster+"/"+t.principal+"/"+t.recorded.UTC().Format(time.DateOnly),
				fmt.Sprintf("events that %s recorded were late, the first (%s) by %s", cmp.Or(t.principal, "somebody"), t.eventType, late.Round(time.Second)))
		}
	}
	for i := range custom {
		whole, err := e()
		if err != nil {
			return nil, err
		}
		is, err := custom[i].when.Match(&retention.Subject{Index: t.index, Event: whole, Erased: false})
		if is && err == nil { // where it cannot be told, nothing is shown
			add(&custom[i], cmp.Or(t.fact, t.id), t.eventType+" of "+strings.TrimSpace(t.kind+" "+t.name)+" by "+t.actor)
		}
	}
	return all, nil
}

var (
	executions = []string{"RemediationExecuted", "workflowexecution.execution.started"}
	grants     = []string{"ApprovalGranted", "orchestrator.approval.approved"}
	rejections = []string{"ApprovalRejected", "orchestrator.approval.rejected"}
	requests   = []string{"ApprovalRequested", "orchestrator.approval.requested"}
	hooked     = "webhook.remediationapprovalrequest.decided"
	// telling are the types of incidents' events that rules look at.
	told = slices.Concat(executions, grants, rejections, requests, []string{hooked, "ApprovalExpired", "ApprovalAttempted", "RemediationPlanned", "RunbookGenerated", "ConfigChanged",
		"IssueContained", "IssueResolved", "IssueEscalated", "RemediationSucceeded", "RemediationFailed", "IntentConfirmed", "IntentUnconfirmed", "IntentFailed", "ResourceSnapshot"})
)

// judge returns what the story of an incident shows.
func judge(tellings []*telling) (all []*found) {
	y := tell(tellings)
	add := func(rule, subject string, on *fact, says string, evidence ...*fact) {
		all = append(all, &found{rule: find(rule), subject: subject, on: on.first(), at: on.at, says: says, evidence: indexes(append(evidence, on)...)})
	}
	approvals := y.approvals()
	for _, a := range approvals {
		a.judge(y, add)
	}
	y.unapproved(approvals, add)
	y.contained(add)
	y.unseen(add)
	return all
}

type adder func(rule, subject string, on *fact, says string, evidence ...*fact)

// An approval is a request with what was decided.
type approval struct {
	name, plan                        string
	request                           *fact
	granted, rejected, expired, tried []*fact
	authors                           []string // who asked for it, or made what it is about
	required                          int
}

func (y *story) approvals() []*approval {
	var all []*approval
	get := func(f *fact) *approval {
		name := cmp.Or(f.detail("rar_name", "request_name"), f.first().name)
		key := f.first().cluster + "\x00" + f.first().namespace + "/" + name
		i := slices.IndexFunc(all, func(a *approval) bool { return a.name == key })
		if i < 0 {
			i = len(all)
			all = append(all, &approval{name: key})
		}
		a := all[i]
		a.plan = cmp.Or(a.plan, f.detail("plan"))
		return a
	}
	for _, f := range y.done(requests...) {
		a := get(f)
		a.request = f
		a.required, _ = strconv.Atoi(f.detail("requiredApprovers")) // absent is none
		if who := f.detail("requester"); who != "" && !service(who) {
			a.authors = append(a.authors, who)
		}
		if who := f.first(); who.actorType == event.ActorUser && who.actor != "unknown" {
			a.authors = append(a.authors, who.actor)
		}
	}
	for _, f := range y.done(slices.Concat(grants, rejections, []string{hooked, "ApprovalExpired"})...) {
		a := get(f)
		switch {
		case f.first().eventType == "ApprovalExpired" || f.first().eventType == hooked && strings.EqualFold(f.detail("decision"), "expired"):
			a.expired = append(a.expired, f)
		case slices.Contains(rejections, f.first().eventType) || f.first().eventType == hooked && strings.EqualFold(f.detail("decision"), "rejected"):
			a.rejected = append(a.rejected, f)
		default:
			a.granted = append(a.granted, f)
		}
	}
	for _, f := range y.facts { // an attempt is told by the intent alone
		if f.first().eventType == "ApprovalAttempted" {
			a := get(f)
			a.tried = append(a.tried, f)
		}
	}
	for _, f := range y.done("RemediationPlanned", "RunbookGenerated", "ConfigChanged") {
		who := f.person()
		if who == "" || service(who) {
			continue
		}
		for _, a := range all {
			if f.first().name == a.plan && a.plan != "" || slices.Contains([]string{f.first().name}, a.detail("policy")) || a.request != nil && f.first().name == a.request.first().name {
				a.authors = append(a.authors, who)
			}
		}
	}
	return all
}

func (a *approval) detail(name string) string {
	if a.request == nil {
		return ""
	}
	return cmp.Or(a.request.detail(name), "\x00")
}

// judge says what is wrong with a decision.
func (a *approval) judge(y *story, add adder) {
	people := map[string]bool{}
	var decided []*fact
	for _, f := range slices.Concat(a.granted, a.rejected) {
		if f.detail("auto") == "true" {
			continue
		}
		decided = append(decided, f)
		who := f.person()
		people[who] = true
		subject := a.name + "/" + cmp.Or(f.first().fact, f.first().id)
		switch {
		case who == "" && f.erased():
		case who == "":
			add("approver-unknown", subject, f, f.first().eventType+" of "+f.first().name)
		case !f.any((*telling).known):
			add("approver-asserted", subject, f, who+" decided on "+f.first().name+", as a program says")
		}
		if slices.Contains(a.granted, f) && who != "" && slices.Contains(a.authors, who) {
			add("self-approval", subject, f, who+" granted "+f.first().name, a.evidence()...)
		}
	}
	decisions := len(a.granted) // a telling of all of them counts each
	for _, f := range slices.Concat(a.tried, a.granted) {
		people[f.person()] = true
		if list := f.detail("approvers"); list != "" {
			all := strings.Split(list, ", ")
			decisions = max(decisions, len(all))
			for _, who := range all {
				people[who] = true
			}
		}
	}
	delete(people, "")
	delete(people, "unknown")
	if a.required > 1 && len(people) < a.required && len(decided) > 0 && len(a.granted) > 0 && (decisions >= a.required || y.executed(a)) {
		add("quorum-by-one-person", a.name, a.granted[0], fmt.Sprintf("%d approvers were needed, %d decided", a.required, len(people)), a.evidence()...)
	}
	// Who tells a decision twice does not contradict it.
	granted := slices.ContainsFunc(a.granted, func(f *fact) bool { return f.detail("auto") != "true" })
	switch {
	case granted && len(a.rejected) > 0:
		add("approval-changed-after-decision", a.name, a.rejected[len(a.rejected)-1], "granted and rejected", a.granted...)
	case (granted || len(a.rejected) > 0) && len(a.expired) > 0:
		add("approval-changed-after-decision", a.name, a.expired[0], "decided and expired", slices.Concat(a.granted, a.rejected)...)
	}
	if len(a.tried) > 0 && len(a.granted)+len(a.rejected) == 0 && len(a.expired) > 0 {
		f := a.tried[0]
		add("decision-lost", a.name, f, cmp.Or(f.person(), "somebody")+" decided, and the request expired", a.expired...)
	}
}

// executed reports whether what an approval is about was executed.
func (y *story) executed(a *approval) bool {
	return slices.ContainsFunc(y.done(executions...), func(f *fact) bool { return a.plan == "" || a.plan == f.first().name })
}

func (a *approval) evidence() []*fact {
	if a.request == nil {
		return nil
	}
	return []*fact{a.request}
}

// unapproved finds executions without the approval that was asked for.
func (y *story) unapproved(approvals []*approval, add adder) {
	for _, f := range y.done(executions...) {
		t := f.first()
		var asked, before, after []*fact
		for _, a := range approvals {
			kubernaut := t.eventType == "workflowexecution.execution.started" && a.request != nil && strings.HasPrefix(a.request.first().eventType, "orchestrator")
			if a.plan != t.name && !kubernaut && (a.plan != "" || t.eventType != "RemediationExecuted") {
				continue
			}
			if a.request != nil {
				asked = append(asked, a.request)
			}
			for _, g := range a.granted {
				if g.at.After(f.at) {
					after = append(after, g)
				} else {
					before = append(before, g)
				}
			}
		}
		mode := strings.ToLower(strings.ReplaceAll(f.detail("decisionMode"), "_", "-"))
		needs := len(asked) > 0 || mode == "approval" || mode == "require-approval" || mode == "manual-approval"
		subject := t.cluster + "/" + t.namespace + "/" + t.name
		switch {
		case !needs || len(before) > 0:
		case len(after) > 0:
			add("decision-after-execution", subject, f, fmt.Sprintf("%s was executed %s before it was granted", t.name, after[0].at.Sub(f.at).Round(time.Second)), append(asked, after...)...)
		default:
			add("executed-without-approval", subject, f, t.name+" was executed, and no grant stands before it", asked...)
		}
	}
}

// contained finds containments that were reported as resolutions.
func (y *story) contained(add adder) {
	for _, r := range y.done("IssueResolved") {
		if r.detail("mode") == "human-after-containment" {
			continue
		}
		for _, c := range y.done("IssueContained") {
			if c.first().name == r.first().name && r.at.Sub(c.at).Abs() <= 5*time.Second {
				add("contained-as-resolved", r.first().cluster+"/"+r.first().namespace+"/"+r.first().name, r, r.first().name+" was contained, and is not resolved", c)
				break
			}
		}
	}
}

// seen are types of transitions that capture would see.
var seen = []string{"IssueResolved", "IssueEscalated", "IssueContained", "RemediationSucceeded", "RemediationFailed", "ApprovalGranted", "ApprovalRejected", "ApprovalExpired"}

// settled is how long after a transition capture must have seen the resource again, for
// not having seen the transition to mean something.
const settled = 10 * time.Minute

// unseen finds transitions that were told of, of resources that capture watched before
// and after, and that it never saw.
func (y *story) unseen(add adder) {
	for _, f := range y.done(seen...) {
		t := f.first()
		if t.uid == "" || t.fact == "" || f.any(func(t *telling) bool { return t.attribution != event.AttributionAsserted }) {
			continue
		}
		var before, after *fact
		for _, o := range y.facts {
			if !o.any(func(s *telling) bool { return s.uid == t.uid && s.attribution == event.AttributionObserved }) {
				continue
			}
			if o.at.Before(f.at) {
				before = o
			}
			if o.at.Sub(f.at) > settled && o.first().index > t.index {
				after = o
			}
		}
		held := slices.ContainsFunc(y.done("IssueContained"), func(c *fact) bool { return c.first().uid == t.uid && c.at.Sub(f.at).Abs() <= 5*time.Second })
		if before != nil && after != nil && !held {
			add("transition-never-happened", cmp.Or(t.fact, t.id), f, t.eventType+" of "+t.name+" was told of by "+t.actor+" alone", before, after)
		}
	}
}

// breaker holds the failures of a namespace around one of them against it, and returns
// what it shows together with two others, if anything.
func breaker(failures []*telling, newest *telling) *found {
	y := tell(append(failures, newest))
	var plans []*fact
	for _, f := range y.done("RemediationFailed") {
		if !slices.ContainsFunc(plans, func(o *fact) bool { return o.first().name == f.first().name }) {
			plans = append(plans, f) // plans, and not tellings
		}
	}
	slices.SortStableFunc(plans, func(a, b *fact) int { return a.at.Compare(b.at) })
	for i := 2; i < len(plans); i++ {
		three := plans[i-2 : i+1]
		among := slices.ContainsFunc(three, func(f *fact) bool { return slices.Contains(f.tellings, newest) })
		if among && three[2].at.Sub(three[0].at) <= time.Hour {
			return &found{rule: find("circuit-breaker"), subject: breakerSubject(newest, three[0].at), on: newest, at: three[2].at,
				says: fmt.Sprintf("three plans failed in %s within an hour", cmp.Or(newest.namespace, "the cluster")), evidence: indexes(three...)}
		}
	}
	return nil
}

// breakerSubject is what three failures are about, of which the first was at a time: one
// finding stands for all of an hour.
func breakerSubject(t *telling, at time.Time) string {
	return t.cluster + "/" + t.namespace + "/" + at.UTC().Format("2006-01-02T15")
}
