package capturepolicy

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	platform "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/brief"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/recorder"
	"github.com/graven-audit/graven/report"
)

// A notebook takes what a recorder tells.
type notebook struct{ events []*event.Event }

func (n *notebook) Record(_ context.Context, e *event.Event) error {
	n.events = append(n.events, e)
	return nil
}

// TestOneFactIsOneHoweverItIsTold has an incident told by ChatCLI's own AuditEvents, by
// a recorder and by the watch. That what is asked at admission is the fact that is seen
// then is shown on a real API server.
func TestOneFactIsOneHoweverItIsTold(t *testing.T) {
	at := func(minute int) *metav1.Time {
		return &metav1.Time{Time: time.Date(2026, 3, 19, 14, minute, 0, 0, time.UTC)}
	}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: "production", UID: "u1", CreationTimestamp: *at(0)}
	}
	of := platform.IssueRef{Name: "inc"}
	issue := func(state string) *platform.Issue {
		i := &platform.Issue{ObjectMeta: meta("inc"), Spec: platform.IssueSpec{Severity: "high", CorrelationId: "inc"}, Status: platform.IssueStatus{State: state, DetectedAt: at(0), RemediationAttempts: 2}}
		if state == "Resolved" {
			i.Status.ResolvedAt = at(9)
		}
		return i
	}
	plan := func(state string) *platform.RemediationPlan {
		p := &platform.RemediationPlan{ObjectMeta: meta("plan"), Spec: platform.RemediationPlanSpec{IssueRef: of, Attempt: 1, Actions: []platform.RemediationAction{{Type: "ScaleDeployment"}}},
			Status: platform.RemediationPlanStatus{State: state}}
		if state != "Pending" {
			p.Status.StartedAt = at(5)
		}
		if state == "Completed" || state == "Failed" {
			p.Status.CompletedAt = at(6)
		}
		return p
	}
	approval := func(state string) *platform.ApprovalRequest {
		a := &platform.ApprovalRequest{ObjectMeta: meta("approval"), Spec: platform.ApprovalRequestSpec{IssueRef: of, RemediationPlanRef: "plan", Requester: "chatcli-operator"},
			Status: platform.ApprovalRequestStatus{State: state}}
		if state == "Approved" {
			a.Status.ApprovedAt = at(4)
			a.Status.Decisions = []platform.ApprovalDecision{{Approver: "jane", Decision: "approved", Timestamp: *at(4)}}
		}
		return a
	}
	insight := &platform.AIInsight{ObjectMeta: meta("insight"), Spec: platform.AIInsightSpec{IssueRef: of, Provider: "p", Model: "m"}}
	thought := insight.DeepCopy()
	thought.Status = platform.AIInsightStatus{Analysis: "a", Confidence: 0.9, GeneratedAt: at(3)}
	anomaly := &platform.Anomaly{ObjectMeta: meta("anomaly"), Spec: platform.AnomalySpec{Source: "watcher", SignalType: "oom"}}

	type teller = func(*recorder.AuditRecorder) error
	names := map[string]string{"Issue": "inc", "RemediationPlan": "plan", "ApprovalRequest": "approval"}
	own := func(kind, details string) string {
		return fmt.Sprintf(`{apiVersion: platform.chatcli.io/v1alpha1, kind: AuditEvent, metadata: {name: a, namespace: production}, spec: {eventType: %%s, timestamp: "2026-03-19T14:09:00Z",
			actor: {type: controller, name: R, controller: c}, resource: {kind: %s, name: %s, namespace: production, uid: u1}, correlationId: inc, severity: info, details: %s}}`, kind, names[kind], details)
	}
	programs := preset(t, "chatcli")
	var seen, all []*event.Event // by the watch, and by everybody
	for _, test := range []struct {
		eventType    string
		resource     string
		was, is      runtime.Object
		recorder     teller
		own, ownType string
	}{
		{"AnomalyDetected", "anomalies", nil, anomaly, func(ar *recorder.AuditRecorder) error { return ar.RecordAnomalyDetected(anomaly) }, "", ""},
		{"IssueCreated", "issues", nil, issue("Detected"), func(ar *recorder.AuditRecorder) error { return ar.RecordIssueCreated(issue("Detected")) }, own("Issue", "{severity: high}"), "issue_created"},
		{"IssueContained", "issues", issue("Remediating"), issue("Contained"), nil, own("Issue", "{attempts: '2'}"), "issue_contained"},
		{"IssueEscalated", "issues", issue("Remediating"), issue("Escalated"), nil, own("Issue", "{attempts: '2'}"), "issue_escalated"},
		{"IssueResolved", "issues", issue("Remediating"), issue("Resolved"), func(ar *recorder.AuditRecorder) error { return ar.RecordIssueResolved(issue("Resolved"), "done") }, own("Issue", "{attempts: '2'}"), "issue_resolved"},
		{"AIInsightCompleted", "aiinsights", insight, thought, func(ar *recorder.AuditRecorder) error { return ar.RecordAIInsightCompleted(thought) }, "", ""},
		{"RemediationExecuted", "remediationplans", plan("Pending"), plan("Executing"), nil, own("RemediationPlan", "{attempt: '1'}"), "remediation_started"},
		{"RemediationSucceeded", "remediationplans", plan("Verifying"), plan("Completed"), func(ar *recorder.AuditRecorder) error { return ar.RecordRemediationResult(plan("Completed"), true) }, own("RemediationPlan", "{result: ok}"), "remediation_completed"},
		{"RemediationFailed", "remediationplans", plan("Executing"), plan("Failed"), func(ar *recorder.AuditRecorder) error { return ar.RecordRemediationResult(plan("Failed"), false) }, own("RemediationPlan", "{result: bad}"), "remediation_failed"},
		{"ApprovalRequested", "approvalrequests", nil, approval("Pending"), nil, own("ApprovalRequest", "{plan: plan}"), "approval_requested"},
		{"ApprovalGranted", "approvalrequests", approval("Pending"), approval("Approved"), func(ar *recorder.AuditRecorder) error {
			return ar.RecordApprovalDecision(approval("Approved"), "approved")
		}, own("ApprovalRequest", "{decision: approved}"), "approval_approved"},
	} {
		t.Run(test.eventType, func(t *testing.T) {
			facts := map[string][]string{}
			tell := func(by string, events []*event.Event) {
				t.Helper()
				found := ""
				for _, e := range events {
					e.Complete(at(9).Time)
					e.Recorded = event.Recorded{At: at(9).Time, Principal: by, Attribution: event.AttributionAsserted}
					if by == "watch" {
						e.Recorded.Attribution = event.AttributionObserved
						seen = append(seen, e)
					}
					all = append(all, e)
					if e.EventType == test.eventType || event.CanonicalType(e.EventType) == test.eventType {
						found = e.Fact
						facts[e.Fact] = append(facts[e.Fact], by)
					}
				}
				if found == "" {
					t.Errorf("%s tells no such fact", by)
				}
			}
			tell("watch", transition(t, programs, test.resource, test.was, test.is))
			if test.recorder != nil {
				n := &notebook{}
				r, err := recorder.New(recorder.Config{Sender: n, Now: func() time.Time { return at(9).Time }})
				if err != nil {
					t.Fatal(err)
				}
				if err := test.recorder(recorder.NewAuditRecorder(r)); err != nil {
					t.Fatal(err)
				}
				tell("recorder", n.events)
			}
			if test.own != "" {
				text, err := yaml.YAMLToJSON([]byte(fmt.Sprintf(test.own, test.ownType)))
				if err != nil {
					t.Fatal(err)
				}
				events, err := intake.AuditEvent(text)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events { // it tells at once what it does
					e.Timestamp = seen[len(seen)-1].Timestamp
				}
				tell("ChatCLI", events)
			}
			if len(facts) != 1 {
				t.Errorf("%d facts: %v", len(facts), facts)
			}
		})
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if one, many := reported(t, seen), reported(t, all); len(all) < 2*len(seen) || one != many {
		t.Errorf("of %d events by the watch the report is\n%s\nof %d by everybody\n%s", len(seen), one, len(all), many)
	}
}

