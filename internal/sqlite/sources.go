package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
)

// A producer is a count of a source, as the index knows it.
type producer struct {
	name, id finding.Key
	epoch    bool // the count has a name, and begins with 1
}

func (w *Deriver) producer(s event.Source) *producer {
	s.Seq = 0
	p := w.by[s]
	if p == nil {
		p = &producer{epoch: s.Epoch != ""}
		p.name, p.id = finding.KeyOf(s)
		w.by[event.Source{Name: strings.Clone(s.Name), Epoch: strings.Clone(s.Epoch)}] = p
	}
	return p
}

// A tally is what consecutive entries say of one count of a source.
type tally struct {
	finding.Count
	name    finding.Key
	epoch   bool
	numbers finding.Numbers
}

func newTally(r *Row) *tally {
	return &tally{Count: finding.Count{First: r.Index, Sign: -1}, name: r.by.name, epoch: r.by.epoch}
}

func (t *tally) add(r *Row) {
	t.numbers.Add(r.seq, r.Index)
	if t.Last = r.Index; r.sign {
		t.Sign = r.Index
	}
}

// insertSources adds rows to the counts of their sources.
func insertSources(ctx context.Context, tx *sql.Tx, rows []Row) error {
	tallies := map[finding.Key]*tally{}
	for i := range rows {
		if r := &rows[i]; r.by != nil {
			t := tallies[r.by.id]
			if t == nil {
				t = newTally(r)
				tallies[r.by.id] = t
			}
			t.add(r)
		}
	}
	if len(tallies) == 0 {
		return nil
	}
	w, err := newCounter(ctx, tx)
	if err != nil {
		return err
	}
	defer w.close()
	// In the order of the ledger, so that the counts of a name are counted in it.
	ids := slices.SortedFunc(maps.Keys(tallies), func(a, b finding.Key) int { return cmp.Compare(tallies[a].First, tallies[b].First) })
	for _, id := range ids {
		if err := w.add(ctx, id, tallies[id]); err != nil {
			return err
		}
	}
	return nil
}

// A counter writes the tables source and run.
type counter struct {
	count, earlier, insert, update, near, remove, put *sql.Stmt
}

