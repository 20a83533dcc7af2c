package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
)

func TestSourcesAreCountedBeforeSomebodyAsks(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	r.AppendMany(0, 300)
	want := fmt.Sprint(r.Ledger.State().Size())
	for end := time.Now().Add(time.Minute); server.SQL("test1", "SELECT size FROM graven.counted") != want; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("they are not counted")
		}
	}
}

func TestAQuestionThatGivesUpCountingDoesNotBlameTheDatabase(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	r.Append(storetest.Event(0))
	// Another server counts meanwhile, and stands still.
	other, err := pgx.Connect(t.Context(), server.DSN("test1", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	if _, err := other.Exec(t.Context(), "BEGIN; SELECT FROM graven.counted FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := r.Store.Derived(ctx, 2); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ledger.ErrAway) {
		t.Errorf("%v", err)
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := r.Store.Derived(t.Context(), 2); err != nil {
		t.Error(err)
	}
}
