package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
)

func TestTheStoreIsNotAskedAboutFreshIds(t *testing.T) {
	c := newClock()
	for _, tt := range []struct {
		name  string
		id    event.ID
		asked bool
	}{
		{"of now", event.NewID(c.Now()), false},
		{"of before the start", event.NewID(c.Now().Add(-10 * time.Millisecond)), true},
		{"of nine seconds ahead", event.NewID(c.Now().Add(9 * time.Second)), false},
		{"of eleven seconds ahead", event.NewID(c.Now().Add(11 * time.Second)), true},
		{"of 1970", event.NewID(time.Unix(0, 0)), true},
		{"derived", event.DeriveID("x"), true},
		{"of another version", mustParse(t, "3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c10"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newStore()
			l := start(t, m, on(c))
			first := record(t, l, happened(tt.id))
			if asked := len(m.asks()) > 0; first.Err != nil || first.Duplicate || asked != tt.asked {
				t.Errorf("the first time: %+v, asked %v", first, asked)
			}
			// Asked or not, it is known from now on, also to a new ledger.
			for range 2 {
				if again := record(t, l, happened(tt.id)); again.Err != nil || !again.Duplicate || again.Index != first.Index {
					t.Errorf("again: %+v", again)
				}
				l.Close()
				l = start(t, m, on(c), sameKeys(l))
			}
		})
	}
}

// sameKeys lets a ledger go on with the keys of another.
func sameKeys(l *ledger.Ledger) func(*ledger.Config) {
	return func(c *ledger.Config) { c.Signer, c.VerifierKey = l.Keys() }
}

