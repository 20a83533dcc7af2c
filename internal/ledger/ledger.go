package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
)

// Config of a Ledger. Store, Signer and VerifierKey are required.
type Config struct {
	Store  Store
	Signer note.Signer
	// VerifierKey is the public half of Signer in its text form. The ledger's
	// first entry announces it.
	VerifierKey string
	// Predecessor, if not nil, is the ledger that this one succeeds. The first
	// entry says so.
	Predecessor *succession.Predecessor
	// ReadOnly, if not nil, makes a ledger in which nothing is recorded. It is
	// told of the ledger's own events instead.
	ReadOnly func(*event.Event)
	// Version of the software, which the ledger's own events mention.
	Version string
	// MaxPool bounds the events of one pool; 0 means 2,048. Larger ones save
	// nothing, and leave the processor's cache before they are on the disk.
	MaxPool int
	// MaxPending bounds the bytes of events that await their turn; beyond it
	// callers get [ErrBusy]. 0 means 64 MiB.
	MaxPending int64
	// MaxRecent bounds the ids that are remembered, so that the store need not
	// be asked about new ones; 0 means 65,536.
	MaxRecent int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Observe, if not nil, is told of every pool that was made durable.
	Observe func(PoolStats)
}

// PoolStats tell of one pool.
type PoolStats struct {
	Events   int
	Bytes    int
	Duration time.Duration // from taking the pool to its being durable
}

// By says who records: the authenticated principal, and how it was authenticated.
type By struct {
	Principal string
	Via       string
	// Attribution overrides how events are attributed. If it is empty, it is
	// "authenticated" where the actor bears the principal's name ("admission",
	// if somebody else vouches for the principal), and "asserted" elsewhere.
	Attribution string
}

// ViaAdmission is, with the name of one who attests behind it, the Via of a
// principal whom that one vouches for.
const ViaAdmission = "admission/"

// attribution returns how the act of an actor is attributed.
func (b By) attribution(actor string) string {
	switch {
	case b.Attribution != "":
		return b.Attribution
	case actor != b.Principal:
		return event.AttributionAsserted
	case strings.HasPrefix(b.Via, ViaAdmission):
		return event.AttributionAdmission
	}
	return event.AttributionAuthenticated
}

// GiveWay has an event bear a reserved id instead of its own, which the principal
// may not give, or others have taken: the same each time.
func (b By) GiveWay(e *event.Event) {
	e.Rename(event.DeriveID("taken", b.Via, b.Principal, e.ID.String()).Reserve())
}

// A Receipt is the answer to a recorded event.
type Receipt struct {
	ID    event.ID
	Index int64
	Leaf  trail.Hash
	// Duplicate is set if the event had been recorded before.
	Duplicate bool
	// Spooled is set if the event is kept until the store is back. It has no
	// index yet.
	Spooled bool
	// Claimed is the id that the event bore, if another principal had recorded
	// other content under it before: then the event has a reserved id.
	// ClaimedBy is the index of the entry that has it.
	Claimed   event.ID
	ClaimedBy int64
}

// A Result is what became of one event: a receipt, or an error.
type Result struct {
	Receipt
	Err error
}

// Conflict returns what is to be recorded where a caller's event has not got the id
// that it bore: another event has it, of the same caller (then the event was
// refused), or of another.
func (r Result) Conflict(by By) (act Act, ok bool) {
	details := map[string]any{"id": r.ID.String(), "index": r.Index, "principal": by.Principal}
	switch {
	case errors.Is(r.Err, ErrConflict):
	case r.Err == nil && !r.Claimed.IsZero() && !r.Duplicate:
		details["id"], details["index"], details["recordedAs"] = r.Claimed.String(), r.ClaimedBy, r.ID.String()
	default:
		return act, false
	}
	return Act{Type: "IdempotencyConflict", By: by, Details: details}, true
}

// A State is a ledger's published state. It does not change.
type State struct {
	Checkpoint *trail.Checkpoint
	changed    chan struct{}
}

// Size returns the number of entries.
func (s *State) Size() int64 { return s.Checkpoint.Size }

