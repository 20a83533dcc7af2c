package erasure

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/graven-audit/graven/internal/ledger"
)

// Keep erases what tombstones name and is still there, and what is due, as often
// as interval says, unless it is 0, until ctx ends.
func (x *Eraser) Keep(ctx context.Context, interval time.Duration, log *slog.Logger) {
	look := cmp.Or(x.c.Look, time.Minute)
	tick := time.NewTicker(look)
	defer tick.Stop()
	x.resumeLogged(ctx, log)
	last := time.Now().Add(look - interval) // the first run follows soon
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		x.resumeLogged(ctx, log) // another server may have ended in between, or what kept the store from it
		if interval > 0 && time.Since(last) >= interval {
			last = time.Now()
			x.runLogged(ctx, log)
		}
	}
}

func (x *Eraser) resumeLogged(ctx context.Context, log *slog.Logger) {
	if err := x.Resume(ctx); err != nil && ctx.Err() == nil {
		log.Error("what tombstones name could not be erased yet; nobody sees it", "error", err)
	}
}

func (x *Eraser) runLogged(ctx context.Context, log *slog.Logger) {
	switch r, err := x.Run(ctx, ledger.Self(), true); {
	case ctx.Err() != nil:
	case errors.Is(err, ErrClock):
		log.Warn("retention waits for 'graven retention run'", "reason", err)
	case err != nil:
		log.Error("the retention run failed", "error", err)
	case r.Erased > 0:
		log.Info("retention", "erased", r.Erased, "run", r.Run)
	}
}
