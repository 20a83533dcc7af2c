package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
)

const (
	// statementTimeout bounds a statement, but for those that go through the
	// whole ledger.
	statementTimeout = 30 * time.Second
	// lockTimeout bounds how long a statement waits for a lock, and how long a
	// server may keep others out before it loses its connection.
	lockTimeout    = 10 * time.Second
	idleTimeout    = 5 * time.Second
	connectTimeout = 5 * time.Second
	// maxReaders bounds the connections that read.
	maxReaders = 8
)

// Codes of errors that our own functions raise.
const (
	codeMoved     = "GR001"
	codePromoted  = "GR002"
	codeElsewhere = "GR006"
)

// configure returns how to connect to the database at dsn.
func configure(dsn string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// The error names the address without its password.
		return nil, fmt.Errorf("store: not the address of a PostgreSQL database, such as postgres://user@host/database: %w", err)
	}
	c.MaxConns = maxReaders
	conn := c.ConnConfig
	params := conn.RuntimeParams
	params["search_path"] = "graven"
	params["application_name"] = "graven"
	params["timezone"] = "UTC"
	params["statement_timeout"] = milliseconds(statementTimeout)
	params["lock_timeout"] = milliseconds(lockTimeout)
	params["idle_in_transaction_session_timeout"] = milliseconds(idleTimeout)
	// To compile, or to start other processes, takes longer than what we ask.
	params["jit"], params["max_parallel_workers_per_gather"] = "off", "0"
	if conn.ConnectTimeout == 0 || conn.ConnectTimeout > connectTimeout {
		conn.ConnectTimeout = connectTimeout
	}
	return c, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// A Refusal says why a database is not one to keep a ledger in.
type Refusal struct {
	Reason string
	// Changed is set where what is in it is not what was signed.
	Changed bool
}

func (r *Refusal) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refusal{Reason: fmt.Sprintf(format, args...)} }

// admit refuses a database that cannot be relied upon. It is asked each time
// something connects to write: an operator may have changed it in between.
func admit(ctx context.Context, conn *pgx.Conn) error {
	var version int
	var encoding, fsync, commit string
	var standby bool
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
		current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery()`).
		Scan(&version, &encoding, &fsync, &commit, &standby)
	switch {
	case err != nil:
		return err
	case version < 150000:
		return refuse("PostgreSQL %d.%d: 15 is the oldest that will do", version/10000, version%10000)
	case encoding != "UTF8":
		return refuse("the database's encoding is %s: it must be UTF8", encoding)
	case standby:
		return refuse("the database is a standby, which only its primary writes to")
	case fsync != "on":
		return refuse("fsync is off: what the database acknowledges would be lost with the power")
	case commit == "off":
		return refuse("synchronous_commit is off: what the database acknowledges would be lost with the power")
	}
	return nil
}

// away says of an error whether the database could not be reached or went away,
// so that it is not known whether the statement was carried out.
func away(err error) bool {
	var refusal *Refusal
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &refusal):
		return false
	case errors.As(err, &pg):
		// 08: the connection; 57P: it shuts down, has crashed, starts, or the
		// session was idle for too long; 25006: it has become a standby.
		return pg.Severity == "FATAL" || pg.Severity == "PANIC" || pg.Code[:2] == "08" || pg.Code[:3] == "57P" || pg.Code == "25006"
	}
	return !errors.Is(err, errMissing) && !errors.Is(err, search.ErrChanged) && !errors.Is(err, pgx.ErrNoRows)
}

// storeError is err as the ledger knows it.
func storeError(err error) error {
	var pg *pgconn.PgError
	var refusal *Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return fmt.Errorf("%w: %w", ledger.ErrBroken, err)
	case away(err):
		return fmt.Errorf("%w: %w", ledger.ErrAway, err)
	case !errors.As(err, &pg):
		return err
	case pg.Code == codeMoved:
		return fmt.Errorf("%w: %s", ledger.ErrMoved, pg.Message)
	case pg.Code == codePromoted:
		return fmt.Errorf("%w: %w", ledger.ErrBroken, errPromoted(pg.Message))
	case pg.Code == codeElsewhere:
		return fmt.Errorf("%w: %w", ledger.ErrBroken, errElsewhere([]byte(pg.Message)))
	case pg.Code[:2] == "53", // no disk space, memory or connections
		pg.File == "md.c" && (pg.Routine == "mdextend" || pg.Routine == "mdzeroextend"): // a file may not grow, as where a quota is used up
		return fmt.Errorf("%w: %w", ledger.ErrFull, err)
	case pg.Code == "57014", pg.Code == "55P03", pg.Code == "40P01": // took too long, a lock did, or two waited for each other
		return fmt.Errorf("%w: %w", ledger.ErrBusy, err)
	}
	return err
}

// again does what only reads, and once more where the connection was lost, for
// those that are kept may be of a server that was restarted.
func (s *Store) again(ctx context.Context, read func() error) error {
	err := read()
	if err != nil && away(err) && ctx.Err() == nil {
		s.readers.Reset()
		err = read()
	}
	return err
}

func errPromoted(message string) error {
	return refuse("%s: the database was promoted from a standby or restored, and may lack what was acknowledged. Where it does not, say so with 'graven postgres accept'", message)
}
