package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/kubeauth"
	"github.com/graven-audit/graven/internal/testenv"
)

// TestMain is the operator, where it is told to be.
func TestMain(m *testing.M) {
	if os.Getenv("GRAVEN_OPERATOR") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const (
	operatorUser  = "system:serviceaccount:graven-system:graven-operator"
	retentionUser = "system:serviceaccount:graven-system:graven-retention"
)

// A bed is a cluster, a server, and an operator between them.
type bed struct {
	t      *testing.T // or a part of it that runs
	whole  *testing.T
	k      *testenv.Kube
	server *server
	dir    string // the operator's
	cmd    *exec.Cmd
}

// newBed starts a cluster with AuditEvents in it and, where policies is set, what
// protects them; and a server.
func newBed(t *testing.T, policies bool) *bed {
	t.Helper()
	masters := []string{"system:masters"}
	b := newKube(t, map[string][]string{operatorUser: masters, retentionUser: masters, "jane": masters, "velero": masters})
	if policies {
		b.protect()
	}
	b.server.start()
	t.Cleanup(b.kill)
	return b
}

// newKube starts a cluster with AuditEvents in it, and a server that is to be
// started.
func newKube(t *testing.T, users map[string][]string) *bed {
	t.Helper()
	return newKubeBeside(t, newServer(t), testenv.KubeOptions{Users: users})
}

// newKubeBeside starts a cluster beside a server.
func newKubeBeside(t *testing.T, s *server, options testenv.KubeOptions) *bed {
	t.Helper()
	b := &bed{t: t, whole: t, dir: t.TempDir(), server: s}
	t.Cleanup(b.show)
	options.Controllers = []string{"namespace-controller", "garbage-collector-controller", "clusterrole-aggregation-controller"}
	b.k = testenv.StartKube(t, options)
	b.apply(config.CRDs, "crd/platform.chatcli.io_auditevents.yaml")
	b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	for _, ns := range []string{"chatcli-system", "production", "dev"} {
		b.k.Kubectl(testenv.KubeAdmin, "create", "namespace", ns)
	}
	return b
}

// protect has AuditEvents protected by policy.
func (b *bed) protect() {
	b.t.Helper()
	b.apply(config.Policies, "policies/auditevents.yaml", "policies/stamp/stamp.yaml")
	made := time.Now()
	testenv.Eventually(b.t, "the policies count for certain", func() bool { return time.Since(made) > 12*time.Second })
}

func (b *bed) apply(dir fs.FS, names ...string) {
	b.t.Helper()
	for _, name := range names {
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			b.t.Fatal(err)
		}
		b.k.Apply(testenv.KubeAdmin, string(text))
	}
}

// run starts the operator.
func (b *bed) run(flags ...string) {
	b.t.Helper()
	b.cmd = exec.Command(os.Args[0], append([]string{"--server", b.server.url, "--token-file", b.server.tokenFile, "--spool-dir", b.dir,
		"--metrics-address", "0", "--health-address", "0", "--mirror-rate", "500"}, flags...)...)
	b.cmd.Env = append(os.Environ(), "GRAVEN_OPERATOR=1", "KUBECONFIG="+b.k.Kubeconfig(operatorUser))
	w := &writer{t: b.whole, said: make(chan struct{})}
	b.cmd.Stderr = w
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-w.said: // it has begun, and ends when it is told to
	case <-time.After(time.Minute):
		b.t.Fatal("the operator says nothing")
	}
}

