package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// Options of a Store.
type Options struct {
	// Verifier is the ledger's public key.
	Verifier note.Verifier
	// Known are checkpoints of the ledger that the database must extend.
	Known []*trail.Checkpoint
	// ReadOnly opens a ledger to which nothing is to be appended.
	ReadOnly bool
	// Copying opens a ledger to which pools are appended that were recorded
	// elsewhere, also where one may not record.
	Copying bool
	// OnError, if not nil, is told of failures that stop nothing. It may be
	// called concurrently.
	OnError func(error)
}

// A Store is a ledger in a database. It implements [ledger.Store],
// [search.Index], [search.Reader] and [search.Picker].
type Store struct {
	o       Options
	readers *pgxpool.Pool

	// What follows is owned by the appending goroutine. head counts if it is
	// known; moved is set where another writer was faster, and locked while
	// the head is.
	writer *pgx.Conn
	head   ledger.Head
	known  bool
	moved  bool
	locked bool
	args   arguments
	made   time.Time // month of which there are partitions, while copying

	months atomic.Pointer[months]
	newest atomic.Pointer[trail.Checkpoint] // that was seen

	quit context.CancelFunc
	done sync.WaitGroup
}

var (
	_ ledger.Store  = (*Store)(nil)
	_ ledger.Shared = (*Store)(nil)
	_ search.Index  = (*Store)(nil)
	_ search.Reader = (*Store)(nil)
	_ search.Picker = (*Store)(nil)
)

// Open opens the ledger in the database at dsn, whose schema must be there
// ([Migrate]).
func Open(ctx context.Context, dsn string, o Options) (*Store, error) {
	config, err := configure(dsn)
	if err != nil {
		return nil, err
	}
	if o.Copying {
		config.ConnConfig.RuntimeParams["graven.copying"] = "on"
	}
	at := fmt.Sprintf("database %s", config.ConnConfig.Database)
	s := &Store{o: o}
	if s.readers, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open ledger in %s: %w", at, err)
	}
	background, quit := context.WithCancel(context.Background())
	s.quit = quit
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger in %s: %w", at, err), s.Close())
	}
	if !o.ReadOnly {
		s.done.Go(func() { s.keepMonths(background) })
	}
	if !o.ReadOnly && !o.Copying {
		s.done.Go(func() { s.keepCounts(background) })
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := checkSchema(ctx, s.readers); err != nil {
		return err
	}
	if !s.o.ReadOnly {
		if err := errors.Join(s.checkHere(ctx), s.makeMonths(ctx)); err != nil {
			return err
		}
	}
	if err := s.readMonths(ctx); err != nil {
		return err
	}
	head, err := s.readHead(ctx, s.readers)
	if err != nil {
		return err
	}
	for _, c := range s.o.Known {
		if err := s.extends(ctx, s.readers, head.Checkpoint, c); err != nil {
			return err
		}
	}
	s.saw(head.Checkpoint)
	if s.o.ReadOnly {
		s.head, s.known = head, true
		return nil
	}
	return s.connect(ctx)
}

// connect opens the connection that writes, if there is none.
func (s *Store) connect(ctx context.Context) error {
	if s.writer != nil && !s.writer.IsClosed() {
		return nil
	}
	s.known = false
	conn, err := pgx.ConnectConfig(ctx, s.readers.Config().ConnConfig)
	if err == nil {
		if err = admit(ctx, conn); err == nil {
			err = s.args.prepare(ctx, conn)
		}
		if err != nil {
			conn.Close(ctx)
		}
	}
	if err != nil {
		return err
	}
	s.writer = conn
	return nil
}

// disconnect gives up the connection that writes, of which it is not known what
// has become.
func (s *Store) disconnect() {
	s.known, s.locked = false, false
	if s.writer != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.writer.Close(ctx) // there is nothing more to learn from it
		s.writer = nil
	}
}

