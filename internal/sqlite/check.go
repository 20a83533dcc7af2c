package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/posting"
	"github.com/graven-audit/graven/trail"
)

// A Log is what an index is checked against.
type Log interface {
	// Scan calls fn for the records below size, in order, as far as they can
	// be read. The error is [ErrLog] if that is not to the end.
	Scan(ctx context.Context, size int64, fn func(*trail.Record) error) error
}

// ErrLog means that the log cannot be read to the end.
var ErrLog = errors.New("the log is damaged")

// A Check checks an index against a log.
type Check struct {
	Path string
	Log  Log
	// Resting is set if nobody writes to the index meanwhile: otherwise SQLite
	// needs to write beside a database that it reads.
	Resting bool
	// Unused is set if no server has the index open, which may be of another
	// version then.
	Unused bool
	// Pruned is the index below which entries were erased, as tombstones say.
	// Where the index has forgotten more, PrunedNow, if not nil, is asked again.
	Pruned    int64
	PrunedNow func() (int64, error)
	// PartRows is how many rows that tell of sources are checked in one go;
	// 0 means 250,000. Where each event has a source of its own, the log is
	// read several times rather than all of it held in memory.
	PartRows uint64
	// Found is told of what is wrong, with the index of the entry or -1, and
	// Unproven of what could not be checked.
	Found    func(index int64, message string)
	Unproven func(message string)

	left int64 // entries of which only the hash was left, at the last look
}

func (c *Check) found(index int64, format string, args ...any) {
	c.Found(index, fmt.Sprintf(format, args...))
}

func (c *Check) unproven(format string, args ...any) { c.Unproven(fmt.Sprintf(format, args...)) }

// unreadable takes an error of SQLite's: it could not get at the index, or
// the index is damaged.
func (c *Check) unreadable(err error) {
	if surroundings(err) {
		c.unproven("the index could not be opened and was not checked: %v", err)
		return
	}
	c.found(-1, "the index cannot be read: %v; graven reindex makes it anew", err)
}

// surroundings reports whether an error of SQLite's is about what is around a
// database, and not in it: who else uses it, permissions, or a disk without the
// room that SQLite needs even to read beside others.
func surroundings(err error) bool {
	var own *driver.Error
	if !errors.As(err, &own) {
		return false
	}
	switch own.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY:
		return true
	}
	switch own.Code() {
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_IN_PAGE, sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_IOERR_WRITE,
		sqlite3.SQLITE_IOERR_SHMLOCK, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE:
		return true
	}
	return false
}

// Run checks the index as of one moment.
func (c *Check) Run(ctx context.Context) error {
	access := "mode=ro"
	if c.Resting {
		access = "immutable=1"
	}
	db, err := sql.Open("sqlite", "file:"+dsnPath(c.Path)+"?"+access+"&_pragma=query_only(true)&_pragma=busy_timeout(10000)&_pragma=temp_store(memory)&_pragma=trusted_schema(false)")
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err == nil {
		defer tx.Rollback()
		if _, err := readMeta(ctx, tx); (c.Resting || c.Unused) && errors.Is(err, ErrFormat) {
			c.unproven("the index is of another version and was not checked; a server makes it anew: %v", err)
			return ctx.Err()
		}
		// All of them go as far as they get; one error stands for all.
		err = cmp.Or(c.schema(ctx, tx), c.integrity(ctx, tx), c.contents(ctx, tx))
	}
	for errors.Is(err, errPruned) && ctx.Err() == nil {
		err = c.later(ctx, db)
	}
	if err != nil && ctx.Err() == nil {
		c.unreadable(err)
	}
	return ctx.Err()
}

// errPruned means that entries may have been erased since the index was looked at.
var errPruned = errors.New("entries were erased meanwhile")

// later compares the rows with the log as of a later moment.
func (c *Check) later(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return c.contents(ctx, tx)
}

