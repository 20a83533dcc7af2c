package filestore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// index selects entries by what their events say. It holds no text: a string
// is represented by 47 bits of its SHA-256, so that rows are small, erasing an
// event leaves nothing here, and a collision costs one entry that is read and
// found not to match.
//
// Timestamps have no index of their own. Entries come nearly in their order,
// so the range of each block of blockSize entries narrows a query down.
type index struct {
	write, read *sql.DB
	// lookup is the sequencer's own, which no reader keeps waiting.
	lookup *sql.DB
	byID   *sql.Stmt
	// size and chain are owned by the follower: what the index was derived
	// from, and the chain's value there.
	size  int64
	chain trail.Hash
}

const blockSize = 1024

const schema = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('format', 1), ('size', 0), ('chain', x'0000000000000000000000000000000000000000000000000000000000000000');
CREATE TABLE ids (id BLOB PRIMARY KEY, idx INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (
	idx INTEGER PRIMARY KEY,
	ts INTEGER NOT NULL,
	type INTEGER, category INTEGER, severity INTEGER, outcome INTEGER, actor INTEGER, correlation INTEGER,
	namespace INTEGER, kind INTEGER, resource INTEGER, cluster INTEGER, access INTEGER
);
CREATE INDEX entry_type ON entry (type);
CREATE INDEX entry_severity ON entry (severity);
CREATE INDEX entry_actor ON entry (actor);
CREATE INDEX entry_correlation ON entry (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX entry_namespace ON entry (namespace) WHERE namespace IS NOT NULL;
CREATE INDEX entry_resource ON entry (resource) WHERE resource IS NOT NULL;
CREATE INDEX entry_access ON entry (idx) WHERE access IS NOT NULL;
CREATE TABLE block (n INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
`

// columns are those of the table entry, in the order of row.values.
const columns = "idx, ts, type, category, severity, outcome, actor, correlation, namespace, kind, resource, cluster, access"

// A row is what the index holds of an entry.
type row struct {
	id    event.ID
	idx   int64
	ts    int64 // nanoseconds since 1970
	words [10]int64
	// access is set for events that tell of reading the ledger.
	access bool
}

// rowOf derives an entry's row from its event.
func rowOf(idx int64, e *event.Event) row {
	t, _ := event.Lookup(e.EventType)
	r := row{id: e.ID, idx: idx, ts: e.Timestamp.UnixNano(), access: t.Access}
	for i, s := range [...]string{e.EventType, e.Category, e.Severity, e.Outcome, e.Actor.Name, e.CorrelationID,
		e.Resource.Namespace, e.Resource.Kind, e.Resource.Name, e.Cluster} {
		r.words[i] = word(s)
	}
	return r
}

// word represents a string; 0 represents none.
func word(s string) int64 {
	if s == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(s))
	return int64(binary.BigEndian.Uint64(sum[:])>>17) | 1
}

func (r *row) appendValues(dst []any) []any {
	dst = append(dst, r.idx, r.ts)
	for _, w := range r.words {
		if w == 0 {
			dst = append(dst, nil)
		} else {
			dst = append(dst, w)
		}
	}
	if r.access {
		return append(dst, 1)
	}
	return append(dst, nil)
}

func openIndex(path string) (*index, error) {
	// SQLite gives its other files the mode of this one.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	dsn := "file:" + dsnPath(path) +
		"?_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=busy_timeout(10000)&_pragma=temp_store(memory)&_pragma=wal_autocheckpoint(4000)"
	write, err := sql.Open("sqlite", dsn+"&_pragma=cache_size(-16000)")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	x := &index{write: write}
	if err := x.load(); err != nil {
		return nil, fmt.Errorf("open index (graven reindex makes it anew): %w", errors.Join(err, write.Close()))
	}
	for _, r := range []struct {
		db    **sql.DB
		conns int
	}{{&x.read, 4}, {&x.lookup, 1}} {
		db, err := sql.Open("sqlite", dsn+"&_pragma=query_only(true)&_pragma=cache_size(-8000)")
		if err != nil {
			return nil, errors.Join(err, x.close())
		}
		db.SetMaxOpenConns(r.conns)
		db.SetMaxIdleConns(r.conns)
		*r.db = db
	}
	if x.byID, err = x.lookup.Prepare("SELECT idx FROM ids WHERE id = ?"); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

// dsnPath writes a path as it stands in a data source name.
func dsnPath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

// load reads how far the index has come, and makes its tables if it is new.
func (x *index) load() error {
	var tables int
	if err := x.write.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		if _, err := x.write.Exec("BEGIN;" + schema + "COMMIT"); err != nil {
			return err
		}
	}
	var err error
	x.size, x.chain, err = readMeta(context.Background(), x.write)
	return err
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readMeta(ctx context.Context, q queryer) (size int64, chain trail.Hash, err error) {
	var format int
	var c []byte
	err = q.QueryRowContext(ctx, `SELECT
		(SELECT value FROM meta WHERE name = 'format'),
		(SELECT value FROM meta WHERE name = 'size'),
		(SELECT value FROM meta WHERE name = 'chain')`).Scan(&format, &size, &c)
	if err == nil && (format != 1 || len(c) != len(chain) || size < 0) {
		err = errors.New("not an index of this version")
	}
	copy(chain[:], c)
	return size, chain, err
}

// A batch is the rows of consecutive entries.
type batch struct {
	rows []row
}

func (x *index) begin(int64) *batch { return &batch{rows: make([]row, 0, followBatch)} }

func (b *batch) add(idx int64, e *event.Event) { b.rows = append(b.rows, rowOf(idx, e)) }

// rowsPerInsert is how many rows one statement inserts.
const rowsPerInsert = 64

// commit adds a batch, after which the index is that of size entries.
func (x *index) commit(ctx context.Context, b *batch, size int64, chain trail.Hash) (err error) {
	tx, err := x.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	if err := insert(ctx, tx, "INSERT INTO entry ("+columns+") VALUES ", 13, len(b.rows), func(dst []any, i int) []any {
		return b.rows[i].appendValues(dst)
	}); err != nil {
		return err
	}
	if err := insert(ctx, tx, "INSERT INTO ids (id, idx) VALUES ", 2, len(b.rows), func(dst []any, i int) []any {
		return append(dst, b.rows[i].id[:], b.rows[i].idx)
	}); err != nil {
		return err
	}
	for _, bl := range blocksOf(b.rows) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO block VALUES (?, ?, ?) ON CONFLICT (n) DO UPDATE
			SET first = min(first, excluded.first), last = max(last, excluded.last)`, bl.n, bl.first, bl.last); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET value = CASE name WHEN 'size' THEN ? ELSE ? END WHERE name IN ('size', 'chain')",
		size, chain[:]); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	x.size, x.chain = size, chain
	return nil
}

