package testenv

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// KubeAdmin is the user of a [Kube] who may do everything.
const KubeAdmin = "admin"

// KubeOptions say what a Kubernetes has beside etcd and an API server.
type KubeOptions struct {
	// Users are those whom the API server knows beside [KubeAdmin], each by
	// their name, with their groups.
	Users map[string][]string
	// Controllers are those of the controller manager that run. Where there are
	// none it does not run, namespaces never end and nothing is collected.
	Controllers []string
	// Credentials has each controller be a service account of its own.
	Credentials bool
	// AuditWebhook is where the API server's audit events are posted, if
	// anywhere. AuditToken is sent along over TLS only, which AuditCA vouches for,
	// in PEM.
	AuditWebhook, AuditToken string
	AuditCA                  []byte
	// AuditPolicy says what of requests is in the audit log; empty for all.
	AuditPolicy string
	// Flags are more of the API server's.
	Flags []string
}

// A Kube is a Kubernetes of a test's own, without nodes: etcd, an API server and,
// where asked for, a controller manager, which listen on the loopback address.
type Kube struct {
	t       testing.TB
	options KubeOptions
	bin     string // directory of the programs
	dir     string // its own
	url     string // of the API server
	client  *http.Client

	Etcd, API, Controllers KubePart
}

// A KubePart is one of the programs of a Kubernetes.
type KubePart struct {
	t     testing.TB
	args  []string
	ready func() bool
	daemon
}

// Start starts the program again after Stop or Kill.
func (p *KubePart) Start() {
	p.t.Helper()
	p.start(p.t, exec.Command(p.args[0], p.args[1:]...), p.ready)
}

// Stop stops the program in order.
func (p *KubePart) Stop() { p.end(syscall.SIGTERM) }

// Output returns what the program has said. It must not run.
func (p *KubePart) Output() string { return p.output.String() }

// StartKube starts a Kubernetes, which ends with the test. Its programs are built
// when they are needed for the first time on a machine, which takes some minutes.
func StartKube(t testing.TB, options KubeOptions) *Kube {
	t.Helper()
	k := &Kube{t: t, options: options, bin: needKube(t)}
	var err error
	if k.dir, err = os.MkdirTemp("", "kube"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(k.dir) })
	for _, p := range []*KubePart{&k.Etcd, &k.API, &k.Controllers} {
		p.t = t
		t.Cleanup(p.Stop)
	}
	etcd := k.startEtcd()
	k.startAPI(etcd)
	if len(options.Controllers) > 0 {
		k.startControllers()
	}
	return k
}

func (k *Kube) startEtcd() (url string) {
	k.t.Helper()
	url, peers := "http://"+free(k.t), "http://"+free(k.t)
	k.Etcd.args = []string{filepath.Join(k.bin, "etcd"), "--data-dir", filepath.Join(k.dir, "etcd"), "--log-level=warn", "--unsafe-no-fsync",
		"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peers,
		"--initial-advertise-peer-urls", peers, "--initial-cluster", "default=" + peers}
	k.Etcd.ready = func() bool { return answers(http.DefaultClient, url+"/readyz", "") }
	k.Etcd.Start()
	return url
}

