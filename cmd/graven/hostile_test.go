package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"
)

// A siege is a server under attack.
type siege struct {
	t    *testing.T
	d    *daemon
	addr string
	// secrets are tokens by their names.
	secrets map[string]string
	// struck counts what each attack has done.
	mu      sync.Mutex
	struck  map[string]int
	slowest time.Duration // answer to an honest client
	// batches are the events of whole batches that were acknowledged.
	batches atomic.Int64
}

// count notes that an attack has struck.
func (s *siege) count(attack string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.struck[attack]++
}

// all reports whether each attack has struck.
func (s *siege) all(names []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if s.struck[name] == 0 {
			return false
		}
	}
	return true
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

// dial opens a connection that ends with ctx. It returns nil where there was
// none to be had.
func (s *siege) dial(ctx context.Context) net.Conn {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn
}

// head is a request's beginning.
func (s *siege) head(who, line string, headers ...string) string {
	return line + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.secrets[who] + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

const postBatch = "POST /api/v1/audit/events/batch"

// trickle sends something, and then a byte whenever the clock ticks.
func (s *siege) trickle(ctx context.Context, attack, beginning string) {
	conn := s.dial(ctx)
	if conn == nil {
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, beginning); err != nil {
		return
	}
	s.count(attack)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
		case <-gone:
			return
		case <-ctx.Done():
			return
		}
	}
}

// deaf sends a request, reads the answer's first byte, and never the rest.
func (s *siege) deaf(ctx context.Context, attack, request string) {
	conn := s.dial(ctx)
	if conn == nil {
		return
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	if _, err := io.WriteString(conn, request); err != nil {
		return
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return
	}
	s.count(attack)
	<-ctx.Done()
}

// send sends a whole request and reads the answer, which it returns.
func (s *siege) send(ctx context.Context, attack, who, path, encoding string, body io.Reader) (int, []byte) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.d.url+path, body)
	if err != nil {
		s.t.Error(err)
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+s.secrets[who])
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			s.count(attack) // the server has cut it off
		}
		return 0, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil {
		s.count(attack)
	}
	return resp.StatusCode, answer
}

// issue is the beginning of an event, whose details and end are still to come.
func issue(namespace, name string) string {
	return fmt.Sprintf(`{"eventType":"IssueCreated","timestamp":%q,"actor":{"type":"user","name":"x"},"resource":{"kind":"Pod","namespace":%q,"name":%q},"severity":"high"`,
		time.Now().UTC().Format(time.RFC3339), namespace, name)
}

