package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/agent"
	"github.com/graven-audit/graven/internal/auditlog"
	"github.com/graven-audit/graven/internal/testenv"
)

// read has an agent read the API server's audit log until stop is called.
func (b *bed) read(dir string) (stop func()) {
	b.t.Helper()
	c, err := client.New(client.Config{URL: b.server.url, TokenFile: b.server.tokenFile})
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := c.NewRecorder(client.RecorderConfig{Dir: dir, Source: "control-plane", Asserted: true})
	if err != nil {
		b.t.Fatal(err)
	}
	policy, err := auditlog.ParsePolicy(config.AuditPolicy)
	if err != nil {
		b.t.Fatal(err)
	}
	l := &agent.KubeLog{File: b.k.AuditLog(), Policy: policy, Dir: dir, Sender: r, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
		if err := r.Close(); err != nil {
			b.t.Error(err)
		}
	}
	b.whole.Cleanup(stop)
	return stop
}

// TestTheAPIServersOwnLogIsASecondWitness has requests of which no resource has a
// trace, requests in another's name, writes that nobody tells of and events that
// nothing bears out.
func TestTheAPIServersOwnLogIsASecondWitness(t *testing.T) {
	t.Parallel()
	const remediator = "system:serviceaccount:aiops:operator"
	masters := []string{"system:masters"}
	b := newKube(t, map[string][]string{operatorUser: masters, "jane": masters, "bob": masters, remediator: masters})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured("approvalrequests")
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, config.AuditPolicy, 0o600); err != nil {
		t.Fatal(err)
	}
	_, flags := listen(t)
	metrics := freeAddress(t)
	b.run(append(flags, "--metrics-address", metrics, "--audit-log", "--audit-policy-file", policy, "--remediator", "system:serviceaccount:aiops:*", "--audit-window", "6s", "--audit-heartbeat", "2s")...)
	stop := b.read(t.TempDir())
	b.k.Apply(testenv.KubeAdmin, approvalsPolicy)
	b.k.Kubectl(testenv.KubeAdmin, "apply", "-f", "../../config/capture/kubernetes.yaml")
	b.ready("approvals")
	b.ready("kubernetes-commands")
	b.ready("kubernetes-evictions")
	covered := func(want string) {
		t.Helper()
		testenv.Eventually(t, "the audit log is covered: "+want, func() bool {
			all := b.server.events(url.Values{"type": {"AuditLogCoverageChanged"}})
			return len(all) > 0 && details(t, all[0])["covered"] == want
		})
	}
	covered("true")
	b.approval("a")
	b.k.Apply(testenv.KubeAdmin, `{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: production}}`)
	for _, name := range []string{"p", "probe"} {
		b.k.Apply(testenv.KubeAdmin, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: production}, spec: {automountServiceAccountToken: false, containers: [{name: c, image: i}]}}`, name))
	}
	deployment := func(name string) {
		b.k.Apply(testenv.KubeAdmin, fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s, namespace: production}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`, name))
	}
	deployment("web")
	deployment("api")
	testenv.Eventually(t, "the API server asks", func() bool {
		_, _ = b.k.TryKubectl("jane", nil, "exec", "-n", "production", "probe", "--", "true") // it has no node
		_, err := b.approve("jane", "a", "jane:short", "--dry-run=server")
		return err != nil && len(b.server.events(url.Values{"type": {"PodCommand"}})) > 0
	})
	b.sub("a command that failed", func(t *testing.T) {
		d := details(t, b.told(len(b.server.events(url.Values{"type": {"PodCommand"}})), url.Values{"type": {"IntentFailed"}, "resource": {"probe"}})[0])
		if d["eventType"] != "PodCommand" || d["auditID"] == "" || !strings.HasPrefix(d["code"], "4") && !strings.HasPrefix(d["code"], "5") {
			t.Error(d)
		}
	})
	b.sub("an eviction, which no resource tells of", func(t *testing.T) {
		eviction := `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p","namespace":"production"}}`
		if out, err := b.k.TryKubectl("jane", []byte(eviction), "create", "--raw", "/api/v1/namespaces/production/pods/p/eviction", "-f", "-"); err != nil {
			t.Fatal(out, err)
		}
		e := b.told(1, url.Values{"type": {"IntentConfirmed"}, "resource": {"p"}})[0]
		if d := details(t, e); d["by"] != "audit log" || d["eventType"] != "PodEvicted" || d["code"] != "201" {
			t.Errorf("%s", e.Details)
		}
	})
	b.sub("who acts in another's name", func(t *testing.T) {
		if out, err := b.approve("jane", "a", "bob:it is safe enough", "--as=bob", "--as-group=system:masters"); err != nil {
			t.Fatal(out, err)
		}
		if e := b.told(1, url.Values{"type": {"ApprovalAttempted"}})[0]; e.Actor.Name != "bob" {
			t.Errorf("%+v", e)
		}
		e := b.told(1, url.Values{"type": {"IntentConfirmed"}, "resource": {"a"}})[0]
		if d := details(t, e); d["by"] != "watch, audit log" || d["impersonator"] != "jane" || d["resourceVersion"] == "" {
			t.Errorf("%s", e.Details)
		}
		impersonated := 0
		for _, request := range b.server.events(url.Values{"type": {auditlog.TypeRequest}, "resource": {"a"}, "actor": {"jane"}}) {
			if strings.Contains(string(request.Details), "bob") {
				impersonated++
			}
		}
		if impersonated != 1 {
			t.Errorf("%d requests in bob's name", impersonated)
		}
	})
	b.sub("writes and events that do not agree", func(t *testing.T) {
		claim := func(name, target string) {
			at := time.Now().UTC()
			e := &event.Event{EventType: "RemediationExecuted", Timestamp: at, Outcome: event.OutcomeSuccess, CorrelationID: "inc-" + name, Actor: event.Actor{Type: event.ActorService, Name: "operator"},
				Resource: event.Resource{APIVersion: "platform.chatcli.io/v1alpha1", Kind: "RemediationPlan", Namespace: "production", Name: name}}
			if err := e.SetDetails(map[string]string{"action": "ScaleDeployment", "target": target}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.server.admin.RecordSync(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		claim("plan-web", "web")
		b.k.Kubectl(remediator, "scale", "deployment", "web", "-n", "production", "--replicas=3")
		b.k.Kubectl(remediator, "scale", "deployment", "api", "-n", "production", "--replicas=0")
		claim("plan-ghost", "ghost")
		if e := b.told(1, url.Values{"type": {"WriteUnexplained"}})[0]; e.Resource.Name != "api" || details(t, e)["user"] != remediator {
			t.Errorf("%+v, %s", e, e.Details)
		}
		if e := b.told(1, url.Values{"type": {"ClaimUnwitnessed"}})[0]; e.Resource.Name != "plan-ghost" || e.CorrelationID != "inc-plan-ghost" {
			t.Errorf("%+v, %s", e, e.Details)
		}
	})
	b.sub("the metrics that alerts and dashboard ask for are there", func(t *testing.T) {
		text := has(t, metrics, `graven_(capture|admission|auditlog)_\w+`)
		for _, sample := range []string{"graven_auditlog_covered 1", `graven_auditlog_verdicts_total{verdict="differs"} 2`, `graven_admission_lost_total{policy="approvals"} 0`} {
			if !strings.Contains(text, sample+"\n") {
				t.Errorf("no %s", sample)
			}
		}
	})
	b.sub("a log that does not arrive", func(t *testing.T) {
		stop()
		covered("false")
	})
}

// TestAnAPIServerPostsItsAuditLog has the API server's own webhook do what an agent does
// elsewhere.
func TestAnAPIServerPostsItsAuditLog(t *testing.T) {
	t.Parallel()
	masters := []string{"system:masters"}
	s := newServer(t)
	s.start()
	token, err := os.ReadFile(s.tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(to)) // API servers keep tokens from others
	t.Cleanup(encrypted.Close)
	b := newKubeBeside(t, s, testenv.KubeOptions{Users: map[string][]string{operatorUser: masters, "jane": masters}, AuditPolicy: string(config.AuditPolicy),
		AuditWebhook: encrypted.URL + "/api/v1/ingest/kube-audit/eu", AuditToken: strings.TrimSpace(string(token)),
		AuditCA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: encrypted.Certificate().Raw})})
	t.Cleanup(b.kill)
	b.captured()
	b.run("--cluster", "eu", "--audit-log", "--audit-heartbeat", "5s")
	b.k.Kubectl("jane", "create", "configmap", "c", "-n", "production")
	b.told(1, url.Values{"type": {auditlog.TypeRequest}, "cluster": {"eu"}, "resource": {"c"}, "actor": {"jane"}})
	testenv.Eventually(t, "the signs of life arrive", func() bool {
		all := b.server.events(url.Values{"type": {"AuditLogCoverageChanged"}})
		return len(all) == 1 && all[0].Cluster == "eu" && details(t, all[0])["covered"] == "true"
	})
	mirrored := b.k.Kubectl("jane", "get", "ae", "-A", "-o", "jsonpath={.items[*].spec.eventType}")
	if strings.Contains(mirrored, auditlog.TypeRequest) {
		t.Error("what the API server says of mirroring is mirrored")
	}
}

