package postgres_test

import (
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
)

func TestADatabaseThatCannotBeReliedOnIsRefused(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	r.AppendMany(0, 10)
	r.Stop()
	open := func(dsn string) error {
		s, err := postgres.Open(t.Context(), dsn, postgres.Options{Verifier: b.Verifier})
		if err != nil {
			return err
		}
		return s.Close()
	}
	dsn := server.DSN("test1", "app")
	server.SQL("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
	for name, tt := range map[string]struct{ before, after, dsn, want string }{
		"fsync is off":              {"ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()", "ALTER SYSTEM RESET fsync; SELECT pg_reload_conf()", dsn, "fsync is off"},
		"its role does not commit":  {"ALTER ROLE app SET synchronous_commit = off", "ALTER ROLE app RESET synchronous_commit", dsn, "synchronous_commit is off"},
		"the address asks for that": {"", "", dsn + "&synchronous_commit=off", "synchronous_commit is off"},
		"a column is gone":          {"\\c test1\nALTER TABLE graven.audit_events RENAME leaf_hash TO leaf", "\\c test1\nALTER TABLE graven.audit_events RENAME leaf TO leaf_hash", dsn, "leaf_hash"},
		"an older schema":           {"\\c test1\nUPDATE graven.migrations SET is_applied = false WHERE version_id = 7", "\\c test1\nUPDATE graven.migrations SET is_applied = true WHERE version_id = 7", dsn, "bring it up to date"},
		"the head was changed":      {"\\c test1\nUPDATE graven.ledger_head SET chain = repeat('a', 64)", "\\c test1\nUPDATE graven.ledger_head SET chain = (SELECT event_hash FROM graven.audit_events ORDER BY ledger_index DESC LIMIT 1)", dsn, "the ledger was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.before != "" {
				server.SQL("postgres", tt.before)
				defer server.SQL("postgres", tt.after)
			}
			if err := open(tt.dsn); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if _, _, err := postgres.Migrate(t.Context(), server.DSN("latin", "postgres")); err == nil || !strings.Contains(err.Error(), "must be UTF8") {
		t.Errorf("another encoding: %v", err)
	}
	other := storetest.NewBed(t, nil)
	if _, err := postgres.Open(t.Context(), dsn, postgres.Options{Verifier: other.Verifier}); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("another key: %v", err)
	}
	if err := open(dsn); err != nil {
		t.Error(err)
	}
}

func TestASchemaIsMadeOnceAndKept(t *testing.T) {
	server := testenv.StartPostgres(t)
	name := server.Database()
	for i, want := range [][2]int64{{0, 7}, {7, 7}} {
		from, to, err := postgres.Migrate(t.Context(), server.DSN(name, "postgres"))
		if err != nil || from != want[0] || to != want[1] {
			t.Errorf("time %d: from %d to %d, %v", i, from, to, err)
		}
	}
	server.SQL(name, "INSERT INTO graven.migrations (version_id, is_applied) VALUES (999, true)")
	if _, _, err := postgres.Migrate(t.Context(), server.DSN(name, "postgres")); err == nil || !strings.Contains(err.Error(), "take a newer one") {
		t.Errorf("a later schema: %v", err)
	}
	// An owner that is no superuser will do.
	server.SQL("postgres", "CREATE ROLE owner LOGIN CREATEROLE; CREATE DATABASE owned OWNER owner")
	if _, _, err := postgres.Migrate(t.Context(), server.DSN("owned", "owner")); err != nil {
		t.Errorf("a plain owner: %v", err)
	}
	server.SQL("owned", "CREATE ROLE app LOGIN; GRANT graven_writer TO app")
	bedIn(t, server, "owned").Start(t).AppendMany(0, 10)
}
