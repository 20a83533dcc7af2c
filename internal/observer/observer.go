package observer

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/seglog"
)

// A Sender takes events. It has all of them, durably, once it returns nil.
type Sender interface {
	RecordMany(ctx context.Context, events ...*event.Event) error
}

// Past is what the ledger knows of resources.
type Past interface {
	// Snapshot returns the newest snapshot of a resource, as JSON; nil if there is
	// none.
	Snapshot(ctx context.Context, of event.Resource) ([]byte, error)
}

// Config of an Observer. API, Sender and Dir are required.
type Config struct {
	API    dynamic.Interface
	Sender Sender
	// Past, if not nil, is asked where Dir knows nothing of a resource.
	Past Past
	// Intents, if not nil, are held against the states that are seen.
	Intents Intents
	// Answers, if not nil, are held against them, too.
	Answers Answers
	// Dir keeps how resources were seen last. It should outlive the process: else
	// what happens while none runs is seen as one change.
	Dir string
	// Key is that of the digests that stand in the place of credentials; nil for one
	// that Dir keeps.
	Key     []byte
	Cluster string // the cluster's name, for events
	Log     *slog.Logger
	// Metrics, if not nil, count what is seen.
	Metrics *Metrics
	Now     func() time.Time
}

// An Observer records what policies say of resources.
type Observer struct {
	c   Config
	key []byte

	mu       sync.Mutex
	wanted   map[capture.Resource][]*capture.Program
	changed  chan struct{} // closed when wanted changes
	kinds    map[capture.Resource]following
	policies map[string]*Outcome
	seen     map[string][]sighting // by uid
	swept    time.Time
	began    time.Time // to follow; what was before nobody may have seen
}

// A following is how a kind is followed: for which policies, and why it is not.
type following struct {
	programs []*capture.Program
	err      error
}

// An Outcome is what came of a policy since the start.
type Outcome struct {
	Recorded int64
	// Failure is why it failed the last time that it did; nil if it never did. Failed
	// is when.
	Failure error
	Failed  time.Time
}

// New returns an Observer, which begins with Start.
func New(c Config) (*Observer, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	key := c.Key
	if key == nil {
		var err error
		if key, err = readKey(filepath.Join(c.Dir, "digest.key")); err != nil {
			return nil, err
		}
	}
	return &Observer{c: c, key: key, changed: make(chan struct{}), kinds: map[capture.Resource]following{}, policies: map[string]*Outcome{}, seen: map[string][]sighting{}}, nil
}

// readKey reads the key of digests, or makes one.
func readKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	return key, seglog.WriteFile(seglog.OS{}, path, key)
}

// Key returns the key of the digests that stand in the place of credentials.
func (o *Observer) Key() []byte { return o.key }

// Set has the policies applied that are for the watch, and the resources followed that
// others are about, so that intents are confirmed. It can be called at any time.
func (o *Observer) Set(programs []*capture.Program) {
	o.mu.Lock()
	defer o.mu.Unlock()
	wanted := map[capture.Resource][]*capture.Program{}
	names := map[string]bool{}
	for _, p := range programs {
		if p.Policy.At == capture.Watch {
			names[p.Policy.Name] = true
			o.c.Metrics.begin(p.Policy.Name)
		}
		for _, kind := range p.Policy.Match.Resources {
			switch {
			case p.Policy.At == capture.Watch:
				wanted[kind] = append(wanted[kind], p)
			case o.c.Intents != nil:
				of, sub, _ := strings.Cut(kind.Resource, "/")
				if sub != "" && sub != "status" { // which has no state
					continue
				}
				kind.Resource = of
				wanted[kind] = slices.Clip(wanted[kind])
			}
		}
	}
	o.wanted = wanted
	maps.DeleteFunc(o.policies, func(name string, _ *Outcome) bool { return !names[name] })
	close(o.changed)
	o.changed = make(chan struct{})
}

// Kind returns why a kind of resources is not followed, in a word and in a sentence;
// "Watching" if it is.
func (o *Observer) Kind(r capture.Resource) (reason, message string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, ok := o.kinds[r]
	switch err := now.err; {
	case !ok || !slices.Equal(now.programs, o.wanted[r]): // or for some of its policies only
		return "Starting", "it is not followed yet"
	case err == nil:
		return "Watching", ""
	default:
		return why(err), err.Error()
	}
}

