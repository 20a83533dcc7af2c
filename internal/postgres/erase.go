package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/graven-audit/graven/tombstone"
)

// ErasedTo returns the index of the last tombstone up to which all was erased
// that tombstones name, or -1, also where that cannot be told: to erase again
// costs time only.
func (s *Store) ErasedTo(ctx context.Context) int64 {
	upto := int64(-1)
	err := s.again(ctx, func() error {
		return s.readers.QueryRow(ctx, "SELECT upto FROM erased").Scan(&upto)
	})
	if err != nil {
		return -1
	}
	return upto
}

// Erase erases what the tombstones up to an index name: the salts and the erasable
// content of the runs, which are in order and apart, and the entries below an
// index, but for what remains of them. The database looks for itself whether the
// tombstones name them. The role must be a member of graven_purger.
func (s *Store) Erase(ctx context.Context, to int64, runs []tombstone.Run, below int64) error {
	lows, highs := make([]int64, len(runs)), make([]int64, len(runs))
	for i, r := range runs {
		lows[i], highs[i] = r.First, r.End()
	}
	err := pgx.BeginTxFunc(ctx, s.readers, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		// It waits for whoever reads, and appending waits for it meanwhile.
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 2000"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT graven.erase($1, $2, $3, $4)", to, lows, highs, below)
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" {
		return refuse("what is to be erased cannot be: %s; grant the server's role graven_purger", pg.Message)
	}
	if err != nil {
		return fmt.Errorf("erase: %w", storeError(err))
	}
	return nil
}