// TestTheLedgerIsReadPageByPage of as many events as one answer does not have.
func TestTheLedgerIsReadPageByPage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	now, n := time.Now().UTC(), 1100
	batch := &client.Batch{}
	for i := range n {
		e := &event.Event{ID: event.DeriveID("page", fmt.Sprint(i)), EventType: "issue.note", Timestamp: now.Add(-time.Duration(i) * time.Second), Actor: event.Actor{Type: "user", Name: "jane"},
			Resource: event.Resource{Kind: "Issue", Name: "i", Namespace: "production"}}
		batch.Events = append(batch.Events, e.AppendJSON(nil))
	}
	for part := range slices.Chunk(batch.Events, 500) {
		if _, err := s.admin.RecordBatch(t.Context(), &client.Batch{Events: part}); err != nil {
			t.Fatal(err)
		}
	}
	found := map[event.ID]bool{}
	q := auditlog.Query{From: now.Add(-time.Hour), Until: now.Add(time.Minute), Types: []string{"issue.note"}, Namespace: "production"}
	if err := (auditlog.Ledger{Client: s.admin}).Events(t.Context(), q, func(e *event.Event) { found[e.ID] = true }); err != nil {
		t.Fatal(err)
	}
	if len(found) != n {
		t.Errorf("%d of %d events", len(found), n)
	}
}
