package rest_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
)

// A receipt is the answer to one event.
type receipt struct {
	ID        string
	Name      string
	Index     int64
	LeafHash  string
	Duplicate bool
	Message   string
}

func receiptOf(a *answer) receipt {
	a.t.Helper()
	var r receipt
	a.want(http.StatusCreated).into(&r)
	return r
}

func TestTheSameEventAgainGivesTheFirstAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		doc     string
		again   string // the same, said otherwise
		headers []string
	}{
		"by its id":                        {doc: full},
		"by its id, from another source":   {doc: full, again: with(full, "source", `{"name":"operator-1","seq":1}`)},
		"by its id, written otherwise":     {doc: full, again: " " + strings.Replace(with(full, "timestamp", `"2026-03-19T15:30:00.123456789+01:00"`), "details", "\\u0064etails", 1)},
		"by Kubernaut's id":                {doc: fullFlat},
		"by an idempotency key":            {doc: native, headers: []string{"Idempotency-Key", "k"}},
		"by an idempotency key, flat":      {doc: flat, headers: []string{"Idempotency-Key", "k"}},
		"by its id and an idempotency key": {doc: full, headers: []string{"Idempotency-Key", "k"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			if tt.again == "" {
				tt.again = tt.doc
			}
			first := receiptOf(d.as("recorder").post(events, tt.doc, tt.headers...))
			d.unchanged(func() {
				again := receiptOf(d.as("recorder").post(events, tt.again, tt.headers...))
				if !again.Duplicate || first.Duplicate || again.ID != first.ID || again.Index != first.Index || again.LeafHash != first.LeafHash || again.Name != first.Name {
					t.Errorf("first %+v, again %+v", first, again)
				}
				b := batchOf(d.as("recorder").post(batchRoute, "["+tt.again+"]", tt.headers...), http.StatusCreated)
				if b.Duplicates != 1 || b.Items[0].Index != first.Index || b.EventIDs[0] != first.ID {
					t.Errorf("in a batch: %+v", b)
				}
			})
		})
	}
}

func TestWithoutAKeyTheSameEventIsRecordedTwice(t *testing.T) {
	d := open(t)
	first, second := receiptOf(d.as("recorder").post(events, native)), receiptOf(d.as("recorder").post(events, native))
	if first.ID == second.ID || second.Duplicate || second.Index != first.Index+1 {
		t.Errorf("first %+v, second %+v", first, second)
	}
}

func TestTheSameIdWithOtherContentIsRefusedAndRecordedOnce(t *testing.T) {
	for name, change := range map[string]string{
		"severity":         with(full, "severity", `"low"`),
		"a detail":         with(full, "details.a", "2"),
		"no details":       with(full, "details", ""),
		"the message":      with(full, "error.message", `"another"`),
		"another spelling": with(full, "original", `{"severity":"alert"}`),
		"a nanosecond":     with(full, "timestamp", `"2026-03-19T14:30:00.123456790Z"`),
		"Kubernaut's form": with(fullFlat, "event_id", `"019310a2-7a3c-7000-8000-000000000001"`),
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			first := receiptOf(d.as("recorder").post(events, full))
			before := d.events()
			for range 3 {
				d.as("recorder").post(events, change).problem(http.StatusConflict, "", "entry 1")
			}
			b := batchOf(d.as("recorder").post(batchRoute, "["+native+","+change+"]"), http.StatusMultiStatus)
			if b.Accepted != 1 || b.Items[1].Status != http.StatusConflict {
				t.Errorf("in a batch: %+v", b)
			}
			if got := d.events() - before; got != 2 {
				t.Errorf("%d events recorded, want the conflict and the batch's other event", got)
			}
			conflicts := d.recorded("IdempotencyConflict")
			if len(conflicts) != 1 || detail(conflicts[0], "id") != first.ID || detail(conflicts[0], "index") != "1" || detail(conflicts[0], "principal") != "recorder" || conflicts[0].Recorded.Principal != "recorder" {
				t.Errorf("conflicts: %+v", conflicts)
			}
			d.journal.Close() // which counts the repetitions
			if conflicts = d.recorded("IdempotencyConflict"); len(conflicts) != 2 || detail(conflicts[1], "count") != "3" {
				t.Errorf("at the end: %+v", conflicts)
			}
		})
	}
}

