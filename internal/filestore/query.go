package filestore

import (
	"context"
	"errors"
	"slices"

	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/sqlite"
)

// Ready implements [search.Index]. Entries that were handed to the follower are
// found in memory, so that nobody waits for the index while it keeps up, or
// while the disk does not take it.
func (s *Store) Ready(ctx context.Context, size int64) error {
	s.mu.Lock()
	inMemory := s.inMemory(size)
	s.mu.Unlock()
	if inMemory {
		return nil
	}
	return s.Wait(ctx, size)
}

// inMemory reports whether all entries below size that are not in the index are
// in memory. Those of a log that contradicts itself are not told. s.mu must be
// held.
func (s *Store) inMemory(size int64) bool {
	return !errors.Is(s.failed, ErrTip) && len(s.fed) > 0 && s.fed[0].rows[0].Index == s.followed && size <= s.fedTo
}

// split returns the part of r that the index answers for, and the indexes of
// candidates in the rest, rising.
func (s *Store) split(f *search.Filter, r search.Range) (indexed search.Range, recent []int64) {
	s.mu.Lock()
	followed := s.followed
	views := make([]sqlite.View, len(s.recent))
	for i := range s.recent {
		views[i] = s.recent[i].View()
	}
	s.mu.Unlock()
	indexed = search.Range{First: r.First, End: min(r.End, followed)}
	matcher := sqlite.NewMatcher(f)
	for _, v := range views {
		recent = matcher.Select(recent, v, max(r.First, followed), r.End)
	}
	return indexed, recent
}

// Select implements [search.Index].
func (s *Store) Select(ctx context.Context, f *search.Filter, r search.Range, oldest bool, limit int, offset int64) ([]int64, error) {
	indexed, recent := s.split(f, r)
	if !oldest {
		slices.Reverse(recent)
		skip := min(offset, int64(len(recent)))
		recent = recent[skip:]
		if len(recent) >= limit {
			return recent[:limit], nil
		}
		older, err := s.index.Select(ctx, f, indexed, false, limit-len(recent), offset-skip)
		return append(recent, older...), err
	}
	found, err := s.index.Select(ctx, f, indexed, true, limit, offset)
	if err != nil || len(found) == limit || len(recent) == 0 {
		return found, err
	}
	if len(found) == 0 && offset > 0 {
		n, err := s.index.Count(ctx, f, indexed)
		if err != nil {
			return nil, err
		}
		recent = recent[min(max(offset-n, 0), int64(len(recent))):]
	}
	return append(found, recent[:min(limit-len(found), len(recent))]...), nil
}

// Count implements [search.Index].
func (s *Store) Count(ctx context.Context, f *search.Filter, r search.Range) (int64, error) {
	indexed, recent := s.split(f, r)
	n, err := s.index.Count(ctx, f, indexed)
	return n + int64(len(recent)), err
}

// Holes implements [finding.Sources].
func (s *Store) Holes(ctx context.Context, source string, fn func(finding.Hole) error) error {
	return s.index.Holes(ctx, source, fn)
}

// Signed implements [finding.Sources].
func (s *Store) Signed(ctx context.Context, source string, fn func(finding.Count) error) error {
	return s.index.Signed(ctx, source, fn)
}

// Odd implements [finding.Sources].
func (s *Store) Odd(ctx context.Context, source string, fn func(finding.Count) error) error {
	return s.index.Odd(ctx, source, fn)
}
