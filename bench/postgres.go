package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/testenv"
)

// A stage is what testenv needs of a test: what it starts ends with it.
type stage struct {
	testing.TB // nil: nothing else of it is called
	ends       []func()
}

// A fault is why a stage could not be set.
type fault string

func (s *stage) Helper()                      {}
func (s *stage) Cleanup(fn func())            { s.ends = append(s.ends, fn) }
func (s *stage) Fatal(args ...any)            { panic(fault(fmt.Sprint(args...))) }
func (s *stage) Fatalf(f string, args ...any) { panic(fault(fmt.Sprintf(f, args...))) }
func (s *stage) Skipf(f string, args ...any)  { s.Fatalf(f, args...) }

func (s *stage) end() {
	for _, fn := range slices.Backward(s.ends) {
		fn()
	}
}

// prepareServer starts a PostgreSQL server, durable as it comes, on which each
// run makes a database of its own.
func prepareServer(_ context.Context, r *run) (end func(), err error) {
	s := &stage{}
	defer func() {
		if why, ok := recover().(fault); ok {
			s.end()
			err = errors.New(string(why))
		}
	}()
	// The files of its log are kept, as those of one that has run for a while.
	server := testenv.StartPostgres(s, "fsync=on", "synchronous_commit=on", "shared_buffers=512MB", "min_wal_size=2GB", "max_wal_size=4GB")
	r.Database = server.DSN("postgres", "postgres")
	return s.end, nil
}

// makeDatabase makes a database with a ledger's schema on the server of r, and
// returns its address and what drops it.
func makeDatabase(ctx context.Context, r run) (made string, drop func() error, err error) {
	u, err := url.Parse(r.Database)
	if err != nil {
		return "", nil, err
	}
	name := fmt.Sprintf("run_%d", os.Getpid())
	do := func(statement string) error {
		conn, err := pgx.Connect(ctx, r.Database)
		if err == nil {
			_, err = conn.Exec(ctx, statement)
			err = errors.Join(err, conn.Close(ctx))
		}
		return err
	}
	if err := do("CREATE DATABASE " + name); err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	if _, _, err := postgres.Migrate(ctx, u.String()); err != nil {
		return "", nil, err
	}
	// What other runs have left to be written is not this one's.
	return u.String(), func() error { return do("DROP DATABASE " + name + " WITH (FORCE)") }, do("CHECKPOINT")
}

// openDatabase opens the ledger in a database, or makes one; its keys stand in dir.
func openDatabase(ctx context.Context, dsn, dir string) (*postgres.Store, *ledger.Ledger, error) {
	keys, err := loadKeys(dir)
	if err != nil {
		return nil, nil, err
	}
	store, err := postgres.Open(ctx, dsn, postgres.Options{Verifier: keys.Verifier})
	if err != nil {
		return nil, nil, err
	}
	l, err := ledger.Open(ctx, ledger.Config{Store: store, Signer: keys.Signer, VerifierKey: keys.VerifierKey, Version: "bench"})
	return store, l, err
}

// databaseServer measures our server with its ledger in a database.
func databaseServer(r run) (Sample, error) {
	dsn, drop, err := makeDatabase(context.Background(), r)
	if err != nil {
		return Sample{}, err
	}
	s, err := startGraven(r.Graven, filepath.Join(r.Dir, "data"), "--store", dsn)
	if err != nil {
		return Sample{}, err
	}
	sample, err := hammer(s, r)
	return sample, errors.Join(err, s.stop(), drop())
}

// databaseWriter records events with the ledger in this process, in a database.
func databaseWriter(r run) (Sample, error) {
	ctx := context.Background()
	dsn, drop, err := makeDatabase(ctx, r)
	if err != nil {
		return Sample{}, err
	}
	store, l, err := openDatabase(ctx, dsn, filepath.Join(r.Dir, "data"))
	if err != nil {
		return Sample{}, err
	}
	s, err := record(l, r)
	l.Close()
	return s, errors.Join(err, store.Close(), drop())
}

// columns of audit_events, and what else stands of an entry elsewhere.
var (
	columns = []string{"ledger_index", "recorded_month", "recorded_at", "event_id", "event_type", "event_timestamp", "event_nanos",
		"event_category", "event_action", "event_outcome", "actor_type", "actor_id", "resource_type", "resource_id", "namespace", "cluster_id",
		"correlation_id", "severity", "retention_days", "source_name", "source_epoch", "source_seq", "event_hash", "previous_event_hash", "leaf_hash", "entry"}
	detailColumns = []string{"ledger_index", "recorded_month", "salt", "erasable"}
	idColumns     = []string{"event_id", "ledger_index"}
)

// rawCopy copies the rows of the events that others send over HTTP into the
// table of the entries, r.Batch a transaction. They are made beforehand, so that
// only index and id differ.
func rawCopy(r run) (Sample, error) { return copyRows(r, false) }

// rawCopyAll copies what stands of an event in other tables, too.
func rawCopyAll(r run) (Sample, error) { return copyRows(r, true) }

func copyRows(r run, all bool) (Sample, error) {
	ctx := context.Background()
	dsn, drop, err := makeDatabase(ctx, r)
	if err != nil {
		return Sample{}, err
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return Sample{}, err
	}
	config.MaxConns, config.ConnConfig.RuntimeParams["search_path"] = int32(r.Producers), "graven"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return Sample{}, err
	}
	if _, err := pool.Exec(ctx, "SELECT make_months(now(), 1)"); err != nil {
		return Sample{}, err
	}
	e := newEvent(100)
	e.Complete(e.Timestamp)
	var salt event.Salt
	entry, erasable, hash := e.AppendEntry(nil, e.Digests(salt)), e.AppendErasable(nil), sha256.Sum256([]byte("a"))
	month := time.Date(e.Timestamp.Year(), e.Timestamp.Month(), 1, 0, 0, 0, 0, time.UTC)
	text := hex.EncodeToString(hash[:])
	s, err := producers(r, r.Producers, int64(r.Batch), func(p int, seq int64) error {
		// A batch stands where one of the ledger would.
		at := (seq*int64(r.Producers) + int64(p)) * int64(r.Batch)
		id := [16]byte(e.ID)
		set := func(i int) int64 {
			binary.BigEndian.PutUint64(id[8:], uint64(int64(p)<<40+seq*int64(r.Batch)+int64(i)))
			return at + int64(i)
		}
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"audit_events"}, columns, pgx.CopyFromSlice(r.Batch, func(i int) ([]any, error) {
				index := set(i)
				return []any{index, month, e.Timestamp, id, e.EventType, e.Timestamp, int16(0), e.Category, e.Action, e.Outcome, e.Actor.Type, e.Actor.Name,
					e.Resource.Kind, e.Resource.Name, e.Resource.Namespace, e.Cluster, e.CorrelationID, e.Severity, int32(e.RetentionDays), "", "", int64(0),
					text, text, hash[:], entry}, nil
			}))
			if err != nil || !all {
				return err
			}
			if _, err = tx.CopyFrom(ctx, pgx.Identifier{"audit_event_details"}, detailColumns, pgx.CopyFromSlice(r.Batch, func(i int) ([]any, error) {
				return []any{set(i), month, salt[:], erasable}, nil
			})); err != nil {
				return err
			}
			_, err = tx.CopyFrom(ctx, pgx.Identifier{"event_ids"}, idColumns, pgx.CopyFromSlice(r.Batch, func(i int) ([]any, error) {
				index := set(i)
				return []any{id, index}, nil
			}))
			return err
		})
	})
	pool.Close()
	return s, errors.Join(err, drop())
}
