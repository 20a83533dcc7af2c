package known

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A Target is a ledger that can be verified.
type Target struct {
	// Claim is its newest checkpoint by its own word, or nil; Whole means that
	// it has every entry under it.
	Claim *trail.Checkpoint
	Whole bool
	// Dated says what it is, such as an export, if it may be older than what was
	// seen of its ledger; otherwise it is empty.
	Dated string
	Check func(context.Context, verify.Options) (*verify.Report, error)
	// Warn is told why nothing could be remembered.
	Warn func(error)
}

// Verify demands that the ledger extends what was seen of it, and remembers the
// newest checkpoint if it does. Which ledger it should be is said by the keys
// from outside; only without does the target's own word count.
func (t *Target) Verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	m, err := Open()
	if err != nil {
		t.Warn(fmt.Errorf("nothing is remembered: %w", err))
		return t.Check(ctx, o)
	}
	origin := ""
	if len(o.Keys) > 0 {
		origin = o.Keys[0].Name()
	}
	if t.Claim != nil && (len(o.Keys) == 0 || slices.ContainsFunc(o.Keys, func(k note.Verifier) bool { return k.Name() == t.Claim.Origin })) {
		origin = t.Claim.Origin
	}
	r, err := t.verifyAs(ctx, m, origin, o)
	if err != nil || r.Origin == origin || r.Origin == "" {
		return r, err
	}
	return t.verifyAs(ctx, m, r.Origin, o) // nothing but the entries told whose they are
}

func (t *Target) verifyAs(ctx context.Context, m Memory, origin string, o verify.Options) (*verify.Report, error) {
	known, err := m.Newest(origin)
	if err != nil {
		t.Warn(fmt.Errorf("what was seen of the ledger before is not known: %w", err))
		return t.Check(ctx, o)
	}
	older := known != nil && t.Dated != "" && t.Claim != nil && t.Claim.Size < known.Size
	if known != nil && !older {
		o.Since = append(slices.Clip(o.Since), known.Note)
	}
	r, err := t.Check(ctx, o)
	switch {
	case err != nil:
	case older:
		r.Unproven = append(r.Unproven, fmt.Sprintf("the %s is older than the checkpoint of %d entries that was seen before, and was not compared with it", t.Dated, known.Size))
	case r.OK() && len(r.Checkpoint) > 0 && t.Whole && r.Origin == origin:
		if c, err := trail.ReadCheckpoint(r.Checkpoint); err == nil {
			if err := m.Keep(c); err != nil {
				t.Warn(fmt.Errorf("could not remember the checkpoint: %w", err))
			}
		}
	}
	return r, err
}