// Changed is closed when a newer state was published.
func (s *State) Changed() <-chan struct{} { return s.changed }

// A Ledger records events. Its methods may be called concurrently.
type Ledger struct {
	c     Config
	state atomic.Pointer[State]
	// publishing is held while the state is replaced.
	publishing sync.Mutex

	pending atomic.Int64 // bytes that await their turn
	queue   chan *request
	stop    chan struct{} // closed by Close: take no more requests
	done    chan struct{} // closed when the sequencer has ended
	once    sync.Once

	failed  atomic.Pointer[error] // why the ledger has stopped
	stopped chan struct{}         // closed with failed

	// What follows is owned by the sequencer. firsts holds the items of one
	// pool by their ids.
	recent *recent
	firsts map[event.ID]*item
	head   Head
	least  int64 // entries that there are
	pool   Pool  // of which records and events are used again

	memory sync.Pool // of requests' records: *[]byte
}

// A request is one call's events, encoded.
type request struct {
	items []item
	own   bool
	// founding is set for the first entry, which there cannot be twice: where
	// another writer has made it, nothing is recorded.
	founding bool
	size     int64
	memory   *[]byte // of the records; the sequencer gives it back
	done     chan struct{}
	cover    *trail.Checkpoint // set before done is closed
}

// An item is an event on its way into the ledger.
type item struct {
	event  event.Event // a copy: the caller may give up and go on with it
	record trail.Record
	leaf   trail.Hash
	by     By
	result *Result
	// entry and end are where the record's entry and all of it end in the
	// request's memory, until that stands still.
	entry, end int
	// first is the item of the same pool that bears the same id.
	first *item
}

