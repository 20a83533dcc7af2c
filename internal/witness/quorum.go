package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// A Peer is a witness that is asked. URL is its prefix.
type Peer struct {
	URL string
	Key *cosign.Witness
}

// A Tree serves the ledger's hashes.
type Tree interface {
	tlog.HashReader
	// Wait returns when the hashes of all entries below size can be read.
	Wait(ctx context.Context, size int64) error
}

// Config of a Quorum. Without peers it asks nobody.
type Config struct {
	Peers []Peer
	// Need is how many must cosign a checkpoint; 0 means all.
	Need int
	// Interval is the least time between rounds; 0 means 1 s.
	Interval time.Duration
	// Timeout bounds a request; 0 means 10 s. At the start it is half of it.
	Timeout time.Duration
	// Ledger is the ledger's public key, Tree its hashes.
	Ledger note.Verifier
	Tree   Tree
	// File keeps the newest cosigned checkpoint, on FS; nil means the machine's.
	File string
	FS   seglog.FS
	// Refused is called once when a witness begins to refuse, again after an
	// error, and at most once a minute. It is not called at the start.
	Refused func(context.Context, *Refusal) error
	Client  *http.Client // nil means one that follows no redirects
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil for none
}

// A Quorum asks witnesses to cosign a ledger's checkpoints.
type Quorum struct {
	c     Config
	peers []*peer
	// target is what the round is about; lines are the signatures on it, and
	// unsaved means that there are enough and the file has not all of them.
	// They, and peers but for what is guarded, are owned by Check, then Run.
	target  *trail.Checkpoint
	began   time.Time
	lines   map[*peer]string
	unsaved bool
	retry   time.Time // not to be saved before

	mu       sync.Mutex        // guards what follows, and refusal of each peer
	cosigned *trail.Checkpoint // newest, durable
	first    *trail.Checkpoint // that was shown when none was cosigned
	failures *prometheus.CounterVec
}

// A peer is a Peer and what is known of it.
type peer struct {
	Peer
	held     int64             // size that it holds; whoever asks it owns this
	busy     bool              // a request is under way, about:
	asked    *trail.Checkpoint // the last that it was asked about
	stale    bool              // it holds a newer one, which is ours
	failures int               // in a row
	after    time.Time         // not to be asked before
	problem  string            // of the last failure
	told     string            // kind of the refusal that was told of, unless it has signed since
	toldAt   time.Time

	refusal *Refusal // nil unless it refuses
}

// A Refusal is a witness's word that it has seen more of the ledger, or another
// ledger under its name and key.
type Refusal struct {
	Witness, URL string
	Size         int64 // that was to be signed
	Held         int64 // that the witness holds
	Reason       string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the witness %s (%s) refuses the checkpoint of %d entries: %s", r.Witness, r.URL, r.Size, r.Reason)
}

// ErrForked means that the ledger must not go on from where it is.
var ErrForked = errors.New("refusing to sign: the ledger is an older copy, or another ledger was kept under its name and key")

// New returns a quorum. Nobody is asked yet.
func New(c Config) (*Quorum, error) {
	if c.Need == 0 {
		c.Need = len(c.Peers)
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.FS == nil {
		c.FS = seglog.OS{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Client == nil {
		c.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	q := &Quorum{c: c, lines: map[*peer]string{}}
	for _, p := range c.Peers {
		q.peers = append(q.peers, &peer{Peer: p})
	}
	if err := q.policy().Check(); err != nil {
		return nil, err
	}
	if c.Metrics != nil && len(q.peers) > 0 {
		q.register(c.Metrics)
	}
	return q, nil
}

func (q *Quorum) policy() cosign.Policy {
	p := cosign.Policy{Need: q.c.Need}
	for _, peer := range q.c.Peers {
		p.Witnesses = append(p.Witnesses, peer.Key)
	}
	return p
}

func (q *Quorum) register(reg prometheus.Registerer) {
	q.failures = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "graven_witness_failures_total", Help: "Requests that a witness did not answer with a signature."}, []string{"witness"})
	reg.MustRegister(q.failures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "graven_witnessed_size",
		Help: "Entries of the newest checkpoint that enough witnesses have cosigned."}, func() float64 {
		if c := q.Cosigned(); c != nil {
			return float64(c.Size)
		}
		return 0
	}))
	for _, p := range q.peers {
		q.failures.WithLabelValues(p.Key.Name())
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "graven_witness_refuses", Help: "1 while a witness refuses the ledger's checkpoints.",
			ConstLabels: prometheus.Labels{"witness": p.Key.Name()}}, func() float64 {
			q.mu.Lock()
			defer q.mu.Unlock()
			if p.refusal != nil {
				return 1
			}
			return 0
		}))
	}
}

