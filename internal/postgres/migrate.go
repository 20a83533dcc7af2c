package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versions is the table that says which migrations were made.
const versions = "graven.migrations"

// Migrate makes the schema in the database at dsn, or brings it up to date, as
// the owner of the database or of the schema, who may make roles. It returns
// the version before and after.
func Migrate(ctx context.Context, dsn string) (from, to int64, err error) {
	config, err := configure(dsn)
	if err != nil {
		return 0, 0, err
	}
	delete(config.ConnConfig.RuntimeParams, "search_path") // goose has a mind of its own
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return 0, 0, fmt.Errorf("migrate: %w", err)
	}
	err = admit(ctx, conn)
	if err == nil {
		_, err = conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS graven")
	}
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return 0, 0, fmt.Errorf("migrate: %w", err)
	}
	db := stdlib.OpenDB(*config.ConnConfig)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := newProvider(db)
	if err != nil {
		return 0, 0, fmt.Errorf("migrate: %w", err)
	}
	if from, err = provider.GetDBVersion(ctx); err != nil {
		return 0, 0, fmt.Errorf("migrate: %w", err)
	}
	if newest := newestVersion(provider); from > newest {
		return from, from, fmt.Errorf("migrate: %w", errNewer(from, newest))
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return from, from, fmt.Errorf("migrate: %w", err)
	}
	to = from
	for _, m := range done {
		to = m.Source.Version
	}
	return from, to, nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versions), goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
}

func newestVersion(p *goose.Provider) int64 {
	sources := p.ListSources()
	return sources[len(sources)-1].Version
}

func errNewer(is, known int64) error {
	return refuse("the schema is of version %d, and this program knows up to %d: take a newer one", is, known)
}

// checkSchema refuses a database whose schema is not the one that this program
// knows.
func checkSchema(ctx context.Context, q querier) error {
	var is int64
	err := q.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versions+" WHERE is_applied").Scan(&is)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "3F000"): // no such table, no such schema
		return refuse("there is no ledger in this database: make one with 'graven postgres migrate'")
	case errors.As(err, &pg) && pg.Code == "42501":
		return refuse("the role lacks rights (%s): grant it graven_writer, or graven_reader for one that only reads", pg.Message)
	case err != nil:
		return err
	}
	newest, err := schemaVersion()
	switch {
	case err != nil:
		return err
	case is > newest:
		return errNewer(is, newest)
	case is < newest:
		return refuse("the schema is of version %d, and this program wants %d: bring it up to date with 'graven postgres migrate'", is, newest)
	}
	return nil
}

// schemaVersion is the newest version that this program knows.
func schemaVersion() (int64, error) {
	files, err := fs.ReadDir(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(files[len(files)-1].Name())
}

// Accept has the ledger in the database at dsn go on though the database was
// promoted from a standby or restored. Whoever asks for it, as the owner, says
// that nothing is missing that was acknowledged.
func Accept(ctx context.Context, dsn string) (err error) {
	config, err := configure(dsn)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if err = checkSchema(ctx, conn); err == nil {
		_, err = conn.Exec(ctx, "SELECT graven.accept()")
	}
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	return nil
}