func (k *Kube) startAPI(etcd string) {
	k.t.Helper()
	address := free(k.t)
	host, port, _ := strings.Cut(address, ":")
	k.url = "https://" + address
	signing, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		k.t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(signing)
	if err != nil {
		k.t.Fatal(err)
	}
	key := k.write("accounts.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	var users bytes.Buffer
	fmt.Fprintf(&users, "%s,%s,%[1]s,\"system:masters\"\n", KubeAdmin, KubeAdmin)
	for name, groups := range k.options.Users {
		fmt.Fprintf(&users, "%s,%s,%s,%q\n", token(name), name, name, strings.Join(groups, ","))
	}
	policy := k.write("audit.yaml", []byte(cmp.Or(k.options.AuditPolicy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: RequestResponse\n")))
	k.API.args = append([]string{filepath.Join(k.bin, "kube-apiserver"), "--etcd-servers", etcd, "--bind-address", host, "--advertise-address", host,
		"--secure-port", port, "--cert-dir", filepath.Join(k.dir, "certs"), "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--token-auth-file", k.write("users.csv", users.Bytes()),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		"--audit-policy-file", policy, "--audit-log-path", k.AuditLog()}, k.options.Flags...)
	if url := k.options.AuditWebhook; url != "" {
		k.API.args = append(k.API.args, "--audit-webhook-config-file", k.write("webhook.json", kubeconfig(url, k.options.AuditCA, k.options.AuditToken)), "--audit-webhook-batch-max-wait=1s")
	}
	k.client = &http.Client{Timeout: 10 * time.Second}
	k.API.ready = func() bool {
		ca, err := os.ReadFile(k.ca())
		if err != nil {
			return false // it makes it when it starts for the first time
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		k.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
		return answers(k.client, k.url+"/readyz", KubeAdmin)
	}
	k.API.Start()
}

func (k *Kube) startControllers() {
	k.t.Helper()
	host, port, _ := strings.Cut(free(k.t), ":")
	k.Controllers.args = []string{filepath.Join(k.bin, "kube-controller-manager"), "--kubeconfig", k.Kubeconfig(KubeAdmin), "--leader-elect=false",
		"--bind-address", host, "--secure-port", port, "--cert-dir", filepath.Join(k.dir, "certs"), "--controllers", strings.Join(k.options.Controllers, ","),
		"--service-account-private-key-file", filepath.Join(k.dir, "accounts.key"), "--root-ca-file", k.ca(),
		"--authentication-kubeconfig", k.Kubeconfig(KubeAdmin), "--authorization-kubeconfig", k.Kubeconfig(KubeAdmin),
		fmt.Sprintf("--use-service-account-credentials=%t", k.options.Credentials)}
	// It serves its health to everybody, over TLS that it made itself.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 10 * time.Second}
	k.Controllers.ready = func() bool { return answers(client, "https://"+host+":"+port+"/healthz", "") }
	k.Controllers.Start()
}

// AuditLog returns the file that the API server writes its audit events to, a
// line each.
func (k *Kube) AuditLog() string { return filepath.Join(k.dir, "audit.log") }

// URL returns the API server's address.
func (k *Kube) URL() string { return k.url }

// CAFile returns the file with the authority of the API server's certificate, in PEM.
func (k *Kube) CAFile() string { return k.ca() }

// Token returns what one of the users shows to the API server.
func (k *Kube) Token(user string) string { return token(user) }

func (k *Kube) ca() string { return filepath.Join(k.dir, "certs", "apiserver.crt") }

// Kubeconfig returns a file with which programs are one of the users.
func (k *Kube) Kubeconfig(user string) string {
	k.t.Helper()
	ca, err := os.ReadFile(k.ca())
	if err != nil {
		k.t.Fatal(err)
	}
	secret := token(user)
	return k.write(fmt.Sprintf("kubeconfig-%x", user), kubeconfig(k.url, ca, secret))
}

// Kubectl runs kubectl as one of the users, and returns what it prints.
func (k *Kube) Kubectl(user string, args ...string) string {
	k.t.Helper()
	out, err := k.TryKubectl(user, nil, args...)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Apply has one of the users apply manifests.
func (k *Kube) Apply(user, manifests string) {
	k.t.Helper()
	if out, err := k.TryKubectl(user, []byte(manifests), "apply", "--server-side", "-f", "-"); err != nil {
		k.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

// TryKubectl is Kubectl with something on its standard input, and may fail; then
// it returns what kubectl says.
func (k *Kube) TryKubectl(user string, in []byte, args ...string) (string, error) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.KubectlPath(), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.Kubeconfig(user), "HOME="+k.dir)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// KubectlPath returns the path of kubectl.
func (k *Kube) KubectlPath() string { return filepath.Join(k.bin, "kubectl") }

func (k *Kube) write(name string, content []byte) string {
	k.t.Helper()
	path := filepath.Join(k.dir, name)
	if had, err := os.ReadFile(path); err == nil && bytes.Equal(had, content) {
		return path // others may be reading it
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

// token returns the secret of one of the users.
func token(user string) string {
	if user == KubeAdmin {
		return KubeAdmin
	}
	return fmt.Sprintf("token-%x", user)
}

// kubeconfig returns the configuration of a client of a server.
func kubeconfig(url string, ca []byte, secret string) []byte {
	type named map[string]any
	cluster, user := named{"server": url}, named{}
	if ca != nil {
		cluster["certificate-authority-data"] = ca // base64, as Go's JSON has bytes
	}
	if secret != "" {
		user["token"] = secret
	}
	text, err := json.Marshal(named{"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []named{{"name": "test", "cluster": cluster}},
		"users":    []named{{"name": "test", "user": user}},
		"contexts": []named{{"name": "test", "context": named{"cluster": "test", "user": "test"}}}})
	if err != nil {
		panic(err) // of strings and bytes
	}
	return text
}

// answers reports whether a server answers well.
func answers(client *http.Client, url, secret string) bool {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// free returns an address that nobody listens on.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

var buildingKube sync.Mutex

// needKube returns the directory of Kubernetes' programs. They are built from the
// modules that hack/kube names into the user's cache, once for each version.
func needKube(t testing.TB) string {
	t.Helper()
	buildingKube.Lock()
	defer buildingKube.Unlock()
	module := moduleOf(t, filepath.Join("hack", "kube"))
	cmd := exec.Command("sh", filepath.Join(module, "build"))
	cmd.Stderr = os.Stderr // it takes minutes, and says so
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("building Kubernetes: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// moduleOf returns a directory below the root of our own module.
func moduleOf(t testing.TB, below string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, below)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		if dir == filepath.Dir(dir) {
			t.Fatalf("there is no %s", below)
		}
	}
}
