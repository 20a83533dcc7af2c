package filestore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/posting"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/sqlite"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

const (
	// erasedFile tells up to which tombstone, by its index, all that they name
	// was erased here. It is not part of a backup: what comes out of one is gone
	// through again.
	erasedFile = "erased"
	// rewriteFile is a segment that is about to replace another.
	rewriteFile = "rewrite.tmp"
)

// ErasedTo returns the index of the last tombstone up to which all was erased
// that tombstones name, or -1.
func (s *Store) ErasedTo(context.Context) int64 {
	text, err := os.ReadFile(filepath.Join(s.dir, erasedFile))
	if err != nil {
		return -1 // looking again costs time only
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// Erase overwrites the salts and the erasable content of entries with zeros, and
// leaves of the entries below an index what [trail.Record.Prune] does. It is
// durable when Erase returns, and Erase may be called again where it failed. The
// runs, in order, and the index are those of all tombstones behind
// [Store.ErasedTo] up to the one at index to.
//
// A segment is replaced by a copy, in which all frames stand where they were
// unless entries go. If the active one has something to be erased, another is
// begun first.
func (s *Store) Erase(ctx context.Context, to int64, runs []tombstone.Run, below int64) error {
	if s.tip == nil {
		return ledger.ErrReadOnly
	}
	s.erasing.Lock()
	defer s.erasing.Unlock()
	end := below
	if len(runs) > 0 {
		end = max(end, runs[len(runs)-1].End())
	}
	if err := s.seal(end); err != nil {
		return fmt.Errorf("erase: %w", ledgerError(err))
	}
	if err := s.pruneIndex(ctx, below); err != nil {
		return fmt.Errorf("erase: the index: %w", err)
	}
	bases := s.log.Segments()
	var left []error // a segment that is damaged keeps its content, and no other does for it
	for i, base := range bases {
		end := uint64(math.MaxInt64)
		if i+1 < len(bases) {
			end = bases[i+1]
		}
		left = append(left, s.eraseIn(ctx, base, within(runs, int64(base), int64(end)), below))
	}
	if err := errors.Join(left...); err != nil {
		return fmt.Errorf("erase: %w", ledgerError(err))
	}
	if below > 0 {
		if err := s.index.Purge(ctx); err != nil {
			return fmt.Errorf("erase: the index: %w", err)
		}
	}
	return seglog.WriteFile(s.fs, filepath.Join(s.dir, erasedFile), fmt.Appendf(nil, "%d\n", to))
}

// seal begins another segment if one of the entries below end stands in the
// active one.
func (s *Store) seal(end int64) error {
	s.appending.Lock()
	defer s.appending.Unlock()
	bases := s.log.Segments()
	size := s.head.Tree.Size()
	if end <= int64(bases[len(bases)-1]) || end > size {
		return nil
	}
	if err := s.log.Roll(uint64(size)); err != nil {
		return err
	}
	s.notRolled = false
	s.places.Roll(size)
	return nil
}

// within returns the runs that have entries from first on, below end.
func within(runs []tombstone.Run, first, end int64) []tombstone.Run {
	i := sort.Search(len(runs), func(i int) bool { return runs[i].End() > first })
	j := sort.Search(len(runs), func(j int) bool { return runs[j].First >= end })
	return runs[i:max(i, j)]
}

// eraseIn erases what is to be erased in one segment, if there is something left.
func (s *Store) eraseIn(ctx context.Context, base uint64, runs []tombstone.Run, below int64) error {
	if len(runs) == 0 && int64(base) >= below {
		return nil
	}
	var named tombstone.Indexes
	for _, r := range runs {
		named.Add(r)
	}
	more := errors.New("there is something to erase")
	r, err := s.log.Reader(base, seglog.FirstOffset)
	if err != nil {
		return err
	}
	_, err = readSegment(ctx, r, make([]byte, 1<<20), int64(base), math.MaxInt64, func(r *trail.Record) error {
		if r.Erasable != nil && (r.Index < below || named.Has(r.Index)) {
			return more
		}
		if r.Index < below && r.Leaf == nil {
			if left, err := r.Prune(); err != nil || left.Leaf != nil {
				return cmp.Or(err, more)
			}
		}
		return nil
	})
	if !errors.Is(err, more) {
		return err
	}
	if err := s.markErased(); err != nil {
		return err
	}
	rewrite := func() error {
		return s.log.Rewrite(base, filepath.Join(s.dir, rewriteFile), func(dst, body []byte) ([]byte, error) {
			r, err := trail.ParseFrame(body)
			switch {
			case err != nil: // a checkpoint
				return append(dst, body...), nil
			case r.Index < below:
				left, err := r.Prune()
				return left.AppendFrame(dst), err
			case r.Erasable != nil && named.Has(r.Index):
				return r.AppendErased(dst), nil
			}
			return append(dst, body...), nil
		})
	}
	if int64(base) < below {
		return s.places.Move(base, rewrite)
	}
	return rewrite()
}

// pruneIndex has the index forget what entries below an index say, block by
// block. It goes before the log does, so that the index never knows of more than
// the log says.
func (s *Store) pruneIndex(ctx context.Context, below int64) error {
	if below <= s.index.Pruned() {
		return nil
	}
	if err := s.Derived(ctx, below); err != nil {
		return err
	}
	for first := s.index.Pruned(); first < below; first = s.index.Pruned() {
		if err := s.pruneBlock(ctx, first-first%posting.BlockSize, below); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) pruneBlock(ctx context.Context, first, below int64) error {
	s.deriving.Lock()
	defer s.deriving.Unlock()
	var deriver sqlite.Deriver
	var rows []sqlite.Row
	end := min(first+posting.BlockSize, s.index.Size())
	err := s.records(ctx, search.Range{First: first, End: end}, func(r *trail.Record) error {
		row, err := deriver.Left(r, below)
		rows = append(rows, row)
		return err
	})
	if err != nil {
		return err
	}
	return s.index.Prune(ctx, rows, below)
}

// markErased marks the directory as one that versions cannot read which know of
// no erased records.
func (s *Store) markErased() error {
	path := filepath.Join(s.dir, datadir.FormatFile)
	format := fmt.Appendf(nil, "%d\n", datadir.ErasedFormat)
	if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, format) {
		return nil
	}
	return seglog.WriteFile(s.fs, path, format)
}
