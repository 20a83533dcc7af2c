package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/testenv"
)

// captured defines the resources of ChatCLI, and CapturePolicies.
func (b *bed) captured(kinds ...string) {
	b.t.Helper()
	names := []string{"crd/graven.dev_capturepolicies.yaml"}
	for _, kind := range kinds {
		names = append(names, "crd/platform.chatcli.io_"+kind+".yaml")
	}
	b.apply(config.CRDs, names...)
	b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
}

// ready waits until a CapturePolicy is applied.
func (b *bed) ready(policy string) {
	b.t.Helper()
	b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Ready", "capturepolicy/"+policy, "--timeout=60s")
}

// told waits until the ledger has so many events that a query asks for, and returns
// them, the oldest first.
func (b *bed) told(n int, query url.Values) []*event.Event {
	b.t.Helper()
	var events []*event.Event
	testenv.Eventually(b.t, fmt.Sprintf("%d events of %v", n, query), func() bool {
		events = b.server.events(query)
		return len(events) >= n
	})
	if len(events) > n {
		b.t.Errorf("%d events of %v, want %d", len(events), query, n)
	}
	slices.Reverse(events)
	return events
}

// unasked waits until a gap is told that ended after a moment, in which the API server was
// kept from asking, and returns its details.
func (b *bed) unasked(after time.Time, reason string) (found map[string]string) {
	b.t.Helper()
	testenv.Eventually(b.t, "a gap because "+reason, func() bool {
		for _, e := range b.server.events(url.Values{"type": {"CaptureGap"}}) {
			if d := details(b.t, e); d["resources"] == "admission" && strings.Contains(d["reason"], reason) && d["until"] > event.FormatTime(after.UTC()) {
				found = d
			}
		}
		return found != nil
	})
	return found
}

// gaps waits until so many gaps are told of some resources, and returns their reasons,
// the oldest first.
func (b *bed) gaps(n int, resources string) []string {
	b.t.Helper()
	var reasons []string
	testenv.Eventually(b.t, fmt.Sprintf("%d gaps of %s", n, resources), func() bool {
		reasons = nil
		for _, e := range b.server.events(url.Values{"type": {"CaptureGap"}}) {
			if d := details(b.t, e); d["resources"] == resources {
				reasons = append(reasons, d["reason"])
			}
		}
		return len(reasons) == n
	})
	slices.Reverse(reasons)
	return reasons
}

const issuesPolicy = `
apiVersion: graven.dev/v1alpha1
kind: CapturePolicy
metadata: {name: issues}
spec:
  at: watch
  match: {resources: [{group: platform.chatcli.io, version: v1alpha1, resource: issues}]}
  variables:
  - {name: was, expression: "oldObject == null ? '' : oldObject.?status.state.orValue('')"}
  - {name: is, expression: "object.?status.state.orValue('')"}
  record:
  - name: state
    when: is != '' && is != was
    event:
      eventType: "'issue.state'"
      fact: object.metadata.uid + '/state/' + is + '/' + object.metadata.resourceVersion
      correlationID: object.metadata.name
      details: "{'to': is, 'from': was}"
  - name: created
    when: oldObject == null
    event: {eventType: "'issue.created'", fact: "object.metadata.uid + '/created'", correlationID: object.metadata.name}
  - name: deleted
    when: operation == 'DELETE'
    event: {eventType: "'issue.deleted'", fact: "oldObject.metadata.uid + '/deleted'", correlationID: oldObject.metadata.name}
`

func (b *bed) issue(name string) {
	b.t.Helper()
	b.k.Apply(testenv.KubeAdmin, fmt.Sprintf(`
apiVersion: platform.chatcli.io/v1alpha1
kind: Issue
metadata: {name: %s, namespace: production}
spec: {severity: high, source: prometheus, signalType: oom_kill, description: d, resource: {kind: Deployment, name: web, namespace: production}}
`, name))
}

// state sets the state of an Issue, as its controller does.
func (b *bed) state(issue, state string) {
	b.t.Helper()
	b.k.Kubectl(testenv.KubeAdmin, "patch", "issue", issue, "-n", "production", "--subresource=status", "--type=merge", "-p", `{"status":{"state":"`+state+`"}}`)
}

func states(t *testing.T, events []*event.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, details(t, e)["from"]+">"+details(t, e)["to"])
	}
	return strings.Join(all, " ")
}

