package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/testkey"
	"github.com/graven-audit/graven/trail"
)

func TestALedgerBeginsWithItsOwnCreation(t *testing.T) {
	m := newStore()
	signer, verifier, vkey := testkey.New(t, "test.example/ledger")
	c := newClock()
	l, err := ledger.Open(t.Context(), ledger.Config{Store: m, Signer: signer, VerifierKey: vkey, Version: "1.2.3", Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := m.told(t)[0]
	if first.EventType != "LedgerCreated" || first.Recorded != (event.Recorded{At: c.Now().Truncate(time.Microsecond), Principal: "graven", Via: "internal", Attribution: event.AttributionAuthenticated}) {
		t.Errorf("%s", first.AppendJSON(nil))
	}
	for _, want := range []string{`"origin":"test.example/ledger"`, `"key":"` + vkey + `"`, `"version":"1.2.3"`} {
		if !strings.Contains(string(first.Ledger), want) || !strings.Contains(string(first.Details), want) {
			t.Errorf("no %s in %s", want, first.Ledger)
		}
	}
	cp, err := trail.OpenCheckpoint(l.State().Checkpoint.Note, verifier)
	if err != nil || cp.Size != 1 || cp.Root != trail.LeafHash(m.records[0].Entry) {
		t.Errorf("%+v, %v", cp, err)
	}
	again, err := ledger.Open(t.Context(), ledger.Config{Store: m, Signer: signer, VerifierKey: vkey})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.State().Size() != 1 {
		t.Error("it was created twice")
	}
}

func TestALedgerThatCannotBeginIsNotOpened(t *testing.T) {
	signer, _, vkey := testkey.New(t, "test.example/ledger")
	m := newStore()
	start(t, m)
	other := *m.head.Checkpoint
	other.Origin = "another.example/ledger"
	m.head.Checkpoint = &other
	if _, err := ledger.Open(t.Context(), ledger.Config{Store: m, Signer: signer, VerifierKey: vkey}); err == nil || !strings.Contains(err.Error(), "another.example/ledger") {
		t.Errorf("with the key of another ledger: %v", err)
	}
	for _, op := range []string{"append", "recent"} {
		m := newStore()
		fault := errors.New("no disk")
		m.set(func(got string, _ *ledger.Pool) error {
			if got == op {
				return fault
			}
			return nil
		})
		if _, err := ledger.Open(t.Context(), ledger.Config{Store: m, Signer: signer, VerifierKey: vkey}); !errors.Is(err, fault) {
			t.Errorf("when %s fails: %v", op, err)
		}
	}
}

func TestAReceiptIsCoveredByTheCheckpointThatComesWithIt(t *testing.T) {
	m := newStore()
	l := start(t, m)
	var tree trail.Tree
	for n := range 40 {
		events := []*event.Event{happened(event.DeriveID("a", string(rune(n)))), happened(event.DeriveID("b", string(rune(n))))}
		results, cover, err := l.Append(t.Context(), by, events)
		if err != nil {
			t.Fatal(err)
		}
		for ; tree.Size() < cover.Size; tree.Append(trail.LeafHash(m.records[tree.Size()].Entry), nil) {
		}
		for i, r := range results {
			if r.Err != nil || r.ID != events[i].ID || r.Index != cover.Size-2+int64(i) || r.Leaf != tlog.RecordHash(m.records[r.Index].Entry) || r.Duplicate {
				t.Errorf("%+v", r)
			}
		}
		if tree.Root() != cover.Root || l.State().Checkpoint.Root != cover.Root {
			t.Errorf("at %d entries the checkpoint has another root", cover.Size)
		}
	}
	chain := trail.Hash{}
	for _, r := range m.records {
		if chain = trail.Link(chain, r.Entry); chain != r.Chain {
			t.Fatalf("entry %d does not follow", r.Index)
		}
	}
}

func TestWhatTheServerSetsCallersCannot(t *testing.T) {
	m := newStore()
	c := newClock()
	l := start(t, m, on(c))
	for _, tt := range []struct {
		name  string
		actor string
		by    ledger.By
		want  string
	}{
		{"about others", "alice", by, event.AttributionAsserted},
		{"about oneself", "tester", by, event.AttributionAuthenticated},
		{"as a witness", "tester", ledger.By{Principal: "tester", Via: "token", Attribution: event.AttributionAdmission}, event.AttributionAdmission},
	} {
		e := happened(event.ID{})
		e.Actor.Name = tt.actor
		e.Recorded = event.Recorded{At: time.Unix(1, 0), Principal: "ceo", Via: "magic", Attribution: event.AttributionAdmission, Uncatalogued: true}
		results, _, err := l.Append(t.Context(), tt.by, []*event.Event{e})
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results)
		}
		want := event.Recorded{At: c.Now().Truncate(time.Microsecond), Principal: "tester", Via: "token", Attribution: tt.want}
		kept := m.told(t)[results[0].Index]
		if e.Recorded != want || kept.Recorded != want {
			t.Errorf("%s: %+v", tt.name, kept.Recorded)
		}
	}
	for name, change := range map[string]func(*event.Event){
		"a reserved type":     func(e *event.Event) { e.EventType = "LedgerCreated" },
		"the member ledger":   func(e *event.Event) { e.Ledger = []byte(`{"key":"x"}`) },
		"a type by its alias": func(e *event.Event) { e.EventType = "AuditRead" },
	} {
		e := happened(event.ID{})
		change(e)
		if r := record(t, l, e); !errors.Is(r.Err, event.ErrReserved) {
			t.Errorf("%s: %v", name, r.Err)
		}
	}
}

