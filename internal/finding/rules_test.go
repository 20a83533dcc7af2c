package finding_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// A ledger is entries in memory.
type entries []trail.Record

func (l entries) Each(_ context.Context, f *search.Filter, r search.Range, fn func(search.Hit) error) error {
	for i := range l {
		e, err := l[i].Event()
		if err != nil {
			return err
		}
		if int64(i) < r.End && f.Match(e) {
			if err := fn(search.Hit{Record: l[i], Event: e}); err != nil {
				return err
			}
		}
	}
	return nil
}

// day is when the tests' events happen, and are recorded a second later.
var day = time.Date(2026, 3, 19, 14, 0, 0, 0, time.UTC)

// A step is an event in short: minute, type, who, kind/name, and what else there is.
type step struct {
	minute float64
	what   string // type
	who    string // type/name, with @ and the attribution
	on     string // kind/name
	more   string // details, and members: in= incident, fact=, uid=, ns=, late= minutes
}

func (s step) event(i int) *event.Event {
	who, attribution, _ := strings.Cut(s.who, "@@")
	kind, name, _ := strings.Cut(s.on, "/")
	actorType, actor, _ := strings.Cut(who, "/")
	e := &event.Event{ID: event.DeriveID("step", fmt.Sprint(i)), EventType: s.what, Timestamp: day.Add(time.Duration(s.minute * float64(time.Minute))),
		Actor: event.Actor{Type: actorType, Name: actor}, Resource: event.Resource{Kind: kind, Name: name, Namespace: "production"}, CorrelationID: "inc-1"}
	recorded := time.Second
	details := map[string]string{}
	for _, member := range strings.Split(s.more, "; ") {
		key, value, _ := strings.Cut(member, "=")
		switch key {
		case "":
		case "in":
			e.CorrelationID = value
		case "fact":
			e.Fact = value
		case "uid":
			e.Resource.UID = value
		case "ns":
			e.Resource.Namespace = value
		case "late":
			late, err := time.ParseDuration(value)
			if err != nil {
				panic(err)
			}
			recorded = late
		default:
			details[key] = value
		}
	}
	if err := e.SetDetails(details); err != nil {
		panic(err)
	}
	e.Complete(day)
	e.Recorded = event.Recorded{At: e.Timestamp.Add(recorded), Principal: "operator", Attribution: attribution}
	if attribution == "" {
		e.Recorded.Attribution = event.AttributionAsserted
	}
	return e
}

// inspect returns the rules of the findings that stand at the end of a trail, sorted.
func inspect(t *testing.T, steps []step, custom ...finding.Rule) []string {
	t.Helper()
	var l entries
	for i, s := range steps {
		e, salt := s.event(i), event.Salt{}
		l = append(l, trail.Record{Index: int64(i), Entry: e.AppendEntry(nil, e.Digests(salt)), Erasable: e.AppendErasable(nil)})
	}
	stand := look(t, l, 0, custom)
	// Who starts in the middle, knowing nothing of what came before, says the same of the rest.
	whole := tell(t, l, 0, custom)
	for from := range l {
		for _, line := range tell(t, l, from, custom) {
			if !slices.Contains(whole, line) {
				t.Errorf("from entry %d on, %s is told, and not from the front", from, line)
			}
		}
	}
	return stand
}

