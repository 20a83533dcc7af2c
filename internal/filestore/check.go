package filestore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// ReadHashes serves the hashes of the tree over all entries that the follower
// has done.
func (s *Store) ReadHashes(indexes []int64) ([]trail.Hash, error) { return s.tiles.ReadHashes(indexes) }

// Tile returns the hashes of a tile, full or partial.
func (s *Store) Tile(t tlog.Tile) ([]byte, error) { return s.tiles.data(t) }

// Verify checks the ledger as it stands on the disk, and the index with it.
func (s *Store) Verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	return Verify(ctx, s.dir, o)
}

// Verify checks the ledger in dir, which may be open in a server, and its
// index: every row against the entry that it is derived from, every lookup
// structure of SQLite's against the rows, and the schema. It writes nothing
// into dir.
func Verify(ctx context.Context, dir string, o verify.Options) (*verify.Report, error) {
	r, err := verify.Dir(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	limit := o.MaxFindings
	if limit <= 0 {
		limit = 1000
	}
	path := filepath.Join(dir, trail.IndexFile)
	if !exists(path) {
		r.Notes = append(r.Notes, "there is no index; a server that opens the directory derives it")
		return r, nil
	}
	for resting := !exists(path + "-wal"); ; resting = false {
		whole := *r
		c := checker{report: &whole, limit: limit}
		if err := c.index(ctx, dir, resting); err != nil {
			return nil, fmt.Errorf("verify index: %w", err)
		}
		if resting && exists(path+"-wal") {
			continue // a server came to write while we read
		}
		slices.SortStableFunc(whole.Findings, func(a, b verify.Finding) int {
			return cmp.Or(cmp.Compare(a.Index, b.Index), strings.Compare(a.Where, b.Where))
		})
		return &whole, nil
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A checker adds what is wrong with an index to a report.
type checker struct {
	report *verify.Report
	limit  int
}

func (c *checker) found(index int64, format string, args ...any) {
	if len(c.report.Findings) >= c.limit {
		c.report.Omitted++
		return
	}
	c.report.Findings = append(c.report.Findings, verify.Finding{Kind: verify.IndexMismatch, Index: index,
		Where: trail.IndexFile, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) unproven(format string, args ...any) {
	c.report.Unproven = append(c.report.Unproven, fmt.Sprintf(format, args...))
}

// unreadable takes an error of SQLite's: it could not get at the index, or
// the index is damaged.
func (c *checker) unreadable(err error) {
	var own *sqlite.Error
	if errors.As(err, &own) {
		switch own.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY:
			c.unproven("the index could not be opened and was not checked: %v", err)
			return
		}
	}
	c.found(-1, "the index cannot be read: %v; graven reindex makes it anew", err)
}

// index checks the index as of one moment. SQLite needs to write beside a
// database that it reads, unless told that it is resting: that nobody writes
// to it.
func (c *checker) index(ctx context.Context, dir string, resting bool) error {
	access := "mode=ro"
	if resting {
		access = "immutable=1"
	}
	db, err := sql.Open("sqlite", "file:"+dsnPath(filepath.Join(dir, trail.IndexFile))+"?"+access+"&_pragma=query_only(true)&_pragma=busy_timeout(10000)&_pragma=temp_store(memory)&_pragma=trusted_schema(false)")
	if err != nil {
		return err
	}
	defer db.Close()
	log, err := seglog.Open(filepath.Join(dir, trail.LogDir), seglog.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer log.Close()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err == nil {
		defer tx.Rollback()
		// All of them go as far as they get; one error stands for all.
		err = cmp.Or(c.schema(ctx, tx), c.integrity(ctx, tx), c.contents(ctx, tx, log))
	}
	if err != nil && ctx.Err() == nil {
		c.unreadable(err)
	}
	return ctx.Err()
}

// contents compares the rows with the log.
func (c *checker) contents(ctx context.Context, tx *sql.Tx, log *seglog.Log) error {
	size, chain, err := readMeta(ctx, tx)
	if err != nil {
		return err
	}
	rows, err := newRowReader(ctx, tx)
	if err != nil {
		return err
	}
	defer rows.close()
	var blocks []block
	var last trail.Hash
	err = scan(ctx, log, size, func(r *trail.Record) error {
		last = r.Chain
		e, _, err := event.ParseEntry(r.Entry)
		if err != nil {
			return nil // verify.Dir has named it
		}
		want := rowOf(r.Index, e)
		blocks = mergeBlocks(blocks, blocksOf([]row{want}))
		return c.row(ctx, tx, rows, &want)
	})
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	if errors.Is(err, errDamaged) {
		c.unproven("the index was checked as far as the log can be read in one go: %v", err)
		return nil
	}
	if last != chain {
		c.found(-1, "the index was derived from another history: its chain value at %d entries is %s", size, trail.Hex(chain))
	}
	if err := c.rest(ctx, tx, rows, size); err != nil {
		return err
	}
	return c.blocks(ctx, tx, blocks)
}

// row compares the row of an entry with the one that it should have.
func (c *checker) row(ctx context.Context, tx *sql.Tx, rows *rowReader, want *row) error {
	for rows.ok && rows.row.idx < want.idx {
		c.found(rows.row.idx, "the index has a row for an entry that there is not")
		if err := rows.next(); err != nil {
			return err
		}
	}
	if !rows.ok || rows.row.idx != want.idx {
		c.found(want.idx, "the index has no row for the entry")
	} else {
		for _, column := range rows.differ(want) {
			c.found(want.idx, "the row's column %s is not what the entry says", column)
		}
		if err := rows.next(); err != nil {
			return err
		}
	}
	var idx int64
	switch err := rows.id.QueryRowContext(ctx, want.id[:]).Scan(&idx); {
	case errors.Is(err, sql.ErrNoRows):
		c.found(want.idx, "the index does not know the entry's id %s", want.id)
	case err != nil:
		return err
	case idx != want.idx:
		c.found(want.idx, "the index says that the id %s is that of entry %d", want.id, idx)
	}
	return nil
}

// rest names rows beyond the last entry, and ids too many.
func (c *checker) rest(ctx context.Context, tx *sql.Tx, rows *rowReader, size int64) error {
	for rows.ok {
		c.found(rows.row.idx, "the index has a row for an entry that there is not")
		if err := rows.next(); err != nil {
			return err
		}
	}
	var ids int64
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM ids").Scan(&ids); err != nil {
		return err
	}
	if ids > size {
		c.found(-1, "the index knows %d ids, there are %d entries", ids, size)
	}
	return nil
}

func (c *checker) blocks(ctx context.Context, tx *sql.Tx, want []block) error {
	rows, err := tx.QueryContext(ctx, "SELECT n, first, last FROM block ORDER BY n")
	if err != nil {
		return err
	}
	defer rows.Close()
	have := map[int64]block{}
	for rows.Next() {
		var b block
		if err := rows.Scan(&b.n, &b.first, &b.last); err != nil {
			return err
		}
		have[b.n] = b
	}
	for _, b := range want {
		if have[b.n] != b {
			c.found(b.n*blockSize, "the index is wrong about the times of entries %d to %d", b.n*blockSize, (b.n+1)*blockSize-1)
		}
		delete(have, b.n)
	}
	for n := range have {
		c.found(n*blockSize, "the index has a block of times for entries that there are not")
	}
	return rows.Err()
}

// mergeBlocks adds the blocks of a later entry.
func mergeBlocks(blocks, more []block) []block {
	for _, b := range more {
		if n := len(blocks); n > 0 && blocks[n-1].n == b.n {
			blocks[n-1].first, blocks[n-1].last = min(blocks[n-1].first, b.first), max(blocks[n-1].last, b.last)
		} else {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// A rowReader reads the table entry in order.
type rowReader struct {
	rows *sql.Rows
	id   *sql.Stmt
	row  row
	raw  []any // the columns as they came
	ok   bool
}

func newRowReader(ctx context.Context, tx *sql.Tx) (*rowReader, error) {
	id, err := tx.PrepareContext(ctx, "SELECT idx FROM ids WHERE id = ?")
	if err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, "SELECT "+columns+" FROM entry ORDER BY idx")
	if err != nil {
		return nil, errors.Join(err, id.Close())
	}
	r := &rowReader{rows: rows, id: id, raw: make([]any, 13)}
	return r, r.next()
}

func (r *rowReader) next() error {
	r.ok = r.rows.Next()
	if !r.ok {
		return r.rows.Err()
	}
	dst := make([]any, len(r.raw))
	for i := range dst {
		dst[i] = &r.raw[i]
	}
	if err := r.rows.Scan(dst...); err != nil {
		return err
	}
	idx, ok := r.raw[0].(int64)
	if !ok {
		return errors.New("an index is not a number")
	}
	r.row.idx = idx
	return nil
}

// differ returns the columns that are not as want says.
func (r *rowReader) differ(want *row) []string {
	var names []string
	columnNames := strings.Split(columns, ", ")
	for i, v := range want.appendValues(nil) {
		if n, ok := v.(int); ok {
			v = int64(n)
		}
		if b, ok := r.raw[i].([]byte); ok {
			r.raw[i] = string(b) // comparable, and no number
		}
		if r.raw[i] != v {
			names = append(names, columnNames[i])
		}
	}
	return names
}

func (r *rowReader) close() error { return errors.Join(r.rows.Close(), r.id.Close()) }

var errDamaged = errors.New("the log is damaged")

// scan calls fn for the records below size, from the segments as they are.
func scan(ctx context.Context, log *seglog.Log, size int64, fn func(*trail.Record) error) error {
	var own error
	buf := make([]byte, 1<<20)
	for next := int64(0); next < size; {
		reader, err := log.Reader(uint64(next), seglog.FirstOffset)
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		first := next
		next, err = readSegment(ctx, reader, buf, next, size, func(r *trail.Record) error {
			own = fn(r)
			return own
		})
		switch {
		case own != nil:
			return own
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: %w", errDamaged, err)
		case next == first:
			return fmt.Errorf("%w: %s holds no records", errDamaged, seglog.SegmentName(uint64(first)))
		}
	}
	return nil
}
