package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/graven-audit/graven/internal/seglog"
)

// probeName stands in the place of a policy where the API server asks only whether it is
// answered, and probed is the warning that says so.
const (
	probeName = "Probe"
	probed    = "graven answers"
)

// ProbeLease is the name of the Lease, in the operator's own namespace, about which the
// API server asks only whether it is answered.
const ProbeLease = "graven-webhook-probe"

// A Prober finds out whether the API server is answered when it asks, and when it was not:
// while no operator ran, or none could be reached.
type Prober struct {
	// Ask has the API server ask, and returns the warnings that it gave.
	Ask func(ctx context.Context) (warnings []string, err error)
	// File keeps when it was answered last.
	File string
	// Gap records since when it was not; it is called while Elected is closed.
	Gap     func(ctx context.Context, since time.Time, reason string) error
	Elected <-chan struct{}
	Log     *slog.Logger
}

const (
	// probePause is between questions.
	probePause = 2 * time.Second
	// maxSilence is how long no answer is none that counts, and maxRestart where the
	// operator was begun anew meanwhile.
	maxSilence = 8 * time.Second
	maxRestart = 4 * time.Second
	// maxHeld is how long a gap is held for an operator to lead that might record it.
	maxHeld = time.Minute
)

// A silence is when the API server was answered last before one, and first after it.
type silence struct{ Since, Until time.Time }

// Start asks until ctx ends.
func (p *Prober) Start(ctx context.Context) error {
	last, err := p.last()
	if err != nil {
		return err
	}
	var open *silence
	tick := time.NewTicker(probePause)
	defer tick.Stop()
	most := maxRestart
	for told := false; ; {
		warnings, err := p.Ask(ctx)
		now := time.Now().UTC()
		answered := err == nil && slices.Contains(warnings, probed)
		switch {
		case ctx.Err() != nil:
			return nil
		case answered:
			if !last.IsZero() && now.Sub(last) > most && open == nil {
				open = &silence{last, now}
			}
			last, told, most = now, false, maxSilence
		case !told && now.Sub(last) > maxSilence:
			p.Log.Warn("the API server is not answered when it asks about requests", "error", err, "since", last)
			told = true
		}
		if open != nil {
			if open, err = p.tell(ctx, open, now); err != nil {
				p.Log.Warn("record that the API server was not answered", "error", err)
			}
		}
		if answered && open == nil {
			if err := p.keep(last); err != nil {
				p.Log.Warn("keep when the API server was answered", "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tell records a silence, if this operator leads, and returns it if it is still to be
// recorded.
func (p *Prober) tell(ctx context.Context, s *silence, now time.Time) (*silence, error) {
	select {
	case <-p.Elected:
	default:
		if now.Sub(s.Until) > maxHeld { // another leads
			return nil, nil
		}
		return s, nil
	}
	if err := p.Gap(ctx, s.Since, "nobody answered it"); err != nil {
		return s, err
	}
	return nil, nil
}

// last returns when the API server was answered last; zero if that is not known.
func (p *Prober) last() (at time.Time, err error) {
	text, err := os.ReadFile(p.File)
	if errors.Is(err, fs.ErrNotExist) {
		return at, nil
	}
	if err != nil {
		return at, fmt.Errorf("read when the API server was answered: %w", err)
	}
	if json.Unmarshal(text, &at) != nil { // damaged
		return time.Time{}, nil
	}
	return at, nil
}

func (p *Prober) keep(at time.Time) error {
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, p.File, text)
}
