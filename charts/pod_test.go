package charts_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/graven-audit/graven/charts"
	"github.com/graven-audit/graven/internal/testenv"
)

// A machine is where a pod of the chart is run without a cluster: its volumes are
// directories, and its Secrets files.
type machine struct {
	t       *testing.T
	bin     string // the image's programs
	root    string // in place of /
	address string
	env     []string // of Secrets
	keys    bool     // are in a Secret, where nothing can be written
}

// local has paths and addresses be those of the machine.
func (m *machine) local(text string) string {
	return strings.NewReplacer("/var/lib/graven", m.root+"/var/lib/graven", "/etc/graven", m.root+"/etc/graven",
		":8090", m.address).Replace(text)
}

// mount puts what the release has into the machine.
func (m *machine) mount(r *charts.Rendered) {
	m.t.Helper()
	write := func(path, text string) {
		m.t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, o := range r.Objects {
		switch o.GetKind() + " " + o.GetName() {
		case "ConfigMap graven-server":
			text, _, _ := unstructured.NestedString(o.Object, "data", "graven.yaml")
			write(m.root+"/etc/graven/config/graven.yaml", m.local(text))
		case "Secret graven-server-tls":
			var s corev1.Secret
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s); err != nil {
				m.t.Fatal(err)
			}
			for name, data := range s.Data {
				write(m.root+"/etc/graven/tls/"+name, string(data))
			}
			write(m.root+"/etc/graven/ca/ca.crt", string(s.Data["ca.crt"]))
		}
	}
}

// command returns what a container runs, as it would be run in the pod.
func (m *machine) command(c *corev1.Container) *exec.Cmd {
	env := append([]string{"PATH=" + m.bin, "HOME=" + m.root + "/var/lib/graven"}, m.env...)
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			env = append(env, e.Name+"="+m.local(strings.Replace(e.Value, ":8090", m.address[strings.LastIndex(m.address, ":"):], 1)))
		}
	}
	args := append(append([]string{}, c.Command[1:]...), c.Args...)
	for i, arg := range args {
		args[i] = regexp.MustCompile(`\$\((\w+)\)`).ReplaceAllStringFunc(m.local(arg), func(ref string) string {
			for _, e := range env {
				if value, ok := strings.CutPrefix(e, ref[2:len(ref)-1]+"="); ok {
					return value
				}
			}
			m.t.Errorf("%s is nowhere", ref)
			return ref
		})
	}
	cmd := exec.Command(filepath.Join(m.bin, c.Command[0]), args...)
	cmd.Dir, cmd.Env = m.root+"/var/lib/graven", env
	return cmd
}

// run runs the server's pod until the end of the test, and asks it as the chart's
// test does.
func (m *machine) run(values string) (stop func()) {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	m.address = l.Addr().String()
	l.Close()
	r := render(m.t, values)
	m.mount(r)
	if err := os.MkdirAll(m.root+"/var/lib/graven", 0o755); err != nil {
		m.t.Fatal(err)
	}
	var server, test *corev1.Container
	for _, o := range append(r.Objects, r.Hooks...) {
		if _, spec := podOf(m.t, o); spec != nil && o.GetName() == "graven-server" {
			server = &spec.Containers[0]
		} else if spec != nil && o.GetName() == "graven-test" {
			test = &spec.Containers[0]
		}
	}
	cmd := m.command(server)
	unshare := "-rm"
	if os.Geteuid() == 0 {
		unshare = "-m"
	}
	if m.keys && exec.Command("unshare", unshare, "true").Run() == nil { // where the machine lets us
		keys := m.root + "/var/lib/graven/graven-data/keys"
		args := append([]string{unshare, "sh", "-ec", `mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"`, keys, cmd.Path}, cmd.Args[1:]...)
		env, dir := cmd.Env, cmd.Dir
		cmd = exec.Command("unshare", args...)
		cmd.Env, cmd.Dir = append(env, "PATH="+os.Getenv("PATH")), dir
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan struct{})
	var how error
	go func() {
		how = cmd.Wait()
		close(ended)
	}()
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if how != nil {
			m.t.Errorf("the server ended with %v:\n%s", how, said.String())
		}
	})
	m.t.Cleanup(stop)
	test.Args = []string{"--url=https://localhost" + m.address[strings.LastIndex(m.address, ":"):]} // for the Service's name
	testenv.Eventually(m.t, "the chart's test passes", func() bool {
		select {
		case <-ended:
			m.t.Fatalf("the server ended with %v:\n%s", how, said.String())
		default:
		}
		out, err := m.command(test).CombinedOutput()
		return err == nil && strings.Contains(string(out), `"status":"ready"`)
	})
	// What kubectl exec runs in the pod finds server, certificate and token.
	exec := server.DeepCopy()
	exec.Command, exec.Args = []string{"graven", "list", "--type", "LedgerStarted", "-o", "name"}, nil
	if out, err := m.command(exec).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "audit-") {
		m.t.Errorf("in the pod: %v %s", err, out)
	}
	return stop
}