// Cosigned returns the newest checkpoint that enough witnesses have cosigned,
// with their signatures, or nil.
func (q *Quorum) Cosigned() *trail.Checkpoint {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cosigned
}

// Shown returns the checkpoint to show to everybody, given the newest: the one
// that is cosigned. Until there is one, it is always the same, so that nobody
// sees the ledger shrink when the first one comes. Without witnesses it is the
// newest.
func (q *Quorum) Shown(newest *trail.Checkpoint) *trail.Checkpoint {
	if len(q.peers) == 0 {
		return newest
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.cosigned != nil && (q.first == nil || q.cosigned.Size >= q.first.Size):
		return q.cosigned
	case q.first == nil:
		q.first = newest
	}
	return q.first
}

// Refusing returns the names of the witnesses that refuse the ledger's
// checkpoints, and have not signed one since.
func (q *Quorum) Refusing() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	names := []string{}
	for _, p := range q.peers {
		if p.refusal != nil {
			names = append(names, p.Key.Name())
		}
	}
	return names
}

// Check is called before the ledger signs anything. Its head, nil for none,
// must extend what was cosigned before, and what each witness holds that
// answers in time; otherwise the error is [ErrForked].
func (q *Quorum) Check(ctx context.Context, head *trail.Checkpoint) error {
	if err := q.recall(ctx, head); err != nil {
		return err
	}
	if head == nil || len(q.peers) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, q.c.Timeout/2)
	defer cancel()
	q.begin(head)
	answers := make(chan answer, len(q.peers))
	for _, p := range q.peers {
		p.busy, p.asked = true, head
		go q.ask(ctx, p, head, func() int64 { return head.Size }, answers)
	}
	var refusals []error
	for range q.peers {
		a := <-answers
		q.take(ctx, a, nil)
		if r := (*Refusal)(nil); errors.As(a.err, &r) {
			refusals = append(refusals, r)
		}
	}
	if len(refusals) > 0 {
		return fmt.Errorf("%w: %w. Nothing was signed. Bring back the newest copy of the data directory; only if it is certain that the witness is wrong, take it out of the configuration",
			ErrForked, errors.Join(refusals...))
	}
	return nil
}

// recall reads the cosigned checkpoint, which the head must extend.
func (q *Quorum) recall(ctx context.Context, head *trail.Checkpoint) error {
	text, err := os.ReadFile(q.c.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the cosigned checkpoint: %w", err)
	}
	c, err := trail.OpenCheckpoint(text, q.c.Ledger)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s is damaged, or of another ledger: %w; bring it back, or remove it if it is certain that the rest is the newest copy", ErrForked, q.c.File, err)
	case head == nil || head.Size < c.Size:
		return fmt.Errorf("%w: witnesses have cosigned %d entries (%s), here are fewer; bring back the newest copy", ErrForked, c.Size, q.c.File)
	case c.Size > 0:
		if err := q.c.Tree.Wait(ctx, head.Size); err != nil {
			return err
		}
		root, err := tlog.TreeHash(c.Size, q.c.Tree)
		if err != nil {
			return fmt.Errorf("hold the ledger against %s: %w", q.c.File, err)
		}
		if root != c.Root {
			return fmt.Errorf("%w: the %d entries that witnesses have cosigned (%s) are not the first here", ErrForked, c.Size, q.c.File)
		}
	}
	by, err := q.policy().Cosigned(c.Note)
	if err != nil {
		return fmt.Errorf("%w: %s is damaged: %w; remove it if it is certain that the rest is the newest copy", ErrForked, q.c.File, err)
	}
	for _, p := range q.peers {
		for _, w := range by {
			if w == p.Key {
				p.held = c.Size
			}
		}
	}
	if len(by) > 0 && len(by) >= q.c.Need {
		q.cosigned = c
	}
	return nil
}

// Run asks for the newest checkpoint, again and again, until ctx ends. newest
// returns it with a channel that is closed when there is a newer one.
func (q *Quorum) Run(ctx context.Context, newest func() (*trail.Checkpoint, <-chan struct{})) {
	var asking sync.WaitGroup
	defer asking.Wait()
	answers := make(chan answer, len(q.peers))
	size := func() int64 {
		c, _ := newest()
		return c.Size
	}
	for ctx.Err() == nil {
		now := time.Now()
		latest, changed := newest()
		if q.over(latest, now) {
			q.begin(latest)
		}
		if q.unsaved && !now.Before(q.retry) {
			q.publish()
		}
		for _, p := range q.peers {
			if !p.busy && !p.stale && q.lines[p] == "" && !now.Before(p.after) {
				p.busy, p.asked = true, q.target
				asking.Go(func() { q.ask(ctx, p, p.asked, size, answers) })
			}
		}
		if latest.Size > q.target.Size {
			changed = nil // there is a newer one already
		}
		timer := time.NewTimer(q.pause(now))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		case a := <-answers:
			q.take(ctx, a, q.c.Refused)
		}
		timer.Stop()
	}
}

