package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/trail"
)

// TestNothingIsLeftInTheDatabaseOfWhatWasErased looks through all files of the
// server: tables, free space in them, and the write-ahead log.
func TestNothingIsLeftInTheDatabaseOfWhatWasErased(t *testing.T) {
	server := testenv.StartPostgres(t, "wal_recycle=off", "wal_keep_size=0", "min_wal_size=32MB")
	name := ledgerIn(t, server)
	b := bedIn(t, server, name)
	r := b.Start(t)
	r.AppendMany(0, 100)
	for n := 100; n < 200; n++ {
		e := storetest.Event(n)
		e.Error = event.Failure{Code: "E", Message: fmt.Sprintf("canary-message-%d", n)}
		if err := e.SetDetails(map[string]any{"secret": fmt.Sprintf("canary-details-%d", n) + strings.Repeat("x", 50*n)}); err != nil {
			t.Fatal(err)
		}
		r.Append(e)
	}
	if len(server.Holds([]byte("canary-"))) == 0 {
		t.Fatal("the server's files do not hold what was recorded")
	}
	x := r.Erasing(0, 1)
	defer x.Journal.Close()
	from, to := time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC), time.Date(2026, 3, 19, 15, 0, 0, 0, time.UTC)
	a, err := x.Eraser.Erase(t.Context(), custody.Caller{By: storetest.By}, &custody.Order{Reason: "r", Scope: retention.Scope{From: &from, To: &to}})
	if err != nil || a.Events != 200 {
		t.Fatal(a, err)
	}
	r.AppendMany(300, 10)
	server.SQL(name, "CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT")
	if left := server.Holds([]byte("canary-")); len(left) > 0 {
		t.Errorf("content is left in %q", left)
	}
	if rest := strings.TrimSpace(server.SQL(name, "SELECT count(*) FROM graven.audit_event_details WHERE ledger_index BETWEEN 1 AND 200")); rest != "0" {
		t.Errorf("%s rows are left", rest)
	}
	r.Check(b)
}

func TestOnlyAPurgerErasesAndOnlyWhatATombstoneNames(t *testing.T) {
	server := testenv.StartPostgres(t)
	name := ledgerIn(t, server)
	b := bedIn(t, server, name)
	r := b.Start(t)
	r.AppendMany(0, 20)
	size := r.Size()
	if out, err := server.TrySQL("app", name, fmt.Sprintf("SELECT graven.erase(%d, '{}', '{}', 0)", size)); err != nil {
		t.Fatal(err, out)
	}
	if rest := strings.TrimSpace(server.SQL(name, "SELECT count(*) FROM graven.audit_event_details")); rest != fmt.Sprint(size) {
		t.Errorf("without a tombstone, %s of %d rows are left", rest, size)
	}
	if out, err := server.TrySQL("app", name, "SELECT graven.erase(9000000000000000000, '{}', '{}', 0)"); err != nil {
		t.Fatal(err, out)
	}
	if upto := strings.TrimSpace(server.SQL(name, "SELECT upto FROM graven.erased")); upto != fmt.Sprint(size-1) {
		t.Errorf("of %d entries, tombstones up to %s are done with", size, upto)
	}
	if out, err := server.TrySQL("app", name, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT graven.erase(1, '{}', '{}', 0)"); err == nil || !strings.Contains(out+err.Error(), "read committed") {
		t.Errorf("in a transaction that does not see what is appended meanwhile: %v, %s", err, out)
	}
	if out, err := server.TrySQL("app", name, fmt.Sprintf("UPDATE graven.erased SET upto = -1; SELECT graven.erase(%d, '{3}', '{5}', 0)", size)); err == nil {
		t.Errorf("the role may change what was erased: %s", out)
	}
	server.SQL(name, "UPDATE graven.erased SET upto = -1")
	if out, err := server.TrySQL("app", name, fmt.Sprintf("SELECT graven.erase(%d, '{3}', '{5}', 0)", size)); err == nil || !strings.Contains(out+err.Error(), "no tombstone in the ledger names") {
		t.Errorf("what no tombstone names: %s, %v", out, err)
	}
	server.SQL(name, "UPDATE graven.erased SET upto = -1; REVOKE graven_purger FROM app")
	x, other := r.Erasing(0, 1), b.Start(t).Erasing(0, 1)
	defer x.Journal.Close()
	defer other.Journal.Close()
	order := &custody.Order{Reason: "r", Scope: retention.Scope{CorrelationID: "inc-1"}}
	a, err := x.Eraser.Erase(t.Context(), custody.Caller{By: storetest.By}, order)
	if err != nil || a.Erased || a.Left == "" || len(x.Failed) != 1 || !strings.Contains(x.Failed[0].Error(), "graven_purger") {
		t.Errorf("without the right to: %+v, %v, %v", a, err, x.Failed)
	}
	found := []int64{-1}
	if err := r.Store.Find(t.Context(), []event.ID{storetest.Event(5).ID}, found); err != nil {
		t.Fatal(err)
	}
	if rec, err := x.Present().Record(t.Context(), found[0]); err != nil || rec.Erasable != nil {
		t.Errorf("what is told to be erased is seen: %v", err)
	}
	if err := other.Ledger.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := func(rec *trail.Record) error {
		if rec.Index == found[0] && rec.Erasable != nil {
			t.Error("it is seen on another server")
		}
		return nil
	}
	if rec, err := other.Present().Record(t.Context(), found[0]); err != nil || seen(&rec) != nil {
		t.Error(err)
	}
	if err := other.Present().Records(t.Context(), search.Range{First: found[0], End: found[0] + 1}, seen); err != nil {
		t.Error(err)
	}
	server.SQL(name, "GRANT graven_purger TO app")
	if err := x.Eraser.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rest := strings.TrimSpace(server.SQL(name, "SELECT count(*) FROM graven.audit_event_details d JOIN graven.audit_events e USING (ledger_index) WHERE correlation_id = 'inc-1'")); rest != "0" {
		t.Errorf("%s rows are left", rest)
	}
	r.Check(b)
}
