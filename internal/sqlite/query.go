package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/graven-audit/graven/internal/posting"
	"github.com/graven-audit/graven/internal/search"
)

// Select implements part of [search.Index].
func (x *Index) Select(ctx context.Context, f *search.Filter, r search.Range, oldest bool, limit int, offset int64) ([]int64, error) {
	var found []int64
	err := x.walk(ctx, f, r, oldest, func(block int64, set *posting.Set) bool {
		if n := int64(set.Len()); offset >= n {
			offset -= n
			return true
		}
		places := set.Backward()
		if oldest {
			places = set.All()
		}
		for p := range places {
			if offset > 0 {
				offset--
				continue
			}
			if len(found) == limit {
				return false
			}
			found = append(found, block*posting.BlockSize+int64(p))
		}
		return len(found) < limit
	})
	if err != nil {
		return nil, fmt.Errorf("select entries: %w", err)
	}
	return found, nil
}

// Count implements part of [search.Index].
func (x *Index) Count(ctx context.Context, f *search.Filter, r search.Range) (n int64, err error) {
	if r.First < r.End && f.All() && f.WithAccess() {
		return r.End - r.First, nil
	}
	err = x.walk(ctx, f, r, false, func(_ int64, set *posting.Set) bool {
		n += int64(set.Len())
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("count entries: %w", err)
	}
	return n, nil
}

// A condition wants one of words in a field.
type condition struct {
	field field
	words []int64
}

// selective lists fields, the most selective first.
var selective = [...]field{fieldCorrelation, fieldResource, fieldActor, fieldCluster, fieldNamespace, fieldType, fieldKind, fieldCategory, fieldOutcome, fieldSeverity}

// conditions returns what a filter wants of the index; possible is false where
// nothing can match.
func conditions(f *search.Filter) (list []condition, possible bool) {
	add := func(fd field, texts ...string) {
		var words []int64
		for _, t := range texts {
			if t != "" {
				words = append(words, word(t))
			}
		}
		if len(words) > 0 {
			list = append(list, condition{fd, words})
		}
	}
	add(fieldType, f.Types...)
	add(fieldCategory, f.Categories...)
	add(fieldSeverity, f.Severities...)
	add(fieldOutcome, f.Outcomes...)
	add(fieldActor, f.Actor)
	add(fieldCorrelation, f.CorrelationID)
	add(fieldNamespace, f.Namespace)
	add(fieldKind, f.Kind)
	add(fieldResource, f.Resource)
	add(fieldCluster, f.Cluster)
	add(fieldNamespace, f.Scope...)
	// The first drives: only the blocks in which its one word occurs count.
	slices.SortStableFunc(list, func(a, b condition) int {
		return cmp.Or(cmp.Compare(min(len(a.words), 2), min(len(b.words), 2)),
			cmp.Compare(slices.Index(selective[:], a.field), slices.Index(selective[:], b.field)))
	})
	return list, f.Scope == nil || len(f.Scope) > 0
}

// A Matcher holds rows against a filter, as the index does.
type Matcher struct {
	conditions []condition
	any        bool
	access     bool
	from, to   int64
}

// NewMatcher returns a matcher for f.
func NewMatcher(f *search.Filter) *Matcher {
	m := &Matcher{access: f.WithAccess(), from: math.MinInt64, to: math.MaxInt64}
	m.conditions, m.any = conditions(f)
	if !f.From.IsZero() {
		m.from = nanos(f.From)
	}
	if !f.To.IsZero() {
		m.to = nanos(f.To)
	}
	return m
}

// A walker looks for what a filter matches, block by block.
type walker struct {
	x          *Index
	filter     *search.Filter
	within     search.Range
	oldest     bool
	conditions []condition
	from, to   int64 // nanoseconds
	// timely, if not nil, are the blocks with times from from to to, rising.
	timely []int64
	fn     func(block int64, set *posting.Set) bool
}

// walk calls fn for each block that has candidates, until fn gives false.
func (x *Index) walk(ctx context.Context, f *search.Filter, r search.Range, oldest bool, fn func(block int64, set *posting.Set) bool) error {
	list, any := conditions(f)
	if !any || r.First >= r.End {
		return nil
	}
	w := &walker{x: x, filter: f, within: r, oldest: oldest, conditions: list, from: math.MinInt64, to: math.MaxInt64, fn: fn}
	if !f.From.IsZero() || !f.To.IsZero() {
		if err := w.narrow(ctx); err != nil {
			return err
		}
	}
	first, last := r.First/posting.BlockSize, (r.End-1)/posting.BlockSize
	for i := range last/blocksPerEpoch - first/blocksPerEpoch + 1 {
		epoch := last/blocksPerEpoch - i
		if oldest {
			epoch = first/blocksPerEpoch + i
		}
		lo, hi := max(first, epoch*blocksPerEpoch), min(last, (epoch+1)*blocksPerEpoch-1)
		if more, err := w.epoch(ctx, epoch, lo, hi); err != nil || !more {
			return err
		}
	}
	return nil
}

// narrow finds the blocks that may hold the times asked for.
func (w *walker) narrow(ctx context.Context) error {
	if !w.filter.From.IsZero() {
		w.from = nanos(w.filter.From)
	}
	if !w.filter.To.IsZero() {
		w.to = nanos(w.filter.To)
	}
	w.timely = []int64{}
	rows, err := w.x.read.QueryContext(ctx, "SELECT n FROM block WHERE n >= ? AND n <= ? AND last >= ? AND first <= ? ORDER BY n",
		w.within.First/posting.BlockSize, w.within.End/posting.BlockSize, w.from, w.to)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return err
		}
		w.timely = append(w.timely, n)
	}
	return rows.Err()
}

