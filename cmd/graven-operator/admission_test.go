package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/auditlog"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/testenv"
)

const approvalsPolicy = `
apiVersion: graven.dev/v1alpha1
kind: CapturePolicy
metadata: {name: approvals}
spec:
  at: admission
  match:
    resources: [{group: platform.chatcli.io, version: v1alpha1, resource: approvalrequests}]
    operations: [UPDATE]
  variables:
  - {name: claim, expression: "object.metadata.annotations['platform.chatcli.io/approve']"}
  - {name: reason, expression: "claim.contains(':') ? claim.split(':', 2)[1] : ''"}
  when: claim != oldObject.?metadata.?annotations[?'platform.chatcli.io/approve'].orValue('')
  record:
  - name: approve
    claim: claim.split(':', 2)[0]
    event:
      eventType: "'ApprovalAttempted'"
      fact: object.metadata.uid + '/ApprovalAttempted/approve after ' + oldObject.metadata.resourceVersion
      correlationID: object.spec.issueRef.name
      details: "{'decision': 'approved', 'reason': reason}"
  require:
  - that: size(reason) >= 10
    message: an approval has a reason of 10 characters at least
---
apiVersion: graven.dev/v1alpha1
kind: CapturePolicy
metadata: {name: rules}
spec:
  at: admission
  match: {resources: [{group: platform.chatcli.io, version: v1alpha1, resource: approvalpolicies}]}
  onFailure: refuse
  record:
  - event: {eventType: "'ConfigChanged'", fact: "request.uid", correlationID: request.name}
`

// listen returns flags with which the operator serves a webhook.
func listen(t *testing.T) (address string, flags []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address = l.Addr().String()
	return address, []string{"--webhook-address", address, "--webhook-url", "https://" + address}
}

// approval makes an ApprovalRequest.
func (b *bed) approval(name string) {
	b.t.Helper()
	b.k.Apply(testenv.KubeAdmin, fmt.Sprintf(`
apiVersion: platform.chatcli.io/v1alpha1
kind: ApprovalRequest
metadata: {name: %[1]s, namespace: production}
spec: {issueRef: {name: inc-%[1]s}, remediationPlanRef: plan-1, policyRef: p, ruleName: r, requester: chatcli-operator, requestedActions: [{type: ScaleDeployment}]}
`, name))
}

// approve annotates an ApprovalRequest, and returns what kubectl says to that.
func (b *bed) approve(user, name, value string, flags ...string) (string, error) {
	b.t.Helper()
	return b.k.TryKubectl(user, nil, append([]string{"annotate", "--overwrite", "approvalrequest", name, "-n", "production", "platform.chatcli.io/approve=" + value}, flags...)...)
}

