package witness_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/witness"
	"github.com/graven-audit/graven/trail"
)

// A peer is a witness that serves, and may be told to do something else.
type peer struct {
	*witness.Witness
	server     *httptest.Server
	mu         sync.Mutex
	instead    func(http.ResponseWriter, *http.Request)
	now        func(http.ResponseWriter, *http.Request) // before it answers
	busy, most atomic.Int32
	asked      atomic.Int32
}

func newPeer(t testing.TB, l *log) *peer {
	t.Helper()
	p := &peer{Witness: open(t, t.TempDir(), witness.Options{Logs: []note.Verifier{l.verifier}})}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		n := p.busy.Add(1)
		for most := p.most.Load(); n > most && !p.most.CompareAndSwap(most, n); most = p.most.Load() {
		}
		defer p.busy.Add(-1)
		p.mu.Lock()
		now, instead := p.now, p.instead
		p.mu.Unlock()
		if now != nil {
			now(w, r)
		}
		if instead != nil {
			instead(w, r)
			return
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	return p
}

// do has a witness do something instead of what it should; nil ends that.
func (p *peer) do(instead func(http.ResponseWriter, *http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = instead
}

func (p *peer) peer() witness.Peer { return witness.Peer{URL: p.server.URL, Key: p.Key()} }

func unavailable(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 503) }

// A notingFS tells when a file has been replaced.
type notingFS struct {
	seglog.OS
	mu       sync.Mutex
	fail     error
	replaced chan struct{}
}

func (f *notingFS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	err := f.OS.Rename(from, to)
	select {
	case f.replaced <- struct{}{}:
	default:
	}
	return err
}

// A bench is a quorum and what it is about.
type bench struct {
	*witness.Quorum
	t     *testing.T
	log   *log
	fs    *notingFS
	c     witness.Config
	lines *lines

	mu      sync.Mutex
	newest  *trail.Checkpoint
	changed chan struct{}
	told    chan *witness.Refusal
	tellErr error
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newBench(t *testing.T, l *log, need int, peers ...witness.Peer) *bench {
	t.Helper()
	b := &bench{t: t, log: l, fs: &notingFS{replaced: make(chan struct{}, 1)}, lines: &lines{}, told: make(chan *witness.Refusal, 100), changed: make(chan struct{})}
	b.c = witness.Config{Peers: peers, Need: need, Interval: time.Millisecond, Ledger: l.verifier, Tree: l,
		File: filepath.Join(t.TempDir(), cosign.File), FS: b.fs, Log: slog.New(slog.NewTextHandler(b.lines, nil)),
		Metrics: prometheus.NewRegistry(), Refused: func(_ context.Context, r *witness.Refusal) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.told <- r
			return b.tellErr
		}}
	b.renew()
	return b
}

// renew makes the quorum anew, as a start does.
func (b *bench) renew() {
	b.t.Helper()
	b.c.Metrics = prometheus.NewRegistry()
	q, err := witness.New(b.c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Quorum = q
}

// publish makes the log's state at a size the newest.
func (b *bench) publish(size int64) {
	c := b.log.checkpoint(size)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.newest = c
	close(b.changed)
	b.changed = make(chan struct{})
}

// run runs the quorum until the end of the test, or until stop is called.
func (b *bench) run() (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx, func() (*trail.Checkpoint, <-chan struct{}) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.newest, b.changed
		})
	}()
	stop = func() { cancel(); <-done }
	b.t.Cleanup(stop)
	return stop
}

// until waits until the cosigned checkpoint is as wanted.
func (b *bench) until(wanted func(*trail.Checkpoint) bool) *trail.Checkpoint {
	b.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		if c := b.Cosigned(); c != nil && wanted(c) {
			return c
		}
		select {
		case <-b.fs.replaced:
		case <-time.After(10 * time.Millisecond): // the file is replaced before it is known
		case <-timeout:
			b.t.Fatalf("cosigned is %+v\n%s", b.Cosigned(), b.lines)
		}
	}
}

