package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/testkey"
	"github.com/graven-audit/graven/trail"
)

// A writer is one of several stores of a ledger in memory. It counts on nobody
// else until somebody was faster.
type writer struct {
	*memory
	turn   *sync.Mutex // held by who keeps the others out
	known  *ledger.Head
	moved  bool
	locked bool
}

func (w *writer) Lock(ctx context.Context, least int64) (ledger.Head, error) {
	if w.known != nil && !w.moved && w.known.Tree.Size() >= least {
		return *w.known, nil
	}
	if w.moved {
		w.turn.Lock()
		w.locked = true
	}
	head, err := w.memory.Lock(ctx, least)
	w.known = &head
	return head, err
}

func (w *writer) Unlock() {
	if w.locked {
		w.locked, w.moved = false, false
		w.turn.Unlock()
	}
}

func (w *writer) Append(ctx context.Context, p *ledger.Pool) error {
	if !w.locked {
		w.turn.Lock()
		defer w.turn.Unlock()
	}
	defer w.Unlock()
	err := w.memory.Append(ctx, p)
	if w.moved = errors.Is(err, ledger.ErrMoved); err == nil {
		w.known = &p.Head
	}
	return err
}

func TestSeveralWritersMakeOneLedger(t *testing.T) {
	m := newStore()
	signer, _, vkey := testkey.New(t, "test.example/ledger")
	var turn sync.Mutex
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			l, err := ledger.Open(t.Context(), ledger.Config{Store: &writer{memory: m, turn: &turn}, Signer: signer, VerifierKey: vkey})
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			var callers sync.WaitGroup
			for c := range 4 {
				callers.Go(func() {
					for i := range 100 {
						own := happened(event.DeriveID(fmt.Sprint(w, c, i)))
						shared := happened(event.DeriveID("shared", fmt.Sprint(i)))
						results, cover, err := l.Append(t.Context(), by, []*event.Event{own, shared})
						if err != nil || results[0].Err != nil || results[1].Err != nil || results[0].Index >= cover.Size || results[1].Index >= cover.Size {
							t.Errorf("writer %d: %+v, %v", w, results, err)
							return
						}
					}
				})
			}
			callers.Wait()
		})
	}
	wg.Wait()
	if got, want := len(m.records), 1+3*4*100+100; got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
	var chain trail.Hash
	var tree trail.Tree
	for _, r := range m.records {
		if chain = trail.Link(chain, r.Entry); chain != r.Chain {
			t.Fatalf("entry %d does not follow from the one before it", r.Index)
		}
		tree.Append(trail.LeafHash(r.Entry), nil)
	}
	if tree.Root() != m.head.Checkpoint.Root {
		t.Error("the last checkpoint has another root")
	}
}

func TestWhoIsAlwaysOvertakenIsAskedToTryAgain(t *testing.T) {
	m := newStore()
	l := start(t, m)
	m.set(func(op string, _ *ledger.Pool) error {
		if op == "append" {
			return ledger.ErrMoved
		}
		return nil
	})
	if err := once(t, l, happened(event.ID{})); !errors.Is(err, ledger.ErrBusy) {
		t.Errorf("%v", err)
	}
	m.set(nil)
	if err := once(t, l, happened(event.ID{})); err != nil {
		t.Errorf("once nobody else writes: %v", err)
	}
}

func TestAStoreThatIsAwayStopsNothing(t *testing.T) {
	m := newStore()
	l := start(t, m)
	e := happened(event.DeriveID("once"))
	for _, op := range []string{"lock", "append"} {
		m.set(func(got string, _ *ledger.Pool) error {
			if got == op {
				return ledger.ErrAway
			}
			return nil
		})
		if err := once(t, l, e.Clone()); !errors.Is(err, ledger.ErrAway) {
			t.Errorf("when %s finds it away: %v", op, err)
		}
	}
	m.set(nil)
	if err := once(t, l, e); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// once records an event and returns what becomes of it.
func once(t *testing.T, l *ledger.Ledger, e *event.Event) error {
	t.Helper()
	results, _, err := l.Append(t.Context(), by, []*event.Event{e})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Duplicate {
		t.Error("it was recorded before")
	}
	return results[0].Err
}
