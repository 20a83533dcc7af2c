package charts_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	helmkube "helm.sh/helm/v4/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/charts"
	"github.com/graven-audit/graven/internal/testenv"
)

// cluster starts a Kubernetes that knows the kinds of others, too.
func cluster(t *testing.T) *testenv.Kube {
	t.Helper()
	k := testenv.StartKube(t, testenv.KubeOptions{Controllers: []string{"namespace-controller"}})
	text, err := os.ReadFile("testdata/definitions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	k.Apply(testenv.KubeAdmin, string(text))
	k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	return k
}

// A helm is Helm in a cluster, for one release.
type helm struct {
	t               *testing.T
	k               *testenv.Kube
	name, namespace string
	force           bool // take what somebody else has changed
}

// in is the same in a test within.
func (h *helm) in(t *testing.T) *helm {
	return &helm{t: t, k: h.k, name: h.name, namespace: h.namespace}
}

func (h *helm) config() *action.Configuration {
	h.t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	kubeconfig := h.k.Kubeconfig(testenv.KubeAdmin)
	flags.KubeConfig, flags.Namespace = &kubeconfig, &h.namespace
	cfg := action.NewConfiguration()
	if err := cfg.Init(flags, h.namespace, "secret"); err != nil {
		h.t.Fatal(err)
	}
	return cfg
}

// install installs the chart, but for hooks: nothing runs pods here.
func (h *helm) install(text string) error {
	h.t.Helper()
	chart, err := loader.Load(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	i := action.NewInstall(h.config())
	i.ReleaseName, i.Namespace, i.CreateNamespace = h.name, h.namespace, true
	i.DisableHooks, i.WaitStrategy = true, helmkube.HookOnlyStrategy
	_, err = i.RunWithContext(context.Background(), chart, values(h.t, text))
	return err
}

func (h *helm) upgrade(text string) {
	h.t.Helper()
	chart, err := loader.Load(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	u := action.NewUpgrade(h.config())
	u.Namespace, u.ResetValues, u.ForceConflicts = h.namespace, true, h.force
	u.DisableHooks, u.WaitStrategy = true, helmkube.HookOnlyStrategy
	if _, err := u.RunWithContext(context.Background(), h.name, chart, values(h.t, text)); err != nil {
		h.t.Fatalf("upgrade: %v\nto %s", err, text)
	}
}

func (h *helm) uninstall() {
	h.t.Helper()
	u := action.NewUninstall(h.config())
	u.DisableHooks, u.WaitStrategy = true, helmkube.HookOnlyStrategy
	if _, err := u.Run(h.name); err != nil {
		h.t.Fatal(err)
	}
}

// stands demands that all objects of a rendering are in the cluster as rendered.
func (h *helm) stands(text string) {
	h.t.Helper()
	r, err := charts.Render(charts.Release{Dir: dir, Name: h.name, Namespace: h.namespace, KubeVersion: "v1.36.3", Values: values(h.t, text)})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, want := range r.Objects {
		got := h.get(resource(want), want.GetNamespace(), want.GetName())
		if got == nil {
			h.t.Errorf("there is no %s %s/%s", want.GetKind(), want.GetNamespace(), want.GetName())
			continue
		}
		if want.Object["spec"] != nil {
			lacks(h.t, want.GetKind()+" "+want.GetName(), want.Object["spec"], got.Object["spec"])
		}
	}
}

// resource returns what kubectl calls an object's kind.
func resource(o *unstructured.Unstructured) string {
	gvk := o.GroupVersionKind()
	return gvk.Kind + "." + gvk.Version + "." + gvk.Group
}

// get returns an object, or nil.
func (h *helm) get(kind, namespace, name string) *unstructured.Unstructured {
	h.t.Helper()
	args := []string{"get", kind, name, "-o", "json"}
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	out, err := h.k.TryKubectl(testenv.KubeAdmin, nil, args...)
	if err != nil {
		if !strings.Contains(out, "NotFound") {
			h.t.Fatalf("get %s %s: %s", kind, name, out)
		}
		return nil
	}
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(out), &o.Object); err != nil {
		h.t.Fatal(err)
	}
	return o
}

// lacks tells which of what was wanted is not there; the API server may have added
// defaults.
func lacks(t *testing.T, at string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok && len(want) > 0 {
			t.Errorf("%s is not there", at)
			return
		}
		for name, v := range want {
			lacks(t, at+"."+name, v, m[name])
		}
	case []any:
		list, ok := got.([]any)
		if !ok && len(want) > 0 || len(list) != len(want) {
			t.Errorf("%s is %v, want %v", at, got, want)
			return
		}
		for i, v := range want {
			lacks(t, fmt.Sprintf("%s[%d]", at, i), v, list[i])
		}
	default:
		if w, g := fmt.Sprint(want), fmt.Sprint(got); w != g && !quantity(at) {
			t.Errorf("%s is %s, want %s", at, g, w)
		}
	}
}

// quantity tells of a place where the API server spells numbers its own way.
func quantity(at string) bool { return strings.Contains(at, ".resources.") }

func TestTheChartInACluster(t *testing.T) {
	k := cluster(t)
	h := &helm{t: t, k: k, name: "graven", namespace: "graven-system"}
	if err := h.install(""); err != nil {
		t.Fatal(err)
	}
	h.stands("")
	t.Run("the definition takes the AuditEvents that are documented", func(t *testing.T) { auditEventsAreTaken(t, k) })
	t.Run("restricted namespaces let in the pods", func(t *testing.T) { restrictedNamespacesLetInThePods(t, k) })
	t.Run("the certificate outlives upgrades", func(t *testing.T) { theCertificateOutlivesUpgrades(t, h) })
	for _, name := range []string{"the embedded store", "PostgreSQL", "PostgreSQL with a spool", "PostgreSQL"} {
		t.Run("upgraded to everything with "+name, func(t *testing.T) {
			h := h.in(t)
			h.upgrade(everything[name])
			h.stands(everything[name])
		})
	}
	t.Run("and back", func(t *testing.T) {
		h := h.in(t)
		h.upgrade("")
		h.stands("")
		for _, gone := range []string{"networkpolicies", "poddisruptionbudgets", "prometheusrules", "servicemonitors", "httproutes", "ingresses", "deployments/graven-server"} {
			if out := k.Kubectl(testenv.KubeAdmin, "get", gone, "-n", h.namespace, "--ignore-not-found"); strings.Contains(out, "graven") {
				t.Errorf("%s stay: %s", gone, out)
			}
		}
	})
	t.Run("uninstalled, what was recorded stays", func(t *testing.T) {
		h := h.in(t)
		h.uninstall()
		for _, kept := range []string{"crd/auditevents.platform.chatcli.io", "namespace/chatcli-system", "auditevent/seen"} {
			if out, err := k.TryKubectl(testenv.KubeAdmin, nil, "get", kept, "-n", "chatcli-system"); err != nil {
				t.Errorf("%s: %s", kept, out)
			}
		}
		for _, gone := range []string{"validatingadmissionpolicies", "mutatingadmissionpolicies", "clusterroles", "clusterrolebindings"} {
			if out := k.Kubectl(testenv.KubeAdmin, "get", gone, "-l", "app.kubernetes.io/part-of=graven", "-o", "name"); out != "" {
				t.Errorf("%s stay: %s", gone, out)
			}
		}
	})
	t.Run("installed again, it takes what stayed", func(t *testing.T) {
		h := h.in(t)
		if err := h.install(""); err != nil {
			t.Fatal(err)
		}
		h.stands("")
		h.uninstall()
	})
}

// event is an AuditEvent.
const event = `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent","metadata":{"name":"seen","namespace":"chatcli-system"},
"spec":{"eventType":"IssueCreated","timestamp":"2026-01-01T00:00:00Z","actor":{"type":"user","name":"x"},"resource":{"kind":"Issue"}}}`

func auditEventsAreTaken(t *testing.T, k *testenv.Kube) {
	// Policies count a moment after they were applied.
	testenv.Eventually(t, "AuditEvents are stamped", func() bool {
		out, err := k.TryKubectl(testenv.KubeAdmin, []byte(event), "create", "--dry-run=server", "-o", "json", "-f", "-")
		return err == nil && strings.Contains(out, `"graven.dev/created-by": "admin"`)
	})
	k.Apply(testenv.KubeAdmin, event)
	if out, err := k.TryKubectl(testenv.KubeAdmin, nil, "delete", "auditevent", "seen", "-n", "chatcli-system"); err == nil || !strings.Contains(out, "by the operator and by retention only") {
		t.Errorf("deleted by an administrator: %v %s", err, out)
	}
	// The service account that the chart makes has the rights, and the policies know it.
	operator := []string{"--as", "system:serviceaccount:graven-system:graven-operator", "-n", "chatcli-system"}
	for _, tt := range []struct {
		args string
		can  bool
	}{
		{"auth can-i patch auditevents.platform.chatcli.io", true},
		{"auth can-i get validatingadmissionpolicies.admissionregistration.k8s.io", true},
		{"auth can-i create auditevents.platform.chatcli.io --subresource=attestations", true},
		{"auth can-i create auditevents.platform.chatcli.io --subresource=erasures", false},
		{"auth can-i delete clusterrolebindings.rbac.authorization.k8s.io", false},
		{"auth can-i update auditevents.platform.chatcli.io", false},
		{"auth can-i get secrets", false},
		{"annotate auditevent seen graven.dev/index=1 graven.dev/leaf-hash=ab graven.dev/origin=graven", true},
	} {
		out, err := k.TryKubectl(testenv.KubeAdmin, nil, append(strings.Fields(tt.args), operator...)...)
		if (err == nil) != tt.can {
			t.Errorf("kubectl %s: %v %s", tt.args, err, out)
		}
	}
	server := []string{"--as", "system:serviceaccount:graven-system:graven-server"}
	for args, can := range map[string]bool{"create tokenreviews.authentication.k8s.io": true, "create subjectaccessreviews.authorization.k8s.io": true,
		"list namespaces": true, "list auditevents.platform.chatcli.io": false} {
		if out, err := k.TryKubectl(testenv.KubeAdmin, nil, append(append([]string{"auth", "can-i"}, strings.Fields(args)...), server...)...); (err == nil) != can {
			t.Errorf("the server: can-i %s: %s", args, out)
		}
	}
}

func restrictedNamespacesLetInThePods(t *testing.T, k *testenv.Kube) {
	k.Kubectl(testenv.KubeAdmin, "label", "namespace", "graven-system", "pod-security.kubernetes.io/enforce=restricted")
	r := render(t, "")
	for _, o := range slices.Concat(r.Objects, r.Hooks) {
		pod, spec := podOf(t, o)
		if spec == nil {
			continue
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data"}) // as the StatefulSet's controller does
		if pod.Spec.ServiceAccountName == "" {
			pod.Spec.ServiceAccountName = "graven-server" // nobody makes the namespace's default here
		}
		text, err := json.Marshal(corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Namespace: "graven-system", Labels: pod.Labels}, Spec: pod.Spec})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := k.TryKubectl(testenv.KubeAdmin, text, "create", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
			t.Errorf("%s: %s", o.GetName(), out)
		}
	}
	bad := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"bad","namespace":"graven-system"},"spec":{"serviceAccountName":"graven-server","containers":[{"name":"x","image":"x"}]}}`
	if out, err := k.TryKubectl(testenv.KubeAdmin, []byte(bad), "create", "--dry-run=server", "-f", "-"); err == nil || !strings.Contains(out, "restricted") {
		t.Errorf("one that is not restricted is let in: %s", out)
	}
}

// certificate returns the server's certificate and who signed it.
func (h *helm) certificate() (server, ca *x509.Certificate) {
	h.t.Helper()
	secret := func(name, key string) []byte {
		var s struct{ Data map[string][]byte }
		text, err := json.Marshal(h.get("secret", h.namespace, name).Object)
		if err == nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil || len(s.Data[key]) == 0 {
			h.t.Fatalf("%s has no %s: %v", name, key, err)
		}
		return s.Data[key]
	}
	pair, err := tls.X509KeyPair(secret("graven-server-tls", "tls.crt"), secret("graven-server-tls", "tls.key"))
	if err != nil {
		h.t.Fatal(err)
	}
	signer, err := tls.X509KeyPair(secret("graven-server-tls-ca", "ca.crt"), secret("graven-server-tls-ca", "ca.key"))
	if err != nil {
		h.t.Fatal(err)
	}
	if string(secret("graven-server-tls-ca", "ca.crt")) != string(secret("graven-server-tls", "ca.crt")) {
		h.t.Error("the CA beside the certificate is another")
	}
	return pair.Leaf, signer.Leaf
}

func theCertificateOutlivesUpgrades(t *testing.T, h *helm) {
	h = h.in(t)
	good := func(server, ca *x509.Certificate, names ...string) {
		t.Helper()
		pool := x509.NewCertPool()
		pool.AddCert(ca)
		for _, name := range append(names, "graven-server", "graven-server.graven-system.svc", "graven-server.graven-system.svc.cluster.local", "localhost", "127.0.0.1") {
			if _, err := server.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	first, ca := h.certificate()
	good(first, ca)
	h.upgrade("operator: {replicas: 2}")
	if second, sameCA := h.certificate(); !second.Equal(first) || !sameCA.Equal(ca) {
		t.Error("an upgrade makes another certificate")
	}
	h.upgrade("tls: {extraNames: [graven.example.com]}")
	third, sameCA := h.certificate()
	good(third, sameCA, "graven.example.com")
	if !sameCA.Equal(ca) {
		t.Error("another name makes another CA")
	}
	// One that has grown old is made anew.
	h.k.Kubectl(testenv.KubeAdmin, "annotate", "secret", "graven-server-tls", "-n", h.namespace, "graven.dev/made=1", "--overwrite")
	h.force = true
	h.upgrade("tls: {extraNames: [graven.example.com]}")
	fourth, sameCA := h.certificate()
	good(fourth, sameCA, "graven.example.com")
	if fourth.Equal(third) || !sameCA.Equal(ca) {
		t.Error("an old certificate stays, or has another CA")
	}
}

func TestWhatIsSomebodyElsesStaysTheirs(t *testing.T) {
	k := cluster(t)
	k.Kubectl(testenv.KubeAdmin, "create", "namespace", "chatcli-system")
	theirs, err := os.ReadFile("../config/crd/platform.chatcli.io_auditevents.yaml")
	if err != nil {
		t.Fatal(err)
	}
	k.Apply(testenv.KubeAdmin, string(theirs))
	h := &helm{t: t, k: k, name: "audit", namespace: "prod"}
	if err := h.install(""); err == nil || !strings.Contains(err.Error(), "auditevents.platform.chatcli.io") {
		t.Errorf("ChatCLI's definition is taken over: %v", err)
	}
	h.name = "audit2" // Helm remembers what failed
	if err := h.install("crds: {install: false}"); err != nil {
		t.Fatal(err)
	}
	h.uninstall()
	for _, kept := range []string{"crd/auditevents.platform.chatcli.io", "namespace/chatcli-system"} {
		if o := h.get(strings.Split(kept, "/")[0], "", strings.Split(kept, "/")[1]); o == nil || o.GetLabels()["app.kubernetes.io/managed-by"] == "Helm" {
			t.Errorf("%s was taken over, or is gone", kept)
		}
	}
}

// build builds a kustomization of config with components.
func build(t *testing.T, components ...string) []*unstructured.Unstructured {
	t.Helper()
	config, err := filepath.Abs("../config")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	to, err := filepath.Rel(root, config)
	if err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + to + "/default]\ncomponents:\n"
	for _, c := range components {
		text += "- " + to + "/components/" + c + "\n"
	}
	if err := os.WriteFile(filepath.Join(root, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), root)
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := charts.Objects(string(manifests))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestTheKustomizationHasTheObjectsOfTheChart(t *testing.T) {
	bare := func(objects []*unstructured.Unstructured) map[string]string {
		out := map[string]string{}
		for _, o := range objects {
			if o.GetKind() == "Secret" || o.GetKind() == "Namespace" {
				continue // the chart's certificate; and each makes its own namespace
			}
			o = o.DeepCopy()
			o.SetLabels(nil)
			o.SetAnnotations(nil)
			for _, in := range []string{"labels", "annotations"} {
				unstructured.RemoveNestedField(o.Object, "spec", "template", "metadata", in)
			}
			text, err := yaml.Marshal(o.Object)
			if err != nil {
				t.Fatal(err)
			}
			// Kustomize breaks long lines of CEL in other places.
			out[o.GetKind()+" "+o.GetName()] = strings.Join(strings.Fields(string(text)), " ")
		}
		return out
	}
	want, got := bare(render(t, "").Objects), bare(build(t, "stamp"))
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: the chart has\n%s\nconfig/default has\n%s", name, text, got[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("config/default has %s beside what the chart has", name)
		}
	}
}

func TestTheKustomizationsInACluster(t *testing.T) {
	k := cluster(t)
	h := &helm{t: t, k: k, name: "graven", namespace: "graven-system"}
	for _, components := range [][]string{
		{"stamp"},
		{"stamp", "cert-manager", "network-policy", "prometheus", "chatcli-superadmin"},
	} {
		objects := build(t, components...)
		var text strings.Builder
		for _, o := range objects {
			out, err := yaml.Marshal(o.Object)
			if err != nil {
				t.Fatal(err)
			}
			text.WriteString("---\n" + string(out))
		}
		testenv.Eventually(t, "all is applied", func() bool { // a definition counts a moment after it was applied
			out, err := k.TryKubectl(testenv.KubeAdmin, []byte(text.String()), "apply", "--server-side", "--validate=strict", "-f", "-")
			if err != nil && !strings.Contains(out, "no matches for kind") {
				t.Fatalf("%v: %s", err, out)
			}
			return err == nil
		})
		for _, o := range objects {
			if h.get(resource(o), o.GetNamespace(), o.GetName()) == nil {
				t.Errorf("there is no %s %s", o.GetKind(), o.GetName())
			}
		}
	}
	if out := k.Kubectl(testenv.KubeAdmin, "get", "clusterrolebinding", "graven-retention", "-o", "jsonpath={.subjects[*].name}"); out != "graven-retention chatcli-superadmin" {
		t.Errorf("retention is %s", out)
	}
}
