package witness_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/witness"
	"github.com/graven-audit/graven/trail"
)

const origin = "ledger.example/prod"

// A log is one in memory. Logs with the same first leaves extend each other.
type log struct {
	t        testing.TB
	signer   note.Signer
	verifier note.Verifier
	mu       sync.Mutex
	hashes   []tlog.Hash
	size     int64
}

// newLog returns an empty log with a new key.
func newLog(t testing.TB) *log {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err1 := note.NewSigner(skey)
	verifier, err2 := note.NewVerifier(vkey)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &log{t: t, signer: signer, verifier: verifier}
}

// fork returns another log under the same name and key, with the same first n
// entries.
func (l *log) fork(n int64) *log {
	f := &log{t: l.t, signer: l.signer, verifier: l.verifier}
	f.grow(n, "")
	return f
}

func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read(indexes)
}

func (l *log) read(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, x := range indexes {
		if x >= int64(len(l.hashes)) {
			return nil, fmt.Errorf("no hash %d", x)
		}
		out = append(out, l.hashes[x])
	}
	return out, nil
}

func (l *log) Wait(ctx context.Context, size int64) error { return ctx.Err() }

// grow adds entries of a kind up to a size.
func (l *log) grow(size int64, kind string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; l.size < size; l.size++ {
		hashes, err := tlog.StoredHashes(l.size, fmt.Append(nil, kind, l.size), tlog.HashReaderFunc(l.read))
		if err != nil {
			l.t.Fatal(err)
		}
		l.hashes = append(l.hashes, hashes...)
	}
}

// checkpoint signs the log's state at a size.
func (l *log) checkpoint(size int64) *trail.Checkpoint {
	l.t.Helper()
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		l.t.Fatal(err)
	}
	if size == 0 {
		root = (&trail.Tree{}).Root()
	}
	c, err := trail.SignCheckpoint(origin, size, root, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// body returns a request's.
func (l *log) body(old, size int64) string {
	l.t.Helper()
	b := fmt.Sprintf("old %d\n", old)
	if 0 < old && old < size {
		proof, err := tlog.ProveTree(size, old, l)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, h := range proof {
			b += h.String() + "\n"
		}
	}
	return b + "\n" + string(l.checkpoint(size).Note)
}

func open(t testing.TB, dir string, o witness.Options) *witness.Witness {
	t.Helper()
	w, err := witness.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// call sends a witness a request and returns the answer.
func call(w http.Handler, body string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(body)))
	return rec
}

func only(w *witness.Witness) cosign.Policy {
	return cosign.Policy{Witnesses: []*cosign.Witness{w.Key()}, Need: 1}
}

