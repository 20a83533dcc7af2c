package testdisk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/graven-audit/graven/internal/seglog"
)

// Power is a disk that loses its power after a number of operations. What was
// not synced by then is lost, kept or torn, each write by itself.
type Power struct {
	seglog.OS
	mu    sync.Mutex
	left  int // operations until the power goes
	files map[string]*platter
}

// A platter is what the disk has of a file.
type platter struct {
	durable []byte
	pending []pending
	named   bool   // the directory entry is durable
	before  []byte // what bore the name until a file was renamed, as far as it is durable
}

// A pending is a write that was not synced, or a truncation if data is nil.
type pending struct {
	at   int64
	data []byte
}

// Sector is what a disk writes whole or not at all, in bytes.
const Sector = 512

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
		n := min(len(p.data)-i, int(Sector-at%Sector))
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
func (f *Power) spend() error {
	if f.left--; f.left < 0 {
		return syscall.EIO
	}
	return nil
}

func (f *Power) Open(name string, flag int) (seglog.File, error) {
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

func (f *Power) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.spend(); err != nil {
		return err
	}
	delete(f.files, name)
	return f.OS.Remove(name)
}

// Rename gives a file another name, in the place of what bore it. Before the
// directory is synced, either may be there after a crash.
func (f *Power) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.spend(); err != nil {
		return err
	}
	before, err := os.ReadFile(to)
	if old := f.files[to]; old != nil {
		before = old.durable
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if p := f.files[from]; p != nil {
		p.named, p.before = false, before
		f.files[to] = p
		delete(f.files, from)
	}
	return f.OS.Rename(from, to)
}

func (f *Power) SyncDir(dir string) error {
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

// NewPower returns a disk that has power for so many operations.
func NewPower(operations int) *Power {
	return &Power{left: operations, files: map[string]*platter{}}
}

// Crash leaves in the directory what the disk has when the power is back.
func (f *Power) Crash(rng *rand.Rand) error {
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
			if p.before != nil {
				if err := os.WriteFile(name, p.before, 0o600); err != nil {
					return err
				}
				continue
			}
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
	fs *Power
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

// MemoryDir returns a directory in memory, where the machine has room for one.
// Tests that simulate the disk have no use for a real one.
func MemoryDir(t *testing.T) string {
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
