package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/quarantine"
	"github.com/graven-audit/graven/internal/spool"
)

// What a Recorder does when its spool is full.
const (
	// Block waits for room, until the context ends. It is the default.
	Block OnFull = "block"
	// Refuse returns [ErrFull] at once.
	Refuse OnFull = "refuse"
)

// OnFull is Block or Refuse. Nothing is ever dropped to make room.
type OnFull string

var (
	// ErrFull means that the spool has no room: the event was not recorded.
	ErrFull = spool.ErrFull
	// ErrClosed means that the recorder was closed: the event was not recorded.
	ErrClosed = spool.ErrClosed
	// ErrTooLarge means that events do not go into the spool together: none of
	// them was recorded. They may be in parts.
	ErrTooLarge = spool.ErrTooLarge
)

// RecorderConfig configures a Recorder.
type RecorderConfig struct {
	// Dir is the spool's directory, on a disk that outlives the process. It is
	// made if it is not there, and serves one Recorder at a time.
	Dir string
	// Source names this producer in its events: no other may have the name. Its
	// events are counted, so that a missing one shows. Empty means the host's name.
	Source string
	// Asserted says that what is recorded was done by others than the bearer of
	// the client's token, by whatever name.
	Asserted bool
	// Observed says that what is recorded was seen in the state of resources. The
	// token must be of one who attests.
	Observed bool
	// MaxBytes bounds the spool; 0 means 1 GiB.
	MaxBytes int64
	// OnFull says what Record does when the spool is full; empty means Block.
	OnFull OnFull
	// Durable tells the events that outlive a power cut once Record has returned;
	// all others outlive a crash of the process, and are as safe a second later.
	// Nil means [Durable].
	Durable func(*event.Event) bool
	// Heartbeat, if not 0, promises the ledger an event of this source at least
	// so often, a second or more: a recorder that is gone, and says nothing, shows
	// ([Recorder.Close] says farewell). While the server is away, or the spool is
	// full, the promise is broken. 0 promises nothing.
	Heartbeat time.Duration
	// OnProblem, if not nil, is told of what the sender meets: a server that is
	// away, an event that it refuses for good. It must not block.
	OnProblem func(error)
	// Now is the clock; nil means the machine's.
	Now func() time.Time
}

// telemetry are the categories of events that come in great numbers and decide
// nothing.
var telemetry = []string{"agentsession", "aiagent", "analysis", "apifrontend", "effectiveness", "recorder", "signalprocessing"}

// Durable tells the events that a Recorder makes durable before Record returns,
// unless it is told otherwise: all but those of severity info that report on the
// work of agents.
func Durable(e *event.Event) bool {
	return e.Severity != event.SeverityInfo || !slices.Contains(telemetry, e.Category)
}

const (
	// batchItems and batchBytes bound what is sent at a time.
	batchItems = 500
	batchBytes = 4 << 20
	// Between attempts the sender waits, twice as long each time.
	firstPause = 250 * time.Millisecond
	lastPause  = 30 * time.Second
)

// A Recorder records events by way of a spool on disk: [Recorder.Record] returns
// once the event is there, whether or not the server can be reached, and a sender
// delivers it as soon as it can, in order, for as long as it takes. An id makes
// sure that the ledger has each event once, however often it was sent. What the
// server refuses for good is kept in a quarantine file, with the reason.
//
// Every event bears the source's name and its number, so that the ledger can tell
// if one is missing. Its methods may be called concurrently.
type Recorder struct {
	c          RecorderConfig
	client     *Client
	spool      *spool.Spool
	quarantine *quarantine.File

	untold []event.Span // numbers of events that the ledger had before; the sender's

	stop  context.CancelFunc
	ended chan struct{}
	// hush ends the heartbeats, and quiet is closed when they have; nil where
	// there are none.
	hush  context.CancelFunc
	quiet chan struct{}
	bye   sync.Once

	mu       sync.Mutex // guards what follows
	stats    Stats
	done     uint64        // events below it have left the spool
	progress chan struct{} // closed when done moves
	refused  int64         // quarantined since the last Flush
	failing  bool          // the last attempt to deliver failed
}

// Stats counts what became of events since the recorder was opened.
type Stats struct {
	// Recorded are those that Record took.
	Recorded int64
	// Delivered are those that the server has acknowledged; Duplicates of them
	// it had before.
	Delivered, Duplicates int64
	// Quarantined are those that the server refused for good, or that were
	// damaged in the spool.
	Quarantined int64
	// Retries are the attempts that failed.
	Retries int64
	// Refused are those that Record did not take for want of room.
	Refused int64
	// Pending are those in the spool, and Bytes its size, of MaxBytes.
	Pending, Bytes, MaxBytes int64
}