func TestAnEntryMayNotBeTooLarge(t *testing.T) {
	m := newStore()
	l := start(t, m)
	wide := strings.Repeat("\x01", event.MaxString) // six bytes each in JSON
	e := happened(event.ID{})
	for _, s := range []*string{&e.Actor.Name, &e.Actor.ServiceAccount, &e.Actor.Controller, &e.Resource.APIVersion, &e.Resource.Kind, &e.Resource.Namespace, &e.Resource.Name, &e.Resource.UID,
		&e.Category, &e.Action, &e.CorrelationID, &e.Cluster, &e.Fact, &e.Source.Name, &e.Error.Code} {
		*s = wide
	}
	if r := record(t, l, e); r.Err != nil {
		t.Errorf("fifteen of the widest strings: %v", r.Err)
	}
	results, _, err := l.Append(t.Context(), ledger.By{Principal: strings.Repeat(wide, 10), Via: "token"}, []*event.Event{e.Clone()})
	var invalid event.Invalid
	if err != nil || !errors.As(results[0].Err, &invalid) || invalid[0].Field != "body" {
		t.Errorf("an entry of more than 60 KiB: %v, %v", err, results)
	}
}

func TestPoolsAreWhatArrivedMeanwhile(t *testing.T) {
	m := newStore()
	var stats []ledger.PoolStats
	l := start(t, m, func(c *ledger.Config) {
		c.MaxPool = 50
		c.Observe = func(s ledger.PoolStats) { stats = append(stats, s) }
	})
	g := m.gate()
	var callers sync.WaitGroup
	send := func(n int) {
		events := make([]*event.Event, n)
		for i := range events {
			events[i] = happened(event.ID{})
		}
		callers.Go(func() {
			results, _, err := l.Append(t.Context(), by, events)
			if err != nil || results[0].Err != nil {
				t.Error(err, results)
			}
		})
	}
	send(1)
	if p := <-g.waiting; len(p.Records) != 1 || p.Own {
		t.Errorf("a first pool of %d", len(p.Records))
	}
	for range 120 {
		send(1)
	}
	send(70) // more than a pool may hold, but one request
	l.AwaitQueue(121)
	g.pass(nil)
	total, largest := 0, 0
	for total < 190 {
		p := <-g.waiting
		total += len(p.Records)
		largest = max(largest, len(p.Records))
		g.pass(nil)
	}
	callers.Wait()
	if largest > 50+70 || len(m.pools) > 7 {
		t.Errorf("pools of %v events", m.pools)
	}
	events := 0
	for _, s := range stats {
		if events += s.Events; s.Bytes == 0 {
			t.Errorf("%+v", s)
		}
	}
	if events != 192 { // the first entry, too
		t.Errorf("%d events observed", events)
	}
}

