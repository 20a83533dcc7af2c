package charts_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	helm3chart "helm.sh/helm/v3/pkg/chart/loader"
	helm3values "helm.sh/helm/v3/pkg/chartutil"
	helm3 "helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/charts"
	"github.com/graven-audit/graven/internal/app"
)

const dir = "graven"

// An option is values, and what they do to what is rendered.
type option struct {
	name, values string
	want         string // is rendered with it, and not without
	lacks        string // is rendered without it, and not with it
}

// options have every value of values.yaml as something else than its default.
var options = []option{
	{"another name", `nameOverride: audit`, "app.kubernetes.io/name: audit", "name: graven-server-tls\n"},
	{"a whole name", `fullnameOverride: ledger`, "name: ledger-server", "name: graven-server\n"},
	{"labels for all", `commonLabels: {team: platform}`, "team: platform", ""},
	{"another domain", `clusterDomain: k8s.example`, "graven.dev/names", ""},
	{"another image", `image: {repository: mirror/graven, tag: v9, pullPolicy: Always}`, "image: mirror/graven:v9\n        imagePullPolicy: Always", "graven-audit/graven:"},
	{"an image by its digest", `image: {digest: "sha256:` + strings.Repeat("ab", 32) + `"}`, "graven-audit/graven@sha256:abab", "graven-audit/graven:"},
	{"a registry with a password", `imagePullSecrets: [{name: registry}]`, "imagePullSecrets:\n      - name: registry", ""},
	{"namespaces that are there", `createNamespaces: false`, "", "kind: Namespace\n"},
	{"another disk", `store: {embedded: {size: 1Ti, storageClassName: fast}}`, "storageClassName: fast\n      resources:\n        requests:\n          storage: 1Ti", "10Gi"},
	{"PostgreSQL", `{store: {postgres: {existingSecret: db, urlKey: uri, keysSecret: keys}}, server: {replicas: 3}}`, `- --store=$(GRAVEN_STORE)`, "StatefulSet"},
	{"PostgreSQL that is migrated", `store: {postgres: {existingSecret: db, keysSecret: keys, migrate: {existingSecret: owner, urlKey: uri}}}`, "command: [graven, postgres, migrate, $(GRAVEN_OWNER)]", ""},
	{"a spool", `store: {postgres: {existingSecret: db, keysSecret: keys, spool: {enabled: true, size: 5Gi, storageClassName: fast, maxBytes: 4294967296}}}`, "maxBytes: 4294967296", ""},
	{"a stream", `store: {postgres: {existingSecret: db, keysSecret: keys, deadLetter: {url: "redis://redis:6379/0"}}}`, "deadLetter: redis://redis:6379/0", ""},
	{"a stream with a password", `store: {postgres: {existingSecret: db, keysSecret: keys, deadLetter: {existingSecret: redis, urlKey: uri}}}`, "- --dead-letter=$(GRAVEN_DEAD_LETTER)", ""},
	{"the server's configuration", `server: {config: {origin: audit.example.com/prod, maxMemory: 1073741824, retention: {every: 24h, policies: [{name: all, entryDays: 3650}]}}}`, "maxMemory: 1073741824", ""},
	{"the server's service account", `server: {serviceAccount: {name: ledger, annotations: {a: b}}}`, "serviceAccountName: ledger", "serviceAccountName: graven-server"},
	{"the server's Service", `server: {service: {type: LoadBalancer, port: 443, annotations: {c: d}}}`, "--server=https://graven-server.graven-system.svc:443", "type: ClusterIP"},
	{"the server's pods", `server: {resources: {requests: {cpu: "1", memory: 1Gi}, limits: {memory: 1Gi}}, terminationGracePeriodSeconds: 90, podLabels: {e: f}, podAnnotations: {g: h}}`, "terminationGracePeriodSeconds: 90", ""},
	{"the server's place", `server: {nodeSelector: {disk: ssd}, tolerations: [{operator: Exists}], affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}, topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}], priorityClassName: important}`,
		"nodeSelector:\n        disk: ssd\n      tolerations:\n      - operator: Exists\n      affinity:\n        nodeAffinity:\n          preferredDuringSchedulingIgnoredDuringExecution: []\n      topologySpreadConstraints:", ""},
	{"more for the server", `server: {extraEnv: [{name: PGSSLROOTCERT, value: /db/ca.crt}], extraVolumes: [{name: db, emptyDir: {}}], extraVolumeMounts: [{name: db, mountPath: /db}]}`, "name: PGSSLROOTCERT", ""},
	{"no TokenReview", `{kubernetes: {enabled: false}, operator: {tokenSecret: {name: token, key: secret}}}`, "--token-file=/var/run/secrets/graven/token", "system:auth-delegator"},
	{"an audience", `kubernetes: {audiences: [graven.example], cache: 5s}`, "audience: graven.example", ""},
	{"no TLS", `tls: {enabled: false}`, "--server=http://graven-server", "tlsCert"},
	{"a certificate of one's own", `tls: {existingSecret: mine}`, "secretName: mine", "kubernetes.io/tls"},
	{"cert-manager", `tls: {certManager: {issuerRef: {name: ca, kind: ClusterIssuer, group: cert-manager.io}, duration: 2160h, renewBefore: 360h}, extraNames: [graven.example.com]}`, "- graven.example.com", "genSignedCert"},
	{"no operator", `operator: {enabled: false}`, "", "graven-operator-metrics"},
	{"operators that stand by", `operator: {replicas: 2}`, "kind: PodDisruptionBudget", ""},
	{"another mirror", `operator: {mirror: {namespace: audit, types: [IssueCreated, IssueResolved], severities: [critical], newest: 50, for: 24h, rate: 5}}`,
		"- --mirror-namespace=audit\n        - --mirror-types=IssueCreated,IssueResolved\n        - --mirror-severities=critical\n        - --mirror-newest=50\n        - --mirror-for=24h\n        - --mirror-rate=5", ""},
	{"a mirror without a bound by age", `operator: {mirror: {for: 0}}`, "- --mirror-for=0\n", ""},
	{"roles that expire", `operator: {expireRoles: true, cluster: prod-eu}`, "- --expire-roles\n        - --cluster=prod-eu\n", ""},
	{"no webhook", `operator: {webhook: {enabled: false}}`, "", "webhook-address"},
	{"the webhook's port", `operator: {webhook: {port: 9444}}`, "containerPort: 9444", ""},
	{"the webhook's certificate by cert-manager", `operator: {webhook: {certManager: {issuerRef: {name: ca, kind: Issuer, group: cert-manager.io}}}}`, "--webhook-certificates=/etc/graven/webhook", ""},
	{"audit logs", `operator: {auditLog: {enabled: true, policy: "# ours\n", remediators: ["system:serviceaccount:aiops:*"], window: 10m, heartbeat: 30s}}`,
		"- --audit-log\n        - --audit-policy-file=/etc/graven/audit/policy.yaml\n        - --remediator=system:serviceaccount:aiops:*\n        - --audit-window=10m\n        - --audit-heartbeat=30s", ""},
	{"a spool that stays", `operator: {spool: {existingClaim: spool}}`, "claimName: spool", ""},
	{"the operator's service account", `operator: {serviceAccount: {name: sealer, annotations: {a: b}}}`, `"system:serviceaccount:graven-system:sealer"`, `"system:serviceaccount:graven-system:graven-operator"`},
	{"the operator's pods", `operator: {resources: {requests: {cpu: "1", memory: 1Gi}, limits: {memory: 1Gi}}, podLabels: {i: k}, podAnnotations: {l: m}, extraEnv: [{name: A, value: b}], extraVolumes: [{name: more, emptyDir: {}}], extraVolumeMounts: [{name: more, mountPath: /more}]}`, "mountPath: /more", ""},
	{"the operator's place", `operator: {nodeSelector: {disk: ssd}, tolerations: [{operator: Exists}], affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}, topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}], priorityClassName: important}`, "priorityClassName: important", ""},
	{"no definition", `crds: {install: false}`, "", "CustomResourceDefinition"},
	{"a definition that goes", `{crds: {keep: false}, createNamespaces: false}`, "", "helm.sh/resource-policy"},
	{"ChatCLI's definitions", `crds: {aiops: true}`, "name: remediationplans.platform.chatcli.io", ""},
	{"no policies", `policies: {enabled: false}`, "", "AdmissionPolicy"},
	{"no stamp", `policies: {stamp: false}`, "", "MutatingAdmissionPolicy"},
	{"AuditEvents only", `policies: {immutable: false}`, "", "name: graven-immutable"},
	{"no roles", `roles: {create: false}`, "", "chatcli-aiops-viewer"},
	{"retention's service account", `retention: {serviceAccount: {name: sweeper}}`, `"system:serviceaccount:graven-system:sweeper"`, "system:serviceaccount:graven-system:graven-retention"},
	{"ChatCLI elsewhere", `chatcli: {namespace: aiops, superadmin: {create: true}}`, "name: chatcli-superadmin\n  namespace: aiops", "system:serviceaccount:chatcli-system:"},
	{"ChatCLI's address", `chatcli: {compatibility: {enabled: true, anonymousRole: auditor, from: [{podSelector: {}}]}}`, "externalName: graven-server.graven-system.svc.cluster.local", ""},
	{"ChatCLI's address in the same namespace", `chatcli: {namespace: graven-system, compatibility: {enabled: true}}`, "- name: http\n    port: 8080\n    targetPort: plain", ""},
	{"ChatCLI's address without TLS", `{tls: {enabled: false}, chatcli: {compatibility: {enabled: true}}}`, "- name: plain\n    port: 8080\n    targetPort: api", "plainListen"},
	{"a network policy", `networkPolicy: {enabled: true, apiServerPorts: [16443], server: {from: [{namespaceSelector: {}}], egress: [{ports: [{port: 5432}]}]}, operator: {from: [{podSelector: {}}], egress: [{}]}}`, "- {port: 16443, protocol: TCP}", ""},
	{"an Ingress", `ingress: {enabled: true, className: nginx, annotations: {a: b}, hosts: [graven.example.com], tls: [{hosts: [graven.example.com], secretName: web}]}`, "ingressClassName: nginx", ""},
	{"an HTTPRoute", `httpRoute: {enabled: true, annotations: {a: b}, parentRefs: [{name: web}], hostnames: [graven.example.com]}`, "kind: HTTPRoute", ""},
	{"monitors", `serviceMonitor: {enabled: true, labels: {release: prometheus}, interval: 15s, tokenSecret: {name: metrics, key: secret}}`, "kind: ServiceMonitor", ""},
	{"alerts", `prometheusRule: {enabled: true, labels: {release: prometheus}}`, "alert: GravenLedgerStopped", ""},
	{"a dashboard", `dashboard: {enabled: true, namespace: monitoring}`, `grafana_dashboard: "1"`, ""},
}

