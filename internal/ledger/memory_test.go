package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/testkey"
	"github.com/graven-audit/graven/trail"
)

// A memory is a store that keeps a ledger in memory, with hooks for faults.
type memory struct {
	mu      sync.Mutex
	head    ledger.Head
	records []trail.Record
	ids     map[event.ID]int64
	pools   []int      // how many events each pool had
	asked   []event.ID // that Find was asked for
	ranges  [][2]time.Time

	// fault, if not nil, is asked before each operation: "lock", "append", "find",
	// "recent" or "record". It may block.
	fault func(op string, p *ledger.Pool) error
}

func newStore() *memory { return &memory{ids: map[event.ID]int64{}} }

func (m *memory) set(fault func(op string, p *ledger.Pool) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

func (m *memory) check(op string, p *ledger.Pool) error {
	m.mu.Lock()
	fault := m.fault
	m.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(op, p)
}

func (m *memory) Lock(context.Context, int64) (ledger.Head, error) {
	if err := m.check("lock", nil); err != nil {
		return ledger.Head{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head, nil
}

func (m *memory) Unlock() {}

func (m *memory) Append(_ context.Context, p *ledger.Pool) error {
	if err := m.check("append", p); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, r := range p.Records {
		if i == 0 && r.Index < int64(len(m.records)) {
			return ledger.ErrMoved
		}
		if r.Index != int64(len(m.records)) || p.Events[i] == nil {
			return errors.New("a pool does not extend the head")
		}
		if _, ok := m.ids[p.Events[i].ID]; ok {
			return errors.New("an id stands twice")
		}
		r.Entry, r.Erasable = bytes.Clone(r.Entry), bytes.Clone(r.Erasable) // they are the ledger's again
		m.records = append(m.records, r)
		m.ids[p.Events[i].ID] = r.Index
	}
	m.head, m.pools = p.Head, append(m.pools, len(p.Records))
	return nil
}

func (m *memory) Find(_ context.Context, ids []event.ID, indexes []int64) error {
	if err := m.check("find", nil); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, ids...)
	for i, id := range ids {
		indexes[i] = -1
		if index, ok := m.ids[id]; ok {
			indexes[i] = index
		}
	}
	return nil
}

func (m *memory) Recent(_ context.Context, from, to time.Time) (map[event.ID]int64, error) {
	if err := m.check("recent", nil); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ranges = append(m.ranges, [2]time.Time{from, to})
	found := map[event.ID]int64{}
	for id, index := range m.ids {
		// As an index over ids has it, which knows no more than milliseconds.
		if t, ok := id.Time(); ok && t.UnixMilli() >= from.UnixMilli() && t.UnixMilli() < to.UnixMilli() {
			found[id] = index
		}
	}
	return found, nil
}

func (m *memory) Record(_ context.Context, index int64) (trail.Record, error) {
	if err := m.check("record", nil); err != nil {
		return trail.Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if index < 0 || index >= int64(len(m.records)) {
		return trail.Record{}, errors.New("no such record")
	}
	return m.records[index], nil
}

// asks returns what Find was asked for since the last call.
func (m *memory) asks() []event.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.asked
	m.asked = nil
	return asked
}

// told returns the events of a type, or all.
func (m *memory) told(t *testing.T, types ...string) []*event.Event {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*event.Event
	for _, r := range m.records {
		e, err := r.Event()
		if err != nil {
			t.Fatal(err)
		}
		if len(types) == 0 || slices.Contains(types, e.EventType) {
			list = append(list, e)
		}
	}
	return list
}

// A gate holds up appending, and tells of each pool that waits before it.
type gate struct {
	waiting chan *ledger.Pool
	open    chan error // what appending then fails with
}

func (m *memory) gate() *gate {
	g := &gate{make(chan *ledger.Pool), make(chan error)}
	m.set(func(op string, p *ledger.Pool) error {
		if op != "append" {
			return nil
		}
		g.waiting <- p
		return <-g.open
	})
	return g
}

// pass lets one pool pass, or fail.
func (g *gate) pass(err error) { g.open <- err }

// forget drops what may be erased.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.records {
		m.records[i].Erasable = nil
	}
}

// start opens a ledger on a store.
func start(t *testing.T, m *memory, change ...func(*ledger.Config)) *ledger.Ledger {
	t.Helper()
	signer, _, vkey := testkey.New(t, "test.example/ledger")
	c := ledger.Config{Store: m, Signer: signer, VerifierKey: vkey, Version: "test"}
	for _, fn := range change {
		fn(&c)
	}
	l, err := ledger.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	m.asks()
	return l
}

// on sets a ledger's clock.
func on(c *clock) func(*ledger.Config) { return func(lc *ledger.Config) { lc.Now = c.Now } }

// A clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 19, 14, 30, 0, 123456789, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var by = ledger.By{Principal: "tester", Via: "token"}

// happened returns a valid event with an id.
func happened(id event.ID) *event.Event {
	return &event.Event{ID: id, EventType: "IssueCreated", Timestamp: time.Date(2026, 3, 1, 14, 0, 0, 0, time.UTC),
		Actor: event.Actor{Type: event.ActorUser, Name: "alice"}, Resource: event.Resource{Kind: "Issue", Name: "i"}}
}

// record records one event and returns what became of it.
func record(t *testing.T, l *ledger.Ledger, e *event.Event) ledger.Result {
	t.Helper()
	results, _, err := l.Append(t.Context(), by, []*event.Event{e})
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}