func TestWhenTheQueueIsFullCallersAreRefusedAtOnce(t *testing.T) {
	m := newStore()
	l := start(t, m, func(c *ledger.Config) { c.MaxPending = 10_000 })
	large := func() *event.Event {
		e := happened(event.ID{})
		if err := e.SetDetails(map[string]string{"text": strings.Repeat("x", 6000)}); err != nil {
			t.Fatal(err)
		}
		return e
	}
	g := m.gate()
	var callers sync.WaitGroup
	callers.Go(func() {
		if r := record(t, l, large()); r.Err != nil {
			t.Error(r.Err)
		}
	})
	<-g.waiting
	for range 3 {
		if _, _, err := l.Append(t.Context(), by, []*event.Event{large()}); !errors.Is(err, ledger.ErrBusy) {
			t.Errorf("a second one: %v", err)
		}
	}
	callers.Go(func() { // small ones still fit
		if r := record(t, l, happened(event.ID{})); r.Err != nil {
			t.Error(r.Err)
		}
	})
	l.AwaitQueue(1)
	callers.Go(func() { // and so do the ledger's own, whatever their size
		own := ledger.OwnEvent("LedgerStarted", "x", time.Now())
		if err := own.SetDetails(map[string]string{"size": strings.Repeat("x", 9000)}); err != nil {
			t.Error(err)
		}
		if err := l.Own(t.Context(), own); err != nil {
			t.Error(err)
		}
	})
	l.AwaitQueue(2)
	m.set(nil)
	g.pass(nil)
	callers.Wait()
	if r := record(t, l, large()); r.Err != nil {
		t.Errorf("with room again: %v", r.Err)
	}
	huge := happened(event.ID{})
	if err := huge.SetDetails(map[string]string{"text": strings.Repeat("x", 20_000)}); err != nil {
		t.Fatal(err)
	}
	if r := record(t, l, huge); r.Err != nil {
		t.Errorf("one that is larger than the bound, alone: %v", r.Err)
	}
}

func TestTheQueueHasAnEnd(t *testing.T) {
	m := newStore()
	l := start(t, m)
	g := m.gate()
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var mu sync.Mutex
	busy := 0
	send := func() {
		if _, _, err := l.Append(ctx, by, []*event.Event{happened(event.ID{})}); errors.Is(err, ledger.ErrBusy) {
			mu.Lock()
			busy++
			mu.Unlock()
		}
	}
	callers.Go(send)
	<-g.waiting
	for range 4096 + 10 {
		callers.Go(send)
	}
	l.AwaitQueue(4096)
	cancel()
	callers.Wait()
	if busy != 10 {
		t.Errorf("%d callers were refused, want 10", busy)
	}
	m.set(nil)
	g.pass(nil)
}

func TestACallerWhoGivesUpDoesNotStopWhatWasBegun(t *testing.T) {
	m := newStore()
	l := start(t, m)
	g := m.gate()
	ctx, cancel := context.WithCancel(t.Context())
	e := happened(event.DeriveID("x"))
	done := make(chan error)
	go func() {
		_, _, err := l.Append(ctx, by, []*event.Event{e.Clone()})
		done <- err
	}()
	<-g.waiting
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	m.set(nil)
	g.pass(nil)
	if r := record(t, l, e.Clone()); r.Err != nil || !r.Duplicate || r.Index != 1 {
		t.Errorf("sent again: %+v", r)
	}
}

