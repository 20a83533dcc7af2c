package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/kubeauth"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/rbac"
)

// in has the server count the tokens of a cluster.
func (s *server) in(k *testenv.Kube) {
	s.t.Helper()
	s.kubernetes = kubeauth.Config{Enabled: true, URL: k.URL(), CAFile: k.CAFile(), TokenFile: filepath.Join(s.t.TempDir(), "token"), Cache: 500 * time.Millisecond}
	if err := os.WriteFile(s.kubernetes.TokenFile, []byte(k.Token("server")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	k.Kubectl(testenv.KubeAdmin, "create", "clusterrolebinding", "graven-server", "--clusterrole=system:auth-delegator", "--user=server")
	k.Kubectl(testenv.KubeAdmin, "create", "clusterrole", "graven-server", "--verb=list", "--resource=namespaces")
	k.Kubectl(testenv.KubeAdmin, "create", "clusterrolebinding", "graven-server-namespaces", "--clusterrole=graven-server", "--user=server")
}

// as returns a client with a token.
func (s *server) as(token string) *client.Client {
	s.t.Helper()
	c, err := client.New(client.Config{URL: s.url, Token: token})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// status returns how the server answers a request; 200 for success.
func (s *server) status(c *client.Client, method, path string, query url.Values, body string) int {
	s.t.Helper()
	resp, err := c.Do(s.t.Context(), method, path, query, "application/json", strings.NewReader(body))
	var p *client.Problem
	if errors.As(err, &p) {
		return p.Status
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		s.t.Error(err)
	}
	resp.Body.Close()
	return http.StatusOK
}

func TestTheServerBelievesTheCluster(t *testing.T) {
	t.Parallel()
	b := newKube(t, map[string][]string{"jane": nil, "server": nil})
	b.server.in(b.k)
	b.server.start()
	for _, ns := range []string{"production", "dev"} {
		e := &event.Event{EventType: "IssueCreated", Timestamp: time.Now().UTC(), Actor: event.Actor{Type: "user", Name: "x"},
			Resource: event.Resource{Kind: "Issue", Name: "i", Namespace: ns}, CorrelationID: "inc-" + ns}
		if _, err := b.server.admin.RecordSync(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	jane := b.server.as(b.k.Token("jane"))
	get := func(path string, query url.Values) int { return b.server.status(jane, http.MethodGet, path, query, "") }
	may := func(args ...string) bool {
		out, _ := b.k.TryKubectl("jane", nil, append([]string{"auth", "can-i"}, args...)...) // it fails where the answer is no
		return strings.HasSuffix(out, "yes")
	}
	becomes := func(what string, want int, ask func() int) {
		t.Helper()
		testenv.Eventually(t, fmt.Sprint(what, " is answered with ", want), func() bool { return ask() == want })
	}
	grants := roles(t, b)

	b.sub("who may do nothing is told so, and it is recorded", func(t *testing.T) {
		if got := get("/api/v1/audit", nil); got != http.StatusForbidden {
			t.Errorf("answered with %d", got)
		}
		e := b.one(url.Values{"type": {"PermissionDenied"}})
		if !strings.Contains(string(e.Details), `"principal":"jane"`) {
			t.Errorf("%s", e.Details)
		}
	})
	b.sub("a token that nobody knows is none", func(t *testing.T) {
		for _, token := range []string{"nonsense", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2ln", "gvn_nonsense"} {
			if got := b.server.status(b.server.as(token), http.MethodGet, "/api/v1/audit", nil, ""); got != http.StatusUnauthorized {
				t.Errorf("%s: answered with %d", token, got)
			}
		}
	})
	b.sub("a role in a namespace shows that namespace", func(t *testing.T) {
		if err := grants.Grant(t.Context(), rbac.Grant{Name: "jane", Role: "viewer", Namespace: "production"}); err != nil {
			t.Fatal(err)
		}
		becomes("jane", http.StatusOK, func() int { return get("/api/v1/audit", nil) })
		if !may("list", "auditevents.platform.chatcli.io", "-n", "production") || may("list", "auditevents.platform.chatcli.io", "-n", "dev") {
			t.Error("kubectl auth can-i says something else")
		}
		var page struct{ Events []*event.Event }
		if err := jane.Get(t.Context(), "/api/v1/audit", nil, &page); err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if e.Resource.Namespace != "production" {
				t.Errorf("an event of %q is shown", e.Resource.Namespace)
			}
		}
		if len(page.Events) == 0 {
			t.Error("nothing is shown")
		}
		for path, want := range map[string]int{"/api/v1/audit/incidents/inc-production": 200, "/api/v1/audit/incidents/inc-dev": 404, "/api/v1/audit/export": 200,
			"/api/v1/audit/verify": 403, "/log/tile/entries/000": 403, "/api/v1/tokens": 403} {
			if got := get(path, nil); got != want {
				t.Errorf("%s: answered with %d, want %d", path, got, want)
			}
		}
		if got := get("/api/v1/audit", url.Values{"type": {"AuditRead"}}); got != http.StatusForbidden {
			t.Errorf("who read what: answered with %d", got)
		}
	})
	b.sub("a stream ends when the role does", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		resp, err := jane.Do(ctx, http.MethodGet, "/api/v1/audit/stream", nil, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := grants.Revoke(t.Context(), rbac.Grant{Name: "jane", Role: "viewer", Namespace: "production"}); err != nil {
			t.Fatal(err)
		}
		becomes("jane", http.StatusForbidden, func() int { return get("/api/v1/audit", nil) })
		if _, err := io.Copy(io.Discard, resp.Body); err != nil && ctx.Err() != nil {
			t.Error("it goes on", err)
		}
	})
	b.sub("roles may do what can-i says", func(t *testing.T) {
		for _, role := range []string{"viewer", "operator", "admin", "superadmin", "auditor", "recorder"} {
			if err := grants.GrantRole(t.Context(), "jane", role); err != nil {
				t.Fatal(err)
			}
			want := func(good bool) int {
				if good {
					return http.StatusOK
				}
				return http.StatusForbidden
			}
			one := `{"eventType":"X","timestamp":"2026-01-01T00:00:00Z","actor":{"type":"user","name":"jane"},"resource":{"kind":"Pod","namespace":"dev"}}`
			for _, c := range []struct {
				can          []string
				method, path string
				query        url.Values
				body         string
			}{
				{[]string{"list", "auditevents.platform.chatcli.io"}, "GET", "/api/v1/audit", nil, ""},
				{[]string{"create", "auditevents.platform.chatcli.io"}, "POST", "/api/v1/audit/events", nil, one},
				{[]string{"create", "auditevents.platform.chatcli.io", "--subresource=tokens"}, "GET", "/api/v1/tokens", nil, ""},
				{[]string{"create", "auditevents.platform.chatcli.io", "--subresource=erasures"}, "POST", "/api/v1/erasures/plan", nil, `{"correlation_id":"inc-dev","reason":"asked"}`},
				{[]string{"create", "auditevents.platform.chatcli.io", "--subresource=attestations"}, "POST", "/api/v1/audit/events", url.Values{"on_behalf_of": {"john"}}, one},
			} {
				becomes(role+" "+c.path+" "+c.query.Encode(), want(may(c.can...)), func() int { return b.server.status(jane, c.method, c.path, c.query, c.body) })
			}
			if may("list", "auditevents.platform.chatcli.io") {
				becomes(role+", who read what", want(may("create", "auditevents.platform.chatcli.io", "--subresource=accessreviews")),
					func() int { return get("/api/v1/audit", url.Values{"type": {"AuditRead"}}) })
			}
			if err := grants.RevokeRole(t.Context(), "jane", role); err != nil {
				t.Fatal(err)
			}
			becomes("jane without "+role, http.StatusForbidden, func() int { return get("/api/v1/audit", nil) })
		}
	})
	b.sub("who may create in a namespace records of that namespace", func(t *testing.T) {
		if err := grants.Grant(t.Context(), rbac.Grant{Kind: "ServiceAccount", Name: "dev:agent", Role: "recorder", Namespace: "dev"}); err != nil {
			t.Fatal(err)
		}
		b.k.Kubectl(testenv.KubeAdmin, "create", "serviceaccount", "agent", "-n", "dev")
		agent := b.server.as(b.k.Kubectl(testenv.KubeAdmin, "create", "token", "agent", "-n", "dev"))
		of := func(ns string) *event.Event {
			return &event.Event{EventType: "X", Timestamp: time.Now().UTC(), Actor: event.Actor{Type: "service", Name: "system:serviceaccount:dev:agent"},
				Resource: event.Resource{Kind: "Pod", Namespace: ns}, CorrelationID: "of-agent"}
		}
		testenv.Eventually(t, "it may", func() bool { _, err := agent.RecordSync(t.Context(), of("dev")); return err == nil })
		if e := b.server.events(url.Values{"correlation_id": {"of-agent"}})[0]; e.Recorded.Principal != "system:serviceaccount:dev:agent" || e.Recorded.Via != "tokenreview" ||
			e.Recorded.Attribution != event.AttributionAuthenticated {
			t.Errorf("%+v", e.Recorded)
		}
		for _, ns := range []string{"production", ""} {
			if _, err := agent.RecordSync(t.Context(), of(ns)); err == nil || !strings.Contains(err.Error(), "resource.namespace") {
				t.Errorf("%q: %v", ns, err)
			}
		}
		results, err := agent.RecordBatch(t.Context(), &client.Batch{Events: [][]byte{of("dev").AppendJSON(nil), of("production").AppendJSON(nil)}, Key: "k"})
		if err != nil || results[0].Err != nil || results[1].Err == nil {
			t.Errorf("%v, %+v", err, results)
		}
	})
	b.sub("an API server that is away is no refusal", func(t *testing.T) {
		b.k.API.Stop()
		becomes("jane", http.StatusServiceUnavailable, func() int { return get("/api/v1/audit", nil) })
		if got := b.server.status(b.server.admin, http.MethodGet, "/api/v1/audit", nil, ""); got != http.StatusOK {
			t.Errorf("one who needs no API server is answered with %d", got)
		}
		b.k.API.Start()
		becomes("jane", http.StatusForbidden, func() int { return get("/api/v1/audit", nil) })
	})
}

// roles returns what grants roles as the cluster's administrator.
func roles(t *testing.T, b *bed) *rbac.RBACManager {
	t.Helper()
	c, err := clientcmd.BuildConfigFromFlags("", b.k.Kubeconfig(testenv.KubeAdmin))
	if err != nil {
		t.Fatal(err)
	}
	api, err := ctrlclient.New(c, ctrlclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := rbac.NewRBACManager(rbac.Config{Client: api, Sender: synchronous{b.server.admin}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.EnsureRoles(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}