func TestWhatNobodyRecordsIsCaptured(t *testing.T) {
	t.Parallel()
	b := newBed(t, false)
	b.captured("issues")
	b.issue("issue-0")
	b.state("issue-0", "Detected")
	b.k.Apply(testenv.KubeAdmin, issuesPolicy)
	b.run()
	b.ready("issues")
	of := func(issue, eventType string) url.Values {
		return url.Values{"correlation_id": {issue}, "type": {eventType}}
	}
	b.sub("what is there already", func(t *testing.T) {
		b.told(1, of("issue-0", "issue.created"))
		if got := states(t, b.told(1, of("issue-0", "issue.state"))); got != ">Detected" {
			t.Error(got)
		}
	})
	b.sub("a state that lasts", func(t *testing.T) {
		b.k.Apply(testenv.KubeAdmin, `
apiVersion: graven.dev/v1alpha1
kind: CapturePolicy
metadata: {name: stuck}
spec:
  at: watch
  match: {resources: [{group: platform.chatcli.io, version: v1alpha1, resource: issues}]}
  when: object.status.state == 'Analyzing'
  record:
  - lasts: 4s
    event: {eventType: "'issue.stuck'", fact: "object.metadata.uid + '/stuck/' + string(int(now))", correlationID: object.metadata.name}
`)
		b.ready("stuck")
		for _, name := range []string{"slow", "fast", "unseen"} {
			b.issue(name)
			b.state(name, "Analyzing")
		}
		b.state("fast", "Resolved")
		e := b.told(1, of("slow", "issue.stuck"))[0]
		if lasted := e.Timestamp.Sub(b.told(1, of("slow", "issue.state"))[0].Timestamp); lasted != 4*time.Second {
			t.Error(lasted)
		}
		b.told(1, of("unseen", "issue.stuck"))
		b.state("unseen", "Detected")
		b.state("unseen", "Analyzing")
		b.told(3, of("unseen", "issue.state"))
		b.kill()
		time.Sleep(6 * time.Second)
		b.state("unseen", "Resolved")
		b.run()
		b.told(4, of("unseen", "issue.state"))
		b.told(2, of("unseen", "issue.stuck")) // it had lasted, though nobody looked
		time.Sleep(3 * time.Second)
		b.told(1, of("slow", "issue.stuck"))
		b.told(0, of("fast", "issue.stuck"))
		b.k.Kubectl(testenv.KubeAdmin, "delete", "capturepolicy", "stuck")
	})
	b.sub("each state, however soon the next one follows", func(t *testing.T) {
		b.issue("issue-1")
		for _, state := range []string{"Detected", "Analyzing", "Remediating", "Contained", "Resolved"} {
			b.state("issue-1", state)
		}
		events := b.told(5, of("issue-1", "issue.state"))
		if got := states(t, events); got != ">Detected Detected>Analyzing Analyzing>Remediating Remediating>Contained Contained>Resolved" {
			t.Error(got)
		}
		for _, e := range events {
			if e.Recorded.Attribution != event.AttributionObserved || e.Resource.Kind != "Issue" || e.Resource.Namespace != "production" || e.Source.Seq == 0 {
				t.Errorf("%+v", e)
			}
		}
	})
	b.sub("and what happens while no operator runs", func(t *testing.T) {
		b.issue("issue-2")
		b.told(1, of("issue-2", "issue.created"))
		b.kill()
		for _, state := range []string{"Detected", "Analyzing", "Detected", "Escalated"} {
			b.state("issue-2", state)
		}
		b.issue("issue-3")
		b.state("issue-3", "Failed")
		b.k.Kubectl(testenv.KubeAdmin, "delete", "issue", "issue-3", "-n", "production")
		b.run()
		if got := states(t, b.told(4, of("issue-2", "issue.state"))); got != ">Detected Detected>Analyzing Analyzing>Detected Detected>Escalated" {
			t.Error(got)
		}
		b.told(1, of("issue-3", "issue.deleted"))
		if got := states(t, b.told(1, of("issue-3", "issue.state"))); got != ">Failed" {
			t.Error(got)
		}
	})
	b.sub("of which the last states stay", func(t *testing.T) {
		snapshots := b.told(2, of("issue-3", "ResourceSnapshot")) // as it was created, and as it failed
		var object struct {
			Spec   struct{ Description string }
			Status struct{ State string }
		}
		if err := json.Unmarshal([]byte(details(t, snapshots[1])["object"]), &object); err != nil || object.Status.State != "Failed" || object.Spec.Description != "d" {
			t.Errorf("%+v, %v: %s", object, err, snapshots[1].Details)
		}
	})
	b.sub("an operator that has lost its disk", func(t *testing.T) {
		b.kill()
		b.state("issue-1", "Escalated")
		if err := os.RemoveAll(filepath.Join(b.dir, "capture")); err != nil {
			t.Fatal(err)
		}
		b.run()
		got := b.told(6, of("issue-1", "issue.state"))
		if d := details(t, got[5]); d["from"] != "Resolved" || d["derived"] != "true" {
			t.Errorf("%s", got[5].Details)
		}
		if reasons := b.gaps(1, "issues.platform.chatcli.io"); reasons[0] == "" {
			t.Error(reasons)
		}
		b.told(1, of("issue-0", "issue.created"))
		if n := len(b.server.events(url.Values{"type": {"IdempotencyConflict"}})); n > 0 {
			t.Errorf("%d conflicts", n)
		}
	})
	b.sub("an API server that does not know what happened since", func(t *testing.T) {
		b.kill()
		b.state("issue-1", "Failed")
		position := filepath.Join(b.dir, "capture", "seen", "issues.v1alpha1.platform.chatcli.io", "position.json")
		text, err := os.ReadFile(position)
		if err != nil {
			t.Fatal(err)
		}
		var at map[string]any
		if err := json.Unmarshal(text, &at); err != nil {
			t.Fatal(err)
		}
		at["ResourceVersion"] = "999999999" // as after a restore of etcd
		if text, err = json.Marshal(at); err == nil {
			err = os.WriteFile(position, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		b.run()
		if d := details(t, b.told(7, of("issue-1", "issue.state"))[6]); d["to"] != "Failed" || d["derived"] != "true" {
			t.Error(d)
		}
		if reasons := b.gaps(2, "issues.platform.chatcli.io"); !strings.Contains(reasons[1], "does not know") {
			t.Error(reasons)
		}
	})
}

// TestCaptureReadsWhatItWasGranted with the roles of the installation: nothing, until a
// role lets it.
func TestCaptureReadsWhatItWasGranted(t *testing.T) {
	t.Parallel()
	b := newKube(t, map[string][]string{operatorUser: {"system:serviceaccounts", "system:authenticated"}})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured("issues", "approvalrequests")
	b.k.Kubectl(testenv.KubeAdmin, "create", "namespace", "graven-system")
	b.k.Kubectl(testenv.KubeAdmin, "apply", "-f", "../../config/default/operator.yaml")
	_, flags := listen(t)
	flags = append(flags, "--lease-namespace", "graven-system", "--leader-elect")
	b.run(flags...)
	b.k.Apply(testenv.KubeAdmin, issuesPolicy)
	b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=jsonpath={.status.conditions[?(@.type==\"Watching\")].reason}=Forbidden", "capturepolicy/issues", "--timeout=60s")
	b.k.Apply(testenv.KubeAdmin, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: issues, labels: {graven.dev/aggregate-to-capture: "true"}}
rules: [{apiGroups: [platform.chatcli.io], resources: [issues], verbs: [list, watch]}]
`)
	b.ready("issues")
	b.issue("issue-1")
	b.told(1, url.Values{"correlation_id": {"issue-1"}, "type": {"issue.created"}})
	b.sub("and a policy for what is not installed waits for it", func(t *testing.T) {
		b.k.Kubectl(testenv.KubeAdmin, "apply", "-f", "../../config/capture/chatcli.yaml")
		b.ready("chatcli-issues")
		b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=jsonpath={.status.conditions[?(@.type==\"Watching\")].reason}=NotInstalled", "capturepolicy/chatcli-anomalies", "--timeout=60s")
		b.captured("anomalies")
		b.ready("chatcli-anomalies")
	})
	b.sub("a policy that is wrong says where", func(t *testing.T) {
		b.kill() // or it would be refused
		b.k.Apply(testenv.KubeAdmin, strings.NewReplacer("name: issues}", "name: wrong}", "operation == 'DELETE'", "operation == 'DELETE' &&").Replace(issuesPolicy))
		b.run(flags...)
		b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Compiled=false", "capturepolicy/wrong", "--timeout=60s")
		said := b.k.Kubectl(testenv.KubeAdmin, "get", "capturepolicy", "wrong", "-o", `jsonpath={.status.conditions[?(@.type=="Compiled")].message}`)
		if !strings.Contains(said, "spec.record[2].when: 1:") {
			t.Error(said)
		}
	})
	b.sub("a policy at admission is registered, and goes with the operator's role", func(t *testing.T) {
		b.k.Apply(testenv.KubeAdmin, strings.Split(approvalsPolicy, "---")[0])
		b.ready("approvals")
		if owner := b.k.Kubectl(testenv.KubeAdmin, "get", "validatingwebhookconfiguration", "graven-operator", "-o", "jsonpath={.metadata.ownerReferences[0].kind}"); owner != "ClusterRole" {
			t.Error(owner)
		}
		b.kill()
		b.k.Kubectl(testenv.KubeAdmin, "delete", "-f", "../../config/default/operator.yaml")
		testenv.Eventually(t, "it is gone", func() bool {
			_, err := b.k.TryKubectl(testenv.KubeAdmin, nil, "get", "validatingwebhookconfiguration", "graven-operator")
			return err != nil
		})
	})
}

const chatcliUser = "system:serviceaccount:chatcli-system:chatcli-operator"

// TestThePipelineOfChatCLIIsTold plays an incident as ChatCLI's controllers do, some of
// it while no operator runs, and asks the ledger for the story.
func TestThePipelineOfChatCLIIsTold(t *testing.T) {
	t.Parallel()
	masters := []string{"system:masters"}
	b := newKube(t, map[string][]string{operatorUser: masters, "jane": masters, chatcliUser: masters})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured("anomalies", "issues", "aiinsights", "remediationplans", "approvalrequests", "postmortems")
	_, flags := listen(t)
	b.run(flags...)
	b.k.Kubectl(testenv.KubeAdmin, "apply", "-f", "../../config/capture/chatcli.yaml")
	for _, policy := range []string{"anomalies", "issues", "insights", "plans", "approvals", "evidence", "approvals-asked", "evidence-asked"} {
		b.ready("chatcli-" + policy)
	}
	testenv.Eventually(t, "the API server asks", func() bool {
		b.approval("probe")
		b.k.Kubectl(testenv.KubeAdmin, "delete", "approvalrequest", "probe", "-n", "production")
		return len(b.server.events(url.Values{"type": {"ConfigChanged"}, "correlation_id": {"inc-probe"}, "actor": {"kubernetes-admin"}}))+
			len(b.server.events(url.Values{"type": {"IntentConfirmed"}, "correlation_id": {"inc-probe"}})) > 0
	})
	create := func(kind, name, spec string) {
		b.k.Apply(chatcliUser, fmt.Sprintf("{apiVersion: platform.chatcli.io/v1alpha1, kind: %s, metadata: {name: %s, namespace: production}, spec: %s}", kind, name, spec))
	}
	status := func(kind, name, status string) {
		b.k.Kubectl(chatcliUser, "patch", kind, name, "-n", "production", "--subresource=status", "--type=merge", "-p", `{"status":`+status+`}`)
	}
	create("Anomaly", "anomaly-1", "{source: prometheus, signalType: oom_kill, resource: {kind: Deployment, name: web, namespace: production}, value: '3', threshold: '1'}")
	create("Issue", "inc", "{severity: high, source: prometheus, signalType: oom_kill, description: d, resource: {kind: Deployment, name: web, namespace: production}}")
	status("anomaly", "anomaly-1", `{"correlated":true,"issueRef":{"name":"inc"}}`)
	status("issue", "inc", `{"state":"Analyzing","detectedAt":"2026-03-19T14:00:00Z"}`)
	create("AIInsight", "inc-insight", "{issueRef: {name: inc}, provider: p, model: m}")
	status("aiinsight", "inc-insight", `{"analysis":"the first thought","generatedAt":"2026-03-19T14:01:00Z","confidence":0.9}`)
	create("RemediationPlan", "inc-plan-1", "{issueRef: {name: inc}, attempt: 1, strategy: s, actions: [{type: ScaleDeployment}]}")
	status("remediationplan", "inc-plan-1", `{"state":"WaitingApproval"}`)
	b.k.Apply(chatcliUser, "{apiVersion: platform.chatcli.io/v1alpha1, kind: ApprovalRequest, metadata: {name: approval-1, namespace: production}, spec: {issueRef: {name: inc}, remediationPlanRef: inc-plan-1, policyRef: p, ruleName: r, requester: chatcli-operator, requestedActions: [{type: ScaleDeployment}]}}")
	time.Sleep(1200 * time.Millisecond)                                                  // resources have times in whole seconds
	if out, err := b.approve("jane", "approval-1", "bob:the pods restart"); err != nil { // who asks is jane
		t.Fatal(out, err)
	}
	b.k.Kubectl(chatcliUser, "annotate", "approvalrequest", "approval-1", "-n", "production", "platform.chatcli.io/approve-")
	status("approvalrequest", "approval-1", `{"state":"Approved","approvedAt":"2026-03-19T14:05:00Z","decisions":[{"approver":"bob","decision":"approved","reason":"the pods restart","timestamp":"2026-03-19T14:05:00Z"}]}`)
	b.told(1, url.Values{"type": {"ApprovalGranted"}, "correlation_id": {"inc"}, "actor": {"bob"}})
	b.kill()
	status("remediationplan", "inc-plan-1", `{"state":"Executing","startedAt":"2026-03-19T14:06:00Z"}`)
	status("remediationplan", "inc-plan-1", `{"actionCheckpoints":[{"actionIndex":0,"actionType":"ScaleDeployment","success":false,"timestamp":"2026-03-19T14:07:00Z"}]}`)
	status("remediationplan", "inc-plan-1", `{"state":"Failed","completedAt":"2026-03-19T14:08:00Z","result":"no quota"}`)
	status("issue", "inc", `{"state":"Analyzing","remediationAttempts":1}`)
	status("aiinsight", "inc-insight", `{"analysis":null,"generatedAt":null,"confidence":null}`)
	status("aiinsight", "inc-insight", `{"analysis":"the second thought","generatedAt":"2026-03-19T14:10:00Z"}`)
	create("RemediationPlan", "inc-plan-2", "{issueRef: {name: inc}, attempt: 2, strategy: s, actions: [{type: RestartDeployment}]}")
	status("remediationplan", "inc-plan-2", `{"state":"Completed","startedAt":"2026-03-19T14:11:00Z","completedAt":"2026-03-19T14:12:00Z","result":"done"}`)
	b.run(flags...)
	status("issue", "inc", `{"state":"Resolved","resolvedAt":"2026-03-19T14:13:00Z","resolution":"restarted","conditions":[{"type":"Resolved","status":"True","reason":"RemediationSucceeded","message":"","lastTransitionTime":"2026-03-19T14:13:00Z"}]}`)
	for _, last := range []string{"IssueResolved", "RemediationSucceeded"} {
		b.told(1, url.Values{"type": {last}, "correlation_id": {"inc"}})
	}
	b.told(2, url.Values{"type": {"AIInsightCompleted"}, "correlation_id": {"inc"}})
	b.sub("each transition once", func(t *testing.T) {
		count := map[string]int{}
		for _, e := range b.server.events(url.Values{"correlation_id": {"inc"}}) {
			if e.Recorded.Attribution == event.AttributionObserved && e.Category != "operator" {
				count[e.EventType]++
			}
		}
		want := map[string]int{"AnomalyCorrelated": 1, "IssueCreated": 1, "AIInsightRequested": 2, "AIInsightCompleted": 2, "RemediationPlanned": 3, "ApprovalRequested": 1, "ApprovalAttempted": 1,
			"ApprovalGranted": 1, "RemediationExecuted": 3, "RemediationFailed": 1, "RemediationSucceeded": 1, "IssueResolved": 1}
		if !maps.Equal(count, want) {
			t.Errorf("got  %v\nwant %v", count, want)
		}
		if n := len(b.server.events(url.Values{"type": {"IdempotencyConflict"}})); n > 0 {
			t.Errorf("%d conflicts", n)
		}
	})
	b.sub("who really approved", func(t *testing.T) {
		asked := b.told(2, url.Values{"type": {"ApprovalAttempted"}, "correlation_id": {"inc"}}) // asked, and seen
		facts, who := map[string]bool{}, map[string]string{}
		for _, e := range asked {
			facts[e.Fact], who[e.Recorded.Attribution] = true, e.Actor.Name
		}
		if len(facts) != 1 || who[event.AttributionAdmission] != "jane" || who[event.AttributionObserved] != "bob" {
			t.Errorf("%v, %v", facts, who)
		}
		if d := details(t, b.told(1, url.Values{"type": {"IdentityForged"}, "correlation_id": {"inc"}})[0]); d["claimed"] != "bob" {
			t.Error(d)
		}
	})
	b.sub("and the thought that was wiped", func(t *testing.T) {
		var thoughts []string
		for _, e := range b.server.events(url.Values{"type": {"ResourceSnapshot"}, "resource": {"inc-insight"}}) {
			if strings.Contains(string(e.Details), "the first thought") {
				thoughts = append(thoughts, e.ID.String())
			}
		}
		if len(thoughts) != 1 {
			t.Errorf("%d snapshots have it", len(thoughts))
		}
	})
	b.sub("as a story", func(t *testing.T) {
		story := b.server.body(http.MethodGet, "/api/v1/audit/incidents/inc", url.Values{"format": {"text"}})
		for _, part := range []string{"the first thought", "the second thought", "approval-1: attempted by user jane (as the Kubernetes API server knew them)", "claimed to be bob",
			"granted by user bob (as the resource says; who changed it was not seen)", "who asked the API server for it was user jane", "ScaleDeployment → failed", "plan inc-plan-2 → succeeded", "The issue was resolved: restarted"} {
			if !strings.Contains(story, part) {
				t.Errorf("it lacks %q", part)
			}
		}
		if t.Failed() {
			t.Log(story)
		}
	})
	b.sub("and built again when nothing of it is left", func(t *testing.T) {
		before := b.k.Kubectl(testenv.KubeAdmin, "get", "remediationplan", "inc-plan-1", "-n", "production", "-o", "jsonpath={.spec}")
		all := []string{"anomaly/anomaly-1", "issue/inc", "aiinsight/inc-insight", "remediationplan/inc-plan-1", "remediationplan/inc-plan-2", "approvalrequest/approval-1"}
		b.k.Kubectl(chatcliUser, append([]string{"delete", "-n", "production", "--ignore-not-found"}, all...)...)
		testenv.Eventually(t, "their deletion is told", func() bool {
			gone := map[string]bool{}
			for _, e := range b.server.events(url.Values{"type": {"ConfigChanged"}, "correlation_id": {"inc"}}) {
				gone[e.Resource.Name] = true
			}
			return gone["inc"] && gone["inc-plan-1"] && gone["approval-1"]
		})
		var made struct {
			YAML    string
			Objects []struct {
				Kind, Name, Deleted string
				Valid               bool `json:"is_valid"`
				Object              struct{ Spec, Status map[string]any }
			}
		}
		const path = "/api/v1/audit/incidents/inc/reconstruct"
		if err := json.Unmarshal([]byte(b.server.body(http.MethodPost, path, nil)), &made); err != nil {
			t.Fatal(err)
		}
		if out, err := b.k.TryKubectl(testenv.KubeAdmin, []byte(made.YAML), "apply", "--dry-run=server", "-f", "-"); err != nil || strings.Count(out, "(server dry run)") != len(made.Objects) {
			t.Errorf("%v: %s\n%s", err, out, made.YAML)
		}
		kinds := map[string]bool{}
		for _, o := range made.Objects {
			kinds[o.Kind] = true
			if !o.Valid {
				t.Errorf("%s/%s is not valid", o.Kind, o.Name)
			}
			if o.Name == "inc-plan-1" {
				var was map[string]any
				if err := json.Unmarshal([]byte(before), &was); err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(was) != fmt.Sprint(o.Object.Spec) || o.Object.Status["state"] != "Failed" || o.Deleted == "" {
					t.Errorf("%+v, was %v", o, was)
				}
			}
		}
		for _, kind := range []string{"Issue", "AIInsight", "RemediationPlan", "ApprovalRequest", "Anomaly"} {
			if !kinds[kind] {
				t.Errorf("no %s", kind)
			}
		}
		asked := b.told(1, url.Values{"type": {"ApprovalRequested"}, "correlation_id": {"inc"}})[0].Timestamp
		early := b.server.body(http.MethodPost, path, url.Values{"at": {event.FormatTime(asked)}, "kind": {"ApprovalRequest"}})
		if !strings.Contains(early, `"kind":"ApprovalRequest"`) || strings.Contains(early, "decisions") || strings.Contains(early, "Approved") {
			t.Errorf("the decision shows before it was made: %s", early)
		}
	})
}

// body returns the answer to a request.
func (s *server) body(method, path string, query url.Values) string {
	s.t.Helper()
	resp, err := s.admin.Do(s.t.Context(), method, path, query, "", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}
