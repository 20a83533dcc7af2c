package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// Address returns the address of the database that dsn leads to, as it can be
// shown: without user and password.
func Address(dsn string) (string, error) {
	config, err := configure(dsn)
	if err != nil {
		return "", err
	}
	c := config.ConnConfig
	u := url.URL{Scheme: "postgres", Host: net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), Path: "/" + c.Database}
	if strings.HasPrefix(c.Host, "/") {
		u.Host, u.RawQuery = "", url.Values{"host": {c.Host}, "port": {strconv.Itoa(int(c.Port))}}.Encode()
	}
	return u.String(), nil
}

// First returns the first entry of the ledger in the database at dsn, or nil
// where there is none.
func First(ctx context.Context, dsn string) (entry []byte, err error) {
	err = ask(ctx, dsn, func(conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, "SELECT entry FROM audit_events WHERE ledger_index = 0").Scan(&entry)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return entry, err
}

// elsewhereDocument is the name of the document that says that the ledger goes
// on elsewhere.
const elsewhereDocument = "elsewhere"

// Elsewhere returns where the ledger in the database at dsn goes on, if not
// there.
func Elsewhere(ctx context.Context, dsn string) (e *datadir.Elsewhere, err error) {
	err = ask(ctx, dsn, func(conn *pgx.Conn) (err error) {
		e, err = readElsewhere(ctx, conn)
		return err
	})
	return e, err
}

// Elsewhere returns where the ledger goes on, if not here.
func (s *Store) Elsewhere(ctx context.Context) (*datadir.Elsewhere, error) {
	text, _, err := s.Document(ctx, elsewhereDocument, 0)
	if err != nil {
		return nil, err
	}
	return datadir.ParseElsewhere(text)
}

func readElsewhere(ctx context.Context, q querier) (*datadir.Elsewhere, error) {
	var text []byte
	err := q.QueryRow(ctx, "SELECT content FROM documents WHERE name = $1", elsewhereDocument).Scan(&text)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	return datadir.ParseElsewhere(text)
}

// checkHere refuses a database whose ledger goes on elsewhere.
func (s *Store) checkHere(ctx context.Context) error {
	if s.o.Copying {
		return nil
	}
	e, err := readElsewhere(ctx, s.readers)
	if err != nil {
		return err
	}
	if e != nil {
		return refuse("%v", e)
	}
	return nil
}

// errElsewhere is what an append gets that the mark refuses.
func errElsewhere(mark []byte) error {
	e, err := datadir.ParseElsewhere(mark)
	if err != nil {
		return refuse("%v", err)
	}
	return refuse("%v", e)
}

// SetElsewhere says where the ledger goes on from now on: nil is for here. When
// it returns, no server appends any more but where the ledger goes on, nor has
// one begun to.
func (s *Store) SetElsewhere(ctx context.Context, e *datadir.Elsewhere) error {
	_, version, err := s.Document(ctx, elsewhereDocument, 0)
	if err == nil {
		text := e.Encode()
		if text == nil {
			text = []byte{}
		}
		err = s.SaveDocument(ctx, elsewhereDocument, version, text)
	}
	if err == nil {
		// Whoever has not seen it yet has the head locked.
		_, err = s.readers.Exec(ctx, "SELECT graven.lock()")
		err = storeError(err)
	}
	return err
}

// makeMonthOf makes the partitions in which a pool belongs that was recorded
// elsewhere.
func (s *Store) makeMonthOf(ctx context.Context, p *ledger.Pool) error {
	at := p.Events[len(p.Events)-1].Recorded.At.UTC()
	month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	if month.Equal(s.made) || at.After(time.Now()) {
		return nil
	}
	_, err := s.writer.Exec(ctx, "SELECT graven.make_months($1, 0)", at)
	if err == nil {
		s.made = month
	}
	return err
}

// A checkpoint is a signed one as it stands in the database.
type checkpoint struct {
	size int64
	note []byte
}

// checkpointBatch is how many checkpoints are read at a time.
const checkpointBatch = 1000

// Read calls record for each record from index first on, below end, in order,
// and signed for each checkpoint of first entries or more, up to end. A record
// that is not there, or has another leaf beside it, is [search.ErrChanged].
func (s *Store) Read(ctx context.Context, first, end int64, record func(*trail.Record) error, signed func(note []byte) error) error {
	next := first
	for after := first - 1; ; {
		var list []checkpoint
		err := s.again(ctx, func() error {
			rows, err := s.readers.Query(ctx, "SELECT size, checkpoint FROM ledger_checkpoints WHERE size > $1 AND size <= $2 ORDER BY size LIMIT $3", after, end, checkpointBatch)
			if err != nil {
				return err
			}
			list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c checkpoint, err error) { return c, row.Scan(&c.size, &c.note) })
			return err
		})
		if err != nil || len(list) == 0 {
			return storeError(err)
		}
		after = list[len(list)-1].size
		sign := func() error {
			for len(list) > 0 && list[0].size <= next {
				if err := signed(list[0].note); err != nil {
					return err
				}
				list = list[1:]
			}
			return nil
		}
		if err := sign(); err != nil {
			return err
		}
		err = s.records(ctx, search.Range{First: next, End: after}, func(r *stored) error {
			if leaf := r.LeafHash(); !bytes.Equal(leaf[:], r.leaf) {
				return fmt.Errorf("%w: entry %d: leaf_hash is not that of the entry", search.ErrChanged, r.Index)
			}
			next++
			if err := record(&r.Record); err != nil {
				return err
			}
			return sign()
		})
		if err != nil {
			return err
		}
	}
}
