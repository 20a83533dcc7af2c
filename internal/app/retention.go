package app

import (
	"context"
	"errors"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/erasure"
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

// keepRetention erases what tombstones name and is still there, and what is due,
// as often as the configuration says.
func (a *App) keepRetention(ctx context.Context, e *erasure.Eraser) error {
	if err := e.Follow(ctx); err != nil || a.config.ReadOnly { // before anybody may read
		return err
	}
	a.background("retention", func(ctx context.Context) { e.Keep(ctx, a.config.Retention.Every, a.log) })
	return nil
}
