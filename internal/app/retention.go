package app

import (
	"context"
	"errors"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/retention"
)

// Retention is how long events are kept.
type Retention struct {
	// Every is how often what is due is erased. Default: when somebody asks.
	Every time.Duration `yaml:"every"`
	// Policies say how long. Where none matches, it is 2,555 days.
	Policies []retention.Policy `yaml:"policies"`

	policies *retention.Policies
}

// completeErasing reads the policies, and the rules of erasure.
func (c *Config) completeErasing() (err error) {
	c.Retention.policies, err = retention.NewPolicies(c.Retention.Policies)
	var field *event.FieldError
	if errors.As(err, &field) {
		return wrong("retention."+field.Field, "%s", field.Reason)
	}
	if err != nil {
		return err
	}
	if c.Erasure.Confirmations == 0 {
		c.Erasure.Confirmations = 1
	}
	if n := c.Erasure.Confirmations; n != 1 && n != 2 {
		return wrong("erasure.confirmations", "1 or 2")
	}
	return nil
}

// lookEvery is how often it is looked whether something is to be erased.
const lookEvery = time.Minute

// keepRetention erases what tombstones name and is still there, and what is due,
// as often as the configuration says.
func (a *App) keepRetention(ctx context.Context) error {
	e := a.rest.Eraser()
	if err := e.Follow(ctx); err != nil { // before anybody may read
		return err
	}
	if a.config.ReadOnly {
		return nil
	}
	a.background("retention", func(ctx context.Context) {
		resumed := a.resumeErasing(ctx, e)
		last := time.Now().Add(lookEvery - a.config.Retention.Every) // the first run follows soon
		every(ctx, lookEvery, func() {
			resumed = resumed || a.resumeErasing(ctx, e)
			if n := a.config.Retention.Every; n > 0 && time.Since(last) >= n {
				last = time.Now()
				a.runRetention(ctx, e)
			}
		})
	})
	return nil
}

func (a *App) resumeErasing(ctx context.Context, e *erasure.Eraser) bool {
	err := e.Resume(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Error("what tombstones name could not be erased yet; nobody sees it", "error", err)
	}
	return err == nil
}

func (a *App) runRetention(ctx context.Context, e *erasure.Eraser) {
	switch r, err := e.Run(ctx, ledger.Self(), true); {
	case ctx.Err() != nil:
	case errors.Is(err, erasure.ErrClock):
		a.log.Warn("retention waits for 'graven retention run'", "reason", err)
	case err != nil:
		a.log.Error("the retention run failed", "error", err)
	case r.Erased > 0:
		a.log.Info("retention", "erased", r.Erased, "run", r.Run)
	}
}
