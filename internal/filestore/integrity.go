package filestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
)

// schema compares the schema with the one that an index is made with.
func (c *checker) schema(ctx context.Context, tx *sql.Tx) error {
	fresh, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer fresh.Close()
	fresh.SetMaxOpenConns(1) // each has a memory of its own
	if _, err := fresh.ExecContext(ctx, schema); err != nil {
		return err
	}
	want, err := readSchema(ctx, fresh)
	if err != nil {
		return err
	}
	have, err := readSchema(ctx, tx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[name]; !ok {
			c.found(-1, "%.100s does not belong into the index; graven reindex makes it anew", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have[name] != want[name] {
			c.found(-1, "%s is missing from the index, or was changed; graven reindex makes it anew", name)
		}
	}
	return nil
}

// readSchema returns what a database consists of, each with its definition.
func readSchema(ctx context.Context, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}) (map[string]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT type || ' ' || name, tbl_name || ': ' || coalesce(sql, '') FROM sqlite_master")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[string]string{}
	for rows.Next() {
		var name, sql string
		if err := rows.Scan(&name, &sql); err != nil {
			return nil, err
		}
		found[name] += sql
	}
	return found, rows.Err()
}

var missingRow = regexp.MustCompile(`^row (\d+) (?:missing from|values differ from) index (\w+)$`)

// integrity has SQLite hold its secondary indexes against their tables, and
// look at its pages.
func (c *checker) integrity(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, fmt.Sprintf("PRAGMA integrity_check(%d)", c.limit))
	if err != nil {
		return err
	}
	defer rows.Close()
	missing := map[int64][]string{} // the indexes that lack a row, by its number in the table, from 1 on
	last := int64(0)
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if m := missingRow.FindStringSubmatch(text); m != nil {
			last, _ = strconv.ParseInt(m[1], 10, 64)
			missing[last] = append(missing[last], m[2])
		} else if text != "ok" {
			c.found(-1, "SQLite finds fault with the index: %.200s; graven reindex makes it anew", text)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || last == 0 {
		return err
	}
	return c.missing(ctx, tx, missing, last)
}

// missing names the entries behind the rows that secondary indexes lack; last
// is the number of the last of them. Only the table entry has such indexes.
func (c *checker) missing(ctx context.Context, tx *sql.Tx, numbers map[int64][]string, last int64) error {
	rows, err := tx.QueryContext(ctx, "SELECT idx FROM entry NOT INDEXED ORDER BY idx LIMIT ?", last)
	if err != nil {
		return err
	}
	defer rows.Close()
	for n := int64(1); rows.Next(); n++ {
		var idx int64
		if err := rows.Scan(&idx); err != nil {
			return err
		}
		for _, name := range numbers[n] {
			c.found(idx, "queries miss the entry: its row is not as it is in %s, or not there at all", name)
		}
	}
	return rows.Err()
}
