// Package storetest is the suite that every store of the ledger passes.
package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A Store is what the suite tests.
type Store interface {
	ledger.Store
	search.Index
	search.Reader
	search.Picker
	finding.Sources
	// Wait returns when everything is derived from the entries below size.
	Wait(ctx context.Context, size int64) error
	Verify(ctx context.Context, o verify.Options) (*verify.Report, error)
	Erase(ctx context.Context, to int64, runs []tombstone.Run, below int64) error
	ErasedTo(ctx context.Context) int64
	Close() error
}

// A Bed is one ledger for a test, which can be opened again and again.
type Bed struct {
	Signer      note.Signer
	Verifier    note.Verifier
	VerifierKey string
	SignerKey   string // the secret half, for another process
	// Open opens the ledger's store.
	Open func() (Store, error)

	clock atomic.Pointer[time.Time]
}

// Set has the ledger's clock stand still at a time. At first, and after the zero
// time, it is the machine's.
func (b *Bed) Set(now time.Time) {
	if now.IsZero() {
		b.clock.Store(nil)
		return
	}
	b.clock.Store(&now)
}

func (b *Bed) now() time.Time {
	if t := b.clock.Load(); t != nil {
		return *t
	}
	return time.Now()
}

// NewBed returns a bed with fresh keys. open opens its store.
func NewBed(t testing.TB, open func(b *Bed) (Store, error)) *Bed {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "test.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	b := &Bed{VerifierKey: vkey, SignerKey: skey}
	if b.Signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if b.Verifier, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	b.Open = func() (Store, error) { return open(b) }
	return b
}

// A Running is a ledger that runs.
type Running struct {
	t      testing.TB
	Store  Store
	Ledger *ledger.Ledger
	Finder search.Finder
	closed bool
}

// Start opens store and ledger. They are closed at the end of the test unless
// [Running.Stop] was called.
func (b *Bed) Start(t testing.TB) *Running {
	t.Helper()
	r, err := b.TryStart(t)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TryStart is like Start and returns what goes wrong.
func (b *Bed) TryStart(t testing.TB) (*Running, error) {
	store, err := b.Open()
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(t.Context(), ledger.Config{Store: store, Signer: b.Signer, VerifierKey: b.VerifierKey, Version: "test", Now: b.now})
	if err != nil {
		store.Close()
		return nil, err
	}
	r := &Running{t: t, Store: store, Ledger: l, Finder: search.Finder{Index: store, Reader: store}}
	t.Cleanup(func() {
		if !r.closed {
			r.Stop()
		}
	})
	return r, nil
}

// Stop closes ledger and store.
func (r *Running) Stop() {
	r.t.Helper()
	r.closed = true
	r.Ledger.Close()
	if err := r.Store.Close(); err != nil {
		r.t.Error(err)
	}
}

// Abandon closes ledger and store, which may be broken.
func (r *Running) Abandon() {
	r.closed = true
	r.Ledger.Close()
	_ = r.Store.Close()
}

// By is who records in tests.
var By = ledger.By{Principal: "tester", Via: "token"}

// Event returns a valid event that tells of number n.
func Event(n int) *event.Event {
	e := &event.Event{
		ID:            event.DeriveID("storetest", fmt.Sprint(n)),
		EventType:     "RemediationExecuted",
		Timestamp:     time.Date(2026, 3, 19, 14, 30, n%60, 123e6, time.UTC),
		Actor:         event.Actor{Type: event.ActorController, Name: fmt.Sprintf("controller-%d", n%3)},
		Resource:      event.Resource{Kind: "RemediationPlan", Namespace: fmt.Sprintf("ns-%d", n%4), Name: fmt.Sprintf("plan-%d", n)},
		CorrelationID: fmt.Sprintf("inc-%d", n/5),
		Severity:      []string{"critical", "high", "medium", "low", "info"}[n%5],
	}
	if err := e.SetDetails(map[string]any{"number": n, "action": "Rollback"}); err != nil {
		panic(err)
	}
	return e
}

// Append records events and fails the test if any is refused.
func (r *Running) Append(events ...*event.Event) []ledger.Receipt {
	r.t.Helper()
	results, cover, err := r.Ledger.Append(r.t.Context(), By, events)
	if err != nil {
		r.t.Fatal(err)
	}
	receipts := make([]ledger.Receipt, len(results))
	for i, res := range results {
		if res.Err != nil {
			r.t.Fatalf("event %d: %v", i, res.Err)
		}
		if res.Index >= cover.Size {
			r.t.Fatalf("event %d: index %d is not under the checkpoint of %d entries", i, res.Index, cover.Size)
		}
		receipts[i] = res.Receipt
	}
	return receipts
}

// AppendMany records events number first to first+n-1, in batches.
func (r *Running) AppendMany(first, n int) {
	r.t.Helper()
	for n > 0 {
		size := min(n, 100)
		events := make([]*event.Event, size)
		for i := range events {
			events[i] = Event(first + i)
		}
		r.Append(events...)
		first, n = first+size, n-size
	}
}

// Size returns the ledger's size, after waiting until all can be found.
func (r *Running) Size() int64 {
	r.t.Helper()
	size := r.Ledger.State().Size()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if err := r.Store.Wait(ctx, size); err != nil {
		r.t.Fatal(err)
	}
	return size
}

// Check verifies the whole ledger, and that no event is there twice.
func (r *Running) Check(b *Bed) *verify.Report {
	r.t.Helper()
	size := r.Size()
	report, err := r.Store.Verify(r.t.Context(), verify.Options{Keys: []note.Verifier{b.Verifier}})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range report.Findings {
		r.t.Errorf("verify: %s: entry %d: %s (%s)", f.Kind, f.Index, f.Message, f.Where)
	}
	if !report.Authenticated || report.Size < size {
		r.t.Errorf("verify: authenticated %v, size %d, want %d", report.Authenticated, report.Size, size)
	}
	seen := map[event.ID]int64{}
	err = r.Store.Records(r.t.Context(), search.Range{End: size}, func(rec *trail.Record) error {
		e, err := rec.Event()
		if err != nil {
			return err
		}
		if first, ok := seen[e.ID]; ok {
			r.t.Errorf("event %s stands at %d and at %d", e.ID, first, rec.Index)
		}
		seen[e.ID] = rec.Index
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}
