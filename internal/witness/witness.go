package witness

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// Names in a witness's directory.
const (
	keyFile  = "witness.key"
	vkeyFile = "witness.vkey"
	logsDir  = "logs" // a file for each log: the newest checkpoint signed
	lockFile = "lock"
)

// Options of a Witness. Logs is required.
type Options struct {
	// Name of a new witness, for ever; a URL without scheme that is yours is
	// best. Empty means one made up at random, or that of the key there is.
	Name string
	// Logs are the keys of the logs that it witnesses. A key's name is the
	// log's origin; one log may have several.
	Logs []note.Verifier
	// FS is the file system that signed checkpoints are kept on; nil means the
	// machine's.
	FS seglog.FS
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// A Witness remembers the newest checkpoint of each of its logs and cosigns
// what extends it. It implements http.Handler.
type Witness struct {
	fs       seglog.FS
	key      *cosign.Cosigner
	logs     map[string]*witnessed
	lock     *os.File
	slots    chan struct{} // one for each request that is being answered
	log      *slog.Logger
	mux      *http.ServeMux
	requests *prometheus.CounterVec
}

// maxRequests bounds the requests that are answered at a time, and so the
// memory of their bodies. Each has ten seconds to come in.
const maxRequests = 512

// A witnessed log is one that is known.
type witnessed struct {
	keys []note.Verifier
	path string

	mu     sync.Mutex        // one request at a time
	newest *trail.Checkpoint // that was signed; nil for none
}

// Open opens the witness in dir, and makes it and its key if need be. What it
// remembers must be readable and bear its own signature: a witness that has
// forgotten what it signed must not sign. That one log's file was taken away
// whole, or replaced by an older one, it cannot tell.
func Open(dir string, o Options) (*Witness, error) {
	w := &Witness{fs: o.FS, logs: map[string]*witnessed{}, slots: make(chan struct{}, maxRequests), log: o.Log, mux: http.NewServeMux()}
	if w.fs == nil {
		w.fs = seglog.OS{}
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if err := w.open(dir, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open witness in %s: %w", dir, err), w.Close())
	}
	reg := prometheus.NewRegistry()
	w.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "graven_witness_answers_total", Help: "Answers to add-checkpoint by status."}, []string{"status"})
	reg.MustRegister(w.requests)
	for origin, l := range w.logs {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "graven_witness_log_size", Help: "Entries of the newest checkpoint signed, by log.",
			ConstLabels: prometheus.Labels{"origin": origin}}, func() float64 { return float64(l.size()) }))
	}
	w.mux.HandleFunc("POST "+path, w.addCheckpoint)
	w.mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "ok\n") })
	w.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return w, nil
}