// everything is as much at once as goes together, once for each store.
var everything = map[string]string{
	"the embedded store": `
commonLabels: {team: platform}
crds: {aiops: true}
tls: {extraNames: [graven.example.com]}
chatcli: {superadmin: {create: true}, compatibility: {enabled: true}}
networkPolicy: {enabled: true}
ingress: {enabled: true, hosts: [graven.example.com]}
httpRoute: {enabled: true, parentRefs: [{name: web}], hostnames: [graven.example.com]}
serviceMonitor: {enabled: true, tokenSecret: {name: metrics}}
prometheusRule: {enabled: true}
dashboard: {enabled: true}
operator: {replicas: 2, mirror: {types: [IssueCreated]}, auditLog: {enabled: true, remediators: ["system:serviceaccount:chatcli-system:chatcli-operator"]}}
kubernetes: {audiences: [graven.example], cache: 5s}
server: {config: {log: {public: hashes}, erasure: {confirmations: 2}}}
`,
	"PostgreSQL": `
server: {replicas: 3}
store: {postgres: {existingSecret: db, keysSecret: keys, migrate: {existingSecret: owner}, deadLetter: {existingSecret: redis}}}
tls: {certManager: {issuerRef: {name: ca}}}
chatcli: {superadmin: {create: true}, compatibility: {enabled: true}}
networkPolicy: {enabled: true}
serviceMonitor: {enabled: true, tokenSecret: {name: metrics}}
prometheusRule: {enabled: true}
dashboard: {enabled: true}
operator: {replicas: 2, webhook: {certManager: {issuerRef: {name: ca}}}}
`,
	"PostgreSQL with a spool": `
server: {replicas: 2}
store: {postgres: {existingSecret: db, keysSecret: keys, spool: {enabled: true}}}
`,
}

