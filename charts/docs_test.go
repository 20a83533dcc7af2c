package charts_test

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/internal/testenv"
)

// blocks returns the blocks of docs/install.md that stand behind a mark.
func blocks(t *testing.T, mark string) (found []string) {
	t.Helper()
	page, err := os.ReadFile("../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)<!-- "+mark+" -->\n```[a-z]+\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		found = append(found, m[1])
	}
	if len(found) == 0 {
		t.Fatalf("no block is marked %s", mark)
	}
	return found
}

func TestTheValuesInTheDocsAreTaken(t *testing.T) {
	for _, text := range blocks(t, "values") {
		check(t, render(t, text))
	}
	for _, m := range regexp.MustCompile(`--set (\S+)=(\S+)`).FindAllStringSubmatch(strings.Join(blocks(t, "helm"), ""), -1) {
		if !strings.Contains(texts(t, nested(m[1], m[2])), m[2]) {
			t.Errorf("--set %s=%s does nothing", m[1], m[2])
		}
	}
}

// nested returns the values that --set means.
func nested(path, value string) string {
	names := strings.Split(path, ".")
	for i := len(names) - 1; i >= 0; i-- {
		value = "{" + names[i] + ": " + value + "}"
	}
	return value
}

func TestTheKustomizationInTheDocsNamesWhatThereIs(t *testing.T) {
	var k struct {
		Resources, Components []string
		Images                []struct{ Name string }
	}
	if err := yaml.Unmarshal([]byte(blocks(t, "kustomization")[0]), &k); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(k.Resources, k.Components...) {
		if _, err := os.Stat(filepath.Join("..", path, "kustomization.yaml")); err != nil {
			t.Error(err)
		}
	}
	if len(k.Components) < 5 || len(k.Images) != 1 || !strings.Contains(texts(t, ""), "image: "+k.Images[0].Name+":") {
		t.Errorf("%+v", k)
	}
}

func TestTheCertificateThatTheDocsMakeIsGood(t *testing.T) {
	testenv.Need(t, "openssl")
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", blocks(t, "certificate")[0])
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	for _, name := range []string{"graven-server.graven-system.svc", "localhost", "127.0.0.1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheChartHasTheManifestsOfConfig(t *testing.T) {
	for _, part := range []string{"audit", "crd", "policies", "rbac"} {
		count := 0
		err := filepath.WalkDir(filepath.Join("../config", part), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() == "kustomization.yaml" {
				return err
			}
			count++
			want, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel("../config", path)
			if err != nil {
				return err
			}
			got, err := os.ReadFile(filepath.Join(dir, "files", name))
			if err == nil && !strings.HasSuffix(string(got), "\n"+string(want)) {
				t.Errorf("%s is not config's; run make generate", name)
			}
			return err
		})
		if err != nil || count == 0 {
			t.Errorf("%s: %v", part, err)
		}
	}
}