func TestAWitnessAnswersAsTheProtocolSays(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(300, "")
	fork := l.fork(100)
	fork.grow(300, "fork")
	stranger := newLog(t)
	stranger.grow(300, "")
	elsewhere := strings.Replace(l.body(0, 5), origin, "ledger.example/other", 1)
	w := open(t, t.TempDir(), witness.Options{Logs: []note.Verifier{l.verifier, l.verifier}})
	long := "old 200\n" + strings.Repeat(tlog.Hash{}.String()+"\n", 64) + "\n"
	for _, tt := range []struct { // the requests build on each other
		name, body string
		status     int
		size       int64 // in the body of a conflict
	}{
		{"an empty log", l.body(0, 0), 200, -1},
		{"the first checkpoint", l.body(0, 120), 200, -1},
		{"the same again", l.body(120, 120), 200, -1},
		{"a client that does not know what is held", l.body(0, 200), 409, 120},
		{"a client that knows too much", l.body(130, 200), 409, 120},
		{"an older one", l.body(0, 100), 409, 120},
		{"the next", l.body(120, 200), 200, -1},
		{"the one before", l.body(120, 120), 409, 200},
		{"a fork of the same size", fork.body(200, 200), 409, 200},
		{"a fork that is longer", fork.body(200, 300), 422, -1},
		{"a longer one without proof", "old 200\n\n" + string(l.checkpoint(300).Note), 422, -1},
		{"a proof that is wrong", strings.Replace(l.body(200, 300), "old 200\n", "old 200\n"+tlog.Hash{}.String()+"\n", 1), 422, -1},
		{"an old size beyond the checkpoint", "old 201\n\n" + string(l.checkpoint(200).Note), 400, -1},
		{"another log", elsewhere, 404, -1},
		{"another key of the log's name", stranger.body(200, 300), 403, -1},
		{"a checkpoint that was changed", strings.Replace(l.body(200, 300), "\n300\n", "\n299\n", 1), 403, -1},
		{"nothing", "", 400, -1},
		{"no old size", "\n" + string(l.checkpoint(300).Note), 400, -1},
		{"a malformed size", strings.Replace(l.body(200, 300), "old 200", "old 0200", 1), 400, -1},
		{"a negative size", strings.Replace(l.body(200, 300), "old 200", "old -1", 1), 400, -1},
		{"a malformed hash", "old 200\nAAAA\n\n" + string(l.checkpoint(300).Note), 400, -1},
		{"too many hashes", long + string(l.checkpoint(300).Note), 400, -1},
		{"a proof without an end", "old 200\n" + tlog.Hash{}.String(), 400, -1},
		{"no checkpoint", "old 200\n\n", 400, -1},
		{"a checkpoint without signature", "old 200\n\n" + l.checkpoint(300).Text(), 400, -1},
		{"a body without bounds", l.body(200, 300) + strings.Repeat("x", 1<<20), 413, -1},
		{"and after all that, the next", l.body(200, 300), 200, -1},
	} {
		rec := call(w, tt.body)
		if rec.Code != tt.status {
			t.Errorf("%s: status %d, want %d: %s", tt.name, rec.Code, tt.status, rec.Body)
			continue
		}
		switch tt.status {
		case 200:
			_, checkpoint, _ := strings.Cut(tt.body, "\n\n")
			if by, err := only(w).Cosigned([]byte(checkpoint + rec.Body.String())); err != nil || len(by) != 1 {
				t.Errorf("%s: %v, %v: %s", tt.name, by, err, rec.Body)
			}
		case 409:
			if rec.Body.String() != fmt.Sprintf("%d\n", tt.size) || rec.Header().Get("Content-Type") != "text/x.tlog.size" {
				t.Errorf("%s: %q of type %q, want %d", tt.name, rec.Body, rec.Header().Get("Content-Type"), tt.size)
			}
		default:
			if rec.Body.Len() == 0 || strings.Contains(rec.Body.String(), "— ") {
				t.Errorf("%s: no reason: %q", tt.name, rec.Body)
			}
		}
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/metrics": `graven_witness_log_size{origin="` + origin + `"} 300`, "/nowhere": "404"} {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s: %s", path, rec.Body)
		}
	}
	rec := httptest.NewRecorder()
	if w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/add-checkpoint", nil)); rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", rec.Code)
	}
}

func TestALogsNoteMayHaveFurtherLines(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(10, "")
	w := open(t, t.TempDir(), witness.Options{Logs: []note.Verifier{l.verifier}})
	signed, err := note.Sign(&note.Note{Text: l.checkpoint(10).Text() + "an extension\n"}, l.signer)
	if err != nil {
		t.Fatal(err)
	}
	rec := call(w, "old 0\n\n"+string(signed))
	if by, err := only(w).Cosigned(append(signed, rec.Body.Bytes()...)); rec.Code != 200 || err != nil || len(by) != 1 {
		t.Errorf("%d: %v %v", rec.Code, by, err)
	}
}

// TestOthersReadAndWriteTheSameCosignatures holds cosignatures against another
// implementation, in both directions.
func TestOthersReadAndWriteTheSameCosignatures(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(10, "")
	w := open(t, t.TempDir(), witness.Options{Name: "witness.example/w1", Logs: []note.Verifier{l.verifier}})
	theirs, err := formats.NewVerifierForCosignatureV1(w.Key().String())
	if err != nil {
		t.Fatal(err)
	}
	rec := call(w, l.body(0, 10))
	n, err := note.Open(append(l.checkpoint(10).Note, rec.Body.Bytes()...), note.VerifierList(l.verifier, theirs))
	if err != nil || len(n.Sigs) != 2 || n.Sigs[1].Name != "witness.example/w1" {
		t.Fatalf("%+v, %v", n, err)
	}
	at, err := formats.CoSigV1Timestamp(n.Sigs[1])
	if d := time.Since(at); err != nil || d < -time.Second || d > time.Minute {
		t.Errorf("signed at %s, %v", at, err)
	}

	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example/w2")
	if err != nil {
		t.Fatal(err)
	}
	signer, err1 := formats.NewSignerForCosignatureV1(skey)
	text, err2 := formats.VKeyToCosignatureV1(vkey)
	key, err3 := cosign.ParseWitness(text)
	signed, err4 := note.Sign(&note.Note{Text: l.checkpoint(10).Text()}, signer)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if by, err := (cosign.Policy{Witnesses: []*cosign.Witness{key}, Need: 1}).Cosigned(signed); err != nil || len(by) != 1 {
		t.Errorf("%v, %v", by, err)
	}
}

