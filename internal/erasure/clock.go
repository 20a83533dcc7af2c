package erasure

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// A Clock tells the time of day, which somebody may set, and how much time has
// passed since the server started, which nobody can.
type Clock interface {
	Now() time.Time
	Elapsed() time.Duration
}

// maxStep is by how much the time of day may differ from the time that has
// passed.
const maxStep = time.Hour

// A watch notices that the clock was set. What is due is a matter of the time of
// day, and a wrong one would have everything erased.
type watch struct {
	clock Clock

	mu      sync.Mutex
	now     time.Time // when a person last had a look
	elapsed time.Duration
	reason  string // why a person must have a look before a run
}

func newWatch(c Clock, newest time.Time) *watch {
	w := &watch{clock: c, now: c.Now(), elapsed: c.Elapsed()}
	if step := w.now.Sub(newest); !newest.IsZero() && (step > maxStep || step < -maxStep) {
		w.reason = fmt.Sprintf("the newest entry was recorded %s from when the server started, so that the clock may have been set", step.Abs().Round(time.Second))
	}
	return w
}

// LastRecorded returns when the newest entry under a checkpoint was recorded, or
// zero where there is none. One that cannot be read is taken for an old one, so
// that no clock is trusted.
func LastRecorded(ctx context.Context, r search.Reader, newest *trail.Checkpoint) time.Time {
	if newest == nil {
		return time.Time{}
	}
	rec, err := r.Record(ctx, newest.Size-1)
	if err != nil {
		return time.Unix(0, 0)
	}
	e, err := rec.Event()
	if err != nil {
		return time.Unix(0, 0)
	}
	return e.Recorded.At
}

// trust tells that a person has had a look.
func (w *watch) trust() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.elapsed, w.reason = w.clock.Now(), w.clock.Elapsed(), ""
}

// check returns why the clock cannot be trusted, or "". Once it was set, that
// stays so until a person has had a look.
func (w *watch) check() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	step := w.clock.Now().Sub(w.now) - (w.clock.Elapsed() - w.elapsed)
	if w.reason == "" && step.Abs() > maxStep {
		w.reason = fmt.Sprintf("the clock was set by %s", step.Round(time.Second))
	}
	return w.reason
}

// SystemClock is the machine's clock.
type SystemClock struct{ started time.Time }

// NewSystemClock returns the machine's clock.
func NewSystemClock() SystemClock { return SystemClock{time.Now()} }

// Now implements [Clock].
func (SystemClock) Now() time.Time { return time.Now().Round(0) }

// Elapsed implements [Clock].
func (c SystemClock) Elapsed() time.Duration { return time.Since(c.started) }
