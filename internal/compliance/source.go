package compliance

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/brief"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/report"
	"github.com/graven-audit/graven/trail"
)

// ahead is how far in the future of its recording an event's time may be, and some.
const ahead = 2 * time.Hour

// sparse is how many times as many entries must stand in a stretch as are asked for,
// before they are looked for one by one.
const sparse = 30

// A Source gives reports the events of a ledger as it stood at one size. It implements
// [report.Source].
type Source struct {
	Find *search.Finder
	// Origin and Size say which ledger, and how many of its entries.
	Origin string
	Size   int64
	Root   trail.Hash
}

// At returns the source for a ledger at an earlier size; 0 means that of the checkpoint.
func At(find *search.Finder, hashes tlog.HashReader, cp *trail.Checkpoint, size int64) (*Source, error) {
	s := &Source{Find: find, Origin: cp.Origin, Size: cp.Size, Root: cp.Root}
	switch {
	case size == 0 || size == cp.Size:
		return s, nil
	case size < 0 || size > cp.Size:
		return nil, &search.ParamError{Param: "checkpoint", Reason: fmt.Sprintf("the ledger has %d entries", cp.Size)}
	}
	root, err := tlog.TreeHash(size, hashes)
	if err != nil {
		return nil, fmt.Errorf("root of %d entries: %w", size, err)
	}
	s.Size, s.Root = size, root
	return s, nil
}

// Ledger is the state that reports are computed from.
func (s *Source) Ledger() report.Ledger {
	return report.Ledger{Origin: s.Origin, Size: s.Size, Root: s.Root.String()}
}

// Began returns when the first entry was recorded that the ledger still has, its index,
// and whether entries before it were erased.
func (s *Source) Began(ctx context.Context) (at time.Time, first int64, err error) {
	if first, err = s.Find.Begin(ctx); err != nil || first >= s.Size {
		return time.Time{}, min(first, s.Size), err
	}
	at, err = s.recorded(ctx, first)
	return at, first, err
}

// AsOf returns when the last of its entries was recorded.
func (s *Source) AsOf(ctx context.Context) (time.Time, error) {
	if s.Size == 0 {
		return time.Time{}, nil
	}
	return s.recorded(ctx, s.Size-1)
}

func (s *Source) recorded(ctx context.Context, index int64) (time.Time, error) {
	r, err := s.Find.Reader.Record(ctx, index)
	if err != nil {
		return time.Time{}, err
	}
	var b brief.Event
	if err := b.Read(r.Entry); err != nil {
		return time.Time{}, fmt.Errorf("entry %d: %w", index, err)
	}
	return brief.Time(b.RecordedAt)
}

