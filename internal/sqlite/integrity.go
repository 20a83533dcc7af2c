package sqlite

import (
	"context"
	"database/sql"
	"maps"
	"slices"
)

// schema compares the schema with the one that an index is made with.
func (c *Check) schema(ctx context.Context, tx *sql.Tx) error {
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

// integrity has SQLite look at its pages: rows out of order would be missed.
func (c *Check) integrity(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "PRAGMA integrity_check(20)")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if text != "ok" {
			c.found(-1, "SQLite finds fault with the index: %.200s; graven reindex makes it anew", text)
		}
	}
	return rows.Err()
}
