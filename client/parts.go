package client

import (
	"context"
	"errors"

	"github.com/graven-audit/graven/event"
)

// RecordInParts has a recorder take events in as many parts as it takes for each to have
// room in its spool. Unless it returns nil, some of the events may be in the spool, the
// first of them before others: who gives them ids may give all of them again.
func RecordInParts(ctx context.Context, to interface {
	RecordMany(ctx context.Context, events ...*event.Event) error
}, events ...*event.Event) error {
	err := to.RecordMany(ctx, events...)
	if !errors.Is(err, ErrTooLarge) || len(events) < 2 {
		return err
	}
	half := len(events) / 2
	if err := RecordInParts(ctx, to, events[:half]...); err != nil {
		return err
	}
	return RecordInParts(ctx, to, events[half:]...)
}
