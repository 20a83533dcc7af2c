package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A siege is a server under attack.
type siege struct {
	t *testing.T
	d *daemon
	// secrets are tokens by their names.
	secrets map[string]string
	slowest time.Duration // answer to an honest client
}

// ask sends a request as an honest client does, who does not wait for long.
func (s *siege) ask(who, method, path, body string) (status int, answer []byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), answered)
	defer cancel()
	began := time.Now()
	defer func() { s.slowest = max(s.slowest, time.Since(began)) }()
	var resp *http.Response
	for {
		req, err := http.NewRequestWithContext(ctx, method, s.d.url+path, strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.secrets[who])
		req.Header.Set("Idempotency-Key", fmt.Sprintf("%x", sha256.Sum256([]byte(path+body)))) // so that it may be sent again where a connection was closed
		if resp, err = http.DefaultClient.Do(req); err == nil {
			break
		}
		// A connection that waits may have to go for others; who is in earnest
		// comes again, as graven's own commands do.
		if ctx.Err() != nil || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			s.t.Fatalf("%s %s is not answered: %v", method, path, err)
		}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, answer
}

// metric returns one of the server's metrics.
func (s *siege) metric(name string) float64 {
	s.t.Helper()
	status, text := s.ask("honest", http.MethodGet, "/metrics", "")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
	s.t.Fatalf("status %d, and no %s", status, name)
	return 0
}

// peak returns the most memory that the server has had at a time, in bytes.
func (s *siege) peak() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.d.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n << 10
}

// siegeMemory is what docs/operations.md states as the default of maxMemory. The
// race detector takes some times as much.
const siegeMemory = 512 << 20 * slower

// answered is how long an honest client waits for an answer.
const answered = 10 * time.Second * slower

// besiege starts a server with large events in it, and people with tokens.
func besiege(t *testing.T) *siege {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	d, err := startDaemon(dir, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.stop(syscall.SIGKILL) }) // long ended, if all went well
	s := &siege{t: t, d: d,
		secrets: map[string]string{"admin": readToken(t, dir), "nobody": "x"}}
	for name, role := range map[string]string{"honest": "operator", "attacker": "operator", "auditor": "auditor", "reader": "viewer", "watcher": "viewer"} {
		status, answer := s.ask("admin", http.MethodPost, "/api/v1/tokens", fmt.Sprintf(`{"name":%q,"role":%q}`, name, role))
		var made struct{ Token string }
		if err := json.Unmarshal(answer, &made); err != nil || made.Token == "" {
			t.Fatalf("status %d: %s", status, answer)
		}
		s.secrets[name] = made.Token
	}
	var lines strings.Builder
	for i := range 60 {
		fmt.Fprintf(&lines, `%s,"correlationID":"large","details":{"n":%d,"a":%q}}`+"\n", issue("large", "x"), i, strings.Repeat("x", 200<<10))
	}
	if status, answer := s.ask("honest", http.MethodPost, "/api/v1/audit/events/batch", lines.String()); status != http.StatusCreated {
		t.Fatalf("status %d: %.300s", status, answer)
	}
	return s
}

// honest records an event and asks about it.
func (s *siege) honest(n int) {
	s.t.Helper()
	status, answer := s.ask("honest", http.MethodPost, "/api/v1/audit/events", issue("honest", fmt.Sprintf("pod-%d", n))+"}")
	var receipt struct{ ID string }
	if err := json.Unmarshal(answer, &receipt); err != nil || status != http.StatusCreated {
		s.t.Fatalf("recording is answered with %d: %s", status, answer)
	}
	for _, path := range []string{"/api/v1/audit/events/" + receipt.ID, "/api/v1/audit?namespace=honest&limit=10", "/readyz", "/log/checkpoint",
		"/api/v1/audit/events/" + receipt.ID + "/proof"} {
		if status, answer := s.ask("honest", http.MethodGet, path, ""); status != http.StatusOK {
			s.t.Fatalf("%s is answered with %d: %s", path, status, answer)
		}
	}
}

// total asks how many events there are in a namespace.
func (s *siege) total(namespace string) int64 {
	s.t.Helper()
	status, answer := s.ask("honest", http.MethodGet, "/api/v1/audit?limit=1&namespace="+namespace, "")
	var a struct{ Total int64 }
	if err := json.Unmarshal(answer, &a); err != nil || status != http.StatusOK {
		s.t.Fatalf("status %d: %.200s", status, answer)
	}
	return a.Total
}

// TestAServerUnderAttackAnswersOthersInBoundedMemory does everything at once
// that hostile clients can think of, without a token and with, while an honest
// one goes about its work. docs/operations.md states the bound.
func TestAServerUnderAttackAnswersOthersInBoundedMemory(t *testing.T) {
	s := besiege(t)
	s.honest(0)
	files, goroutines := s.metric("process_open_fds"), s.metric("go_goroutines")

	attackers := s.attack()
	rounds := 1
	began := time.Now()
	for end := began.Add(2 * time.Minute); !attackers.struck() || rounds < siegeRounds || time.Since(began) < siegeTime; rounds++ {
		s.honest(rounds)
		if time.Now().After(end) {
			t.Errorf("the attacks do not get on: %d rounds", rounds)
			break
		}
	}
	tidings := attackers.end()
	peak := s.peak()
	t.Logf("%d rounds in %v, the slowest answer in %v, peak %d MiB", rounds, time.Since(began).Round(time.Second), s.slowest, peak>>20)
	if peak > siegeMemory {
		t.Errorf("at its peak the server had %d MiB", peak>>20)
	}

	http.DefaultClient.CloseIdleConnections()
	for end := time.Now().Add(time.Minute); s.metric("process_open_fds") > files+8 || s.metric("go_goroutines") > goroutines+16; {
		if time.Now().After(end) {
			t.Fatalf("%v files and %v goroutines are left; before there were %v and %v", s.metric("process_open_fds"), s.metric("go_goroutines"), files, goroutines)
		}
	}
	t.Logf("all of it was let go of after %v", time.Since(began).Round(time.Second))
	s.honest(rounds)
	for namespace, want := range map[string]int64{"hostile": 0, "honest": int64(rounds) + 1, "large": 60} {
		if got := s.total(namespace); got != want {
			t.Errorf("%d events in the namespace %s, want %d", got, namespace, want)
		}
	}
	if got := s.total("whole"); got != 0 && got != 10_000 || got < tidings.Batches {
		t.Errorf("%d events of a batch of 10,000 are recorded, %d were acknowledged", got, tidings.Batches)
	}
	vkey, err := os.ReadFile(filepath.Join(s.data(), "keys", "ledger.vkey"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err := errors.Join(err, s.d.stop(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %v", time.Since(began).Round(time.Second))
	verified(t, s.data(), []note.Verifier{key}, nil)
}

// data returns the server's directory.
func (s *siege) data() string { return s.d.cmd.Args[3] }