func mustParse(t *testing.T, s string) event.ID {
	t.Helper()
	id, err := event.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestTheWindowMovesOnWithTheClock(t *testing.T) {
	c := newClock()
	m := newStore()
	l := start(t, m, on(c))
	for range 10 {
		c.move(6 * time.Second)
		record(t, l, happened(event.NewID(c.Now())))
		record(t, l, happened(event.NewID(c.Now().Add(-5*time.Second))))
		record(t, l, happened(event.NewID(c.Now().Add(4*time.Second))))
	}
	if asked := m.asks(); len(asked) > 0 {
		t.Errorf("the store was asked about %d ids", len(asked))
	}
	for i, r := range m.ranges[1:] {
		if !r[0].Equal(m.ranges[i][1]) || !r[1].After(r[0]) {
			t.Errorf("the window went on from %s to %s, and then from %s", m.ranges[i][0], m.ranges[i][1], r[0])
		}
	}
}

// TestIdsAtTheEdgeOfTheWindowAreKnown records ids around the moments to which
// the window moves on, and sends them again when it has.
func TestIdsAtTheEdgeOfTheWindowAreKnown(t *testing.T) {
	c := newClock() // which has a fraction of a millisecond
	m := newStore()
	l := start(t, m, on(c))
	var ids []event.ID
	for tens := range 4 {
		for ms := -30; ms <= 30; ms++ {
			at := c.Now().Add(time.Duration(tens)*10*time.Second + time.Duration(ms)*time.Millisecond)
			ids = append(ids, event.NewID(at), event.NewID(at.Add(6*time.Second)), event.NewID(at.Add(-time.Minute)))
		}
	}
	for _, id := range ids {
		if r := record(t, l, happened(id)); r.Err != nil || r.Duplicate {
			t.Fatalf("%+v", r)
		}
	}
	for range 8 {
		for i, id := range ids {
			if r := record(t, l, happened(id)); r.Err != nil || !r.Duplicate {
				t.Fatalf("id %d, after %s: %+v", i, c.Now(), r)
			}
		}
		c.move(6 * time.Second)
	}
}

func TestWhatIsNotRememberedAnyMoreIsLookedUp(t *testing.T) {
	c := newClock()
	m := newStore()
	l := start(t, m, on(c), func(c *ledger.Config) { c.MaxRecent = 20 })
	var ids []event.ID
	for range 100 {
		c.move(700 * time.Millisecond)
		ids = append(ids, event.NewID(c.Now()))
		if r := record(t, l, happened(ids[len(ids)-1])); r.Err != nil || r.Duplicate {
			t.Fatalf("%+v", r)
		}
	}
	if asked := len(m.asks()); asked > 0 {
		t.Errorf("the store was asked about %d fresh ids", asked)
	}
	for i, id := range ids {
		if r := record(t, l, happened(id)); r.Err != nil || !r.Duplicate || r.Index != int64(i+1) {
			t.Errorf("id %d: %+v", i, r)
		}
	}
	if asked := len(m.asks()); asked < 75 || asked > 100 {
		t.Errorf("the store was asked about %d of 100 ids, 20 are remembered", asked)
	}
	// An id of the forgotten time that is new is asked about, and new.
	if r := record(t, l, happened(event.NewID(c.Now().Add(-time.Minute)))); r.Err != nil || r.Duplicate || len(m.asks()) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestAnIdIsRecordedOnceWhateverTheClocksDo holds the ledger against a plain
// map, with a clock and ids that jump.
func TestAnIdIsRecordedOnceWhateverTheClocksDo(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			c := newClock()
			m := newStore()
			l := start(t, m, on(c), func(c *ledger.Config) { c.MaxRecent = 1 + rng.IntN(40) })
			model := map[event.ID]int64{}
			var ids []event.ID
			for range 400 {
				switch rng.IntN(14) {
				case 0:
					c.move(time.Duration(rng.Int64N(int64(3 * time.Hour))))
				case 1:
					c.move(-time.Duration(rng.Int64N(int64(3 * time.Hour))))
				case 2:
					c.move(time.Duration(rng.Int64N(int64(time.Minute))))
				case 4, 5:
					c.move(time.Duration(rng.Int64N(int64(10 * time.Second))))
				case 3:
					if rng.IntN(4) == 0 {
						l.Close()
						l = start(t, m, on(c), sameKeys(l), func(c *ledger.Config) { c.MaxRecent = 1 + rng.IntN(40) })
					}
				}
				var id event.ID
				if len(ids) > 0 && rng.IntN(3) == 0 {
					id = ids[rng.IntN(len(ids))]
				} else {
					spread := []time.Duration{4 * time.Hour, 2 * time.Minute, 20 * time.Second}[rng.IntN(3)]
					id = event.NewID(c.Now().Add(time.Duration(rng.Int64N(int64(spread))) - spread/2))
					ids = append(ids, id)
				}
				r := record(t, l, happened(id))
				index, known := model[id]
				if r.Err != nil || r.Duplicate != known || known && r.Index != index {
					t.Fatalf("%s at %s: %+v, want a duplicate %v at %d", id, c.Now(), r, known, index)
				}
				model[id] = r.Index
			}
		})
	}
}

// TestForgettingCostsLittle sends ids each of another second, so that each new
// one makes the ledger forget one: with a look at all seconds for each, this
// test would take minutes.
func TestForgettingCostsLittle(t *testing.T) {
	c := newClock()
	m := newStore()
	const remembered = 30_000
	l := start(t, m, on(c), func(c *ledger.Config) { c.MaxRecent = remembered })
	send := func(first, n int) {
		events := make([]*event.Event, n)
		for i := range events {
			events[i] = happened(event.NewID(c.Now().Add(time.Duration(first+i) * 10 * time.Millisecond)))
		}
		if _, _, err := l.Append(t.Context(), by, events); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < 2*remembered; n += 5000 {
		send(n, 5000)
		c.move(time.Second)
	}
	if got := l.Remembered(); got > remembered {
		t.Errorf("%d ids are remembered", got)
	}
}

// TestIdsFarAheadAreNotRemembered: they would keep nearer ones from being.
func TestIdsFarAheadAreNotRemembered(t *testing.T) {
	c := newClock()
	m := newStore()
	l := start(t, m, on(c), func(c *ledger.Config) { c.MaxRecent = 50 })
	for n := range 200 {
		record(t, l, happened(event.NewID(c.Now().AddDate(n, 0, 0))))
	}
	fresh := event.NewID(c.Now())
	record(t, l, happened(fresh))
	m.asks()
	if r := record(t, l, happened(fresh)); !r.Duplicate || len(m.asks()) > 0 {
		t.Errorf("%+v", r)
	}
}
