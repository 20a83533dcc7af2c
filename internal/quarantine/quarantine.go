// Package quarantine keeps, in a file, events that will not be in a ledger unless
// somebody sees to it, and what was decided of them.
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
package quarantine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
)

// RecorderFile is the quarantine in the spool's directory of a recorder.
const RecorderFile = "quarantine.ndjson"

var (
	// ErrNone means that nothing of that name is in quarantine.
	ErrNone = errors.New("not in quarantine")
	// ErrNoEvent means that what is in quarantine is no event, and can only be
	// dropped.
	ErrNoEvent = errors.New("it is no event that could be sent")
)

// A Held is an event that was refused for good, or something that was damaged.
type Held struct {
	// ID is the key of what has no number.
	ID string    `json:"id,omitempty"`
	At time.Time `json:"at"`
	// Epoch and Number say which it is by the count of a spool, or which the
	// first is of Count. Count is 0 for bytes that are of no event.
	Epoch  string `json:"epoch,omitempty"`
	Number uint64 `json:"number,omitempty"`
	Count  uint64 `json:"count,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Status and Errors are a server's answer.
	Status int             `json:"status,omitempty"`
	Errors json.RawMessage `json:"errors,omitempty"`
	// Principal, Via and Attribution say from whom a server had accepted it.
	Principal   string `json:"principal,omitempty"`
	Via         string `json:"via,omitempty"`
	Attribution string `json:"attribution,omitempty"`
	// Event is what was refused. Bytes is what is no event.
	Event json.RawMessage `json:"event,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
}

// Key names it, as in "epoch:number".
func (h *Held) Key() string {
	switch {
	case h.ID != "":
		return h.ID
	case h.Count == 0:
		return fmt.Sprintf("%s:%d+", h.Epoch, h.Number) // what stood before a number
	}
	return h.Span().String()
}

// Named reports whether a name is its key, or its number alone.
func (h *Held) Named(name string) bool {
	return h.Key() == name || h.Count == 1 && fmt.Sprint(h.Number) == name
}

// Span returns the numbers of the spool that it is about.
func (h *Held) Span() event.Span {
	return event.Span{Epoch: h.Epoch, From: int64(h.Number), To: int64(h.Number + h.Count - 1)}
}

// Hold sets what is held: an event, or what is none.
func (h *Held) Hold(data []byte) {
	if json.Valid(data) {
		h.Event = data
	} else {
		h.Bytes = data
	}
}

// resourceKind is the kind of resource that decisions are about. Its name is that
// of the source, and its uid the numbers.
const resourceKind = "QuarantinedEvent"

// IsDecision reports whether an event tells of a decision.
func IsDecision(e *event.Event) bool { return e.Resource.Kind == resourceKind }

// A Decision is to have something out of quarantine.
type Decision struct {
	Type    string // of the event that tells of it: [event.TypeRetried] or [event.TypeDropped]
	At      time.Time
	By      string // who wants it
	Because string
}

// Check holds a decision against the rules.
func (d *Decision) Check() error {
	switch {
	case d.Type == event.TypeDropped && strings.TrimSpace(d.Because) == "":
		return errors.New("reason: what is dropped needs one")
	case strings.TrimSpace(d.By) == "":
		return errors.New("by: whoever decides it needs a name")
	}
	return nil
}

// Tells returns the event that tells of a decision of something. refused is the
// event, or nil where it could not be read.
func (d *Decision) Tells(h *Held, refused *event.Event) (*event.Event, error) {
	details := map[string]any{"refusal": strings.ToValidUTF8(h.Reason[:min(len(h.Reason), 1000)], "")}
	if d.Because != "" {
		details["reason"] = d.Because
	}
	switch {
	case refused != nil:
		details["id"], details["eventType"] = refused.ID.String(), refused.EventType
	case d.Type == event.TypeRetried:
		return nil, fmt.Errorf("%s: %w", h.Key(), ErrNoEvent)
	}
	e := &event.Event{ID: event.DeriveID("quarantine", h.Key(), d.Type, d.At.Format(time.RFC3339Nano)), EventType: d.Type, Timestamp: d.At,
		Actor: event.Actor{Type: event.ActorUser, Name: d.By}, Resource: event.Resource{Kind: resourceKind}}
	return e, e.SetDetails(details)
}

// A Way is how what is decided is carried out.
type Way struct {
	// Items returns what a decision puts into the spool: always the same.
	Items func(Held, Decision) ([][]byte, error)
	// Put puts items into the spool, all or none of them, durably.
	Put func(ctx context.Context, items ...[]byte) error
}

// A line is one of the file's: what came into quarantine or, of what is in it,
// that somebody decided to have it out, and that it is.
type line struct {
	Held
	Decision string `json:"decision,omitempty"` // a type of event
	By       string `json:"by,omitempty"`
	Because  string `json:"because,omitempty"`
	Done     string `json:"done,omitempty"` // the decision that was carried out
}

// about returns a line about something in quarantine.
func about(h *Held, at time.Time) line {
	return line{Held: Held{At: at.UTC(), Epoch: h.Epoch, Number: h.Number, Count: h.Count}}
}

// An entry is something in quarantine, and what was decided of it and not done
// yet; nil for nothing.
type entry struct {
	Held
	decided *Decision
}

// A state is what a file says.
type state struct {
	entries []*entry
	torn    int // lines that cannot be read
	seen    map[string]bool
}

func read(path string) (*state, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return parse(data), nil
}

// parse reads the lines of a file.
func parse(data []byte) *state {
	s := &state{seen: map[string]bool{}}
	byKey := map[string]*entry{}
	for text := range bytes.Lines(data) {
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil || l.ID != "" || l.Number == 0 && l.Count > 0 || l.Reason+l.Decision+l.Done == "" || l.Number > 1<<53 || l.Count > 1<<53 {
			s.torn++
			continue
		}
		e := byKey[l.Key()]
		switch {
		case l.Done != "":
			delete(byKey, l.Key())
		case l.Decision != "" && e != nil:
			e.decided = &Decision{l.Decision, l.At, l.By, l.Because}
		case l.Decision != "":
		case e != nil: // it was delivered, and refused, again: a crash kept it from being done with
			e.Held = l.Held
		case s.seen[l.Key()]: // the same, and somebody has decided of it meanwhile
		default:
			e = &entry{Held: l.Held}
			byKey[l.Key()], s.seen[l.Key()] = e, true
			s.entries = append(s.entries, e)
		}
	}
	s.entries = slices.DeleteFunc(s.entries, func(e *entry) bool { return byKey[e.Key()] != e })
	return s
}

// find returns what a name stands for.
func (s *state) find(name string) (*entry, error) {
	var found []*entry
	for _, e := range s.entries {
		if e.Named(name) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%.60q: %w", name, ErrNone)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%q may be %s or %s: say which", name, found[0].Key(), found[1].Key())
}

// Read returns what is in quarantine in the file at path, in the order in which
// it came, and how many lines of the file cannot be read: those that a power cut
// tore. It disturbs no program that has the file open.
func Read(path string) (list []Held, torn int, err error) {
	s, err := read(path)
	if err != nil {
		return nil, 0, fmt.Errorf("quarantine: %w", err)
	}
	for _, e := range s.entries {
		list = append(list, e.Held)
	}
	return list, s.torn, nil
}