// tell returns what an inspector that begins at an entry has to record.
func tell(t *testing.T, l entries, from int, custom []finding.Rule) (lines []string) {
	t.Helper()
	x := finding.NewInspector(l, "test", custom)
	for i := from; i < len(l); i++ {
		events, err := x.Inspect(t.Context(), &l[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			lines = append(lines, fmt.Sprintf("%s %s %s", e.EventType, e.ID, e.Details))
		}
	}
	return lines
}

func look(t *testing.T, l entries, from int, custom []finding.Rule) []string {
	t.Helper()
	x := finding.NewInspector(l, "test", custom)
	stand := map[string]string{}
	for i := from; i < len(l); i++ {
		events, err := x.Inspect(t.Context(), &l[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.CorrelationID != "" {
				t.Errorf("%s is of the incident %s, whose story it would change", e.EventType, e.CorrelationID)
			}
			if e.EventType == "FindingWithdrawn" {
				delete(stand, e.Resource.Name)
				continue
			}
			_, rule, _ := strings.Cut(string(e.Details), `"rule":"`)
			rule, _, _ = strings.Cut(rule, `"`)
			stand[e.Resource.Name] = rule
		}
	}
	return slices.Sorted(maps.Values(stand))
}

const (
	plan    = "RemediationPlan/plan-1"
	request = "ApprovalRequest/approval-plan-1"
	issue   = "Issue/inc-1"
	uid     = "0b1e"
)

var (
	asked    = step{1, "ApprovalRequested", "controller/remediation-reconciler@@observed", request, "plan=plan-1"}
	granted  = step{2, "ApprovalGranted", "user/jane@@admission", request, "plan=plan-1"}
	executed = step{3, "RemediationExecuted", "controller/remediation-reconciler@@observed", plan, ""}
	failed   = func(minute float64, name, more string) step {
		return step{minute, "RemediationFailed", "controller/remediation-reconciler@@observed", "RemediationPlan/" + name, "in=" + name + "; " + more}
	}
)

// trails shows each rule a trail on which it fires, and others, much the same, on which
// it stays quiet.
var trails = map[string]struct {
	fires []step
	quiet [][]step
}{
	"executed-without-approval": {
		[]step{asked, executed},
		[][]step{{asked, granted, executed}, {executed}, {asked, granted},
			{asked, {1.5, "ApprovalGranted", "system/approval-reconciler", request, "plan=plan-1; auto=true"}, executed}},
	},
	"decision-after-execution": {
		[]step{asked, executed, {4, "ApprovalGranted", "user/jane@@admission", request, "plan=plan-1"}},
		[][]step{{asked, executed, granted}}, // told late, and dated before
	},
	"approver-unknown": {
		[]step{asked, {2, "ApprovalGranted", "user/unknown@@observed", request, "plan=plan-1"}},
		[][]step{{asked, granted}, {asked, {2, "ApprovalGranted", "system/approval-reconciler@@observed", request, "plan=plan-1; auto=true"}},
			{asked, {2, "ApprovalGranted", "user/unknown@@observed", request, "plan=plan-1; fact=f"}, {2, "ApprovalGranted", "user/jane@@admission", request, "plan=plan-1; fact=f"}}},
	},
	"approver-asserted": {
		[]step{asked, {2, "ApprovalGranted", "user/jane", request, "plan=plan-1"}},
		[][]step{{asked, granted}, {asked, {2, "ApprovalGranted", "user/jane", request, "plan=plan-1; fact=f"}, {2, "ApprovalGranted", "user/jane@@admission", request, "plan=plan-1; fact=f"}}},
	},
	"self-approval": {
		[]step{{0, "RemediationPlanned", "user/jane@@admission", plan, ""}, asked, granted},
		[][]step{{{0, "RemediationPlanned", "user/john@@admission", plan, ""}, asked, granted},
			{{1, "ApprovalRequested", "controller/remediation-reconciler@@observed", request, "plan=plan-1; requester=system:serviceaccount:chatcli:operator"}, granted}},
	},
	"quorum-by-one-person": {
		[]step{{1, "ApprovalRequested", "controller/remediation-reconciler@@observed", request, "plan=plan-1; requiredApprovers=2"}, granted, executed},
		[][]step{
			{{1, "ApprovalRequested", "controller/remediation-reconciler@@observed", request, "plan=plan-1; requiredApprovers=2"}, granted}, // the second is still to come
			{{1, "ApprovalRequested", "controller/remediation-reconciler@@observed", request, "plan=plan-1; requiredApprovers=2"}, granted, {2.5, "ApprovalGranted", "user/john@@admission", request, "plan=plan-1"}, executed},
			{{1, "ApprovalRequested", "controller/remediation-reconciler@@observed", request, "plan=plan-1; requiredApprovers=2"}, {2, "ApprovalGranted", "user/john@@admission", request, "plan=plan-1; approvers=jane, john"}, executed}},
	},
	"approval-changed-after-decision": {
		[]step{asked, granted, {5, "ApprovalRejected", "user/john@@admission", request, "plan=plan-1"}},
		[][]step{{asked, granted, {2, "ApprovalGranted", "user/jane@@admission", request, "plan=plan-1; fact=g"}}},
	},
	"decision-lost": {
		[]step{asked, {2, "ApprovalAttempted", "user/jane@@admission", request, "plan=plan-1; decision=approved"}, {30, "ApprovalExpired", "system/approval-reconciler@@observed", request, "plan=plan-1"}},
		[][]step{{asked, {2, "ApprovalAttempted", "user/jane@@admission", request, "plan=plan-1; decision=approved"}, granted}, {asked, {30, "ApprovalExpired", "system/approval-reconciler@@observed", request, "plan=plan-1"}}},
	},
	"circuit-breaker": {
		[]step{failed(0, "a", ""), failed(20, "b", ""), failed(59, "c", "")},
		[][]step{{failed(0, "a", ""), failed(20, "b", ""), failed(61, "c", "")}, {failed(0, "a", ""), failed(20, "a", ""), failed(30, "a", "")},
			{failed(0, "a", ""), failed(20, "b", "ns=dev"), failed(30, "c", "")}},
	},
	"contained-as-resolved": {
		[]step{{5, "IssueContained", "controller/issue-reconciler@@observed", issue, ""}, {5, "IssueResolved", "controller/issue-reconciler", issue, ""}},
		[][]step{{{5, "IssueContained", "controller/issue-reconciler@@observed", issue, ""}, {65, "IssueResolved", "controller/issue-reconciler", issue, ""}}, {{5, "IssueResolved", "controller/issue-reconciler", issue, ""}}},
	},
	"transition-never-happened": {
		[]step{{0, "IssueCreated", "controller/x@@observed", issue, "uid=" + uid}, {0, "ResourceSnapshot", "service/graven-operator@@observed", issue, "uid=" + uid}, {5, "IssueResolved", "controller/x", issue, "uid=" + uid + "; fact=" + uid + "/IssueResolved/"},
			{40, "ResourceSnapshot", "service/graven-operator@@observed", issue, "uid=" + uid}},
		[][]step{
			{{0, "ResourceSnapshot", "service/graven-operator@@observed", issue, "uid=" + uid}, {5, "IssueResolved", "controller/x", issue, "uid=" + uid + "; fact=" + uid + "/IssueResolved/"},
				{5, "IssueResolved", "controller/x@@observed", issue, "uid=" + uid + "; fact=" + uid + "/IssueResolved/"}, {40, "ResourceSnapshot", "service/graven-operator@@observed", issue, "uid=" + uid}},
			{{0, "ResourceSnapshot", "service/graven-operator@@observed", issue, "uid=" + uid}, {5, "IssueResolved", "controller/x", issue, "uid=" + uid + "; fact=" + uid + "/IssueResolved/"}}}, // nobody looked since
	},
	"unconfirmed-intent": {
		[]step{{1, "IntentUnconfirmed", "service/graven-operator@@observed", plan, "eventType=ApprovalGranted; reason=the state that was asked for was not seen"}},
		[][]step{{{1, "IntentConfirmed", "service/graven-operator@@observed", plan, "eventType=ApprovalGranted"}}, {{1, "IntentUnconfirmed", "service/graven-operator@@observed", plan, "reason=nothing was to change"}}},
	},
	"write-unexplained": {[]step{{1, "WriteUnexplained", "service/graven-operator@@observed", plan, "user=system:serviceaccount:chatcli:operator; verb=patch"}}, [][]step{{executed}}},
	"claim-unwitnessed": {[]step{{1, "ClaimUnwitnessed", "service/graven-operator@@observed", plan, "eventType=RemediationExecuted"}}, [][]step{{executed}}},
	"source-gap":        {[]step{{1, "CaptureGap", "service/graven-operator@@observed", "Resource/issues", "reason=restart"}}, [][]step{{{1, "CaptureStarted", "service/graven-operator@@observed", "Resource/issues", ""}}}},
	"capture-failed":    {[]step{{1, "CaptureFailed", "service/graven-operator@@observed", "CapturePolicy/p", "policy=p; field=details; reason=no such key"}}, [][]step{{executed}}},
	"forged-actor":      {[]step{{1, "IdentityForged", "user/mallory@@admission", request, "claimed=jane"}}, [][]step{{granted}}},
	"forged-record": {[]step{{1, "AuditEventCopied", "service/graven-operator@@observed", "AuditEvent/a", "faithful=false; creator=mallory"}},
		[][]step{{{1, "AuditEventCopied", "service/graven-operator@@observed", "AuditEvent/a", "faithful=true"}}}},
	"record-deleted-unsealed": {[]step{{1, "AuditEventDeletedUnsealed", "service/graven-operator@@observed", "AuditEvent/a", "creator=john"}}, [][]step{{executed}}},
	"late-event":              {[]step{{1, "RemediationExecuted", "controller/x@@observed", plan, "late=61m"}}, [][]step{{{1, "RemediationExecuted", "controller/x@@observed", plan, "late=59m"}}}},
	"severity-lowered": {[]step{{1, "ConfigChanged", "user/jane@@admission", issue, "fromSeverity=critical; toSeverity=low"}},
		[][]step{{{1, "ConfigChanged", "user/jane@@admission", issue, "changedKeys=spec.description"}}}},
	"guard-weakened": {[]step{{1, "GuardChanged", "user/mallory@@admission", "ValidatingWebhookConfiguration/graven", "operation=DELETE"}},
		[][]step{{{1, "GuardChanged", "user/admin@@admission", "ValidatingWebhookConfiguration/graven", "operation=CREATE"}},
			{{1, "AuditEventProtectionChanged", "service/graven-operator@@observed", "AuditEvent/x", "rung=stamped; was=none"}}}},
	"retention-weakened":  {[]step{{1, "LedgerConfigChanged", "system/graven", "Config/c", "changedKeys=retention.policies"}}, [][]step{{{1, "LedgerConfigChanged", "system/graven", "Config/c", "changedKeys=listen"}}}},
	"verification-failed": {[]step{{1, "AuditVerified", "system/graven", "Ledger/l", "valid=false; scope=ledger; findings=1"}}, [][]step{{{1, "AuditVerified", "system/graven", "Ledger/l", "valid=true; scope=ledger"}}}},
	"witness-refused":     {[]step{{1, "WitnessRefused", "system/graven", "Witness/w", "witness=w; reason=forked"}}, [][]step{{executed}}},
}

// timed are the rules that no entry shows; they are tested against a server's ledger.
var timed = []string{"verification-overdue"}

func TestEachRuleFiresOnTheTrailThatShowsItAndOnNoOther(t *testing.T) {
	for _, rule := range finding.Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			c, ok := trails[rule.Name]
			if !ok {
				if !slices.Contains(timed, rule.Name) {
					t.Fatal("no trail shows it")
				}
				return
			}
			if got := inspect(t, c.fires); !slices.Equal(got, []string{rule.Name}) {
				t.Errorf("found %v", got)
			}
			for i, quiet := range c.quiet {
				if got := inspect(t, quiet); len(got) > 0 {
					t.Errorf("trail %d, on which nothing is wrong: %v", i, got)
				}
			}
		})
	}
}

