package testdisk

import (
	"errors"
	"sync"

	"github.com/graven-audit/graven/internal/seglog"
)

// Faulty is the machine's disk, which fails on demand.

type Faulty struct {
	seglog.OS
	mu   sync.Mutex
	fail func(op, name string) (err error, persisted bool)
}

// Set has fail decide of each operation from now on: open, write, grow (a write
// at a file's end or behind it), sync and truncate. An error takes the place of
// the operation, which is done all the same where persisted is set; of a write
// that is not, half is. Nil is for a disk that works.
func (f *Faulty) Set(fail func(op, name string) (error, bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *Faulty) check(op, name string) (error, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		return nil, false
	}
	return f.fail(op, name)
}

func (f *Faulty) Open(name string, flag int) (seglog.File, error) {
	if err, _ := f.check("open", name); err != nil {
		return nil, err
	}
	file, err := f.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, fs: f, name: name}, nil
}

type faultyFile struct {
	seglog.File
	fs   *Faulty
	name string
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	op := "write"
	if size, err := f.Size(); err == nil && off >= size {
		op = "grow"
	}
	err, persisted := f.fs.check(op, f.name)
	if err == nil {
		return f.File.WriteAt(b, off)
	}
	n := len(b) / 2
	if persisted {
		n = len(b)
	}
	f.File.WriteAt(b[:n], off)
	return n, err
}

func (f *faultyFile) Sync() error {
	err, persisted := f.fs.check("sync", f.name)
	if err == nil || persisted {
		err = errors.Join(err, f.File.Sync())
	}
	return err
}

func (f *faultyFile) Truncate(size int64) error {
	if err, _ := f.fs.check("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}
