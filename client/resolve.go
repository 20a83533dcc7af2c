package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/spool"
)

// quarantinedKind is the kind of resource that decisions are about. Its name is
// that of the source, and its uid the numbers.
const quarantinedKind = "QuarantinedEvent"

// A Quarantine is what a recorder's server refused for good, and what was
// damaged in its spool.
//
// To have something out of it takes three steps, each durable before the next:
//
//	a line in the file:  who decided what, when and why
//	in the spool:        the event, if it is to be sent again, and an event that
//	                     tells of the decision
//	a line in the file:  done
//
// The events' ids and content follow from the first line. So a program that was
// killed in between takes the rest of the steps when it opens the spool again,
// and the ledger has each event once.
type Quarantine struct {
	file  *quarantine
	spool *spool.Spool
	now   func() time.Time
	own   bool // the spool is to be closed with it
}

var (
	// ErrNotQuarantined means that nothing of that name is in quarantine.
	ErrNotQuarantined = errors.New("not in quarantine")
	// ErrNoEvent means that what is in quarantine is no event, and can only be
	// dropped.
	ErrNoEvent = errors.New("it is no event that could be sent")
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
	q := &Quarantine{now: time.Now, own: true}
	var err error
	if q.file, err = openQuarantine(filepath.Join(dir, quarantineFile)); err != nil {
		return nil, err
	}
	q.spool, err = spool.Open(dir, spool.Options{OnDamage: func(d spool.Damage) error { return q.file.damaged(q.now(), d) }})
	if err != nil {
		return nil, errors.Join(err, q.file.close())
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
	return errors.Join(q.spool.Close(), q.file.close())
}

// damaged keeps what the spool cannot read.
func (q *quarantine) damaged(now time.Time, d spool.Damage) error {
	return q.add(quarantined{Quarantined: Quarantined{At: now, Epoch: d.Epoch, Number: d.First, Count: d.End - d.First, Reason: "damaged: " + d.String(), Bytes: d.Data}})
}

// ReadQuarantine returns what is in quarantine in a spool's directory, in the
// order in which it came, and how many lines of the file cannot be read: those
// that a power cut tore. It disturbs no recorder that runs.
func ReadQuarantine(dir string) (list []Quarantined, torn int, err error) {
	state, err := readQuarantine(filepath.Join(dir, quarantineFile))
	if err != nil {
		return nil, 0, err
	}
	for _, e := range state.entries {
		list = append(list, e.Quarantined)
	}
	return list, state.torn, nil
}

// An entry is something in quarantine, and what was decided of it and not done
// yet; nil for nothing.
type entry struct {
	Quarantined
	decided *quarantined
}

type quarantineState struct {
	entries []*entry
	torn    int
}

func readQuarantine(path string) (*quarantineState, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	return parseQuarantine(data), nil
}

// parseQuarantine reads the lines of a file.
func parseQuarantine(data []byte) *quarantineState {
	s := &quarantineState{}
	byKey := map[string]*entry{}
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var q quarantined
		if err := json.Unmarshal(line, &q); err != nil || q.Number == 0 && q.Count > 0 || q.Reason+q.Decision+q.Done == "" || q.Number > 1<<53 || q.Count > 1<<53 {
			s.torn++
			continue
		}
		e := byKey[q.Key()]
		switch {
		case q.Done != "":
			delete(byKey, q.Key())
		case q.Decision != "" && e != nil:
			e.decided = &q
		case q.Decision != "":
		case e != nil: // it was delivered, and refused, again: a crash kept it from being done with
			e.Quarantined = q.Quarantined
		default:
			e = &entry{Quarantined: q.Quarantined}
			byKey[q.Key()] = e
			s.entries = append(s.entries, e)
		}
	}
	s.entries = slices.DeleteFunc(s.entries, func(e *entry) bool { return byKey[e.Key()] != e })
	return s
}

// List returns what is in quarantine, as [ReadQuarantine] does.
func (q *Quarantine) List() ([]Quarantined, int, error) {
	return ReadQuarantine(filepath.Dir(q.file.path))
}

// Retry sends an event again, under a number of its own. key is what
// [Quarantined.Key] returns, or the number alone where no other has it; by is who
// wants it.
func (q *Quarantine) Retry(ctx context.Context, key, by string) (Quarantined, error) {
	return q.decide(ctx, key, quarantined{Decision: event.TypeRetried, By: by})
}

