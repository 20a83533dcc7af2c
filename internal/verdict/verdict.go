// Package verdict judges single entries of a ledger by what surrounds them: their
// neighbour in the chain, a signed checkpoint, and the digests of their details.
package verdict

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// ErrTooMany means that an incident has more events than are judged at once.
var ErrTooMany = errors.New("the incident has too many events")

// A Judge judges entries of a store. All fields are required.
type Judge struct {
	Find *search.Finder
	// Stored reads records as they stand on the disk, changed or not.
	Stored search.Reader
	Hashes tlog.HashReader
	Tombs  search.Tombs
}

// An Incident is the verdict on the events of an incident, in Kubernaut's form.
type Incident struct {
	CorrelationID    string    `json:"correlation_id"`
	IsValid          bool      `json:"is_valid"`
	TotalEvents      int       `json:"total_events"`
	VerifiedEvents   int       `json:"verified_events"`
	TamperedEvents   []Changed `json:"tampered_events,omitempty"`
	VerificationTime string    `json:"verification_time"`
	Message          string    `json:"message"`
	// Checkpoint is the signed statement that the events were held against.
	Checkpoint string `json:"checkpoint"`
	// Namespaces are those that the caller sees, if not all: events of others
	// were not verified.
	Namespaces []string `json:"namespaces,omitzero"`
}

// A Changed is an entry that is not what was sealed.
type Changed struct {
	EventID        string `json:"event_id"`
	EventTimestamp string `json:"event_timestamp"`
	ExpectedHash   string `json:"expected_hash"`
	ActualHash     string `json:"actual_hash"`
	PreviousHash   string `json:"previous_hash"`
	Message        string `json:"message"`
	Index          int64  `json:"index"`

	kind verify.Kind
}

// Incident judges the events of an incident, within namespaces unless they are
// nil: all that the index names, for one that was changed need not match any
// more. Of entries that were erased nobody knows the incident. More than limit
// are [ErrTooMany].
func (j *Judge) Incident(ctx context.Context, cp *trail.Checkpoint, id string, namespaces []string, limit int, now time.Time) (*Incident, error) {
	return j.Events(ctx, cp, &search.Filter{CorrelationID: id, Scope: namespaces}, limit, now)
}

// Events judges the events that a filter asks for, as Incident does.
func (j *Judge) Events(ctx context.Context, cp *trail.Checkpoint, f *search.Filter, limit int, now time.Time) (*Incident, error) {
	v := &Incident{CorrelationID: f.CorrelationID, VerificationTime: event.FormatTime(now), Checkpoint: string(cp.Note), Namespaces: f.Scope}
	begin, err := j.Find.Begin(ctx)
	if err != nil {
		return nil, err
	}
	err = j.Find.Candidates(ctx, f, search.Range{First: begin, End: cp.Size}, func(index int64) error {
		r, err := j.Stored.Record(ctx, index)
		if err != nil {
			return err
		}
		t, err := j.entry(ctx, cp, &r)
		if err != nil {
			return err
		}
		e, parseErr := r.Event()
		if t == nil && parseErr == nil && !f.Match(e) {
			return nil // its words share a hash with those asked for
		}
		if v.TotalEvents++; v.TotalEvents > limit {
			return ErrTooMany
		}
		if t == nil {
			v.VerifiedEvents++
			return nil
		}
		if parseErr == nil {
			t.EventID, t.EventTimestamp = e.ID.String(), event.FormatTime(e.Timestamp)
		}
		v.TamperedEvents = append(v.TamperedEvents, *t)
		return nil
	})
	v.IsValid = len(v.TamperedEvents) == 0
	v.Message = fmt.Sprintf("all %d events verified under a signed checkpoint of %d entries", v.TotalEvents, cp.Size)
	if !v.IsValid {
		v.Message = fmt.Sprintf("%d of %d events do not verify", len(v.TamperedEvents), v.TotalEvents)
	}
	return v, err
}

