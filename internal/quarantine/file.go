package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/graven-audit/graven/internal/seglog"
)

// Options of a File.
type Options struct {
	// Shared has programs write to the file one after the other.
	Shared bool
	// FS is the file system; nil means the machine's.
	FS seglog.FS
}

// A File is a quarantine. Its methods may be called concurrently.
type File struct {
	path string
	o    Options

	deciding sync.Mutex // one decision is carried out at a time

	mu     sync.Mutex
	file   seglog.File // nil until there is something in it
	added  int64       // bytes
	closed bool
}

// Open opens the file at path, which is made when there is something in it.
func Open(path string, o Options) (*File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	if o.FS == nil {
		o.FS = seglog.OS{}
	}
	return &File{path: path, o: o}, nil
}

// Path returns where the file is.
func (f *File) Path() string { return f.path }

// Add adds something, durably, or nothing.
func (f *File) Add(h Held) error {
	return f.locked(func() error { return f.add(line{Held: h}) })
}

// locked calls fn while nobody else adds a line.
func (f *File) locked(fn func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := os.ErrClosed
	if !f.closed {
		err = f.alone(fn)
	}
	if err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	return nil
}

// alone calls fn while no other program adds a line.
func (f *File) alone(fn func() error) (err error) {
	if f.o.Shared {
		lock, err := seglog.LockWait(f.path + ".lock")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	return fn()
}

// add adds a line, durably, or nothing. A line that a power cut has torn is ended,
// so that this one begins at its own.
func (f *File) add(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := f.open(); err != nil {
		return err
	}
	size, err := f.file.Size()
	if err != nil {
		return err
	}
	last := []byte{'\n'}
	if size > 0 {
		if _, err := f.file.ReadAt(last, size-1); err != nil {
			return err
		}
	}
	if last[0] != '\n' {
		text = append([]byte{'\n'}, text...)
	}
	_, err = f.file.WriteAt(append(text, '\n'), size)
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return errors.Join(err, f.file.Truncate(size))
	}
	f.added += int64(len(text)) + 1
	return nil
}

// Others returns how much in the file others have added, in bytes, and what was
// there before.
func (f *File) Others() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("quarantine: %w", err)
	}
	return info.Size() - f.added, nil
}

// open opens the file, if it is not, such that it does not go with the power.
func (f *File) open() error {
	if f.file != nil {
		return nil
	}
	file, err := f.o.FS.Open(f.path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	if err := f.o.FS.SyncDir(filepath.Dir(f.path)); err != nil {
		return errors.Join(err, file.Close())
	}
	f.file = file
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// Decide notes a decision of what a name stands for, durably. What was decided
// before, and not carried out, stays decided.
func (f *File) Decide(name string, d Decision, w Way) (Held, error) {
	e, err := f.decide(name, d, w)
	if err != nil {
		return Held{}, err
	}
	return e.Held, nil
}

func (f *File) decide(name string, d Decision, w Way) (e *entry, err error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	d.At = d.At.UTC()
	var refused error
	err = f.locked(func() error {
		s, err := read(f.path)
		if err != nil {
			return err
		}
		if e, refused = s.find(name); refused != nil || e.decided != nil {
			return nil
		}
		if _, refused = w.Items(e.Held, d); refused != nil {
			return nil // before anything is written
		}
		e.decided = &d
		l := about(&e.Held, d.At)
		l.Decision, l.By, l.Because = d.Type, d.By, d.Because
		return f.add(l)
	})
	return e, errors.Join(err, refused)
}

// Out decides of what a name stands for, and carries it out, or what was decided
// before and not carried out.
func (f *File) Out(ctx context.Context, name string, d Decision, w Way) (Held, error) {
	f.deciding.Lock()
	defer f.deciding.Unlock()
	e, err := f.decide(name, d, w)
	if err != nil {
		return Held{}, err
	}
	return e.Held, f.carryOut(ctx, e, w)
}

// Finish carries out what was decided before and not done, and reports whether
// something is left because Put said that the spool is full.
func (f *File) Finish(w Way, full error) (left bool, err error) {
	f.deciding.Lock()
	defer f.deciding.Unlock()
	s, err := read(f.path)
	if err != nil {
		return false, fmt.Errorf("quarantine: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it waits for no room
	for _, e := range s.entries {
		if e.decided == nil {
			continue
		}
		switch err := f.carryOut(ctx, e, w); {
		case errors.Is(err, full):
			left = true
		case err != nil:
			return true, err
		}
	}
	return left, nil
}

// carryOut carries out a decision that is durable.
func (f *File) carryOut(ctx context.Context, e *entry, w Way) error {
	items, err := w.Items(e.Held, *e.decided)
	if err != nil {
		return err
	}
	if err := w.Put(ctx, items...); err != nil {
		return err
	}
	l := about(&e.Held, time.Now())
	l.Done = e.decided.Type
	return f.locked(func() error { return f.add(l) })
}