// contents compares the rows with the log.
func (c *Check) contents(ctx context.Context, tx *sql.Tx) error {
	m, err := readMeta(ctx, tx)
	if err != nil {
		return err
	}
	if m.pruned > c.Pruned && c.PrunedNow != nil {
		if c.Pruned, err = c.PrunedNow(); err != nil {
			return err
		}
	}
	size, chain := m.size, m.chain
	have, err := readSums(ctx, tx)
	if err != nil {
		return err
	}
	var rows uint64
	if err := tx.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM source) + (SELECT count(*) FROM run)").Scan(&rows); err != nil {
		return err
	}
	if c.PartRows == 0 {
		c.PartRows = 250_000
	}
	want, err := c.derive(ctx, m, have, newTallies(0, rows/c.PartRows+1, 8*int(c.PartRows)))
	damaged := errors.Is(err, ErrLog)
	if err != nil && !damaged {
		return err
	}
	if want.pruned && want.left != c.left { // what stays as it is was not erased meanwhile
		c.left = want.left
		return errPruned
	}
	if m.pruned > c.Pruned {
		c.found(c.Pruned, "the index has forgotten what the entries below %d say, and no tombstone says that they were erased", m.pruned)
	}
	for n := range have.blocks {
		if n*posting.BlockSize >= size {
			want.bad = append(want.bad, newOpenBlock(n))
		}
	}
	slices.SortFunc(want.bad, func(a, b *openBlock) int { return cmp.Compare(a.n, b.n) })
	for _, b := range want.bad {
		if err := c.block(ctx, tx, b, damaged && b == want.last); err != nil {
			return err
		}
	}
	switch {
	case damaged:
		c.unproven("the index was checked as far as the log can be read in one go: %v", err)
		return nil
	case want.chain != chain:
		c.found(-1, "the index was derived from another history: its chain value at %d entries is %s", size, trail.Hex(chain))
	}
	if have.ids != want.ids {
		if err := c.ids(ctx, tx, size); err != nil {
			return err
		}
	}
	return c.sources(ctx, tx, size, want.tallies)
}

// A sum is a hash of rows in any order.
type sum struct {
	lanes [4]uint64
	rows  int64
}

func (s *sum) add(row []byte) {
	h := sha256.Sum256(row)
	for i := range s.lanes {
		s.lanes[i] += binary.LittleEndian.Uint64(h[8*i:])
	}
	s.rows++
}

// appendRow appends a row in a form to be hashed.
func appendRow(dst []byte, numbers []int64, rest []byte) []byte {
	for _, n := range numbers {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, rest...)
}

// sums are hashes of the index's rows.
type sums struct {
	blocks map[int64]*sum // by number
	ids    sum
}

func (s *sums) block(n int64) *sum {
	b := s.blocks[n]
	if b == nil {
		b = &sum{}
		s.blocks[n] = b
	}
	return b
}

// readSums reads the whole index.
func readSums(ctx context.Context, tx *sql.Tx) (*sums, error) {
	s := &sums{blocks: map[int64]*sum{}}
	var buf []byte
	each := func(query string, numbers int, fn func(numbers []int64, rest []byte)) error {
		rows, err := tx.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		values, rest := make([]int64, numbers), sql.RawBytes{}
		into := make([]any, 0, numbers+1)
		for i := range values {
			into = append(into, &values[i])
		}
		into = append(into, &rest)
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				return err
			}
			fn(values, rest)
		}
		return rows.Err()
	}
	err := each("SELECT block, epoch, field, word, places FROM posting", 4, func(v []int64, places []byte) {
		buf = appendRow(buf[:0], v, places)
		s.block(v[0]).add(buf)
	})
	if err == nil {
		err = each("SELECT n, first, last, times FROM block", 3, func(v []int64, times []byte) {
			buf = appendRow(buf[:0], v, times)
			s.block(v[0]).add(buf)
		})
	}
	if err == nil {
		err = each("SELECT idx, id FROM ids", 1, func(v []int64, id []byte) {
			buf = appendRow(buf[:0], v, id)
			s.ids.add(buf)
		})
	}
	return s, err
}

// sum returns the hash of the rows that the block has in the index.
func (b *openBlock) sum() sum {
	var s sum
	var buf, places []byte
	for t, p := range b.places {
		places = posting.AppendPlaces(places[:0], p)
		buf = appendRow(buf[:0], []int64{b.n, b.n / blocksPerEpoch, int64(t.field), t.word}, places)
		s.add(buf)
	}
	if len(b.times) > 0 {
		buf = appendRow(buf[:0], []int64{b.n, slices.Min(b.times), slices.Max(b.times)}, appendTimes(nil, b.times))
		s.add(buf)
	}
	return s
}

// A derived is what the index should be, as far as the check needs it.
type derived struct {
	ids     sum
	tallies *tallies
	chain   trail.Hash
	bad     []*openBlock // those that the index has otherwise
	pruned  bool         // and of which entries are gone that it knows
	left    int64        // entries of which only the hash is left
	last    *openBlock   // as far as the log can be read
}

