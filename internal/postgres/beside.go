package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/verify"
)

// The numbers of sources that the entries below a size bear, each with the first
// entry, the newest, and the newest sign of life: of columns that were found to
// say what the entries say.
const withTold = `WITH told AS (
		SELECT source_name AS name, source_epoch AS epoch, source_seq AS seq, min(ledger_index) AS idx, max(ledger_index) AS last,
			count(*) AS entries, coalesce(max(ledger_index) FILTER (WHERE event_type = ANY($2)), -1) AS sign
		FROM audit_events WHERE ledger_index < $1 AND source_name <> '' AND source_seq > 0 GROUP BY 1, 2, 3
	), total AS (
		SELECT name, epoch, min(idx) AS first_index, max(last) AS last_index, sum(entries) AS entries, count(*) AS numbers, max(sign) AS sign
		FROM told GROUP BY 1, 2
	), points AS (
		SELECT name, epoch, seq, idx FROM told UNION ALL SELECT name, epoch, 0, -1 FROM total WHERE epoch <> ''
	), edges AS (
		SELECT *, lag(seq) OVER w IS DISTINCT FROM seq - 1 AS begins, lead(seq) OVER w IS DISTINCT FROM seq + 1 AS ends
		FROM points WINDOW w AS (PARTITION BY name, epoch ORDER BY seq)
	), spans AS (
		SELECT name, epoch, begins, seq AS low, idx AS low_index, CASE WHEN ends THEN seq ELSE lead(seq) OVER w END AS high,
			CASE WHEN ends THEN idx ELSE lead(idx) OVER w END AS high_index
		FROM edges WHERE begins OR ends WINDOW w AS (PARTITION BY name, epoch ORDER BY seq)
	), run AS (
		SELECT name, epoch, low, high, low_index, high_index FROM spans WHERE begins
	)`

// wrongCounts are the counts that are not what the entries say, and wrongRuns
// the runs.
const (
	wrongCounts = withTold + `, should AS (
		SELECT t.*, (SELECT count(*) FROM run r WHERE r.name = t.name AND r.epoch = t.epoch) AS runs,
			row_number() OVER (PARTITION BY t.name ORDER BY t.first_index) - 1 AS earlier
		FROM total t
	)
	SELECT coalesce(s.name, c.name), coalesce(s.epoch, c.epoch), coalesce(s.first_index, c.first_index)
	FROM should s FULL JOIN counts c ON c.name = s.name AND c.epoch = s.epoch
	WHERE (s.first_index, s.last_index, s.entries, s.numbers, s.runs, s.sign, s.earlier)
		IS DISTINCT FROM (c.first_index, c.last_index, c.entries, c.numbers, c.runs, c.sign, c.earlier)
	ORDER BY 3, 1, 2`
	wrongRuns = withTold + `, kept AS (
		SELECT coalesce(c.name, '') AS name, coalesce(c.epoch, '') AS epoch, r.low, r.high, r.low_index, r.high_index
		FROM runs r LEFT JOIN counts c ON c.id = r.count
	)
	SELECT coalesce(s.name, k.name), coalesce(s.epoch, k.epoch), coalesce(s.low_index, k.low_index)
	FROM run s FULL JOIN kept k ON k.name = s.name AND k.epoch = s.epoch AND k.low = s.low
	WHERE (s.high, s.low_index, s.high_index) IS DISTINCT FROM (k.high, k.low_index, k.high_index)
	ORDER BY 3, 1, 2`
)

// checkSources holds what is counted of the sources of events against the
// entries, as far as they are counted.
func (t *table) checkSources(ctx context.Context, size int64) error {
	var counted int64
	err := t.tx.QueryRow(ctx, "SELECT size FROM counted").Scan(&counted)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		t.found(verify.IndexMismatch, -1, "counted", "there is no row that tells of how many entries the sources are counted")
		return nil
	case err != nil:
		return err
	case counted > size:
		t.found(verify.IndexMismatch, -1, "counted", "the sources of %d entries are counted, and there are %d", counted, size)
	}
	for _, c := range []struct{ sql, where, what string }{
		{wrongCounts, "counts", "the count of the source %.80q, epoch %.40q, is not what the entries say"},
		{wrongRuns, "runs", "the numbers of the source %.80q, epoch %.40q, are not those that the entries bear"},
	} {
		rows, err := t.tx.Query(ctx, c.sql, counted, signs)
		if err != nil {
			return err
		}
		var name, epoch string
		var index int64
		_, err = pgx.ForEachRow(rows, []any{&name, &epoch, &index}, func() error {
			t.found(verify.IndexMismatch, index, c.where, c.what, name, epoch)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// A monthCheck holds the months in which entries stand against where
// ledger_months says that they begin.
type monthCheck struct {
	t     *table
	first map[string]int64 // as the table says; those that were found are gone
	now   string           // the month of the last entry
}

func (t *table) checkMonths(ctx context.Context) (*monthCheck, error) {
	c := &monthCheck{t: t, first: map[string]int64{}}
	err := t.each(ctx, "SELECT month::text, first_index FROM ledger_months WHERE first_index IS NOT NULL", func(rows pgx.Rows) error {
		var month string
		var first int64
		err := rows.Scan(&month, &first)
		c.first[month] = first
		return err
	})
	return c, err
}

// entry takes the next entry and the month in which it stands.
func (c *monthCheck) entry(index int64, month string) {
	if month == c.now {
		return
	}
	first, ok := c.first[month]
	if !ok || first != index || month < c.now {
		c.t.found(verify.IndexMismatch, index, c.t.Where(index), "the column recorded_month does not say where ledger_months has the entry: %s", month)
	}
	delete(c.first, month)
	c.now = month
}

// end takes the month that the head names.
func (c *monthCheck) end(head string) {
	for month, first := range c.first {
		c.t.found(verify.IndexMismatch, first, "ledger_months", "no entry begins the month %s", month)
	}
	if head != c.now {
		c.t.found(verify.IndexMismatch, -1, "ledger_head", "the last entry does not stand in the month %q, but in %q", head, c.now)
	}
}
