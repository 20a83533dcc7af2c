package postgres

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/trail"
)

// A querier is a connection, or a pool of them.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// readHead reads where the ledger ends, and holds it against its signature and
// the hashes that stand in the database.
func (s *Store) readHead(ctx context.Context, q querier) (ledger.Head, error) {
	var head ledger.Head
	var size int64
	var chain, last string
	var text []byte
	err := q.QueryRow(ctx, `SELECT size, chain, checkpoint, coalesce((SELECT event_hash FROM audit_events e
		WHERE e.ledger_index = h.size - 1 AND e.recorded_month = h.month), repeat('0', 64)) FROM ledger_head h`).Scan(&size, &chain, &text, &last)
	if err != nil {
		return head, err
	}
	if size == 0 && text == nil {
		return head, nil
	}
	if last != chain {
		return head, refuseHead("entry %d is not the one that the ledger ends with", size-1)
	}
	if head.Chain, err = trail.ParseHex(chain); err != nil {
		return head, refuseHead("the head's chain: %v", err)
	}
	if head.Checkpoint, err = trail.OpenCheckpoint(text, s.o.Verifier); err != nil {
		return head, refuseHead("the head's checkpoint: %v", err)
	}
	if head.Checkpoint.Size != size {
		return head, refuseHead("the head tells of %d entries, and its checkpoint of %d", size, head.Checkpoint.Size)
	}
	tree, err := trail.ResumeTree(size, reader{ctx, q})
	switch {
	case errors.Is(err, errMissing):
		return head, refuseHead("%v", err)
	case err != nil:
		return head, err
	case tree.Root() != head.Checkpoint.Root:
		return head, refuseHead("the hashes in the database are not those over which the newest checkpoint was signed")
	}
	head.Tree = *tree
	return head, nil
}

// Claim returns the newest checkpoint in the database at dsn by its own word, or
// nil where there is none yet.
func Claim(ctx context.Context, dsn string) (text []byte, err error) {
	err = ask(ctx, dsn, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT checkpoint FROM ledger_head").Scan(&text)
	})
	return text, err
}

// ask opens a connection to the database at dsn, which must have our schema, for
// one question.
func ask(ctx context.Context, dsn string, question func(*pgx.Conn) error) error {
	config, err := configure(dsn)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err = checkSchema(ctx, conn); err == nil {
		err = question(conn)
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// Seen returns the newest checkpoint that this store has seen, or nil.
func (s *Store) Seen() *trail.Checkpoint { return s.newest.Load() }

// refuseHead is for a head that is not what was written.
func refuseHead(format string, args ...any) error {
	return &Refusal{fmt.Sprintf("the ledger was changed: "+format+"; 'graven verify' says more", args...), true}
}

// extends reports whether the ledger that ends with newer extends older.
func (s *Store) extends(ctx context.Context, q querier, newer, older *trail.Checkpoint) error {
	switch {
	case older == nil || older.Size == 0:
		return nil
	case newer == nil || newer.Size < older.Size:
		size := int64(0)
		if newer != nil {
			size = newer.Size
		}
		return refuse("the database holds %d entries, but there was a checkpoint of %d: it is an older copy", size, older.Size)
	}
	tree, err := trail.ResumeTree(older.Size, reader{ctx, q})
	if err != nil {
		return err
	}
	if tree.Root() != older.Root {
		return refuse("the database does not extend the checkpoint of %d entries that was seen before: it is another ledger, or was changed", older.Size)
	}
	return nil
}

// A month is a partition, and the first entry in it.
type month struct {
	month time.Time
	first int64
}

// months are where the months begin, as far as the entries below a size tell.
type months struct {
	list []month
	size int64
}

// readMonths reads where the months begin.
func (s *Store) readMonths(ctx context.Context) error {
	known := months{}
	if c := s.newest.Load(); c != nil {
		known.size = c.Size
	}
	rows, err := s.readers.Query(ctx, "SELECT month, first_index FROM ledger_months WHERE first_index IS NOT NULL ORDER BY first_index")
	if err != nil {
		return err
	}
	known.list, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (m month, err error) {
		return m, r.Scan(&m.month, &m.first)
	})
	if err == nil {
		s.months.Store(&known)
	}
	return err
}

// monthsOf returns the months in which entries from first on, below end, stand,
// oldest first.
func (s *Store) monthsOf(ctx context.Context, first, end int64) ([]month, error) {
	known := s.months.Load()
	if end > known.size { // what was appended since may have begun a month
		if err := s.readMonths(ctx); err != nil {
			return nil, err
		}
		known = s.months.Load()
	}
	list := known.list
	from := max(sort.Search(len(list), func(i int) bool { return list[i].first > first })-1, 0)
	to := sort.Search(len(list), func(i int) bool { return list[i].first >= end })
	if from >= to {
		return nil, nil
	}
	return list[from:to], nil
}

const (
	// monthsAhead is how many months have partitions before they begin.
	monthsAhead = 3
	// monthsEvery is how often it is looked whether some are missing. Where
	// none could be made for months, entries go into the last there is.
	monthsEvery = time.Hour
)

func (s *Store) makeMonths(ctx context.Context) error {
	_, err := s.readers.Exec(ctx, "SELECT graven.make_months(now(), $1)", monthsAhead)
	return err
}

// keepMonths makes partitions ahead of time, until ctx ends.
func (s *Store) keepMonths(ctx context.Context) {
	every(ctx, monthsEvery, func() {
		if err := s.makeMonths(ctx); err != nil && ctx.Err() == nil && s.o.OnError != nil {
			s.o.OnError(fmt.Errorf("make partitions ahead: %w", err))
		}
	})
}

// every calls fn now and then, until ctx ends.
func every(ctx context.Context, interval time.Duration, fn func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fn()
		}
	}
}
