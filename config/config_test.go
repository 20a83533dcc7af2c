package config_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/internal/testenv"
)

const (
	operator   = "system:serviceaccount:graven-system:graven-operator"
	retention  = "system:serviceaccount:graven-system:graven-retention"
	superadmin = "system:serviceaccount:chatcli-system:chatcli-superadmin"
)

// seed is the AuditEvent that seed 000 shows.
const seed = `apiVersion: platform.chatcli.io/v1alpha1
kind: AuditEvent
metadata:
  name: audit-1710856200-a7f3b2
  namespace: chatcli-system
  labels:
    platform.chatcli.io/event-type: RemediationExecuted
    platform.chatcli.io/severity: high
    platform.chatcli.io/correlation-id: inc-8f2a4b
  annotations:
    platform.chatcli.io/immutable: "true"
spec:
  # Event type
  eventType: RemediationExecuted

  # Precise timestamp
  timestamp: "2026-03-19T14:30:00.123Z"

  # Who performed the action
  actor:
    type: controller         # system | user | controller
    name: remediation-reconciler
    serviceAccount: chatcli-operator

  # Affected resource
  resource:
    apiVersion: platform.chatcli.io/v1alpha1
    kind: RemediationPlan
    name: plan-rollback-api-server
    namespace: production

  # Event-specific details
  details:
    action: Rollback
    target: deployment/api-server
    fromRevision: "6"
    toRevision: "5"
    confidence: "0.92"
    decisionMode: auto-notify
    duration: "12s"
    result: success

  # Correlation ID to group related events
  correlationID: inc-8f2a4b

  # Event severity
  severity: high
`

// written is an AuditEvent as ChatCLI's own code writes it.
const written = `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent",
"metadata":{"name":"audit-1795279749741975573-sns3h5","namespace":"chatcli-system",
 "labels":{"platform.chatcli.io/event-type":"issue_escalated","platform.chatcli.io/severity":"warning"},
 "annotations":{"platform.chatcli.io/immutable":"true"}},
"spec":{"eventType":"issue_escalated","timestamp":"2026-11-21T14:09:09Z",
 "actor":{"type":"controller","name":"IssueReconciler","controller":"issue-controller"},
 "resource":{"kind":"Issue","name":"api-oom-kill-1795279749","namespace":"production","uid":"0b7e…"},
 "details":{"severity":"high","attempts":"3"},"correlationId":"api-oom-kill-1795279749","severity":"warning"}}`

// sealed is the seed's as the operator would mirror it, with its receipt.
func sealed(name string) string {
	return strings.NewReplacer("audit-1710856200-a7f3b2", name, `platform.chatcli.io/immutable: "true"`,
		"platform.chatcli.io/immutable: \"true\"\n    graven.dev/index: \"7\"\n    graven.dev/leaf-hash: abc\n    graven.dev/origin: graven").Replace(seed)
}

// in puts a manifest into another namespace.
func in(namespace, manifest string) string {
	return strings.Replace(manifest, "namespace: chatcli-system", "namespace: "+namespace, 1)
}

// TestTheManifestsInACluster has them applied to a real API server.
func TestTheManifestsInACluster(t *testing.T) {
	k := cluster(t)
	t.Run("the documented AuditEvent is read back whole", func(t *testing.T) { theDocumentedAuditEventIsReadBackWhole(t, k) })
	t.Run("the commands that are documented answer", func(t *testing.T) { theCommandsThatAreDocumentedAnswer(t, k) })
	t.Run("an AuditEvent is not changed and deleted only as it may", func(t *testing.T) { anAuditEventIsNotChangedAndDeletedOnlyAsItMay(t, k) })
	t.Run("an AuditEvent that is not one is refused by field", func(t *testing.T) { anAuditEventThatIsNotOneIsRefusedByField(t, k) })
	t.Run("whatever bears the annotation is protected", func(t *testing.T) { whateverBearsTheAnnotationIsProtected(t, k) })
}

