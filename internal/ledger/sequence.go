package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// sequence is the only goroutine that appends.
func (l *Ledger) sequence() {
	defer close(l.done)
	for {
		var pool []*request
		select {
		case r := <-l.queue:
			l.gather()
			pool = l.take(append(pool, r))
		case <-l.stop:
			if pool = l.take(nil); len(pool) == 0 {
				return
			}
		}
		l.commit(pool)
	}
}

// gather lets those run who are about to queue up. It takes no time where there
// is nobody else: pools become larger, not later.
func (l *Ledger) gather() {
	for n := -1; len(l.queue) > n && n < l.c.MaxPool; {
		n = len(l.queue)
		runtime.Gosched()
	}
}

// take adds what has queued up, within the bounds of a pool.
func (l *Ledger) take(pool []*request) []*request {
	events := 0
	for _, r := range pool {
		events += len(r.items)
	}
	for events < l.c.MaxPool {
		select {
		case r := <-l.queue:
			pool = append(pool, r)
			events += len(r.items)
		default:
			return pool
		}
	}
	return pool
}

// commit records the requests of a pool and answers them.
func (l *Ledger) commit(requests []*request) {
	defer func() {
		for _, r := range requests {
			l.pending.Add(-r.size)
			l.release(r)
			close(r.done)
		}
	}()
	l.settle(requests)
}

// settle records requests and sets the results of all. Where there is no room,
// the ledger's own events may still use the space that is reserved for them.
func (l *Ledger) settle(requests []*request) {
	cover, err := l.record(requests)
	var own []*request
	for _, r := range requests {
		r.cover = cover
		if err == nil {
			continue
		}
		if r.own {
			own = append(own, r)
		}
		for i := range r.items {
			r.items[i].result.Receipt, r.items[i].result.Err = Receipt{}, err
		}
	}
	if errors.Is(err, ErrFull) && len(own) > 0 && len(own) < len(requests) {
		l.settle(own)
	}
}

// maxTries is how often a pool is made again: another writer may be faster
// several times in a row, and a store may find out only then that the connection
// it had is gone.
const maxTries = 4