// NewRecorder opens the spool and begins to deliver what is in it.
func (c *Client) NewRecorder(rc RecorderConfig) (*Recorder, error) {
	if rc.Dir == "" {
		return nil, errors.New("dir: a recorder needs a directory for its spool")
	}
	if rc.Source == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("source: none is given, and the host has no name: %w", err)
		}
		rc.Source = host
	}
	if rc.MaxBytes < 0 {
		return nil, fmt.Errorf("maxBytes: %d, and a spool has from 1 on, or 0 for 1 GiB", rc.MaxBytes)
	}
	if len(rc.Source) > event.MaxString {
		return nil, fmt.Errorf("source: %d bytes, the limit is %d", len(rc.Source), event.MaxString)
	}
	if rc.Heartbeat != 0 && rc.Heartbeat < minHeartbeat {
		return nil, fmt.Errorf("heartbeat: %s, and a promise is of %s at least, or 0 for none", rc.Heartbeat, minHeartbeat)
	}
	switch rc.OnFull {
	case "":
		rc.OnFull = Block
	case Block, Refuse:
	default:
		return nil, fmt.Errorf("onFull: %q is neither %s nor %s", rc.OnFull, Block, Refuse)
	}
	if rc.Durable == nil {
		rc.Durable = Durable
	}
	if rc.Now == nil {
		rc.Now = time.Now
	}
	r := &Recorder{c: rc, client: c, ended: make(chan struct{}), progress: make(chan struct{})}
	var err error
	if r.quarantine, err = quarantine.Open(filepath.Join(rc.Dir, quarantineFile), quarantine.Options{}); err != nil {
		return nil, err
	}
	if r.spool, err = spool.Open(rc.Dir, spool.Options{MaxBytes: rc.MaxBytes, Wait: rc.OnFull == Block, OnDamage: r.damaged, OnError: r.problem}); err != nil {
		return nil, errors.Join(err, r.quarantine.Close())
	}
	if err := r.Quarantine().finish(); err != nil {
		r.problem(fmt.Errorf("what was decided of the quarantine cannot be carried out: %w", err)) // and is still in it
	}
	st := r.spool.Stats()
	r.done = st.Next - uint64(st.Items)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go r.deliver(ctx)
	if rc.Heartbeat > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		r.hush, r.quiet = cancel, make(chan struct{})
		go r.beat(ctx)
	}
	return r, nil
}

// Record records an event by way of the spool. It fills in what e lacks, the id
// among it. An event that no server would take is refused with an
// [event.Invalid], and nothing is kept. When it returns nil, the event is on
// disk and will be delivered.
func (r *Recorder) Record(ctx context.Context, e *event.Event) error {
	now := r.c.Now()
	given := !e.ID.IsZero()
	if err := complete(e, now); err != nil {
		return err
	}
	return r.put(ctx, r.c.Durable(e), encode(e, given))
}

// RecordMany records events as [Recorder.Record] does, with one write for all:
// either all of them are on disk when it returns, in this order, or none is. If
// one is durable, all are. Of events that no server would take, the error is
// [EventErrors], which names each of them; the others may be recorded without.
func (r *Recorder) RecordMany(ctx context.Context, events ...*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	now := r.c.Now()
	var wrong EventErrors
	items, durable := make([][]byte, len(events)), false
	for i, e := range events {
		given := !e.ID.IsZero()
		if err := complete(e, now); err != nil {
			wrong = append(wrong, EventError{i, err})
			continue
		}
		items[i] = encode(e, given)
		durable = durable || r.c.Durable(e)
	}
	if wrong != nil {
		return wrong
	}
	return r.put(ctx, durable, items...)
}

// complete fills in what e lacks, and says why no server would take it.
func complete(e *event.Event, now time.Time) error {
	e.Complete(now)
	e.Recorded.Uncatalogued = false // which is the server's to say
	if err := e.CheckReserved(); err != nil {
		return err
	}
	return e.Validate(now)
}

// givenID stands before an event in the spool whose id a program gave: the
// ledger may have it before, from another number.
const givenID = ' '

// encode returns an event as it stands in the spool.
func encode(e *event.Event, given bool) []byte {
	if given {
		return e.AppendJSON([]byte{givenID})
	}
	return e.AppendJSON(nil)
}

