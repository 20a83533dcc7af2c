package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/sqlite"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A powerFS is a disk that loses its power after a number of operations. What
// was not synced by then is lost, kept or torn, each write by itself.
type powerFS struct {
	seglog.OS
	mu    sync.Mutex
	left  int // operations until the power goes
	files map[string]*platter
}

// A platter is what the disk has of a file.
type platter struct {
	durable []byte
	pending []pending
	named   bool // the directory entry is durable
}

// A pending is a write that was not synced, or a truncation if data is nil.
type pending struct {
	at   int64
	data []byte
}

const sector = 512

// apply returns a file's content after a change. A torn write leaves some of
// its sectors as they were.
func (p pending) apply(content []byte, torn func() bool) []byte {
	if p.data == nil {
		if p.at <= int64(len(content)) {
			return content[:p.at]
		}
		return append(content, make([]byte, p.at-int64(len(content)))...)
	}
	for i := 0; i < len(p.data); {
		at := p.at + int64(i)
		n := min(len(p.data)-i, int(sector-at%sector))
		if !torn() {
			if end := at + int64(n); end > int64(len(content)) {
				content = append(content, make([]byte, end-int64(len(content)))...)
			}
			copy(content[at:], p.data[i:i+n])
		}
		i += n
	}
	return content
}

// spend takes one operation's power. f.mu must be held.
func (f *powerFS) spend() error {
	if f.left--; f.left < 0 {
		return syscall.EIO
	}
	return nil
}

func (f *powerFS) Open(name string, flag int) (seglog.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.spend(); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(name)
	existed := err == nil
	file, err := f.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	p := f.files[name]
	if p == nil {
		p = &platter{durable: content, named: existed}
		f.files[name] = p
	}
	return &powerFile{File: file, fs: f, p: p}, nil
}

func (f *powerFS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.spend(); err != nil {
		return err
	}
	delete(f.files, name)
	return f.OS.Remove(name)
}

func (f *powerFS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.spend(); err != nil {
		return err
	}
	for name, p := range f.files {
		if filepath.Dir(name) == filepath.Clean(dir) {
			p.named = true
		}
	}
	return nil
}

// crash leaves in the directory what the disk has when the power is back.
func (f *powerFS) crash(rng *mathrand.Rand) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.files {
		names = append(names, name)
	}
	slices.Sort(names) // or a seed would not replay
	for _, name := range names {
		p := f.files[name]
		if !p.named && rng.IntN(2) == 0 {
			if err := os.Remove(name); err != nil {
				return err
			}
			continue
		}
		content := p.durable
		for _, c := range p.pending {
			switch rng.IntN(3) {
			case 0: // lost
			case 1:
				content = c.apply(content, func() bool { return false })
			case 2:
				content = c.apply(content, func() bool { return rng.IntN(2) == 0 })
			}
		}
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

type powerFile struct {
	seglog.File
	fs *powerFS
	p  *platter
}

func (f *powerFile) WriteAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.spend(); err != nil {
		if f.fs.left == -1 { // the power goes while it writes
			f.p.pending = append(f.p.pending, pending{at, keep(b)})
		}
		return 0, err
	}
	f.p.pending = append(f.p.pending, pending{at, keep(b)})
	return f.File.WriteAt(b, at)
}

// blank is what segments are grown with, up to its length.
var blank [512 << 10]byte

// keep copies what is written, but for zeros, of which there are many.
func keep(b []byte) []byte {
	if len(b) <= len(blank) && bytes.Equal(b, blank[:len(b)]) {
		return blank[:len(b)]
	}
	return bytes.Clone(b)
}

func (f *powerFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.spend(); err != nil {
		return err
	}
	f.p.pending = append(f.p.pending, pending{at: size})
	return f.File.Truncate(size)
}

// Sync makes durable what the disk was told. The machine's own disk is spared.
func (f *powerFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.spend(); err != nil {
		return err
	}
	for _, c := range f.p.pending {
		f.p.durable = c.apply(f.p.durable, func() bool { return false })
	}
	f.p.pending = nil
	return nil
}