// record appends the new events of requests and sets the results of all. On
// an error nothing was recorded, unless it is [ErrStopped] or [ErrAway].
func (l *Ledger) record(requests []*request) (cover *trail.Checkpoint, err error) {
	for range maxTries {
		var again bool
		if cover, again, err = l.try(requests); !again {
			return cover, err
		}
	}
	if errors.Is(err, ErrMoved) {
		err = fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return nil, err
}

// lock locks the store, and takes note of what other writers have appended.
func (l *Ledger) lock(ctx context.Context) error {
	head, err := l.c.Store.Lock(ctx, l.least)
	if err != nil {
		return l.stopIfBroken(err)
	}
	if old, is := l.head.Checkpoint, head.Checkpoint; is == old || old != nil && is != nil && is.Size == old.Size && is.Root == old.Root {
		return nil
	}
	recent, err := newRecent(ctx, l.c.Store, l.c.MaxRecent, l.c.Now()) // which ids others have recorded is not known
	if err != nil {
		l.c.Store.Unlock()
		return err
	}
	l.head, l.recent = head, recent
	l.publish(head.Checkpoint)
	return nil
}

// stopIfBroken stops the ledger where the store no longer knows what is durable.
func (l *Ledger) stopIfBroken(err error) error {
	if errors.Is(err, ErrBroken) {
		return l.fail(err)
	}
	return err
}

// try is a try of record, after which there may be another.
func (l *Ledger) try(requests []*request) (cover *trail.Checkpoint, again bool, err error) {
	if err := l.Err(); err != nil {
		return nil, false, err
	}
	began := time.Now()
	ctx := context.Background() // what was begun is finished
	if err := l.lock(ctx); err != nil {
		return nil, false, err
	}
	fresh, err := l.sift(ctx, requests)
	if err != nil || len(fresh) == 0 {
		l.c.Store.Unlock()
		return l.head.Checkpoint, errors.Is(err, ErrMoved), err
	}
	head := l.head // a copy: a pool that fails changes nothing
	pool := &l.pool
	*pool = Pool{Own: true, Records: pool.Records[:0], Events: pool.Events[:0], Leaves: make([]trail.Hash, 0, len(fresh))}
	defer func() { // or they keep what their like never overwrites
		clear(pool.Records)
		clear(pool.Events)
	}()
	size := 0
	for _, it := range fresh {
		it.record.Index = head.Tree.Size()
		head.Chain = trail.Link(head.Chain, it.record.Entry)
		it.record.Chain = head.Chain
		head.Tree.Append(it.leaf, nil)
		pool.Records = append(pool.Records, it.record)
		pool.Events = append(pool.Events, &it.event)
		pool.Leaves = append(pool.Leaves, it.leaf)
		size += len(it.record.Entry) + len(it.record.Erasable)
	}
	for _, r := range requests {
		pool.Own = pool.Own && r.own
	}
	head.Checkpoint, err = trail.SignCheckpoint(l.c.Signer.Name(), head.Tree.Size(), head.Tree.Root(), l.c.Signer)
	if err != nil {
		l.c.Store.Unlock()
		return nil, false, err
	}
	pool.Head = head
	if err := l.c.Store.Append(ctx, pool); err != nil {
		// Where it was kept all the same, the next try finds the ids.
		return nil, errors.Is(err, ErrMoved) || errors.Is(err, ErrAway), l.stopIfBroken(err)
	}
	l.head = head
	for _, it := range fresh {
		l.recent.add(it.event.ID, it.record.Index)
		it.result.Receipt = Receipt{ID: it.event.ID, Index: it.record.Index, Leaf: it.leaf}
	}
	for _, r := range requests {
		for i := range r.items {
			it := &r.items[i]
			if it.first != nil {
				it.result.Err = repeated(it, &it.first.record)
			}
		}
	}
	l.publish(head.Checkpoint)
	if l.c.Observe != nil {
		l.c.Observe(PoolStats{Events: len(fresh), Bytes: size, Duration: time.Since(began)})
	}
	return head.Checkpoint, false, nil
}

// sift returns the items whose ids are new, and answers those that were
// recorded before. Repetitions within the pool wait for their first.
func (l *Ledger) sift(ctx context.Context, requests []*request) ([]*item, error) {
	before, err := l.locate(ctx, requests)
	if err != nil {
		return nil, fmt.Errorf("look up event ids: %w", err)
	}
	items := 0
	for _, r := range requests {
		items += len(r.items)
	}
	fresh := make([]*item, 0, items)
	defer clear(l.firsts)
	for _, r := range requests {
		if r.founding && l.head.Checkpoint != nil {
			continue
		}
		for i := range r.items {
			it := &r.items[i]
			id := it.event.ID
			it.first, it.result.Err = nil, nil
			if index, ok := before[id]; ok {
				if index >= l.head.Tree.Size() { // by another writer, just now
					l.least = index + 1
					return nil, ErrMoved
				}
				// An entry that cannot be read concerns only who sent its id.
				it.result.Err = l.recorded(ctx, it, index)
			} else if first, ok := l.firsts[id]; ok {
				it.first = first
			} else {
				l.firsts[id] = it
				fresh = append(fresh, it)
			}
		}
	}
	return fresh, nil
}

// locate returns the indexes of those ids that were recorded before.
func (l *Ledger) locate(ctx context.Context, requests []*request) (map[event.ID]int64, error) {
	if err := l.recent.extend(ctx, l.c.Now()); err != nil {
		return nil, err
	}
	before := map[event.ID]int64{}
	var ask []event.ID
	for _, r := range requests {
		for i := range r.items {
			it := &r.items[i]
			if index, known := l.recent.find(it.event.ID); index >= 0 {
				before[it.event.ID] = index
			} else if !known {
				ask = append(ask, it.event.ID)
			}
		}
	}
	if len(ask) == 0 {
		return before, nil
	}
	indexes := make([]int64, len(ask))
	if err := l.c.Store.Find(ctx, ask, indexes); err != nil {
		return nil, err
	}
	for i, index := range indexes {
		if index >= 0 {
			before[ask[i]] = index
		}
	}
	return before, nil
}

// recorded answers an item whose id stands at index.
func (l *Ledger) recorded(ctx context.Context, it *item, index int64) error {
	old, err := l.c.Store.Record(ctx, index)
	if err != nil {
		return fmt.Errorf("read the entry with the same id: %w", err)
	}
	return repeated(it, &old)
}

// repeated answers an item whose id has the given record.
func repeated(it *item, old *trail.Record) error {
	it.result.Receipt = Receipt{ID: it.event.ID, Index: old.Index, Leaf: old.LeafHash(), Duplicate: true}
	if old.Leaf != nil {
		return nil
	}
	was, err := old.Event()
	if err != nil {
		return err
	}
	taken := ErrConflict
	if was.Recorded.Principal != it.by.Principal || was.Recorded.Via != it.by.Via {
		taken = errTaken
	}
	same, err := sameContent(it, old, was)
	if err == nil && !same {
		err = fmt.Errorf("%w: entry %d", taken, old.Index)
	}
	return err
}

// sameContent reports whether an item says what a record says, by whomever and
// whenever either was told. Of what was erased nothing is compared. It changes
// was, which is the record's event.
func sameContent(it *item, old *trail.Record, was *event.Event) (bool, error) {
	was.Recorded, was.Source = event.Recorded{}, event.Source{}
	is, err := it.record.Event() // whose details nobody else has
	if err != nil {
		return false, err
	}
	is.Recorded, is.Source = event.Recorded{}, event.Source{}
	if old.Erasable == nil {
		is.Details, is.Error.Message, is.Original = nil, "", nil
	}
	return bytes.Equal(is.AppendJSON(nil), was.AppendJSON(nil)), nil
}

func (l *Ledger) publish(c *trail.Checkpoint) {
	if c == nil {
		return
	}
	l.publishing.Lock()
	defer l.publishing.Unlock()
	old := l.state.Load()
	if old != nil && old.Checkpoint.Size >= c.Size {
		return
	}
	l.state.Store(&State{Checkpoint: c, changed: make(chan struct{})})
	if old != nil {
		close(old.changed)
	}
}

// fail stops the ledger for good.
func (l *Ledger) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrStopped, cause)
	if l.failed.CompareAndSwap(nil, &err) {
		close(l.stopped)
	}
	return err
}
