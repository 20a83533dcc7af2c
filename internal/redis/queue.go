// Package redis keeps events in a Redis or Valkey stream while the ledger's store
// is away, for servers that have no disk of their own.
//
// The servers of a ledger share one stream. Each puts into it; one at a time, who
// has the lease, reads it, oldest first, and deletes what the ledger has. A server
// that stands still and comes back after its lease is over may read what another
// reads, too: ids tell, and both go in the same order. Nothing is ever trimmed.
package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graven-audit/graven/internal/deadletter"
)

const (
	// timeout bounds each command.
	timeout = 5 * time.Second
	// lease is how long a server reads alone, unless it renews that.
	lease = 10 * time.Second
	// look is how often it is looked what others have put in.
	look = 200 * time.Millisecond
	// recheck is how often the server's settings are looked at again.
	recheck = 10 * time.Second
	// DefaultMax is how many events a stream has at most, by default.
	DefaultMax = 1_000_000
)

// ErrFull means that the stream has reached its bound. Nothing was kept.
var ErrFull = errors.New("the stream is full")

// Options of a Queue.
type Options struct {
	// Origin is the ledger's name, of which the names of the keys are made.
	Origin string
	// Max bounds the stream, in events; 0 means [DefaultMax].
	Max int64
	// OnError, if not nil, is told of failures that stop nothing. It may be
	// called concurrently.
	OnError func(error)
}

// A Queue is a stream. It implements [deadletter.Queue].
type Queue struct {
	*server
	o      Options
	leased string // key
	me     string

	counting sync.RWMutex // write-locked while the stream is measured, and read-locked while it changes
	length   atomic.Int64 // of the stream, as it was last seen

	unfit atomic.Pointer[error] // why nothing may be put in
	quit  context.CancelFunc
	done  sync.WaitGroup
}

var _ deadletter.Queue = (*Queue)(nil)

// Open opens the stream of a ledger on the server at a URL, which must keep what
// it acknowledges.
func Open(ctx context.Context, url string, o Options) (*Queue, error) {
	s, err := connect(ctx, url, o.Origin)
	if err != nil {
		return nil, err
	}
	if o.Max == 0 {
		o.Max = DefaultMax
	}
	q := &Queue{server: s, o: o, leased: s.prefix + "reader", me: rand.Text()}
	if err := q.measure(ctx); err != nil {
		return nil, errors.Join(s.failed(err), s.client.Close())
	}
	background, quit := context.WithCancel(context.Background())
	q.quit = quit
	q.done.Go(func() { q.watch(background) })
	return q, nil
}

// measure looks how long the stream is. What is put in meanwhile waits, for it
// would not be counted, and what comes behind it would pass it by.
func (q *Queue) measure(ctx context.Context) error {
	q.counting.Lock()
	defer q.counting.Unlock()
	n, err := q.client.XLen(ctx, q.stream).Result()
	if err == nil {
		q.length.Store(n)
	}
	return err
}

// watch follows the length of the stream and the server's settings, until ctx
// ends.
func (q *Queue) watch(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	checked, failing := time.Now(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := q.measure(ctx)
		if err == nil && (failing || time.Since(checked) > recheck) {
			checked = time.Now()
			if err = q.check(ctx); err == nil {
				q.unfit.Store(nil)
			} else {
				unfit := err
				q.unfit.Store(&unfit)
			}
		}
		if err != nil && !failing && ctx.Err() == nil && q.o.OnError != nil {
			q.o.OnError(fmt.Errorf("deadLetter: %w", err))
		}
		failing = err != nil
	}
}

// field is the one of a stream's entry that holds the item.
const field = "item"

// Put implements [deadletter.Queue].
func (q *Queue) Put(ctx context.Context, items ...[]byte) error {
	if unfit := q.unfit.Load(); unfit != nil {
		return *unfit
	}
	if q.length.Load()+int64(len(items)) > q.o.Max {
		return fmt.Errorf("%w: it has %d events", ErrFull, q.length.Load())
	}
	q.counting.RLock()
	defer q.counting.RUnlock()
	added, err := q.client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		for _, it := range items {
			p.XAdd(ctx, &goredis.XAddArgs{Stream: q.stream, Values: []any{field, it}})
		}
		return nil
	})
	if err != nil {
		for _, a := range added { // which says why the whole was refused
			if a.Err() != nil && !errors.Is(a.Err(), err) {
				err = fmt.Errorf("%w: %w", err, a.Err())
				break
			}
		}
		return err
	}
	q.length.Add(int64(len(items)))
	return nil
}

// renew takes the lease, or prolongs it, and reports whether this server has it.
var renew = goredis.NewScript(`
local has = redis.call("GET", KEYS[1])
if has and has ~= ARGV[1] then return 0 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return 1`)

// Next implements [deadletter.Queue].
func (q *Queue) Next(ctx context.Context, maxItems, maxBytes int) ([]deadletter.Item, error) {
	for {
		mine, err := renew.Run(ctx, q.client, []string{q.leased}, q.me, lease.Milliseconds()).Bool()
		var list []goredis.XMessage
		if err == nil && mine {
			list, err = q.client.XRangeN(ctx, q.stream, "-", "+", int64(maxItems)).Result()
		}
		if err != nil || len(list) > 0 {
			return take(list, maxBytes), err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(look):
		}
	}
}

// take returns the first messages as items, of maxBytes together.
func take(list []goredis.XMessage, maxBytes int) []deadletter.Item {
	items := make([]deadletter.Item, 0, len(list))
	for _, m := range list {
		text, _ := m.Values[field].(string) // what is none cannot be read, and goes into quarantine
		if maxBytes -= len(text); maxBytes < 0 && len(items) > 0 {
			break
		}
		items = append(items, deadletter.Item{ID: m.ID, Data: []byte(text)})
	}
	return items
}

// Done implements [deadletter.Queue].
func (q *Queue) Done(ctx context.Context, items []deadletter.Item) error {
	ids := make([]string, len(items))
	for i, it := range items {
		ids[i] = it.ID
	}
	q.counting.RLock()
	defer q.counting.RUnlock()
	n, err := q.client.XDel(ctx, q.stream, ids...).Result()
	if err == nil {
		q.length.Add(-n)
	}
	return err
}

// Len implements [deadletter.Queue]: the length of the stream, in which others'
// events count as soon as they were seen.
func (q *Queue) Len() int64 { return max(q.length.Load(), 0) }

// Close gives up the lease and closes the connections.
func (q *Queue) Close() error {
	q.quit()
	q.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// Whoever comes next waits for the lease to end if this fails.
	_ = goredis.NewScript(`if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end`).Run(ctx, q.client, []string{q.leased}, q.me).Err()
	return q.client.Close()
}