// Drop gives something up for good, for a reason that the ledger will tell.
func (q *Quarantine) Drop(ctx context.Context, key, by, reason string) (Quarantined, error) {
	if strings.TrimSpace(reason) == "" {
		return Quarantined{}, errors.New("reason: what is dropped needs one")
	}
	return q.decide(ctx, key, quarantined{Decision: event.TypeDropped, By: by, Because: reason})
}

func (q *Quarantine) decide(ctx context.Context, key string, d quarantined) (Quarantined, error) {
	q.file.deciding.Lock()
	defer q.file.deciding.Unlock()
	if strings.TrimSpace(d.By) == "" {
		return Quarantined{}, errors.New("by: whoever decides it needs a name")
	}
	state, err := readQuarantine(q.file.path)
	if err != nil {
		return Quarantined{}, err
	}
	var found []*entry
	for _, e := range state.entries {
		if e.Key() == key || fmt.Sprint(e.Number) == key && e.Count == 1 {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 0:
		return Quarantined{}, fmt.Errorf("%.60q: %w", key, ErrNotQuarantined)
	case len(found) > 1:
		return Quarantined{}, fmt.Errorf("%q may be %s or %s: say which", key, found[0].Key(), found[1].Key())
	case found[0].decided != nil: // carried out in part, and failed at
		return found[0].Quarantined, q.carryOut(ctx, found[0])
	}
	e := found[0]
	d.Quarantined = Quarantined{At: q.now().UTC(), Epoch: e.Epoch, Number: e.Number, Count: e.Count}
	e.decided = &d
	if _, err := e.events(); err != nil {
		return Quarantined{}, err // before anything is written
	}
	if err := q.file.add(d); err != nil {
		return Quarantined{}, err
	}
	return e.Quarantined, q.carryOut(ctx, e)
}

// finish carries out what was decided before and not done.
func (q *Quarantine) finish() error {
	state, err := readQuarantine(q.file.path)
	if err != nil {
		return err
	}
	full, cancel := context.WithCancel(context.Background())
	cancel() // it waits for no room
	for _, e := range state.entries {
		if e.decided == nil {
			continue
		}
		if err := q.carryOut(full, e); err != nil && !errors.Is(err, ErrFull) { // it is tried at the next start
			return err
		}
	}
	return nil
}

// carryOut carries out a decision that is durable.
func (q *Quarantine) carryOut(ctx context.Context, e *entry) error {
	items, err := e.events()
	if err != nil {
		return err
	}
	if _, err := q.spool.Put(ctx, true, items...); err != nil {
		return err
	}
	return q.file.add(quarantined{Quarantined: Quarantined{At: q.now().UTC(), Epoch: e.Epoch, Number: e.Number, Count: e.Count}, Done: e.decided.Decision})
}

// events returns what a decision puts into the spool.
func (e *entry) events() (items [][]byte, err error) {
	d := e.decided
	details := map[string]any{"refusal": strings.ToValidUTF8(e.Reason[:min(len(e.Reason), 1000)], "")}
	if d.Because != "" {
		details["reason"] = d.Because
	}
	refused, err := event.Parse(e.Event)
	switch {
	case err == nil:
		details["id"], details["eventType"] = refused.ID.String(), refused.EventType
	case d.Decision == event.TypeRetried:
		return nil, fmt.Errorf("%s: %w", e.Key(), ErrNoEvent)
	}
	if d.Decision == event.TypeRetried {
		refused.Source = event.Source{}
		items = append(items, encode(refused, true))
	}
	tells := &event.Event{ID: event.DeriveID("quarantine", e.Key(), d.Decision, d.At.Format(time.RFC3339Nano)), EventType: d.Decision, Timestamp: d.At,
		Actor: event.Actor{Type: event.ActorUser, Name: d.By}, Resource: event.Resource{Kind: quarantinedKind}}
	if e.Count > 0 {
		tells.Resource.UID = e.span().String()
	}
	if err := tells.SetDetails(details); err != nil {
		return nil, err
	}
	if err := complete(tells, d.At); err != nil {
		return nil, err
	}
	return append(items, encode(tells, true)), nil
}
