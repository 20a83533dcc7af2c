package main

import (
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/testenv"
)

// role runs graven role as a user.
func (b *bed) role(user string, args ...string) (string, error) {
	cmd := exec.Command(os.Args[0], append([]string{"role"}, args...)...)
	cmd.Env = append(os.Environ(), "GRAVEN_OPERATOR=1", "GRAVEN_URL="+b.server.url, "GRAVEN_TOKEN="+b.server.secret, "KUBECONFIG="+b.k.Kubeconfig(user))
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestRolesAreGrantedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	b := newBed(t, false)
	must := func(args ...string) string {
		t.Helper()
		out, err := b.role(testenv.KubeAdmin, args...)
		if err != nil {
			t.Fatalf("graven role %s: %s", strings.Join(args, " "), out)
		}
		return out
	}
	may := func(user, verb, resource string) string {
		out, _ := b.k.TryKubectl(testenv.KubeAdmin, nil, "auth", "can-i", verb, resource, "--as", user) // it fails where the answer is no
		return strings.TrimSpace(out)
	}
	must("ensure")
	if got := may("john@company.com", "list", "auditevents.platform.chatcli.io"); !strings.HasSuffix(got, "no") {
		t.Fatal(got)
	}
	must("grant", "john@company.com", "operator", "--reason", "on call")
	testenv.Eventually(t, "he may approve", func() bool {
		return strings.HasSuffix(may("john@company.com", "list", "auditevents.platform.chatcli.io"), "yes")
	})
	if e := b.one(url.Values{"type": {"RoleGranted"}, "outcome": {"success"}}); details(t, e)["user"] != "john@company.com" {
		t.Errorf("%s", e.Details)
	}
	if out := must("list"); !strings.Contains(out, "operator  User  john@company.com  all        never") {
		t.Errorf("%s", out)
	}
	if out := must("list", "-o", "json"); !strings.Contains(out, `"name": "john@company.com"`) {
		t.Errorf("%s", out)
	}
	must("revoke", "john@company.com", "operator")
	testenv.Eventually(t, "he may not any more", func() bool {
		return strings.HasSuffix(may("john@company.com", "list", "auditevents.platform.chatcli.io"), "no")
	})

	b.run("--expire-roles")
	must("grant", "sre", "viewer", "--kind", "Group", "-n", "production", "--expires-in", "2s")
	testenv.Eventually(t, "it has expired", func() bool { return !strings.Contains(must("list"), "sre") })

	for _, c := range []struct{ args, want string }{
		{"grant john@company.com king", "king"},
		{"grant john@company.com operator --kind Dog", "Dog"},
		{"revoke nobody operator", "not found"},
		{"grant john@company.com operator --expires-in -1s", "--expires-in"},
		{"list -o xml", "xml"},
	} {
		if out, err := b.role(testenv.KubeAdmin, strings.Fields(c.args)...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("graven role %s: %s", c.args, out)
		}
	}
	b.server.stop() // without the ledger, nothing is granted
	began := time.Now()
	if out, err := b.role(testenv.KubeAdmin, "grant", "eve", "superadmin"); err == nil {
		t.Errorf("%s", out)
	}
	t.Log("refused after", time.Since(began).Round(time.Millisecond))
	if out := b.k.Kubectl(testenv.KubeAdmin, "get", "clusterrolebindings", "-o", "name"); strings.Contains(out, "eve") {
		t.Errorf("%s", out)
	}
}
