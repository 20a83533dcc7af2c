// Package deadletter keeps events while the ledger's store is away, and has them
// recorded, in order, when it is back.
//
//	Append ─▶ nothing is kept? ─yes─▶ the ledger ─away─▶ Queue ─▶ "spooled"
//	                          └─no──────────────────────▶ Queue ─▶ "spooled"
//	drain: Queue ─▶ the ledger ─recorded─────▶ done with
//	                           └refused for good─▶ quarantine ─▶ done with
//
// Invariants:
//
//   - An event that was answered "spooled" is durable in the queue, and leaves it
//     only when the ledger has it, or the quarantine, with the reason, does.
//   - While something is kept, everything queues up behind it: what a caller has
//     recorded one after the other comes into the ledger in that order.
//   - An event may be recorded twice, because an answer was lost: its id tells.
//   - What is in quarantine leaves it by a person's decision, which is an event: it
//     is put into the queue together with what is sent again, as whoever it was
//     accepted from.
//   - The queue is bounded. When it is full, callers are refused, as they would
//     be without one; nothing is dropped.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/trail"
)

// An Item is what a queue keeps.
type Item struct {
	ID   string // the queue's own
	Data []byte
}

// A Queue keeps items until they are done with. Next and Done are for one
// reader.
type Queue interface {
	// Put keeps items, all or none of them, durably.
	Put(ctx context.Context, items ...[]byte) error
	// Next waits for items and returns the next ones, in order, of maxBytes
	// together, but one at least. Those that are not done with come again when
	// the queue is opened anew.
	Next(ctx context.Context, maxItems, maxBytes int) ([]Item, error)
	// Done says that items, the ones that Next returned last, are done with.
	Done(ctx context.Context, items []Item) error
	// Len returns how many items are not done with.
	Len() int64
}

// A Ledger records events.
type Ledger interface {
	Append(ctx context.Context, by ledger.By, events []*event.Event) ([]ledger.Result, *trail.Checkpoint, error)
	// Stopped is closed when it takes nothing more.
	Stopped() <-chan struct{}
}

