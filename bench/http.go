package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/graven-audit/graven/trail"
)

// A server is one in a process of its own.
type server struct {
	cmd   *exec.Cmd
	url   string
	token string
}

// startServer starts a program that prints "url=URL" on one of its outputs.
func startServer(cmd *exec.Cmd) (*server, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	lines := bufio.NewScanner(r)
	var said strings.Builder
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		if _, rest, ok := strings.Cut(lines.Text(), "url="); ok {
			s.url = strings.Fields(rest)[0]
			go io.Copy(io.Discard, r)
			return s, nil
		}
	}
	return nil, fmt.Errorf("the server ended: %v: %s", cmd.Wait(), said.String())
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// startGraven starts our server on a data directory.
func startGraven(program, data string, flags ...string) (*server, error) {
	s, err := startServer(exec.Command(program, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, flags...)...))
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(data, "admin.token"))
	s.token = strings.TrimSpace(string(token))
	return s, err
}

// A poster posts bodies to a path of a server.
type poster struct {
	server *server
	client *http.Client
	path   string
	kind   string // content type
}

func (p *poster) post(body []byte) error {
	req, err := http.NewRequest(http.MethodPost, p.server.url+p.path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", p.kind)
	if p.server.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.server.token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("status %d: %.300s", resp.StatusCode, text)
	}
	return err
}

// newPoster prepares r.Producers connections.
func newPoster(s *server, r run) *poster {
	p := &poster{server: s, path: "/api/v1/audit/events", kind: "application/json",
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: r.Producers}}}
	if r.Batch > 1 {
		p.path, p.kind = "/api/v1/audit/events/batch", "application/x-ndjson"
	}
	return p
}

// body makes the n-th body, of r.Batch events.
func body(r run, n int64) []byte {
	if r.Batch == 1 {
		return newBytes(n)
	}
	var b []byte
	for i := range r.Batch {
		b = append(append(b, newBytes(n*int64(r.Batch)+int64(i))...), '\n')
	}
	return b
}

// hammer measures a server: its throughput with all connections busy, its
// processor time meanwhile, and its latency at a rate that it can bear.
func hammer(s *server, r run) (Sample, error) {
	p := newPoster(s, r)
	if err := p.post(body(r, 1<<40)); err != nil {
		return Sample{}, err
	}
	before := cpuOf(s.cmd.Process.Pid)
	sample, err := producers(r, r.Producers, int64(r.Batch), func(producer int, seq int64) error {
		return p.post(body(r, int64(producer)<<24+seq))
	})
	sample.CPU = cpuOf(s.cmd.Process.Pid) - before
	if err != nil || r.Rate == 0 {
		sample.Peak = memory(s.cmd.Process.Pid, "VmHWM")
		return sample, err
	}
	all, err := openLoop(r, func(n int64) error { return p.post(body(r, 1<<41+n)) })
	sample.latencies(all)
	sample.Peak = memory(s.cmd.Process.Pid, "VmHWM")
	return sample, err
}

// openLoop calls fn at a rate of r.Rate, whether or not earlier calls have
// ended, and returns how long after its time each of them was done.
func openLoop(r run, fn func(n int64) error) ([]time.Duration, error) {
	total := int64(r.Rate * r.Duration.Seconds())
	latencies := make([]time.Duration, total)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for range max(64, r.Producers) {
		wg.Go(func() {
			for failed.Load() == nil {
				n := next.Add(1) - 1
				if n >= total {
					return
				}
				due := began.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))
				time.Sleep(time.Until(due))
				if err := fn(n); err != nil {
					failed.Store(&err)
					return
				}
				latencies[n] = time.Since(due)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return latencies, nil
}

// gravenServer measures our server.
func gravenServer(r run) (Sample, error) {
	s, err := startGraven(r.Graven, filepath.Join(r.Dir, "data"))
	if err != nil {
		return Sample{}, err
	}
	sample, err := hammer(s, r)
	return sample, errors.Join(err, s.stop())
}

// envServe makes this program the bare server that writes to the file it names.
const envServe = "GRAVEN_BENCH_SERVE"

// bareServer measures the least that a server can do.
func bareServer(r run) (Sample, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envContender+"=", envServe+"="+filepath.Join(r.Dir, "bare"))
	s, err := startServer(cmd)
	if err != nil {
		return Sample{}, err
	}
	sample, err := hammer(s, r)
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait() // it has no way to end well
	return sample, err
}

// serveBare decodes events, hashes them into a tree, appends them to a file
// and answers when they are synced.
func serveBare(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	type request struct {
		leaves []tlog.Hash
		data   []byte
		done   chan error
	}
	queue := make(chan *request, 4096)
	go func() {
		var tree trail.Tree
		for first := range queue {
			pool, buf := []*request{first}, []byte{}
			for len(queue) > 0 {
				pool = append(pool, <-queue)
			}
			for _, q := range pool {
				for _, leaf := range q.leaves {
					tree.Append(leaf, nil)
				}
				buf = append(buf, q.data...)
			}
			_, err := f.Write(buf)
			if err == nil {
				err = unix.Fdatasync(int(f.Fd()))
			}
			for _, q := range pool {
				q.done <- err
			}
		}
	}()
	handle := func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		q := &request{data: data, done: make(chan error, 1)}
		for line := range bytes.Lines(data) {
			var e struct {
				ID, EventType, Timestamp, CorrelationID string
				Actor, Resource                         map[string]string
				Details                                 json.RawMessage
			}
			if err == nil {
				err = json.Unmarshal(line, &e)
			}
			q.leaves = append(q.leaves, tlog.RecordHash(line))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		queue <- q
		if err := <-q.done; err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"recorded":true}`)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("url=http://%s\n", l.Addr())
	return http.Serve(l, http.HandlerFunc(handle))
}
