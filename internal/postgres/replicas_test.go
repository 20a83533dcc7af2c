package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// once records an event that may have been recorded before, until the ledger
// takes it.
func once(t *testing.T, l *ledger.Ledger, e *event.Event) bool {
	for deadline := time.Now().Add(time.Minute); ; {
		results, _, err := l.Append(t.Context(), storetest.By, []*event.Event{e.Clone()})
		if err == nil {
			err = results[0].Err
		}
		switch {
		case err == nil:
			return true
		case errors.Is(err, ledger.ErrAway), errors.Is(err, ledger.ErrBusy):
		default:
			t.Errorf("%v", err)
			return false
		}
		if time.Now().After(deadline) {
			t.Errorf("in a minute: %v", err)
			return false
		}
		time.Sleep(5 * time.Millisecond) // as a client would who was told to come again
	}
}

// refused returns why the ledger takes nothing, once it has found its database.
func refused(t *testing.T, l *ledger.Ledger) error {
	for {
		results, _, err := l.Append(t.Context(), storetest.By, []*event.Event{storetest.Event(51)})
		if err == nil {
			err = results[0].Err
		}
		if !errors.Is(err, ledger.ErrAway) {
			return err
		}
	}
}

// record has writers record so many events each, through several ledgers in
// turn, and returns when all are done.
func record(t *testing.T, ledgers []*ledger.Ledger, writers, each int) *sync.WaitGroup {
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if !once(t, ledgers[(w+i)%len(ledgers)], storetest.Event(w*each+i)) {
					return
				}
			}
		})
	}
	return &wg
}

// whole checks a server's ledger, which has so many events behind its first entry.
func whole(t *testing.T, b *storetest.Bed, r *storetest.Running, events int64) {
	t.Helper()
	if err := r.Ledger.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.Ledger.State().Size(); got != events+1 {
		t.Errorf("%d entries, want %d", got, events+1)
	}
	r.Check(b)
}

func TestReplicasOfOneDatabaseMakeOneLedger(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	var ledgers []*ledger.Ledger
	var running []*storetest.Running
	for range 3 {
		r := b.Start(t)
		running, ledgers = append(running, r), append(ledgers, r.Ledger)
	}
	record(t, ledgers, 24, 40).Wait()
	for _, r := range running {
		whole(t, b, r, 24*40)
	}
}

