// Package sqlite keeps what queries select entries from, in a SQLite database.
// All of it is derived from the ledger and can be made anew.
package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/posting"
	"github.com/graven-audit/graven/trail"
)

// An Index selects entries by what their events say. It holds no text: a string
// is represented by 47 bits of its SHA-256, so that it is small, erasing an
// event leaves nothing here, and a collision costs one entry that is read and
// found not to match.
//
// Entries are indexed by blocks of [posting.BlockSize]. For each block, field
// and word that occurs in it, there is one row with the places of the entries
// in the block. Rows are ordered by epochs of blocksPerEpoch blocks first, so
// that new rows go into a part of the table that fits into memory, however
// large it grows, and a word is looked up in each epoch.
type Index struct {
	write, read *sql.DB
	// lookup is the sequencer's own, which no reader keeps waiting.
	lookup *sql.DB
	byID   *sql.Stmt
	// places, block, rising and falling are statements of read.
	places, block   *sql.Stmt
	rising, falling *sql.Stmt

	// What follows is owned by the follower: what the index was derived from,
	// the chain's value there, and the block that is not full, if it is known.
	size  int64
	chain trail.Hash
	open  *openBlock
	// pruned is the index below which what entries say was forgotten.
	pruned atomic.Int64
}

const blocksPerEpoch = 64

// indexFormat is that of the tables, and of what stands in them.
const indexFormat = 5

// ErrFormat means that an index was made by another version. It can be made
// anew.
var ErrFormat = errors.New("an index of another format")

