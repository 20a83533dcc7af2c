package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
)

// A Journal records what happens to the ledger from outside, such as reading
// and failed logins, so that frequent acts do not flood it: of each act the
// first within a minute is recorded before it goes on, and if there were more,
// a second event counts them when the minute is over.
type Journal struct {
	ledger *Ledger
	now    func() time.Time

	mu   sync.Mutex
	open map[whoWhat]map[string]*window // by the acts' keys
	owed map[actKey]*window             // that are over, and could not be recorded yet

	stop context.CancelFunc
	done chan struct{}
}

// An Act is something to be recorded.
type Act struct {
	Type string // one of the ledger's own event types
	By   By
	// Resource is what was acted on.
	Resource event.Resource
	Details  map[string]any
	// ID is the event's id; zero for a new one.
	ID event.ID
	// Facts, if not nil, are for the entry's member "ledger".
	Facts map[string]any
	// Key tells acts of one type and principal apart, such as a route.
	Key string
}

// blurred returns the act without what tells it from others of its type and
// principal, and the key under which those are counted.
func (a Act) blurred() (actKey, Act) {
	details := map[string]any{}
	for name := range a.Details {
		details[name] = "several"
	}
	if _, ok := details["principal"]; ok {
		details["principal"] = a.By.Principal
	}
	details["reason"] = "too many to tell apart"
	return actKey{whoWhat: whoWhat{a.Type, a.By.Principal}}, Act{Type: a.Type, By: a.By, Details: details}
}

type whoWhat struct{ eventType, principal string }

type actKey struct {
	whoWhat
	key string
}

// A window counts an act's repetitions within one minute.
type window struct {
	key      actKey
	act      Act
	from, to time.Time
	again    int
	recorded chan struct{} // closed when the first was recorded
	err      error         // set before recorded is closed
}

// over reports whether the window's minute has passed. It has, too, where the
// clock was set back.
func (w *window) over(now time.Time) bool {
	d := now.Sub(w.from)
	return d < 0 || d >= time.Minute
}

// maxWindows bounds the acts of one type and principal that are told apart at a
// time. Beyond, they are counted together, so that an attacker, of whom nothing
// is known but an address, fills neither memory nor the ledger, and hides
// nobody: principals are few, for somebody gave them a token.
const maxWindows = 1000

// NewJournal starts a journal. Close it before the ledger.
func NewJournal(l *Ledger) *Journal {
	ctx, stop := context.WithCancel(context.Background())
	j := &Journal{ledger: l, now: l.c.Now, open: map[whoWhat]map[string]*window{}, owed: map[actKey]*window{}, stop: stop, done: make(chan struct{})}
	go j.run(ctx)
	return j
}

// Record records an act or counts it. An error means that the act must not go
// on, since there would be no record of it.
func (j *Journal) Record(ctx context.Context, a Act) error {
	now := j.now().UTC()
	k := actKey{whoWhat{a.Type, a.By.Principal}, a.Key}
	j.mu.Lock()
	open := j.open[k.whoWhat]
	if open == nil {
		open = map[string]*window{}
		j.open[k.whoWhat] = open
	}
	if _, ok := open[k.key]; !ok && len(open) >= maxWindows {
		k, a = a.blurred()
	}
	w, ok := open[k.key]
	var over *window
	if ok && w.over(now) {
		over, ok = w, false
	}
	if ok {
		w.again++
		w.to = now
		j.mu.Unlock()
		select {
		case <-w.recorded:
			return w.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w = &window{key: k, act: a, from: now, to: now, recorded: make(chan struct{})}
	open[k.key] = w
	j.mu.Unlock()

	// Others count on this record, whatever becomes of its caller.
	ctx = context.WithoutCancel(ctx)
	j.settle(ctx, over)
	if w.err = j.once(ctx, a, 1, now, now); w.err != nil {
		j.mu.Lock()
		if open[k.key] == w {
			delete(open, k.key)
		}
		j.mu.Unlock()
	}
	close(w.recorded)
	return w.err
}

// Once records an act by itself, without counting.
func (j *Journal) Once(ctx context.Context, a Act) error {
	now := j.now().UTC()
	return j.once(ctx, a, 0, now, now)
}

func (j *Journal) once(ctx context.Context, a Act, count int, from, to time.Time) error {
	e := OwnEvent(a.Type, j.ledger.c.Signer.Name(), to)
	if a.By.Principal != self.Principal {
		e.Actor = event.Actor{Type: event.ActorUser, Name: a.By.Principal}
	}
	if a.Resource.Kind != "" {
		e.Resource = a.Resource
	}
	details := map[string]any{}
	for k, v := range a.Details {
		details[k] = v
	}
	if count > 0 {
		details["count"] = count
	}
	if from != to {
		details["from"], details["to"] = event.FormatTime(from), event.FormatTime(to)
	}
	e.ID = a.ID
	if a.Facts != nil {
		if err := e.SetDetails(a.Facts); err != nil { // which makes them canonical
			return err
		}
		e.Ledger = e.Details
	}
	if err := e.SetDetails(details); err != nil {
		return err
	}
	return j.ledger.ownBy(ctx, a.By, e)
}

// settle records how often an act was repeated in a window that is over, or
// keeps it in mind. No window gives nothing to record.
func (j *Journal) settle(ctx context.Context, w *window) {
	if w == nil || w.again == 0 || j.once(ctx, w.act, w.again, w.from, w.to) == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.owed[w.key]; !ok && len(j.owed) >= maxWindows {
		w.key, w.act = w.act.blurred()
	}
	if earlier, ok := j.owed[w.key]; ok {
		w.from, w.again = earlier.from, w.again+earlier.again
	}
	j.owed[w.key] = w
}

// run closes windows that are over, and all of them at the end.
func (j *Journal) run(ctx context.Context) {
	defer close(j.done)
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			j.flush(context.Background(), false)
		case <-ctx.Done():
			j.flush(context.Background(), true)
			return
		}
	}
}

// flush settles the windows that are over, or all.
func (j *Journal) flush(ctx context.Context, all bool) {
	now := j.now()
	j.mu.Lock()
	over := slices.Collect(maps.Values(j.owed))
	clear(j.owed)
	for who, open := range j.open {
		for k, w := range open {
			if all || w.over(now) {
				over = append(over, w)
				delete(open, k)
			}
		}
		if len(open) == 0 {
			delete(j.open, who)
		}
	}
	j.mu.Unlock()
	for _, w := range over {
		j.settle(ctx, w)
	}
}

// Close records what is still counted and ends the journal. The error says how
// many counts could not be recorded, and are lost.
func (j *Journal) Close() error {
	j.stop()
	<-j.done
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(j.owed); n > 0 {
		return fmt.Errorf("close journal: %d counts of repeated acts could not be recorded", n)
	}
	return nil
}
