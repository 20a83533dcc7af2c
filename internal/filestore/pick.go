package filestore

import (
	"bytes"
	"context"
	"slices"

	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
)

const (
	// maxSkip is how many records are read in vain, at most, for one that is
	// wanted.
	maxSkip = 3
	// maxTogether bounds the records that are wanted and read at once, and
	// maxSpan how far apart they stand, in bytes. Those that stand further apart,
	// or in two segments, are read one by one.
	maxTogether = 32
	maxSpan     = 256 << 10
	// lastSize is what is read of the last of them. If it has more, it is read
	// by itself.
	lastSize = 4 << 10
)

// Pick implements [search.Picker]. Records that stand beside one another, as the
// steps of an incident often do, are read at once.
func (s *Store) Pick(ctx context.Context, indexes []int64, fn func(*trail.Record) error) error {
	for len(indexes) > 0 {
		run := indexes[:beside(indexes)]
		indexes = indexes[len(run):]
		sound := s.readTogether(run)
		for i, index := range run {
			if err := ctx.Err(); err != nil {
				return err
			}
			r := sound[i]
			if r == nil {
				alone, err := s.Record(ctx, index)
				if err != nil {
					return err
				}
				r = &alone
			}
			if err := fn(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// beside returns how many of the first indexes are to be read at once. None of
// them comes twice.
func beside(indexes []int64) int {
	n := 1
	for n < min(len(indexes), maxTogether) {
		if d := indexes[n] - indexes[n-1]; max(d, -d) > maxSkip+1 || slices.Contains(indexes[:n], indexes[n]) {
			break
		}
		n++
	}
	return n
}

// readTogether reads the records at some indexes in one go. In place of what it
// could not read so, and of what [Store.Record] might refuse, it returns nil.
func (s *Store) readTogether(indexes []int64) []*trail.Record {
	records := make([]*trail.Record, len(indexes))
	first, last := slices.Min(indexes), slices.Max(indexes)
	if first == last {
		return records
	}
	base, from, err := s.places.Find(first)
	in, to, failed := s.places.Find(last)
	if err != nil || failed != nil || in != base || to < from || to-from > maxSpan {
		return records
	}
	reader, err := s.log.Reader(base, from)
	if err != nil {
		return records
	}
	frames, err := reader.Next(make([]byte, to-from+lastSize))
	if err != nil {
		return records
	}
	leaves, err := s.leaves(first, last+1)
	if err != nil {
		return records
	}
	next := first
	for _, f := range frames {
		if !trail.IsRecord(f.Body) {
			continue
		}
		if next > last {
			break
		}
		if i := slices.Index(indexes, next); i >= 0 {
			// What was read in vain is not kept with it.
			r, err := trail.ParseFrame(bytes.Clone(f.Body))
			if err != nil || r.Index != next {
				break
			}
			if at := next - first; (at >= int64(len(leaves)) || r.LeafHash() == leaves[at]) && r.CheckErasable() == nil {
				records[i] = &r
			}
		}
		next++
	}
	return records
}

// leaves returns the hashes of the entries from first on, below end, as far as
// they are known.
func (s *Store) leaves(first, end int64) ([]trail.Hash, error) {
	known := min(end, s.hashes.Leaves()) - first
	if known <= 0 {
		return nil, nil
	}
	data, err := s.hashes.Run(0, first, known)
	return tree.Hashes(data), err
}