func TestClosingAnswersEverybody(t *testing.T) {
	t.Run("who waits", func(t *testing.T) {
		m := newStore()
		l := start(t, m)
		g := m.gate()
		var callers sync.WaitGroup
		call := func() {
			if r := record(t, l, happened(event.ID{})); r.Err != nil {
				t.Error(r.Err)
			}
		}
		callers.Go(call)
		<-g.waiting // the others find the sequencer at work
		for range 29 {
			callers.Go(call)
		}
		l.AwaitQueue(29)
		closed := make(chan struct{})
		go func() {
			l.Close()
			close(closed)
		}()
		g.pass(nil)
		for n := m.size(); n < 31; n = m.size() {
			select {
			case <-g.waiting:
				g.pass(nil)
			case <-closed:
			}
		}
		callers.Wait()
		<-closed
		l.Close() // twice does no harm
		if _, _, err := l.Append(t.Context(), by, []*event.Event{happened(event.ID{})}); !errors.Is(err, ledger.ErrStopped) {
			t.Errorf("after it was closed: %v", err)
		}
		if l.Err() != nil {
			t.Errorf("closing is no failure: %v", l.Err())
		}
	})
	t.Run("who comes at that moment", func(t *testing.T) {
		signer, _, vkey := testkey.New(t, "test.example/ledger")
		for round := range 300 {
			l, err := ledger.Open(t.Context(), ledger.Config{Store: newStore(), Signer: signer, VerifierKey: vkey})
			if err != nil {
				t.Fatal(err)
			}
			var callers sync.WaitGroup
			for range 4 {
				callers.Go(func() {
					// Without an end of its own: nobody may wait for ever.
					results, _, err := l.Append(context.Background(), by, []*event.Event{happened(event.ID{})})
					if err == nil {
						err = results[0].Err
					}
					if err != nil && !errors.Is(err, ledger.ErrStopped) {
						t.Error(err)
					}
				})
			}
			for range round % 50 {
				runtime.Gosched()
			}
			l.Close()
			callers.Wait()
		}
	})
}