// TestConcurrentRequestsNeverSignAFork sends a witness two histories at once,
// in many sizes: all that it signs must be of one of them.
func TestConcurrentRequestsNeverSignAFork(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(10, "")
	fork := l.fork(10)
	l.grow(60, "")
	fork.grow(60, "fork")
	w := open(t, t.TempDir(), witness.Options{Logs: []note.Verifier{l.verifier}})
	if rec := call(w, l.body(0, 10)); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	var ours, theirs atomic.Int64
	var wg sync.WaitGroup
	for i := range int64(8) {
		history, signed := l, &ours
		if i%2 == 1 {
			history, signed = fork, &theirs
		}
		wg.Go(func() {
			held := int64(10)
			for size := 11 + i/2; size <= 60; size += 3 {
				for range 8 {
					rec := call(w, history.body(held, max(size, held)))
					if rec.Code == 200 && size > held {
						signed.Add(1)
					}
					if rec.Code != 409 {
						break
					}
					if _, err := fmt.Sscan(rec.Body.String(), &held); err != nil {
						t.Error(err)
					}
					if held > size {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if ours.Load() > 0 == (theirs.Load() > 0) {
		t.Errorf("signed %d of one history and %d of the other", ours.Load(), theirs.Load())
	}
}

// A faultFS breaks one act of writing, done or not.
type faultFS struct {
	seglog.OS
	acts  int // so far
	at    int // the act that fails; -1 for none
	after bool
}

var errFault = errors.New("the disk fails")

func (f *faultFS) act(do func() error) error {
	f.acts++
	if f.acts-1 != f.at {
		return do()
	}
	if f.after {
		return errors.Join(do(), errFault)
	}
	return errFault
}

func (f *faultFS) Open(name string, flag int) (file seglog.File, err error) {
	err = f.act(func() (err error) { file, err = f.OS.Open(name, flag); return err })
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, err
	}
	return &faultFile{file, f}, nil
}

func (f *faultFS) Rename(from, to string) error {
	return f.act(func() error { return f.OS.Rename(from, to) })
}
func (f *faultFS) Remove(name string) error { return f.act(func() error { return f.OS.Remove(name) }) }
func (f *faultFS) SyncDir(dir string) error { return f.act(func() error { return f.OS.SyncDir(dir) }) }

type faultFile struct {
	seglog.File
	fs *faultFS
}

func (f *faultFile) WriteAt(data []byte, at int64) (n int, err error) {
	err = f.fs.act(func() error { n, err = f.File.WriteAt(data[:len(data)/2], at); return err })
	if err == nil {
		n, err = f.File.WriteAt(data, at)
	}
	return n, err
}
func (f *faultFile) Sync() error { return f.fs.act(f.File.Sync) }

// TestNothingIsSignedThatIsNotRemembered breaks each act of remembering a
// checkpoint, done or not, and starts the witness anew after it, as after a
// crash: what was signed before is there, and a fork of it finds no signature.
func TestNothingIsSignedThatIsNotRemembered(t *testing.T) {
	t.Parallel()
	for act := 0; ; act++ {
		broken := 0
		for _, after := range []bool{false, true} {
			l := newLog(t)
			l.grow(20, "")
			fork := l.fork(5)
			fork.grow(30, "fork")
			dir, fs := t.TempDir(), &faultFS{at: -1}
			o := witness.Options{Logs: []note.Verifier{l.verifier}, FS: fs}
			w, err := witness.Open(dir, o)
			if err != nil {
				t.Fatal(err)
			}
			if rec := call(w, l.body(0, 10)); rec.Code != 200 {
				t.Fatal(rec.Body)
			}
			fs.at, fs.after, fs.acts = act, after, 0
			rec := call(w, l.body(10, 20))
			want, signed := 200, rec.Code == 200
			if fs.acts > act {
				broken++
				want = 500
			}
			if rec.Code != want || strings.Contains(rec.Body.String(), "disk") {
				t.Errorf("act %d, done %v: status %d: %s", act, after, rec.Code, rec.Body)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			fs.at = -1
			w = open(t, dir, o)
			held := int64(0)
			if rec := call(w, l.body(0, 20)); rec.Code != 409 {
				t.Fatalf("act %d, done %v: nothing is remembered: %d %s", act, after, rec.Code, rec.Body)
			} else if fmt.Sscan(rec.Body.String(), &held); held < 10 || signed && held != 20 {
				t.Errorf("act %d, done %v: signed %v, remembered %d", act, after, signed, held)
			}
			if rec := call(w, fork.body(held, 30)); rec.Code != 422 {
				t.Errorf("act %d, done %v: a fork gets %d", act, after, rec.Code)
			}
			if rec := call(w, l.body(held, 20)); rec.Code != 200 {
				t.Errorf("act %d, done %v: the log gets %d", act, after, rec.Code)
			}
		}
		if broken == 0 {
			if act < 5 { // open, write, sync, rename, sync
				t.Errorf("only %d acts", act)
			}
			return
		}
	}
}

func TestAWitnessThatHasForgottenDoesNotOpen(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(20, "")
	states := func(t *testing.T, dir string) string {
		paths, err := filepath.Glob(filepath.Join(dir, "logs", "*.checkpoint"))
		if err != nil || len(paths) != 1 {
			t.Fatal(paths, err)
		}
		return paths[0]
	}
	flip := func(t *testing.T, path string, at func(text []byte) int) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text[at(text)] ^= 1
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		harm func(t *testing.T, dir string)
		o    witness.Options
		want string
	}{
		{"a size that was changed", func(t *testing.T, dir string) {
			flip(t, states(t, dir), func(text []byte) int { return bytes.Index(text, []byte("\n20\n")) + 1 })
		}, witness.Options{}, "does not hold what was signed"},
		{"a signature that was changed", func(t *testing.T, dir string) {
			flip(t, states(t, dir), func(text []byte) int { return len(text) - 20 })
		}, witness.Options{}, "does not hold what was signed"},
		{"an empty file", func(t *testing.T, dir string) {
			if err := os.Truncate(states(t, dir), 0); err != nil {
				t.Fatal(err)
			}
		}, witness.Options{}, "does not hold what was signed"},
		{"a checkpoint that it did not sign", func(t *testing.T, dir string) {
			if err := os.WriteFile(states(t, dir), l.checkpoint(5).Note, 0o600); err != nil {
				t.Fatal(err)
			}
		}, witness.Options{}, "does not bear this witness's signature"},
		{"a file that cannot be read", func(t *testing.T, dir string) {
			path := states(t, dir)
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, witness.Options{}, "is a directory"},
		{"all that it signed is gone", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "logs")); err != nil {
				t.Fatal(err)
			}
		}, witness.Options{}, "what this key has signed is gone"},
		{"its key is gone", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "witness.key")); err != nil {
				t.Fatal(err)
			}
		}, witness.Options{}, "but not its key"},
		{"its key was changed", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "witness.key"), func(text []byte) int { return len(text) - 20 })
		}, witness.Options{}, "witness.key: "},
		{"others can read its key", func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, "witness.key"), 0o640); err != nil {
				t.Fatal(err)
			}
		}, witness.Options{}, "can be read by others (mode 0640)"},
		{"another name", func(*testing.T, string) {}, witness.Options{Name: "other"}, "keeps its name"},
		{"no logs", func(*testing.T, string) {}, witness.Options{Logs: []note.Verifier{}}, "no log is given"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w, err := witness.Open(dir, witness.Options{Logs: []note.Verifier{l.verifier}})
			if err != nil {
				t.Fatal(err)
			}
			if rec := call(w, l.body(0, 20)); rec.Code != 200 {
				t.Fatal(rec.Body)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			tt.harm(t, dir)
			if tt.o.Logs == nil {
				tt.o.Logs = []note.Verifier{l.verifier}
			}
			if w, err := witness.Open(dir, tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v, want %q", w, err, tt.want)
			}
		})
	}
}