// since returns the first index, from first on, of what was recorded at a time or later.
// Times of recording never fall along a ledger but where a clock was set back, by less
// than [ahead] or nobody would be believed.
func (s *Source) since(ctx context.Context, first int64, at time.Time) (int64, error) {
	low, high := first, s.Size
	for low < high {
		middle := low + (high-low)/2
		recorded, err := s.recorded(ctx, middle)
		if err != nil {
			return 0, err
		}
		if recorded.Before(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// Fill implements [report.Source].
func (s *Source) Fill(ctx context.Context, q report.Question, compare bool, t *report.Tally) (report.Ledger, time.Time, bool, error) {
	of := s.Ledger()
	if err := s.Find.Ready(ctx, s.Size); err != nil {
		return of, time.Time{}, false, err
	}
	began, first, err := s.Began(ctx)
	if err != nil || first == s.Size {
		return of, began, first > 0, err
	}
	from := q.From
	if compare {
		from = q.Before().From
	}
	start, err := s.since(ctx, first, from.Add(-ahead))
	if err != nil {
		return of, began, false, err
	}
	earlier := search.Filter{Types: report.History(), To: from.Add(-1), Scope: q.Scope}
	if err := s.pick(ctx, &earlier, search.Range{First: first, End: start}, t); err != nil {
		return of, began, false, err
	}
	rest := search.Range{First: start, End: s.Size}
	window := search.Filter{Namespace: q.Namespace, From: from, To: q.To.Add(-1), Scope: q.Scope}
	n, err := s.Find.Index.Count(ctx, &window, rest)
	if err != nil {
		return of, began, false, err
	}
	if sparse*n > rest.End-rest.First {
		return of, began, first > 0, s.all(ctx, rest, t)
	}
	// What is not of the namespace, or of the window, and counts all the same.
	beside := search.Filter{Types: report.History(), To: q.To.Add(-1), Scope: q.Scope}
	err = s.eachOf(ctx, &beside, rest, func(h search.Hit) error {
		if window.Match(h.Event) {
			return nil
		}
		return add(t, &h.Record)
	})
	if err == nil {
		err = s.pick(ctx, &window, rest, t)
	}
	return of, began, first > 0, err
}

func (s *Source) pick(ctx context.Context, f *search.Filter, r search.Range, t *report.Tally) error {
	return s.eachOf(ctx, f, r, func(h search.Hit) error { return add(t, &h.Record) })
}

func (s *Source) eachOf(ctx context.Context, f *search.Filter, r search.Range, fn func(search.Hit) error) error {
	if r.First >= r.End {
		return nil
	}
	return s.Find.Each(ctx, f, r, fn)
}

func add(t *report.Tally, r *trail.Record) error {
	if r.Leaf != nil {
		return nil // erased
	}
	var b brief.Event
	if err := b.Read(r.Entry); err != nil {
		return fmt.Errorf("entry %d: %w", r.Index, err)
	}
	return t.Add(&b, r.Erasable)
}

// Of what is read ahead of what is counted.
const (
	batchBytes   = 1 << 20
	batchRecords = 1024
	batches      = 5
)

// A batch is records with their own memory.
type batch struct {
	memory  []byte
	records []trail.Record
}

func (b *batch) add(r *trail.Record) {
	own := func(text []byte) []byte {
		if text == nil {
			return nil
		}
		begin := len(b.memory)
		b.memory = append(b.memory, text...)
		return b.memory[begin:len(b.memory):len(b.memory)]
	}
	b.records = append(b.records, trail.Record{Index: r.Index, Chain: r.Chain, Entry: own(r.Entry), Salt: r.Salt, Erasable: own(r.Erasable), Leaf: r.Leaf})
}

// all adds all records of a range. What it takes to read them, to hold their content
// against their entries, and to count them is shared by three goroutines.
func (s *Source) all(ctx context.Context, r search.Range, t *report.Tally) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	read, checked, free := make(chan *batch, 1), make(chan *batch, 1), make(chan *batch, batches)
	for range batches {
		free <- &batch{memory: make([]byte, 0, batchBytes+512<<10)}
	}
	// stage has a goroutine do something with each record of the batches, which it then
	// hands on.
	var ended sync.WaitGroup
	stage := func(from <-chan *batch, to chan<- *batch, each func(*trail.Record) error) {
		ended.Go(func() {
			if to != free {
				defer close(to)
			}
			for b := range from {
				for i := range b.records {
					if err := each(&b.records[i]); err != nil {
						stop(err)
						return
					}
				}
				select {
				case to <- b:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	stage(read, checked, search.CheckContent)
	stage(checked, free, func(r *trail.Record) error { return add(t, r) })
	b := <-free
	next := func() error {
		select {
		case read <- b:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case b = <-free:
			b.memory, b.records = b.memory[:0], b.records[:0]
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := search.ReadChained(ctx, s.Find.Reader, r, func(rec *trail.Record) error {
		b.add(rec)
		if len(b.memory) >= batchBytes || len(b.records) == batchRecords {
			return next()
		}
		return nil
	})
	if err == nil {
		err = next()
	}
	close(read)
	if err != nil {
		stop(err)
	}
	ended.Wait()
	return context.Cause(ctx)
}

// Has reports whether the trail has an event of a namespace.
func (s *Source) Has(ctx context.Context, namespace string) (bool, error) {
	n, err := s.Find.Index.Count(ctx, &search.Filter{Namespace: namespace, Access: true}, search.Range{End: s.Size})
	return n > 0, err
}

// Each calls fn for each event of the window that stands in the namespaces asked for, in
// the ledger's order, with its record.
func (s *Source) Each(ctx context.Context, q *report.Question, fn func(search.Hit) error) error {
	_, first, err := s.Began(ctx)
	if err != nil {
		return err
	}
	f := search.Filter{Namespace: q.Namespace, From: q.From, To: q.To.Add(-1), Scope: q.Scope}
	return s.eachOf(ctx, &f, search.Range{First: first, End: s.Size}, fn)
}

// Entries calls fn for each event of some types in the window, in the ledger's order;
// from before the window, too, where history is set.
func (s *Source) Entries(ctx context.Context, q *report.Question, types []string, history bool, fn func(search.Hit) error) error {
	_, first, err := s.Began(ctx)
	if err != nil {
		return err
	}
	f := search.Filter{Types: slices.Clone(types), Namespace: q.Namespace, To: q.To.Add(-1), Scope: q.Scope}
	if !history {
		f.From = q.From
	}
	return s.eachOf(ctx, &f, search.Range{First: first, End: s.Size}, fn)
}

var _ report.Source = (*Source)(nil)

// Scan calls fn for each entry that may tell of a time or later, in the ledger's order:
// those of what was recorded from two hours before it on. Both arguments live during the
// call only. Erased entries are passed over.
func (s *Source) Scan(ctx context.Context, from time.Time, fn func(*trail.Record, *brief.Event) error) error {
	start, err := s.First(ctx, from)
	if err != nil {
		return err
	}
	return s.Find.Reader.Records(ctx, search.Range{First: start, End: s.Size}, func(r *trail.Record) error {
		if r.Leaf != nil {
			return nil
		}
		var b brief.Event
		if err := b.Read(r.Entry); err != nil {
			return fmt.Errorf("entry %d: %w", r.Index, err)
		}
		return fn(r, &b)
	})
}

// First returns the index that [Source.Scan] begins with.
func (s *Source) First(ctx context.Context, from time.Time) (int64, error) {
	_, first, err := s.Began(ctx)
	if err != nil {
		return 0, err
	}
	return s.since(ctx, first, from.Add(-ahead))
}