// TestAnIdThatAnotherHasTakenKeepsNobodyFromRecording: who vouches for others may
// use ids that nobody else may, so that they cannot be taken at all.
func TestAnIdThatAnotherHasTakenKeepsNobodyFromRecording(t *testing.T) {
	d := open(t)
	first := receiptOf(d.as("recorder").post(events, full))
	change := with(full, "severity", `"low"`)
	other := receiptOf(d.as("admin").post(events, change))
	if other.ID == first.ID || other.Duplicate || !strings.HasPrefix(other.ID, "6772766e-") {
		t.Errorf("first %+v, of another %+v", first, other)
	}
	again := batchOf(d.as("admin").post(batchRoute, "["+change+"]"), http.StatusCreated)
	if again.Duplicates != 1 || again.EventIDs[0] != other.ID {
		t.Errorf("again %+v", again)
	}
	conflicts := d.recorded("IdempotencyConflict")
	if len(conflicts) != 1 || detail(conflicts[0], "id") != first.ID || detail(conflicts[0], "recordedAs") != other.ID || detail(conflicts[0], "principal") != "admin" {
		t.Errorf("conflicts: %+v", conflicts)
	}
	for name, id := range map[string]string{
		"a reserved id that an entry has": other.ID,
		"one that none has":               event.DeriveID("of nobody").Reserve().String(),
	} {
		r := receiptOf(d.as("recorder").post(events, strings.Replace(full, first.ID, id, 1)))
		if r.ID == id || r.Duplicate || !strings.HasPrefix(r.ID, "6772766e-") {
			t.Errorf("%s: %+v", name, r)
		}
		if e := d.recorded()[r.Index]; e.Original["id"] != id {
			t.Errorf("%s: %+v", name, e.Original)
		}
	}
}

// TestWhatWasReadIsNoNewEvent, though its id was none that the caller could give.
func TestWhatWasReadIsNoNewEvent(t *testing.T) {
	d := open(t)
	receiptOf(d.as("recorder").post(events, full))
	other := receiptOf(d.as("admin").post(events, with(full, "severity", `"low"`)))
	e := d.recorded()[other.Index]
	e.Recorded = event.Recorded{}
	d.unchanged(func() {
		if r := receiptOf(d.as("recorder").post(events, string(e.AppendJSON(nil)))); r.ID != other.ID || !r.Duplicate {
			t.Errorf("%+v", r)
		}
	})
}

func TestIdempotencyKeysDeriveAnIdForEachPosition(t *testing.T) {
	d := open(t)
	two := "[" + native + "," + native + "]"
	first := batchOf(d.as("recorder").post(batchRoute, two, "Idempotency-Key", "k"), http.StatusCreated)
	if first.EventIDs[0] == first.EventIDs[1] {
		t.Fatal("both events have the same id")
	}
	d.unchanged(func() {
		again := batchOf(d.as("recorder").post(batchRoute, two, "Idempotency-Key", "k"), http.StatusCreated)
		if again.Duplicates != 2 || again.EventIDs[0] != first.EventIDs[0] || again.EventIDs[1] != first.EventIDs[1] {
			t.Errorf("again: %+v", again)
		}
		// NDJSON's blank lines do not shift positions.
		again = batchOf(d.as("recorder").post(batchRoute, "\n"+native+"\n\n"+native, "Idempotency-Key", "k"), http.StatusCreated)
		if again.Duplicates != 2 {
			t.Errorf("as lines: %+v", again)
		}
	})
	if other := batchOf(d.as("recorder").post(batchRoute, two, "Idempotency-Key", "k2"), http.StatusCreated); other.Duplicates != 0 {
		t.Errorf("another key: %+v", other)
	}
}

func TestIdempotencyKeysOfOthersAreOthers(t *testing.T) {
	d := open(t)
	d.token(access.Token{Name: "agent", Role: access.Recorder})
	seen := map[string]bool{}
	for _, who := range []string{"recorder", "operator", "agent"} {
		r := receiptOf(d.as(who).post(events, native, "Idempotency-Key", "k"))
		if r.Duplicate || seen[r.ID] {
			t.Errorf("%s got somebody else's: %+v", who, r)
		}
		seen[r.ID] = true
	}
}

func TestARefusedEventDoesNotUseItsKeyUp(t *testing.T) {
	d := open(t)
	d.as("recorder").post(events, with(native, "severity", `"loud"`), "Idempotency-Key", "k").problem(http.StatusBadRequest, "severity", "")
	if r := receiptOf(d.as("recorder").post(events, native, "Idempotency-Key", "k")); r.Duplicate {
		t.Errorf("got %+v", r)
	}
}

func TestManyWhoSendOneEventAtOnceRecordItOnce(t *testing.T) {
	d := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh, indexes := 0, map[int64]bool{}
	for range 30 {
		wg.Go(func() {
			r := receiptOf(d.as("recorder").post(events, full))
			mu.Lock()
			defer mu.Unlock()
			indexes[r.Index] = true
			if !r.Duplicate {
				fresh++
			}
		})
	}
	wg.Wait()
	if fresh != 1 || len(indexes) != 1 {
		t.Errorf("%d times recorded, at %d places", fresh, len(indexes))
	}
}