func TestAWitnessIsMadeOnceAndOpenedByOne(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	dir := filepath.Join(t.TempDir(), "new")
	o := witness.Options{Logs: []note.Verifier{l.verifier}}
	w := open(t, dir, o)
	if !strings.HasPrefix(w.Key().Name(), "graven.local/witness/") {
		t.Errorf("its name is %s", w.Key().Name())
	}
	info, err := os.Stat(filepath.Join(dir, "witness.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "witness.vkey"))
	if err != nil || string(text) != w.Key().String()+"\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := witness.Open(dir, o); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if again := open(t, dir, o); again.Key().String() != w.Key().String() {
		t.Error("it has another key")
	}
	if _, err := witness.Open(filepath.Join(t.TempDir(), "x"), witness.Options{Name: "a b", Logs: o.Logs}); err == nil {
		t.Error("a name with a space")
	}
}

// TestAWitnessServesUntilItIsStopped has clients that only connect: they keep
// neither others from being answered nor the witness from stopping.
func TestAWitnessServesUntilItIsStopped(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(5, "")
	w := open(t, t.TempDir(), witness.Options{Logs: []note.Verifier{l.verifier}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx, listener) }()
	for range 100 { // who only connect
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	resp, err := http.Post("http://"+listener.Addr().String()+"/add-checkpoint", "text/plain", strings.NewReader(l.body(0, 5)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if resp.Body.Close(); err != nil || resp.StatusCode != 200 || !strings.HasPrefix(string(text), "— ") {
		t.Errorf("%d %q %v", resp.StatusCode, text, err)
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A blocked body keeps its request from being read.
type blocked struct{ gate chan struct{} }

func (b blocked) Read([]byte) (int, error) { <-b.gate; return 0, io.EOF }

func TestRequestsBeyondTheBoundAreTurnedAway(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.grow(5, "")
	w := open(t, t.TempDir(), witness.Options{Logs: []note.Verifier{l.verifier}})
	gate := make(chan struct{})
	var wg sync.WaitGroup
	turnedAway := make(chan struct{})
	var once sync.Once
	for range 513 {
		wg.Go(func() {
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/add-checkpoint", blocked{gate}))
			if rec.Code == http.StatusServiceUnavailable && rec.Header().Get("Retry-After") != "" {
				once.Do(func() { close(turnedAway) })
			}
		})
	}
	<-turnedAway
	close(gate)
	wg.Wait()
	if rec := call(w, l.body(0, 5)); rec.Code != 200 {
		t.Error(rec.Code)
	}
}

func FuzzAddCheckpoint(f *testing.F) {
	l := newLog(f)
	l.grow(20, "")
	w := open(f, f.TempDir(), witness.Options{Logs: []note.Verifier{l.verifier}})
	for _, seed := range []string{l.body(0, 5), l.body(5, 20), l.body(0, 0), "old 5\n\n\n", "old 9223372036854775808\n\n", "old 5\n" + tlog.Hash{}.String() + "\n\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		rec := call(w, body)
		switch rec.Code {
		case 400, 403, 404, 409, 413, 422:
		case 200:
			_, signed, _ := strings.Cut(body, "\n\n")
			if _, err := trail.OpenCheckpoint([]byte(signed), l.verifier); err != nil {
				t.Errorf("signed, and the log did not: %q", body)
			}
		default:
			t.Errorf("status %d: %q", rec.Code, body)
		}
	})
}

// FuzzState opens witnesses with anything for what they have signed. Only what
// they did sign is taken.
func FuzzState(f *testing.F) {
	l := newLog(f)
	l.grow(20, "")
	dir := f.TempDir()
	o := witness.Options{Logs: []note.Verifier{l.verifier}}
	w := open(f, dir, o)
	for _, body := range []string{l.body(0, 5), l.body(5, 20)} {
		if rec := call(w, body); rec.Code != http.StatusOK {
			f.Fatalf("status %d: %s", rec.Code, rec.Body)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "logs", "*.checkpoint"))
	if err != nil || len(names) != 1 {
		f.Fatal(names, err)
	}
	good, err := os.ReadFile(names[0])
	if err != nil {
		f.Fatal(err)
	}
	signed, _, _ := strings.Cut(string(good), "\n\n")
	back := l.body(5, 20)
	f.Add(good)
	f.Add(l.checkpoint(20).Note) // the log's signature only
	f.Add(good[:len(good)-2])
	f.Add([]byte(strings.Replace(string(good), "\n20\n", "\n19\n", 1)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, state []byte) {
		if err := os.WriteFile(names[0], state, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := witness.Open(dir, o)
		if err != nil {
			if !strings.Contains(err.Error(), names[0]) {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		defer w.Close()
		if !strings.HasPrefix(string(state), signed+"\n\n") {
			t.Errorf("it goes on from %q", state)
		}
		if rec := call(w, back); rec.Code != http.StatusConflict {
			t.Errorf("it signs back: status %d", rec.Code)
		}
	})
}