// by returns how many of the quorum's witnesses have signed a checkpoint.
func (b *bench) by(c *trail.Checkpoint) int {
	b.t.Helper()
	p := cosign.Policy{Need: 1}
	for _, peer := range b.c.Peers {
		p.Witnesses = append(p.Witnesses, peer.Key)
	}
	by, err := p.Cosigned(c.Note)
	if err != nil {
		b.t.Error(err)
	}
	if _, err := trail.OpenCheckpoint(c.Note, b.log.verifier); err != nil {
		b.t.Error(err)
	}
	return len(by)
}

func TestEnoughWitnessesMakeACheckpointCosigned(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(600, "")
	one, two, three := newPeer(t, l), newPeer(t, l), newPeer(t, l)
	three.do(unavailable)
	b := newBench(t, l, 2, one.peer(), two.peer(), three.peer())
	b.publish(3)
	if err := b.Check(t.Context(), l.checkpoint(3)); err != nil {
		t.Fatal(err)
	}
	if c := b.Cosigned(); c == nil || c.Size != 3 || b.by(c) != 2 {
		t.Fatalf("after the start: %+v", c)
	}
	stop := b.run()
	for size := int64(4); size <= 600; size += 7 {
		b.publish(size)
	}
	b.publish(600)
	c := b.until(func(c *trail.Checkpoint) bool { return c.Size == 600 })
	if b.by(c) != 2 {
		t.Errorf("by %d", b.by(c))
	}
	// The third is asked again once it answers, though the ledger is quiet.
	three.do(nil)
	b.until(func(c *trail.Checkpoint) bool { return c.Size == 600 && b.by(c) == 3 })
	stop()
	for i, p := range []*peer{one, two, three} {
		if p.most.Load() > 1 {
			t.Errorf("witness %d had %d requests at a time", i, p.most.Load())
		}
	}
	text, err := os.ReadFile(b.c.File)
	if err != nil || string(text) != string(b.Cosigned().Note) {
		t.Errorf("the file has %s, %v", text, err)
	}
	// The next start knows it, whoever answers.
	for _, p := range []*peer{one, two, three} {
		p.server.Close()
	}
	b.renew()
	if err := b.Check(t.Context(), l.checkpoint(600)); err != nil || b.Cosigned() == nil || b.Cosigned().Size != 600 {
		t.Errorf("%+v, %v", b.Cosigned(), err)
	}
	if len(b.told) > 0 || len(b.Refusing()) > 0 {
		t.Errorf("refusals: %v", b.Refusing())
	}
}

func TestRoundsAreNotMoreOftenThanTheInterval(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(200, "")
	one := newPeer(t, l)
	b := newBench(t, l, 1, one.peer())
	b.c.Interval = time.Hour
	b.renew()
	b.publish(1)
	b.run()
	b.until(func(c *trail.Checkpoint) bool { return c.Size == 1 })
	asked := one.asked.Load()
	for size := int64(2); size <= 200; size++ {
		b.publish(size)
	}
	if c := b.Cosigned(); c.Size != 1 || one.asked.Load() != asked {
		t.Errorf("asked %d times, signed %d", one.asked.Load(), c.Size)
	}
}

// TestALedgerThatTurnedBackDoesNotStart asks witnesses before anything is
// signed.
func TestALedgerThatTurnedBackDoesNotStart(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(50, "")
	fork := l.fork(10)
	fork.grow(80, "fork")
	for _, tt := range []struct {
		name   string
		log    *log
		size   int64
		wanted string // "" for a good start
	}{
		{"where it was left", l, 20, ""},
		{"further on", l, 50, ""},
		{"an older copy", l, 19, "it holds 20 entries"},
		{"the first entry", l, 1, "it holds 20 entries"},
		{"a fork of the same size", fork, 20, "another root"},
		{"a fork that is longer", fork, 80, "the 20 that it holds are not the first"},
		{"a fork that is shorter", fork, 15, "it holds 20 entries"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			one, two := newPeer(t, l), newPeer(t, l)
			if rec := call(one, l.body(0, 20)); rec.Code != 200 {
				t.Fatal(rec.Body)
			}
			two.do(unavailable)
			b := newBench(t, tt.log, 1, two.peer(), one.peer())
			err := b.Check(t.Context(), tt.log.checkpoint(tt.size))
			switch {
			case tt.wanted == "" && err != nil:
				t.Error(err)
			case tt.wanted != "" && (!errors.Is(err, witness.ErrForked) || !strings.Contains(err.Error(), tt.wanted) ||
				!strings.Contains(err.Error(), one.Key().Name()) || !strings.Contains(err.Error(), one.server.URL)):
				t.Errorf("%v, want %q", err, tt.wanted)
			}
			if !strings.Contains(b.lines.String(), "503") {
				t.Errorf("that a witness does not answer is not logged: %s", b.lines)
			}
		})
	}
}

