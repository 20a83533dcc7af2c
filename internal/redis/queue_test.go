package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/deadletter"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/redis"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/trail"
)

// A book is a ledger in memory, whose store can go away.
type book struct {
	mu    sync.Mutex
	away  bool
	ids   map[event.ID]bool
	order []string // names of resources
}

func (b *book) set(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

func (b *book) Stopped() <-chan struct{} { return nil }

func (b *book) Append(_ context.Context, _ ledger.By, events []*event.Event) ([]ledger.Result, *trail.Checkpoint, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	results := make([]ledger.Result, len(events))
	for i, e := range events {
		if b.away {
			results[i].Err = ledger.ErrAway
			continue
		}
		if !b.ids[e.ID] {
			b.ids[e.ID] = true
			b.order = append(b.order, e.Resource.Name)
		}
		results[i].Receipt = ledger.Receipt{ID: e.ID}
	}
	return results, &trail.Checkpoint{}, nil
}

func open(t *testing.T, server *testenv.Redis, o redis.Options) *redis.Queue {
	t.Helper()
	o.Origin = "test.example/ledger"
	q, err := redis.Open(t.Context(), server.URL(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func start(t *testing.T, b *book, q *redis.Queue) *deadletter.Recorder {
	t.Helper()
	r := deadletter.New(deadletter.Config{Ledger: b, Queue: q, Quarantine: q.Quarantine, OnError: func(error) {}, Pause: time.Millisecond, MaxPause: 20 * time.Millisecond})
	t.Cleanup(r.Close)
	return r
}

// tell records an event that may have been kept before, until it is taken.
func tell(t *testing.T, r *deadletter.Recorder, name string) {
	t.Helper()
	e := &event.Event{ID: event.DeriveID(name), EventType: "IssueCreated", Timestamp: time.Now(), Actor: event.Actor{Type: "user", Name: "alice"},
		Resource: event.Resource{Kind: "Issue", Name: name}}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		results, _, err := r.Append(t.Context(), ledger.By{Principal: "alice", Via: "token"}, []*event.Event{e.Clone()})
		if err == nil {
			err = results[0].Err
		}
		if err == nil {
			return
		}
		if !errors.Is(err, ledger.ErrAway) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func settled(t *testing.T, r *deadletter.Recorder) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); r.Stats().Kept > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", r.Stats())
		}
	}
}

func TestServersWithoutADiskShareAStream(t *testing.T) {
	server := testenv.StartRedis(t)
	b := &book{ids: map[event.ID]bool{}, away: true}
	var recorders []*deadletter.Recorder
	for range 3 {
		recorders = append(recorders, start(t, b, open(t, server, redis.Options{})))
	}
	const each = 40
	var wg sync.WaitGroup
	for i, r := range recorders {
		wg.Go(func() {
			for n := range each {
				tell(t, r, fmt.Sprintf("%d-%03d", i, n))
				if n == each/2 && i == 0 {
					server.Kill()
					server.Start()
				}
			}
		})
	}
	wg.Wait()
	b.set(false)
	for _, r := range recorders {
		settled(t, r)
	}
	if len(b.order) != 3*each {
		t.Fatalf("%d recorded, %d kept", len(b.order), 3*each)
	}
	last := map[string]string{}
	for _, name := range b.order {
		of, n, _ := strings.Cut(name, "-")
		if n <= last[of] && last[of] != "" {
			t.Errorf("%s comes behind %s-%s", name, of, last[of])
		}
		last[of] = n
	}
}

func TestWhatAServerLeavesBehindAnotherRecords(t *testing.T) {
	server := testenv.StartRedis(t)
	b := &book{ids: map[event.ID]bool{}, away: true}
	q := open(t, server, redis.Options{})
	r := start(t, b, q)
	for n := range 10 {
		tell(t, r, fmt.Sprint(n))
	}
	r.Close()
	q.Close()
	b.set(false)
	settled(t, start(t, b, open(t, server, redis.Options{})))
	if got := strings.Join(b.order, " "); got != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("recorded %s", got)
	}
}

func TestAServerThatMayLoseWhatItAcknowledgedIsRefused(t *testing.T) {
	for setting, want := range map[string]string{
		"appendonly no":                "appendonly",
		"appendfsync everysec":         "appendfsync",
		"maxmemory-policy allkeys-lru": "maxmemory-policy",
		"replicaof 127.0.0.1 1":        "it is a replica",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartRedis(t, setting)
			_, err := redis.Open(t.Context(), server.URL(), redis.Options{Origin: "x"})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
	if _, err := redis.Open(t.Context(), "http://nowhere", redis.Options{Origin: "x"}); err == nil || !strings.Contains(err.Error(), "not the address") {
		t.Errorf("%v", err)
	}
	if _, err := redis.Open(t.Context(), "unix:///nowhere", redis.Options{Origin: "x"}); err == nil {
		t.Error("nobody is there")
	}
}

func TestAFullStreamRefuses(t *testing.T) {
	server := testenv.StartRedis(t)
	q := open(t, server, redis.Options{Max: 3})
	for n := range 3 {
		if err := q.Put(t.Context(), fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Put(t.Context(), []byte("x")); !errors.Is(err, redis.ErrFull) {
		t.Errorf("%v", err)
	}
	small := testenv.StartRedis(t, "maxmemory 2mb")
	q = open(t, small, redis.Options{})
	for n := 0; ; n++ {
		if err := q.Put(t.Context(), make([]byte, 100_000)); err != nil {
			if !strings.Contains(err.Error(), "OOM") {
				t.Error(err)
			}
			break
		}
		if n > 1000 {
			t.Fatal("it takes without end")
		}
	}
}

func TestWhatWasPutInCountsAtOnce(t *testing.T) {
	q := open(t, testenv.StartRedis(t), redis.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var measuring sync.WaitGroup
	measuring.Go(func() {
		for ctx.Err() == nil {
			if err := q.Measure(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range int64(500) {
		if err := q.Put(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		if got := q.Len(); got != n+1 {
			t.Errorf("%d items are kept, and %d are known", n+1, got)
			break
		}
	}
	cancel()
	measuring.Wait()
}

func TestItemsComeAsTheyWerePutIn(t *testing.T) {
	server := testenv.StartRedis(t)
	q := open(t, server, redis.Options{})
	big := strings.Repeat("x", 1000)
	for n := range 5 {
		if err := q.Put(t.Context(), fmt.Appendf(nil, "%d\x00\xff%s", n, big), []byte("second")); err != nil {
			t.Fatal(err)
		}
	}
	items, err := q.Next(t.Context(), 100, 2500)
	if err != nil || len(items) != 4 || string(items[2].Data) != "1\x00\xff"+big || string(items[3].Data) != "second" {
		t.Fatalf("%d items, %v", len(items), err)
	}
	if err := q.Done(t.Context(), items[:3]); err != nil || q.Len() != 7 {
		t.Errorf("%d, %v", q.Len(), err)
	}
	again, err := q.Next(t.Context(), 1, 1)
	if err != nil || len(again) != 1 || again[0].ID != items[3].ID {
		t.Errorf("%v, %v", again, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := open(t, server, redis.Options{}).Next(ctx, 1, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second reader: %v", err)
	}
}