func newCounter(ctx context.Context, tx *sql.Tx) (*counter, error) {
	w := &counter{}
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&w.count, "SELECT entries, numbers, runs, sign FROM source WHERE id = ?"},
		{&w.earlier, "SELECT coalesce(max(earlier) + 1, 0) FROM source WHERE name = ?"},
		{&w.insert, "INSERT INTO source (id, name, first, last, entries, numbers, runs, sign, earlier) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"},
		{&w.update, "UPDATE source SET last = ?, entries = ?, numbers = ?, runs = ?, sign = ? WHERE id = ?"},
		{&w.near, "SELECT low, high, low_idx, high_idx FROM run WHERE source = ? AND low <= ? ORDER BY low DESC"},
		{&w.remove, "DELETE FROM run WHERE source = ? AND low = ?"},
		{&w.put, "INSERT INTO run (source, low, high, low_idx, high_idx) VALUES (?, ?, ?, ?, ?)"},
	} {
		var err error
		if *p.stmt, err = tx.PrepareContext(ctx, p.query); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

func (w *counter) close() error {
	var errs []error
	for _, s := range []*sql.Stmt{w.count, w.earlier, w.insert, w.update, w.near, w.remove, w.put} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// add adds a tally to a count.
func (w *counter) add(ctx context.Context, id finding.Key, t *tally) error {
	var entries, numbers, runs, sign int64
	err := w.count.QueryRowContext(ctx, id[:]).Scan(&entries, &numbers, &runs, &sign)
	fresh := errors.Is(err, sql.ErrNoRows)
	if err != nil && !fresh {
		return err
	}
	var earlier int64
	if fresh {
		if sign = -1; t.epoch {
			t.numbers.AddRun(finding.Beginning)
			numbers = -1 // the number 0 is none
		}
		if err := w.earlier.QueryRowContext(ctx, t.name[:]).Scan(&earlier); err != nil {
			return err
		}
	}
	for _, r := range t.numbers.Runs() {
		more, bornes, err := w.merge(ctx, id, r)
		if err != nil {
			return err
		}
		runs, numbers = runs+more, numbers+bornes
	}
	entries, sign = entries+t.numbers.Count, max(sign, t.Sign)
	if fresh {
		_, err = w.insert.ExecContext(ctx, id[:], t.name[:], t.First, t.Last, entries, numbers, runs, sign, earlier)
	} else {
		_, err = w.update.ExecContext(ctx, t.Last, entries, numbers, runs, sign, id[:])
	}
	return err
}

// merge adds a run to those of a count, and returns how many runs and numbers
// there are more than before. There are no more runs near it than it has
// numbers, and one.
func (w *counter) merge(ctx context.Context, id finding.Key, r finding.Run) (runs, numbers int64, err error) {
	var all finding.Numbers
	all.AddRun(r)
	rows, err := w.near.QueryContext(ctx, id[:], r.High+1)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	var old []int64
	for rows.Next() {
		var o finding.Run
		if err := rows.Scan(&o.Low, &o.High, &o.LowIndex, &o.HighIndex); err != nil {
			return 0, 0, err
		}
		if o.High < r.Low-1 {
			break
		}
		old = append(old, o.Low)
		numbers -= o.High - o.Low + 1
		all.AddRun(o)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, 0, err
	}
	for _, low := range old {
		if _, err := w.remove.ExecContext(ctx, id[:], low); err != nil {
			return 0, 0, err
		}
	}
	merged := all.Runs()
	for _, m := range merged {
		numbers += m.High - m.Low + 1
		if _, err := w.put.ExecContext(ctx, id[:], m.Low, m.High, m.LowIndex, m.HighIndex); err != nil {
			return 0, 0, err
		}
	}
	return int64(len(merged) - len(old)), numbers, nil
}

// bySource limits a query to the counts of a source, if one is named.
func bySource(source string) (condition string, args []any) {
	if source == "" {
		return "", nil
	}
	name, _ := finding.KeyOf(event.Source{Name: source})
	return " AND s.name = ?", []any{name[:]}
}

// holes selects the runs of counts that have more than one. It is told how to
// begin with those counts: SQLite would look through all.
const holes = "SELECT s.id, r.low, r.high, r.low_idx, r.high_idx FROM source s INDEXED BY source_gapped CROSS JOIN run r ON r.source = s.id WHERE s.runs > 1"

// Holes implements [finding.Sources].
func (x *Index) Holes(ctx context.Context, source string, fn func(finding.Hole) error) error {
	condition, args := bySource(source)
	rows, err := x.read.QueryContext(ctx, holes+condition+" ORDER BY s.id, r.low", args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var of, id []byte
	var last, r finding.Run
	for rows.Next() {
		if err := rows.Scan(&id, &r.Low, &r.High, &r.LowIndex, &r.HighIndex); err != nil {
			return err
		}
		if bytes.Equal(id, of) {
			if err := fn(finding.Hole{From: last.High + 1, To: r.Low - 1, Before: last.HighIndex, After: r.LowIndex}); err != nil {
				return err
			}
		}
		of, last = append(of[:0], id...), r
	}
	return rows.Err()
}

// Signed implements [finding.Sources].
func (x *Index) Signed(ctx context.Context, source string, fn func(finding.Count) error) error {
	return x.counts(ctx, "s.sign >= 0", source, fn)
}

// Odd implements [finding.Sources].
func (x *Index) Odd(ctx context.Context, source string, fn func(finding.Count) error) error {
	return x.counts(ctx, "(s.earlier > 0 OR s.entries > s.numbers)", source, fn)
}

func (x *Index) counts(ctx context.Context, which, source string, fn func(finding.Count) error) error {
	condition, args := bySource(source)
	rows, err := x.read.QueryContext(ctx, "SELECT s.first, s.last, s.entries, s.numbers, s.sign, s.earlier FROM source s WHERE "+which+condition+" ORDER BY s.id", args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var c finding.Count
		if err := rows.Scan(&c.First, &c.Last, &c.Entries, &c.Distinct, &c.Sign, &c.Earlier); err != nil {
			return err
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	return rows.Err()
}
