package seglog_test

import (
	"os"
	"sync"

	"github.com/graven-audit/graven/internal/seglog"
)

// A faultFS is the machine's file system with faults in it. Each hook may be
// nil, and is called before the act; an error takes its place.
type faultFS struct {
	seglog.OS
	mu sync.Mutex
	// write may let a part of the data through.
	write    func(data []byte, at int64) (n int, err error)
	sync     func() error
	truncate func(size int64) error
	open     func(name string, flag int) error
	syncDir  func() error
	rename   func() error
	remove   func(name string) error

	writes, syncs int
}

func (f *faultFS) Open(name string, flag int) (seglog.File, error) {
	if f.open != nil {
		if err := f.open(name, flag); err != nil {
			return nil, err
		}
	}
	file, err := f.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f}, nil
}

func (f *faultFS) SyncDir(dir string) error {
	if f.syncDir != nil {
		if err := f.syncDir(); err != nil {
			return err
		}
	}
	return f.OS.SyncDir(dir)
}

func (f *faultFS) Remove(name string) error {
	if f.remove != nil {
		if err := f.remove(name); err != nil {
			return err
		}
	}
	return f.OS.Remove(name)
}

func (f *faultFS) Rename(from, to string) error {
	if f.rename != nil {
		if err := f.rename(); err != nil {
			return err
		}
	}
	return f.OS.Rename(from, to)
}

type faultFile struct {
	seglog.File
	fs *faultFS
}

func (f *faultFile) WriteAt(data []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.writes++
	if f.fs.write != nil {
		if n, err := f.fs.write(data, at); err != nil {
			if n > 0 {
				if _, err := f.File.WriteAt(data[:n], at); err != nil {
					return 0, err
				}
			}
			return n, &os.PathError{Op: "write", Path: "segment", Err: err}
		}
	}
	return f.File.WriteAt(data, at)
}

func (f *faultFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.syncs++
	if f.fs.sync != nil {
		if err := f.fs.sync(); err != nil {
			return err
		}
	}
	return f.File.Sync()
}

func (f *faultFile) Truncate(size int64) error {
	if f.fs.truncate != nil {
		if err := f.fs.truncate(size); err != nil {
			return err
		}
	}
	return f.File.Truncate(size)
}