// Open starts a ledger on a store. An empty store gets its first entry.
func Open(ctx context.Context, c Config) (*Ledger, error) {
	if c.MaxPool == 0 {
		c.MaxPool = 2048
	}
	if c.MaxPending == 0 {
		c.MaxPending = 64 << 20
	}
	if c.MaxRecent == 0 {
		c.MaxRecent = 1 << 16
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	l := &Ledger{c: c, queue: make(chan *request, 4096), stop: make(chan struct{}),
		done: make(chan struct{}), stopped: make(chan struct{}), firsts: map[event.ID]*item{}}
	l.memory.New = func() any { return new([]byte) }
	var err error
	if l.head, err = c.Store.Lock(ctx, 0); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	c.Store.Unlock()
	if cp := l.head.Checkpoint; cp != nil && cp.Origin != c.Signer.Name() {
		return nil, fmt.Errorf("open ledger: the store holds the ledger %q, the key is that of %q", cp.Origin, c.Signer.Name())
	}
	if l.recent, err = newRecent(ctx, c.Store, c.MaxRecent, c.Now()); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l.publish(l.head.Checkpoint)
	go l.sequence()
	if l.head.Checkpoint == nil {
		var created *event.Event
		if created, err = createdEvent(&c); err == nil {
			err = l.found(ctx, created)
		}
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return l, nil
}

// State returns the published state: a checkpoint that is durable. It is nil
// only until an empty ledger has its first entry.
func (l *Ledger) State() *State { return l.state.Load() }

// Refresh publishes what other writers have appended until now, if there are
// others.
func (l *Ledger) Refresh(ctx context.Context) error {
	shared, ok := l.c.Store.(Shared)
	if !ok {
		return nil
	}
	c, err := shared.Newest(ctx)
	if err != nil {
		return l.stopIfBroken(err)
	}
	l.publish(c)
	return nil
}

// Append records events by a caller and returns what became of each, in
// order, with a checkpoint that covers all that were recorded. What has an id that
// another principal has recorded something else under is recorded under another, or
// has an error of its own, which may be one that trying again mends. An error means
// that nothing was recorded, unless it is ctx's: then the outcome is unknown,
// and calling again with the same ids tells.
//
// Append completes the events in place, and keeps nothing of them, though it
// returns because ctx ends. Until it returns nobody else may change them, nor
// the memory of their details.
func (l *Ledger) Append(ctx context.Context, by By, events []*event.Event) ([]Result, *trail.Checkpoint, error) {
	results, cover, err := l.append(ctx, by, events, false)
	for i := range results {
		if errors.Is(results[i].Err, errTaken) {
			return l.giveWay(ctx, by, events, results, cover)
		}
	}
	return results, cover, err
}

// errTaken means that another principal has recorded other content under the id.
var errTaken = fmt.Errorf("%w, by another principal", ErrConflict)

// giveWay records those events under reserved ids whose own ids others have taken:
// whoever may record may choose ids, and shall not keep others from recording.
func (l *Ledger) giveWay(ctx context.Context, by By, events []*event.Event, results []Result, cover *trail.Checkpoint) ([]Result, *trail.Checkpoint, error) {
	var others []*event.Event
	var places []int
	for i, r := range results {
		if !errors.Is(r.Err, errTaken) {
			continue
		}
		e := events[i].Clone()
		by.GiveWay(e)
		others, places = append(others, e), append(places, i)
	}
	again, newer, err := l.append(ctx, by, others, false)
	if err != nil {
		again, newer = make([]Result, len(others)), cover
	}
	for i, place := range places {
		taken := results[place].Receipt
		results[place] = again[i]
		results[place].Claimed, results[place].ClaimedBy = taken.ID, taken.Index
		if err != nil {
			results[place].Err = err
		}
	}
	return results, newer, nil
}

// Own records events of the ledger's own, of reserved types too.
func (l *Ledger) Own(ctx context.Context, events ...*event.Event) error {
	return l.ownBy(ctx, self, events...)
}

// Self returns how the ledger names itself as a principal.
func Self() By { return self }

var self = By{Principal: "graven", Via: "internal"}

func (l *Ledger) ownBy(ctx context.Context, by By, events ...*event.Event) error {
	results, _, err := l.append(ctx, by, events, true)
	return joined(results, err)
}

func joined(results []Result, err error) error {
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	return err
}

// found records the first entry, unless another writer does.
func (l *Ledger) found(ctx context.Context, created *event.Event) error {
	results := make([]Result, 1)
	_, err := l.do(ctx, &request{own: true, founding: true}, self, []*event.Event{created}, results)
	return joined(results, err)
}

func (l *Ledger) append(ctx context.Context, by By, events []*event.Event, own bool) ([]Result, *trail.Checkpoint, error) {
	if l.c.ReadOnly != nil && !own {
		return nil, nil, ErrReadOnly
	}
	if l.c.ReadOnly != nil {
		for _, e := range events {
			l.c.ReadOnly(e)
		}
		return nil, l.checkpoint(), nil
	}
	results := make([]Result, len(events))
	cover, err := l.do(ctx, &request{own: own}, by, events, results)
	if err != nil {
		return nil, nil, err
	}
	return results, cover, nil
}

// do has a request record events, and sets what became of each.
func (l *Ledger) do(ctx context.Context, r *request, by By, events []*event.Event, results []Result) (*trail.Checkpoint, error) {
	r.done, r.items, r.memory = make(chan struct{}), make([]item, 0, len(events)), l.memory.Get().(*[]byte)
	buf := (*r.memory)[:0]
	for i, e := range events {
		r.items = append(r.items, item{by: by, result: &results[i]})
		var err error
		if buf, err = l.prepare(&r.items[len(r.items)-1], e, r.own, buf); err != nil {
			results[i].Err = err
			r.items = r.items[:len(r.items)-1]
		}
	}
	*r.memory, r.size = buf, int64(len(buf))
	begin := 0
	for i := range r.items {
		it := &r.items[i]
		it.record.Entry, it.record.Erasable = buf[begin:it.entry:it.entry], buf[it.entry:it.end:it.end]
		begin = it.end
	}
	if len(r.items) == 0 {
		l.release(r)
		return l.checkpoint(), nil
	}
	if err := l.submit(r); err != nil {
		l.release(r)
		return nil, err
	}
	select {
	case <-r.done:
		return r.cover, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		// The sequencer has ended: it took the request before, or never will.
		select {
		case <-r.done:
			return r.cover, nil
		default:
			return nil, errClosed
		}
	}
}

func (l *Ledger) checkpoint() *trail.Checkpoint {
	if s := l.State(); s != nil {
		return s.Checkpoint
	}
	return nil
}

// maxKept bounds the memory of a request that is kept for another, in bytes.
const maxKept = 1 << 20

// release gives the memory of a request's records back.
func (l *Ledger) release(r *request) {
	if cap(*r.memory) <= maxKept {
		l.memory.Put(r.memory)
	}
	r.memory = nil
}

// prepare completes, validates and encodes an event, and appends its record to
// buf. It needs no lock and runs in the caller's goroutine.
func (l *Ledger) prepare(it *item, e *event.Event, own bool, buf []byte) ([]byte, error) {
	now := l.c.Now()
	if _, err := rand.Read(it.record.Salt[:]); err != nil {
		return buf, fmt.Errorf("salt: %w", err)
	}
	if !own {
		if err := e.CheckReserved(); err != nil {
			return buf, err
		}
	}
	e.Recorded = event.Recorded{}
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		return buf, err
	}
	e.Recorded.At = now.UTC().Truncate(time.Microsecond)
	e.Recorded.Principal = it.by.Principal
	e.Recorded.Via = it.by.Via
	e.Recorded.Attribution = it.by.attribution(e.Actor.Name)
	begin := len(buf)
	buf = e.AppendEntry(slices.Grow(buf, 1024+len(e.Details)), e.Digests(it.record.Salt))
	if n := len(buf) - begin; n > event.MaxEntry {
		return buf[:begin], event.Invalid{{Field: "body", Reason: fmt.Sprintf("entry of %d bytes, the limit is %d", n, event.MaxEntry)}}
	}
	it.entry = len(buf)
	it.leaf = trail.LeafHash(buf[begin:])
	buf = e.AppendErasable(buf)
	it.end = len(buf)
	it.event = *e
	it.event.Details, it.event.Original = nil, nil // whose memory is the caller's
	return buf, nil
}

func (l *Ledger) submit(r *request) error {
	if err := l.Err(); err != nil {
		return err
	}
	if pending := l.pending.Add(r.size); pending > l.c.MaxPending && pending > r.size && !r.own {
		l.pending.Add(-r.size)
		return ErrBusy
	}
	select {
	case <-l.stop:
		l.pending.Add(-r.size)
		return errClosed
	default:
	}
	select {
	case l.queue <- r:
		return nil
	default:
		l.pending.Add(-r.size)
		return ErrBusy
	}
}

var errClosed = fmt.Errorf("%w: it was closed", ErrStopped)

// ReadOnly reports whether nothing is recorded in the ledger.
func (l *Ledger) ReadOnly() bool { return l.c.ReadOnly != nil }

// Err returns why the ledger has stopped, or nil.
func (l *Ledger) Err() error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Stopped is closed when the ledger stops by itself. [Ledger.Err] says why.
func (l *Ledger) Stopped() <-chan struct{} { return l.stopped }

// Close ends the ledger after what has queued up. It is safe to call twice.
func (l *Ledger) Close() {
	l.once.Do(func() { close(l.stop) })
	<-l.done
}

// createdEvent is the first entry: it announces the ledger's origin and key.
func createdEvent(c *Config) (*event.Event, error) {
	e := OwnEvent("LedgerCreated", c.Signer.Name(), c.Now())
	created := map[string]any{"origin": c.Signer.Name(), "key": c.VerifierKey, "version": c.Version}
	facts := map[string]any{"created": created}
	if c.Predecessor != nil {
		facts["predecessor"] = c.Predecessor
	}
	if err := e.SetDetails(facts); err != nil { // which makes them canonical
		return nil, err
	}
	e.Ledger = e.Details
	return e, e.SetDetails(created)
}

// OwnEvent returns an event of the ledger's own about the ledger itself.
func OwnEvent(eventType, origin string, now time.Time) *event.Event {
	return &event.Event{
		EventType: eventType,
		Timestamp: now.UTC().Truncate(time.Microsecond),
		Actor:     event.Actor{Type: event.ActorSystem, Name: self.Principal},
		Resource:  event.Resource{Kind: "Ledger", Name: origin},
	}
}
