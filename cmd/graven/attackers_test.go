package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Attackers are all those who are hostile to a server. They are a program of
// their own, and what takes processor time there has to stand behind the server
// and its honest clients, as if they were on other machines.
type attackers struct {
	orders
	addr    string
	batches atomic.Int64

	// holds are the attacks that go on to the end once they are answered, and may
	// have to wait for that.
	holds map[string]bool

	mu     sync.Mutex
	struck map[string]int
	wrongs []string
	// left is how many attacks have not struck yet, and all is closed when that
	// is none.
	left int
	all  chan struct{}
}

// orders are what attackers are told on their standard input, in JSON.
type orders struct {
	URL     string
	Secrets map[string]string // tokens by their names
	Percent int               // of the usual number of attacks
}

// tidings are what attackers tell in the end, in JSON.
type tidings struct {
	Struck  map[string]int // what each attack has done
	Times   map[string]int // how many did so at a time, again and again
	Batches int64          // events of whole batches that were acknowledged
	Wrongs  []string       // answers that no server must give
}

// attack attacks a server until the standard input ends. It tells when each
// attack has struck, in a line, and in the end what came of it.
func attack() {
	in := json.NewDecoder(os.Stdin)
	a := &attackers{struck: map[string]int{}, holds: map[string]bool{}, all: make(chan struct{})}
	if err := in.Decode(&a.orders); err != nil {
		panic(err)
	}
	a.addr = strings.TrimPrefix(a.URL, "http://")
	ctx, cancel := context.WithCancel(context.Background())
	all := a.deeds(a.Percent)
	a.left = len(all)
	times := map[string]int{}
	var wg sync.WaitGroup
	for _, one := range all {
		if !a.holds[one.name] {
			times[one.name] = one.times
		}
		for range one.times {
			wg.Go(func() {
				for ctx.Err() == nil {
					one.do(ctx)
				}
			})
		}
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = in.Decode(new(any)) // until the end
	}()
	select {
	case <-a.all:
		fmt.Println("struck")
		<-over
	case <-over:
	}
	cancel()
	wg.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(tidings{a.struck, times, a.batches.Load(), a.wrongs}); err != nil {
		panic(err)
	}
}

// A raid is the program of attackers, as a test sees it.
type raid struct {
	t       *testing.T
	orders  io.Closer
	all     chan struct{} // closed when each attack has struck
	ended   chan error
	tidings tidings
}

// attack has attackers set on the server.
func (s *siege) attack() *raid {
	s.t.Helper()
	cmd := exec.Command("nice", "-n", "19", "attack")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill() }) // long ended, if all went well
	if err := json.NewEncoder(in).Encode(orders{s.d.url, s.secrets, siegePercent}); err != nil {
		s.t.Fatal(err)
	}
	r := &raid{t: s.t, orders: in, all: make(chan struct{}), ended: make(chan error, 1)}
	go func() {
		lines := bufio.NewReader(out)
		_, err := lines.ReadString('\n')
		if err == nil {
			close(r.all)
			err = json.NewDecoder(lines).Decode(&r.tidings)
		}
		r.ended <- errors.Join(err, cmd.Wait())
	}()
	return r
}

// struck reports whether each attack has struck.
func (r *raid) struck() bool {
	select {
	case <-r.all:
		return true
	default:
		return false
	}
}

// end ends the attacks, and tells what came of them.
func (r *raid) end() tidings {
	r.t.Helper()
	if err := errors.Join(r.orders.Close(), <-r.ended); err != nil {
		r.t.Fatalf("attackers: %v", err)
	}
	r.t.Logf("struck: %v", r.tidings.Struck)
	for name, times := range r.tidings.Times {
		if struck := r.tidings.Struck[name]; struck < times/2 {
			r.t.Errorf("%s: %d strikes of %d attackers", name, struck, times)
		}
	}
	for _, wrong := range r.tidings.Wrongs {
		r.t.Error(wrong)
	}
	return r.tidings
}

// count notes that an attack has struck.
func (a *attackers) count(attack string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.struck[attack]++; a.struck[attack] == 1 {
		if a.left--; a.left == 0 {
			close(a.all)
		}
	}
}

// wrong notes what must not be.
func (a *attackers) wrong(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrongs = append(a.wrongs, err.Error())
}

// dial opens a connection that ends with ctx. It returns nil where there was
// none to be had.
func (a *attackers) dial(ctx context.Context) net.Conn {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.addr)
	if err != nil {
		return nil
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn
}

// head is a request's beginning.
func (a *attackers) head(who, line string, headers ...string) string {
	return line + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + a.Secrets[who] + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

const postBatch = "POST /api/v1/audit/events/batch"

// trickle sends something, and then a byte whenever the clock ticks.
func (a *attackers) trickle(ctx context.Context, attack, beginning string) {
	conn := a.dial(ctx)
	if conn == nil {
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, beginning); err != nil {
		return
	}
	a.count(attack)
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
func (a *attackers) deaf(ctx context.Context, attack, request string) {
	conn := a.dial(ctx)
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
	a.count(attack)
	<-ctx.Done()
}

// send sends a whole request and reads the answer, which it returns
// if it came whole.
func (a *attackers) send(ctx context.Context, attack, who, path, encoding string, body io.Reader) (int, []byte) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL+path, body)
	if err != nil {
		a.wrong(err)
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+a.Secrets[who])
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			a.count(attack) // the server has cut it off
		}
		return 0, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		if ctx.Err() == nil && resp.StatusCode/100 == 2 {
			a.wrong(fmt.Errorf("%s: the answer %d is torn: %w", attack, resp.StatusCode, err))
		}
		return 0, nil
	}
	a.count(attack)
	return resp.StatusCode, answer
}