func (w *Witness) open(dir string, o Options) error {
	if len(o.Logs) == 0 {
		return errors.New("no log is given to witness")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if w.lock, err = seglog.Lock(filepath.Join(dir, lockFile)); err != nil {
		return err
	}
	if w.key, err = openKey(dir, o); err != nil {
		return err
	}
	for _, v := range o.Logs {
		l := w.logs[v.Name()]
		if l == nil {
			sum := sha256.Sum256([]byte(v.Name()))
			l = &witnessed{path: filepath.Join(dir, logsDir, hex.EncodeToString(sum[:16])+".checkpoint")}
			if l.newest, err = w.remembered(l.path, v.Name()); err != nil {
				return err
			}
			w.logs[v.Name()] = l
		}
		if !slices.ContainsFunc(l.keys, func(k note.Verifier) bool { return trail.KeyID(k) == trail.KeyID(v) }) {
			l.keys = append(l.keys, v)
		}
	}
	return nil
}

// openKey loads the witness's key, or makes it where nothing was signed yet.
// The directory of what was signed is older than the key.
func openKey(dir string, o Options) (*cosign.Cosigner, error) {
	path, logs := filepath.Join(dir, keyFile), filepath.Join(dir, logsDir)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := makeKey(dir, o.Name); err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it, and if others may have read it, take a new key", path, mode)
	}
	if _, err := os.Stat(logs); err != nil {
		return nil, fmt.Errorf("what this key has signed is gone: bring back %s, or begin anew in another directory, with another key: %w", logs, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := cosign.NewCosigner(strings.TrimSpace(string(text)), o.Now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if o.Name != "" && o.Name != key.Name() {
		return nil, fmt.Errorf("this witness is called %s, and a witness keeps its name", key.Name())
	}
	return key, nil
}

func makeKey(dir, name string) error {
	states, err := os.ReadDir(filepath.Join(dir, logsDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(states) > 0 {
		return fmt.Errorf("%s holds what a witness has signed, but not its key: bring back %s", dir, keyFile)
	}
	if name == "" {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		name = "graven.local/witness/" + hex.EncodeToString(b[:])
	}
	text, err := cosign.GenerateKey(rand.Reader, name)
	if err != nil {
		return err
	}
	key, err := cosign.NewCosigner(text, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, logsDir), 0o700); err != nil {
		return err
	}
	if err := seglog.WriteFile(seglog.OS{}, filepath.Join(dir, vkeyFile), []byte(key.Witness.String()+"\n")); err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, filepath.Join(dir, keyFile), []byte(text+"\n"))
}

// remembered reads the newest checkpoint of a log that was signed, or nil.
func (w *Witness) remembered(path, origin string) (*trail.Checkpoint, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	by, err := w.policy().Cosigned(text)
	if err == nil && len(by) == 0 {
		err = errors.New("it does not bear this witness's signature")
	}
	c, readErr := trail.ReadCheckpoint(text)
	if err = errors.Join(err, readErr); err == nil && c.Origin != origin {
		err = fmt.Errorf("it is of %s", c.Origin)
	}
	if err != nil {
		return nil, fmt.Errorf("%s does not hold what was signed for %s, and without it nothing can be signed: bring it back, or begin anew in another directory, with another key: %w", path, origin, err)
	}
	return c, nil
}

// policy asks for the witness's own signature.
func (w *Witness) policy() cosign.Policy {
	return cosign.Policy{Witnesses: []*cosign.Witness{w.key.Witness}, Need: 1}
}

// Key returns the witness's public key.
func (w *Witness) Key() *cosign.Witness { return w.key.Witness }

// Close lets another process have the directory.
func (w *Witness) Close() error {
	if w.lock == nil {
		return nil
	}
	return w.lock.Close()
}

// Serve answers requests until ctx ends.
func (w *Witness) Serve(ctx context.Context, l net.Listener) error {
	s := &http.Server{Handler: w, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelWarn)}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(stop); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
		w.mux.ServeHTTP(rw, r)
	default:
		rw.Header().Set("Retry-After", "1")
		http.Error(rw, "too many requests at a time", http.StatusServiceUnavailable)
	}
}

// A refused request is answered with a status of the protocol.
type refused struct {
	status int
	reason string
	size   int64 // that is remembered, for a conflict
}

func (r *refused) Error() string { return r.reason }

func refuse(status int, format string, args ...any) error {
	return &refused{status: status, reason: fmt.Sprintf(format, args...)}
}

// addCheckpoint answers POST /add-checkpoint.
func (w *Witness) addCheckpoint(rw http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	line, err := w.cosign(rw, r)
	var no *refused
	switch {
	case err == nil:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		rw.Write(line)
	case errors.As(err, &no) && no.status == http.StatusConflict:
		status = no.status
		rw.Header().Set("Content-Type", sizeType)
		rw.WriteHeader(status)
		fmt.Fprintf(rw, "%d\n", no.size)
	case errors.As(err, &no):
		status = no.status
		http.Error(rw, no.reason, status)
	default:
		status = http.StatusInternalServerError
		w.log.Error("could not sign", "error", err)
		http.Error(rw, "the witness cannot sign at present", status)
	}
	w.requests.WithLabelValues(strconv.Itoa(status)).Inc()
}

// cosign takes a request and returns the signature line, or why there is none.
func (w *Witness) cosign(rw http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the request has more than %d bytes", maxBody)
	} else if err != nil {
		return nil, refuse(http.StatusBadRequest, "the request could not be read: %v", err)
	}
	q, err := parseRequest(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	c, err := trail.ReadCheckpoint(q.note)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	l := w.logs[c.Origin]
	if l == nil {
		return nil, refuse(http.StatusNotFound, "this witness does not know the log %.200q", c.Origin)
	}
	if _, err := trail.OpenCheckpoint(q.note, l.keys...); err != nil {
		return nil, refuse(http.StatusForbidden, "no key known of this log signs the checkpoint: %v", err)
	}
	if q.old > c.Size {
		return nil, refuse(http.StatusBadRequest, "the old size, %d, is greater than the checkpoint's, %d", q.old, c.Size)
	}
	return l.cosign(w, q, c)
}

// cosign signs a checkpoint that a key of the log's has signed, if it extends
// the newest one, and remembers it before the signature is given away.
func (l *witnessed) cosign(w *Witness, q *request, c *trail.Checkpoint) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := trail.Checkpoint{Root: (&trail.Tree{}).Root()}
	if l.newest != nil {
		old = *l.newest
	}
	if err := extends(q, c, &old); err != nil {
		if q.old == old.Size { // else it only asks what is remembered
			w.log.Warn("refused", "log", c.Origin, "size", c.Size, "remembered", old.Size, "reason", err, "checkpoint", string(q.note))
		}
		return nil, err
	}
	n, err := note.Open(q.note, note.VerifierList(l.keys...))
	if err != nil {
		return nil, err
	}
	alone, err := note.Sign(&note.Note{Text: n.Text}, w.key)
	if err != nil {
		return nil, err
	}
	line := alone[len(n.Text)+1:]
	if l.newest != nil && c.Size == old.Size {
		return line, nil // it says nothing that is not remembered
	}
	signed := *c
	signed.Note = append(withSignatures(n), line...)
	if err := seglog.WriteFile(w.fs, l.path, signed.Note); err != nil {
		return nil, fmt.Errorf("remember what is signed: %w", err)
	}
	l.newest = &signed
	return line, nil
}

// withSignatures returns a note with those of its signatures that are verified.
func withSignatures(n *note.Note) []byte {
	signed := []byte(n.Text + "\n")
	for _, s := range n.Sigs {
		signed = fmt.Appendf(signed, "— %s %s\n", s.Name, s.Base64)
	}
	return signed
}

// extends reports why c may not be signed after old.
func extends(q *request, c, old *trail.Checkpoint) error {
	switch {
	case q.old != old.Size:
		return &refused{http.StatusConflict, fmt.Sprintf("the old size is %d", q.old), old.Size}
	case c.Size == old.Size && c.Root != old.Root && old.Size > 0:
		return &refused{http.StatusConflict, "another root was signed at this size", old.Size}
	case c.Size == 0 && c.Root != old.Root:
		return refuse(http.StatusUnprocessableEntity, "this is not the root of an empty log")
	case q.old == 0 && len(q.proof) > 0:
		return refuse(http.StatusUnprocessableEntity, "what extends nothing needs no proof")
	case q.old == 0:
		return nil
	}
	if err := tlog.CheckTree(q.proof, c.Size, c.Root, old.Size, old.Root); err != nil {
		return refuse(http.StatusUnprocessableEntity, "the proof does not show that the log extends the %d entries signed before: %v", old.Size, err)
	}
	return nil
}

func (l *witnessed) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newest == nil {
		return 0
	}
	return l.newest.Size
}
