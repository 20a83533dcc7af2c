// Package openfile keeps files open between their uses, but no more than some:
// a process may have few.
package openfile

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// ErrClosed means that the cache was closed.
var ErrClosed = errors.New("the files are closed")

// A Cache has files by number. A file in use stays open; of the others, that
// which was used the longest time ago is closed when there are too many. Nobody
// is told whether that worked: what a file holds must be durable when it is
// released. The methods may be called concurrently.
type Cache[F io.Closer] struct {
	limit int
	open  func(number uint64) (F, error)

	mu        sync.Mutex // guards what follows, and the files' own
	files     map[uint64]*File[F]
	clock     uint64 // counts uses
	forgotten uint64 // counts what was forgotten
	closed    bool
}

// A File is a file in use, until it is released.
type File[F io.Closer] struct {
	F F

	c     *Cache[F]
	users int
	used  uint64 // when, last
	apart bool   // the cache has it no more, so that its last user closes it
}

// New returns a cache of files that open opens, of which at most limit are open
// unless more are in use.
func New[F io.Closer](limit int, open func(number uint64) (F, error)) *Cache[F] {
	return &Cache[F]{limit: limit, open: open, files: map[uint64]*File[F]{}}
}

// TooMany reports whether a file was not opened because too many are.
func TooMany(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Use returns a file, which is to be released.
func (c *Cache[F]) Use(number uint64) (*File[F], error) {
	c.mu.Lock()
	f, closed, forgotten := c.files[number], c.closed, c.forgotten
	if f != nil {
		c.take(f)
	}
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if f != nil {
		return f, nil
	}
	opened, err := c.open(number)
	for TooMany(err) && c.shrink() {
		opened, err = c.open(number)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.files[number]; f != nil { // somebody was faster
		_ = opened.Close()
		c.take(f)
		return f, nil
	}
	f = &File[F]{F: opened, c: c}
	if c.closed || c.forgotten != forgotten {
		f.users, f.apart = 1, true // it may not be what the number stands for now
		return f, nil
	}
	c.add(number, f)
	return f, nil
}

// Add gives the cache a file that it does not have, and returns it for use.
func (c *Cache[F]) Add(number uint64, opened F) *File[F] {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &File[F]{F: opened, c: c}
	c.add(number, f)
	return f
}

// Forget has the next use of a file open it anew.
func (c *Cache[F]) Forget(number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten++
	if f := c.files[number]; f != nil {
		_ = c.drop(number, f)
	}
}

// Close closes the files. Those in use their last users close.
func (c *Cache[F]) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for number, f := range c.files {
		errs = append(errs, c.drop(number, f))
	}
	return errors.Join(errs...)
}

// Release ends the use of a file.
func (f *File[F]) Release() {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	if f.apart {
		_ = f.F.Close()
	} else if len(f.c.files) > f.c.limit {
		f.c.evict()
	}
}

// take counts a use. c.mu must be held, as for what follows.
func (c *Cache[F]) take(f *File[F]) {
	f.users++
	c.clock++
	f.used = c.clock
}

// add takes in a file, for use.
func (c *Cache[F]) add(number uint64, f *File[F]) {
	c.take(f)
	c.files[number] = f
	if len(c.files) > c.limit {
		c.evict()
	}
}

// drop takes a file out of the cache.
func (c *Cache[F]) drop(number uint64, f *File[F]) error {
	delete(c.files, number)
	if f.apart = true; f.users > 0 {
		return nil
	}
	return f.F.Close()
}

// evict closes the file that was used the longest time ago, if one is not in
// use.
func (c *Cache[F]) evict() bool {
	var oldest *File[F]
	var number uint64
	for n, f := range c.files {
		if f.users == 0 && (oldest == nil || f.used < oldest.used) {
			oldest, number = f, n
		}
	}
	if oldest == nil {
		return false
	}
	_ = c.drop(number, oldest)
	return true
}

// shrink is evict for those who do not hold c.mu.
func (c *Cache[F]) shrink() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.evict()
}