// reported is the compliance report of some events, but for how often things were told.
func reported(t *testing.T, events []*event.Event) string {
	t.Helper()
	q := report.Question{From: time.Date(2026, 3, 19, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC)}
	tally := report.NewTally(q, false)
	for _, e := range events {
		var b brief.Event
		err := b.Read(e.AppendEntry(nil, e.Digests(event.Salt{})))
		if err == nil {
			err = tally.Add(&b, e.AppendErasable(nil))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := tally.Report(report.Ledger{}, q.From, false)
	if err != nil {
		t.Fatal(err)
	}
	r.AuditSummary.Tellings, r.Notes = 0, nil // which tell of tellings
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// transition returns what policies record of an object that becomes another; was is nil
// for one that is new.
func transition(t *testing.T, programs []*capture.Program, resource string, was, is runtime.Object) []*event.Event {
	t.Helper()
	kind := capture.Resource{Group: platform.GroupVersion.Group, Version: platform.GroupVersion.Version, Resource: resource}
	in := &capture.Input{Operation: "CREATE", Now: noon, Counter: counter{}, Object: untyped(t, is)}
	if was != nil && !reflect.ValueOf(was).IsNil() {
		in.Operation, in.Old = "UPDATE", untyped(t, was)
	}
	var events []*event.Event
	for _, p := range programs {
		if p.Policy.At != capture.Watch || !p.Policy.Match.Matches(kind, in.Operation, "production", nameOf(in)) {
			continue
		}
		found, err := p.Events(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, found...)
	}
	return events
}

// untyped returns an object as the API server has it.
func untyped(t *testing.T, object runtime.Object) map[string]any {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	o := map[string]any{}
	if err := utiljson.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	o["apiVersion"], o["kind"] = platform.GroupVersion.String(), strings.TrimPrefix(reflect.TypeOf(object).Elem().Name(), "*")
	return o
}