func (m *memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

func TestAFullStoreRefusesAndRecovers(t *testing.T) {
	m := newStore()
	l := start(t, m)
	m.set(func(op string, p *ledger.Pool) error {
		if op == "append" && !p.Own {
			return ledger.ErrFull
		}
		return nil
	})
	before := l.State()
	for range 3 {
		if r := record(t, l, happened(event.DeriveID("x"))); !errors.Is(r.Err, ledger.ErrFull) || r.Receipt != (ledger.Receipt{}) {
			t.Errorf("got %+v", r)
		}
	}
	if l.State() != before || l.Err() != nil {
		t.Error("a refused pool has changed the ledger")
	}
	if err := l.Own(t.Context(), started(t)); err != nil {
		t.Errorf("the ledger's own: %v", err)
	}
	m.set(nil)
	if r := record(t, l, happened(event.DeriveID("x"))); r.Err != nil || r.Duplicate || r.Index != 2 {
		t.Errorf("with room again: %+v", r)
	}
}

func started(t *testing.T) *event.Event {
	t.Helper()
	e := ledger.OwnEvent("LedgerStarted", "x", time.Now())
	if err := e.SetDetails(map[string]int{"size": 1}); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestOnAFullStoreTheLedgersOwnEventsPassOthers puts both into one pool.
func TestOnAFullStoreTheLedgersOwnEventsPassOthers(t *testing.T) {
	m := newStore()
	l := start(t, m)
	g := m.gate()
	var callers sync.WaitGroup
	callers.Go(func() { record(t, l, happened(event.ID{})) })
	<-g.waiting
	id := event.DeriveID("twice")
	for range 3 {
		callers.Go(func() {
			if r := record(t, l, happened(id)); !errors.Is(r.Err, ledger.ErrFull) {
				t.Errorf("an event of others: %+v", r)
			}
		})
		callers.Go(func() {
			if err := l.Own(t.Context(), started(t)); err != nil {
				t.Errorf("one of the ledger's own: %v", err)
			}
		})
	}
	l.AwaitQueue(6)
	m.set(func(op string, p *ledger.Pool) error {
		if op == "append" && !p.Own {
			return ledger.ErrFull
		}
		return nil
	})
	g.pass(nil)
	callers.Wait()
	m.set(nil)
	if r := record(t, l, happened(id)); r.Err != nil || r.Duplicate || r.Index != 5 {
		t.Errorf("with room again: %+v", r)
	}
}

func TestABrokenStoreStopsTheLedgerForGood(t *testing.T) {
	m := newStore()
	l := start(t, m)
	g := m.gate()
	var callers sync.WaitGroup
	call := func() {
		results, _, err := l.Append(t.Context(), by, []*event.Event{happened(event.ID{})})
		if err == nil {
			err = results[0].Err
		}
		if !errors.Is(err, ledger.ErrStopped) {
			t.Errorf("got %v", err)
		}
	}
	callers.Go(call)
	<-g.waiting // the others find the sequencer at work
	for range 19 {
		callers.Go(call)
	}
	l.AwaitQueue(19)
	before := l.State()
	select {
	case <-l.Stopped():
		t.Error("it has stopped already")
	default:
	}
	g.pass(ledger.ErrBroken)
	callers.Wait()
	<-l.Stopped()
	if err := l.Err(); !errors.Is(err, ledger.ErrStopped) || !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("it says %v", err)
	}
	m.set(nil)
	if err := l.Own(t.Context(), started(t)); !errors.Is(err, ledger.ErrStopped) {
		t.Errorf("although the store works again: %v", err)
	}
	if l.State() != before || m.size() != 1 {
		t.Error("something was published")
	}
}

func TestAStoreThatCannotLookUpFailsOnlyWhatNeedsIt(t *testing.T) {
	m := newStore()
	l := start(t, m)
	fault := errors.New("no index")
	first := record(t, l, happened(event.DeriveID("a")))
	m.set(func(op string, _ *ledger.Pool) error {
		if op == "find" {
			return fault
		}
		return nil
	})
	if r := record(t, l, happened(event.DeriveID("b"))); !errors.Is(r.Err, fault) {
		t.Errorf("an id that must be looked up: %v", r.Err)
	}
	if r := record(t, l, happened(event.ID{})); r.Err != nil {
		t.Errorf("a fresh id: %v", r.Err)
	}
	m.set(func(op string, _ *ledger.Pool) error {
		if op == "record" {
			return fault
		}
		return nil
	})
	// One who sends an id again whose entry cannot be read does not fail others.
	results, _, err := l.Append(t.Context(), by, []*event.Event{happened(event.DeriveID("a")), happened(event.ID{})})
	if err != nil || !errors.Is(results[0].Err, fault) || results[1].Err != nil {
		t.Errorf("%+v, %v", results, err)
	}
	m.set(nil)
	if r := record(t, l, happened(event.DeriveID("a"))); r.Err != nil || !r.Duplicate || r.Index != first.Index {
		t.Errorf("once it can be read again: %+v", r)
	}
}

func TestRepetitionsWithinAPoolAreOneEvent(t *testing.T) {
	m := newStore()
	l := start(t, m)
	other := happened(event.DeriveID("a"))
	other.Severity = event.SeverityLow
	elsewhere := happened(event.DeriveID("a"))
	elsewhere.Source = event.Source{Name: "elsewhere", Seq: 7}
	results, _, err := l.Append(t.Context(), by, []*event.Event{happened(event.DeriveID("a")), happened(event.DeriveID("a")), other, elsewhere})
	if err != nil || results[0].Err != nil || results[0].Duplicate || !results[1].Duplicate || results[1].Index != results[0].Index ||
		!errors.Is(results[2].Err, ledger.ErrConflict) || results[2].Index != results[0].Index || results[3].Err != nil || !results[3].Duplicate {
		t.Errorf("%+v, %v", results, err)
	}
	if m.size() != 2 {
		t.Errorf("%d entries", m.size())
	}
}

// TestNobodyCanTakeTheIdOfAnothersEvent: it is recorded under an id that nobody
// else may use, once, however often it is sent.
func TestNobodyCanTakeTheIdOfAnothersEvent(t *testing.T) {
	m := newStore()
	l := start(t, m)
	taken := happened(event.DeriveID("a"))
	taken.Severity = event.SeverityLow
	if _, _, err := l.Append(t.Context(), ledger.By{Principal: "mallory"}, []*event.Event{taken}); err != nil {
		t.Fatal(err)
	}
	other := happened(event.DeriveID("b"))
	results, cover, err := l.Append(t.Context(), by, []*event.Event{happened(event.DeriveID("a")), other})
	if err != nil || results[0].Err != nil || results[1].Err != nil || results[0].Duplicate || results[0].Claimed != event.DeriveID("a") ||
		!results[0].ID.Reserved() || results[0].Index != 3 || results[1].Index != 2 || !results[1].Claimed.IsZero() || cover.Size != 4 {
		t.Fatalf("%+v, %v", results, err)
	}
	if e, err := m.records[3].Event(); err != nil || e.ID != results[0].ID || e.Original["id"] != event.DeriveID("a").String() || e.Severity == event.SeverityLow {
		t.Errorf("%+v, %v", e, err)
	}
	if again := record(t, l, happened(event.DeriveID("a"))); again.Err != nil || !again.Duplicate || again.Index != 3 {
		t.Errorf("again: %+v", again)
	}
	changed := happened(event.DeriveID("a"))
	changed.Severity = event.SeverityHigh
	if r := record(t, l, changed); !errors.Is(r.Err, ledger.ErrConflict) || r.Index != 3 {
		t.Errorf("other content of the same principal: %+v", r)
	}
}

// TestWhoIsKnownInAnotherWayIsAnother, whatever their names.
func TestWhoIsKnownInAnotherWayIsAnother(t *testing.T) {
	m := newStore()
	l := start(t, m)
	for i, via := range []string{"token", "tokenreview", "admission/operator"} {
		e := happened(event.DeriveID("a"))
		e.DurationMs = int64(i)
		results, _, err := l.Append(t.Context(), ledger.By{Principal: "jane", Via: via}, []*event.Event{e})
		if err != nil || results[0].Err != nil || results[0].Duplicate || results[0].Claimed.IsZero() != (i == 0) {
			t.Errorf("%s: %+v, %v", via, results, err)
		}
	}
}

// TestWhoGivesWayToAnotherMayTryAgain, if the store goes away in between: nothing of
// it is recorded.
func TestWhoGivesWayToAnotherMayTryAgain(t *testing.T) {
	m := newStore()
	l := start(t, m)
	taken := happened(event.DeriveID("a"))
	taken.DurationMs = 1
	if _, _, err := l.Append(t.Context(), ledger.By{Principal: "mallory"}, []*event.Event{taken}); err != nil {
		t.Fatal(err)
	}
	m.set(func(op string, p *ledger.Pool) error {
		if p != nil && len(p.Events) > 0 && p.Events[0].ID.Reserved() {
			return ledger.ErrAway
		}
		return nil
	})
	send := func() []ledger.Result {
		results, _, err := l.Append(t.Context(), by, []*event.Event{happened(event.DeriveID("a")), happened(event.DeriveID("b"))})
		if err != nil {
			t.Fatal(err)
		}
		return results
	}
	if r := send(); !errors.Is(r[0].Err, ledger.ErrAway) || r[1].Err != nil || m.size() != 3 {
		t.Fatalf("%+v", r)
	}
	m.set(nil)
	if r := send(); r[0].Err != nil || r[0].Duplicate || !r[0].ID.Reserved() || r[1].Err != nil || !r[1].Duplicate || m.size() != 4 {
		t.Errorf("%+v", r)
	}
}

// TestAnIdIsTakenWithinAPoolToo, by who comes first.
func TestAnIdIsTakenWithinAPoolToo(t *testing.T) {
	m := newStore()
	l := start(t, m)
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			e := happened(event.DeriveID("a"))
			e.DurationMs = int64(n)
			results, _, err := l.Append(t.Context(), ledger.By{Principal: strconv.Itoa(n)}, []*event.Event{e})
			if err != nil || results[0].Err != nil {
				t.Errorf("%+v, %v", results, err)
			}
		})
	}
	wg.Wait()
	if m.size() != 21 {
		t.Errorf("%d entries", m.size())
	}
}

