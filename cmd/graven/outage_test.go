package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/trail"
)

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in three minutes: not %s", what)
		}
	}
}

// A replica is one of the servers of a ledger, always at the same address.
type replica struct {
	t            *testing.T
	config, data string
	token        string
	*daemon      // nil while it does not run
	at           string
}

// start starts the replica, as its supervisor would: until it runs.
func (r *replica) start() {
	r.t.Helper()
	var failed error
	await(r.t, "started: "+r.at, func() bool {
		r.daemon, failed = startDaemon(r.data, os.Environ(), "--config", r.config, "--listen", r.at)
		if failed != nil {
			r.t.Log(failed)
		}
		return failed == nil
	})
	r.at = strings.TrimPrefix(r.url, "http://")
}

func (r *replica) kill() {
	r.t.Helper()
	if err := r.stop(syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
}

// kept returns how many events wait for the database, as the replica tells.
func (r *replica) kept() int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url+"/metrics", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\ngraven_spool_events ")
	n, err := strconv.Atoi(strings.SplitN(rest, "\n", 2)[0])
	if !found || err != nil {
		r.t.Fatalf("graven_spool_events: %v, status %d", err, resp.StatusCode)
	}
	return n
}

// Producers record events by way of spools while the database, the stream that
// stands in for it and one of two servers are killed, one after the other and
// together, and come back. At the end the ledger has each event once, and knows
// it.
func TestEveryEventIsThereOnceThoughDatabaseStreamAndServersAreKilled(t *testing.T) {
	const producers, parts = 50, 8
	database, stream := testenv.StartPostgres(t), testenv.StartRedis(t)
	name := database.Database()
	if _, _, err := postgres.Migrate(t.Context(), database.DSN(name, "postgres")); err != nil {
		t.Fatal(err)
	}
	database.SQL(name, "CREATE ROLE app LOGIN; GRANT graven_writer TO app")
	dsn, dir := database.DSN(name, "app"), t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "store: %q\ndeadLetter: %q\n", dsn, stream.URL()), 0o600); err != nil {
		t.Fatal(err)
	}
	var replicas [2]*replica
	for i := range replicas {
		replicas[i] = &replica{t: t, config: config, data: filepath.Join(dir, fmt.Sprint("data", i)), at: "127.0.0.1:0"}
		if i > 0 { // they share the key
			if err := os.CopyFS(filepath.Join(replicas[i].data, "keys"), os.DirFS(filepath.Join(replicas[0].data, "keys"))); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() {
			if replicas[i].daemon != nil {
				replicas[i].stop(syscall.SIGKILL)
			}
		})
		replicas[i].start()
	}
	token, err := os.ReadFile(filepath.Join(replicas[0].data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	replicas[0].token = strings.TrimSpace(string(token))
	replicas[1].token = replicas[0].token

	// What is recorded comes in parts, so that some comes after each blow.
	var gates [parts]chan struct{}
	for i := range gates {
		gates[i] = make(chan struct{})
	}
	var recorders [producers]*client.Recorder
	var recording sync.WaitGroup
	for p := range recorders {
		c, err := client.New(client.Config{URL: replicas[p%2].url, Token: replicas[0].token})
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.NewRecorder(client.RecorderConfig{Dir: filepath.Join(dir, fmt.Sprint("spool", p)), Source: fmt.Sprintf("producer-%d", p), MaxBytes: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		recorders[p] = r
		t.Cleanup(func() { r.Close() })
		recording.Go(func() {
			for part := range parts {
				select {
				case <-gates[part]:
				case <-t.Context().Done():
					return
				}
				for n := part * eventsEach / parts; n < (part+1)*eventsEach/parts; {
					var events []*event.Event
					for ; n < (part+1)*eventsEach/parts && len(events) < 10; n++ {
						events = append(events, produced(p, n))
					}
					if err := r.RecordMany(t.Context(), events...); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	count := func(of func(client.Stats) int64) (n int64) {
		for _, r := range recorders {
			n += of(r.Stats())
		}
		return n
	}
	delivered := func() int64 { return count(func(s client.Stats) int64 { return s.Delivered }) }
	retries := func() int64 { return count(func(s client.Stats) int64 { return s.Retries }) }
	part := -1
	next := func() { // lets the next part begin
		part++
		close(gates[part])
	}
	// midway waits until the part is on its way.
	midway := func() {
		t.Helper()
		want := int64(producers*eventsEach*part/parts + 1)
		await(t, fmt.Sprintf("delivered: %d events", want), func() bool { return delivered() >= want })
	}
	// settled waits until nothing is kept any more.
	settled := func() {
		t.Helper()
		for _, r := range replicas {
			await(t, "recorded: all that was kept", func() bool { return r.kept() == 0 })
		}
	}

	next()
	midway()
	database.Kill()
	next()
	await(t, "kept without the database", func() bool { return replicas[1].kept() > 0 })
	replicas[0].kill()
	next()
	database.Start()
	replicas[0].start()
	midway()

	settled() // or nobody could tell in which order to record what comes next
	stream.Kill()
	database.Kill()
	before := retries()
	next()
	await(t, "refused without database and stream", func() bool { return retries() > before })
	database.Start()
	midway()
	stream.Start()
	next()
	midway()

	database.Kill()
	next()
	await(t, "kept without the database", func() bool { return replicas[1].kept() > 0 })
	stream.Kill()
	replicas[0].kill()
	next()
	stream.Start()
	database.Start()
	replicas[0].start()
	next()

	recording.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for p, r := range recorders {
		if err := r.Flush(ctx); err != nil {
			t.Fatalf("producer %d: %v", p, err)
		}
		if s := r.Stats(); s.Recorded != eventsEach || s.Delivered != eventsEach || s.Quarantined != 0 || s.Refused != 0 {
			t.Errorf("producer %d: %+v", p, s)
		}
	}
	settled()
	t.Logf("%d attempts failed, %d events came twice", retries(), count(func(s client.Stats) int64 { return s.Duplicates }))

	rows := database.SQL(name, `SELECT count(*), count(DISTINCT event_id), count(DISTINCT (source_name, source_epoch, source_seq)), count(DISTINCT resource_id)
		FROM graven.audit_events WHERE source_name LIKE 'producer-%'`)
	const all = producers * eventsEach
	if want := fmt.Sprintf("%[1]d|%[1]d|%[1]d|%[1]d", all); rows != want {
		t.Errorf("the ledger has, in all and distinct: %s, want %s", rows, want)
	}
	key := filepath.Join(replicas[0].data, trail.VKeyFile)
	for _, r := range replicas {
		script := fmt.Sprintf("graven verify '%s' --key %s\ngraven gaps", dsn, key)
		out, err := shell(t, dir, script, "GRAVEN_URL="+r.url, "GRAVEN_TOKEN="+r.token)
		if err != nil || !strings.Contains(out, "GOOD: everything matches") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	for _, r := range replicas {
		if err := r.stop(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
}

// produced returns event n of a producer.
func produced(p, n int) *event.Event {
	e := &event.Event{EventType: "RemediationExecuted", Timestamp: time.Now(),
		Actor:    event.Actor{Type: event.ActorController, Name: fmt.Sprintf("producer-%d", p)},
		Resource: event.Resource{Kind: "RemediationPlan", Namespace: "production", Name: fmt.Sprintf("plan-%d-%d", p, n)}}
	return e
}
