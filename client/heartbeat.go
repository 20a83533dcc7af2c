package client

import (
	"context"
	"fmt"
	"time"

	"github.com/graven-audit/graven/event"
)

const (
	// minHeartbeat is the shortest that may be promised.
	minHeartbeat = time.Second
	// farewell is how long Close tries to have the last word delivered.
	farewell = 5 * time.Second
)

// beat tells the ledger, until ctx ends, that the recorder lives: twice in the
// time that it promises. While one heartbeat waits for the server, it adds none.
func (r *Recorder) beat(ctx context.Context) {
	defer close(r.quiet)
	tick := time.NewTicker(r.c.Heartbeat / 2)
	defer tick.Stop()
	for last := uint64(0); ; {
		r.mu.Lock()
		delivered := r.done > last
		r.mu.Unlock()
		if delivered {
			within := int64((r.c.Heartbeat + time.Second - 1) / time.Second)
			number, err := r.tell(event.TypeHeartbeat, "", map[string]any{"withinSeconds": within, "pending": r.spool.Stats().Items})
			if err != nil {
				r.problem(fmt.Errorf("record a heartbeat: %w", err))
			} else {
				last = number
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tell records an event of the recorder itself, unless the spool is full.
func (r *Recorder) tell(eventType, uid string, details map[string]any) (number uint64, err error) {
	now := r.c.Now()
	e := &event.Event{EventType: eventType, Timestamp: now, Actor: event.Actor{Type: event.ActorService, Name: r.c.Source},
		Resource: event.Resource{Kind: "Recorder", Name: r.c.Source, UID: uid}}
	if err := e.SetDetails(details); err != nil {
		return 0, err
	}
	if err := complete(e, now); err != nil {
		return 0, err
	}
	full, cancel := context.WithCancel(context.Background())
	cancel() // it waits for nothing
	return r.spool.Put(full, false, e.AppendJSON(nil))
}

// repeated takes note that the ledger had an event before, so that no entry
// bears its number.
func (r *Recorder) repeated(number int64) {
	if last := len(r.untold) - 1; last >= 0 && r.untold[last].To+1 == number {
		r.untold[last].To = number
		return
	}
	r.untold = append(r.untold, event.Span{Epoch: r.spool.Epoch(), From: number, To: number})
}

// tellRepeated accounts for such numbers. What the spool has no room for is told
// when it has.
func (r *Recorder) tellRepeated() {
	for len(r.untold) > 0 {
		if _, err := r.tell(event.TypeRepeated, r.untold[0].String(), map[string]any{}); err != nil {
			r.problem(fmt.Errorf("account for numbers %s: %w", r.untold[0], err))
			return
		}
		r.untold = r.untold[1:]
	}
}

// leave ends the heartbeats and says farewell, so that silence from now on means
// nothing. It gives the server a moment to hear it, unless it is away.
func (r *Recorder) leave() {
	r.hush()
	<-r.quiet
	number, err := r.tell(event.TypeStopped, "", map[string]any{"pending": r.spool.Stats().Items})
	if err != nil {
		r.problem(fmt.Errorf("record a farewell: %w", err))
		return
	}
	enough := time.NewTimer(farewell)
	defer enough.Stop()
	for {
		r.mu.Lock()
		done, failing, progress := r.done > number, r.failing, r.progress
		r.mu.Unlock()
		if done || failing {
			return
		}
		select {
		case <-progress:
		case <-r.ended:
			return
		case <-enough.C:
			return
		}
	}
}
