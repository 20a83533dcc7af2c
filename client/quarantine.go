package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/quarantine"
	"github.com/graven-audit/graven/internal/spool"
)

// quarantineFile holds what will never be delivered, a JSON object a line.
const quarantineFile = quarantine.RecorderFile

// A Quarantined is an event that the server refused for good, or items of the
// spool that were damaged: what will not be delivered unless somebody sees to it.
type Quarantined struct {
	At time.Time `json:"at"`
	// Epoch and Number say which it is by its source's count, or which the first
	// is of Count. Count is 0 for bytes that are of no event.
	Epoch  string `json:"epoch,omitempty"`
	Number uint64 `json:"number"`
	Count  uint64 `json:"count"`
	Reason string `json:"reason,omitempty"`
	// Status and Errors are the server's answer.
	Status int     `json:"status,omitempty"`
	Errors []Fault `json:"errors,omitempty"`
	// Event is what was refused. Bytes, in base64, is what is no event.
	Event json.RawMessage `json:"event,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
}

// Key names it, as in "epoch:number".
func (q *Quarantined) Key() string {
	h := quarantine.Held{Epoch: q.Epoch, Number: q.Number, Count: q.Count}
	return h.Key()
}

func quarantinedOf(h *quarantine.Held) Quarantined {
	q := Quarantined{At: h.At, Epoch: h.Epoch, Number: h.Number, Count: h.Count, Reason: h.Reason, Status: h.Status, Event: h.Event, Bytes: h.Bytes}
	if json.Unmarshal(h.Errors, &q.Errors) != nil {
		q.Errors = nil // they only say more than the reason
	}
	return q
}

// faults are those that a server named, as they are kept.
func faults(p *Problem) json.RawMessage {
	if len(p.Errors) == 0 {
		return nil
	}
	text, err := json.Marshal(p.Errors)
	if err != nil {
		panic("internal error: faults are no JSON: " + err.Error())
	}
	return text
}

// A Quarantine is what a recorder's server refused for good, and what was
// damaged in its spool. What is decided is durable before it is carried out: a
// program that was killed in between takes the rest of the steps when it opens
// the spool again, and the ledger has each event once.
type Quarantine struct {
	file  *quarantine.File
	spool *spool.Spool
	now   func() time.Time
	own   bool // the spool is to be closed with it
}

var (
	// ErrNotQuarantined means that nothing of that name is in quarantine.
	ErrNotQuarantined = quarantine.ErrNone
	// ErrNoEvent means that what is in quarantine is no event, and can only be
	// dropped.
	ErrNoEvent = quarantine.ErrNoEvent
)

// Quarantine returns the recorder's quarantine. It needs no Close.
func (r *Recorder) Quarantine() *Quarantine {
	return &Quarantine{file: r.quarantine, spool: r.spool, now: r.c.Now}
}

// OpenQuarantine opens the quarantine in the spool's directory of a recorder that
// does not run. What it puts into the spool the next recorder there delivers.
func OpenQuarantine(dir string) (*Quarantine, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err // a spool is not made where there is none
	}
	if _, err := os.Stat(filepath.Join(dir, spool.OriginFile)); err == nil {
		return nil, fmt.Errorf("%s is the spool of a server, and not of a recorder", dir)
	}
	q := &Quarantine{now: time.Now, own: true}
	var err error
	if q.file, err = quarantine.Open(filepath.Join(dir, quarantineFile), quarantine.Options{}); err != nil {
		return nil, err
	}
	q.spool, err = spool.Open(dir, spool.Options{OnDamage: func(d spool.Damage) error { return q.file.Add(damaged(q.now(), d)) }})
	if err != nil {
		return nil, errors.Join(err, q.file.Close())
	}
	if err := q.finish(); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

// Close closes what OpenQuarantine has opened.
func (q *Quarantine) Close() error {
	if !q.own {
		return nil
	}
	return errors.Join(q.spool.Close(), q.file.Close())
}

// damaged is what the spool cannot read.
func damaged(now time.Time, d spool.Damage) quarantine.Held {
	return quarantine.Held{At: now, Epoch: d.Epoch, Number: d.First, Count: d.End - d.First, Reason: "damaged: " + d.String(), Bytes: d.Data}
}

// ReadQuarantine returns what is in quarantine in a spool's directory, in the
// order in which it came, and how many lines of the file cannot be read: those
// that a power cut tore. It disturbs no recorder that runs.
func ReadQuarantine(dir string) (list []Quarantined, torn int, err error) {
	held, torn, err := quarantine.Read(filepath.Join(dir, quarantineFile))
	for i := range held {
		list = append(list, quarantinedOf(&held[i]))
	}
	return list, torn, err
}

// List returns what is in quarantine, as [ReadQuarantine] does.
func (q *Quarantine) List() ([]Quarantined, int, error) {
	return ReadQuarantine(filepath.Dir(q.file.Path()))
}

// Retry sends an event again, under a number of its own. key is what
// [Quarantined.Key] returns, or the number alone where no other has it; by is who
// wants it.
func (q *Quarantine) Retry(ctx context.Context, key, by string) (Quarantined, error) {
	return q.out(ctx, key, quarantine.Decision{Type: event.TypeRetried, By: by})
}

// Drop gives something up for good, for a reason that the ledger will tell.
func (q *Quarantine) Drop(ctx context.Context, key, by, reason string) (Quarantined, error) {
	return q.out(ctx, key, quarantine.Decision{Type: event.TypeDropped, By: by, Because: reason})
}

func (q *Quarantine) out(ctx context.Context, key string, d quarantine.Decision) (Quarantined, error) {
	d.At = q.now()
	h, err := q.file.Out(ctx, key, d, q.way())
	if errors.Is(err, os.ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return quarantinedOf(&h), err
}

// finish carries out what was decided before and not done, as far as there is
// room. The rest is tried at the next start.
func (q *Quarantine) finish() error {
	_, err := q.file.Finish(q.way(), ErrFull)
	return err
}

func (q *Quarantine) way() quarantine.Way {
	return quarantine.Way{Items: decided, Put: func(ctx context.Context, items ...[]byte) error {
		_, err := q.spool.Put(ctx, true, items...)
		return err
	}}
}

// decided returns what a decision puts into the spool.
func decided(h quarantine.Held, d quarantine.Decision) (items [][]byte, err error) {
	refused, err := event.Parse(h.Event)
	if err != nil {
		refused = nil
	}
	tells, err := d.Tells(&h, refused)
	if err != nil {
		return nil, err
	}
	if d.Type == event.TypeRetried {
		refused.Source = event.Source{}
		items = append(items, encode(refused, true))
	}
	if h.Count > 0 {
		tells.Resource.UID = h.Span().String()
	}
	if err := complete(tells, d.At); err != nil {
		return nil, err
	}
	return append(items, encode(tells, true)), nil
}