// put puts events into the spool.
func (r *Recorder) put(ctx context.Context, durable bool, items ...[]byte) error {
	_, err := r.spool.Put(ctx, durable, items...)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.stats.Recorded += int64(len(items))
	case errors.Is(err, ErrFull):
		r.stats.Refused += int64(len(items))
	}
	return err
}

// An EventError says what is wrong with one of several events.
type EventError struct {
	// Index is the event's place among them, from 0 on.
	Index int
	Err   error
}

func (e EventError) Error() string { return fmt.Sprintf("event %d: %v", e.Index, e.Err) }

// Unwrap returns what is wrong.
func (e EventError) Unwrap() error { return e.Err }

// EventErrors are all that is wrong with several events, in their order. None
// of them was recorded.
type EventErrors []EventError

func (e EventErrors) Error() string {
	text := e[0].Error()
	if len(e) > 1 {
		text += fmt.Sprintf(", and so are %d more", len(e)-1)
	}
	return text
}

// Unwrap returns the first error.
func (e EventErrors) Unwrap() error { return e[0] }

// Flush waits until what was recorded before has left the spool. The error says
// if some of it was quarantined, or how much is left when ctx ends.
func (r *Recorder) Flush(ctx context.Context) error {
	target := r.spool.Stats().Next
	for {
		r.mu.Lock()
		done, progress := r.done, r.progress
		if done >= target {
			refused := r.refused
			r.refused = 0
			r.mu.Unlock()
			if refused > 0 {
				return fmt.Errorf("%d events were refused for good, and are kept in %s", refused, r.quarantine.Path())
			}
			return nil
		}
		r.mu.Unlock()
		select {
		case <-progress:
		case <-r.ended:
			return fmt.Errorf("%w; %d events are left in the spool", ErrClosed, target-done)
		case <-ctx.Done():
			return fmt.Errorf("%d events are left in the spool: %w", target-done, ctx.Err())
		}
	}
}

// Stats returns what became of events so far.
func (r *Recorder) Stats() Stats {
	st := r.spool.Stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Pending, s.Bytes, s.MaxBytes = st.Items, st.Bytes, st.MaxBytes
	return s
}

// Close stops delivering and closes the spool. With heartbeats, it says farewell
// before, and waits a few seconds at most until the server has it. What is in it is delivered by the
// next recorder on the directory. It may be called more than once, and while
// others record.
func (r *Recorder) Close() error {
	if r.quiet != nil {
		r.bye.Do(r.leave)
	}
	r.stop()
	<-r.ended
	err := r.spool.Close()
	return errors.Join(err, r.quarantine.Close())
}

func (r *Recorder) problem(err error) {
	if r.c.OnProblem != nil {
		r.c.OnProblem(err)
	}
}

// damaged keeps what the spool cannot read.
func (r *Recorder) damaged(d spool.Damage) error {
	err := r.quarantine.Add(damaged(r.c.Now(), d))
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.stats.Quarantined += int64(d.End - d.First)
	r.refused += int64(d.End - d.First)
	r.mu.Unlock()
	r.problem(fmt.Errorf("the spool is damaged: %s", d.String()))
	return nil
}

// deliver is the sender.
func (r *Recorder) deliver(ctx context.Context) {
	defer close(r.ended)
	var p pauser
	for ctx.Err() == nil {
		items, err := r.spool.Next(ctx, batchItems, batchBytes)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, ErrClosed) {
				return
			}
			r.problem(err)
			p.pause(ctx, err)
			continue
		}
		if len(items) == 0 || r.send(ctx, items) != nil {
			continue
		}
		r.tellRepeated()
		for ctx.Err() == nil {
			next := items[len(items)-1].Number + 1
			if err := r.spool.Done(next); err == nil {
				r.moved(next)
				break
			} else {
				r.problem(err)
				p.pause(ctx, err)
			}
		}
		p = pauser{}
	}
}

func (r *Recorder) moved(next uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done, r.failing = next, false
	close(r.progress)
	r.progress = make(chan struct{})
}