// values reads values.
func values(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return v
}

// render renders the chart as the release graven in graven-system.
func render(t *testing.T, text string) *charts.Rendered {
	t.Helper()
	r, err := charts.Render(charts.Release{Dir: dir, Name: "graven", Namespace: "graven-system", KubeVersion: "v1.36.3", Values: values(t, text)})
	if err != nil {
		t.Fatalf("%v\nwith %s", err, text)
	}
	return r
}

func TestEveryOptionDoesWhatItSays(t *testing.T) {
	plain := texts(t, "")
	for _, o := range options {
		t.Run(o.name, func(t *testing.T) {
			got := texts(t, o.values)
			if o.want != "" && (!strings.Contains(got, o.want) || strings.Contains(plain, o.want) && o.name != "another domain") {
				t.Errorf("%q is not rendered, or always", o.want)
			}
			if o.lacks != "" && (strings.Contains(got, o.lacks) || !strings.Contains(plain, o.lacks) && o.lacks != "genSignedCert" && o.lacks != "plainListen") {
				t.Errorf("%q is rendered, or never", o.lacks)
			}
			check(t, render(t, o.values))
		})
	}
	for name, text := range everything {
		t.Run("everything with "+name, func(t *testing.T) { check(t, render(t, text)) })
	}
	t.Run("nothing", func(t *testing.T) { check(t, render(t, "")) })

	t.Run("and none is left out", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(dir, "values.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		defaults, set := map[string]string{}, map[string]bool{}
		leaves("", values(t, string(text)), func(path string, v any) { defaults[path] = fmt.Sprint(v) })
		for _, o := range options {
			leaves("", values(t, o.values), func(path string, v any) {
				for ; path != ""; path = path[:max(0, strings.LastIndex(path, "."))] {
					if had, ok := defaults[path]; ok && had != fmt.Sprint(v) {
						set[path] = true
					}
				}
			})
		}
		for path := range defaults {
			if !set[path] {
				t.Errorf("no option sets %s", path)
			}
		}
	})
}

