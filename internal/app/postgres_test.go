package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/verify"
)

// database returns the address of a database with a ledger's schema, for a role
// that may write, and its server.
func database(t *testing.T) (dsn string, server *testenv.Postgres) {
	t.Helper()
	server = testenv.StartPostgres(t)
	name := server.Database()
	if _, _, err := postgres.Migrate(t.Context(), server.DSN(name, "postgres")); err != nil {
		t.Fatal(err)
	}
	server.SQL(name, "CREATE ROLE app LOGIN; GRANT graven_writer TO app")
	return server.DSN(name, "app"), server
}

// replica returns the configuration of another server of the same ledger.
func replica(t *testing.T, c app.Config) app.Config {
	t.Helper()
	other := config(t)
	other.Store = c.Store
	if err := os.CopyFS(filepath.Join(other.Data, "keys"), os.DirFS(filepath.Join(c.Data, "keys"))); err != nil {
		t.Fatal(err)
	}
	return other
}

func TestServersOfOneDatabaseServeOneLedger(t *testing.T) {
	c := config(t)
	var server *testenv.Postgres
	c.Store, server = database(t)
	a := run(t, c)
	admin := token(t, c)
	if code, body := a.do(http.MethodPost, "/api/v1/audit/events", admin, native); code != http.StatusCreated {
		t.Fatalf("%d %s", code, body)
	}
	other := replica(t, c)
	b := run(t, other)
	if _, err := os.Stat(filepath.Join(other.Data, "admin.token")); err == nil {
		t.Error("a second server has made a second first token")
	}
	for range 5 {
		event := strings.Replace(native, "issue-1", "issue-"+t.Name()+time.Now().Format("150405.000000000"), 1)
		if code, body := b.do(http.MethodPost, "/api/v1/audit/events", admin, event); code != http.StatusCreated {
			t.Fatalf("%d %s", code, body)
		}
		_, fromA := a.do(http.MethodGet, "/api/v1/audit?type=IssueCreated", admin, "")
		_, fromB := b.do(http.MethodGet, "/api/v1/audit?type=IssueCreated", admin, "")
		if fromA != fromB {
			t.Errorf("what one server has recorded, the other does not show:\n%s\n%s", fromA, fromB)
		}
	}
	code, body := a.do(http.MethodPost, "/api/v1/tokens", admin, `{"name":"alice","role":"viewer"}`)
	if code != http.StatusCreated {
		t.Fatalf("%d %s", code, body)
	}
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(body), &made); err != nil {
		t.Fatal(err)
	}
	secret := made.Token
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if code, body = b.do(http.MethodGet, "/api/v1/audit", secret, ""); code == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other server does not know the token: %d %s", code, body)
		}
	}
	if code, body := b.do(http.MethodGet, "/api/v1/audit/verify", admin, ""); code != http.StatusOK || !strings.Contains(body, `"ok":true`) {
		t.Errorf("%d %s", code, body)
	}
	server.Kill()
	if code, body := a.do(http.MethodPost, "/api/v1/audit/events", admin, native); code != http.StatusServiceUnavailable || !strings.Contains(body, "away") {
		t.Errorf("without the database: %d %s", code, body)
	}
	server.Start()
	if code, body := a.do(http.MethodPost, "/api/v1/audit/events", admin, native); code != http.StatusCreated {
		t.Errorf("with the database again: %d %s", code, body)
	}
	if err := b.halt(); err != nil {
		t.Error(err)
	}
	if err := a.halt(); err != nil {
		t.Error(err)
	}
	report, err := app.VerifyStore(t.Context(), c.Store, verify.Options{})
	if err != nil || !report.OK() {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestTokensThatAnotherServerChangesAtTheSameTimeAreToBeTriedAgain(t *testing.T) {
	c := config(t)
	var server *testenv.Postgres
	c.Store, server = database(t)
	a := run(t, c)
	admin := token(t, c)
	for n := 0; ; n++ {
		// Now and then the server looks in time, and is not too late.
		server.SQL("test1", "UPDATE graven.documents SET version = version + 1 WHERE name = 'tokens'")
		code, body := a.do(http.MethodPost, "/api/v1/tokens", admin, fmt.Sprintf(`{"name":"alice-%d","role":"viewer"}`, n))
		if code == http.StatusServiceUnavailable && strings.Contains(body, "another server has changed it") {
			break
		}
		if code != http.StatusCreated || n > 50 {
			t.Fatalf("%d %s", code, body)
		}
	}
}

func TestAServerOfADatabaseIsRefused(t *testing.T) {
	dsn, server := database(t)
	good := config(t)
	good.Store = dsn
	s := run(t, good)
	if err := s.halt(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(c *app.Config)
		want   string
	}{
		"no address":       {func(c *app.Config) { c.Store = "postgres://host:port/" }, "store: not the address of a PostgreSQL database"},
		"nobody there":     {func(c *app.Config) { c.Store = "postgres://app@/x?host=" + t.TempDir() }, "connect"},
		"no such database": {func(c *app.Config) { c.Store = server.DSN("nowhere", "app") }, `database "nowhere" does not exist`},
		"no schema":        {func(c *app.Config) { c.Store = server.DSN("postgres", "app") }, "graven postgres migrate"},
		"a role without rights": {func(c *app.Config) {
			server.SQL("postgres", "CREATE ROLE nobody LOGIN")
			c.Store = server.DSN("test1", "nobody")
		}, "graven_writer"},
		"another key":              {func(c *app.Config) { c.Data = t.TempDir() }, "copy the directory keys"},
		"the database was emptied": {func(c *app.Config) { c.Store = server.DSN(emptied(t, server), "app") }, "older copy"},
		"the schema is of later on": {func(c *app.Config) {
			server.SQL("test1", "INSERT INTO graven.migrations (version_id, is_applied) VALUES (999, true)")
		}, "take a newer one"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			tt.change(&c)
			a, err := try(c)
			if err == nil {
				a.Stop(t.Context())
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("it says %v, not %q", err, tt.want)
			}
			server.SQL("test1", "DELETE FROM graven.migrations WHERE version_id = 999")
		})
	}
	again := run(t, good)
	if err := again.halt(); err != nil {
		t.Error(err)
	}
}

// emptied returns a database with a schema and no ledger.
func emptied(t *testing.T, server *testenv.Postgres) string {
	t.Helper()
	name := server.Database()
	if _, _, err := postgres.Migrate(t.Context(), server.DSN(name, "postgres")); err != nil {
		t.Fatal(err)
	}
	return name
}
