package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/trail"
)

// startWitness starts a witness of the ledger whose public key is in vkey.
func startWitness(t *testing.T, dir, listen, vkey string) (d *daemon, key string) {
	t.Helper()
	d, err := start(exec.Command("graven", "witness", "--data", dir, "--listen", listen, "--log", vkey), os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.stop(syscall.SIGKILL) })
	text, err := os.ReadFile(filepath.Join(dir, "witness.vkey"))
	if err != nil {
		t.Fatal(err)
	}
	return d, strings.TrimSpace(string(text))
}

// readiness is what /readyz says.
type readiness struct {
	Size, Witnessed int64
	Refusing        []string
}

// until asks a server whether it is ready until the answer is as wanted.
func until(t *testing.T, url string, wanted func(readiness) bool) readiness {
	t.Helper()
	var r readiness
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		r = readiness{}
		err = json.NewDecoder(resp.Body).Decode(&r)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK && wanted(r) {
			return r
		}
	}
	t.Fatalf("after a minute the server says %+v", r)
	return r
}

// graven runs a command and returns what it prints and its exit code.
func graven(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command("graven", args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func recordSome(t *testing.T, c *client.Client, first, n int) {
	t.Helper()
	for i := range n {
		if _, err := c.RecordBatch(t.Context(), &client.Batch{Events: [][]byte{numbered(first + i)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"keys/ledger.key", "admin.token"} {
		if err := os.Chmod(filepath.Join(to, key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWitnessesKeepALedgerFromTurningBack runs a ledger with three witnesses,
// of which two must sign and one is dead, brings back an older copy, and forks
// the ledger with its own key.
func TestWitnessesKeepALedgerFromTurningBack(t *testing.T) {
	dir := t.TempDir()
	data, vkey := filepath.Join(dir, "graven-data"), filepath.Join(dir, "ledger.vkey")
	env := []string{"HOME=" + dir, "XDG_STATE_HOME=" + filepath.Join(dir, "state")}

	// The first start makes the key that the witnesses need.
	d, err := startDaemon(data, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	recordSome(t, connect(t, data, d.url), 0, 3)
	if err := d.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	older, fork := filepath.Join(dir, "older"), filepath.Join(dir, "fork")
	copyDir(t, data, older)
	copyDir(t, data, fork)
	key, err := os.ReadFile(filepath.Join(data, "keys", "ledger.vkey"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vkey, key, 0o600); err != nil {
		t.Fatal(err)
	}

	one, key1 := startWitness(t, filepath.Join(dir, "w1"), "127.0.0.1:0", vkey)
	two, key2 := startWitness(t, filepath.Join(dir, "w2"), "127.0.0.1:0", vkey)
	dead, err := cosign.GenerateKey(rand.Reader, "witness.example/dead")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := cosign.NewCosigner(dead, nil)
	if err != nil {
		t.Fatal(err)
	}
	key3 := cosigner.Witness.String()
	config := filepath.Join(dir, "graven.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `witnesses:
- {url: %q, key: %q}
- {url: %q, key: %q}
- {url: "http://127.0.0.1:1", key: %q}
witnessThreshold: 2
witnessInterval: 20ms
`, one.url, key1, two.url, key2, key3), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err = startDaemon(data, os.Environ(), "--config", config); err != nil {
		t.Fatal(err)
	}
	c := connect(t, data, d.url)
	recordSome(t, c, 100, 300)
	until(t, d.url, func(r readiness) bool { return r.Witnessed == r.Size && r.Size > 300 && len(r.Refusing) == 0 })

	token := "GRAVEN_TOKEN=" + readToken(t, data)
	export := filepath.Join(dir, "export.ndjson")
	filtered := filepath.Join(dir, "filtered.ndjson")
	for file, args := range map[string][]string{export: nil, filtered: {"--type", "RemediationExecuted"}} {
		if out, code := graven(t, append(env, token), append([]string{"export", "--url", d.url, "-o", file}, args...)...); code != 0 {
			t.Fatalf("export: %d: %s", code, out)
		}
	}
	witnesses := []string{"--key", vkey, "--witness", key1, "--witness", key2, "--witness", key3}
	for _, target := range []string{data, d.url, export, filtered} {
		out, code := graven(t, append(env, token), append([]string{"verify", target, "--threshold", "2"}, witnesses...)...)
		if code != 0 || !strings.Contains(out, "witnessed up to entry") || !strings.Contains(out, "by 2 of 3") {
			t.Errorf("%s: %d: %s", target, code, out)
		}
		out, code = graven(t, append(env, token), append([]string{"verify", target}, witnesses...)...)
		if code != exitVerify || !strings.Contains(out, "not witnessed: 3 of 3 witnesses should have cosigned") {
			t.Errorf("all must sign: %s: %d: %s", target, code, out)
		}
	}
	for name, key := range map[string]string{"w1.vkey": key1, "w2.vkey": key2} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := shell(t, dir, blocks(t, "docs/operations.md", "witnessed")[0], "GRAVEN_URL="+d.url); err != nil || !strings.Contains(out, "by 2 of 2") {
		t.Errorf("as documented: %v\n%s", err, out)
	}
	// What readers get is cosigned; Graven's own commands see the newest.
	out, code := graven(t, append(env, token), "checkpoint", "--url", d.url, "--key", vkey, "--cosigned")
	if code != 0 || strings.Count(out, "— ") != 3 {
		t.Errorf("%d: %s", code, out)
	}
	if err := d.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	// An older copy does not start while a witness that saw more can be asked.
	for _, name := range []string{"index.db", "tree", "offsets"} {
		if err := os.RemoveAll(filepath.Join(older, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := sizes(t, older)
	_, err = startDaemon(older, os.Environ(), "--config", config)
	if err == nil || !strings.Contains(err.Error(), "refusing to sign") || !strings.Contains(err.Error(), "it holds ") {
		t.Fatalf("an older copy starts: %v", err)
	}
	if after := sizes(t, older); after != before {
		t.Errorf("the refused start has changed the log: %s, then %s", before, after)
	}

	// The same copy goes another way while no witness can be asked.
	for _, w := range []*daemon{one, two} {
		if err := w.stop(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if d, err = startDaemon(fork, os.Environ(), "--config", config); err != nil {
		t.Fatal(err)
	}
	defer d.stop(syscall.SIGKILL)
	recordSome(t, connect(t, fork, d.url), 1000, 400)
	startWitness(t, filepath.Join(dir, "w1"), strings.TrimPrefix(one.url, "http://"), vkey)
	r := until(t, d.url, func(r readiness) bool { return len(r.Refusing) > 0 })
	name, _, _ := strings.Cut(key1, "+")
	if r.Refusing[0] != name || r.Witnessed != 0 {
		t.Errorf("%+v", r)
	}
	out, code = graven(t, append(env, token), "list", "--url", d.url, "--type", "WitnessRefused", "-o", "json")
	if code != 0 || !strings.Contains(out, "are not the first of the ledger") || strings.Count(out, `"WitnessRefused"`) != 1 {
		t.Errorf("%d: %s", code, out)
	}
	out, code = graven(t, []string{token, "HOME=" + dir, "XDG_STATE_HOME=" + filepath.Join(dir, "fresh")}, "checkpoint", "--url", d.url)
	if code != exitVerify || !strings.Contains(out, "refused by "+name) {
		t.Errorf("%d: %s", code, out)
	}
	out, code = graven(t, append(env, token), "verify", fork, "--witness", key1)
	if code != exitVerify || !strings.Contains(out, "not witnessed") {
		t.Errorf("%d: %s", code, out)
	}
}

func readToken(t *testing.T, dir string) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(token))
}

// sizes sums up what the files of a ledger's log hold, but for zeros.
func sizes(t *testing.T, dir string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	var all []string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(len(bytes.TrimRight(data, "\x00"))))
	}
	return strings.Join(all, " ")
}

// TestAWitnessThatIsKilledNeverSignsBack kills a witness while it signs, at
// random moments: what it has signed, it remembers.
func TestAWitnessThatIsKilledNeverSignsBack(t *testing.T) {
	dir := t.TempDir()
	skey, vkey, err := note.GenerateKey(rand.Reader, "ledger.example/killed")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	var hashes []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, _ error) {
		for _, x := range indexes {
			out = append(out, hashes[x])
		}
		return out, nil
	})
	size, signed := int64(0), int64(0)
	// ask has the witness sign what extends old, and returns the status, and
	// what it holds where that is a conflict.
	ask := func(url string, old int64) (status int, held int64, err error) {
		body := fmt.Sprintf("old %d\n", old)
		if old > 0 {
			proof, err := tlog.ProveTree(size, old, read)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range proof {
				body += h.String() + "\n"
			}
		}
		root, err := tlog.TreeHash(size, read)
		if err != nil {
			t.Fatal(err)
		}
		c, err := trail.SignCheckpoint(signer.Name(), size, root, signer)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post(url+"/add-checkpoint", "text/plain", strings.NewReader(body+"\n"+string(c.Note)))
		if err != nil {
			return 0, 0, err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusConflict {
			_, err = fmt.Fscan(resp.Body, &held)
		}
		return resp.StatusCode, held, err
	}
	for range 12 {
		w, _ := startWitness(t, filepath.Join(dir, "w"), "127.0.0.1:0", vkey)
		grow := func() {
			more, err := tlog.StoredHashes(size, fmt.Append(nil, size), read)
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, more...)
			size++
		}
		grow()
		held := int64(0)
		if status, told, err := ask(w.url, 0); err != nil || size > 1 && status != http.StatusConflict || told < signed {
			t.Fatalf("after %d was signed, the witness holds %d: %d, %v", signed, told, status, err)
		} else if held = told; status == http.StatusOK {
			held, signed = size, size
		}
		time.AfterFunc(time.Duration(mathrand.IntN(20))*time.Millisecond, func() { w.cmd.Process.Kill() })
		for {
			grow()
			status, _, err := ask(w.url, held)
			if err != nil {
				break // it was killed
			}
			if status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			held, signed = size, size
		}
		w.cmd.Wait()
	}
	if signed < 12 {
		t.Errorf("only %d were signed", signed)
	}
}