// derive derives the index of size entries from the log, and holds it against
// the one that there is.
func (c *Check) derive(ctx context.Context, m meta, have *sums, by *tallies) (*derived, error) {
	size := m.size
	d := &derived{tallies: by}
	var deriver Deriver
	b, legible, pruned := newOpenBlock(0), true, false
	compare := func() {
		if s := b.sum(); legible && s != *have.block(b.n) {
			d.bad, d.pruned = append(d.bad, b), d.pruned || pruned
		}
	}
	var buf []byte
	err := c.Log.Scan(ctx, size, func(r *trail.Record) error {
		d.chain = r.Chain
		if r.Index >= b.end() {
			compare()
			b, legible, pruned = newOpenBlock(r.Index/posting.BlockSize), true, false
		}
		if r.Leaf != nil {
			d.left++
			pruned = pruned || r.Index >= m.pruned
		}
		row, err := deriver.Left(r, m.pruned)
		if err != nil {
			legible = false // verify.Dir has named it
			by.illegible = true
			return nil
		}
		by.add(&row)
		b.add(&row)
		buf = appendRow(buf[:0], []int64{r.Index}, row.ID[:])
		d.ids.add(buf)
		return nil
	})
	d.last = b
	switch {
	case err == nil && size > 0:
		compare()
	case errors.Is(err, ErrLog) && legible:
		d.bad = append(d.bad, b) // perhaps
	}
	return d, err
}

// block names what is wrong with the rows of a block or, if it is cut off,
// with what they say of the entries that are known.
func (c *Check) block(ctx context.Context, tx *sql.Tx, want *openBlock, cutOff bool) error {
	rows, err := tx.QueryContext(ctx, "SELECT epoch, field, word, places FROM posting WHERE block = ?", want.n)
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := map[term]bool{}
	for rows.Next() {
		var epoch, fd, word int64
		var places []byte
		if err := rows.Scan(&epoch, &fd, &word, &places); err != nil {
			return err
		}
		t := term{field(fd), word}
		if epoch != want.n/blocksPerEpoch || fd < 0 || fd >= int64(fields) {
			c.found(want.n*posting.BlockSize, "the index has a row (epoch %d, field %d, word %d, block %d) that belongs nowhere", epoch, fd, word, want.n)
			continue
		}
		seen[t] = true
		c.places(want, t, places, cutOff)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for t := range want.places {
		if !seen[t] {
			c.places(want, t, nil, cutOff)
		}
	}
	if cutOff {
		return nil
	}
	return c.times(ctx, tx, want)
}

// places compares a row's places with those of the entries.
func (c *Check) places(b *openBlock, t term, have []byte, cutOff bool) {
	want := posting.AppendPlaces(nil, b.places[t])
	if bytes.Equal(have, want) {
		return
	}
	at := b.n * posting.BlockSize
	was, err := posting.Parse(have)
	is, _ := posting.Parse(want)
	if cutOff {
		var known posting.Set
		known.AddRange(0, len(b.times))
		if was.And(&known); err == nil && was == is {
			return
		}
	}
	if err == nil {
		for p := range posting.BlockSize {
			if was.Has(p) != is.Has(p) {
				at += int64(p)
				break
			}
		}
	}
	c.found(at, "the index's row (field %s, word %d, block %d) is not what the entries say", t.field, t.word, b.n)
}

func (c *Check) times(ctx context.Context, tx *sql.Tx, want *openBlock) error {
	var first, last int64
	var times []byte
	err := tx.QueryRowContext(ctx, "SELECT first, last, times FROM block WHERE n = ?", want.n).Scan(&first, &last, &times)
	missing := errors.Is(err, sql.ErrNoRows)
	if err != nil && !missing {
		return err
	}
	if missing && len(want.times) == 0 {
		return nil
	}
	if missing || len(want.times) == 0 || first != slices.Min(want.times) || last != slices.Max(want.times) || !bytes.Equal(times, appendTimes(nil, want.times)) {
		c.found(want.n*posting.BlockSize, "the index is wrong about the times of entries %d to %d", want.n*posting.BlockSize, want.end()-1)
	}
	return nil
}

// ids names the ids that the index has otherwise.
func (c *Check) ids(ctx context.Context, tx *sql.Tx, size int64) error {
	stmt, err := tx.PrepareContext(ctx, "SELECT idx FROM ids WHERE id = ?")
	if err != nil {
		return err
	}
	defer stmt.Close()
	known := int64(0)
	err = c.Log.Scan(ctx, size, func(r *trail.Record) error {
		e, _, err := event.ParseEntry(r.Entry)
		if err != nil {
			return nil
		}
		var idx int64
		switch err := stmt.QueryRowContext(ctx, e.ID[:]).Scan(&idx); {
		case errors.Is(err, sql.ErrNoRows):
			c.found(r.Index, "the index does not know the entry's id %s", e.ID)
			return nil
		case err != nil:
			return err
		case idx != r.Index:
			c.found(r.Index, "the index says that the id %s is that of entry %d", e.ID, idx)
		}
		known++
		return nil
	})
	if err != nil {
		return err
	}
	var ids int64
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM ids").Scan(&ids); err != nil {
		return err
	}
	if ids > known {
		c.found(-1, "the index knows %d ids that no entry has", ids-known)
	}
	return nil
}