func TestWhoAsksIsKnownFromTheAPIServer(t *testing.T) {
	t.Parallel()
	masters := []string{"system:masters"}
	b := newKube(t, map[string][]string{operatorUser: masters, "jane": masters, "mallory": masters})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured("approvalrequests", "approvalpolicies")
	address, flags := listen(t)
	b.run(flags...)
	b.k.Apply(testenv.KubeAdmin, approvalsPolicy)
	b.ready("approvals")
	b.ready("rules")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		b.approval(name)
	}
	of := func(name, eventType string) url.Values {
		return url.Values{"correlation_id": {"inc-" + name}, "type": {eventType}}
	}
	// asked waits until the API server asks.
	testenv.Eventually(t, "the API server asks", func() bool {
		_, err := b.approve("jane", "e", "jane:short", "--dry-run=server")
		return err != nil
	})
	b.sub("who approves", func(t *testing.T) {
		if out, err := b.approve("jane", "a", "jane:it is safe enough"); err != nil {
			t.Fatal(out, err)
		}
		e := b.told(1, of("a", "ApprovalAttempted"))[0]
		var d struct {
			Reason    string
			Admission struct {
				Username, UID, Operation, After string
				Groups                          []string
			}
		}
		if err := decode(e, &d); err != nil || e.Actor.Name != "jane" || e.Actor.Type != event.ActorUser || e.Recorded.Attribution != event.AttributionAdmission || e.Outcome != event.OutcomePending ||
			d.Admission.Username != "jane" || d.Admission.Operation != "UPDATE" || d.Admission.After == "" || len(d.Admission.Groups) == 0 {
			t.Errorf("%+v, %s, %v", e, e.Details, err)
		}
	})
	b.sub("and that it was done", func(t *testing.T) {
		e := b.told(1, of("a", "IntentConfirmed"))[0]
		if d := details(t, e); d["eventType"] != "ApprovalAttempted" || d["by"] != "watch" || d["resourceVersion"] == "" {
			t.Errorf("%s", e.Details)
		}
	})
	b.sub("who approves in another's name", func(t *testing.T) {
		if out, err := b.approve("mallory", "b", "jane:it is safe enough"); err != nil {
			t.Fatal(out, err)
		}
		if e := b.told(1, of("b", "ApprovalAttempted"))[0]; e.Actor.Name != "mallory" {
			t.Errorf("%+v", e)
		}
		if e := b.told(1, of("b", "IdentityForged"))[0]; e.Actor.Name != "mallory" || details(t, e)["claimed"] != "jane" {
			t.Errorf("%+v, %s", e, e.Details)
		}
	})
	b.sub("what a policy requires", func(t *testing.T) {
		if out, err := b.approve("jane", "c", "jane:yes"); err == nil || !strings.Contains(out, "an approval has a reason of 10 characters at least") {
			t.Error(out, err)
		}
		if e := b.told(1, url.Values{"type": {"RequestRefused"}, "resource": {"c"}})[0]; e.Actor.Name != "jane" || !strings.Contains(string(e.Details), "10 characters") {
			t.Errorf("%+v", e)
		}
	})
	b.sub("a dry run is judged and not counted", func(t *testing.T) {
		if out, err := b.approve("jane", "d", "jane:it is safe enough", "--dry-run=server"); err != nil {
			t.Error(out, err)
		}
		if _, err := b.approve("jane", "d", "jane:no", "--dry-run=server"); err == nil {
			t.Error("it was not judged")
		}
		if out, err := b.approve("jane", "e", "jane:it is safe enough"); err != nil {
			t.Fatal(out, err)
		}
		b.told(1, of("e", "ApprovalAttempted"))
		b.told(0, of("d", "ApprovalAttempted"))
		b.told(1, url.Values{"type": {"RequestRefused"}})
	})
	b.sub("who does not know the path is not answered", func(t *testing.T) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		for _, path := range []string{"/", "/approvals", "/x/approvals", "//approvals", "/%20/approvals"} {
			resp, err := client.Post("https://"+address+path, "application/json", bytes.NewReader([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"UPDATE","userInfo":{"username":"admin"}}}`)))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
		}
	})
	b.sub("while the ledger is away", func(t *testing.T) {
		b.server.stop()
		if out, err := b.approve("jane", "c", "jane:it is safe enough"); err != nil {
			t.Error("what is kept is refused:", out, err)
		}
		rule := `{apiVersion: platform.chatcli.io/v1alpha1, kind: ApprovalPolicy, metadata: {name: night, namespace: production}, spec: {enabled: true, rules: []}}`
		if out, err := b.k.TryKubectl("jane", []byte(rule), "create", "-f", "-"); err == nil || !strings.Contains(out, "cannot be recorded") {
			t.Error("what must be in the ledger is not refused:", out, err)
		}
		b.server.start()
		if e := b.told(1, of("c", "ApprovalAttempted"))[0]; e.Actor.Name != "jane" {
			t.Errorf("%+v", e)
		}
		if out, err := b.k.TryKubectl("jane", []byte(rule), "create", "-f", "-"); err != nil {
			t.Error(out, err)
		}
		if e := b.told(1, url.Values{"type": {"ConfigChanged"}, "correlation_id": {"night"}})[0]; e.Actor.Name != "jane" {
			t.Errorf("%+v", e)
		}
	})
	b.sub("who keeps the API server from asking", func(t *testing.T) {
		text := b.k.Kubectl("mallory", "get", "validatingwebhookconfiguration", "graven-operator", "-o", "yaml")
		began := time.Now()
		b.k.Kubectl("mallory", "delete", "validatingwebhookconfiguration", "graven-operator")
		_, _ = b.approve("mallory", "d", "jane:it is safe enough") // seen, or not
		if d := b.unasked(began, "deleted"); d["since"] >= d["until"] {
			t.Error(d)
		}
		b.ready("approvals")
		time.Sleep(3 * time.Second) // the operator has looked at what it put back
		began = time.Now()
		b.k.Kubectl("mallory", "patch", "validatingwebhookconfiguration", "graven-operator", "--type=json", "-p",
			`[{"op":"add","path":"/webhooks/0/matchConditions","value":[{"name":"never","expression":"false"}]}]`)
		b.unasked(began, "changed")
		testenv.Eventually(t, "it is mended", func() bool {
			return b.k.Kubectl("mallory", "get", "validatingwebhookconfiguration", "graven-operator", "-o", "jsonpath={.webhooks[0].matchConditions}") == ""
		})
		if !strings.Contains(text, "NoneOnDryRun") || !strings.Contains(text, "kube-system") {
			t.Error(text)
		}
	})
	b.sub("and what a killed operator did not see", func(t *testing.T) {
		b.kill()
		began := time.Now()
		b.k.Kubectl("mallory", "delete", "validatingwebhookconfiguration", "graven-operator")
		b.run(flags...)
		b.unasked(began, "deleted")
	})
	b.sub("with a certificate that somebody else renews", func(t *testing.T) {
		b.kill()
		dir := t.TempDir()
		renew := func(serial int64) {
			cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
			testenv.Certificate(t, cert, key, serial)
			public, err := os.ReadFile(cert)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "ca.crt"), public, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		asks := func() {
			t.Helper()
			public, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
			if err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "the API server trusts it", func() bool {
				text, _ := b.k.TryKubectl("mallory", nil, "get", "validatingwebhookconfiguration", "graven-operator", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
				out, err := b.approve("jane", "d", "jane:short", "--dry-run=server")
				return text == base64.StdEncoding.EncodeToString(public) && err != nil && strings.Contains(out, "10 characters")
			})
		}
		renew(1)
		b.run(append(flags, "--webhook-certificates", dir)...)
		asks()
		renew(2)
		asks()
	})
}

// TestWhatAClusterAdminTakesAwayIsInTheTrail has somebody with all rights take away what
// records them, do something, and put it back.
func TestWhatAClusterAdminTakesAwayIsInTheTrail(t *testing.T) {
	t.Parallel()
	masters := []string{"system:masters"}
	b := newKube(t, map[string][]string{operatorUser: masters, "jane": masters, "mallory": masters})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured("approvalrequests")
	_, flags := listen(t)
	b.run(flags...)
	b.k.Kubectl(testenv.KubeAdmin, "apply", "-f", "../../config/capture/chatcli.yaml")
	b.k.Apply(testenv.KubeAdmin, approvalsPolicy)
	b.ready("chatcli-approvals")
	b.ready("approvals")
	b.approval("b")
	// changed waits until it is told what became of a policy, by who has seen it.
	changed := func(operation, policy, attribution string) *event.Event {
		b.t.Helper()
		var found *event.Event
		testenv.Eventually(b.t, operation+" of the policy "+policy+" is told by "+attribution, func() bool {
			for _, e := range b.server.events(url.Values{"type": {"GuardChanged"}, "resource": {policy}}) {
				if strings.Contains(string(e.Details), `"operation":"`+operation+`"`) && e.Recorded.Attribution == attribution {
					found = e
				}
			}
			return found != nil
		})
		return found
	}
	b.sub("a policy that is wrong is refused", func(t *testing.T) {
		wrong := strings.ReplaceAll(approvalsPolicy, "size(reason) >= 10", "size(raeson) >= 10")
		var out string
		testenv.Eventually(t, "the API server asks", func() bool {
			var err error
			out, err = b.k.TryKubectl("mallory", []byte(wrong), "apply", "--server-side", "--force-conflicts", "-f", "-")
			return err != nil
		})
		if !strings.Contains(out, "spec.require[0].that: 1:6: undeclared reference to 'raeson'") {
			t.Error(out)
		}
		if e := b.told(1, url.Values{"type": {"RequestRefused"}, "resource": {"approvals"}})[0]; e.Actor.Name != "mallory" {
			t.Errorf("%+v", e)
		}
	})
	b.sub("who takes away a policy is told", func(t *testing.T) {
		b.k.Kubectl("mallory", "delete", "capturepolicy", "rules")
		asked, seen := changed("delete", "rules", event.AttributionAdmission), changed("delete", "rules", event.AttributionObserved)
		if asked.Actor.Name != "mallory" || asked.Fact != seen.Fact {
			t.Errorf("%+v, %+v", asked, seen)
		}
	})
	takeAway := func() (registration string) {
		registration = b.k.Kubectl("mallory", "get", "validatingwebhookconfiguration", "graven-operator", "-o", "yaml")
		b.k.Kubectl("mallory", "delete", "validatingwebhookconfiguration", "graven-operator")
		b.k.Kubectl("mallory", "delete", "capturepolicy", "approvals")
		return registration
	}
	putBack := func(registration string) {
		b.k.Apply("mallory", approvalsPolicy)
		for _, line := range []string{"resourceVersion", "uid", "creationTimestamp", "generation"} {
			registration = regexp.MustCompile(`(?m)^  `+line+`: .*\n`).ReplaceAllString(registration, "")
		}
		_, _ = b.k.TryKubectl("mallory", []byte(registration), "create", "-f", "-") // the operator may have done so
	}
	annotated := func(name string) {
		b.t.Helper()
		e := b.told(1, url.Values{"type": {"ApprovalAttempted"}, "resource": {name}})[0]
		if details(b.t, e)["claim"] != "jane:I was not there" || e.Recorded.Attribution != event.AttributionObserved {
			t.Errorf("%+v, %s", e, e.Details)
		}
	}
	// unseen changes an ApprovalRequest while the webhook is gone, and reports whether
	// nobody was asked: for a moment the API server goes by a registration that is gone, and
	// soon the operator puts it back.
	unseen := func(name string) bool {
		b.t.Helper()
		b.approval(name)
		registration := takeAway()
		if out, err := b.approve("mallory", name, "jane:I was not there"); err != nil {
			b.t.Fatal(out, err)
		}
		putBack(registration)
		told := map[string]bool{}
		testenv.Eventually(b.t, "what was seen is told", func() bool {
			for _, e := range b.server.events(url.Values{"type": {"ApprovalAttempted"}, "resource": {name}}) {
				told[e.Recorded.Attribution] = true
			}
			return told[event.AttributionObserved]
		})
		return !told[event.AttributionAdmission]
	}
	b.sub("and changes something meanwhile", func(t *testing.T) {
		began, name := time.Now(), "a"
		for i := 1; !unseen(name); i++ {
			if i == 10 {
				t.Fatal("the API server always asks")
			}
			b.ready("approvals")
			time.Sleep(3 * time.Second) // the operator has looked at what it put back
			began, name = time.Now(), fmt.Sprint("a", i)
		}
		annotated(name)
		changed("delete", "approvals", event.AttributionObserved)
		changed("create", "approvals", event.AttributionObserved)
		b.unasked(began, "deleted")
		b.ready("approvals")
	})
	b.sub("and does so while the operator is dead", func(t *testing.T) {
		time.Sleep(3 * time.Second) // the operator has looked at what it put back
		before := len(b.server.events(url.Values{"type": {"GuardChanged"}, "resource": {"approvals"}}))
		b.kill()
		began := time.Now()
		registration := takeAway()
		if out, err := b.approve("mallory", "b", "jane:I was not there"); err != nil {
			t.Fatal(out, err)
		}
		b.k.Kubectl("mallory", "annotate", "approvalrequest", "b", "-n", "production", "platform.chatcli.io/approve-")
		putBack(registration)
		b.run(flags...)
		annotated("b")
		b.unasked(began, "put back")
		testenv.Eventually(t, "that the policy went and came is told", func() bool {
			return len(b.server.events(url.Values{"type": {"GuardChanged"}, "resource": {"approvals"}})) == before+2
		})
	})
	b.sub("that no operator answered is told", func(t *testing.T) {
		var answered []string
		testenv.Eventually(t, "it is known that the API server is answered", func() bool {
			answered, _ = filepath.Glob(filepath.Join(b.dir, "*", "answered.json"))
			return len(answered) == 1
		})
		b.kill()
		began := time.Now()
		since := began.UTC().Add(-time.Hour).Truncate(time.Second)
		if err := os.WriteFile(answered[0], fmt.Appendf(nil, "%q", since.Format(time.RFC3339)), 0o600); err != nil {
			t.Fatal(err)
		}
		b.run(flags...)
		if d := b.unasked(began, "nobody answered it"); d["since"] != event.FormatTime(since) {
			t.Error(d)
		}
	})
}

// canary is a word that stands in everything that is secret.
const canary = "canary-3f9d1c"

// TestNoSecretIsKept plants secrets in all that is captured, and looks for them in all
// that the operator and the server have written.
func TestNoSecretIsKept(t *testing.T) {
	t.Parallel()
	t.Run("in files", func(t *testing.T) {
		t.Parallel()
		noSecretIsKept(t, newServer(t))
	})
	t.Run("in a database", func(t *testing.T) {
		t.Parallel()
		p := testenv.StartPostgres(t)
		database := p.Database()
		if _, _, err := postgres.Migrate(t.Context(), p.DSN(database, "postgres")); err != nil {
			t.Fatal(err)
		}
		p.SQL(database, "CREATE ROLE app LOGIN; GRANT graven_writer TO app")
		s := newServer(t)
		s.store = p.DSN(database, "app")
		forms := noSecretIsKept(t, s)
		tables := strings.Fields(p.SQL(database, "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"))
		rows := 0
		for _, table := range tables {
			text := p.SQL(database, "SELECT t::text FROM "+table+" t")
			rows += len(text)
			for _, form := range forms {
				if strings.Contains(text, form) || strings.Contains(text, hex.EncodeToString([]byte(form))) { // of bytes
					t.Errorf("the table %s has %s", table, form)
				}
			}
		}
		if len(tables) < 5 || rows < 10_000 {
			t.Errorf("%d characters in %v", rows, tables)
		}
		for _, form := range forms {
			if names := p.Holds([]byte(form)); len(names) > 0 {
				t.Errorf("%v have %s", names, form)
			}
		}
	})
}

// noSecretIsKept plants secrets and returns their forms, none of which stands in a file.
func noSecretIsKept(t *testing.T, s *server) (forms []string) {
	masters := []string{"system:masters"}
	b := newKubeBeside(t, s, testenv.KubeOptions{Users: map[string][]string{operatorUser: masters, "jane": masters}})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured()
	_, flags := listen(t)
	b.run(flags...)
	read := t.TempDir()
	stop := b.read(read) // the API server's log, in which all bodies are
	b.k.Kubectl(testenv.KubeAdmin, "apply", "-f", "../../config/capture/kubernetes.yaml")
	b.k.Apply(testenv.KubeAdmin, `
apiVersion: graven.dev/v1alpha1
kind: CapturePolicy
metadata: {name: everything}
spec:
  at: watch
  match: {resources: [{version: v1, resource: secrets}, {version: v1, resource: pods}, {group: apps, version: v1, resource: deployments}], exceptNamespaces: [kube-system]}
  variables: [{name: it, expression: "object == null ? oldObject : object"}]
  record:
  - event: {eventType: "'everything'", fact: "it.metadata.uid + '/' + operation + it.metadata.resourceVersion", details: "{'object': it}"}
`)
	for _, policy := range []string{"everything", "kubernetes-secrets", "kubernetes-nodes", "kubernetes-nodes-asked", "kubernetes-guards"} {
		b.ready(policy)
	}
	secret := func(data string) string {
		return "{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: production}, stringData: {" + data + "}}"
	}
	pod := `{containers: [{name: web, image: i, env: [{name: TOKEN, value: ` + canary + `}]}]}`
	testenv.Eventually(t, "the API server asks", func() bool {
		b.k.Kubectl("jane", "delete", "secret", "probe", "-n", "production", "--ignore-not-found")
		b.k.Kubectl("jane", "create", "secret", "generic", "probe", "-n", "production")
		return len(b.server.events(url.Values{"type": {"SecretChanged"}})) > 0
	})
	b.k.Apply("jane", secret("password: "+canary+", user: "+canary+"-user"))
	b.k.Apply("jane", secret("password: "+canary+"-2, user: "+canary+"-user, more: "+canary))
	b.k.Kubectl("jane", "label", "secret", "db", "-n", "production", "a=b")
	b.k.Apply("jane", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: production}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: "+pod+"}}}")
	b.k.Kubectl("jane", "delete", "secret", "db", "-n", "production")
	b.k.Apply("jane", "{apiVersion: v1, kind: Node, metadata: {name: n1}}")
	b.k.Kubectl("jane", "cordon", "n1")
	changed := b.told(4, url.Values{"type": {"SecretChanged"}, "resource": {"db"}})
	var keys []string
	for _, e := range changed {
		var d struct{ Operation, ChangedKeys string }
		if err := decode(e, &d); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, d.Operation+" "+d.ChangedKeys)
	}
	if got := strings.Join(keys, "; "); got != "create password,user; update more,password; update ; delete more,password,user" {
		t.Error(got)
	}
	for _, e := range b.told(2, url.Values{"type": {"NodeCordoned"}}) { // asked for, and seen
		if e.Fact == "" || e.Recorded.Attribution == event.AttributionAdmission && e.Actor.Name != "jane" {
			t.Errorf("%+v", e)
		}
	}
	b.told(1, url.Values{"type": {"IntentConfirmed"}, "kind": {"Node"}})
	b.told(1, url.Values{"type": {"everything"}, "resource": {"web"}})
	b.k.Apply("jane", "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: production}}")
	token := b.k.Kubectl("jane", "create", "token", "default", "-n", "production")
	testenv.Eventually(t, "the log has the token's request", func() bool {
		for _, e := range b.server.events(url.Values{"type": {auditlog.TypeRequest}, "actor": {"jane"}}) {
			if strings.Contains(string(e.Details), `"subresource":"token"`) {
				return true
			}
		}
		return false
	})
	// The word by which the API server is known, which is in a registration that is watched.
	b.k.Kubectl("jane", "patch", "validatingwebhookconfiguration", "graven-operator", "--type=json", "-p", `[{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 3}]`)
	at := b.k.Kubectl("jane", "get", "validatingwebhookconfiguration", "graven-operator", "-o", "jsonpath={.webhooks[0].clientConfig.url}")
	word := strings.Split(strings.TrimPrefix(at, "https://"), "/")[1]
	testenv.Eventually(t, "the registration's change is told", func() bool {
		return len(b.server.events(url.Values{"type": {"ResourceSnapshot"}, "kind": {"ValidatingWebhookConfiguration"}})) > 0
	})
	stop()
	b.stop()
	b.server.stop()
	_, signature, _ := strings.Cut(token, ".")
	forms = []string{canary, base64.StdEncoding.EncodeToString([]byte(canary))[:16], signature[:40], word}
	files := 0
	for _, dir := range []string{b.dir, b.server.dir, read} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			text, err := os.ReadFile(path)
			for _, form := range forms {
				if bytes.Contains(text, []byte(form)) {
					t.Errorf("%s has %s", path, form)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 10 {
		t.Errorf("%d files", files)
	}
	return forms
}

// kubernautKind is a definition of one of Kubernaut's kinds, without a schema.
func kubernautKind(kind, plural string) string {
	return fmt.Sprintf(`---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.kubernaut.ai}
spec:
  group: kubernaut.ai
  scope: Namespaced
  names: {kind: %[1]s, plural: %[2]s}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`, kind, plural)
}

// TestWhatPeopleDoWithKubernautIsTold plays approvals, decisions that are made again,
// blocks, cancellations, dry runs and forged bodies as several users.
func TestWhatPeopleDoWithKubernautIsTold(t *testing.T) {
	t.Parallel()
	const orchestrator = "system:serviceaccount:kubernaut-system:remediationorchestrator"
	masters := []string{"system:masters"}
	b := newKube(t, map[string][]string{operatorUser: masters, "jane": masters, "bob": masters, "mallory": masters, orchestrator: masters})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured()
	for kind, plural := range map[string]string{"RemediationApprovalRequest": "remediationapprovalrequests", "WorkflowExecution": "workflowexecutions", "RemediationRequest": "remediationrequests",
		"NotificationRequest": "notificationrequests", "RemediationWorkflow": "remediationworkflows", "ActionType": "actiontypes", "AgentSession": "agentsessions",
		"SignalProcessing": "signalprocessings", "AIAnalysis": "aianalyses", "EffectivenessAssessment": "effectivenessassessments"} {
		b.k.Apply(testenv.KubeAdmin, kubernautKind(kind, plural))
	}
	b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	_, flags := listen(t)
	b.run(flags...)
	b.k.Kubectl(testenv.KubeAdmin, "apply", "-f", "../../config/capture/kubernaut.yaml")
	b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Ready", "capturepolicy", "--all", "--timeout=120s")
	create := func(user, kind, name, spec string) {
		b.k.Apply(user, fmt.Sprintf("{apiVersion: kubernaut.ai/v1alpha1, kind: %s, metadata: {name: %s, namespace: production}, spec: %s}", kind, name, spec))
	}
	status := func(user, kind, name, status string, flags ...string) error {
		out, err := b.k.TryKubectl(user, nil, append([]string{"patch", kind, name, "-n", "production", "--subresource=status", "--type=merge", "-p", `{"status":` + status + `}`}, flags...)...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	refused := func(err error, words string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("refused: %v, want %s", err, words)
		}
	}
	create(orchestrator, "RemediationRequest", "rr-1", "{signalName: oom}")
	for _, name := range []string{"rar-1", "rar-2", "rar-3"} {
		create(orchestrator, "RemediationApprovalRequest", name, "{remediationRequestRef: {name: rr-1}, aiAnalysisRef: {name: ai-1}, requiredBy: '2099-01-01T00:00:00Z'}")
	}
	testenv.Eventually(t, "the API server asks", func() bool {
		return status("jane", "remediationapprovalrequest", "rar-3", `{"decision":"Approved"}`, "--dry-run=server") != nil
	})
	must(status("jane", "remediationapprovalrequest", "rar-1", `{"decision":"Approved","decidedBy":"jane","decisionMessage":"it was tried in staging"}`))
	refused(status("mallory", "remediationapprovalrequest", "rar-1", `{"decision":"Rejected","decidedBy":"mallory","decisionMessage":"no"}`), "the decision was made, and stays as it is: Approved by jane")
	refused(status("mallory", "remediationapprovalrequest", "rar-1", `{"decision":""}`), "stays as it is")
	refused(status("mallory", "remediationapprovalrequest", "rar-1", `{"decidedBy":"bob"}`), "stays as it is")
	must(status("mallory", "remediationapprovalrequest", "rar-2", `{"decision":"Rejected","decidedBy":"bob","decisionMessage":"too risky today"}`))
	refused(status("mallory", "remediationapprovalrequest", "rar-3", `{"decision":"Expired","decidedBy":"system"}`), "expires by itself")
	refused(status("jane", "remediationapprovalrequest", "rar-3", `{"decision":"Approved"}`), "a decision has a rationale")
	must(status("jane", "remediationapprovalrequest", "rar-3", `{"decision":"Approved","decisionMessage":"a dry run"}`, "--dry-run=server"))
	create(orchestrator, "WorkflowExecution", "wfe-1", "{remediationRequestRef: {name: rr-1}}")
	must(status(orchestrator, "workflowexecution", "wfe-1", `{"phase":"Failed","failureDetails":{"reason":"TaskFailed","message":"exit 1"}}`))
	refused(status("bob", "workflowexecution", "wfe-1", `{"blockClearance":{"clearReason":"a a a a a a","clearedBy":"bob"}}`), "10 characters")
	must(status("bob", "workflowexecution", "wfe-1", `{"blockClearance":{"clearReason":"the cluster was verified","clearedBy":"bob"}}`))
	refused(status("mallory", "workflowexecution", "wfe-1", `{"blockClearance":null}`), "cleared before")
	must(status(orchestrator, "remediationrequest", "rr-1", `{"overallPhase":"Executing","timeoutConfig":{"global":"1h"}}`))
	must(status("jane", "remediationrequest", "rr-1", `{"timeoutConfig":{"global":"4h"}}`))
	create(orchestrator, "NotificationRequest", "nr-1", "{type: Escalation, priority: high, remediationRequestRef: {name: rr-1}}")
	b.k.Kubectl("bob", "delete", "notificationrequest", "nr-1", "-n", "production")
	create("jane", "RemediationWorkflow", "wf-1", "{version: 1.0.0, actionType: Scale}")
	must(status(orchestrator, "remediationworkflow", "wf-1", `{"catalogStatus":"Active"}`))
	must(status(orchestrator, "remediationworkflow", "wf-1", `{"catalogStatus":"Disabled"}`))
	b.k.Kubectl("bob", "delete", "remediationworkflow", "wf-1", "-n", "production")
	for _, test := range []struct {
		eventType, detail string
		want              []string // of admission: by whom, and a detail
	}{
		{"webhook.remediationapprovalrequest.decided", "decision_message", []string{"jane it was tried in staging", "mallory too risky today"}},
		{"IdentityForged", "claimed", []string{"mallory bob"}},
		{"workflowexecution.block.cleared", "block_message", []string{"bob exit 1"}},
		{"webhook.remediationrequest.timeout_modified", "modified_by", []string{"jane jane"}},
		{"webhook.notification.cancelled", "priority", []string{"bob high"}},
		{"remediationworkflow.admitted.create", "version", []string{"jane 1.0.0"}},
		{"remediationworkflow.admitted.delete", "action", []string{"bob delete"}},
		{"RequestRefused", "policy", []string{"mallory kubernaut-approvals", "mallory kubernaut-approvals", "mallory kubernaut-approvals", "mallory kubernaut-approvals", "jane kubernaut-approvals", "bob kubernaut-blocks", "mallory kubernaut-blocks"}},
	} {
		b.sub(test.eventType, func(t *testing.T) {
			var got []string
			testenv.Eventually(t, fmt.Sprint(test.want), func() bool {
				got = nil
				for _, e := range b.server.events(url.Values{"type": {test.eventType}}) {
					var d map[string]any
					if err := decode(e, &d); err != nil {
						t.Fatal(err)
					}
					if e.Recorded.Attribution == event.AttributionAdmission {
						got = append(got, fmt.Sprintf("%s %v", e.Actor.Name, d[test.detail]))
					}
				}
				slices.Reverse(got)
				return len(got) >= len(test.want)
			})
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
	b.sub("and what was done is confirmed", func(t *testing.T) {
		confirmed := map[string]int{}
		testenv.Eventually(t, "what was done is confirmed", func() bool {
			clear(confirmed)
			for _, e := range b.server.events(url.Values{"type": {"IntentConfirmed"}}) {
				confirmed[details(t, e)["eventType"]]++
			}
			return confirmed["webhook.remediationapprovalrequest.decided"] == 2 && confirmed["workflowexecution.block.cleared"] == 1 && confirmed["webhook.remediationrequest.timeout_modified"] == 1 &&
				confirmed["webhook.notification.cancelled"] == 1 && confirmed["remediationworkflow.admitted.create"] == 1 && confirmed["remediationworkflow.admitted.delete"] == 1
		})
		actions := map[string]bool{}
		for _, e := range b.server.events(url.Values{"type": {"remediationworkflow.admitted.create,remediationworkflow.admitted.update,remediationworkflow.admitted.delete"}}) {
			var d map[string]any
			if err := decode(e, &d); err != nil {
				t.Fatal(err)
			}
			if e.Recorded.Attribution == event.AttributionObserved { // the catalogue's word
				actions[fmt.Sprint(d["action"])] = true
			}
		}
		for _, action := range []string{"create", "register", "disable", "delete"} {
			if !actions[action] {
				t.Errorf("the catalogue does not tell of %s: %v", action, actions)
			}
		}
	})
}