const schema = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('format', 5), ('size', 0), ('pruned', 0), ('chain', x'0000000000000000000000000000000000000000000000000000000000000000');
CREATE TABLE ids (id BLOB PRIMARY KEY, idx INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE posting (
	epoch INTEGER NOT NULL, field INTEGER NOT NULL, word INTEGER NOT NULL, block INTEGER NOT NULL,
	places BLOB NOT NULL,
	PRIMARY KEY (epoch, field, word, block)
) WITHOUT ROWID;
CREATE TABLE block (n INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, times BLOB NOT NULL);
CREATE TABLE source (
	id BLOB PRIMARY KEY, name BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, entries INTEGER NOT NULL,
	numbers INTEGER NOT NULL, runs INTEGER NOT NULL, sign INTEGER NOT NULL, earlier INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX source_name ON source (name, earlier);
CREATE INDEX source_gapped ON source (id) WHERE runs > 1;
CREATE INDEX source_signed ON source (id) WHERE sign >= 0;
CREATE INDEX source_odd ON source (id) WHERE earlier > 0 OR entries > numbers;
CREATE TABLE run (
	source BLOB NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, low_idx INTEGER NOT NULL, high_idx INTEGER NOT NULL,
	PRIMARY KEY (source, low)
) WITHOUT ROWID;
`

// A field is a part of events that the index knows.
type field uint8

const (
	fieldType field = iota
	fieldCategory
	fieldSeverity
	fieldOutcome
	fieldActor
	fieldCorrelation
	fieldNamespace
	fieldKind
	fieldResource
	fieldCluster
	fieldAccess // has the word 1 for events that tell of reading the ledger
	fields
)

func (f field) String() string {
	return [...]string{"type", "category", "severity", "outcome", "actor", "correlation", "namespace", "kind", "resource", "cluster", "access"}[f]
}

// A Row is what the index holds of an entry.
type Row struct {
	ID    event.ID
	Index int64
	ts    int64 // nanoseconds since 1970
	words [fields]int64
	by    *producer // nil for an event without a number
	seq   int64
	sign  bool // a heartbeat or a farewell
}

// A Deriver derives rows. It remembers the words of strings that came of late.
type Deriver struct {
	known  map[string]int64
	access map[string]int64           // by type of event: the word of fieldAccess
	by     map[event.Source]*producer // with the number 0
}

// maxWords bounds how many strings are remembered.
const maxWords = 4096

// Row derives an entry's row from its event.
func (w *Deriver) Row(index int64, e *event.Event) Row {
	if w.known == nil || len(w.known) > maxWords {
		w.known, w.access = map[string]int64{}, map[string]int64{}
	}
	if w.by == nil || len(w.by) > maxWords {
		w.by = map[event.Source]*producer{}
	}
	r := Row{ID: e.ID, Index: index, ts: e.Timestamp.UnixNano()}
	for i, s := range [...]string{e.EventType, e.Category, e.Severity, e.Outcome, e.Actor.Name, e.CorrelationID,
		e.Resource.Namespace, e.Resource.Kind, e.Resource.Name, e.Cluster} {
		if s == "" {
			continue
		}
		n, ok := w.known[s]
		if !ok {
			n = word(s)
			w.known[strings.Clone(s)] = n
		}
		r.words[i] = n
	}
	access, ok := w.access[e.EventType]
	if !ok {
		if t, _ := event.Lookup(e.EventType); t.Access {
			access = 1
		}
		w.access[strings.Clone(e.EventType)] = access
	}
	r.words[fieldAccess] = access
	if finding.IsNumbered(e.Source) {
		r.by, r.seq, r.sign = w.producer(e.Source), e.Source.Seq, finding.IsSign(e.EventType)
	}
	return r
}

// Left derives the row of a record's entry from what is to be left of it: all,
// or, where it stands below an index, what [trail.Record.Prune] leaves.
func (w *Deriver) Left(r *trail.Record, below int64) (Row, error) {
	e, _, err := event.ParseEntry(r.Entry)
	if err != nil {
		return Row{}, fmt.Errorf("entry %d: %w", r.Index, err)
	}
	if r.Index < below && len(e.Ledger) == 0 {
		e = e.Remains()
	}
	return w.Row(r.Index, e), nil
}

// word represents a string; 0 represents none.
func word(s string) int64 {
	if s == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(s))
	return int64(binary.BigEndian.Uint64(sum[:])>>17) | 1
}

// Open opens the index at path, or makes one.
func Open(path string) (*Index, error) {
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
	// What is taken out of a page is overwritten, for entries are erased.
	write, err := sql.Open("sqlite", dsn+"&_pragma=cache_size(-16000)&_pragma=secure_delete(on)")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	x := &Index{write: write}
	if err := x.load(); err != nil {
		hint := "graven reindex makes it anew"
		if surroundings(err) {
			hint = "the disk may be full, or others use it"
		}
		return nil, fmt.Errorf("open index (%s): %w", hint, errors.Join(err, write.Close()))
	}
	for _, r := range []struct {
		db    **sql.DB
		conns int
	}{{&x.read, 4}, {&x.lookup, 1}} {
		db, err := sql.Open("sqlite", dsn+"&_pragma=query_only(true)&_pragma=cache_size(-8000)")
		if err != nil {
			return nil, errors.Join(err, x.Close())
		}
		db.SetMaxOpenConns(r.conns)
		db.SetMaxIdleConns(r.conns)
		*r.db = db
	}
	const postings = "SELECT block, places FROM posting WHERE epoch = ? AND field = ? AND word = ? AND block >= ? AND block <= ? ORDER BY block"
	for _, p := range []struct {
		stmt  **sql.Stmt
		db    *sql.DB
		query string
	}{
		{&x.byID, x.lookup, "SELECT idx FROM ids WHERE id = ?"},
		{&x.places, x.read, "SELECT places FROM posting WHERE epoch = ? AND field = ? AND word = ? AND block = ?"},
		{&x.block, x.read, "SELECT times FROM block WHERE n = ?"},
		{&x.rising, x.read, postings},
		{&x.falling, x.read, postings + " DESC"},
	} {
		if *p.stmt, err = p.db.Prepare(p.query); err != nil {
			return nil, errors.Join(err, x.Close())
		}
	}
	return x, nil
}

// dsnPath writes a path as it stands in a data source name.
func dsnPath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

// load reads how far the index has come, and makes its tables if it is new.
func (x *Index) load() error {
	var tables int
	if err := x.write.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		if _, err := x.write.Exec("BEGIN;" + schema + "COMMIT"); err != nil {
			return err
		}
	}
	m, err := readMeta(context.Background(), x.write)
	x.size, x.chain = m.size, m.chain
	x.pruned.Store(m.pruned)
	return err
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// meta is what an index says of itself.
type meta struct {
	size   int64
	chain  trail.Hash
	pruned int64
}

func readMeta(ctx context.Context, q queryer) (m meta, err error) {
	var format int
	var c []byte
	err = q.QueryRowContext(ctx, `SELECT
		(SELECT value FROM meta WHERE name = 'format'),
		(SELECT value FROM meta WHERE name = 'size'),
		(SELECT value FROM meta WHERE name = 'chain'),
		coalesce((SELECT value FROM meta WHERE name = 'pruned'), 0)`).Scan(&format, &m.size, &c, &m.pruned)
	if err == nil && format != indexFormat {
		return m, fmt.Errorf("%w: %d, not %d", ErrFormat, format, indexFormat)
	}
	if err == nil && (len(c) != len(m.chain) || m.size < 0 || m.pruned < 0 || m.pruned > m.size) {
		err = errors.New("its state is damaged")
	}
	copy(m.chain[:], c)
	return m, err
}

// Size returns how many entries the index is derived from.
func (x *Index) Size() int64 { return x.size }

// Chain returns the chain's value behind those entries.
func (x *Index) Chain() trail.Hash { return x.chain }

// Pruned returns the index below which the index has forgotten what entries say,
// but for their ids, times and numbers.
func (x *Index) Pruned() int64 { return x.pruned.Load() }

// Prune has the index forget what entries below an index say. The rows are those
// of a block from its first entry on, as they are to be. Nothing is left of what
// was there after [Index.Purge].
func (x *Index) Prune(ctx context.Context, rows []Row, below int64) (err error) {
	n := rows[0].Index / posting.BlockSize
	b := newOpenBlock(n)
	for i := range rows {
		b.add(&rows[i])
	}
	tx, err := x.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	if _, err := tx.ExecContext(ctx, "DELETE FROM posting WHERE epoch = ? AND block = ?", n/blocksPerEpoch, n); err != nil {
		return err
	}
	if err := b.write(ctx, tx); err != nil {
		return err
	}
	below = min(below, b.end())
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET value = ? WHERE name = 'pruned'", below); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	x.pruned.Store(below)
	if x.open != nil && x.open.n == n {
		x.open = nil // it holds what was forgotten
	}
	return nil
}

// Purge empties SQLite's log, in which pages stand as they were before
// [Index.Prune]. While others read the index, it may fail; it does not keep the
// follower waiting for them.
func (x *Index) Purge(ctx context.Context) (err error) {
	conn, err := x.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout(1000)"); err != nil {
		return err
	}
	var busy, pages, moved int
	err = conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	if err == nil && busy != 0 {
		err = errors.New("others read it, and its log keeps for them what was forgotten")
	}
	_, undone := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA busy_timeout(10000)")
	return errors.Join(err, undone)
}

// OpenFrom returns the first entry of the block that is not full, and whether
// its rows must be given to [Index.Resume] before anything is committed.
func (x *Index) OpenFrom() (first int64, unknown bool) {
	return x.size - x.size%posting.BlockSize, x.open == nil
}

// Resume makes known the rows of the block that is not full.
func (x *Index) Resume(rows []Row) {
	x.open = newOpenBlock(x.size / posting.BlockSize)
	for i := range rows {
		x.open.add(&rows[i])
	}
	x.open.done()
}

// Commit adds the rows of consecutive entries, after which the index is that of
// size entries.
func (x *Index) Commit(ctx context.Context, rows []Row, size int64, chain trail.Hash) (err error) {
	tx, err := x.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			x.open = nil // it holds what was not written
			err = errors.Join(err, tx.Rollback())
		}
	}()
	for rest := rows; len(rest) > 0; {
		n := min(len(rest), int(x.open.end()-rest[0].Index))
		for i := range rest[:n] {
			x.open.add(&rest[i])
		}
		if err := x.open.write(ctx, tx); err != nil {
			return err
		}
		if rest = rest[n:]; len(rest) > 0 {
			x.open = newOpenBlock(rest[0].Index / posting.BlockSize)
		}
	}
	if err := insertIDs(ctx, tx, rows); err != nil {
		return err
	}
	if err := insertSources(ctx, tx, rows); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET value = CASE name WHEN 'size' THEN ? ELSE ? END WHERE name IN ('size', 'chain')",
		size, chain[:]); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	x.size, x.chain = size, chain
	if size == x.open.end() {
		x.open = newOpenBlock(size / posting.BlockSize)
	}
	return nil
}

// insertIDs inserts the ids in the order of the table, in which neighbours go
// into one page.
func insertIDs(ctx context.Context, tx *sql.Tx, rows []Row) error {
	type place struct {
		id    event.ID
		index int64
	}
	ids := make([]place, len(rows))
	for i := range rows {
		ids[i] = place{rows[i].ID, rows[i].Index}
	}
	slices.SortFunc(ids, func(a, b place) int { return bytes.Compare(a.id[:], b.id[:]) })
	return insert(ctx, tx, "INSERT INTO ids (id, idx) VALUES ", "", 2, len(ids), func(dst []any, i int) []any {
		return append(dst, ids[i].id[:], ids[i].index)
	})
}

// rowsPerInsert is how many rows one statement inserts. The driver's time for
// binding grows with the square of a statement's parameters.
const rowsPerInsert = 8

// insert runs an INSERT for n rows, several a statement.
func insert(ctx context.Context, tx *sql.Tx, head, tail string, width, n int, values func(dst []any, i int) []any) error {
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
				if full, err = tx.PrepareContext(ctx, head+one+strings.Repeat(","+one, count-1)+tail); err != nil {
					return err
				}
				defer full.Close()
			}
			_, err = full.ExecContext(ctx, args...)
		} else {
			_, err = tx.ExecContext(ctx, head+one+strings.Repeat(","+one, count-1)+tail, args...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Find sets indexes[i] for the i in ask to the index of ids[i], or to -1.
func (x *Index) Find(ctx context.Context, ids []event.ID, indexes []int64, ask []int) error {
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

// Recent adds the ids that carry a time within from and to.
func (x *Index) Recent(ctx context.Context, from, to time.Time, found map[event.ID]int64) error {
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

// Close closes the index.
func (x *Index) Close() error {
	var errs []error
	for _, db := range []*sql.DB{x.read, x.lookup, x.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}
