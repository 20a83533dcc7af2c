package retention

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/tombstone"
)

// Types of the entries that holds are made of.
const (
	TypePlaced   = tombstone.TypeHoldPlaced
	TypeChanged  = tombstone.TypeHoldChanged
	TypeReleased = "LegalHoldReleased"
)

// Types are the types of the entries that a [Book] is made of: those of holds,
// and tombstones.
func Types() []string {
	return append(holdTypes(), tombstone.TypeRetentionRun, tombstone.TypeContentErased)
}

func holdTypes() []string { return []string{TypePlaced, TypeChanged, TypeReleased} }

const (
	maxReason = 2000
	maxCase   = 200
)

// A Fact is what an entry says of a hold, in its member "ledger". Who says so,
// and when, are the entry's own.
type Fact struct {
	// Hold is the hold's id: that of the event that placed it.
	Hold event.ID `json:"-"`
	// Scope is what it keeps from now on; nil where it is released.
	Scope *Scope `json:"scope,omitempty"`
	// Reason is why it was placed, changed or released.
	Reason string `json:"reason"`
	// Case is the matter that it belongs to, if that has a name.
	Case string `json:"case,omitempty"`
}

// Check tells what is wrong with a fact, by its members.
func (f *Fact) Check() error {
	var found event.Invalid
	if f.Scope != nil {
		if err := f.Scope.Check(); err != nil && !errors.As(err, &found) {
			return err
		}
	}
	reason := badText(f.Reason, maxReason)
	if f.Reason == "" {
		reason = "required"
	}
	if reason != "" {
		found = append(found, &event.FieldError{Field: "reason", Reason: reason})
	}
	if reason := badText(f.Case, maxCase); reason != "" {
		found = append(found, &event.FieldError{Field: "case", Reason: reason})
	}
	if len(found) > 0 {
		return found
	}
	return nil
}

// Details returns the fact as the details of its event.
func (f *Fact) Details() map[string]any {
	d := map[string]any{"hold": f.Hold.String(), "reason": f.Reason}
	if f.Case != "" {
		d["case"] = f.Case
	}
	if f.Scope != nil {
		d["scope"] = f.Scope
	}
	return d
}

// Member returns the fact as the member "ledger" of its entry.
func (f *Fact) Member() map[string]any {
	d := f.Details()
	d["id"] = d["hold"]
	delete(d, "hold")
	return map[string]any{"hold": d}
}

// ParseFact reads the member "ledger" of an entry that says something of a hold.
func ParseFact(member []byte) (*Fact, error) {
	var outer struct {
		Hold *struct {
			Fact
			ID string `json:"id"`
		} `json:"hold"`
	}
	d := json.NewDecoder(bytes.NewReader(member))
	d.DisallowUnknownFields() // a newer version may mean more
	if err := d.Decode(&outer); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("ledger: more than an object")
	}
	if outer.Hold == nil {
		return nil, errors.New("ledger: says nothing of a hold")
	}
	id, err := event.ParseID(outer.Hold.ID)
	if err == nil && id.IsZero() {
		err = errors.New("the nil UUID, which no event has")
	}
	if err != nil {
		return nil, fmt.Errorf("ledger.hold.id: %w", err)
	}
	f := outer.Hold.Fact
	f.Hold = id
	return &f, nil
}
