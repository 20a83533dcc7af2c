package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrReplaced means that another server has replaced a document meanwhile.
var ErrReplaced = errors.New("another server has changed it at the same time, try again")

// ErrRights means that the role may not read what only servers need.
var ErrRights = errors.New("the role lacks rights: grant it graven_writer")

// Document returns a document that the servers of the ledger share, if its
// version is not the one given. One that is not there has the version 0.
func (s *Store) Document(ctx context.Context, name string, known int64) (content []byte, version int64, err error) {
	err = s.again(ctx, func() error {
		return s.readers.QueryRow(ctx, "SELECT version, CASE WHEN version <> $2 THEN content END FROM documents WHERE name = $1", name, known).Scan(&version, &content)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" {
		return nil, 0, fmt.Errorf("%w: %w", ErrRights, err)
	}
	return content, version, storeError(err)
}

// SaveDocument replaces a document of a version, after which it has the next.
func (s *Store) SaveDocument(ctx context.Context, name string, version int64, content []byte) error {
	_, err := s.readers.Exec(ctx, "SELECT graven.save_document($1, $2, $3)", name, version, content)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "GR005" {
		return ErrReplaced
	}
	return storeError(err)
}