// TestADuplicateOfErasedContentIsOne: of what was erased nothing is compared.
func TestADuplicateOfErasedContentIsOne(t *testing.T) {
	m := newStore()
	l := start(t, m)
	e := happened(event.DeriveID("a"))
	e.Error = event.Failure{Code: "E", Message: "secret"}
	if err := e.SetDetails(map[string]string{"secret": "x"}); err != nil {
		t.Fatal(err)
	}
	record(t, l, e.Clone())
	m.records[1].Erasable, m.records[1].Salt = nil, event.Salt{}
	if r := record(t, l, e.Clone()); r.Err != nil || !r.Duplicate {
		t.Errorf("the same: %+v", r)
	}
	e.Error.Code = "F"
	if r := record(t, l, e); !errors.Is(r.Err, ledger.ErrConflict) {
		t.Errorf("another: %+v", r)
	}
}

func TestAStateTellsWhenThereIsANewerOne(t *testing.T) {
	l := start(t, newStore())
	before := l.State()
	select {
	case <-before.Changed():
		t.Error("it has changed")
	default:
	}
	record(t, l, happened(event.ID{}))
	<-before.Changed()
	if before.Size() != 1 || l.State().Size() != 2 {
		t.Errorf("from %d to %d", before.Size(), l.State().Size())
	}
}