func TestALedgerStartsOnlyBehindWhatWasCosigned(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(50, "")
	fork := l.fork(10)
	fork.grow(80, "fork")
	one := newPeer(t, l)
	b := newBench(t, l, 1, one.peer())
	b.publish(20)
	b.run()
	c := b.until(func(c *trail.Checkpoint) bool { return c.Size == 20 })
	changed := bytes.Replace(c.Note, []byte("\n20\n"), []byte("\n10\n"), 1)
	cut := c.Note[:len(c.Note)/2]
	strangers := newLog(t)
	strangers.grow(50, "")
	for _, tt := range []struct {
		name   string
		log    *log
		size   int64
		text   []byte
		peers  []witness.Peer
		wanted string
		signed int64 // that counts as cosigned after a good start
	}{
		{"good", l, 20, c.Note, b.c.Peers, "", 20},
		{"further on", l, 50, c.Note, b.c.Peers, "", 20},
		{"other witnesses than before", l, 50, c.Note, []witness.Peer{newPeer(t, l).peer()}, "", 0},
		{"no witnesses any more", l, 50, c.Note, nil, "", 0},
		{"never cosigned", l, 20, nil, nil, "", 0},
		{"older than it", l, 19, c.Note, nil, "cosigned 20 entries", 0},
		{"nothing at all", l, 0, c.Note, nil, "cosigned 20 entries", 0},
		{"a fork", fork, 80, c.Note, nil, "are not the first here", 0},
		{"another ledger's", strangers, 50, c.Note, nil, "is damaged, or of another ledger", 0},
		{"changed", l, 20, changed, nil, "is damaged, or of another ledger", 0},
		{"cut off", l, 20, cut, nil, "is damaged, or of another ledger", 0},
		{"empty", l, 20, []byte{}, nil, "is damaged, or of another ledger", 0},
	} {
		b := newBench(t, tt.log, 0, tt.peers...)
		for i := range b.c.Peers {
			b.c.Peers[i].URL = "http://127.0.0.1:1"
		}
		b.renew()
		if tt.text != nil {
			if err := os.WriteFile(b.c.File, tt.text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var head *trail.Checkpoint
		if tt.size > 0 {
			head = tt.log.checkpoint(tt.size)
		}
		err := b.Check(t.Context(), head)
		if tt.wanted != "" && (!errors.Is(err, witness.ErrForked) || !strings.Contains(err.Error(), tt.wanted)) || tt.wanted == "" && err != nil {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.wanted)
		}
		if got := b.Cosigned(); err == nil && (tt.signed == 0) != (got == nil) {
			t.Errorf("%s: %+v counts as cosigned", tt.name, got)
		}
	}
	b.c.File = t.TempDir()
	b.renew()
	if err := b.Check(t.Context(), l.checkpoint(20)); err == nil {
		t.Error("a file that cannot be read is passed over")
	}
}

// TestARefusalIsToldOncePerOccasion has a witness see a fork while a ledger
// runs.
func TestARefusalIsToldOncePerOccasion(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(50, "")
	fork := l.fork(10)
	fork.grow(100, "fork")
	one, two := newPeer(t, l), newPeer(t, l)
	b := newBench(t, l, 1, one.peer(), two.peer())
	b.publish(10)
	b.run()
	b.until(func(c *trail.Checkpoint) bool { return c.Size == 10 && b.by(c) == 2 })
	b.mu.Lock()
	b.tellErr = errors.New("the ledger is busy")
	b.mu.Unlock()
	if rec := call(one, fork.body(10, 100)); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	b.publish(20)
	for range 3 { // as long as it could not be recorded it is told again
		if r := <-b.told; r.Witness != one.Key().Name() || r.Size != 20 || r.Held != 100 {
			t.Errorf("%+v", r)
		}
	}
	b.mu.Lock()
	b.tellErr = nil
	b.mu.Unlock()
	<-b.told
	before := one.asked.Load()
	for one.asked.Load() < before+4 { // it is asked again, and refuses again
		b.publish(21 + int64(one.asked.Load()-before))
		b.until(func(c *trail.Checkpoint) bool { return c.Size > 20 })
	}
	for len(b.told) > 0 { // one may have been on its way when the error ended
		if r := <-b.told; len(b.told) > 0 {
			t.Errorf("told again: %+v", r)
		}
	}
	if names := b.Refusing(); len(names) != 1 || names[0] != one.Key().Name() {
		t.Errorf("refusing: %q", names)
	}
	metrics, err := b.c.Metrics.(*prometheus.Registry).Gather()
	if err != nil || !strings.Contains(fmt.Sprint(metrics), one.Key().Name()) {
		t.Errorf("%v, %v", metrics, err)
	}
	if strings.Count(b.lines.String(), "refuses to sign") < 1 {
		t.Error(b.lines)
	}
}

// TestAWitnessThatCannotDecideIsToldOfSparingly has one refuse every other
// checkpoint.
func TestAWitnessThatCannotDecideIsToldOfSparingly(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(5000, "")
	one, two := newPeer(t, l), newPeer(t, l)
	b := newBench(t, l, 1, one.peer(), two.peer())
	var turn atomic.Int32
	var refused atomic.Int32
	one.do(func(w http.ResponseWriter, r *http.Request) {
		if turn.Add(1)%2 == 0 {
			one.ServeHTTP(w, r)
			return
		}
		refused.Add(1)
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		w.Write([]byte("1000\n"))
	})
	b.publish(1)
	b.run()
	for size := int64(2); refused.Load() < 4 && size < 5000; size++ {
		b.publish(size)
		b.until(func(c *trail.Checkpoint) bool { return c.Size == size })
	}
	if len(b.told) != 1 || refused.Load() < 4 {
		t.Errorf("refused %d times, told of %d", refused.Load(), len(b.told))
	}
}

// TestANewerCheckpointOfOursIsNoRefusal has somebody else show a checkpoint to
// a witness before the ledger does.
func TestANewerCheckpointOfOursIsNoRefusal(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(50, "")
	one := newPeer(t, l)
	b := newBench(t, l, 1, one.peer())
	var once sync.Once
	one.now = func(http.ResponseWriter, *http.Request) {
		once.Do(func() {
			b.publish(30)
			if rec := call(one, l.body(0, 30)); rec.Code != 200 {
				t.Error(rec.Body)
			}
		})
	}
	b.publish(20)
	b.run()
	b.until(func(c *trail.Checkpoint) bool { return c.Size == 30 })
	if len(b.told) > 0 || len(b.Refusing()) > 0 {
		t.Errorf("%d refusals", len(b.told))
	}
}

func TestWhatIsNotDurableIsNotCosigned(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(50, "")
	b := newBench(t, l, 1, newPeer(t, l).peer())
	b.fs.fail = errors.New("the disk is full")
	b.publish(5)
	if err := b.Check(t.Context(), l.checkpoint(5)); err != nil {
		t.Fatal(err)
	}
	if b.Cosigned() != nil || !strings.Contains(b.lines.String(), "the disk is full") {
		t.Errorf("%+v: %s", b.Cosigned(), b.lines)
	}
	b.run()
	b.fs.mu.Lock()
	b.fs.fail = nil
	b.fs.mu.Unlock()
	b.until(func(c *trail.Checkpoint) bool { return c.Size == 5 }) // it is tried again
}

// TestWhatIsShownNeverShrinks: until witnesses sign, everybody sees the same.
func TestWhatIsShownNeverShrinks(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(50, "")
	one := newPeer(t, l)
	b := newBench(t, l, 1, one.peer())
	for _, size := range []int64{20, 30} {
		if c := b.Shown(l.checkpoint(size)); c.Size != 20 {
			t.Errorf("of %d, %d are shown", size, c.Size)
		}
	}
	b.publish(15)
	b.run()
	b.until(func(c *trail.Checkpoint) bool { return c.Size == 15 })
	if c := b.Shown(l.checkpoint(40)); c.Size != 20 {
		t.Errorf("%d are shown", c.Size)
	}
	b.publish(25)
	b.until(func(c *trail.Checkpoint) bool { return c.Size == 25 })
	if c := b.Shown(l.checkpoint(40)); c.Size != 25 || b.by(c) != 1 {
		t.Errorf("%d are shown", c.Size)
	}
	alone := newBench(t, l, 0)
	if c := alone.Shown(l.checkpoint(40)); c.Size != 40 {
		t.Errorf("without witnesses, %d are shown", c.Size)
	}
}

// TestOddAnswersStopNothing has a witness answer what no witness should.
func TestOddAnswersStopNothing(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(20, "")
	other := newPeer(t, l)
	key, err := cosign.GenerateKey(rand.Reader, "x")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := cosign.NewCosigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := note.Sign(&note.Note{Text: l.checkpoint(20).Text()}, stranger)
	if err != nil {
		t.Fatal(err)
	}
	conflict := func(kind, text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(http.StatusConflict)
			w.Write([]byte(text))
		}
	}
	turn := 0
	for name, tt := range map[string]struct {
		do   func(http.ResponseWriter, *http.Request)
		want string
	}{
		"nothing":             {func(http.ResponseWriter, *http.Request) {}, "signature"},
		"noise":               {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("\x00\xff\n")) }, "signature"},
		"another's signature": {func(w http.ResponseWriter, _ *http.Request) { w.Write(foreign[len(l.checkpoint(20).Text())+1:]) }, "signature"},
		"without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Write(bytes.Repeat([]byte("— x AAAA\n"), 10000))
		}, "more than"},
		"a redirection":          {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.server.URL, 307) }, "307"},
		"unknown":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "public key"},
		"another key":            {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, "public key"},
		"a conflict, untyped":    {conflict("text/plain", "3\n"), "of type"},
		"a conflict, no size":    {conflict("text/x.tlog.size", "many\n"), "does not tell"},
		"a conflict, negative":   {conflict("text/x.tlog.size", "-3\n"), "does not tell"},
		"a conflict, of nothing": {conflict("text/x.tlog.size", "0\n"), "does not take a proof"},
		"another conflict each time": {func(w http.ResponseWriter, r *http.Request) {
			turn++
			conflict("text/x.tlog.size", fmt.Sprintf("%d\n", turn))(w, r)
		}, "again and again"},
		"broken off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		p := newPeer(t, l)
		p.do(tt.do)
		b := newBench(t, l, 1, p.peer())
		if err := b.Check(t.Context(), l.checkpoint(20)); err != nil || b.Cosigned() != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(b.lines.String(), tt.want) {
			t.Errorf("%s: %s", name, b.lines)
		}
	}
}

