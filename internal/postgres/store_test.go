package postgres_test

import (
	"testing"

	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
)

// newBed returns a bed for a new ledger in a database of its own.
func newBed(t testing.TB, server *testenv.Postgres) *storetest.Bed {
	t.Helper()
	return bedIn(t, server, ledgerIn(t, server))
}

// bedIn returns a bed for the ledger in a database.
func bedIn(t testing.TB, server *testenv.Postgres, name string) *storetest.Bed {
	t.Helper()
	dsn := server.DSN(name, "app")
	return storetest.NewBed(t, func(b *storetest.Bed) (storetest.Store, error) {
		return postgres.Open(t.Context(), dsn, postgres.Options{Verifier: b.Verifier, OnError: func(err error) { t.Error(err) }})
	})
}

// ledgerIn makes a database with the schema in it, to which the role app may
// write, and returns its name.
func ledgerIn(t testing.TB, server *testenv.Postgres) string {
	t.Helper()
	name := server.Database()
	if _, _, err := postgres.Migrate(t.Context(), server.DSN(name, "postgres")); err != nil {
		t.Fatal(err)
	}
	// Other tests make the role of the same server at the same time.
	server.SQL(name, `DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		DO $$ BEGIN GRANT graven_writer, graven_purger TO app; EXCEPTION WHEN unique_violation THEN NULL; END $$`)
	return name
}

func TestStore(t *testing.T) {
	server := testenv.StartPostgres(t)
	storetest.Run(t, func(t *testing.T) *storetest.Bed { return newBed(t, server) })
}
