package postgres_test

import (
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
)

// TestWhatBeginsAMonthIsReadByItsServer: the store that appended it knew only where
// the months before begin.
func TestWhatBeginsAMonthIsReadByItsServer(t *testing.T) {
	server := testenv.StartPostgres(t)
	dsn, copying := server.DSN(ledgerIn(t, server), "app"), true
	b := storetest.NewBed(t, func(b *storetest.Bed) (storetest.Store, error) {
		return postgres.Open(t.Context(), dsn, postgres.Options{Verifier: b.Verifier, Copying: copying, OnError: func(err error) { t.Error(err) }})
	})
	b.Set(time.Now().AddDate(0, -2, 0))
	r := b.Start(t)
	r.AppendMany(0, 20)
	r.Stop()
	b.Set(time.Time{})
	copying = false
	r = b.Start(t)
	r.AppendMany(20, 10) // this month
	if _, err := r.Store.Record(t.Context(), 25); err != nil {
		t.Error(err)
	}
	a, err := r.Finder.Page(t.Context(), &search.Filter{Types: []string{"RemediationExecuted"}}, search.Page{Limit: 50, Cursor: -1}, r.Size())
	if err != nil || len(a.Hits) != 30 {
		t.Errorf("%d events of 30 are found, %v", len(a.Hits), err)
	}
	r.Check(b)
}
