package capturepolicy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
)

// request shows one to policies, and returns in which words it is refused, or the
// events.
func request(t *testing.T, programs []*capture.Program, kind capture.Resource, operation, user, old, asked string, now time.Time) (refused string, events []*event.Event) {
	t.Helper()
	in := &capture.Input{Operation: operation, Now: now, Request: map[string]any{"uid": "r1", "name": "it", "namespace": "production", "subResource": "", "dryRun": false,
		"resource": map[string]any{"group": kind.Group, "version": kind.Version, "resource": strings.Split(kind.Resource, "/")[0]},
		"userInfo": map[string]any{"username": user, "uid": "uid-of-" + user, "groups": []any{"sre"}, "extra": map[string]any{}}}}
	base := capture.Resource{Group: kind.Group, Version: kind.Version, Resource: strings.Split(kind.Resource, "/")[0]}
	if old != "" {
		in.Old = object(t, base, 0, old)
	}
	if asked != "" {
		in.Object = object(t, base, 0, asked)
	}
	for _, p := range programs {
		if p.Policy.At != capture.Admission || !p.Policy.Match.Matches(kind, operation, "production", "it") {
			continue
		}
		words, err := p.Refuses(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if words != "" {
			return words, nil
		}
		found, err := p.Events(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range found {
			e.Complete(now)
			if err := e.Validate(now); err != nil {
				t.Errorf("%s: %v", e.EventType, err)
			}
		}
		events = append(events, found...)
	}
	return "", events
}

const (
	rar    = "{spec: {remediationRequestRef: {name: rr-1}, aiAnalysisRef: {name: ai-1}, requiredBy: '2026-03-19T12:30:00Z'}, status: "
	wfe    = "{spec: {remediationRequestRef: {name: rr-1}}, status: "
	gc     = "system:serviceaccount:kube-system:generic-garbage-collector"
	ro     = "system:serviceaccount:kubernaut-system:remediationorchestrator"
	af     = "system:serviceaccount:kubernaut-system:apifrontend"
	failed = "phase: Failed, failureDetails: {reason: TaskFailed, message: exit 1}"
)

// TestWhatPeopleDoWithKubernautIsRecorded holds each row of operator attribution, and
// each way around it, against what is recorded, or why it is refused.
func TestWhatPeopleDoWithKubernautIsRecorded(t *testing.T) {
	programs := preset(t, "kubernaut")
	for _, test := range []struct {
		name, resource, operation, user, old, object string
		want                                         string // a refusal begins with "refused: "
		at                                           string // time of day
	}{
		{"an approval", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{}}", rar + "{decision: Approved, decidedBy: jane, decisionMessage: it is safe}}",
			"webhook.remediationapprovalrequest.decided user:jane decision_message=it is safe", ""},
		{"an approval without a rationale", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{}}", rar + "{decision: Rejected, decisionMessage: ' '}}",
			"refused: a decision has a rationale (status.decisionMessage)", ""},
		{"an approval in another's name", "remediationapprovalrequests/status", "UPDATE", "mallory", rar + "{}}", rar + "{decision: Approved, decidedBy: jane, decisionMessage: it is safe}}",
			"webhook.remediationapprovalrequest.decided user:mallory decision=Approved; IdentityForged user:mallory claimed=jane", ""},
		{"an approval for somebody, by who says so", "remediationapprovalrequests/status", "UPDATE", af, rar + "{}}", rar + "{decision: Approved, decidedBy: jane, decidedVia: '" + af + "', decisionMessage: it is safe}}",
			"webhook.remediationapprovalrequest.decided service:" + af + " delegated_user=jane", ""},
		{"a decision that is turned around", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{decision: Rejected, decidedBy: bob, decisionMessage: no}}", rar + "{decision: Approved, decidedBy: jane, decisionMessage: yes it is}}",
			"refused: the decision was made, and stays as it is: Rejected by bob", ""},
		{"a decision that is taken back, to be made anew", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{decision: Rejected, decidedBy: bob}}", rar + "{}}",
			"refused: the decision was made, and stays as it is: Rejected by bob", ""},
		{"who decided is rewritten", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{decision: Approved, decidedBy: bob, decisionMessage: m}}", rar + "{decision: Approved, decidedBy: jane, decisionMessage: m}}",
			"refused: the decision was made, and stays as it is: Approved by bob", ""},
		{"when it was decided is rewritten", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{decision: Approved, decidedBy: bob, decidedAt: '2026-03-19T12:00:00Z'}}", rar + "{decision: Approved, decidedBy: bob, decidedAt: '2020-03-19T12:00:00Z'}}",
			"refused: the decision was made, and stays as it is: Approved by bob", ""},
		{"by whom it was decided is added", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{decision: Approved, decidedBy: bob}}", rar + "{decision: Approved, decidedBy: bob, decidedVia: jane}}",
			"refused: the decision was made, and stays as it is: Approved by bob", ""},
		{"a person decides for another", "remediationapprovalrequests/status", "UPDATE", "mallory", rar + "{}}", rar + "{decision: Approved, decidedBy: jane, decidedVia: mallory, decisionMessage: it is safe}}",
			"webhook.remediationapprovalrequest.decided user:mallory delegated_user=<nil>; IdentityForged user:mallory claimed=jane", ""},
		{"a rationale that cannot be seen", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{}}", rar + "{decision: Approved, decisionMessage: \"\\u200b\\u00a0\\u2060\"}}",
			"refused: a decision has a rationale (status.decisionMessage)", ""},
		{"a rationale of one letter", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{}}", rar + "{decision: Approved, decisionMessage: 安}}",
			"webhook.remediationapprovalrequest.decided user:jane decision_message=安", ""},
		{"somebody says that it expired", "remediationapprovalrequests/status", "UPDATE", "jane", rar + "{}}", rar + "{decision: Expired, decidedBy: system}}",
			"refused: an approval expires by itself, once its time is over", "12:45"},
		{"it expires too early", "remediationapprovalrequests/status", "UPDATE", ro, rar + "{}}", rar + "{decision: Expired, decidedBy: system}}",
			"refused: an approval expires by itself, once its time is over", "12:05"},
		{"it expires", "remediationapprovalrequests/status", "UPDATE", ro, rar + "{}}", rar + "{decision: Expired, decidedBy: system}}",
			"webhook.remediationapprovalrequest.decided service:" + ro + " decision=Expired", "12:45"},
		{"what has nothing to do with the decision", "remediationapprovalrequests/status", "UPDATE", ro, rar + "{decision: Approved, decidedBy: jane}}", rar + "{decision: Approved, decidedBy: jane, timeRemaining: 5m}}", "", ""},
		{"a block is cleared", "workflowexecutions/status", "UPDATE", "jane", wfe + "{" + failed + "}}", wfe + "{" + failed + ", blockClearance: {clearReason: the cluster was verified}}}",
			"workflowexecution.block.cleared user:jane block_message=exit 1", ""},
		{"a block is cleared with nine characters", "workflowexecutions/status", "UPDATE", "jane", wfe + "{" + failed + "}}", wfe + "{" + failed + ", blockClearance: {clearReason: 'verified '}}}",
			"refused: a block is cleared with a reason of 10 characters at least (status.blockClearance.clearReason)", ""},
		{"a block is cleared with ten words of one letter", "workflowexecutions/status", "UPDATE", "jane", wfe + "{" + failed + "}}", wfe + "{" + failed + ", blockClearance: {clearReason: a a a a a a a a a a}}}",
			"refused: a block is cleared with a reason of 10 characters at least (status.blockClearance.clearReason)", ""},
		{"a block is cleared with characters that cannot be seen", "workflowexecutions/status", "UPDATE", "jane", wfe + "{" + failed + "}}", wfe + "{" + failed + ", blockClearance: {clearReason: \"abc\\u200b\\u200b\\u200b\\u200b\\u200b\\u200b\\u200b\"}}}",
			"refused: a block is cleared with a reason of 10 characters at least (status.blockClearance.clearReason)", ""},
		{"a block is cleared in two lines", "workflowexecutions/status", "UPDATE", "jane", wfe + "{" + failed + "}}", wfe + "{" + failed + ", blockClearance: {clearReason: \"the disk\\nis new\"}}}",
			"workflowexecution.block.cleared user:jane block_message=exit 1", ""},
		{"who cleared it is rewritten", "workflowexecutions/status", "UPDATE", "jane", wfe + "{blockClearance: {clearReason: the cluster was verified, clearedBy: bob}}}", wfe + "{blockClearance: {clearReason: the cluster was verified, clearedBy: jane}}}",
			"refused: the block was cleared before, and who cleared it stays", ""},
		{"a clearance is taken back, to be given anew", "workflowexecutions/status", "UPDATE", "jane", wfe + "{blockClearance: {clearReason: the cluster was verified, clearedBy: bob}}}", wfe + "{}}",
			"refused: the block was cleared before, and who cleared it stays", ""},
		{"a timeout is changed", "remediationrequests/status", "UPDATE", "jane", "{status: {timeoutConfig: {global: 1h}}}", "{status: {timeoutConfig: {global: 2h}}}", "webhook.remediationrequest.timeout_modified user:jane rr_name=it", ""},
		{"a timeout is filled in", "remediationrequests/status", "UPDATE", ro, "{status: {}}", "{status: {timeoutConfig: {global: 1h}}}", "", ""},
		{"a timeout is set by another", "remediationrequests/status", "UPDATE", "mallory", "{status: {}}", "{status: {timeoutConfig: {global: 99h}}}", "webhook.remediationrequest.timeout_modified user:mallory modified_by=mallory", ""},
		{"a timeout is taken away", "remediationrequests/status", "UPDATE", "mallory", "{status: {timeoutConfig: {global: 1h}}}", "{status: {}}", "webhook.remediationrequest.timeout_modified user:mallory rr_name=it", ""},
		{"a notification is cancelled", "notificationrequests", "DELETE", "jane", "{spec: {type: Escalation, priority: high, remediationRequestRef: {name: rr-1}}}", "", "webhook.notification.cancelled user:jane priority=high", ""},
		{"a notification goes with its request", "notificationrequests", "DELETE", gc, "{spec: {type: Escalation}}", "", "webhook.notification.cancelled system:" + gc + " type=Escalation", ""},
		{"a workflow is registered", "remediationworkflows", "CREATE", "jane", "", "{spec: {version: 1.0.0, actionType: ScaleReplicas}}", "remediationworkflow.admitted.create user:jane version=1.0.0", ""},
		{"a workflow is changed", "remediationworkflows", "UPDATE", "jane", "{spec: {version: 1.0.0}}", "{metadata: {generation: 2}, spec: {version: 1.1.0}}", "remediationworkflow.admitted.update user:jane version=1.1.0", ""},
		{"a workflow is labelled", "remediationworkflows", "UPDATE", "jane", "{spec: {version: 1.0.0}}", "{metadata: {labels: {a: b}}, spec: {version: 1.0.0}}", "", ""},
		{"a workflow is deleted", "remediationworkflows", "DELETE", "jane", "{spec: {version: 1.0.0}}", "", "remediationworkflow.admitted.delete user:jane workflow_name=it", ""},
		{"an action type is made", "actiontypes", "CREATE", "jane", "", "{spec: {name: ScaleReplicas}}", "actiontype.admitted.create user:jane action_type_name=ScaleReplicas", ""},
		{"an action type is changed", "actiontypes", "UPDATE", "jane", "{spec: {name: S, description: a}}", "{spec: {name: S, description: b}}", "actiontype.admitted.update user:jane action=update", ""},
		{"an action type is deleted", "actiontypes", "DELETE", "jane", "{spec: {name: S}}", "", "actiontype.admitted.delete user:jane crd_name=it", ""},
		{"a session begins", "agentsessions", "CREATE", af, "", "{spec: {remediationRequestRef: {name: rr-1}}}", "agentsession.admitted.create service:" + af + " remediation_request_ref=rr-1", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := noon
			if test.at != "" {
				var err error
				if now, err = time.Parse("2006-01-02 15:04", "2026-03-19 "+test.at); err != nil {
					t.Fatal(err)
				}
			}
			refused, events := request(t, programs, capture.Resource{Group: "kubernaut.ai", Version: "v1alpha1", Resource: test.resource}, test.operation, test.user, test.old, test.object, now)
			want := strings.Split(test.want, "; ")
			if test.want == "" {
				want = nil
			}
			var got []string
			for i, e := range events {
				head := fmt.Sprintf("%s %s:%s", e.EventType, e.Actor.Type, e.Actor.Name)
				if i < len(want) {
					_, detail, _ := strings.Cut(want[i], head+" ")
					key, _, _ := strings.Cut(detail, "=")
					var d map[string]any
					if err := json.Unmarshal(e.Details, &d); err != nil {
						t.Fatal(err)
					}
					head += fmt.Sprintf(" %s=%v", key, d[key])
				}
				got = append(got, head)
			}
			if refused != "" {
				got = []string{"refused: " + refused}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestKubernautsPhasesAreRecorded, each with the one before.
func TestKubernautsPhasesAreRecorded(t *testing.T) {
	programs := preset(t, "kubernaut")
	for _, test := range []struct {
		name, resource string
		states         []string
		want           string
	}{
		{"a request", "remediationrequests", []string{"{}", "{status: {overallPhase: Pending}}", "{status: {overallPhase: Blocked, blockReason: ResourceBusy}}", "{status: {overallPhase: Failed, failureReason: f}}"},
			"orchestrator.lifecycle.created ; orchestrator.lifecycle.transitioned >Pending; orchestrator.lifecycle.transitioned Pending>Blocked; orchestrator.routing.blocked ResourceBusy; " +
				"orchestrator.lifecycle.transitioned Blocked>Failed; orchestrator.lifecycle.failed "},
		{"a signal", "signalprocessings", []string{"{}", "{status: {phase: Enriching}}", "{status: {phase: Completed}}"}, "signalprocessing.phase.transition >Enriching; signalprocessing.phase.transition Enriching>Completed"},
		{"an analysis", "aianalyses", []string{"{status: {phase: Pending}}", "{status: {phase: Investigating}}"}, "aianalysis.phase.transition >Pending; aianalysis.phase.transition Pending>Investigating"},
		{"an execution", "workflowexecutions", []string{"{status: {phase: Pending}}", "{status: {phase: Running}}", "{status: {phase: Failed}}"},
			"workflowexecution.selection.completed >Pending; workflowexecution.execution.started Pending>Running; workflowexecution.workflow.failed Running>Failed"},
		{"a notification", "notificationrequests", []string{"{status: {phase: Sending}}", "{status: {phase: Sent}}"}, "notification.phase.transition >Sending; notification.message.acknowledged Sending>Sent"},
		{"an assessment", "effectivenessassessments", []string{"{status: {phase: Pending}}", "{status: {phase: Completed}}"}, "effectiveness.assessment.scheduled >Pending; effectiveness.assessment.completed Pending>Completed"},
		{"an approval", "remediationapprovalrequests", []string{"{}", "{status: {decision: Rejected, decidedBy: jane}}", "{status: {decision: Approved}}"}, "orchestrator.approval.requested ; orchestrator.approval.rejected ; orchestrator.approval.approved "},
		{"the catalogue", "remediationworkflows", []string{"{spec: {version: '1'}}", "{spec: {version: '1'}, status: {catalogStatus: Active}}", "{spec: {version: '1'}, status: {catalogStatus: Disabled}}", "{spec: {version: '1'}, status: {catalogStatus: Active}}", "{spec: {version: '2'}, status: {catalogStatus: Active}}", "gone"},
			"remediationworkflow.admitted.create create; remediationworkflow.admitted.update register; remediationworkflow.admitted.update disable; remediationworkflow.admitted.update re-enable; remediationworkflow.admitted.update update; remediationworkflow.admitted.delete delete"},
		{"action types", "actiontypes", []string{"{spec: {name: a}}", "gone"}, "actiontype.admitted.create create; actiontype.admitted.delete delete"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, e := range play(t, programs, capture.Resource{Group: "kubernaut.ai", Version: "v1alpha1", Resource: test.resource}, counter{}, test.states...) {
				var d map[string]any
				if err := json.Unmarshal(e.Details, &d); err != nil {
					t.Fatal(err)
				}
				word := ""
				switch {
				case d["to_phase"] != nil:
					word = fmt.Sprintf("%v>%v", d["from_phase"], d["to_phase"])
				case d["block_reason"] != nil:
					word = d["block_reason"].(string)
				case d["action"] != nil:
					word = d["action"].(string)
				}
				got = append(got, e.EventType+" "+word)
			}
			if all := strings.Join(got, "; "); all != test.want {
				t.Errorf("got  %s\nwant %s", all, test.want)
			}
		})
	}
}

// TestWhatIsDoneToKubernetesIsRecorded, from who asks for it.
func TestWhatIsDoneToKubernetesIsRecorded(t *testing.T) {
	own, err := own()
	if err != nil {
		t.Fatal(err)
	}
	programs := append(preset(t, "kubernetes"), own...)
	core, rbac := func(r string) capture.Resource { return capture.Resource{Version: "v1", Resource: r} }, "rbac.authorization.k8s.io"
	for _, test := range []struct {
		name      string
		kind      capture.Resource
		operation string
		old, now  string
		want      string
	}{
		{"a command", core("pods/exec"), "CONNECT", "", "{container: web, command: [cat, /etc/passwd]}", "PodCommand command=cat /etc/passwd"},
		{"an eviction", core("pods/eviction"), "CREATE", "", "{}", "PodEvicted intent=admission"},
		{"a cordon", core("nodes"), "UPDATE", "{spec: {}}", "{spec: {unschedulable: true}}", "NodeCordoned intent=admission"},
		{"a heartbeat of a node", core("nodes"), "UPDATE", "{spec: {}}", "{spec: {}, status: {a: b}}", ""},
		{"a Secret", core("secrets"), "UPDATE", "{type: Opaque, data: {a: 'hmac:1', b: 'hmac:2', c: 'hmac:3'}}", "{type: Opaque, data: {a: 'hmac:1', b: 'hmac:9', d: 'hmac:4'}}", "SecretChanged changedKeys=b,c,d"},
		{"a binding", capture.Resource{Group: rbac, Version: "v1", Resource: "clusterrolebindings"}, "CREATE", "", "{roleRef: {name: cluster-admin}, subjects: [{kind: User, name: jane}]}", "AccessChanged subjects=User jane"},
		{"a role that goes", capture.Resource{Group: rbac, Version: "v1", Resource: "roles"}, "DELETE", "{rules: []}", "", "AccessChanged operation=delete"},
		{"a definition that goes", capture.Resource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}, "DELETE", "{}", "", "DefinitionChanged operation=delete"},
		{"a capture policy that goes", capture.Resource{Group: "graven.dev", Version: "v1alpha1", Resource: "capturepolicies"}, "DELETE", "{}", "", "GuardChanged operation=delete"},
		{"Graven's namespace", core("namespaces"), "DELETE", "{metadata: {name: graven-system}}", "", "GuardChanged operation=delete"},
		{"another namespace", core("namespaces"), "DELETE", "{metadata: {name: dev}}", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, events := request(t, programs, test.kind, test.operation, "jane", test.old, test.now, noon)
			if test.want == "" || len(events) != 1 {
				if len(events) > 0 || test.want != "" {
					t.Fatalf("%d events", len(events))
				}
				return
			}
			e := events[0]
			_, detail, _ := strings.Cut(test.want, " ")
			key, _, _ := strings.Cut(detail, "=")
			var d map[string]any
			if err := json.Unmarshal(e.Details, &d); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%s %s=%v", e.EventType, key, d[key]); got != test.want || e.Actor.Name != "jane" || e.Resource.Kind == "" || e.Resource.Name == "" {
				t.Errorf("%s, %+v, %+v; want %s", got, e.Actor, e.Resource, test.want)
			}
		})
	}
}

func TestACapturePolicyThatIsWrongIsRefused(t *testing.T) {
	policy := func(when string) []byte {
		return []byte(`{"metadata":{"name":"p"},"spec":{"at":"watch","match":{"resources":[{"version":"v1","resource":"pods"}]},"when":"` + when + `","record":[{"event":{"eventType":"'A'","fact":"'b'"}}]}}`)
	}
	for _, test := range []struct{ name, old, now, wrong string }{
		{"one that is good", "", "true", ""},
		{"one that is not", "", "nothing", "spec.when: 1:1: undeclared reference to 'nothing'"},
		{"one that was good", "true", "nothing", "spec.when: "},
		{"one that was taken before, and goes", "nothing", "nothing", ""},
		{"one that is mended", "nothing", "true", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var old []byte
			if test.old != "" {
				old = policy(test.old)
			}
			err := checks(policy(test.now), old)
			if test.wrong == "" && err != nil || test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("%v, want %q", err, test.wrong)
			}
		})
	}
}
