package testdisk

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/graven-audit/graven/internal/seglog"
)

// Block is the least that a [Volume] gives to a file, in bytes.
const Block = 4096

// A Volume is a disk with a number of free blocks. As on real ones, a hole in a
// file takes none. The machine's own disk is spared syncs.
type Volume struct {
	seglog.OS
	mu    sync.Mutex
	free  int
	taken map[string]map[int64]bool // by file
}

// NewVolume returns a disk with so many free blocks.
func NewVolume(free int) *Volume { return &Volume{free: free, taken: map[string]map[int64]bool{}} }

// Free returns how many blocks are free.
func (v *Volume) Free() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.free
}

// SetFree sets how many blocks are free, as others take some or give them back.
func (v *Volume) SetFree(blocks int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.free = blocks
}

func (v *Volume) Open(name string, flag int) (seglog.File, error) {
	f, err := v.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.taken[name] == nil {
		v.taken[name] = map[int64]bool{}
	}
	return &volumeFile{f, v, name}, nil
}

func (v *Volume) Remove(name string) error {
	v.give(name, 0)
	return v.OS.Remove(name)
}

func (v *Volume) SyncDir(string) error { return nil }

// give takes back the blocks of a file from a byte on.
func (v *Volume) give(name string, from int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for b := range v.taken[name] {
		if b*Block >= from {
			delete(v.taken[name], b)
			v.free++
		}
	}
}

type volumeFile struct {
	seglog.File
	v    *Volume
	name string
}

func (f *volumeFile) WriteAt(data []byte, at int64) (int, error) {
	f.v.mu.Lock()
	defer f.v.mu.Unlock()
	taken := f.v.taken[f.name]
	for b := at / Block; b*Block < at+int64(len(data)); b++ {
		if taken[b] {
			continue
		}
		if f.v.free == 0 {
			n, err := f.File.WriteAt(data[:max(b*Block-at, 0)], at)
			return n, errors.Join(err, &os.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC})
		}
		f.v.free--
		taken[b] = true
	}
	return f.File.WriteAt(data, at)
}

func (f *volumeFile) Truncate(size int64) error {
	f.v.give(f.name, size)
	return f.File.Truncate(size)
}

func (f *volumeFile) Sync() error { return nil }
