package charts_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"

	"github.com/graven-audit/graven/charts"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/testenv"
)

// example returns the objects of one of config/examples, and what its container is.
func example(t *testing.T, name string) ([]*unstructured.Unstructured, *corev1.Container) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../config/examples", name))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := charts.Objects(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var job *corev1.Container
	for _, o := range objects {
		if pod, spec := podOf(t, o); spec != nil {
			restricted(t, name, pod, spec)
			job = &spec.Containers[0]
			if job.Image == "" || strings.HasSuffix(job.Image, ":latest") || strings.Contains(job.Image, "bitnami") {
				t.Errorf("%s runs %s", name, job.Image)
			}
		}
	}
	return objects, job
}

// do runs a container's command here, with its environment but for what is given.
func do(t *testing.T, c *corev1.Container, env ...string) (string, error) {
	t.Helper()
	for _, program := range []string{"curl", "awk"} {
		testenv.Need(t, program)
	}
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestRetentionDeletesWhatIsOldAndSealed(t *testing.T) {
	const retention, operator = "system:serviceaccount:graven-system:graven-retention", "system:serviceaccount:graven-system:graven-operator"
	k := testenv.StartKube(t, testenv.KubeOptions{Users: map[string][]string{retention: {"system:serviceaccounts", "system:authenticated"}}})
	objects, job := example(t, "retention.yaml")
	var manifests strings.Builder
	for _, o := range slices.Concat(build(t, "stamp"), objects) {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		manifests.WriteString("---\n" + string(text))
	}
	k.Apply(testenv.KubeAdmin, manifests.String())
	k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	k.Kubectl(testenv.KubeAdmin, "create", "namespace", "production")
	testenv.Eventually(t, "the policies count", func() bool {
		out, err := k.TryKubectl(testenv.KubeAdmin, []byte(strings.Replace(event, `"namespace"`, `"annotations":{"graven.dev/index":"1"},"namespace"`, 1)), "create", "--dry-run=server", "-f", "-")
		return err != nil && strings.Contains(out, "only the operator gives")
	})

	create := func(namespace, name, timestamp string, sealed bool) string {
		annotations := "{}"
		if sealed {
			annotations = `{"graven.dev/index":"7","graven.dev/leaf-hash":"ab","graven.dev/origin":"graven"}`
		}
		return fmt.Sprintf(`{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"AuditEvent","metadata":{"name":%q,"namespace":%q,"annotations":%s},
"spec":{"eventType":"IssueCreated","timestamp":%q,"actor":{"type":"user","name":"x"},"resource":{"kind":"Issue"}}}`+"\n---\n", name, namespace, annotations, timestamp)
	}
	var all strings.Builder
	for i := range 120 {
		all.WriteString(create("chatcli-system", fmt.Sprintf("old-%d", i), "2020-03-19T14:30:00.123Z", true))
	}
	all.WriteString(create("production", "old", "2020-03-19T14:30:00Z", true))
	all.WriteString(create("production", "old-unsealed", "2020-03-19T14:30:00.000000001Z", false))
	all.WriteString(create("production", "new", "2099-03-19T14:30:00Z", true))
	if out, err := k.TryKubectl(testenv.KubeAdmin, []byte(all.String()), "create", "-f", "-", "--as", operator, "--as-group", "system:masters"); err != nil {
		t.Fatal(out)
	}

	env := []string{"KUBECONFIG=" + k.Kubeconfig(retention), "HOME=" + t.TempDir(), "PATH=" + filepath.Dir(k.KubectlPath()) + ":" + os.Getenv("PATH")}
	out, err := do(t, job, append(env, "DAYS=36500")...)
	if err != nil || !strings.Contains(out, ": 0 deleted") {
		t.Errorf("in a hundred years: %v\n%s", err, out)
	}
	out, err = do(t, job, env...)
	if err != nil || !strings.Contains(out, ": 121 deleted") || !strings.Contains(out, "not sealed, and kept: production/old-unsealed") {
		t.Errorf("%v\n%s", err, out)
	}
	left := strings.Fields(k.Kubectl(testenv.KubeAdmin, "get", "auditevents", "--all-namespaces", "-o", "jsonpath={.items[*].metadata.name}"))
	slices.Sort(left)
	if !slices.Equal(left, []string{"new", "old-unsealed"}) {
		t.Errorf("left are %v", left)
	}
	k.API.Stop()
	if out, err := do(t, job, env...); err == nil {
		t.Errorf("without an API server: %s", out)
	}
}

// A siem takes what the exporting jobs send.
type siem struct {
	mu     sync.Mutex
	refuse bool           // the next
	got    map[string]int // how often, by index or id
}

func (s *siem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || s.refuse {
		s.refuse = false
		http.Error(w, `{"text":"Server is busy","code":9}`, http.StatusServiceUnavailable)
		return
	}
	d := json.NewDecoder(bytes.NewReader(body))
	switch {
	case r.URL.Path == "/services/collector/event" && r.Header.Get("Authorization") == "Splunk hec":
		for d.More() {
			var e struct {
				Sourcetype string
				Fields     struct {
					Index string `json:"graven_index"`
				}
				Event struct{ ID, EventType string }
			}
			if err := d.Decode(&e); err != nil || e.Event.ID == "" || e.Event.EventType == "" || e.Sourcetype != "chatcli:audit" {
				http.Error(w, `{"text":"Invalid data format","code":6}`, http.StatusBadRequest)
				return
			}
			s.got[e.Fields.Index]++
		}
		fmt.Fprint(w, `{"text":"Success","code":0}`)
	case r.URL.Path == "/chatcli-audit/_bulk" && r.Header.Get("Authorization") == "Basic "+base64.StdEncoding.EncodeToString([]byte("elastic:pa ss")):
		var items []string
		for d.More() {
			var action struct {
				Create struct {
					ID string `json:"_id"`
				}
			}
			var document struct{ ID, EventType string }
			if d.Decode(&action) != nil || d.Decode(&document) != nil || action.Create.ID == "" || action.Create.ID != document.ID {
				http.Error(w, `{"error":"parse"}`, http.StatusBadRequest)
				return
			}
			status := http.StatusCreated
			switch {
			case s.got[document.ID] > 0:
				status = http.StatusConflict
			case document.EventType == "Refused":
				status = http.StatusTooManyRequests
			default:
				s.got[document.ID]++
			}
			items = append(items, fmt.Sprintf(`{"create":{"_id":%q,"status":%d}}`, document.ID, status))
		}
		fmt.Fprintf(w, `{"errors":true,"items":[%s]}`, strings.Join(items, ","))
	default:
		http.Error(w, r.URL.Path, http.StatusUnauthorized)
	}
}

// ledger starts a server with the certificate that the chart makes, and returns
// the environment of who asks it, and what records in it.
func ledger(t *testing.T) (env []string, record func(eventType string, n int)) {
	t.Helper()
	files := t.TempDir()
	for _, o := range render(t, "").Objects {
		if o.GetKind() == "Secret" && o.GetName() == "graven-server-tls" {
			var s corev1.Secret
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s); err != nil {
				t.Fatal(err)
			}
			for name, data := range s.Data {
				if err := os.WriteFile(filepath.Join(files, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	c := app.Config{Data: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0", SegmentSize: 1 << 20,
		TLSCert: filepath.Join(files, "tls.crt"), TLSKey: filepath.Join(files, "tls.key")}
	a, err := app.New(t.Context(), c, "test", slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	token, err := os.ReadFile(filepath.Join(c.Data, datadir.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	url := "https://localhost" + a.Addr()[strings.LastIndex(a.Addr(), ":"):]
	env = []string{"GRAVEN_URL=" + url, "GRAVEN_CA=" + filepath.Join(files, "ca.crt"), "GRAVEN_TOKEN=" + strings.TrimSpace(string(token)), "LISTEN=1",
		"STATE=" + t.TempDir(), "SPLUNK_HEC_TOKEN=hec", "ELASTIC_USER=elastic", "ELASTIC_PASS=pa ss"}
	number := 0
	return env, func(eventType string, n int) {
		t.Helper()
		var events []string
		for range n {
			number++
			events = append(events, fmt.Sprintf(`{"eventType":%q,"timestamp":"2026-03-19T14:30:00.%03dZ","actor":{"type":"user","name":"a \"b\" \\ \t c"},"resource":{"kind":"Issue","name":"issue-%d"},"details":{"id":"none"}}`, eventType, number%1000, number))
		}
		cmd := exec.Command("curl", "-sS", "--fail-with-body", "--cacert", filepath.Join(files, "ca.crt"), "-H", "X-API-Key: "+strings.TrimSpace(string(token)),
			"-H", "Content-Type: application/json", "-d", "["+strings.Join(events, ",")+"]", url+"/api/v1/audit/events/batch")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func TestExportedToSplunkIsEachEventOnce(t *testing.T) {
	_, job := example(t, "splunk.yaml")
	env, record := ledger(t)
	s := &siem{got: map[string]int{}}
	server := httptest.NewServer(s)
	defer server.Close()
	env = append(env, "SPLUNK_URL="+server.URL)
	record("IssueCreated", 450)
	if out, err := do(t, job, env...); err != nil || len(s.got) < 450 {
		t.Fatalf("%v, %d came: %s", err, len(s.got), out)
	}
	record("IssueCreated", 5)
	s.refuse = true
	if out, err := do(t, job, env...); err == nil || !strings.Contains(out, "Server is busy") {
		t.Errorf("refused: %v %s", err, out)
	}
	if out, err := do(t, job, append(env, "GRAVEN_TOKEN=none")...); err == nil || !strings.Contains(out, "401") {
		t.Errorf("with a wrong token: %v %s", err, out)
	}
	for range 2 {
		if out, err := do(t, job, env...); err != nil || !regexp.MustCompile(`up to index \d+`).MatchString(out) {
			t.Errorf("%v %s", err, out)
		}
	}
	if len(s.got) < 455 {
		t.Errorf("%d came", len(s.got))
	}
	for index, n := range s.got {
		if n != 1 {
			t.Errorf("the event at %s came %d times", index, n)
		}
	}
}

func TestExportedToElasticsearchIsEachEventOnce(t *testing.T) {
	_, job := example(t, "elastic.yaml")
	env, record := ledger(t)
	s := &siem{got: map[string]int{}}
	server := httptest.NewServer(s)
	defer server.Close()
	env = append(env, "ELASTIC_URL="+server.URL)
	record("IssueCreated", 250)
	if out, err := do(t, job, env...); err != nil || len(s.got) < 250 {
		t.Fatalf("%v, %d came: %s", err, len(s.got), out)
	}
	// Without the place where it was, all is sent again, and there.
	if out, err := do(t, job, append(env, "STATE="+t.TempDir())...); err != nil {
		t.Errorf("%v %s", err, out)
	}
	for id, n := range s.got {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
	record("Refused", 1)
	if out, err := do(t, job, env...); err == nil || !strings.Contains(out, "429") {
		t.Errorf("a document that is refused: %v %s", err, out)
	}
}