// A writer shows what the operator says if the test fails.
type writer struct {
	t    *testing.T
	mu   sync.Mutex
	once sync.Once
	said chan struct{} // closed when it says the first thing
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.once.Do(func() { close(w.said) })
	w.t.Logf("operator: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// show shows what the newest entries of the ledger are if the test fails.
func (b *bed) show() {
	if !b.whole.Failed() || b.server.cancel == nil {
		return
	}
	all := b.server.events(url.Values{})
	for _, e := range all[:min(len(all), 60)] {
		b.whole.Logf("%s %s %s/%s: %.200s", e.Timestamp.Format(time.TimeOnly), e.EventType, e.Resource.Namespace, e.Resource.Name, e.Details)
	}
}

// kill kills the operator, if it runs.
func (b *bed) kill() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill() // it may have ended
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

// stop stops the operator in order.
func (b *bed) stop() {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatal(err)
	}
	process := b.cmd.Process
	stuck := time.AfterFunc(20*time.Second, func() { _ = process.Signal(syscall.SIGQUIT) }) // and it says where
	defer stuck.Stop()
	if err := b.cmd.Wait(); err != nil {
		b.t.Error("the operator ends with", err)
	}
	b.cmd = nil
}

// A server is a Graven server that stops and starts again.
type server struct {
	t              *testing.T
	dir, url       string
	store          string // a database's address; empty for the directory
	tokenFile      string
	admin          *client.Client
	cancel         context.CancelFunc
	ended          chan error
	listen, secret string
	kubernetes     kubeauth.Config
}

func newServer(t *testing.T) *server {
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), listen: "127.0.0.1:0", tokenFile: filepath.Join(t.TempDir(), "token")}
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.t.Helper()
	a, err := app.New(s.t.Context(), app.Config{Data: s.dir, Store: s.store, Listen: s.listen, Kubernetes: s.kubernetes}, "test", slog.New(slog.DiscardHandler), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.url = a.URL()
	u, err := url.Parse(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.listen = u.Host // and so the next
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.ended = cancel, make(chan error, 1)
	go func() { s.ended <- a.Run(ctx) }()
	if s.secret != "" {
		return
	}
	text, err := os.ReadFile(filepath.Join(s.dir, datadir.AdminTokenFile))
	if err != nil {
		s.t.Fatal(err)
	}
	s.secret = strings.TrimSpace(string(text))
	if s.admin, err = client.New(client.Config{URL: s.url, Token: s.secret}); err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.admin.Do(s.t.Context(), http.MethodPost, "/api/v1/tokens", nil, "application/json",
		strings.NewReader(`{"name":"operator","role":"operator","attests":true}`))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var made struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.tokenFile, []byte(made.Token), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) stop() {
	if s.cancel != nil {
		s.cancel()
		if err := <-s.ended; err != nil {
			s.t.Error(err)
		}
		s.cancel = nil
	}
}

// events returns the events that a query asks for, the newest first.
func (s *server) events(query url.Values) []*event.Event {
	s.t.Helper()
	var all []*event.Event
	query.Set("limit", "1000")
	for {
		query.Set("offset", strconv.Itoa(len(all)))
		var page struct{ Events []*event.Event }
		if err := s.admin.Get(context.Background(), "/api/v1/audit", query, &page); err != nil {
			s.t.Fatal(err)
		}
		if all = append(all, page.Events...); len(page.Events) < 1000 {
			return all
		}
	}
}

// auditEvent is one of an incident, as ChatCLI's code writes it.
func auditEvent(namespace, name, incident string) string {
	return fmt.Sprintf(`---
apiVersion: platform.chatcli.io/v1alpha1
kind: AuditEvent
metadata: {name: %s, namespace: %s, annotations: {platform.chatcli.io/immutable: "true"}}
spec:
  eventType: issue_created
  timestamp: "2026-03-19T14:30:00Z"
  actor: {type: controller, name: IssueReconciler, controller: issue-controller}
  resource: {kind: Issue, name: %[3]s, namespace: %[2]s}
  correlationId: %[3]s
  severity: warning
  details: {description: "the heap is full", riskScore: "7"}
`, name, namespace, incident)
}

// sealed reports how many AuditEvents there are, and how many bear a receipt.
func (b *bed) sealed() (all, sealed int) {
	b.t.Helper()
	out, err := b.k.TryKubectl(testenv.KubeAdmin, nil, "get", "ae", "-A", "-o", `jsonpath={range .items[*]}{.metadata.annotations.graven\.dev/index}{"\n"}{end}`)
	if err != nil {
		return 0, 0
	}
	if out == "" {
		return 0, 0
	}
	for _, line := range strings.Split(out+" ", "\n") {
		all++
		if strings.TrimSpace(line) != "" {
			sealed++
		}
	}
	return all, sealed
}

func TestItEndsWheneverItIsToldTo(t *testing.T) {
	t.Parallel()
	b := newBed(t, false)
	for i := range 20 {
		b.record(fmt.Sprint("inc-", i), time.Now().UTC())
		b.create("jane", auditEvent("production", fmt.Sprint("audit-", i), fmt.Sprint("inc-", i)))
	}
	for i := range 15 {
		b.run()
		time.Sleep(time.Duration(5+i) * 100 * time.Millisecond) // as far as it gets
		b.stop()
	}
}

// TestAThousandAuditEventsOfEightClients has eight clients create AuditEvents at
// full speed, kills the operator twice and restarts the API server meanwhile.
func TestAThousandAuditEventsOfEightClients(t *testing.T) {
	t.Parallel()
	const clients, each, newest = 8, 125, 100
	b := newBed(t, true)
	flags := []string{"--mirror-newest", strconv.Itoa(newest)}
	b.run(flags...)
	created := make(chan struct{}, clients*each)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := 0; i < each; i += 5 {
				var text strings.Builder
				for j := range 5 {
					text.WriteString(auditEvent("production", fmt.Sprintf("audit-%d-%d", c, i+j), fmt.Sprintf("inc-%d-%d", c, (i+j)/10)))
				}
				for try := 0; ; try++ { // the API server goes away
					out, err := b.k.TryKubectl("jane", []byte(text.String()), "create", "-f", "-")
					if err == nil || strings.Count(out, "AlreadyExists") == 5 {
						break
					}
					if try == 100 {
						t.Errorf("create: %s", out)
						return
					}
					if strings.Contains(out, "AlreadyExists") { // a part of them: the others one by one
						for _, one := range strings.Split(text.String(), "---\n")[1:] {
							_, _ = b.k.TryKubectl("jane", []byte(one), "create", "-f", "-") // judged by what there is in the end
						}
					}
					time.Sleep(200 * time.Millisecond)
				}
				for range 5 {
					created <- struct{}{}
				}
			}
		})
	}
	after := func(n int) {
		t.Helper()
		for range n {
			select {
			case <-created:
			case <-time.After(2 * time.Minute):
				t.Fatal("no AuditEvents are created any more")
			}
		}
	}
	after(250)
	b.kill()
	b.run(flags...)
	after(250)
	b.k.API.Stop()
	b.k.API.Start()
	after(250)
	b.kill()
	b.run(flags...)
	wg.Wait()
	of := func() int {
		return len(b.server.events(url.Values{"namespace": {"production"}, "type": {"IssueCreated"}}))
	}
	testenv.Eventually(t, "all of them are in the ledger, and the window in etcd", func() bool {
		all, sealed := b.sealed()
		return of() >= clients*each && all > 0 && all <= newest && all == sealed
	})
	b.stop()
	names := map[string]int{}
	for _, e := range b.server.events(url.Values{"namespace": {"production"}, "type": {"IssueCreated"}}) {
		names[e.Name]++
		if e.Recorded.Principal != "jane" {
			t.Fatalf("%s was recorded by %s", e.Name, e.Recorded.Principal)
		}
	}
	for c := range clients {
		for i := range each {
			if n := names[fmt.Sprintf("audit-%d-%d", c, i)]; n != 1 {
				t.Errorf("audit-%d-%d is in the ledger %d times", c, i, n)
			}
		}
	}
	if len(names) != clients*each {
		t.Errorf("%d events", len(names))
	}
}