// issue is the beginning of an event, whose details and end are still to come.
func issue(namespace, name string) string {
	return fmt.Sprintf(`{"eventType":"IssueCreated","timestamp":%q,"actor":{"type":"user","name":"x"},"resource":{"kind":"Pod","namespace":%q,"name":%q},"severity":"high"`,
		time.Now().UTC().Format(time.RFC3339), namespace, name)
}

// bomb returns half a gigabyte of zeros, compressed in parts, of which any
// number may follow each other.
func bomb(to func(io.Writer) io.WriteCloser) string {
	var b bytes.Buffer
	z := to(&b)
	if _, err := io.CopyN(z, zeros{}, 1<<20); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return strings.Repeat(b.String(), 512)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// A deed is something that somebody does again and again, so many at a time.
type deed struct {
	name  string
	times int
	do    func(ctx context.Context)
}

// deeds are all of them, in a part of their usual number, or in more.
func (a *attackers) deeds(percent int) []deed {
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
	gz := bomb(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	zst := bomb(func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			panic(err)
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
			if status, answer := a.send(ctx, name, "attacker", path, encoding, strings.NewReader(body)); status/100 == 2 {
				var got struct{ Accepted int }
				if err := json.Unmarshal(answer, &got); err != nil || got.Accepted != 0 {
					a.wrong(fmt.Errorf("%s: status %d: %.200s", name, status, answer))
				}
			}
		}
	}
	const batchPath, kube = "/api/v1/audit/events/batch", "/api/v1/ingest/kube-audit"
	deeds := []deed{
		{"slow headers", 300, func(ctx context.Context) { a.trickle(ctx, "slow headers", "GET /api/v1/audit HTTP/1.1\r\nX-") }},
		{"large slow headers", 300, func(ctx context.Context) {
			a.trickle(ctx, "large slow headers", "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 15<<10))
		}},
		{"slow bodies", 100, func(ctx context.Context) {
			a.trickle(ctx, "slow bodies", a.head("attacker", postBatch, "Content-Length: 16000000")+strings.Repeat(" ", 1<<20))
		}},
		{"slow bodies without a token", 200, func(ctx context.Context) {
			a.trickle(ctx, "slow bodies without a token", a.head("nobody", postBatch, "Content-Length: 200000"))
		}},
		{"slow compressed bodies", 50, func(ctx context.Context) {
			a.trickle(ctx, "slow compressed bodies", a.head("attacker", postBatch, "Content-Length: 16000000", "Content-Encoding: zstd")+zst[:64])
		}},
		{"announced gigabytes", 20, func(ctx context.Context) {
			a.trickle(ctx, "announced gigabytes", a.head("attacker", postBatch, "Content-Length: 8589934592"))
		}},
		{"silence", 600, func(ctx context.Context) {
			if conn := a.dial(ctx); conn != nil {
				a.count("silence")
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
			a.send(ctx, "a line without end", "attacker", batchPath, "", io.MultiReader(strings.NewReader(hostile+`{"a":"`), zeros{}))
		}},
		{"whole batches", 2, func(ctx context.Context) {
			if status, answer := a.send(ctx, "whole batches", "attacker", batchPath, "", strings.NewReader(batch.String())); status == http.StatusCreated {
				var got struct{ Accepted, Duplicates int64 }
				if err := json.Unmarshal(answer, &got); err != nil {
					a.wrong(err)
				}
				a.batches.Add(got.Accepted - got.Duplicates)
			}
		}},
		{"batches that are torn off", 4, func(ctx context.Context) {
			conn := a.dial(ctx)
			if conn == nil {
				return
			}
			request := a.head("attacker", postBatch, fmt.Sprintf("Content-Length: %d", 2*len(half))) + half + half[:len(half)/2]
			if _, err := io.WriteString(conn, request); err == nil {
				a.count("batches that are torn off")
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}},
		{"huge headers", 4, func(ctx context.Context) {
			conn := a.dial(ctx)
			if conn == nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET /"+strings.Repeat("x", 1<<20)+" HTTP/1.1\r\nX: "+strings.Repeat("y", 1<<20))
			_, _ = io.Copy(io.Discard, conn)
			a.count("huge headers")
		}},
		{"pipelined garbage", 4, func(ctx context.Context) {
			conn := a.dial(ctx)
			if conn == nil {
				return
			}
			defer conn.Close()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			line := strings.Repeat(a.head("nobody", "GET /api/v1/audit"), 100) + "\x00\xff GET\r\n\r\n" + strings.Repeat("\x16\x03\x01", 1000)
			if _, err := io.WriteString(conn, line); err == nil {
				a.count("pipelined garbage")
			}
		}},
		{"pipelines that nobody reads", 20, func(ctx context.Context) {
			a.deaf(ctx, "pipelines that nobody reads", strings.Repeat(a.head("attacker", "GET /openapi.json"), 50))
		}},
	}
	for i := range deeds {
		deeds[i].times = max(1, deeds[i].times*percent/100)
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
		a.holds[d.name] = true
		deeds = append(deeds, deed{d.name, d.times, func(ctx context.Context) { a.deaf(ctx, d.name, a.head(d.who, "GET "+d.path)) }})
	}
	return deeds
}
