package redis_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/deadletter"
	"github.com/graven-audit/graven/internal/quarantine"
	"github.com/graven-audit/graven/internal/redis"
	"github.com/graven-audit/graven/internal/testenv"
)

var (
	dropped = quarantine.Decision{Type: event.TypeDropped, At: time.Now(), By: "oper", Because: "a test"}
	retried = quarantine.Decision{Type: event.TypeRetried, At: time.Now(), By: "oper"}
)

func openQuarantine(t *testing.T, server *testenv.Redis) *redis.Quarantine {
	t.Helper()
	q, err := redis.OpenQuarantine(t.Context(), server.URL(), "test.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// held returns what is in quarantine, and the names of resources.
func held(t *testing.T, q *redis.Quarantine) (list []quarantine.Held, names string) {
	t.Helper()
	list, err := q.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range list {
		if e, err := event.ParseServed(h.Event); err == nil {
			names += e.Resource.Name + " "
		}
	}
	return list, strings.TrimSpace(names)
}

// refuse has a stream's first items refused as a server does, which is killed
// before they are done with if left is set.
func refuse(t *testing.T, q *redis.Queue, left bool) {
	t.Helper()
	items, err := q.Next(t.Context(), 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		if err := q.Quarantine(deadletter.Refused{Item: it, Reason: "bad"}); err != nil {
			t.Fatal(err)
		}
	}
	if !left {
		if err := q.Done(t.Context(), items); err != nil {
			t.Fatal(err)
		}
	}
}

// quarantined has events in quarantine.
func quarantined(t *testing.T, server *testenv.Redis, left bool, names ...string) *redis.Queue {
	t.Helper()
	q := open(t, server, redis.Options{})
	b := &book{ids: map[event.ID]bool{}, away: true}
	r := start(t, b, q)
	for _, name := range names {
		tell(t, r, name)
	}
	r.Close()
	refuse(t, q, left)
	return q
}

func TestWhatIsInQuarantineIsSentAgainOrDroppedAndTold(t *testing.T) {
	for name, left := range map[string]bool{"by a server that goes on": false, "by one that was killed before it said so": true} {
		t.Run(name, func(t *testing.T) {
			server := testenv.StartRedis(t)
			queue := quarantined(t, server, left, "a", "b", "c")
			q := openQuarantine(t, server)
			list, names := held(t, q)
			if names != "a b c" || list[0].Principal != "alice" || list[0].Via != "token" || list[0].Reason != "bad" || list[0].At.IsZero() {
				t.Fatalf("%s: %+v", names, list)
			}
			for _, d := range []quarantine.Decision{{Type: event.TypeDropped, By: "oper"}, {Type: event.TypeRetried}} {
				if err := q.Out(t.Context(), list[0].Key(), d); err == nil {
					t.Errorf("%+v", d)
				}
			}
			if err := q.Out(t.Context(), list[0].Key(), retried); err != nil {
				t.Fatal(err)
			}
			if err := q.Out(t.Context(), list[1].Key(), dropped); err != nil {
				t.Fatal(err)
			}
			if err := q.Out(t.Context(), list[1].Key(), dropped); !errors.Is(err, quarantine.ErrNone) {
				t.Error(err)
			}
			server.Kill() // what is said to be done is durable
			server.Start()
			if _, names := held(t, q); names != "c" {
				t.Errorf("%s are in quarantine", names)
			}
			queue.Close()
			b := &book{ids: map[event.ID]bool{}}
			settled(t, start(t, b, open(t, server, redis.Options{})))
			want := fmt.Sprintf("a %s %s", list[0].Key(), list[1].Key())
			if left {
				want = "c " + want
			}
			if got := strings.Join(b.order, " "); got != want {
				t.Errorf("recorded %s, want %s", got, want)
			}
		})
	}
}

func TestOfSeveralDecisionsOneIsCarriedOut(t *testing.T) {
	server := testenv.StartRedis(t)
	quarantined(t, server, false, "a").Close()
	q := openQuarantine(t, server)
	list, _ := held(t, q)
	var wg sync.WaitGroup
	var done atomic.Int64
	for range 16 {
		wg.Go(func() {
			err := q.Out(t.Context(), list[0].Key(), dropped)
			if err == nil {
				done.Add(1)
			} else if !errors.Is(err, quarantine.ErrNone) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b := &book{ids: map[event.ID]bool{}}
	settled(t, start(t, b, open(t, server, redis.Options{})))
	if done.Load() != 1 || len(b.order) != 1 {
		t.Errorf("%d were done, %s recorded", done.Load(), b.order)
	}
}

func TestADecisionThatFailsLeavesWhatItIsAbout(t *testing.T) {
	server := testenv.StartRedis(t)
	quarantined(t, server, false, "a").Close()
	q := openQuarantine(t, server)
	list, _ := held(t, q)
	key := list[0].Key()
	server.Kill()
	if err := q.Out(t.Context(), key, dropped); err == nil || !strings.Contains(err.Error(), "deadLetter: the Redis server at ") {
		t.Error(err)
	}
	if _, err := q.List(t.Context()); err == nil {
		t.Error("nobody is there")
	}
	server.Start()
	rdb := client(t, server)
	// The stream is no stream: nothing can be put into it.
	if err := rdb.Set(t.Context(), "graven:{test.example/ledger}:events", "x", 0).Err(); err == nil {
		if err := q.Out(t.Context(), key, retried); err == nil {
			t.Error("it was put nowhere")
		}
	} else {
		t.Fatal(err)
	}
	if _, names := held(t, q); names != "a" {
		t.Errorf("%q is in quarantine", names)
	}
}

func client(t *testing.T, server *testenv.Redis) *goredis.Client {
	t.Helper()
	o, err := goredis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestWhatIsDamagedInQuarantineIsShownAndCanBeDropped(t *testing.T) {
	server := testenv.StartRedis(t)
	queue := open(t, server, redis.Options{})
	if err := queue.Put(t.Context(), []byte("no item")); err != nil {
		t.Fatal(err)
	}
	refuse(t, queue, false)
	rdb := client(t, server)
	for field, text := range map[string]string{"no id": `{"reason":"x"}`, "1-1": "{", "2-1": ""} {
		if err := rdb.HSet(t.Context(), "graven:{test.example/ledger}:refused", field, text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	q := openQuarantine(t, server)
	list, names := held(t, q)
	if len(list) != 4 || names != "" || list[1].Reason != "damaged: it cannot be read" || string(list[1].Bytes) != "{" || string(list[3].Bytes) != "no item" {
		t.Fatalf("%+v", list)
	}
	for _, h := range list {
		if err := q.Out(t.Context(), h.Key(), retried); !errors.Is(err, quarantine.ErrNoEvent) {
			t.Errorf("%s: %v", h.Key(), err)
		}
		if err := q.Out(t.Context(), h.Key(), dropped); err != nil {
			t.Errorf("%s: %v", h.Key(), err)
		}
	}
	if list, _ := held(t, q); len(list) != 0 || queue.Close() != nil {
		t.Errorf("%+v", list)
	}
}

// TestAServerThatIsKilledLosesAndDoublesNoDecision has people decide while Redis
// is killed again and again. Of each event, either it is in quarantine still, or
// the decision was carried out, once, whatever they were answered.
func TestAServerThatIsKilledLosesAndDoublesNoDecision(t *testing.T) {
	server := testenv.StartRedis(t)
	var names []string
	for n := range 60 {
		names = append(names, fmt.Sprintf("event-%02d", n))
	}
	quarantined(t, server, false, names...).Close()
	list, _ := held(t, openQuarantine(t, server))
	decisions := []quarantine.Decision{retried, dropped}
	var wg sync.WaitGroup
	var done sync.Map
	for i := range 2 {
		q := openQuarantine(t, server)
		wg.Go(func() {
			for n, h := range list {
				if n%2 == i {
					if q.Out(t.Context(), h.Key(), decisions[n/2%2]) == nil {
						done.Store(h.Key(), true)
					}
				}
			}
		})
	}
	for range 4 {
		server.Kill()
		server.Start()
	}
	wg.Wait()
	left := map[string]bool{}
	rest, _ := held(t, openQuarantine(t, server))
	for _, h := range rest {
		left[h.Key()] = true
	}
	b := &book{ids: map[event.ID]bool{}}
	settled(t, start(t, b, open(t, server, redis.Options{})))
	times := map[string]int{}
	for _, name := range b.order {
		times[name]++
	}
	for n, h := range list {
		_, said := done.Load(h.Key())
		out := !left[h.Key()]
		again := out && decisions[n/2%2].Type == event.TypeRetried
		if said && !out || times[h.Key()] != map[bool]int{true: 1}[out] || times[names[n]] != map[bool]int{true: 1}[again] {
			t.Errorf("%s: said to be done: %v, out: %v, told %d times, recorded %d times", names[n], said, out, times[h.Key()], times[names[n]])
		}
	}
	t.Logf("%d of %d are left", len(rest), len(list))
}