// TestAHungWitnessHoldsNobodyUp has a witness that never answers: the others'
// signatures count, and the end does not wait for it.
func TestAHungWitnessHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(50, "")
	one, two := newPeer(t, l), newPeer(t, l)
	gate := make(chan struct{})
	two.do(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	})
	b := newBench(t, l, 1, two.peer(), one.peer())
	b.c.Timeout = time.Hour
	b.renew()
	b.publish(1)
	stop := b.run()
	for size := int64(1); size <= 50; size++ {
		b.publish(size)
		b.until(func(c *trail.Checkpoint) bool { return c.Size == size })
	}
	if two.asked.Load() != 1 {
		t.Errorf("the hung witness was asked %d times", two.asked.Load())
	}
	stop()
	close(gate)
	if len(b.Refusing()) > 0 {
		t.Error(b.Refusing())
	}
	b.c.Timeout = 40 * time.Millisecond
	b.renew()
	if err := b.Check(t.Context(), l.checkpoint(50)); err != nil {
		t.Error(err)
	}
}

func TestAQuorumThatCannotBeMetIsRefused(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	p := newPeer(t, l).peer()
	for _, c := range []witness.Config{{Peers: []witness.Peer{p}, Need: 2}, {Peers: []witness.Peer{p, p}}, {Need: 1}} {
		if _, err := witness.New(c); err == nil {
			t.Errorf("%+v", c)
		}
	}
}