// cluster starts a Kubernetes with all manifests in it.
func cluster(t *testing.T) *testenv.Kube {
	t.Helper()
	k := testenv.StartKube(t, testenv.KubeOptions{Controllers: []string{"namespace-controller", "garbage-collector-controller"}})
	for _, dir := range []fs.FS{config.CRDs, config.Policies} {
		err := fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := fs.ReadFile(dir, path)
			if err == nil {
				k.Apply(testenv.KubeAdmin, string(text))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	for _, ns := range []string{"chatcli-system", "changes", "retired", "protected"} {
		k.Kubectl(testenv.KubeAdmin, "create", "namespace", ns)
	}
	// Policies count a moment after they were applied: when a creator is stamped
	// and a forged stamp refused, all of them do.
	waitForPolicies(t, k)
	return k
}

func theDocumentedAuditEventIsReadBackWhole(t *testing.T, k *testenv.Kube) {
	for name, text := range map[string]string{"audit-1710856200-a7f3b2": seed, "audit-1795279749741975573-sns3h5": written} {
		if out, err := k.TryKubectl(testenv.KubeAdmin, []byte(text), "apply", "-f", "-"); err != nil {
			t.Fatal(out)
		}
		var want, got struct {
			Metadata struct{ Labels, Annotations map[string]string }
			Spec     any
		}
		asJSON(t, k, text, &want)
		if err := json.Unmarshal([]byte(k.Kubectl(testenv.KubeAdmin, "get", "auditevent", name, "-n", "chatcli-system", "-o", "json")), &got); err != nil {
			t.Fatal(err)
		}
		if w, g := mustJSON(t, want.Spec), mustJSON(t, got.Spec); w != g {
			t.Errorf("applied\n%s\nread\n%s", w, g)
		}
		if w, g := mustJSON(t, want.Metadata.Labels), mustJSON(t, got.Metadata.Labels); w != g {
			t.Errorf("labels %s, applied %s", g, w)
		}
		for k, v := range want.Metadata.Annotations {
			if got.Metadata.Annotations[k] != v {
				t.Errorf("annotation %s is %q", k, got.Metadata.Annotations[k])
			}
		}
		if got.Metadata.Annotations["graven.dev/created-by"] != testenv.KubeAdmin {
			t.Errorf("annotations %v", got.Metadata.Annotations)
		}
	}
}

func anAuditEventIsNotChangedAndDeletedOnlyAsItMay(t *testing.T, k *testenv.Kube) {
	as := func(user string) []string { return []string{"--as", user, "--as-group", "system:masters"} }
	run := func(user string, in string, args ...string) (string, error) {
		return k.TryKubectl(testenv.KubeAdmin, []byte(in), append(args, as(user)...)...)
	}
	const name = "audit-1710856200-a7f3b2"
	seed, sealed := in("changes", seed), func(name string) string { return in("changes", sealed(name)) }
	if out, err := run("jane", seed, "create", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	if out, err := run(operator, sealed("audit-1710856300-f2b8a6"), "create", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	refused := func(user, want string, in string, args ...string) {
		t.Helper()
		out, err := run(user, in, append(args, "-n", "changes")...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: kubectl %s: %v: %s\nwant: %s", user, strings.Join(args, " "), err, out, want)
		}
	}
	allowed := func(user string, args ...string) {
		t.Helper()
		if out, err := run(user, "", append(args, "-n", "changes")...); err != nil {
			t.Errorf("%s: kubectl %s: %s", user, strings.Join(args, " "), out)
		}
	}
	const unchangeable = "cannot be changed once it is created"
	for _, user := range []string{"jane", testenv.KubeAdmin, operator, superadmin} {
		refused(user, unchangeable, "", "patch", "ae", name, "--type=merge", "-p", `{"spec":{"severity":"low"}}`)
		refused(user, unchangeable, "", "patch", "ae", name, "--type=merge", "-p", `{"spec":{"details":{"more":"x"}}}`)
		refused(user, unchangeable, "", "label", "ae", name, "platform.chatcli.io/severity=low", "--overwrite")
		refused(user, unchangeable, "", "label", "ae", name, "more=x")
		refused(user, unchangeable, "", "annotate", "ae", name, "graven.dev/created-by=john", "--overwrite")
		refused(user, unchangeable, "", "annotate", "ae", name, "platform.chatcli.io/immutable-")
		refused(user, unchangeable, "", "patch", "ae", name, "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/mine"]}}`)
		refused(user, unchangeable, "", "patch", "ae", name, "--type=merge", "-p",
			`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"0"}]}}`)
	}
	refused("jane", unchangeable, "", "annotate", "ae", name, "graven.dev/index=3")
	forged := strings.Replace(strings.Replace(seed, name, "audit-1710856303-f2b8a7", 1), "  annotations:", "  annotations:\n    graven.dev/created-by: john\n    graven.dev/created-by-groups: x", 1)
	if out, err := run("jane", forged, "create", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	if out := k.Kubectl(testenv.KubeAdmin, "get", "ae", "audit-1710856303-f2b8a7", "-n", "changes", "-o", "json"); !strings.Contains(out, `"graven.dev/created-by": "jane"`) ||
		!strings.Contains(out, `"graven.dev/created-by-groups": "[\"system:masters\",\"system:authenticated\"]"`) {
		t.Errorf("another creator was claimed: %s", out)
	}
	refused("jane", "only the operator gives", sealed("audit-1710856301-f2b8a7"), "create", "-f", "-")
	refused("jane", "has no finalizers", strings.Replace(strings.Replace(seed, name, "audit-1710856304-f2b8a7", 1), "  annotations:",
		"  finalizers: [example.com/mine]\n  annotations:", 1), "create", "-f", "-")
	refused("jane", "has no owner", strings.Replace(strings.Replace(seed, name, "audit-1710856302-f2b8a7", 1), "  annotations:",
		"  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: x, uid: \"0\"}]\n  annotations:", 1), "create", "-f", "-")

	// It is deleted with a receipt, by whom it may.
	if out, err := run(operator, strings.NewReplacer("a7f3b2", "empty1", `index: "7"`, `index: ""`).Replace(sealed(name)), "create", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	refused(superadmin, "before it is sealed", "", "delete", "ae", "audit-1710856200-empty1")
	for _, user := range []string{operator, retention, superadmin} {
		refused(user, "before it is sealed", "", "delete", "ae", name)
	}
	for _, user := range []string{"jane", testenv.KubeAdmin} {
		refused(user, "by the operator and by retention only", "", "delete", "ae", name)
		refused(user, "by the operator and by retention only", "", "delete", "ae", "audit-1710856300-f2b8a6")
		refused(user, "by the operator and by retention only", "", "delete", "ae", "--all")
	}
	allowed(operator, "annotate", "ae", name, "graven.dev/index=8", "graven.dev/leaf-hash=def", "graven.dev/origin=graven")
	refused(operator, unchangeable, "", "annotate", "ae", name, "graven.dev/index=9", "--overwrite")
	allowed(superadmin, "delete", "ae", name)
	allowed(retention, "delete", "ae", "audit-1710856300-f2b8a6")

	// A namespace that ends takes its own along.
	if out, err := run("jane", strings.ReplaceAll(seed, "changes", "retired"), "create", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	allowed(testenv.KubeAdmin, "delete", "namespace", "retired", "--timeout=60s")
}

func anAuditEventThatIsNotOneIsRefusedByField(t *testing.T, k *testenv.Kube) {
	many := ""
	for i := range 8 {
		many += fmt.Sprintf("\n    x%d: %s", i, strings.Repeat("x", 60_000))
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"no actor", "name: remediation-reconciler", "", "spec.actor.name: Required value"},
		{"an unknown severity", "severity: high\n", "severity: grave\n", "spec.severity: Unsupported value"},
		{"an unknown type of actor", "type: controller ", "type: robot ", "spec.actor.type: Unsupported value"},
		{"a time that is none", "2026-03-19T14:30:00.123Z", "yesterday", "spec.timestamp"},
		{"a time with an offset that there is not", "2026-03-19T14:30:00.123Z", "2026-03-19T14:30:00+25:00", "spec.timestamp"},
		{"a type that is no word", "eventType: RemediationExecuted", "eventType: <b>", "spec.eventType"},
		{"details that are no text", `confidence: "0.92"`, "confidence: 0.92", "spec.details.confidence"},
		{"both spellings of an incident", "correlationID: inc-8f2a4b", "correlationID: a\n  correlationId: b", "give one"},
		{"a member that is none", "severity: high\n", "severity: high\n  severty: low\n", `unknown field "spec.severty"`},
		{"details of half a megabyte", "result: success", "result: success" + many, "240 KiB"},
		{"a detail of a megabyte", "result: success", "result: " + strings.Repeat("x", 1<<20), "spec.details.result: Too long"},
	} {
		i := strings.LastIndex(seed, c.old)
		if i < 0 {
			t.Fatal(c.name)
		}
		out, err := k.TryKubectl(testenv.KubeAdmin, []byte(seed[:i]+c.new+seed[i+len(c.old):]), "create", "--validate=strict", "-f", "-")
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v: %.400s", c.name, err, out)
		}
	}
}

func whateverBearsTheAnnotationIsProtected(t *testing.T, k *testenv.Kube) {
	try := func(args ...string) (string, error) {
		return k.TryKubectl(testenv.KubeAdmin, nil, append(args, "-n", "protected")...)
	}
	must := func(args ...string) {
		t.Helper()
		if out, err := try(args...); err != nil {
			t.Fatalf("kubectl %s: %s", strings.Join(args, " "), out)
		}
	}
	must("create", "configmap", "free", "--from-literal=a=b")
	must("create", "configmap", "kept", "--from-literal=a=b")
	must("annotate", "configmap", "kept", "platform.chatcli.io/immutable=true")
	must("create", "service", "loadbalancer", "kept", "--tcp=80")
	must("annotate", "service", "kept", "platform.chatcli.io/immutable=true")
	must("patch", "service", "kept", "--subresource=status", "--type=merge", "-p", `{"metadata":{"annotations":{"example.com/seen":"1"}}}`)
	must("patch", "service", "kept", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"hostname":"example.com"}]}}}`)
	for _, args := range [][]string{
		{"patch", "configmap", "kept", "--type=merge", "-p", `{"data":{"a":"c"}}`},
		{"patch", "configmap", "kept", "--type=merge", "-p", `{"data":null}`},
		{"patch", "configmap", "kept", "--type=merge", "-p", `{"binaryData":{"x":"eA=="}}`},
		{"label", "configmap", "kept", "x=y"},
		{"annotate", "configmap", "kept", "platform.chatcli.io/immutable-"},
		{"patch", "configmap", "kept", "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/mine"]}}`},
		{"delete", "configmap", "kept"},
		{"patch", "service", "kept", "--subresource=status", "--type=merge", "-p", `{"metadata":{"annotations":{"platform.chatcli.io/immutable":null}}}`},
		{"patch", "service", "kept", "--subresource=status", "--type=merge", "-p", `{"metadata":{"labels":{"x":"y"}}}`},
	} {
		if out, err := try(args...); err == nil || !strings.Contains(out, "bears the annotation") {
			t.Errorf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	must("patch", "configmap", "free", "--type=merge", "-p", `{"data":{"a":"c"}}`)
	must("delete", "configmap", "free")
	must("create", "deployment", "web", "--image=web", "--replicas=0")
	must("create", "configmap", "ours")
	for _, controller := range []struct{ apiVersion, kind, name string }{{"apps/v1", "Deployment", "web"}, {"v1", "ConfigMap", "ours"}} {
		uid := k.Kubectl(testenv.KubeAdmin, "get", controller.kind, controller.name, "-n", "protected", "-o", "jsonpath={.metadata.uid}")
		if out, err := k.TryKubectl(testenv.KubeAdmin, fmt.Appendf(nil, "{apiVersion: v1, kind: ConfigMap, metadata: {name: of-%s, namespace: protected, annotations: {platform.chatcli.io/immutable: 'true'}, "+
			"ownerReferences: [{apiVersion: %s, kind: %s, name: %[1]s, uid: %[4]s, controller: true}]}}", controller.name, controller.apiVersion, controller.kind, uid), "create", "-f", "-"); err != nil {
			t.Fatal(out)
		}
	}
	must("label", "configmap", "of-web", "x=y")
	if out, err := try("label", "configmap", "of-ours", "x=y"); err == nil || !strings.Contains(out, "bears the annotation") {
		t.Errorf("what another controller made is not protected: %s", out)
	}
	must("delete", "configmap", "kept", "--as", retention, "--as-group", "system:masters")

	must("create", "configmap", "kept", "--from-literal=a=b")
	must("annotate", "configmap", "kept", "platform.chatcli.io/immutable=true")
	must("delete", "namespace", "protected", "--timeout=60s")
}

func theCommandsThatAreDocumentedAnswer(t *testing.T, k *testenv.Kube) {
	for _, c := range []struct {
		args       string
		want, lack string
	}{
		{"get auditevents", "audit-1710856200-a7f3b2", ""},
		{"get ae", "remediation-reconciler", ""},
		{"get auditevents -l platform.chatcli.io/event-type=RemediationExecuted", "audit-1710856200-a7f3b2", "issue_escalated"},
		{"get auditevents -l platform.chatcli.io/severity=critical", "No resources found", "audit-"},
		{"get auditevents -l platform.chatcli.io/correlation-id=inc-8f2a4b --sort-by=.spec.timestamp", "audit-1710856200-a7f3b2", "sns3h5"},
		{"get auditevent audit-1710856200-a7f3b2 -o yaml", "decisionMode: auto-notify", ""},
		{"get auditevents --field-selector spec.severity=high,spec.actor.type=controller", "audit-1710856200-a7f3b2", "sns3h5"},
		{"get auditevents --field-selector spec.resource.kind=Issue", "sns3h5", "a7f3b2"},
		{"get audit", "audit-1710856200-a7f3b2", ""},
		{"explain auditevent.spec.timestamp", "When it happened (RFC 3339)", ""},
		{"explain auditevent.spec.actor", "system, controller, service or user", ""},
	} {
		out := k.Kubectl(testenv.KubeAdmin, append(strings.Fields(c.args), "-n", "chatcli-system")...)
		if !strings.Contains(out, c.want) || c.lack != "" && strings.Contains(out, c.lack) {
			t.Errorf("kubectl %s:\n%s", c.args, out)
		}
	}
}

// waitForPolicies waits until the policies count.
func waitForPolicies(t *testing.T, k *testenv.Kube) {
	t.Helper()
	const probe = `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent","metadata":{"name":"probe","namespace":"retired","annotations":{"graven.dev/index":"0"}},
"spec":{"eventType":"X","timestamp":"2026-01-01T00:00:00Z","actor":{"type":"user","name":"x"},"resource":{"kind":"X"}}}`
	testenv.Eventually(t, "the policies count", func() bool {
		out, err := k.TryKubectl(testenv.KubeAdmin, []byte(probe), "create", "--dry-run=server", "-f", "-")
		if err == nil || !strings.Contains(out, "only the operator gives") {
			return false
		}
		out, err = k.TryKubectl(testenv.KubeAdmin, []byte(strings.Replace(probe, "graven.dev/index", "x", 1)), "create", "--dry-run=server", "-o", "json", "-f", "-")
		return err == nil && strings.Contains(out, `"graven.dev/created-by": "admin"`)
	})
}

// asJSON decodes a manifest.
func asJSON(t *testing.T, k *testenv.Kube, manifest string, v any) {
	t.Helper()
	out, err := k.TryKubectl(testenv.KubeAdmin, []byte(manifest), "create", "--dry-run=client", "-o", "json", "-f", "-")
	if err == nil {
		err = json.Unmarshal([]byte(out), v)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
