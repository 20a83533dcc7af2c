package auditlog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/seglog"
)

// A Sender takes events. It has all of them, durably, once it returns nil.
type Sender interface {
	RecordMany(ctx context.Context, events ...*event.Event) error
}

// A Log is a [Trail] that can be followed.
type Log interface {
	Trail
	Follow(ctx context.Context, types []string, after int64, fn func(index int64, e *event.Event) error) error
}

// WatcherConfig is that of a Watcher. Log, Judge, Sender and Dir are required.
type WatcherConfig struct {
	Log    Log
	Judge  *Judge
	Sender Sender
	// Dir keeps up to where everything is judged.
	Dir string
	// Cluster is the one whose requests count.
	Cluster string
	Metrics *Metrics
	Logger  *slog.Logger
	Now     func() time.Time
}

// A Watcher follows what arrives of audit logs in the ledger: it knows what became of
// requests, and records where the ledger and the logs differ.
type Watcher struct {
	c WatcherConfig

	mu      sync.Mutex
	answers map[string]answer // by the id of the intent
	swept   time.Time
}

// An answer is a request that was answered.
type answer struct {
	request *Request
	at      time.Time
	until   time.Time // it is remembered
}

const (
	// remembered is how long answers are known.
	remembered = 15 * time.Minute
	// maxPending bounds what waits to be judged.
	maxPending = 50_000
	// judgePause is how often it is judged, and retryPause how long it is waited after
	// a failure.
	judgePause = time.Second
	retryPause = 5 * time.Second
)

// NewWatcher returns a Watcher, which begins with Start.
func NewWatcher(c WatcherConfig) *Watcher {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	return &Watcher{c: c, answers: map[string]answer{}}
}

// Live reports whether the audit logs of all API servers arrive, and if not why.
func (w *Watcher) Live() (why string) { return w.c.Judge.Pulse.Live(w.c.Now()) }

// Answer returns the request of which an event was recorded at admission, as the audit
// log has it.
func (w *Watcher) Answer(intent event.ID) (r *Request, at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.answers[intent.String()]
	return a.request, a.at, ok
}

func (w *Watcher) remember(r *Request, at time.Time) {
	now := w.c.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, intent := range r.Intents {
		w.answers[intent] = answer{r, at, now.Add(remembered)}
	}
	if now.Sub(w.swept) > time.Minute {
		w.swept = now
		maps.DeleteFunc(w.answers, func(_ string, a answer) bool { return now.After(a.until) })
	}
}

// A matter is a write, or an event, that is to be judged.
type matter struct {
	index   int64
	event   *event.Event
	request *Request // nil for a claim
}

// A position is up to where everything is judged.
type position struct {
	Index int64     `json:"index"`
	At    time.Time `json:"at"` // when it was recorded
	// Covered is whether it was told that audit logs arrive.
	Covered bool `json:"covered"`
}

const positionFile = "auditlog.json"

