package importer

import (
	"context"
	"errors"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/known"
)

// maxTries bounds how often a batch is sent while the server is busy or away.
const maxTries = 8

// A Sender sends batches, again while the server asks for it.
type Sender struct {
	Client *client.Client
	// Asserted says that all of it was done by others than the caller.
	Asserted bool
	// Seen is shown the checkpoints that come back.
	Seen *known.Watch
	// Retrying is told why a batch is sent again.
	Retrying func(error)
}

// Send records events, and returns what became of each.
func (s *Sender) Send(ctx context.Context, events [][]byte) ([]client.Result, error) {
	batch := &client.Batch{Events: events, Key: client.NewKey(), Asserted: s.Asserted}
	for attempt := 0; ; attempt++ {
		results, err := s.Client.RecordBatch(ctx, batch)
		if err == nil || !client.IsRetryable(err) || attempt == maxTries-1 {
			for _, r := range results {
				if r.Receipt != nil {
					s.Seen.See(r.Receipt.Checkpoint) // the same for all
					break
				}
			}
			return results, err
		}
		s.Retrying(err)
		if err := wait(ctx, attempt, err); err != nil {
			return nil, err
		}
	}
}

// wait sleeps before a batch is sent again, unless ctx ends.
func wait(ctx context.Context, attempt int, err error) error {
	pause := min(time.Duration(1<<min(attempt, 5))*250*time.Millisecond, 5*time.Second)
	var p *client.Problem
	if errors.As(err, &p) && p.RetryAfter > 0 {
		pause = min(time.Duration(p.RetryAfter)*time.Second, time.Minute)
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
