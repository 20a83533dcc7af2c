package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/deadletter"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/trail"
)

// A book is a ledger in memory, whose store can go away.
type book struct {
	mu      sync.Mutex
	away    error
	ids     map[event.ID]string // what was recorded with it
	order   []string            // names of resources
	by      []ledger.By
	stopped chan struct{}
}

func newBook() *book { return &book{ids: map[event.ID]string{}, stopped: make(chan struct{})} }

func (b *book) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = err
}

func (b *book) Stopped() <-chan struct{} { return b.stopped }

func (b *book) Append(_ context.Context, by ledger.By, events []*event.Event) ([]ledger.Result, *trail.Checkpoint, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	results := make([]ledger.Result, len(events))
	for i, e := range events {
		if b.away != nil {
			results[i].Err = b.away
			continue
		}
		e.Complete(time.Now())
		was, ok := b.ids[e.ID]
		if ok && was != e.Resource.Name {
			results[i].Err = ledger.ErrConflict
			continue
		}
		if !ok {
			b.ids[e.ID] = e.Resource.Name
			b.order, b.by = append(b.order, e.Resource.Name), append(b.by, by)
		}
		results[i].Receipt = ledger.Receipt{ID: e.ID, Index: int64(len(b.order) - 1), Duplicate: ok}
	}
	return results, &trail.Checkpoint{Size: int64(len(b.order))}, nil
}

func (b *book) recorded() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.order...)
}

var alice = ledger.By{Principal: "alice", Via: "token"}

func happened(name string) *event.Event {
	return &event.Event{ID: event.DeriveID(name), EventType: "IssueCreated", Timestamp: time.Now(), Actor: event.Actor{Type: "user", Name: "alice"},
		Resource: event.Resource{Kind: "Issue", Name: name}}
}

// queue opens a queue in dir.
func queue(t *testing.T, dir string) *deadletter.Disk {
	t.Helper()
	d, err := deadletter.OpenDisk(dir, "test.example/ledger", 0, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// start returns a recorder on a queue in dir, and what closes both.
func start(t *testing.T, b *book, dir string) (r *deadletter.Recorder, halt func()) {
	t.Helper()
	d := queue(t, dir)
	r = deadletter.New(deadletter.Config{Ledger: b, Queue: d, Quarantine: d.Quarantine, OnError: func(error) {}, Pause: time.Millisecond, MaxPause: 5 * time.Millisecond})
	halt = sync.OnceFunc(func() {
		r.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(halt)
	return r, halt
}

// tell records an event, and returns whether it was kept for later.
func tell(t *testing.T, r *deadletter.Recorder, e *event.Event) (spooled bool) {
	t.Helper()
	results, _, err := r.Append(t.Context(), alice, []*event.Event{e})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Err != nil || results[0].ID != e.ID {
		t.Fatalf("%+v", results[0])
	}
	return results[0].Spooled
}

// settled waits until nothing is kept.
func settled(t *testing.T, r *deadletter.Recorder) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); r.Stats().Kept > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", r.Stats())
		}
	}
}

func TestWhatIsSentWhileTheStoreIsAwayIsRecordedInOrder(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	r, halt := start(t, b, dir)
	var want []string
	send := func(spooled bool) {
		name := fmt.Sprint("issue-", len(want))
		want = append(want, name)
		if got := tell(t, r, happened(name)); got != spooled {
			t.Errorf("%s: kept %v, want %v", name, got, spooled)
		}
	}
	for range 3 {
		send(false)
	}
	b.set(ledger.ErrAway)
	for range 50 {
		send(true)
	}
	halt() // the server ends, and starts while the store is still away
	r, _ = start(t, b, dir)
	for range 50 {
		send(true)
	}
	b.set(nil)
	settled(t, r)
	send(false)
	if got := b.recorded(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("recorded %v, want %v", got, want)
	}
	for i, by := range b.by {
		if by != alice {
			t.Errorf("event %d was recorded by %+v", i, by)
		}
	}
}

