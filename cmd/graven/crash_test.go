package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// connect returns a client with the administrator's token.
func connect(t *testing.T, dir, url string) *client.Client {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{URL: url, Token: strings.TrimSpace(string(token))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// numbered returns the JSON of event n.
func numbered(n int) []byte {
	e := event.Event{ID: event.DeriveID("crash", fmt.Sprint(n)), EventType: "RemediationExecuted",
		Timestamp: time.Date(2026, 3, 19, 14, 30, 0, n, time.UTC),
		Actor:     event.Actor{Type: event.ActorController, Name: "c"}, Resource: event.Resource{Kind: "RemediationPlan", Name: fmt.Sprint(n)}}
	return e.AppendJSON(nil)
}

// TestEveryAcknowledgedEventSurvivesKills kills the server while writers are
// at work, at random moments, again and again. At the end every event that was
// acknowledged is there, where the receipt said, and none is there twice; and
// all checkpoints that were given out are of one history.
func TestEveryAcknowledgedEventSurvivesKills(t *testing.T) {
	const writers = 64
	dir := filepath.Join(t.TempDir(), "data")
	var mu sync.Mutex
	acknowledged := map[int]int64{}
	notes := map[string]bool{}
	next := 0
	for range kills {
		d, err := startDaemon(dir, os.Environ())
		if err != nil {
			t.Fatal(err)
		}
		c := connect(t, dir, d.url)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for ctx.Err() == nil {
					mu.Lock()
					first, size := next, 1+rand.IntN(20)
					next += size
					mu.Unlock()
					batch := make([][]byte, size)
					for i := range batch {
						batch[i] = numbered(first + i)
					}
					results, err := c.RecordBatch(ctx, &client.Batch{Events: batch})
					if err != nil {
						return // the server is gone
					}
					mu.Lock()
					for i, r := range results {
						if r.Err != nil {
							t.Error(r.Err)
						} else {
							acknowledged[first+i] = r.Receipt.Index
							notes[r.Receipt.Checkpoint] = true
						}
					}
					mu.Unlock()
				}
			})
		}
		mu.Lock()
		want := len(acknowledged) + rand.IntN(600)
		mu.Unlock()
		for n := -1; n < want && !t.Failed(); time.Sleep(time.Millisecond) {
			mu.Lock()
			n = len(acknowledged)
			mu.Unlock()
		}
		if err := d.stop(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		cancel()
		wg.Wait()
	}

	d, err := startDaemon(dir, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop(syscall.SIGTERM)
	c := connect(t, dir, d.url)
	// Everything again, acknowledged or not: a repetition adds nothing.
	seen := map[int64]int{}
	for first := 0; first < next; first += 500 {
		var batch [][]byte
		for n := first; n < min(first+500, next); n++ {
			batch = append(batch, numbered(n))
		}
		results, err := c.RecordBatch(t.Context(), &client.Batch{Events: batch})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			n := first + i
			if r.Err != nil {
				t.Fatalf("event %d: %v", n, r.Err)
			}
			if index, ok := acknowledged[n]; ok && (!r.Receipt.Duplicate || r.Receipt.Index != index) {
				t.Errorf("event %d was acknowledged at %d, now: %+v", n, index, r.Receipt)
			}
			if other, ok := seen[r.Receipt.Index]; ok {
				t.Errorf("events %d and %d both stand at %d", other, n, r.Receipt.Index)
			}
			seen[r.Receipt.Index] = n
		}
	}
	t.Logf("%d events, %d acknowledged before kills", next, len(acknowledged))
	oneHistory(t, dir, notes)
	var list struct {
		Total int `json:"total"`
	}
	if err := c.Get(t.Context(), "/api/v1/audit", map[string][]string{"type": {"RemediationExecuted"}, "limit": {"1"}}, &list); err != nil {
		t.Fatal(err)
	}
	if list.Total != next {
		t.Errorf("%d events are there, want %d", list.Total, next)
	}
	var report struct {
		OK       bool `json:"ok"`
		Findings []json.RawMessage
	}
	if err := c.Get(t.Context(), "/api/v1/audit/verify", nil, &report); err != nil {
		t.Fatal(err)
	}
	if !report.OK {
		t.Errorf("verify: %s", report.Findings)
	}
}

// oneHistory checks that a ledger is consistent with every checkpoint that was
// given out.
func oneHistory(t *testing.T, dir string, notes map[string]bool) {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, trail.VKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		t.Fatal(err)
	}
	o := verify.Options{Keys: []note.Verifier{verifier}}
	for n := range notes {
		o.Since = append(o.Since, []byte(n))
	}
	report, err := filestore.Verify(t.Context(), dir, o)
	if err != nil || !report.OK() {
		t.Errorf("of %d checkpoints: %v, %+v", len(notes), err, report)
	}
}

// TestAnAnswerComesAfterFdatasync watches the server's system calls: between
// reading a request and answering it there is a write to the log and a
// successful fdatasync of it.
func TestAnAnswerComesAfterFdatasync(t *testing.T) {
	strace := testenv.Need(t, "strace")
	dir := filepath.Join(t.TempDir(), "data")
	d, err := startDaemon(dir, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop(syscall.SIGTERM)
	c := connect(t, dir, d.url)
	trace := filepath.Join(t.TempDir(), "trace")
	watch := exec.Command(strace, "-f", "-qq", "-s", "64", "-e", "trace=read,write,pwrite64,fdatasync", "-o", trace, "-p", fmt.Sprint(d.cmd.Process.Pid))
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	// strace has attached once it has written something.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(d.url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if info, err := os.Stat(trace); err == nil && info.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			watch.Process.Kill()
			watch.Wait()
			if os.Getenv("CI") == "" {
				t.Skip("strace may not attach to processes here")
			}
			t.Fatal("strace does not attach")
		}
	}
	for n := range 5 {
		e, err := event.Parse(numbered(n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.RecordSync(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := watch.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := watch.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	// Requests follow each other, so that whatever happens between two answers
	// belongs to the second.
	answer := regexp.MustCompile(`write\(\d+, "HTTP/1\.1 201`)
	written := regexp.MustCompile(`pwrite64\((\d+), `)
	synced := regexp.MustCompile(`fdatasync\((\d+)`)
	done := regexp.MustCompile(`fdatasync(\(\d+\)| resumed>\)) += 0`)
	answers, durable, file := 0, false, ""
	dirty := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		if m := written.FindStringSubmatch(line); m != nil {
			dirty[m[1]] = true
		}
		if m := synced.FindStringSubmatch(line); m != nil {
			file = m[1]
		}
		if done.MatchString(line) && dirty[file] {
			durable = true
		}
		if answer.MatchString(line) {
			answers++
			if !durable {
				t.Errorf("an answer without a write and an fdatasync before it: %s", line)
			}
			durable = false
			clear(dirty)
		}
	}
	if answers != 5 {
		t.Errorf("%d answers in the trace, want 5:\n%s", answers, data)
	}
}
