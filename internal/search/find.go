package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// A Reader reads the ledger.
type Reader interface {
	// Record returns the record at an index.
	Record(ctx context.Context, index int64) (trail.Record, error)
	// Records calls fn for each record within r, in order, until fn gives an
	// error, which it returns. A record is valid during its call only.
	Records(ctx context.Context, r Range, fn func(*trail.Record) error) error
}

// A Picker is a Reader of which one question for several records costs less than
// as many questions.
type Picker interface {
	// Pick calls fn for the record at each of several indexes, in their order,
	// until fn gives an error, which it returns. The records are fn's to keep.
	Pick(ctx context.Context, indexes []int64, fn func(*trail.Record) error) error
}

var (
	// ErrNotReady means that the index has not caught up with what was asked
	// for. Doors answer 503 with Retry-After.
	ErrNotReady = errors.New("the index has not caught up, try again")
	// ErrChanged means that a record on the disk is not the one that was sealed.
	ErrChanged = errors.New("a record was changed on the disk; run graven verify")
	// ErrHashes means that hashes of the tree, which are derived from the
	// records, are not what they were.
	ErrHashes = errors.New("stored hashes of the tree are damaged; graven verify names them, graven reindex makes them anew")
	// ErrTooBroad means that a question would have to read too many entries.
	ErrTooBroad = errors.New("too many events to look through; narrow the question down, by time for example")
)

const (
	// maxWait is how long a question waits for the index.
	maxWait = 5 * time.Second
	// maxScan is how long a question may look through entries.
	maxScan = 10 * time.Second
	// batchSize is how many candidates are selected at a time.
	batchSize = 512
)

// MaxPage bounds the bytes of the records of one part of an answer; the part
// ends early beyond it.
const MaxPage = 8 << 20

// A Hit is an event that was found, with its record.
type Hit struct {
	Event  *event.Event
	Record trail.Record
}

// An Answer is a part of what a question asks for.
type Answer struct {
	// Total counts all events that match, not only those of this part.
	Total int64
	Hits  []Hit
	// Next is the cursor of the next part; empty where this was the last.
	Next string
	// Cut is set where the part ended early, for its bytes.
	Cut bool
	// Erased tells of entries that may have matched; nil for none.
	Erased *Erasure
}

// A Finder answers questions about the ledger. Indexes select; what it returns
// was read from the ledger and holds against the filter. Entries that were erased
// are no answer to any question.
type Finder struct {
	Index  Index
	Reader Reader
	// Tombs are those that Reader heeds; nil where it heeds none.
	Tombs Tombs
}

// Ready waits until every entry below size can be found, or fails with
// [ErrNotReady].
func (x *Finder) Ready(ctx context.Context, size int64) error {
	return Await(ctx, size, x.Index.Ready)
}

// Await gives wait as long as a question may wait for what is derived from the
// ledger of the given size. Its error is [ErrNotReady].
func Await(ctx context.Context, size int64, wait func(ctx context.Context, size int64) error) error {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if err := wait(ctx, size); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// Page answers a question as of when the ledger had size entries.
func (x *Finder) Page(ctx context.Context, f *Filter, p Page, size int64) (*Answer, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	if err := x.Ready(ctx, size); err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, maxScan)
	defer cancel()
	a, err := x.page(bounded, f, p, size)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return nil, ErrTooBroad
	}
	return a, err
}

// Begin returns the index below which entries were erased, as far as is known.
func (x *Finder) Begin(ctx context.Context) (int64, error) {
	if x.Tombs == nil {
		return 0, nil
	}
	err := x.Tombs.CatchUp(ctx)
	return x.Tombs.Pruned(), err
}