// entry holds a record against its neighbour, the checkpoint and its digests.
// It returns what is wrong, or nil.
func (j *Judge) entry(ctx context.Context, cp *trail.Checkpoint, r *trail.Record) (*Changed, error) {
	var previous trail.Hash
	if r.Index > 0 {
		before, err := j.Stored.Record(ctx, r.Index-1)
		if err != nil {
			return nil, err
		}
		previous = before.Chain
	}
	t := &Changed{kind: verify.Changed, Index: r.Index, PreviousHash: trail.Hex(previous), ActualHash: trail.Hex(r.Chain), ExpectedHash: trail.Hex(r.Link(previous))}
	if t.ActualHash != t.ExpectedHash {
		t.Message = "the entry does not follow from the one before it"
		return t, nil
	}
	if _, err := search.Prove(j.Hashes, cp, r.Index, r.LeafHash()); errors.Is(err, search.ErrChanged) {
		t.Message = "the entry is not under the signed checkpoint"
		return t, nil
	} else if err != nil {
		return nil, err
	}
	err := r.CheckErasable()
	if err == nil && j.unnamed(r) != nil {
		if err := j.Tombs.Follow(ctx); err != nil {
			return nil, err
		}
		err = j.unnamed(r)
	}
	if err != nil {
		if t.kind, t.Message = verify.DetailsMismatch, err.Error(); errors.Is(err, tombstone.ErrPruned) {
			t.kind = verify.Missing
		}
		return t, nil
	}
	return nil, nil
}

// unnamed returns an error for a record that is gone, or without content, though
// no tombstone that is known names it.
func (j *Judge) unnamed(r *trail.Record) error {
	switch {
	case r.Leaf != nil && r.Index >= j.Tombs.Pruned():
		return tombstone.ErrPruned
	case r.Erasable == nil && !j.Tombs.Erased(r.Index):
		return tombstone.ErrBare
	}
	return nil
}

// maxRange bounds a range, so that its verdict does not take for ever; the whole
// ledger is verified in another, faster way.
const maxRange = 100_000

// Range judges the entries from first to last; a last below 0 is the ledger's.
// A range that does not lie within the ledger, or is too long, gives a
// [search.ParamError].
func (j *Judge) Range(ctx context.Context, cp *trail.Checkpoint, first, last int64) (*verify.Report, error) {
	if last < 0 {
		last = cp.Size - 1
	}
	switch {
	case first > last:
		return nil, &search.ParamError{Param: "first", Reason: "lies behind last"}
	case last >= cp.Size:
		return nil, &search.ParamError{Param: "last", Reason: "the ledger has " + strconv.FormatInt(cp.Size, 10) + " entries"}
	case last-first >= maxRange:
		return nil, &search.ParamError{Param: "last", Reason: fmt.Sprintf("more than %d entries; verify the whole ledger instead", maxRange)}
	}
	v := &verify.Report{Origin: cp.Origin, Size: cp.Size, Root: cp.Root, Checkpoint: cp.Note}
	unproven := int64(0) // entries whose hashes are wrong, which says nothing about them
	err := j.Stored.Records(ctx, search.Range{First: first, End: last + 1}, func(r *trail.Record) error {
		v.Entries++
		t, err := j.entry(ctx, cp, r)
		if t != nil {
			v.Findings = append(v.Findings, verify.Finding{Kind: t.kind, Index: r.Index, Message: t.Message})
		}
		if errors.Is(err, search.ErrHashes) {
			unproven, err = unproven+1, nil
		}
		return err
	})
	if below := j.Tombs.Pruned(); first < below {
		v.Pruned = below
		v.Notes = append(v.Notes, fmt.Sprintf("the entries below %d were erased, as a tombstone in the ledger says: their hashes are left, and nothing speaks for what else is", below))
	}
	if unproven > 0 {
		v.Findings = append(v.Findings, verify.Finding{Kind: verify.TileMismatch, Index: -1,
			Message: fmt.Sprintf("%d of the entries could not be held against the checkpoint: %v", unproven, search.ErrHashes)})
	}
	return v, err
}
