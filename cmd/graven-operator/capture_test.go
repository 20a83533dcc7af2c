package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
		gaps := b.told(1, url.Values{"type": {"CaptureGap"}})
		if d := details(t, gaps[0]); d["resources"] != "issues.platform.chatcli.io" || d["reason"] == "" {
			t.Errorf("%s", gaps[0].Details)
		}
		b.told(1, of("issue-0", "issue.created"))
		if n := len(b.server.events(url.Values{"type": {"IdempotencyConflict"}})); n > 0 {
			t.Errorf("%d conflicts", n)
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
	b.run(append(flags, "--lease-namespace", "graven-system", "--leader-elect")...)
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
		b.k.Apply(testenv.KubeAdmin, strings.NewReplacer("name: issues}", "name: wrong}", "operation == 'DELETE'", "operation == 'DELETE' &&").Replace(issuesPolicy))
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
