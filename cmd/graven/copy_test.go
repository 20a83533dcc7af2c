package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/testenv"
)

// The commands of docs/operations.md.
func TestALedgerMovesAsDocumented(t *testing.T) {
	server := testenv.StartPostgres(t)
	name := server.Database()
	if _, _, err := postgres.Migrate(t.Context(), server.DSN(name, "postgres")); err != nil {
		t.Fatal(err)
	}
	server.SQL(name, "CREATE ROLE app LOGIN; GRANT graven_writer TO app")
	dir := t.TempDir()
	data := filepath.Join(dir, "graven-data")
	d, stop := writing(t, data, 4)
	dsn := server.DSN(name, "app")
	lines := strings.SplitAfter(strings.ReplaceAll(blocks(t, "docs/operations.md", "copy")[0], "postgres://app@db.example/graven", dsn), "\n")
	out, err := shell(t, dir, lines[0])
	stop()
	if err != nil || !strings.Contains(out, "are those of") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := d.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if out, err = shell(t, dir, strings.Join(lines[1:], "")); err != nil || !strings.Contains(out, "the ledger goes on in postgres:") || !strings.Contains(out, "GOOD: everything matches") {
		t.Fatalf("%v\n%s", err, out)
	}
	if d, err = startDaemon(data, os.Environ(), "--store", dsn); err != nil {
		t.Fatal(err)
	}
	if err := d.stop(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}