// Config of a Recorder. Those without a default are required.
type Config struct {
	Ledger Ledger
	Queue  Queue
	// Quarantine keeps, durably, an event that the ledger refused for good.
	Quarantine func(Refused) error
	// Recorded, if not nil, is told of each event of the queue that was recorded.
	Recorded func(ctx context.Context, by ledger.By, r ledger.Result)
	// OnError is told of failures that stop nothing.
	OnError func(error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Pause is how long to wait before something that failed is tried again,
	// at first, and MaxPause at most; 0 means 100 ms and 10 s.
	Pause, MaxPause time.Duration
}

// A Refused is an item that the ledger refused for good.
type Refused struct {
	Item   Item
	Reason string
}

// A Recorder records events in a ledger or, while its store is away, keeps them
// in a queue. Its methods may be called concurrently.
type Recorder struct {
	c       Config
	putting atomic.Int64 // events that are on their way into the queue

	quit context.CancelFunc
	done sync.WaitGroup

	spooled, drained, refused atomic.Int64
}

// New starts a recorder, which drains the queue until Close.
func New(c Config) *Recorder {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Pause == 0 {
		c.Pause = 100 * time.Millisecond
	}
	if c.MaxPause == 0 {
		c.MaxPause = 10 * time.Second
	}
	ctx, quit := context.WithCancel(context.Background())
	r := &Recorder{c: c, quit: quit}
	r.done.Go(func() { r.drain(ctx) })
	return r
}

// Stats count events since the start.
type Stats struct {
	// Spooled were kept, Drained of what was kept recorded, and Refused not.
	Spooled, Drained, Refused int64
	// Kept are those that are not done with.
	Kept int64
}

// Stats returns the counts.
func (r *Recorder) Stats() Stats {
	return Stats{r.spooled.Load(), r.drained.Load(), r.refused.Load(), r.kept()}
}

// kept returns how many events are kept, or about to be.
func (r *Recorder) kept() int64 { return r.putting.Load() + r.c.Queue.Len() }

// Append records events as [ledger.Ledger.Append] does. Those that are kept for
// later have a receipt that says so.
func (r *Recorder) Append(ctx context.Context, by ledger.By, events []*event.Event) ([]ledger.Result, *trail.Checkpoint, error) {
	if r.kept() > 0 {
		results, err := r.keep(ctx, by, events, make([]ledger.Result, len(events)))
		return results, nil, err
	}
	results, cover, err := r.c.Ledger.Append(ctx, by, events)
	if err != nil {
		return results, cover, err
	}
	for i := range results {
		if errors.Is(results[i].Err, ledger.ErrAway) {
			results, err := r.keep(ctx, by, events, results)
			return results, cover, err
		}
	}
	return results, cover, nil
}

// keep puts those events into the queue that have no result yet, or the one that
// the store is away.
func (r *Recorder) keep(ctx context.Context, by ledger.By, events []*event.Event, results []ledger.Result) ([]ledger.Result, error) {
	var items [][]byte
	var of []int
	now := r.c.Now()
	for i, e := range events {
		away := errors.Is(results[i].Err, ledger.ErrAway)
		if results[i].Err != nil && !away || results[i].ID == e.ID && !e.ID.IsZero() {
			continue
		}
		results[i] = ledger.Result{}
		if results[i].Err = check(e, now); results[i].Err == nil {
			items = append(items, encode(by, e))
			of = append(of, i)
		}
	}
	if len(items) == 0 {
		return results, nil
	}
	r.putting.Add(int64(len(items))) // so that what comes later queues up behind
	defer r.putting.Add(-int64(len(items)))
	if err := r.c.Queue.Put(ctx, items...); err != nil {
		return nil, fmt.Errorf("%w: and what is kept meanwhile: %w", ledger.ErrAway, err)
	}
	r.spooled.Add(int64(len(items)))
	for _, i := range of {
		results[i].Receipt = ledger.Receipt{ID: events[i].ID, Spooled: true}
	}
	return results, nil
}

// check holds an event against what the ledger will hold it against.
func check(e *event.Event, now time.Time) error {
	if err := e.CheckReserved(); err != nil {
		return err
	}
	e.Recorded = event.Recorded{}
	e.Complete(now)
	return e.Validate(now)
}

const (
	// drainItems and drainBytes bound what is recorded at a time.
	drainItems = 1000
	drainBytes = 8 << 20
)

// drain records what is kept, until ctx ends.
func (r *Recorder) drain(ctx context.Context) {
	pause := r.c.Pause
	wait := func(err error) bool {
		r.c.OnError(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		case <-r.c.Ledger.Stopped():
			return false
		}
		pause = min(2*pause, r.c.MaxPause)
		return true
	}
	for {
		items, err := r.c.Queue.Next(ctx, drainItems, drainBytes)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !wait(fmt.Errorf("read what is kept: %w", err)) {
			return
		}
		for rest := items; len(rest) > 0; {
			n, err := r.settle(ctx, rest)
			if rest = rest[n:]; n > 0 {
				pause = r.c.Pause
			}
			if err != nil && !wait(fmt.Errorf("record what is kept: %w", err)) {
				return
			}
		}
		for len(items) > 0 {
			err := r.c.Queue.Done(ctx, items)
			if err == nil {
				break
			}
			if !wait(fmt.Errorf("forget what was recorded: %w", err)) {
				return
			}
		}
	}
}

// settle records the first items, of one caller, and returns how many are
// settled: recorded, or refused for good.
func (r *Recorder) settle(ctx context.Context, items []Item) (int, error) {
	by, first, err := decode(items[0].Data)
	if err != nil {
		return r.refuse(items[0], err)
	}
	events := []*event.Event{first}
	for _, it := range items[1:] {
		who, e, err := decode(it.Data)
		if err != nil || who != by {
			break
		}
		events = append(events, e)
	}
	results, _, err := r.c.Ledger.Append(ctx, by, events)
	if err != nil {
		return 0, err
	}
	for i := range results {
		switch err := results[i].Err; {
		case err == nil:
			r.drained.Add(1)
			if r.c.Recorded != nil {
				r.c.Recorded(ctx, by, results[i])
			}
		case passing(err):
			return i, err
		default:
			if _, err := r.refuse(items[i], err); err != nil {
				return i, err
			}
		}
	}
	return len(results), nil
}

// passing reports whether what an event was refused for may pass.
func passing(err error) bool {
	for _, sentinel := range []error{ledger.ErrAway, ledger.ErrBusy, ledger.ErrFull, ledger.ErrStopped, ledger.ErrReadOnly, context.Canceled} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	var invalid event.Invalid
	var field *event.FieldError
	// Anything else that is not the event's own fault may be the store's.
	return !errors.Is(err, ledger.ErrConflict) && !errors.Is(err, event.ErrReserved) && !errors.As(err, &invalid) && !errors.As(err, &field)
}

func (r *Recorder) refuse(it Item, why error) (int, error) {
	if err := r.c.Quarantine(Refused{Item: it, Reason: why.Error()}); err != nil {
		return 0, fmt.Errorf("quarantine: %w", err)
	}
	r.refused.Add(1)
	return 1, nil
}

// Close stops draining. What is kept stays in the queue, which is the caller's to
// close.
func (r *Recorder) Close() {
	r.quit()
	r.done.Wait()
}