func (x *Finder) page(ctx context.Context, f *Filter, p Page, size int64) (*Answer, error) {
	var a Answer
	begin, err := x.Begin(ctx)
	if err == nil {
		a.Erased, err = x.erased(ctx, f, begin)
	}
	if err != nil {
		return nil, err
	}
	all := Range{min(size, begin), size}
	r := all
	switch {
	case p.Cursor < 0:
	case p.Oldest:
		r.First = max(r.First, min(size, p.Cursor)+1)
	default:
		r.End = min(size, p.Cursor)
	}
	bytes, limit := 0, cmp.Or(p.Bytes, MaxPage)
	offset, skip := p.Offset, int64(0)
	if f.scans() {
		offset, skip = 0, p.Offset // candidates that do not match must not count
	}
	err = x.each(ctx, f, r, p.Oldest, min(p.Limit+1, batchSize), offset, func(h Hit) error {
		if skip > 0 {
			skip--
			return nil
		}
		if n := len(a.Hits); n == p.Limit || bytes > limit {
			a.Cut = n < p.Limit
			a.Next = strconv.FormatInt(a.Hits[n-1].Record.Index, 10)
			return errDone
		}
		bytes += len(h.Record.Entry) + len(h.Record.Erasable)
		a.Hits = append(a.Hits, h)
		return nil
	})
	if err != nil && !errors.Is(err, errDone) {
		return nil, err
	}
	if p.Offset == 0 && p.Cursor < 0 && a.Next == "" {
		a.Total = int64(len(a.Hits)) // this is all there is
		return &a, nil
	}
	a.Total, err = x.count(ctx, f, all)
	return &a, err
}

// count returns how many events within r match.
func (x *Finder) count(ctx context.Context, f *Filter, r Range) (n int64, err error) {
	if !f.scans() {
		return x.Index.Count(ctx, f, r)
	}
	err = x.each(ctx, f, r, false, batchSize, 0, func(Hit) error { n++; return nil })
	return n, err
}

var errDone = errors.New("done")

// Each calls fn for every event within r that matches, the oldest first, until
// fn gives an error, which it returns.
func (x *Finder) Each(ctx context.Context, f *Filter, r Range, fn func(Hit) error) error {
	if err := f.Check(); err != nil {
		return err
	}
	if err := x.Ready(ctx, r.End); err != nil {
		return err
	}
	begin, err := x.Begin(ctx)
	if err != nil {
		return err
	}
	r.First = max(r.First, begin)
	return x.each(ctx, f, r, true, batchSize, 0, fn)
}

// Candidates calls fn for the index of each entry within r that the index
// selects, the oldest first, whether or not the entry on the disk still matches,
// until fn gives an error, which it returns.
func (x *Finder) Candidates(ctx context.Context, f *Filter, r Range, fn func(index int64) error) error {
	if err := x.Ready(ctx, r.End); err != nil {
		return err
	}
	for {
		found, err := x.Index.Select(ctx, f, r, true, batchSize, 0)
		if err != nil {
			return err
		}
		for _, index := range found {
			if err := fn(index); err != nil {
				return err
			}
		}
		if len(found) < batchSize {
			return nil
		}
		r.First = found[len(found)-1] + 1
	}
}

// each calls fn for every hit within r after skipping offset candidates.
func (x *Finder) each(ctx context.Context, f *Filter, r Range, oldest bool, batch int, offset int64, fn func(Hit) error) error {
	for {
		found, err := x.Index.Select(ctx, f, r, oldest, batch, offset)
		if err != nil {
			return err
		}
		offset = 0
		err = x.pick(ctx, found, func(h Hit) error {
			if h.Record.Leaf != nil || !f.Match(h.Event) {
				return nil
			}
			return fn(h)
		})
		if err != nil {
			return err
		}
		if len(found) < batch {
			return nil
		}
		if last := found[len(found)-1]; oldest {
			r.First = last + 1
		} else {
			r.End = last
		}
	}
}

// pick calls fn for the event at each of several indexes.
func (x *Finder) pick(ctx context.Context, indexes []int64, fn func(Hit) error) error {
	return pick(ctx, x.Reader, indexes, func(r *trail.Record) error {
		e, err := r.Event()
		if err != nil {
			return err
		}
		return fn(Hit{Event: e, Record: *r})
	})
}

// pick calls fn for the record at each of several indexes.
func pick(ctx context.Context, from Reader, indexes []int64, fn func(*trail.Record) error) error {
	if p, ok := from.(Picker); ok {
		return p.Pick(ctx, indexes, fn)
	}
	for _, index := range indexes {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := from.Record(ctx, index)
		if err != nil {
			return err
		}
		if err := fn(&r); err != nil {
			return err
		}
	}
	return nil
}

// Get returns the event at an index.
func (x *Finder) Get(ctx context.Context, index int64) (Hit, error) {
	r, err := x.Reader.Record(ctx, index)
	if err != nil {
		return Hit{}, err
	}
	e, err := r.Event()
	return Hit{Event: e, Record: r}, err
}
