// Package tree keeps the hashes of a Merkle tree (RFC 6962) in files: one for
// every fourth level, which holds those of its complete subtrees, in order, 32
// bytes each. The hashes of the levels between are computed from up to eight of
// the level below.
//
// All of them can be made again from the leaves. Lower levels are written first:
// whoever reads the files while they are written, from the upper levels on,
// finds in each at least what those above it tell of.
package tree

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// Dir is the directory of the files within a data directory.
	Dir = "tree"
	// RowHeight is the number of levels from one file to the next. A row is the
	// file of a level.
	RowHeight = 4
	// Rows is how many rows there can be: there are no trees of 2^60 leaves.
	Rows = 60 / RowHeight

	hashSize = tlog.HashSize
)

// Name returns the name of a row's file, which is its level: "00", "04", and so
// on.
func Name(row int) string { return fmt.Sprintf("%02d", row*RowHeight) }

// Files are the files of a tree. They serve the hashes of as many leaves as
// were published; writing is for one goroutine at a time.
type Files struct {
	rows [Rows]struct {
		count int64 // hashes, when it was opened
		torn  bool  // there was a part of a hash behind them
	}

	leaves atomic.Int64 // that were published

	mu    sync.RWMutex
	dir   string
	files [Rows]*os.File
	ahead [Rows]ahead

	heldMu sync.Mutex
	held   map[groupID]*group
}

// An ahead holds hashes of a row that the disk has not taken yet.
type ahead struct {
	first int64
	data  []byte
}

var _ tlog.HashReader = (*Files)(nil)

// Open opens the files in dir, as far as there are some; flag is [os.O_RDWR] or
// [os.O_RDONLY].
func Open(dir string, flag int) (*Files, error) {
	t := &Files{dir: dir, held: map[groupID]*group{}}
	for row := Rows - 1; row >= 0; row-- {
		if err := t.open(row, flag); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	return t, nil
}

func (t *Files) open(row, flag int) error {
	f, err := os.OpenFile(t.path(row), flag, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	t.files[row] = f
	size, err := f.Seek(0, io.SeekEnd)
	t.rows[row].count, t.rows[row].torn = size/hashSize, size%hashSize != 0
	return err
}

// Count returns how many hashes a row held when it was opened, and whether it
// ended within one.
func (t *Files) Count(row int) (count int64, torn bool) {
	return t.rows[row].count, t.rows[row].torn
}

// Whole returns of how many leaves all hashes were there when the files were
// opened.
func (t *Files) Whole() int64 {
	whole := int64(math.MaxInt64)
	for row := range t.rows { // of a tree of n leaves, a row has n>>level hashes
		whole = min(whole, First(row, t.rows[row].count+1)-1)
	}
	return whole
}

// Claimed returns of how many leaves at least the files told when they were
// opened. That is more than [Files.Whole] where hashes are missing.
func (t *Files) Claimed() int64 {
	claimed := int64(0)
	for row := range t.rows {
		claimed = max(claimed, First(row, t.rows[row].count))
	}
	return claimed
}

// First returns the first leaf under the n-th hash of a row, or the greatest
// number if that is greater.
func First(row int, n int64) int64 {
	if level := row * RowHeight; bits.Len64(uint64(n))+level <= 62 {
		return n << level
	}
	return math.MaxInt64
}

// Publish lets readers have the hashes of the first leaves.
func (t *Files) Publish(leaves int64) { t.leaves.Store(leaves) }

// Leaves returns of how many leaves the hashes were published.
func (t *Files) Leaves() int64 { return t.leaves.Load() }

// Read reads hashes of a row as they stand in the file, published or not. The
// error is [io.EOF] where the file has fewer.
func (t *Files) Read(data []byte, row int, first int64) (n int, err error) {
	t.mu.RLock()
	f := t.files[row]
	t.mu.RUnlock()
	if f == nil {
		return 0, io.EOF
	}
	n, err = f.ReadAt(data, first*hashSize)
	return n - n%hashSize, err
}

// Write writes hashes of a row from the first on.
func (t *Files) Write(data []byte, row int, first int64) error {
	f := t.files[row]
	if f == nil {
		err := os.MkdirAll(t.dir, 0o700)
		if err == nil {
			f, err = os.OpenFile(t.path(row), os.O_RDWR|os.O_CREATE, 0o600)
		}
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.files[row] = f
		t.mu.Unlock()
	}
	_, err := f.WriteAt(data, first*hashSize)
	return err
}

// Hold has readers find hashes of a row in memory, from the first on, whatever
// stands in the file. It keeps data; nil is for none.
func (t *Files) Hold(data []byte, row int, first int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ahead[row] = ahead{first, data}
}

// Sync makes the files durable.
func (t *Files) Sync() error {
	for _, f := range t.files {
		if f != nil {
			if err := f.Sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Move gives the directory another name, in place of what bears it.
func (t *Files) Move(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Rename(t.dir, dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	t.dir = dir
	return nil
}

// Close closes the files.
func (t *Files) Close() error {
	var errs []error
	for _, f := range t.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func (t *Files) path(row int) string { return filepath.Join(t.dir, Name(row)) }