func TestNothingToRecordNeedsNoStore(t *testing.T) {
	m := newStore()
	l := start(t, m)
	m.set(func(string, *ledger.Pool) error { return errors.New("must not be asked") })
	bad := happened(event.ID{})
	bad.Resource.Kind = ""
	for _, events := range [][]*event.Event{nil, {bad}} {
		results, cover, err := l.Append(t.Context(), by, events)
		if err != nil || len(results) != len(events) || cover.Size != 1 || len(events) > 0 && results[0].Err == nil {
			t.Errorf("%+v, %+v, %v", results, cover, err)
		}
	}
}

// TestAPoolLeavesNoMemoryBehind: what a large one took is free once it is
// recorded, though all that come after it are small.
func TestAPoolLeavesNoMemoryBehind(t *testing.T) {
	m := newStore()
	l := start(t, m)
	const large, each = 128, event.MaxDetails - 100
	before := inUse()
	for range 2 { // the second are duplicates
		events := make([]*event.Event, large)
		for i := range events {
			events[i] = happened(event.DeriveID("large", fmt.Sprint(i)))
			if err := events[i].SetDetails(map[string]string{"text": strings.Repeat("x", each)}); err != nil {
				t.Fatal(err)
			}
		}
		if results, _, err := l.Append(t.Context(), by, events); err != nil || results[large-1].Err != nil {
			t.Fatal(results, err)
		}
		for range 2 { // behind the first, the sequencer is done with the pool
			record(t, l, happened(event.ID{}))
		}
		m.forget()
		if now := inUse(); now > before+large*each/8 {
			t.Errorf("%d KiB are in use, before it were %d", now>>10, before>>10)
		}
	}
	runtime.KeepAlive(l)
}

// inUse returns how many bytes of the heap are in use.
func inUse() uint64 {
	var s runtime.MemStats
	for range 3 { // a pool of memory lets go of it the second time
		runtime.GC()
	}
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// TestWhoGivesUpHasTheEventsBack: what the caller does with them, such as to try
// again, is not seen by the sequencer, which still has the first try before it.
func TestWhoGivesUpHasTheEventsBack(t *testing.T) {
	m := newStore()
	l := start(t, m)
	e := happened(event.DeriveID("a"))
	if err := e.SetDetails(map[string]string{"text": "x"}); err != nil {
		t.Fatal(err)
	}
	first := record(t, l, e.Clone())
	waiting, open := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.set(func(op string, _ *ledger.Pool) error {
		if op == "record" {
			once.Do(func() {
				close(waiting)
				<-open
			})
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var given sync.WaitGroup
	given.Go(func() {
		if _, _, err := l.Append(ctx, by, []*event.Event{e}); !errors.Is(err, context.Canceled) {
			t.Errorf("the first try: %v", err)
		}
	})
	<-waiting
	cancel()
	given.Wait()
	e.EventType = "IssueResolved"
	clear(e.Details)
	if err := e.SetDetails(map[string]string{"text": "y"}); err != nil {
		t.Fatal(err)
	}
	given.Go(func() {
		if r := record(t, l, e); !errors.Is(r.Err, ledger.ErrConflict) || r.Index != first.Index {
			t.Errorf("the second try: %+v", r)
		}
	})
	l.AwaitQueue(1)
	close(open)
	given.Wait()
}