// Lock implements [ledger.Store]. As long as nobody else appends, it asks nobody.
func (s *Store) Lock(ctx context.Context, least int64) (ledger.Head, error) {
	if s.known && s.head.Tree.Size() >= least && (s.o.ReadOnly || !s.writer.IsClosed()) {
		return s.head, nil
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if err := s.connect(ctx); err != nil {
		return ledger.Head{}, fmt.Errorf("%w: %w", ledger.ErrAway, err)
	}
	head, err := s.lock(ctx)
	if err != nil {
		s.disconnect()
		return ledger.Head{}, storeError(err)
	}
	s.head, s.known = head, true
	s.saw(head.Checkpoint)
	return head, nil
}

// saw takes note of a checkpoint that extends what was seen before.
func (s *Store) saw(c *trail.Checkpoint) {
	for {
		old := s.newest.Load()
		if c == nil || old != nil && old.Size >= c.Size || s.newest.CompareAndSwap(old, c) {
			return
		}
	}
}

// Newest implements [ledger.Shared].
func (s *Store) Newest(ctx context.Context) (*trail.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	old := s.newest.Load()
	var text []byte
	err := s.again(ctx, func() error { return s.readers.QueryRow(ctx, "SELECT checkpoint FROM ledger_head").Scan(&text) })
	if err != nil {
		return nil, storeError(err)
	}
	if old != nil && bytes.Equal(text, old.Note) {
		return old, nil
	}
	head, err := s.readHead(ctx, s.readers)
	if err == nil {
		err = s.extends(ctx, s.readers, head.Checkpoint, old)
	}
	if err != nil {
		return nil, storeError(err)
	}
	s.saw(head.Checkpoint)
	return head.Checkpoint, nil
}

func (s *Store) lock(ctx context.Context) (ledger.Head, error) {
	if s.moved {
		if _, err := s.writer.Exec(ctx, "BEGIN"); err != nil {
			return ledger.Head{}, err
		}
		s.locked = true
		if _, err := s.writer.Exec(ctx, "SELECT graven.lock()"); err != nil {
			return ledger.Head{}, err
		}
	}
	old := s.newest.Load() // before the head is read: what is seen meanwhile may be newer
	head, err := s.readHead(ctx, s.writer)
	if err == nil {
		err = s.extends(ctx, s.writer, head.Checkpoint, old)
	}
	if err != nil {
		return head, err
	}
	return head, s.readMonths(ctx)
}

// Unlock implements [ledger.Store].
func (s *Store) Unlock() {
	if s.locked {
		s.finish("ROLLBACK")
	}
}

// finish ends the transaction in which the head is locked.
func (s *Store) finish(how string) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	_, err := s.writer.Exec(ctx, how)
	s.locked, s.moved = false, false
	if err != nil {
		s.disconnect()
	}
	return err
}

// Append implements [ledger.Store].
func (s *Store) Append(ctx context.Context, p *ledger.Pool) error {
	if s.o.ReadOnly {
		return ledger.ErrReadOnly
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout+connectTimeout)
	defer cancel()
	if s.o.Copying {
		if err := s.makeMonthOf(ctx, p); err != nil {
			return storeError(err)
		}
	}
	s.args.set(s.head, p)
	err := s.args.exec(ctx, s.writer)
	if err == nil && s.locked {
		err = s.finish("COMMIT")
	}
	if err == nil {
		s.head = p.Head
		s.saw(p.Head.Checkpoint)
		return nil
	}
	err = storeError(err)
	s.known = false
	s.moved = errors.Is(err, ledger.ErrMoved)
	switch {
	case errors.Is(err, ledger.ErrAway):
		s.disconnect()
	case s.locked:
		s.finish("ROLLBACK")
	}
	return err
}

// Close closes the connections. The ledger on top must be closed before.
func (s *Store) Close() error {
	s.quit()
	s.done.Wait()
	s.disconnect()
	s.readers.Close()
	return nil
}

// Lag returns how many entries cannot be found yet: none, for all is written at
// once.
func (s *Store) Lag() int64 { return 0 }

// Ready implements [search.Index]. What was appended can be found.
func (s *Store) Ready(ctx context.Context, size int64) error { return s.Wait(ctx, size) }

// Wait returns when hashes and index cover every entry below size, which they do
// at once: they are appended with the entries.
func (s *Store) Wait(ctx context.Context, size int64) error { return ctx.Err() }

// Find implements [ledger.Store].
func (s *Store) Find(ctx context.Context, ids []event.ID, indexes []int64) error {
	list, places := make([][16]byte, len(ids)), make(map[event.ID][]int, len(ids))
	for i, id := range ids {
		list[i] = id
		indexes[i] = -1
		places[id] = append(places[id], i)
	}
	return storeError(s.eachID(ctx, func(id event.ID, index int64) {
		for _, i := range places[id] {
			indexes[i] = index
		}
	}, "event_id = ANY($1)", list))
}

// Recent implements [ledger.Store].
func (s *Store) Recent(ctx context.Context, from, to time.Time) (map[event.ID]int64, error) {
	ids := map[event.ID]int64{}
	return ids, storeError(s.eachID(ctx, func(id event.ID, index int64) {
		if _, ok := id.Time(); ok {
			ids[id] = index
		}
	}, "event_id >= $1 AND event_id < $2", bound(from), bound(to)))
}

// eachID calls fn for the ids that a condition is true of.
func (s *Store) eachID(ctx context.Context, fn func(id event.ID, index int64), where string, args ...any) error {
	return s.again(ctx, func() error {
		rows, err := s.readers.Query(ctx, "SELECT event_id, ledger_index FROM event_ids WHERE "+where, args...)
		if err != nil {
			return err
		}
		var id [16]byte
		var index int64
		_, err = pgx.ForEachRow(rows, []any{&id, &index}, func() error {
			fn(id, index)
			return nil
		})
		return err
	})
}

// bound returns the least id that carries a time.
func bound(t time.Time) (id [16]byte) {
	ms := uint64(max(t.UnixMilli(), 0))
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}