// send delivers items, or has them quarantined, unless ctx ends.
func (r *Recorder) send(ctx context.Context, items []spool.Item) error {
	var p pauser
	for {
		left, err := r.try(ctx, items)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if refusal := (*Problem)(nil); len(left) == len(items) && errors.As(err, &refusal) && isFinal(refusal.Status) {
			if len(items) == 1 {
				return r.keep(ctx, items[0], err)
			}
			// One of them is to blame, and only that one shall suffer for it.
			half := len(items) / 2
			if err := r.send(ctx, items[:half]); err != nil {
				return err
			}
			return r.send(ctx, items[half:])
		}
		items = left
		r.mu.Lock()
		r.stats.Retries++
		if !r.failing {
			r.failing = true
			close(r.progress)
			r.progress = make(chan struct{})
		}
		r.mu.Unlock()
		r.problem(fmt.Errorf("deliver %d events: %w", len(items), err))
		if err := p.pause(ctx, err); err != nil {
			return err
		}
	}
}

// maxAttempt bounds an attempt to deliver: a server that takes a request and
// never answers is one that is away.
const maxAttempt = 5 * time.Minute

// try sends items once, and takes the server's word on each. It returns those
// that are still to be delivered, and why.
func (r *Recorder) try(ctx context.Context, items []spool.Item) (left []spool.Item, err error) {
	batch := &Batch{Events: make([][]byte, len(items)), Asserted: r.c.Asserted, Observed: r.c.Observed}
	for i, item := range items {
		batch.Events[i] = r.sourced(item)
	}
	attempt, cancel := context.WithTimeout(ctx, maxAttempt)
	defer cancel()
	results, err := r.client.RecordBatch(attempt, batch)
	if err != nil {
		return items, err
	}
	for i, result := range results {
		refusal := (*Problem)(nil)
		switch {
		case result.Err == nil:
			r.delivered(result.Receipt)
			if result.Receipt.Duplicate && items[i].Data[0] == givenID {
				r.repeated(int64(items[i].Number))
			}
		case errors.As(result.Err, &refusal) && refusal.Status/100 == 4 && refusal.Status != http.StatusTooManyRequests:
			if err := r.keep(ctx, items[i], result.Err); err != nil {
				return items[i:], err
			}
		default: // the server's fault, not the event's
			left, err = append(left, items[i]), result.Err
		}
	}
	return left, err
}

func (r *Recorder) delivered(receipt *Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Delivered++
	if receipt.Duplicate {
		r.stats.Duplicates++
	}
}

// isFinal reports whether a status means that the same body will never do. A
// token may be mended, and so may an address.
func isFinal(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// sourced returns an item's event with its source and number.
func (r *Recorder) sourced(item spool.Item) []byte {
	e, err := event.Parse(item.Data)
	if err != nil {
		return item.Data // which the server refuses with its reason
	}
	if quarantine.IsDecision(e) && e.Resource.Name == "" {
		e.Resource.Name = r.c.Source
	}
	e.Source = event.Source{Name: r.c.Source, Epoch: r.spool.Epoch(), Seq: int64(item.Number)}
	return e.AppendJSON(nil)
}

// keep puts an item into quarantine. It does not give up before ctx ends: without
// it, the event would be lost.
func (r *Recorder) keep(ctx context.Context, item spool.Item, why error) error {
	h := quarantine.Held{At: r.c.Now(), Epoch: r.spool.Epoch(), Number: item.Number, Count: 1, Reason: why.Error()}
	if problem := (*Problem)(nil); errors.As(why, &problem) {
		h.Status, h.Errors = problem.Status, faults(problem)
	}
	h.Hold(r.sourced(item))
	var p pauser
	for {
		err := r.quarantine.Add(h)
		if err == nil {
			break
		}
		r.problem(err)
		if err := p.pause(ctx, err); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.stats.Quarantined++
	r.refused++
	r.mu.Unlock()
	r.problem(fmt.Errorf("event %d is refused for good: %w", item.Number, why))
	return nil
}

// A pauser waits between attempts, at most about as long as last, or lastPause.
type pauser struct{ next, last time.Duration }

// maxRetryAfter bounds how long the server is left in peace: what it asks for may
// be a mistake, its own or that of something in between.
const maxRetryAfter = time.Hour

// pause waits as long as the server asked for, or twice as long as before, give
// or take a half. The error is that of ctx.
func (p *pauser) pause(ctx context.Context, cause error) error {
	p.next = min(max(2*p.next, firstPause), cmp.Or(p.last, lastPause))
	wait := p.next/2 + rand.N(p.next)
	if problem := (*Problem)(nil); errors.As(cause, &problem) && problem.RetryAfter > 0 {
		wait = max(wait, time.Duration(min(problem.RetryAfter, int(maxRetryAfter/time.Second)))*time.Second)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