// insert runs an INSERT for n rows, many rows a statement.
func insert(ctx context.Context, tx *sql.Tx, head string, width, n int, values func(dst []any, i int) []any) error {
	one := "(?" + strings.Repeat(",?", width-1) + ")"
	args := make([]any, 0, width*rowsPerInsert)
	var full *sql.Stmt
	for i := 0; i < n; {
		count := min(rowsPerInsert, n-i)
		args = args[:0]
		for end := i + count; i < end; i++ {
			args = values(args, i)
		}
		var err error
		if count == rowsPerInsert {
			if full == nil {
				if full, err = tx.PrepareContext(ctx, head+one+strings.Repeat(","+one, count-1)); err != nil {
					return err
				}
				defer full.Close()
			}
			_, err = full.ExecContext(ctx, args...)
		} else {
			_, err = tx.ExecContext(ctx, head+one+strings.Repeat(","+one, count-1), args...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A block is the range of timestamps of blockSize consecutive entries.
type block struct{ n, first, last int64 }

func blocksOf(rows []row) []block {
	var blocks []block
	for i := range rows {
		n := rows[i].idx / blockSize
		if len(blocks) == 0 || blocks[len(blocks)-1].n != n {
			blocks = append(blocks, block{n, rows[i].ts, rows[i].ts})
		}
		last := &blocks[len(blocks)-1]
		last.first, last.last = min(last.first, rows[i].ts), max(last.last, rows[i].ts)
	}
	return blocks
}

// find sets indexes[i] for the i in ask to the index of ids[i], or to -1.
func (x *index) find(ctx context.Context, ids []event.ID, indexes []int64, ask []int) error {
	if len(ask) == 0 {
		return nil
	}
	for _, i := range ask {
		err := x.byID.QueryRowContext(ctx, ids[i][:]).Scan(&indexes[i])
		if errors.Is(err, sql.ErrNoRows) {
			indexes[i] = -1
		} else if err != nil {
			return err
		}
	}
	return nil
}

// recent adds the ids that carry a time within from and to.
func (x *index) recent(ctx context.Context, from, to time.Time, found map[event.ID]int64) error {
	bound := func(t time.Time) []byte {
		ms := uint64(max(t.UnixMilli(), 0))
		b := make([]byte, 16)
		binary.BigEndian.PutUint64(b, ms<<16)
		return b
	}
	rows, err := x.lookup.QueryContext(ctx, "SELECT id, idx FROM ids WHERE id >= ? AND id < ?", bound(from), bound(to))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id []byte
		var idx int64
		if err := rows.Scan(&id, &idx); err != nil {
			return err
		}
		if e := (event.ID)(id); len(id) == len(e) {
			if _, ok := e.Time(); ok {
				found[e] = idx
			}
		}
	}
	return rows.Err()
}

func (x *index) close() error {
	var errs []error
	for _, db := range []*sql.DB{x.read, x.lookup, x.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}