func TestAFindingIsWithdrawnOnceItIsExplained(t *testing.T) {
	trail := []step{asked, {2, "ApprovalGranted", "user/jane", request, "plan=plan-1; fact=f"}, executed}
	if got := inspect(t, trail); !slices.Equal(got, []string{"approver-asserted"}) {
		t.Fatalf("found %v", got)
	}
	explained := append(slices.Clone(trail), step{2, "ApprovalGranted", "user/jane@@admission", request, "plan=plan-1; fact=f"})
	if got := inspect(t, explained); len(got) > 0 {
		t.Errorf("with the authenticated telling there is still %v", got)
	}
}

func TestAnIntentAloneIsNoExecutionAndNoApproval(t *testing.T) {
	intent := func(s step) step {
		s.who, s.more = strings.Split(s.who, "@@")[0]+"@@admission", s.more+"; intent=admission"
		return s
	}
	if got := inspect(t, []step{asked, intent(executed)}); len(got) > 0 {
		t.Errorf("an execution that was only asked for: %v", got)
	}
	if got := inspect(t, []step{asked, intent(granted), executed}); !slices.Equal(got, []string{"executed-without-approval"}) {
		t.Errorf("an approval that was only asked for: %v", got)
	}
}

func TestUsersAddRulesInCEL(t *testing.T) {
	rules, err := finding.Compile([]finding.Rule{{Name: "night-work", Title: "Executed at night", When: `event.eventType == "RemediationExecuted" && event.timestamp.getHours() < 15`}})
	if err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, []step{executed, granted}, rules...); !slices.Contains(got, "night-work") {
		t.Errorf("found %v", got)
	}
	late := executed
	late.minute = 90
	if got := inspect(t, []step{late}, rules...); len(got) > 0 {
		t.Errorf("found %v", got)
	}
}

func TestARuleThatCannotBeReadIsRefusedByItsName(t *testing.T) {
	for want, rules := range map[string][]finding.Rule{
		`rule "Night": name:`:                   {{Name: "Night", Title: "t", When: "true"}},
		`rule "late-event": name: Graven has`:   {{Name: "late-event", Title: "t", When: "true"}},
		`rule "my-rule": name: it stands twice`: {{Name: "my-rule", Title: "t", When: "true"}, {Name: "my-rule", Title: "t", When: "true"}},
		`rule "my-rule": title and when`:        {{Name: "my-rule", When: "true"}},
		`rule "my-rule": severity: "bad"`:       {{Name: "my-rule", Title: "t", When: "true", Severity: "bad"}},
		`undefined field`:                       {{Name: "my-rule", Title: "t", When: "event.actr == 1"}},
	} {
		if _, err := finding.Compile(rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}
