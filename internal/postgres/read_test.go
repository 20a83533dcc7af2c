package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
)

func TestAListDoesNotHideWhatWasChanged(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	r.AppendMany(0, 200)
	size := r.Ledger.State().Size()
	page := func() (*search.Answer, error) {
		return r.Finder.Page(t.Context(), &search.Filter{Types: []string{storetest.Event(0).EventType}}, search.Page{Limit: 1000, Cursor: -1}, size)
	}
	a, err := page()
	if err != nil || len(a.Hits) != 200 {
		t.Fatalf("%v, %+v", err, a)
	}
	for i, h := range a.Hits {
		if h.Record.Index != size-1-int64(i) {
			t.Fatalf("hit %d is entry %d", i, h.Record.Index)
		}
	}
	const change = "SET session_replication_role = replica; SET search_path = graven; "
	server.SQL("test1", change+"UPDATE audit_event_details SET erasable = overlay(erasable PLACING 'x'::bytea FROM 20) WHERE ledger_index = 100")
	if _, err := page(); !errors.Is(err, search.ErrChanged) || !strings.Contains(err.Error(), "entry 100") {
		t.Errorf("changed details: %v", err)
	}
	server.SQL("test1", change+"UPDATE audit_events SET entry = overlay(entry PLACING 'x'::bytea FROM 20) WHERE ledger_index = 120")
	if _, err := page(); !errors.Is(err, search.ErrChanged) || !strings.Contains(err.Error(), "entry 120") {
		t.Errorf("a changed entry: %v", err)
	}
}