// Start follows the ledger until ctx ends.
func (w *Watcher) Start(ctx context.Context) error {
	at, err := w.position()
	if err != nil {
		w.c.Logger.Warn("read up to where the audit log is judged; it goes on from now", "error", err)
	}
	arrived := make(chan *matter)
	go w.follow(ctx, at, arrived)
	tick := time.NewTicker(judgePause)
	defer tick.Stop()
	var pending []*matter
	last, began := at, w.c.Now()
	for {
		in := arrived
		if len(pending) >= maxPending {
			in = nil
		}
		select {
		case m := <-in:
			last.Index, last.At = m.index, w.c.Now()
			if m.event != nil {
				pending = append(pending, m)
			}
			continue
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		pending = w.judge(ctx, pending)
		upTo := last
		if len(pending) > 0 && pending[0].index <= upTo.Index {
			upTo.Index, upTo.At = pending[0].index-1, pending[0].event.Timestamp
		}
		why := w.Live()
		w.c.Metrics.live(why == "")
		if covered := why == ""; covered != at.Covered && (covered || w.c.Now().Sub(began) > w.c.Judge.Pulse.late()) {
			if err := w.tellCoverage(ctx, why); err != nil {
				w.c.Logger.Warn("record whether audit logs arrive", "error", err)
			} else {
				last.Covered, upTo.Covered = covered, covered
			}
		}
		if upTo.Index == at.Index && upTo.Covered == at.Covered {
			continue
		}
		if err := w.keep(upTo); err != nil {
			w.c.Logger.Warn("keep up to where the audit log is judged", "error", err)
			continue
		}
		at = upTo
	}
}

// follow passes on what is to be judged, until ctx ends. A matter without an event says
// up to where there is nothing.
func (w *Watcher) follow(ctx context.Context, at position, arrived chan<- *matter) {
	j := w.c.Judge
	after := at.Index
	for primed := false; ctx.Err() == nil; {
		err := error(nil)
		if !primed {
			err = w.prime(ctx, at)
			primed = err == nil
		}
		if primed {
			err = w.c.Log.Follow(ctx, append([]string{TypeRequest}, Claims...), after, func(index int64, e *event.Event) error {
				m := &matter{index: index}
				switch {
				case e.Cluster != w.c.Cluster:
				case e.EventType == TypeRequest:
					if r := w.take(e); r != nil && j.Remediates(r) {
						m.event, m.request = e, r
					}
				case j.Claims(e):
					m.event = e
				}
				select {
				case arrived <- m:
					after = index
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}
		if ctx.Err() == nil {
			w.c.Logger.Warn("what arrives of audit logs is not followed for now", "error", err)
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
	}
}

// prime takes the signs of life, and what became of requests, from before a start.
func (w *Watcher) prime(ctx context.Context, at position) error {
	now := w.c.Now()
	from := now
	if at.Index >= 0 && at.At.Before(from) {
		from = at.At
	}
	back := 2*w.c.Judge.Window + w.c.Judge.Pulse.late()
	return w.c.Log.Events(ctx, Query{From: from.Add(-back), Until: now, Types: []string{TypeRequest}}, func(e *event.Event) {
		if e.Cluster == w.c.Cluster {
			w.take(e)
		}
	})
}

// take reads a request, unless it is a sign of life or nobody vouches for it.
func (w *Watcher) take(e *event.Event) *Request {
	if e.Recorded.Attribution != event.AttributionAdmission {
		return nil // anybody may say so
	}
	r, err := Read(e.Details)
	if err != nil {
		return nil // erased, or of another's making
	}
	w.c.Metrics.requests.Inc()
	if w.c.Judge.Pulse.Beat(r, e.Timestamp) {
		return nil
	}
	if len(r.Intents) > 0 {
		w.remember(r, e.Timestamp)
	}
	return r
}

// judge judges what is due, and returns the rest.
func (w *Watcher) judge(ctx context.Context, pending []*matter) []*matter {
	var open []*matter
	for i, m := range pending {
		now := w.c.Now()
		if now.Before(m.event.Timestamp.Add(w.c.Judge.Window)) {
			open = append(open, m)
			continue
		}
		verdict, why, err := w.verdict(ctx, m, now)
		if err == nil && verdict == Differs {
			err = w.c.Sender.RecordMany(ctx, m.mismatch(w.c.Judge.Window))
		}
		if err != nil {
			if ctx.Err() == nil {
				w.c.Logger.Warn("hold the ledger against the audit log", "error", err)
			}
			return append(open, pending[i:]...)
		}
		if verdict == Open {
			open = append(open, m)
			continue
		}
		w.c.Metrics.verdicts.WithLabelValues(string(verdict)).Inc()
		w.c.Logger.Debug("held against the audit log", "event", m.event.ID.String(), "verdict", string(verdict), "why", why)
	}
	return open
}

func (w *Watcher) verdict(ctx context.Context, m *matter, now time.Time) (Verdict, string, error) {
	if m.request != nil {
		return w.c.Judge.Explained(ctx, m.request, m.event.Timestamp, now)
	}
	return w.c.Judge.Witnessed(ctx, m.event, now)
}

// mismatch returns the event that says that ledger and audit log differ.
func (m *matter) mismatch(window time.Duration) *event.Event {
	e := &event.Event{Timestamp: m.event.Timestamp, Cluster: m.event.Cluster, Resource: m.event.Resource, CorrelationID: m.event.CorrelationID,
		Actor: event.Actor{Type: event.ActorService, Name: "graven-operator"}}
	details := map[string]string{"event": m.event.ID.String(), "window": window.String()}
	if r := m.request; r != nil {
		e.EventType = typeUnexplained
		e.CorrelationID = "kubernetes/" + r.AuditID
		maps.Copy(details, map[string]string{"auditID": r.AuditID, "user": r.User, "verb": r.Verb, "resource": strings.Trim(r.Group+"/"+r.Resource+"/"+r.Subresource, "/")})
		if r.Impersonated != "" {
			details["impersonated"] = r.Impersonated
		}
	} else {
		e.EventType = typeUnwitnessed
		details["eventType"], details["actor"] = m.event.EventType, m.event.Actor.Name
		if t, ok := target(m.event); ok {
			details["target"] = cmp.Or(t.path, t.name)
		}
	}
	e.Fact = m.event.ID.String() + "/" + e.EventType
	e.ID = event.DeriveID(e.EventType, m.event.ID.String()).Reserve()
	if err := e.SetDetails(details); err != nil { // strings are JSON
		panic(err)
	}
	return e
}

// tellCoverage records that audit logs arrive, or no longer do.
func (w *Watcher) tellCoverage(ctx context.Context, why string) error {
	now := w.c.Now()
	e := &event.Event{EventType: "AuditLogCoverageChanged", Timestamp: now, Cluster: w.c.Cluster, CorrelationID: "audit-log",
		Actor: event.Actor{Type: event.ActorService, Name: "graven-operator"}, Resource: event.Resource{Kind: "AuditLog", Name: "kube-apiserver"}}
	details := map[string]string{"covered": fmt.Sprint(why == "")}
	if why != "" {
		details["reason"], e.Severity = why, event.SeverityHigh
		w.c.Logger.Warn("audit logs do not arrive", "reason", why)
	} else {
		w.c.Logger.Info("the audit logs of all API servers arrive")
	}
	if err := e.SetDetails(details); err != nil {
		return err
	}
	return w.c.Sender.RecordMany(ctx, e)
}

// position returns up to where everything is judged; index -1 for nothing.
func (w *Watcher) position() (position, error) {
	none := position{Index: -1}
	text, err := os.ReadFile(filepath.Join(w.c.Dir, positionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	var at position
	if err == nil {
		err = json.Unmarshal(text, &at)
	}
	if err != nil {
		return none, err
	}
	return at, nil
}

func (w *Watcher) keep(at position) error {
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, filepath.Join(w.c.Dir, positionFile), text)
}

// Metrics count what is held against audit logs.
type Metrics struct {
	requests prometheus.Counter
	verdicts *prometheus.CounterVec
	covered  prometheus.Gauge
}

// NewMetrics returns metrics, which are registered unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounter(prometheus.CounterOpts{Name: "graven_auditlog_requests_total", Help: "Requests that arrived from the API servers' audit logs."}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "graven_auditlog_verdicts_total", Help: "Writes and claims that were held against each other, by what came of it."}, []string{"verdict"}),
		covered:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "graven_auditlog_covered", Help: "1 while the audit logs of all API servers arrive."}),
	}
	for _, v := range []Verdict{Agrees, Differs, NotCovered} {
		m.verdicts.WithLabelValues(string(v))
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.verdicts, m.covered)
	}
	return m
}

func (m *Metrics) live(covered bool) {
	m.covered.Set(0)
	if covered {
		m.covered.Set(1)
	}
}