// Outcome returns what came of a policy.
func (o *Observer) Outcome(policy string) Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	return *o.outcome(policy)
}

func (o *Observer) outcome(policy string) *Outcome {
	v := o.policies[policy]
	if v == nil {
		v = new(Outcome)
		o.policies[policy] = v
	}
	return v
}

// Start follows all kinds that policies name, until ctx ends.
func (o *Observer) Start(ctx context.Context) error {
	type running struct {
		programs []*capture.Program
		stop     context.CancelFunc
		done     chan struct{}
	}
	o.began = o.c.Now()
	followed := map[capture.Resource]*running{}
	var confirming sync.WaitGroup
	confirming.Go(func() { o.confirm(ctx) })
	defer confirming.Wait()
	end := func(kind capture.Resource) {
		r := followed[kind]
		r.stop()
		<-r.done
		delete(followed, kind)
		o.mu.Lock()
		delete(o.kinds, kind)
		o.mu.Unlock()
	}
	defer func() {
		for _, r := range followed {
			r.stop()
		}
		for kind := range maps.Clone(followed) {
			end(kind)
		}
	}()
	for {
		o.mu.Lock()
		changed, wanted := o.changed, o.wanted
		o.mu.Unlock()
		for kind, r := range followed {
			if programs, ok := wanted[kind]; !ok || !slices.Equal(r.programs, programs) {
				end(kind)
			}
		}
		for kind, programs := range wanted {
			if followed[kind] != nil {
				continue
			}
			ctx, stop := context.WithCancel(ctx)
			r := &running{programs: programs, stop: stop, done: make(chan struct{})}
			followed[kind] = r
			go func() {
				defer close(r.done)
				o.follow(ctx, kind, programs)
			}()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		select { // others may be on their way
		case <-time.After(settling):
		case <-ctx.Done():
			return nil
		}
	}
}

// settling is how long it is waited for more policies to change.
const settling = 250 * time.Millisecond

// say is told how a kind is followed for some policies.
func (o *Observer) say(kind capture.Resource, programs []*capture.Program, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kinds[kind] = following{programs, err}
}

// follow follows one kind until ctx ends.
func (o *Observer) follow(ctx context.Context, kind capture.Resource, programs []*capture.Program) {
	store, counts := o.open(ctx, kind, programs)
	if store == nil {
		return
	}
	last := ""
	says := func(err error) {
		o.say(kind, programs, err)
		reason := why(err)
		if reason == last {
			return
		}
		if last = reason; err != nil {
			level := slog.LevelWarn
			if reason == "NotInstalled" {
				level = slog.LevelInfo
			}
			o.c.Log.Log(ctx, level, "resources are not followed", "resources", kind.Resource, "group", kind.Group, "reason", reason, "error", err)
			return
		}
		o.c.Log.Info("following resources", "resources", kind.Resource, "group", kind.Group)
	}
	f := &follower{api: o.c.API.Resource(schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: kind.Resource}),
		missed: o.c.Metrics.gaps.WithLabelValues(kind.Resource), store: store, sender: o.c.Sender, past: o.c.Past, key: o.key, log: o.c.Log, says: says, saw: o.saw,
		counts: counts, judge: &judge{kind: kind, programs: programs, cluster: o.c.Cluster, counter: counts, now: o.c.Now, count: o.count, failed: o.fail}}
	f.run(ctx)
	if err := store.close(); err != nil {
		o.c.Log.Warn("close what was seen", "resources", kind.Resource, "error", err)
	}
}

// open opens what is kept of a kind, and tries again until ctx ends: then it returns
// nil.
func (o *Observer) open(ctx context.Context, kind capture.Resource, programs []*capture.Program) (*store, *counts) {
	for {
		store, err := openStore(o.c.Dir, kind)
		if err == nil {
			var counts *counts
			if counts, err = openCounts(store, o.c.Now); err == nil {
				return store, counts
			}
		}
		o.say(kind, programs, err)
		o.c.Log.Error("capture cannot keep what it sees", "resources", kind.Resource, "error", err)
		select {
		case <-time.After(lastPause):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (o *Observer) count(policy string, events int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcome(policy).Recorded += int64(events)
	o.c.Metrics.recorded.WithLabelValues(policy).Add(float64(events))
}

func (o *Observer) fail(policy string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.outcome(policy)
	v.Failure, v.Failed = err, o.c.Now()
	o.c.Metrics.failed.WithLabelValues(policy).Inc()
}
