package filestore

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/graven-audit/graven/internal/search"
)

// Select implements [search.Index].
func (s *Store) Select(ctx context.Context, f *search.Filter, r search.Range, oldest bool, limit int, offset int64) ([]int64, error) {
	r, ok, err := s.narrow(ctx, f, r)
	if err != nil || !ok {
		return nil, err
	}
	where, args := conditions(f, r)
	order := "DESC"
	if oldest {
		order = "ASC"
	}
	rows, err := s.index.read.QueryContext(ctx, "SELECT idx FROM entry WHERE "+where+" ORDER BY idx "+order+" LIMIT ? OFFSET ?",
		append(args, limit, offset)...)
	if err != nil {
		return nil, fmt.Errorf("select entries: %w", err)
	}
	defer rows.Close()
	var found []int64
	for rows.Next() {
		var idx int64
		if err := rows.Scan(&idx); err != nil {
			return nil, fmt.Errorf("select entries: %w", err)
		}
		found = append(found, idx)
	}
	return found, rows.Err()
}

// Count implements [search.Index].
func (s *Store) Count(ctx context.Context, f *search.Filter, r search.Range) (int64, error) {
	r, ok, err := s.narrow(ctx, f, r)
	if err != nil || !ok {
		return 0, err
	}
	var n int64
	if f.All() {
		// Counting the few that are left out is faster than all the others.
		if !f.WithAccess() {
			err = s.index.read.QueryRowContext(ctx, "SELECT count(*) FROM entry WHERE access IS NOT NULL AND idx >= ? AND idx < ?",
				r.First, r.End).Scan(&n)
		}
		return r.End - r.First - n, err
	}
	where, args := conditions(f, r)
	err = s.index.read.QueryRowContext(ctx, "SELECT count(*) FROM entry WHERE "+where, args...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count entries: %w", err)
	}
	return n, nil
}

// narrow leaves of r the blocks in which timestamps lie within the filter's.
func (s *Store) narrow(ctx context.Context, f *search.Filter, r search.Range) (search.Range, bool, error) {
	if f.From.IsZero() && f.To.IsZero() {
		return r, r.First < r.End, nil
	}
	where, args := "n >= ? AND n <= ?", []any{r.First / blockSize, r.End / blockSize}
	if !f.From.IsZero() {
		where, args = where+" AND last >= ?", append(args, nanos(f.From))
	}
	if !f.To.IsZero() {
		where, args = where+" AND first <= ?", append(args, nanos(f.To))
	}
	var first, last *int64
	if err := s.index.read.QueryRowContext(ctx, "SELECT min(n), max(n) FROM block WHERE "+where, args...).Scan(&first, &last); err != nil {
		return r, false, fmt.Errorf("select blocks: %w", err)
	}
	if first == nil {
		return r, false, nil
	}
	r.First, r.End = max(r.First, *first*blockSize), min(r.End, (*last+1)*blockSize)
	return r, r.First < r.End, nil
}

// conditions returns the WHERE clause that selects a filter's candidates.
func conditions(f *search.Filter, r search.Range) (string, []any) {
	where, args := []string{"idx >= ?", "idx < ?"}, []any{r.First, r.End}
	add := func(cond string, a ...any) {
		where, args = append(where, cond), append(args, a...)
	}
	one := func(column, s string) {
		if s != "" {
			add(column+" = ?", word(s))
		}
	}
	list := func(column string, words []string) {
		switch len(words) {
		case 0:
		case 1:
			one(column, words[0])
		default:
			a := make([]any, len(words))
			for i, s := range words {
				a[i] = word(s)
			}
			add(column+" IN (?"+strings.Repeat(",?", len(words)-1)+")", a...)
		}
	}
	list("type", f.Types)
	list("category", f.Categories)
	list("severity", f.Severities)
	list("outcome", f.Outcomes)
	one("actor", f.Actor)
	one("correlation", f.CorrelationID)
	one("namespace", f.Namespace)
	one("kind", f.Kind)
	one("resource", f.Resource)
	one("cluster", f.Cluster)
	if !f.From.IsZero() {
		add("ts >= ?", nanos(f.From))
	}
	if !f.To.IsZero() {
		add("ts <= ?", nanos(f.To))
	}
	if !f.WithAccess() {
		add("access IS NULL")
	}
	if f.Scope != nil {
		if len(f.Scope) == 0 {
			add("FALSE")
		} else {
			list("namespace", f.Scope)
		}
	}
	return strings.Join(where, " AND "), args
}

// nanos returns t in nanoseconds since 1970, or the nearest that there is.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, 0)):
		return 0
	case t.Year() > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}
