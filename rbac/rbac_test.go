package rbac_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/rbac"
)

// A trail keeps what is recorded, in short.
type trail struct {
	mu     sync.Mutex
	events []string
	fails  error
	before func(e *event.Event)
}

func (l *trail) Record(_ context.Context, e *event.Event) error {
	if l.before != nil {
		l.before(e)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails != nil {
		return l.fails
	}
	e = e.Clone()
	e.Complete(e.Timestamp)
	if err := e.Validate(e.Timestamp); err != nil || e.Recorded.Uncatalogued {
		return fmt.Errorf("not valid: %w", err)
	}
	l.events = append(l.events, strings.TrimSpace(strings.Join([]string{e.EventType, e.Outcome, e.Actor.Name, e.Resource.Kind, e.Error.Code}, " ")))
	return nil
}

// took returns what was recorded since it was last called.
func (l *trail) took() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := strings.Join(l.events, "\n")
	l.events = nil
	return all
}

// forgetful is a client whose answers to the making of bindings are lost.
type forgetful struct{ client.Client }

func (c forgetful) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	err := c.Client.Create(ctx, o, options...)
	if _, ok := o.(*rbacv1.ClusterRoleBinding); ok && err == nil {
		return context.DeadlineExceeded
	}
	return err
}

func as(t *testing.T, k *testenv.Kube, user string) client.Client {
	t.Helper()
	conf, err := clientcmd.BuildConfigFromFlags("", k.Kubeconfig(user))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(conf, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRolesAreGrantedAndRevokedByWhomTheyMayAndRecorded(t *testing.T) {
	ctx := t.Context()
	k := testenv.StartKube(t, testenv.KubeOptions{Users: map[string][]string{"john@company.com": nil, "john-company.com": nil, "boss": {"people"}, "jane": {"people"}}})
	l := &trail{}
	clock := time.Now()
	manager := func(user string) *rbac.RBACManager {
		rm, err := rbac.NewRBACManager(rbac.Config{Client: as(t, k, user), Sender: l, Now: func() time.Time { return clock }})
		if err != nil {
			t.Fatal(err)
		}
		return rm
	}
	admin := manager(testenv.KubeAdmin)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	recorded := func(want string) {
		t.Helper()
		if got := l.took(); got != want {
			t.Errorf("recorded\n%s\nwant\n%s", got, want)
		}
	}
	can := func(user, verb, resource string, args ...string) bool {
		t.Helper()
		out, _ := k.TryKubectl(user, nil, append([]string{"auth", "can-i", verb, resource}, args...)...) // exits with 1 for no
		last := out[strings.LastIndexByte(out, '\n')+1:]
		if last != "yes" && last != "no" {
			t.Fatal(out)
		}
		return last == "yes"
	}
	// What was granted or revoked counts as soon as the API server has seen it.
	may := func(user, verb, resource string, args ...string) {
		t.Helper()
		testenv.Eventually(t, user+" may "+verb+" "+resource, func() bool { return can(user, verb, resource, args...) })
	}
	mayNot := func(user, verb, resource string, args ...string) {
		t.Helper()
		testenv.Eventually(t, user+" may not "+verb+" "+resource, func() bool { return !can(user, verb, resource, args...) })
	}
	crds, err := fs.Glob(config.CRDs, "crd/*")
	must(err)
	for _, name := range crds {
		text, err := fs.ReadFile(config.CRDs, name)
		must(err)
		k.Apply(testenv.KubeAdmin, string(text))
	}
	k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	for _, ns := range []string{"staging", "chatcli-system"} {
		k.Kubectl(testenv.KubeAdmin, "create", "namespace", ns)
	}

	// The roles are made, mended, and otherwise let be.
	must(admin.EnsureRoles(ctx))
	k.Kubectl(testenv.KubeAdmin, "patch", "clusterrole", "chatcli-aiops-viewer", "--type=json", "-p", `[{"op":"add","path":"/rules/0/verbs/-","value":"delete"}]`)
	l.took()
	must(admin.EnsureRoles(ctx))
	recorded("ConfigChanged pending admin ClusterRole\nConfigChanged success admin ClusterRole")
	version := k.Kubectl(testenv.KubeAdmin, "get", "clusterroles", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
	must(admin.EnsureRoles(ctx))
	if again := k.Kubectl(testenv.KubeAdmin, "get", "clusterroles", "-o", "jsonpath={.items[*].metadata.resourceVersion}"); again != version {
		t.Error("roles are written that are as they should be")
	}
	out := k.Kubectl(testenv.KubeAdmin, "get", "clusterroles", "-l", "platform.chatcli.io/rbac-role", "-o", "name")
	for _, role := range rbac.Roles() {
		if !strings.Contains(out, "chatcli-aiops-"+role) {
			t.Errorf("no role %s: %s", role, out)
		}
	}

	// A grant and its end, as they are documented.
	const john = "john@company.com"
	if can(john, "patch", "approvalrequests.platform.chatcli.io") {
		t.Error("john may approve before he was granted the role")
	}
	must(admin.GrantRole(ctx, john, "operator"))
	recorded("RoleGranted pending admin ClusterRoleBinding\nRoleGranted success admin ClusterRoleBinding")
	may(john, "patch", "approvalrequests.platform.chatcli.io")
	if can(john, "delete", "issues.platform.chatcli.io") {
		t.Error("an operator deletes")
	}
	if can("john-company.com", "get", "issues.platform.chatcli.io") {
		t.Error("somebody else has the role")
	}
	query := []string{"get", "clusterrolebindings", "-l", "platform.chatcli.io/rbac-role", "-o", `jsonpath={range .items[*]}{.metadata.name}: {.subjects[*].name}{"\n"}{end}`}
	if out := k.Kubectl(testenv.KubeAdmin, query...); !strings.HasPrefix(out, "chatcli-aiops-operator-john-company-com-") || !strings.HasSuffix(out, ": "+john) {
		t.Errorf("bindings: %s", out)
	}
	must(admin.GrantRole(ctx, john, "operator")) // again changes nothing
	must(admin.GrantRole(ctx, "john-company.com", "operator"))
	if out := k.Kubectl(testenv.KubeAdmin, query...); strings.Count(out, "\n") != 1 {
		t.Errorf("two users have\n%s", out)
	}
	must(admin.RevokeRole(ctx, "john-company.com", "operator"))
	must(admin.RevokeRole(ctx, john, "operator"))
	l.took()
	mayNot(john, "patch", "approvalrequests.platform.chatcli.io")
	if err := admin.RevokeRole(ctx, john, "operator"); !errors.Is(err, rbac.ErrNotFound) || !strings.Contains(err.Error(), "binding not found") {
		t.Errorf("revoked twice: %v", err)
	}
	recorded("")

	// Only who has the verb "bind" on a role may grant it.
	if err := manager("jane").GrantRole(ctx, john, "viewer"); !errors.Is(err, rbac.ErrForbidden) {
		t.Errorf("jane grants: %v", err)
	}
	recorded("RoleGranted failure jane ClusterRoleBinding forbidden")
	jane := &authenticationv1.UserInfo{Username: "jane", Groups: []string{"people", "system:authenticated"}}
	if err := admin.Grant(ctx, rbac.Grant{Name: john, Role: rbac.Viewer, By: jane}); !errors.Is(err, rbac.ErrForbidden) {
		t.Errorf("jane has granted: %v", err)
	}
	recorded("RoleGranted failure jane ClusterRoleBinding forbidden")
	must(admin.GrantRole(ctx, "boss", rbac.Superadmin))
	may("boss", "bind", "clusterroles.rbac.authorization.k8s.io/chatcli-aiops-viewer")
	l.took()
	boss := &authenticationv1.UserInfo{Username: "boss", Groups: []string{"people"}}
	must(admin.Grant(ctx, rbac.Grant{Name: john, Role: rbac.Viewer, By: boss, Reason: "on call"}))
	recorded("RoleGranted pending boss ClusterRoleBinding\nRoleGranted success boss ClusterRoleBinding")
	must(admin.Revoke(ctx, rbac.Grant{Name: john, Role: rbac.Viewer, By: boss}))
	l.took()

	// Groups and service accounts, in a namespace, and for a time.
	must(admin.Grant(ctx, rbac.Grant{Kind: rbacv1.GroupKind, Name: "people", Role: rbac.Viewer, Namespace: "staging", Expires: clock.Add(time.Hour)}))
	must(admin.Grant(ctx, rbac.Grant{Kind: rbacv1.ServiceAccountKind, Name: "chatcli-system:agent", Role: rbac.Recorder}))
	recorded("RoleGranted pending admin RoleBinding\nRoleGranted success admin RoleBinding\nRoleGranted pending admin ClusterRoleBinding\nRoleGranted success admin ClusterRoleBinding")
	may("jane", "list", "issues.platform.chatcli.io", "-n", "staging")
	if can("jane", "list", "issues.platform.chatcli.io", "-n", "chatcli-system") {
		t.Error("a grant in a namespace is for that")
	}
	may(testenv.KubeAdmin, "create", "auditevents.platform.chatcli.io", "--as", "system:serviceaccount:chatcli-system:agent")
	if n, err := admin.Expire(ctx); n != 0 || err != nil {
		t.Errorf("before its time: %d, %v", n, err)
	}
	clock = clock.Add(time.Hour)
	l.took()
	if n, err := admin.Expire(ctx); n != 1 || err != nil {
		t.Errorf("%d grants expired, %v", n, err)
	}
	recorded("RoleRevoked pending admin RoleBinding\nRoleRevoked success admin RoleBinding")
	mayNot("jane", "list", "issues.platform.chatcli.io", "-n", "staging")
	grants, err := admin.List(ctx)
	if got := fmt.Sprint(len(grants)); err != nil || got != "2" || grants[0].Name != "boss" || grants[1].Kind != rbacv1.ServiceAccountKind {
		t.Errorf("grants %+v, %v", grants, err)
	}

	// What is given another end while it ends stays.
	must(admin.Grant(ctx, rbac.Grant{Name: "carol", Role: rbac.Viewer, Expires: clock.Add(time.Minute)}))
	clock = clock.Add(time.Minute)
	l.before = func(e *event.Event) {
		if l.before = nil; e.EventType == "RoleRevoked" {
			l.took()
			must(admin.Grant(ctx, rbac.Grant{Name: "carol", Role: rbac.Viewer, Expires: clock.Add(time.Hour)}))
		}
	}
	if n, err := admin.Expire(ctx); n != 0 || !apierrors.IsConflict(err) {
		t.Errorf("%d grants expired, %v, and carol's was renewed", n, err)
	}
	may(testenv.KubeAdmin, "list", "issues.platform.chatcli.io", "--as", "carol")
	recorded("RoleGranted pending admin ClusterRoleBinding\nRoleGranted success admin ClusterRoleBinding\nRoleRevoked pending admin ClusterRoleBinding\nRoleRevoked failure admin ClusterRoleBinding")
	must(admin.RevokeRole(ctx, "carol", rbac.Viewer))

	// What has an end goes then, whomever it names by now, and others with it.
	for i, user := range []string{"alice", "bob", "zed"} {
		must(admin.Grant(ctx, rbac.Grant{Name: user, Role: rbac.Viewer, Expires: clock.Add(time.Duration(i+1) * time.Minute)}))
	}
	bindings := strings.Fields(k.Kubectl(testenv.KubeAdmin, "get", "clusterrolebindings", "-l", "platform.chatcli.io/rbac-role=viewer", "-o", "name"))
	if len(bindings) != 3 {
		t.Fatal(bindings)
	}
	k.Kubectl(testenv.KubeAdmin, "patch", bindings[0], "--type=json", "-p", `[{"op":"add","path":"/subjects/-","value":{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}}]`)
	k.Kubectl(testenv.KubeAdmin, "annotate", bindings[1], "graven.dev/expires=2020-01-01", "--overwrite")
	clock = clock.Add(3 * time.Minute)
	l.took()
	if n, err := admin.Expire(ctx); n != 3 || err != nil {
		t.Errorf("%d bindings expired, %v", n, err)
	}
	mayNot(testenv.KubeAdmin, "list", "issues.platform.chatcli.io", "--as", "mallory")
	if got := l.took(); strings.Count(got, "RoleRevoked success") != 4 {
		t.Errorf("recorded\n%s", got)
	}

	// A service account is the same by either name.
	must(admin.Grant(ctx, rbac.Grant{Name: "system:serviceaccount:chatcli-system:other", Role: rbac.Viewer}))
	must(admin.Revoke(ctx, rbac.Grant{Kind: rbacv1.ServiceAccountKind, Name: "chatcli-system:other", Role: rbac.Viewer}))

	// An answer that is lost does not make a failure of what was done.
	lost, err := rbac.NewRBACManager(rbac.Config{Client: forgetful{as(t, k, testenv.KubeAdmin)}, Sender: l, Now: func() time.Time { return clock }})
	must(err)
	l.took()
	if err := lost.GrantRole(ctx, john, rbac.Viewer); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	recorded("RoleGranted pending admin ClusterRoleBinding\nRoleGranted success admin ClusterRoleBinding")
	may(john, "list", "issues.platform.chatcli.io")
	must(admin.RevokeRole(ctx, john, rbac.Viewer))

	// Who may not revoke does not learn what there is.
	l.took()
	if err := manager("jane").RevokeRole(ctx, "nobody", rbac.Viewer); !errors.Is(err, rbac.ErrForbidden) {
		t.Error(err)
	}
	recorded("RoleRevoked failure jane ClusterRoleBinding forbidden")

	// What cannot be recorded is not done.
	l.fails = errors.New("no room")
	if err := admin.GrantRole(ctx, john, rbac.Admin); !errors.Is(err, l.fails) || can(john, "delete", "issues.platform.chatcli.io") {
		t.Errorf("granted without a record: %v", err)
	}
	l.fails = nil

	// A binding that somebody changed is not taken for a grant.
	must(admin.GrantRole(ctx, john, rbac.Viewer))
	name := strings.Split(k.Kubectl(testenv.KubeAdmin, "get", "clusterrolebindings", "-l", "platform.chatcli.io/rbac-role=viewer", "-o", "name"), "/")[1]
	k.Kubectl(testenv.KubeAdmin, "patch", "clusterrolebinding", name, "--type=json", "-p", `[{"op":"replace","path":"/subjects/0/name","value":"mallory"}]`)
	if err := admin.RevokeRole(ctx, john, rbac.Viewer); err == nil || !strings.Contains(err.Error(), "was changed by somebody") {
		t.Errorf("a changed binding is revoked: %v", err)
	}

	// No role changes an AuditEvent, or deletes one.
	for _, role := range rbac.Roles() {
		must(admin.Grant(ctx, rbac.Grant{Name: "holder-of-" + role, Role: role}))
		testenv.Eventually(t, "a "+role+" may do something", func() bool {
			return can(testenv.KubeAdmin, "list", "auditevents.platform.chatcli.io", "--as", "holder-of-"+role) || can(testenv.KubeAdmin, "create", "auditevents.platform.chatcli.io", "--as", "holder-of-"+role)
		})
		for _, verb := range []string{"update", "patch", "delete", "deletecollection"} {
			if can(testenv.KubeAdmin, verb, "auditevents.platform.chatcli.io", "--as", "holder-of-"+role) {
				t.Errorf("a %s may %s AuditEvents", role, verb)
			}
		}
		for _, verb := range []string{"escalate", "update", "delete"} {
			if can(testenv.KubeAdmin, verb, "clusterroles", "--as", "holder-of-"+role) {
				t.Errorf("a %s may %s ClusterRoles", role, verb)
			}
		}
	}
}

func TestAGrantThatIsNoneIsRefusedByField(t *testing.T) {
	rm, err := rbac.NewRBACManager(rbac.Config{Client: struct{ client.Client }{}, Sender: &trail{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		grant rbac.Grant
		want  string
	}{
		{rbac.Grant{Role: "viewer"}, "name: required"},
		{rbac.Grant{Name: "x", Role: "root"}, `role is "root"`},
		{rbac.Grant{Name: "x", Role: "viewer", Kind: "Robot"}, `kind is "Robot"`},
		{rbac.Grant{Name: "x", Role: "viewer", Kind: "ServiceAccount"}, "{namespace}:{name}"},
		{rbac.Grant{Name: strings.Repeat("x", 513), Role: "viewer"}, "name: 513 bytes"},
		{rbac.Grant{Name: "x", Role: "viewer", Expires: time.Unix(1, 0)}, "expires: "},
	} {
		if err := rm.Grant(t.Context(), c.grant); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.grant, err)
		}
	}
}

// TestTheManifestOfTheRolesIsWhatEnsureRolesMakes writes it anew where the
// environment has UPDATE.
func TestTheManifestOfTheRolesIsWhatEnsureRolesMakes(t *testing.T) {
	want := "# The roles that rbac.EnsureRoles makes. UPDATE=1 go test ./rbac -run Manifest writes it anew.\n"
	for _, role := range rbac.ClusterRoles() {
		text, err := yaml.Marshal(role)
		if err != nil {
			t.Fatal(err)
		}
		want += "---\n" + string(text)
	}
	path := filepath.Join("..", "config", "rbac", "roles.yaml")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != want {
		t.Errorf("%s is not what ClusterRoles says: %v", path, err)
	}
}

func TestTheRolesSayNoMoreThanRBACCan(t *testing.T) {
	for _, role := range rbac.ClusterRoles() {
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				if verb == rbacv1.VerbAll || verb == "escalate" || verb == "impersonate" {
					t.Errorf("%s has the verb %s", role.Name, verb)
				}
				if rule.Resources[0] == "*" && verb != "get" && verb != "list" && verb != "watch" {
					t.Errorf("%s has the verb %s on everything", role.Name, verb)
				}
			}
			for _, name := range rule.ResourceNames {
				if strings.Contains(name, "*") {
					t.Errorf("%s names %s", role.Name, name)
				}
			}
		}
		if role.Name != rbac.RetentionRole && role.Labels[rbac.LabelRole] == "" {
			t.Errorf("%s has no label", role.Name)
		}
	}
}