// leaves calls fn with each value that is no mapping, or an empty one.
func leaves(path string, v any, fn func(path string, v any)) {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 {
		fn(path, v)
		return
	}
	for name, v := range m {
		leaves(strings.TrimPrefix(path+"."+name, "."), v, fn)
	}
}

// texts returns all that is rendered, as text, by Helm 3's engine.
func texts(t *testing.T, text string) string {
	t.Helper()
	files := helm3Render(t, text)
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all.WriteString(files[name] + "\n---\n")
	}
	return all.String()
}

// helm3Render renders with Helm 3, by template.
func helm3Render(t *testing.T, text string) map[string]string {
	t.Helper()
	chart, err := helm3chart.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	caps := helm3values.DefaultCapabilities.Copy()
	caps.KubeVersion = helm3values.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
	v, err := helm3values.ToRenderValues(chart, values(t, text), helm3values.ReleaseOptions{Name: "graven", Namespace: "graven-system", Revision: 1, IsInstall: true}, caps)
	if err != nil {
		t.Fatal(err)
	}
	files, err := helm3.Render(chart, v)
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if strings.HasSuffix(name, ".txt") {
			delete(files, name)
		}
	}
	return files
}

func TestHelm3AndHelm4RenderTheSame(t *testing.T) {
	for name, text := range everything {
		t.Run(name, func(t *testing.T) {
			four := render(t, text)
			var want, got []string
			for _, o := range slices.Concat(four.Objects, four.Hooks) {
				want = append(want, asText(t, o))
			}
			for path, file := range helm3Render(t, text) {
				objects, err := charts.Objects("# Source: " + path + "\n" + file)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range objects {
					got = append(got, asText(t, o))
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !reflect.DeepEqual(want, got) {
				t.Errorf("Helm 4:\n%s\nHelm 3:\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
			}
		})
	}
}

// asText returns an object as text, without certificates, which differ.
func asText(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	o = o.DeepCopy()
	if o.GetKind() == "Secret" {
		delete(o.Object, "data")
		unstructured.RemoveNestedField(o.Object, "metadata", "annotations", "graven.dev/made")
	}
	text, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// check holds what is rendered against what holds for all of it.
func check(t *testing.T, r *charts.Rendered) {
	t.Helper()
	s := runtime.NewScheme()
	if err := scheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	if err := apiextensions.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	strict := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
	seen := map[string]bool{}
	for _, o := range slices.Concat(r.Objects, r.Hooks) {
		name := fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())
		if seen[name] {
			t.Errorf("%s is rendered twice", name)
		}
		seen[name] = true
		for label, want := range map[string]string{"app.kubernetes.io/instance": "graven", "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/part-of": "graven"} {
			if got := o.GetLabels()[label]; got != want {
				t.Errorf("%s: label %s is %q", name, label, got)
			}
		}
		if s.Recognizes(o.GroupVersionKind()) {
			text, err := json.Marshal(o.Object)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := strict.Decode(text, nil, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if meta, spec := podOf(t, o); spec != nil {
			restricted(t, name, meta, spec)
		}
		if o.GetKind() == "ConfigMap" && strings.HasSuffix(o.GetName(), "-server") {
			text, _, _ := unstructured.NestedString(o.Object, "data", "graven.yaml")
			accepted(t, text)
		}
		for _, rule := range rulesOf(t, o) {
			if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.APIGroups, "*") ||
				slices.Contains(rule.Resources, "*") && !slices.Equal(rule.Verbs, []string{"get", "list", "watch"}) {
				t.Errorf("%s: a wildcard in %+v", name, rule)
			}
		}
	}
	if strings.Contains(r.Notes, "<no value>") || !strings.Contains(r.Notes, "graven health") {
		t.Errorf("the notes are %s", r.Notes)
	}
}

type rule struct{ APIGroups, Resources, Verbs []string }

// rulesOf returns the rules of a role.
func rulesOf(t *testing.T, o *unstructured.Unstructured) (rules []rule) {
	t.Helper()
	if o.GetKind() != "ClusterRole" && o.GetKind() != "Role" {
		return nil
	}
	if _, others := o.Object["aggregationRule"]; others { // whose rules it has
		return nil
	}
	text, err := json.Marshal(o.Object["rules"])
	if err == nil {
		err = json.Unmarshal(text, &rules)
	}
	if err != nil || len(rules) == 0 {
		t.Fatalf("%s has no rules: %v", o.GetName(), err)
	}
	return rules
}

// podOf returns the pod that an object is or makes, if any.
func podOf(t *testing.T, o *unstructured.Unstructured) (meta *corev1.PodTemplateSpec, spec *corev1.PodSpec) {
	t.Helper()
	path := map[string][]string{"Pod": {}, "Deployment": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "Job": {"spec", "template"},
		"CronJob": {"spec", "jobTemplate", "spec", "template"}}
	at, ok := path[o.GetKind()]
	if !ok {
		return nil, nil
	}
	template := o.Object
	if len(at) > 0 {
		var err error
		if template, ok, err = unstructured.NestedMap(o.Object, at...); err != nil || !ok {
			t.Fatalf("%s has no pod: %v", o.GetName(), err)
		}
	}
	p := &corev1.PodTemplateSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(map[string]any{"metadata": template["metadata"], "spec": template["spec"]}, p, true); err != nil {
		t.Fatalf("%s: %v", o.GetName(), err)
	}
	return p, &p.Spec
}

// restricted demands that a pod is one that Pod Security's restricted lets in, and
// more.
func restricted(t *testing.T, name string, pod *corev1.PodTemplateSpec, spec *corev1.PodSpec) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, spec))
	if !result.Allowed {
		t.Errorf("%s is not restricted: %s", name, result.ForbiddenDetail())
	}
	if spec.AutomountServiceAccountToken == nil {
		t.Errorf("%s does not say whether it has a token", name)
	}
	for _, c := range spec.Containers {
		if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s: %s writes to its image", name, c.Name)
		}
		mounted := map[string]bool{}
		for _, v := range spec.Volumes {
			mounted[v.Name] = true
		}
		for _, m := range c.VolumeMounts {
			if !mounted[m.Name] && m.Name != "data" {
				t.Errorf("%s: %s mounts %s, which there is not", name, c.Name, m.Name)
			}
		}
	}
}