// TestWhoKeptItIsToldWhatBecameOfIt, such as that it has another id now.
func TestWhoKeptItIsToldWhatBecameOfIt(t *testing.T) {
	b, d := newBook(), queue(t, t.TempDir())
	told := make(chan string, 10)
	r := deadletter.New(deadletter.Config{Ledger: b, Queue: d, Quarantine: d.Quarantine, OnError: func(error) {}, Pause: time.Millisecond,
		Recorded: func(_ context.Context, by ledger.By, r ledger.Result) { told <- by.Principal + " " + r.ID.String() }})
	t.Cleanup(r.Close)
	b.set(ledger.ErrAway)
	tell(t, r, happened("first"))
	b.set(nil)
	if got, want := <-told, "alice "+event.DeriveID("first").String(); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

func TestWhatTheLedgerRefusesForGoodGoesIntoQuarantine(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	r, halt := start(t, b, dir)
	tell(t, r, happened("first"))
	b.set(ledger.ErrAway)
	other := happened("other")
	other.ID = event.DeriveID("first")
	tell(t, r, other)
	tell(t, r, happened("last"))
	b.set(nil)
	settled(t, r)
	if got := strings.Join(b.recorded(), " "); got != "first last" {
		t.Errorf("recorded %s", got)
	}
	if s := r.Stats(); s.Spooled != 2 || s.Drained != 1 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	halt()
	text, err := os.ReadFile(filepath.Join(dir, deadletter.QuarantineFile))
	if err != nil || !strings.Contains(string(text), `"reason":"the id was recorded before with other content"`) || !strings.Contains(string(text), `"other"`) || strings.Count(string(text), "\n") != 1 {
		t.Errorf("%s, %v", text, err)
	}
}

func TestWhatIsInvalidIsToldAtOnce(t *testing.T) {
	b := newBook()
	b.set(ledger.ErrAway)
	r, _ := start(t, b, t.TempDir())
	bad, reserved := happened("bad"), happened("reserved")
	bad.Resource.Kind = ""
	reserved.EventType = "LedgerCreated"
	results, _, err := r.Append(t.Context(), alice, []*event.Event{happened("good"), bad, reserved})
	var invalid event.Invalid
	if err != nil || !results[0].Spooled || !errors.As(results[1].Err, &invalid) || !errors.Is(results[2].Err, event.ErrReserved) {
		t.Errorf("%+v, %v", results, err)
	}
}

func TestAFullSpoolRefuses(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.set(ledger.ErrAway)
	d, err := deadletter.OpenDisk(dir, "test.example/ledger", 1<<20, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := deadletter.New(deadletter.Config{Ledger: b, Queue: d, Quarantine: d.Quarantine, OnError: func(error) {}, Pause: time.Millisecond})
	defer r.Close()
	kept := 0
	for ; ; kept++ {
		e := happened(fmt.Sprint("issue-", kept))
		if err := e.SetDetails(map[string]any{"text": strings.Repeat("x", 20_000)}); err != nil {
			t.Fatal(err)
		}
		_, _, err := r.Append(t.Context(), alice, []*event.Event{e})
		if errors.Is(err, ledger.ErrAway) {
			break
		}
		if err != nil || kept > 1000 {
			t.Fatalf("%d are kept, %v", kept, err)
		}
	}
	b.set(nil)
	settled(t, r)
	if got := len(b.recorded()); got != kept {
		t.Errorf("%d recorded, %d kept", got, kept)
	}
}

func TestASpoolIsThatOfOneLedger(t *testing.T) {
	dir := t.TempDir()
	if err := queue(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	_, err := deadletter.OpenDisk(dir, "another.example/ledger", 0, nil)
	if err == nil || !strings.Contains(err.Error(), `"test.example/ledger", and this one is another.example/ledger`) {
		t.Errorf("%v", err)
	}
}

func TestADamagedItemIsLeftOutAndTold(t *testing.T) {
	for damaged, want := range map[string]string{
		"issue-2": "issue-0 issue-1 issue-3 issue-4",
		"issue-0": "issue-1 issue-2 issue-3 issue-4",
		"issue-4": "issue-0 issue-1 issue-2 issue-3",
	} {
		t.Run(damaged, func(t *testing.T) { damagedItem(t, damaged, want) })
	}
}

func damagedItem(t *testing.T, damaged, want string) {
	b, dir := newBook(), t.TempDir()
	b.set(ledger.ErrAway)
	r, halt := start(t, b, dir)
	for i := range 5 {
		tell(t, r, happened(fmt.Sprint("issue-", i)))
	}
	halt()
	segments, err := filepath.Glob(filepath.Join(dir, "queue", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), damaged)
	data[at] = 'I'
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	b.set(nil)
	r, _ = start(t, b, dir)
	settled(t, r)
	if got := strings.Join(b.recorded(), " "); got != want {
		t.Errorf("recorded %s", got)
	}
	text, err := os.ReadFile(filepath.Join(dir, deadletter.QuarantineFile))
	if err != nil || !strings.Contains(string(text), `"reason":"damaged: `) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestAStoreThatIsAwayIsAskedLessAndLess(t *testing.T) {
	dir := t.TempDir()
	d := queue(t, dir)
	defer d.Close()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		b.set(ledger.ErrAway)
		asked := 0
		r := deadletter.New(deadletter.Config{Ledger: b, Queue: &held{items: []deadletter.Item{{ID: "1", Data: []byte(`{"v":1,"principal":"alice","via":"token","event":{}}`)}}},
			Quarantine: d.Quarantine, OnError: func(error) { asked++ }})
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked < 5 || asked > 14 {
			t.Errorf("asked %d times in a minute", asked)
		}
		r.Close()
	})
}

// held is a queue with items that are always there.
type held struct{ items []deadletter.Item }

func (h *held) Put(context.Context, ...[]byte) error { return nil }
func (h *held) Next(ctx context.Context, _, _ int) ([]deadletter.Item, error) {
	if items := h.items; items != nil {
		h.items = nil
		return items, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}
func (h *held) Done(context.Context, []deadletter.Item) error { return nil }
func (h *held) Len() int64                                    { return int64(len(h.items)) }