// migrate runs the Job that stands before an install or an upgrade.
func (m *machine) migrate(values string) {
	m.t.Helper()
	m.address = "127.0.0.1:0" // which it has no use for
	if err := os.MkdirAll(m.root+"/var/lib/graven", 0o755); err != nil {
		m.t.Fatal(err)
	}
	for _, o := range render(m.t, values).Hooks {
		if _, spec := podOf(m.t, o); spec != nil && o.GetName() == "graven-server-migrate" {
			if out, err := m.command(&spec.Containers[0]).CombinedOutput(); err != nil {
				m.t.Fatalf("%v: %s", err, out)
			}
			return
		}
	}
	m.t.Fatal("no Job migrates the schema")
}

func TestTheServersPodRunsAsItIsRendered(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/graven")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// There is no API server that it could ask.
	const alone = `kubernetes: {enabled: false}
operator: {enabled: false}
`
	t.Run("with a volume", func(t *testing.T) {
		m := &machine{t: t, bin: bin, root: t.TempDir()}
		m.run(alone + "server: {config: {origin: audit.example.com/prod}}")()
		m.run(alone) // in another pod with the same volume
	})
	t.Run("with PostgreSQL, by keys in a Secret", func(t *testing.T) {
		server := testenv.StartPostgres(t)
		database := server.Database()
		const values = alone + "store: {postgres: {existingSecret: db, keysSecret: keys, spool: {enabled: true}, migrate: {existingSecret: owner}}}"
		owner := &machine{t: t, bin: bin, root: t.TempDir(), env: []string{"GRAVEN_OWNER=" + server.DSN(database, "postgres")}}
		owner.migrate(values)
		owner.migrate(values) // as each upgrade does
		server.SQL(database, "CREATE ROLE app LOGIN; GRANT graven_writer TO app")
		store := "GRAVEN_STORE=" + server.DSN(database, "app")
		first := &machine{t: t, bin: bin, root: t.TempDir(), env: []string{store}}
		first.run(values)() // as the administrator does, which makes the keys
		token, err := os.ReadFile(first.root + "/var/lib/graven/graven-data/admin.token")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			m := &machine{t: t, bin: bin, root: t.TempDir(), env: []string{store, "GRAVEN_TOKEN=" + strings.TrimSpace(string(token))}, keys: true}
			for _, key := range []string{"ledger.key", "ledger.vkey"} {
				text, err := os.ReadFile(first.root + "/var/lib/graven/graven-data/keys/" + key)
				if err == nil {
					err = os.MkdirAll(m.root+"/var/lib/graven/graven-data/keys", 0o755)
				}
				if err == nil {
					err = os.WriteFile(m.root+"/var/lib/graven/graven-data/keys/"+key, text, 0o400)
				}
				if err != nil {
					t.Fatal(fmt.Sprint(i, err))
				}
			}
			m.run(values)
		}
	})
}