// accepted demands that a server takes a configuration.
func accepted(t *testing.T, text string) {
	t.Helper()
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1") // as in a pod
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	path := filepath.Join(t.TempDir(), "graven.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := app.ReadConfig(path); err != nil {
		t.Errorf("%v:\n%s", err, text)
	}
	if err := os.WriteFile(path, []byte(text+"\nunknown: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := app.ReadConfig(path); err == nil || !strings.Contains(err.Error(), `unknown field "unknown"`) {
		t.Errorf("an unknown field: %v", err)
	}
}

// fieldsOf returns the types of a configuration's fields by their names.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			fields[name] = t.Field(i).Type
		}
	}
	return fields
}

func TestTheSchemaHasTheServersFields(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(dir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type schema struct {
		Type                 any
		AdditionalProperties any
		Properties           map[string]*schema
		Items                *schema
	}
	var root schema
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var hold func(at string, s *schema, of reflect.Type, skip ...string)
	hold = func(at string, s *schema, of reflect.Type, skip ...string) {
		for of.Kind() == reflect.Slice {
			of, s, at = of.Elem(), s.Items, at+"[]"
		}
		if of.Kind() != reflect.Struct {
			return
		}
		fields := fieldsOf(of)
		for _, name := range skip {
			delete(fields, name)
		}
		for name, field := range fields {
			if s.Properties[name] == nil {
				t.Errorf("%s lacks %s", at, name)
				continue
			}
			hold(at+"."+name, s.Properties[name], field)
		}
		for name := range s.Properties {
			if _, ok := fields[name]; !ok {
				t.Errorf("%s has %s, which a server does not know", at, name)
			}
		}
	}
	hold("server.config", root.Properties["server"].Properties["config"], reflect.TypeFor[app.Config](),
		"data", "store", "spool", "deadLetter", "listen", "plainListen", "tlsCert", "tlsKey", "kubernetes")

	// It is strict, and knows each value and no other.
	var strict func(at string, s *schema, v any)
	strict = func(at string, s *schema, v any) {
		if s == nil {
			t.Errorf("the schema lacks %s", at)
			return
		}
		m, ok := v.(map[string]any)
		if s.Properties == nil || !ok {
			return
		}
		if s.AdditionalProperties != false {
			t.Errorf("%s takes any property", at)
		}
		for name, v := range m {
			strict(strings.TrimPrefix(at+"."+name, "."), s.Properties[name], v)
		}
		for name := range s.Properties {
			if _, ok := m[name]; !ok && at != "server.config" && name != "global" && !strings.HasSuffix(at, ".issuerRef") && !strings.HasSuffix(at, "resources") {
				t.Errorf("values.yaml lacks %s.%s", at, name)
			}
		}
	}
	defaults, err := os.ReadFile(filepath.Join(dir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	strict("", &root, values(t, string(defaults)))
}

func TestEveryValueIsExplained(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(dir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// One that has no comment before it stands below one that has, in the same
	// paragraph.
	section := regexp.MustCompile(`^[a-zA-Z]+:`)
	explained := false
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.Contains(line, "#"):
			explained = true
		case strings.TrimSpace(line) == "":
			explained = false
		case section.MatchString(line) && !explained && !regexp.MustCompile(`^(image|server|operator|ingress|chatcli|crds):`).MatchString(line):
			t.Errorf("line %d is not explained: %s", i+1, line)
		}
	}
}

func TestBadValuesAreRefusedByTheirName(t *testing.T) {
	for _, tt := range []struct{ name, values, want string }{
		{"an unknown value", `sever: {}`, "sever"},
		{"an unknown value within", `server: {replica: 2}`, "replica"},
		{"an unknown field of the server's", `server: {config: {anonymusRole: viewer}}`, "anonymusRole"},
		{"a field that the chart sets", `server: {config: {listen: ":1"}}`, "listen"},
		{"a role that is none", `server: {config: {anonymousRole: king}}`, "anonymousRole"},
		{"a number that is text", `server: {replicas: "two"}`, "replicas"},
		{"no server", `server: {replicas: 0}`, "replicas"},
		{"several servers with one disk", `server: {replicas: 2}`, "server.replicas"},
		{"a size that is none", `store: {embedded: {size: big}}`, "size"},
		{"PostgreSQL without keys", `store: {postgres: {existingSecret: db}}`, "store.postgres.keysSecret"},
		{"keys without PostgreSQL", `store: {postgres: {keysSecret: keys}}`, "store.postgres.keysSecret"},
		{"a spool without PostgreSQL", `store: {postgres: {spool: {enabled: true}}}`, "store.postgres.spool.enabled"},
		{"a stream without PostgreSQL", `store: {postgres: {deadLetter: {url: "redis://x"}}}`, "store.postgres.deadLetter"},
		{"a stream that is none", `store: {postgres: {deadLetter: {url: "http://x"}}}`, "url"},
		{"migrating without PostgreSQL", `store: {postgres: {migrate: {existingSecret: x}}}`, "store.postgres.migrate.existingSecret"},
		{"a spool and a stream", `store: {postgres: {existingSecret: a, keysSecret: b, spool: {enabled: true}, deadLetter: {url: "redis://x"}}}`, "store.postgres.deadLetter"},
		{"two streams", `store: {postgres: {existingSecret: a, keysSecret: b, deadLetter: {url: "redis://x", existingSecret: c}}}`, "store.postgres.deadLetter"},
		{"two certificates", `tls: {existingSecret: a, certManager: {issuerRef: {name: b}}}`, "tls.existingSecret"},
		{"a digest that is none", `image: {digest: latest}`, "digest"},
		{"a stamp that is none", `policies: {stamp: perhaps}`, "stamp"},
		{"two roles for the anonymous", `{chatcli: {compatibility: {enabled: true}}, server: {config: {anonymousRole: viewer}}}`, "server.config.anonymousRole"},
		{"monitors without a token", `serviceMonitor: {enabled: true}`, "serviceMonitor.tokenSecret.name"},
		{"an operator without a token", `kubernetes: {enabled: false}`, "operator.tokenSecret.name"},
		{"a route from nowhere", `httpRoute: {enabled: true}`, "httpRoute.parentRefs"},
		{"an Ingress for nobody", `ingress: {enabled: true}`, "ingress.hosts"},
		{"a severity that is none", `operator: {mirror: {severities: [grave]}}`, "severities"},
		{"an age that is none", `operator: {mirror: {for: long}}`, "for"},
		{"a namespace that is none", `chatcli: {namespace: "A B"}`, "namespace"},
		{"one port twice", `{server: {service: {port: 8080}}, chatcli: {compatibility: {enabled: true}}}`, "server.service.port"},
		{"a webhook where metrics are", `operator: {webhook: {port: 8080}}`, "operator.webhook.port"},
		{"a label of the chart's own", `commonLabels: {app.kubernetes.io/name: x}`, "commonLabels"},
		{"a certificate without TLS", `tls: {enabled: false, existingSecret: mine}`, "tls.enabled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := charts.Render(charts.Release{Dir: dir, Name: "graven", Namespace: "graven-system", KubeVersion: "v1.36.3", Values: values(t, tt.values)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
	t.Run("a release with a dot", func(t *testing.T) {
		_, err := charts.Render(charts.Release{Dir: dir, Name: "graven.eu", Namespace: "x", KubeVersion: "v1.36.3"})
		if err == nil || !strings.Contains(err.Error(), "the release's name") {
			t.Error(err)
		}
	})
	t.Run("an old Kubernetes", func(t *testing.T) {
		_, err := charts.Render(charts.Release{Dir: dir, Name: "graven", Namespace: "x", KubeVersion: "v1.29.0"})
		if err == nil || !strings.Contains(err.Error(), "1.30") {
			t.Error(err)
		}
	})
}

func TestAReleaseThatIsNamedLikeAnAccountNamesItsOwn(t *testing.T) {
	r, err := charts.Render(charts.Release{Dir: dir, Name: "graven-retention", Namespace: "graven-system", KubeVersion: "v1.36.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range r.Objects {
		if text := asText(t, o); o.GetName() == "graven-auditevents" && o.GetKind() == "ValidatingAdmissionPolicy" &&
			(!strings.Contains(text, `graven-system:graven-retention-operator\"`) || !strings.Contains(text, `graven-system:graven-retention-retention\"`)) {
			t.Error(text)
		}
	}
}

func TestTheChartIsWellFormed(t *testing.T) {
	result := lint.RunAll(dir, nil, "graven-system")
	for _, m := range result.Messages {
		if m.Severity > 1 { // 1 is a hint: an icon
			t.Error(m)
		}
	}
}

func TestTheStampIsForKubernetesThatKnowsIt(t *testing.T) {
	for _, tt := range []struct {
		version, values string
		stamped         bool
	}{
		{"v1.36.0", "", true}, {"v1.37.1-gke.100", "", true}, {"v1.35.9", "", false}, {"v1.30.0", "", false},
		{"v1.35.9", "policies: {stamp: true}", true}, {"v1.36.0", "policies: {stamp: false}", false},
	} {
		r, err := charts.Render(charts.Release{Dir: dir, Name: "graven", Namespace: "x", KubeVersion: tt.version, Values: values(t, tt.values)})
		if err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(r.Objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "MutatingAdmissionPolicy" })
		if got != tt.stamped {
			t.Errorf("%s, %q: stamped %v", tt.version, tt.values, got)
		}
	}
}

func TestThePoliciesKnowTheReleasesOwn(t *testing.T) {
	r, err := charts.Render(charts.Release{Dir: dir, Name: "audit", Namespace: "prod", KubeVersion: "v1.36.3", Values: values(t, "chatcli: {namespace: aiops}")})
	if err != nil {
		t.Fatal(err)
	}
	accounts := map[string]bool{}
	for _, o := range r.Objects {
		text := asText(t, o)
		if strings.Contains(text, "graven-system") || strings.Contains(text, "chatcli-system:") {
			t.Errorf("%s %s names what is of another release", o.GetKind(), o.GetName())
		}
		if o.GetKind() == "ServiceAccount" {
			accounts["system:serviceaccount:"+o.GetNamespace()+":"+o.GetName()] = true
		}
		if o.GetKind() == "ValidatingAdmissionPolicy" {
			for _, name := range regexp.MustCompile(`system:serviceaccount:prod:[a-z-]+`).FindAllString(text, -1) {
				defer func() {
					if !accounts[name] {
						t.Errorf("%s is let do what others may not, and there is no such service account", name)
					}
				}()
			}
		}
	}
	for _, want := range []string{"audit-graven-server", "audit-graven-operator", "audit-graven-retention"} {
		if !accounts["system:serviceaccount:prod:"+want] {
			t.Errorf("there is no %s among %v", want, accounts)
		}
	}
}