func TestAStoreThatLooksAndLocksWhileOthersAppendIsNoOlderCopy(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	store, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var looking sync.WaitGroup
	for range 3 {
		looking.Go(func() {
			for ctx.Err() == nil {
				if _, err := store.(ledger.Shared).Newest(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	looking.Go(func() {
		for ctx.Err() == nil && !t.Failed() {
			if _, err := store.Lock(t.Context(), math.MaxInt64); err != nil {
				t.Error(err)
			}
		}
	})
	record(t, []*ledger.Ledger{r.Ledger}, 2, 100).Wait()
	cancel()
	looking.Wait()
}

func TestAServerThatIsKilledAndComesBackLosesNothing(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	first, second := b.Start(t), b.Start(t)
	wg := record(t, []*ledger.Ledger{first.Ledger, second.Ledger}, 16, 60)
	for _, disturb := range []func(){
		func() { server.Kill(); server.Start() },
		func() { server.Stop(); server.Start() },
		func() { server.Freeze(); time.Sleep(200 * time.Millisecond); server.Thaw() },
		func() { server.Kill(); server.Start() },
	} {
		time.Sleep(100 * time.Millisecond)
		disturb()
	}
	wg.Wait()
	second.Stop()
	whole(t, b, first, 16*60)
}

func TestAnOlderCopyOfTheDatabaseIsRefused(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	r.AppendMany(0, 50)
	server.Stop()
	restore := server.Copy()
	server.Start()
	once(t, r.Ledger, storetest.Event(50))
	known := r.Ledger.State().Checkpoint
	server.Stop()
	restore()
	server.Start()
	if err := refused(t, r.Ledger); !errors.Is(err, ledger.ErrStopped) || !strings.Contains(err.Error(), "older copy") {
		t.Errorf("a server that goes on: %v", err)
	}
	dsn := server.DSN("test1", "app")
	_, err := postgres.Open(t.Context(), dsn, postgres.Options{Verifier: b.Verifier, Known: []*trail.Checkpoint{known}})
	if err == nil || !strings.Contains(err.Error(), "holds 51 entries, but there was a checkpoint of 52") {
		t.Errorf("a server that starts: %v", err)
	}
}

func TestADatabaseThatWasPromotedIsRefusedUntilItIsAccepted(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	r.AppendMany(0, 20)
	server.Promote()
	if err := refused(t, r.Ledger); !errors.Is(err, ledger.ErrStopped) || !strings.Contains(err.Error(), "promoted") {
		t.Fatalf("promoted: %v", err)
	}
	r.Stop()
	if err := postgres.Accept(t.Context(), server.DSN("test1", "postgres")); err != nil {
		t.Fatal(err)
	}
	r = b.Start(t)
	r.AppendMany(20, 20)
	r.Check(b)
}

func TestNobodyButASuperuserChangesWhatWasRecorded(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	r.AppendMany(0, 600)
	month := time.Now().UTC().Format("2006_01")
	for _, statement := range []string{
		"UPDATE audit_events SET severity = 'low'",
		"UPDATE audit_events_" + month + " SET entry = ''",
		"UPDATE audit_event_details SET erasable = ''",
		"UPDATE event_ids SET ledger_index = 0",
		"UPDATE ledger_head SET size = 0",
		"UPDATE ledger_hashes SET hash = hash",
		"DELETE FROM audit_events WHERE ledger_index = 5",
		"DELETE FROM audit_events_" + month,
		"DELETE FROM audit_event_details",
		"DELETE FROM event_ids",
		"DELETE FROM ledger_head",
		"DELETE FROM ledger_checkpoints",
		"INSERT INTO audit_events SELECT * FROM audit_events LIMIT 1",
		"INSERT INTO event_ids VALUES (gen_random_uuid(), 7)",
		"TRUNCATE audit_events",
		"TRUNCATE audit_events_" + month,
		"TRUNCATE audit_event_details, event_ids, ledger_head, ledger_hashes, ledger_checkpoints",
		"DROP TABLE audit_events",
		"DROP TABLE audit_events_" + month,
		"DROP SCHEMA graven CASCADE",
		"ALTER TABLE audit_events DETACH PARTITION audit_events_" + month,
		"ALTER TABLE audit_events DISABLE TRIGGER ALL",
		"DROP TRIGGER refuse ON audit_events",
		"SET session_replication_role = replica",
		"CREATE OR REPLACE FUNCTION graven.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"CREATE TABLE graven.other (a int)",
		"SET ROLE postgres",
		"SELECT graven.accept()",
	} {
		if out, err := server.TrySQL("app", "test1", "SET search_path = graven; "+statement); err == nil {
			t.Errorf("the application's role may %s: %s", statement, out)
		}
	}
	for _, statement := range []string{"UPDATE audit_events SET severity = 'low'", "DELETE FROM event_ids", "TRUNCATE audit_events", "TRUNCATE audit_events_" + month} {
		if out, err := server.TrySQL("postgres", "test1", "SET search_path = graven; "+statement); err == nil || !strings.Contains(out, "what was recorded cannot be changed") {
			t.Errorf("the owner without more ado may %s: %s", statement, out)
		}
	}
	r.Check(b)
}

func TestWhatASuperuserChangesIsNamed(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	r.AppendMany(0, 300)
	var numbered []*event.Event
	for n := range 10 {
		e := storetest.Event(300 + n)
		e.Source = event.Source{Name: "operator", Epoch: "e", Seq: int64(n + 1 + n/9)} // 1 to 9, and 11
		numbered = append(numbered, e)
	}
	r.Append(numbered...)
	r.AppendMany(310, 290)
	if err := r.Store.Derived(t.Context(), r.Size()); err != nil {
		t.Fatal(err)
	}
	r.Check(b)
	r.Stop()
	dsn := server.DSN("test1", "postgres")
	for _, tt := range []struct {
		name, change string
		kind         verify.Kind
		index        int64
	}{
		{"an entry", "UPDATE audit_events SET entry = overlay(entry PLACING 'x'::bytea FROM 20) WHERE ledger_index = 300", verify.Changed, 300},
		{"details", "UPDATE audit_event_details SET erasable = overlay(erasable PLACING 'x'::bytea FROM 20) WHERE ledger_index = 300", verify.DetailsMismatch, 300},
		{"a salt", "UPDATE audit_event_details SET salt = set_byte(salt, 2, get_byte(salt, 2) # 1) WHERE ledger_index = 300", verify.DetailsMismatch, 300},
		{"details that are gone", "DELETE FROM audit_event_details WHERE ledger_index = 300", verify.DetailsMismatch, 300},
		{"an entry that is gone", "DELETE FROM audit_events WHERE ledger_index = 300", verify.Missing, 300},
		{"the end", "DELETE FROM audit_events WHERE ledger_index >= 590", verify.CutTail, 590},
		{"a hash", "UPDATE audit_events SET event_hash = repeat('a', 64) WHERE ledger_index = 300", verify.Changed, 300},
		{"the hash before", "UPDATE audit_events SET previous_event_hash = repeat('a', 64) WHERE ledger_index = 300", verify.Changed, 300},
		{"a column", "UPDATE audit_events SET actor_id = 'somebody' WHERE ledger_index = 300", verify.IndexMismatch, 300},
		{"a time", "UPDATE audit_events SET event_nanos = 7 WHERE ledger_index = 300", verify.IndexMismatch, 300},
		{"a leaf", "UPDATE audit_events SET leaf_hash = sha256('x') WHERE ledger_index = 300", verify.TileMismatch, 300},
		{"an id", "UPDATE event_ids SET ledger_index = 7 WHERE ledger_index = 300", verify.IndexMismatch, 300},
		{"an id that is gone", "DELETE FROM event_ids WHERE ledger_index = 300", verify.IndexMismatch, 300},
		{"an id too many", "INSERT INTO event_ids VALUES (gen_random_uuid(), 300)", verify.IndexMismatch, -1},
		{"a subtree", "UPDATE ledger_hashes SET hash = sha256('x') WHERE n = 1", verify.TileMismatch, 256},
		{"a subtree that is gone", "DELETE FROM ledger_hashes WHERE n = 1", verify.TileMismatch, 256},
		{"the head's chain", "UPDATE ledger_head SET chain = repeat('a', 64)", verify.Changed, 600},
		{"the head's checkpoint", "UPDATE ledger_head SET checkpoint = (SELECT checkpoint FROM ledger_checkpoints ORDER BY size LIMIT 1)", verify.Changed, 1},
		{"a checkpoint", "UPDATE ledger_checkpoints SET checkpoint = 'x' WHERE size = 101", verify.BadSignature, 100},
		{"a checkpoint of another tree", "UPDATE ledger_checkpoints SET size = 102 WHERE size = 101", verify.Changed, 101},
		{"the head", "DELETE FROM ledger_head", verify.Missing, -1},
		{"the head's month", "UPDATE ledger_head SET month = month + interval '1 month'", verify.IndexMismatch, -1},
		{"where a month begins", "UPDATE ledger_months SET first_index = 1 WHERE first_index = 0", verify.IndexMismatch, 0},
		{"a month that no entry begins", "UPDATE ledger_months SET first_index = 300 WHERE month > (SELECT max(month) - interval '1 month' FROM ledger_months)", verify.IndexMismatch, 300},
		{"the month of an entry", `UPDATE audit_events SET recorded_month = recorded_month + interval '1 month' WHERE ledger_index = 300;
			UPDATE audit_event_details SET recorded_month = recorded_month + interval '1 month' WHERE ledger_index = 300`, verify.IndexMismatch, 300},
		{"a count", "UPDATE counts SET entries = 7", verify.IndexMismatch, 301},
		{"a count that is gone", "DELETE FROM counts", verify.IndexMismatch, 301},
		{"a count too many", "INSERT INTO counts (name, epoch, first_index, last_index, entries, numbers, runs, earlier) VALUES ('other', '', 5, 5, 1, 1, 1, 0)", verify.IndexMismatch, 5},
		{"a run", "UPDATE runs SET high = 12 WHERE high = 9", verify.IndexMismatch, -1},
		{"a run that is gone", "DELETE FROM runs WHERE low = 11", verify.IndexMismatch, 310},
		{"of how many entries sources are counted", "UPDATE counted SET size = 1000", verify.IndexMismatch, -1},
		{"what sources are counted", "DELETE FROM counted", verify.IndexMismatch, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			whole := server.SQL("test1", "SELECT count(*) FROM graven.audit_events")
			server.SQL("postgres", "DROP DATABASE IF EXISTS tampered")
			server.SQL("postgres", "CREATE DATABASE tampered TEMPLATE test1")
			server.SQL("tampered", "SET session_replication_role = replica; SET search_path = graven; "+tt.change)
			report, err := postgres.Verify(t.Context(), strings.Replace(dsn, "test1", "tampered", 1), verify.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if f.Kind == tt.kind && f.Index == tt.index {
					return
				}
			}
			t.Errorf("not found among %s entries: %s", whole, fmt.Sprint(report.Findings))
		})
	}
}