// A found is a block with the places at which the first condition holds.
type found struct {
	block int64
	set   posting.Set
}

// epoch walks the blocks from lo to hi, which are of one epoch.
func (w *walker) epoch(ctx context.Context, epoch, lo, hi int64) (more bool, err error) {
	if len(w.conditions) > 0 && len(w.conditions[0].words) == 1 {
		list, err := w.driven(ctx, epoch, lo, hi)
		if err != nil {
			return false, err
		}
		for i := range list {
			if more, err := w.visit(ctx, &list[i], w.conditions[1:]); err != nil || !more {
				return more, err
			}
		}
		return true, nil
	}
	for i := range hi - lo + 1 {
		b := found{block: hi - i}
		if w.oldest {
			b.block = lo + i
		}
		b.set.AddRange(0, posting.BlockSize)
		if more, err := w.visit(ctx, &b, w.conditions); err != nil || !more {
			return more, err
		}
	}
	return true, nil
}

// driven returns the blocks in which the first condition holds. They are read
// at once, for a query within a query could wait for itself.
func (w *walker) driven(ctx context.Context, epoch, lo, hi int64) (list []found, err error) {
	stmt := w.x.falling
	if w.oldest {
		stmt = w.x.rising
	}
	c := w.conditions[0]
	rows, err := stmt.QueryContext(ctx, epoch, int64(c.field), c.words[0], lo, hi)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b found
		var places sql.RawBytes
		if err := rows.Scan(&b.block, &places); err != nil {
			return nil, err
		}
		if b.set, err = posting.Parse(places); err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, rows.Err()
}

// visit holds a block against the other conditions.
func (w *walker) visit(ctx context.Context, b *found, conditions []condition) (more bool, err error) {
	if w.timely != nil {
		if _, ok := slices.BinarySearch(w.timely, b.block); !ok {
			return true, nil
		}
	}
	start := b.block * posting.BlockSize
	var within posting.Set
	within.AddRange(int(max(w.within.First-start, 0)), int(min(w.within.End-start, posting.BlockSize)))
	b.set.And(&within)
	for _, c := range conditions {
		var any posting.Set
		for _, word := range c.words {
			set, err := w.x.lookUp(ctx, b.block, term{c.field, word})
			if err != nil {
				return false, err
			}
			any.Or(&set)
		}
		b.set.And(&any)
	}
	if !w.filter.WithAccess() {
		set, err := w.x.lookUp(ctx, b.block, term{fieldAccess, 1})
		if err != nil {
			return false, err
		}
		b.set.Remove(&set)
	}
	if b.set.Len() > 0 && w.timely != nil {
		if err := w.time(ctx, b); err != nil {
			return false, err
		}
	}
	if b.set.Len() == 0 {
		return true, ctx.Err()
	}
	return w.fn(b.block, &b.set), ctx.Err()
}

// time leaves the places whose times are asked for.
func (w *walker) time(ctx context.Context, b *found) error {
	var times []byte
	if err := w.x.block.QueryRowContext(ctx, b.block).Scan(&times); err != nil {
		return err
	}
	var within posting.Set
	err := parseTimes(times, func(i int, t int64) {
		if t >= w.from && t <= w.to {
			within.Add(i)
		}
	})
	b.set.And(&within)
	return err
}

// lookUp returns the places of a term in a block.
func (x *Index) lookUp(ctx context.Context, block int64, t term) (posting.Set, error) {
	var places []byte
	err := x.places.QueryRowContext(ctx, block/blocksPerEpoch, int64(t.field), t.word, block).Scan(&places)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return posting.Set{}, err
	}
	return posting.Parse(places)
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