// bomb returns half a gigabyte of zeros, compressed in parts, of which any
// number may follow each other.
func bomb(t *testing.T, to func(io.Writer) io.WriteCloser) string {
	t.Helper()
	var b bytes.Buffer
	z := to(&b)
	if _, err := io.CopyN(z, zeros{}, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.Repeat(b.String(), 512)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// An attack is something that somebody does again and again, so many at a time.
type attack struct {
	name  string
	times int
	do    func(ctx context.Context)
}

// attacks are all of them, in a part of their usual number, or in more.
func (s *siege) attacks(percent int) []attack {
	t := s.t
	hostile := issue("hostile", "x") + `,"details":` // nobody must find it recorded
	deep := strings.Repeat("[", 4<<20)
	members := func() string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range 100_000 {
			fmt.Fprintf(&b, `"k%d":%d,`, i, i)
		}
		return b.String() + `"z":0}`
	}()
	gz := bomb(t, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	zst := bomb(t, func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			t.Fatal(err)
		}
		return z
	})
	var batch strings.Builder // of events with ids, which count once
	for i := range 10_000 {
		fmt.Fprintf(&batch, `%s,"id":"01890000-0000-7000-8000-%012x","details":{"a":%q}}`+"\n", issue("whole", "x"), i, strings.Repeat("x", 1200))
	}
	half := hostile + `{"a":"` + strings.Repeat("x", 64<<10) + `"}}` + "\n"
	once := func(name, path, encoding, body string) func(ctx context.Context) {
		return func(ctx context.Context) {
			if status, answer := s.send(ctx, name, "attacker", path, encoding, strings.NewReader(body)); status/100 == 2 {
				var a struct{ Accepted int }
				if err := json.Unmarshal(answer, &a); err != nil || a.Accepted != 0 {
					t.Errorf("%s: status %d: %.200s", name, status, answer)
				}
			}
		}
	}
	const batchPath, kube = "/api/v1/audit/events/batch", "/api/v1/ingest/kube-audit"
	attacks := []attack{
		{"slow headers", 300, func(ctx context.Context) { s.trickle(ctx, "slow headers", "GET /api/v1/audit HTTP/1.1\r\nX-") }},
		{"large slow headers", 300, func(ctx context.Context) {
			s.trickle(ctx, "large slow headers", "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 15<<10))
		}},
		{"slow bodies", 100, func(ctx context.Context) {
			s.trickle(ctx, "slow bodies", s.head("attacker", postBatch, "Content-Length: 16000000")+strings.Repeat(" ", 1<<20))
		}},
		{"slow bodies without a token", 200, func(ctx context.Context) {
			s.trickle(ctx, "slow bodies without a token", s.head("nobody", postBatch, "Content-Length: 200000"))
		}},
		{"slow compressed bodies", 50, func(ctx context.Context) {
			s.trickle(ctx, "slow compressed bodies", s.head("attacker", postBatch, "Content-Length: 16000000", "Content-Encoding: zstd")+zst[:64])
		}},
		{"announced gigabytes", 20, func(ctx context.Context) {
			s.trickle(ctx, "announced gigabytes", s.head("attacker", postBatch, "Content-Length: 8589934592"))
		}},
		{"silence", 600, func(ctx context.Context) {
			if conn := s.dial(ctx); conn != nil {
				s.count("silence")
				_, _ = conn.Read(make([]byte, 1)) // until the server has enough of it
				conn.Close()
			}
		}},
		{"gzip bombs", 2, once("gzip bombs", batchPath, "gzip", gz)},
		{"zstd bombs", 2, once("zstd bombs", batchPath, "zstd", zst)},
		{"deep arrays", 1, once("deep arrays", batchPath, "", deep)},
		{"deep lines", 1, once("deep lines", batchPath, "", hostile+deep)},
		{"deep objects", 1, once("deep objects", kube, "", strings.Repeat(`{"items":`, 1<<20))},
		{"many members", 2, once("many members", batchPath, "", members)},
		{"many members in details", 2, once("many members in details", batchPath, "", hostile+members+"}")},
		{"many bad lines", 1, once("many bad lines", batchPath, "", strings.Repeat("{}\n", 10_000))},
		{"too many lines", 1, once("too many lines", batchPath, "", strings.Repeat("{}\n", 5<<20))},
		{"a line without end", 2, func(ctx context.Context) {
			s.send(ctx, "a line without end", "attacker", batchPath, "", io.MultiReader(strings.NewReader(hostile+`{"a":"`), zeros{}))
		}},
		{"whole batches", 2, func(ctx context.Context) {
			if status, answer := s.send(ctx, "whole batches", "attacker", batchPath, "", strings.NewReader(batch.String())); status == http.StatusCreated {
				var a struct{ Accepted, Duplicates int64 }
				if err := json.Unmarshal(answer, &a); err != nil {
					t.Error(err)
				}
				s.batches.Add(a.Accepted - a.Duplicates)
			}
		}},
		{"batches that are torn off", 4, func(ctx context.Context) {
			conn := s.dial(ctx)
			if conn == nil {
				return
			}
			request := s.head("attacker", postBatch, fmt.Sprintf("Content-Length: %d", 2*len(half))) + half + half[:len(half)/2]
			if _, err := io.WriteString(conn, request); err == nil {
				s.count("batches that are torn off")
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}},
		{"huge headers", 4, func(ctx context.Context) {
			conn := s.dial(ctx)
			if conn == nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET /"+strings.Repeat("x", 1<<20)+" HTTP/1.1\r\nX: "+strings.Repeat("y", 1<<20))
			_, _ = io.Copy(io.Discard, conn)
			s.count("huge headers")
		}},
		{"pipelined garbage", 4, func(ctx context.Context) {
			conn := s.dial(ctx)
			if conn == nil {
				return
			}
			defer conn.Close()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			line := strings.Repeat(s.head("nobody", "GET /api/v1/audit"), 100) + "\x00\xff GET\r\n\r\n" + strings.Repeat("\x16\x03\x01", 1000)
			if _, err := io.WriteString(conn, line); err == nil {
				s.count("pipelined garbage")
			}
		}},
		{"pipelines that nobody reads", 20, func(ctx context.Context) {
			s.deaf(ctx, "pipelines that nobody reads", strings.Repeat(s.head("attacker", "GET /openapi.json"), 50))
		}},
	}
	for i := range attacks {
		attacks[i].times = max(1, attacks[i].times*percent/100)
	}
	for _, d := range []struct {
		name, who, path string
		times           int
	}{
		{"exports that nobody reads", "auditor", "/api/v1/audit/export", 40},
		{"streams that nobody reads", "auditor", "/api/v1/audit/stream?last_event_id=-1", 40},
		{"bundles that nobody reads", "auditor", "/log/tile/entries/000.p/60", 40},
		{"events that nobody reads", "auditor", "/api/v1/audit/events/5", 40},
		{"metrics that nobody reads", "auditor", "/metrics", 40},
		// More of these would wait for each other until they are dropped.
		{"lists that nobody reads", "reader", "/api/v1/audit?limit=1000", 2},
		{"flat lists that nobody reads", "reader", "/api/v1/audit/events?limit=1000", 1},
		{"incidents that nobody reads", "watcher", "/api/v1/audit/incidents/large", 4},
	} {
		attacks = append(attacks, attack{d.name, d.times, func(ctx context.Context) { s.deaf(ctx, d.name, s.head(d.who, "GET "+d.path)) }})
	}
	return attacks
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
	s := &siege{t: t, d: d, addr: strings.TrimPrefix(d.url, "http://"), struck: map[string]int{},
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

	defer func() { t.Logf("struck: %v", s.struck) }()
	ctx, cancel := context.WithCancel(t.Context())
	attacks := s.attacks(siegePercent)
	names := make([]string, len(attacks))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i, a := range attacks {
		names[i] = a.name
		for range a.times {
			wg.Go(func() {
				for ctx.Err() == nil {
					a.do(ctx)
				}
			})
		}
	}
	rounds := 1
	began := time.Now()
	for end := began.Add(2 * time.Minute); !s.all(names) || rounds < siegeRounds; rounds++ {
		s.honest(rounds)
		if time.Now().After(end) {
			t.Fatal("the attacks do not get on")
		}
	}
	cancel()
	wg.Wait()
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
	if got := s.total("whole"); got != 0 && got != 10_000 || got < s.batches.Load() {
		t.Errorf("%d events of a batch of 10,000 are recorded, %d were acknowledged", got, s.batches.Load())
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