// begin begins a round.
func (q *Quorum) begin(c *trail.Checkpoint) {
	q.target, q.began, q.unsaved = c, time.Now(), false
	clear(q.lines)
	for _, p := range q.peers {
		p.stale = false
	}
}

// over reports whether it is time for a new round: there is a newer checkpoint,
// the interval has passed, and enough have signed or nobody else may yet.
func (q *Quorum) over(latest *trail.Checkpoint, now time.Time) bool {
	if q.target == nil {
		return true
	}
	if latest.Size == q.target.Size || now.Before(q.began.Add(q.c.Interval)) {
		return false
	}
	if len(q.lines) >= q.c.Need {
		return true
	}
	for _, p := range q.peers {
		if p.busy && p.asked == q.target {
			return false
		}
	}
	return true
}

// pause returns how long there is nothing to do, unless something happens.
func (q *Quorum) pause(now time.Time) time.Duration {
	next := time.Hour
	at := func(t time.Time) {
		if d := t.Sub(now); d > 0 {
			next = min(next, d)
		}
	}
	at(q.began.Add(q.c.Interval))
	for _, p := range q.peers {
		if !p.busy {
			at(p.after)
		}
	}
	if q.unsaved {
		at(q.retry)
	}
	return next
}

// take takes an answer, and tells of a refusal.
func (q *Quorum) take(ctx context.Context, a answer, tell func(context.Context, *Refusal) error) {
	p := a.peer
	p.busy = false
	var refusal *Refusal
	switch {
	case a.err == nil:
		if p.failures > 0 {
			q.c.Log.Info("a witness signs again", "witness", p.Key.Name(), "size", a.about.Size)
		}
		p.failures, p.after, p.problem, p.told = 0, time.Time{}, "", ""
		if a.about == q.target {
			q.lines[p] = a.line
			q.unsaved = len(q.lines) >= q.c.Need
		}
		if q.unsaved {
			q.publish()
		}
	case errors.Is(a.err, errStale):
		p.stale = a.about == q.target
		return
	case ctx.Err() != nil && tell != nil:
		return // the end of the program says nothing about the witness
	default:
		errors.As(a.err, &refusal)
		if q.failed(ctx, p, a.err, refusal, tell); refusal == nil {
			return // a witness that refused and is gone has not signed since
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	p.refusal = refusal
}

// failed leaves a witness alone for a while, and says why if that is new.
func (q *Quorum) failed(ctx context.Context, p *peer, err error, refusal *Refusal, tell func(context.Context, *Refusal) error) {
	p.failures++
	pause := min(q.c.Interval<<min(p.failures, 20), time.Minute)
	p.after = time.Now().Add(pause/2 + rand.N(pause))
	if q.failures != nil {
		q.failures.WithLabelValues(p.Key.Name()).Inc()
	}
	text := err.Error()
	if refusal == nil {
		if text != p.problem {
			q.c.Log.Warn("a witness does not sign", "witness", p.Key.Name(), "url", p.URL, "error", text)
		}
		p.problem = text
		return
	}
	if p.told == refusal.kind() || time.Since(p.toldAt) < sparing {
		return
	}
	q.c.Log.Error("a witness refuses to sign", "witness", p.Key.Name(), "url", p.URL, "error", text)
	if tell != nil {
		if err := tell(ctx, refusal); err != nil {
			q.c.Log.Error("a witness's refusal could not be recorded yet", "witness", p.Key.Name(), "error", err)
			return
		}
	}
	p.told, p.toldAt = refusal.kind(), time.Now()
}

// sparing is how long nothing more is told of a witness that refuses, signs and
// refuses again, which would fill the ledger.
const sparing = time.Minute

// kind tells occasions apart: a witness that holds more, and one that holds
// something else.
func (r *Refusal) kind() string {
	if r.Held > r.Size {
		return "more"
	}
	return "other"
}

// publish makes the target, which enough have signed, durable, and then known.
func (q *Quorum) publish() {
	c := *q.target
	c.Note = slices.Clone(c.Note)
	for _, p := range q.peers {
		c.Note = append(c.Note, q.lines[p]...)
	}
	if err := seglog.WriteFile(q.c.FS, q.c.File, c.Note); err != nil {
		q.unsaved, q.retry = true, time.Now().Add(time.Second)
		q.c.Log.Error("could not keep the cosigned checkpoint", "file", q.c.File, "error", err)
		return
	}
	q.unsaved = false
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cosigned = &c
}