// memoryDir returns a directory in memory, where the machine has room for one.
// Tests that simulate the disk have no use for a real one.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "graven-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestNothingAcknowledgedIsLostWithThePower cuts the power at a random moment,
// again and again. GRAVEN_SEED replays one of them, many times: the writer and
// the keeper of the tip race for the disk.
func TestNothingAcknowledgedIsLostWithThePower(t *testing.T) {
	p := newPower(t)
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // each start takes buffers of megabytes
	if text := os.Getenv("GRAVEN_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 100 && !t.Failed(); n++ {
			p.lose(t, seed)
		}
		return
	}
	var workers sync.WaitGroup
	var next atomic.Uint64
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !t.Failed() {
				seed := next.Add(1) - 1
				if seed >= powerCuts {
					return
				}
				p.lose(t, seed)
			}
		})
	}
	workers.Wait()
}

// A power holds what all seeds have in common: where they run, the keys, and an
// empty index, which is copied, since to make one takes longer than all else.
type power struct {
	dir   string
	bed   *storetest.Bed
	index []byte
}

func newPower(t *testing.T) *power {
	t.Helper()
	p := &power{dir: memoryDir(t)}
	p.bed = storetest.NewBed(t, nil)
	path := filepath.Join(p.dir, trail.IndexFile)
	index, err := sqlite.Open(path)
	if err == nil {
		err = index.Close()
	}
	if err == nil {
		p.index, err = os.ReadFile(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// everyIndex is how many seeds share one in which the index is checked, too.
const everyIndex = 16

// lose runs a ledger until its disk has lost power, and holds what is there
// afterwards against what was acknowledged.
func (p *power) lose(t *testing.T, seed uint64) {
	rng := mathrand.New(mathrand.NewPCG(seed, 7))
	fail := func(format string, args ...any) {
		t.Errorf("GRAVEN_SEED=%d: %s", seed, fmt.Sprintf(format, args...))
	}
	dir, err := os.MkdirTemp(p.dir, "")
	if err != nil {
		fail("%v", err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, trail.IndexFile), p.index, 0o600); err != nil {
		fail("%v", err)
		return
	}
	bed := p.bed
	ctx := context.Background()
	open := func(fs seglog.FS) (storetest.Store, *ledger.Ledger, error) {
		store, err := openStore(dir, filestore.Options{Verifier: bed.Verifier, SegmentSize: 8 << 10, Reserve: 4 << 10, FS: fs}, bed)
		if err != nil {
			return nil, nil, err
		}
		l, err := ledger.Open(ctx, ledger.Config{Store: store, Signer: bed.Signer, VerifierKey: bed.VerifierKey})
		if err != nil {
			return nil, nil, errors.Join(err, store.Close())
		}
		return store, l, nil
	}

	fs := &powerFS{left: rng.IntN(90), files: map[string]*platter{}}
	acknowledged := map[int64]event.ID{}
	var told []byte // the newest checkpoint that was given out
	next := 0
	for range 1 + rng.IntN(2) { // sometimes it is stopped and started in between
		store, l, err := open(fs)
		if err != nil {
			break
		}
		for range 1 + rng.IntN(12) {
			events := make([]*event.Event, 1+rng.IntN(6))
			for i := range events {
				events[i] = storetest.Event(next)
				next++
			}
			results, cover, err := l.Append(ctx, storetest.By, events)
			if err != nil {
				break
			}
			for _, r := range results {
				if r.Err == nil {
					acknowledged[r.Index], told = r.ID, cover.Note
				}
			}
		}
		l.Close()
		store.Close() // what it says is of a disk that may be gone
	}
	if err := fs.crash(rng); err != nil {
		fail("%v", err)
		return
	}

	store, l, err := open(nil)
	if err != nil {
		fail("after the crash: %v", err)
		return
	}
	for index, id := range acknowledged {
		if r, err := store.Record(ctx, index); err != nil {
			fail("entry %d: %v", index, err)
		} else if e, err := r.Event(); err != nil || e.ID != id {
			fail("entry %d is another, %v", index, err)
		}
	}
	if _, _, err := l.Append(ctx, storetest.By, []*event.Event{storetest.Event(next)}); err != nil {
		fail("it does not go on: %v", err)
	}
	l.Close()
	if err := store.Close(); err != nil {
		fail("%v", err)
	}
	o := verify.Options{Keys: []note.Verifier{bed.Verifier}, Workers: 1}
	if told != nil {
		o.Since = [][]byte{told}
	}
	check := verify.Dir
	if seed%everyIndex == 0 {
		check = filestore.Verify
	}
	report, err := check(ctx, dir, o)
	if err != nil {
		fail("%v", err)
	} else if !report.OK() {
		fail("it does not verify: %+v", report.Findings[0])
	}
}
