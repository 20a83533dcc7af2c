package postgres_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

func TestTheDatabaseLeavesOfAnEntryWhatRecordPruneDoes(t *testing.T) {
	server := testenv.StartPostgres(t)
	name := ledgerIn(t, server)
	var every strings.Builder // all characters that are escaped, and some that might be
	for c := range rune(0x100) {
		if c > 0 {
			every.WriteRune(c)
		}
	}
	every.WriteString("\u2028\u2029\ufeff\ufffd\U0001f600ß语 \\u0041 \\\"ledger\\\":{ ,\"ledger\":{ }")
	base := func() *event.Event {
		e := storetest.Event(1)
		e.Recorded = event.Recorded{At: time.Date(2026, 10, 1, 0, 0, 0, 1000, time.UTC), Principal: every.String(), Via: "token", Attribution: event.AttributionAsserted}
		e.DurationMs, e.RetentionDays, e.Sensitive, e.Cluster, e.Error.Code = 5, 30, true, every.String(), every.String()
		return e
	}
	events := map[string]*event.Event{}
	for what, source := range map[string]event.Source{
		"no source": {}, "a name": {Name: "operator-0"}, "a number": {Name: "n", Seq: 1}, "the greatest number": {Name: "n", Epoch: "e", Seq: 1<<53 - 1},
		"a name of all characters": {Name: every.String(), Epoch: every.String(), Seq: 1 << 40},
	} {
		events[what] = base()
		events[what].Source = source
	}
	for what, eventType := range map[string]string{"a heartbeat": event.TypeHeartbeat, "a farewell": event.TypeStopped, "a type of all characters": every.String()} {
		events[what] = base()
		events[what].EventType = eventType
	}
	events["nanoseconds"] = base()
	events["nanoseconds"].Timestamp = time.Date(2026, 3, 19, 14, 30, 0, 123456789, time.UTC)
	events["an error's message and original words"] = base()
	events["an error's message and original words"].Error.Message = "m"
	events["an error's message and original words"].Original = map[string]string{"severity": "warning"}
	events["a fact of the ledger"] = base()
	events["a fact of the ledger"].Ledger = []byte(`{"a":1}`)
	for what, e := range events {
		r := trail.Record{Entry: e.AppendEntry(nil, e.Digests(event.Salt{1}))}
		left, err := r.Prune()
		if err != nil {
			t.Fatal(what, err)
		}
		want := ""
		if left.Leaf != nil {
			want = string(left.Entry)
		}
		leaf := r.LeafHash()
		remains := func(leaf trail.Hash) string {
			text := strings.TrimSpace(server.SQL(name, fmt.Sprintf(`SELECT coalesce(encode(graven.remains('\x%x', '\x%x'), 'hex'), '')`, r.Entry, leaf[:])))
			got, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(what, err)
			}
			return string(got)
		}
		if got := remains(leaf); got != want {
			t.Errorf("%s: of %s\nthere remains %s\nand not       %s", what, r.Entry, got, want)
		}
		leaf[0] ^= 1
		if got := remains(leaf); got != "" {
			t.Errorf("%s: of one that is not what was sealed there remains %s", what, got)
		}
	}
}

// twentyDays keeps entries for twenty days, and those of [old] are thirty days old.
var twentyDays = []retention.Policy{{Name: "all", DetailsDays: 10, EntryDays: 20}}

// old returns a running ledger with n events of a month ago, by the ten.
func old(t *testing.T, b *storetest.Bed, n int, change func(n int, e *event.Event)) *storetest.Running {
	t.Helper()
	b.Set(time.Now().AddDate(0, 0, -30))
	r := b.Start(t)
	for i := 0; i < n; i += 10 {
		var events []*event.Event
		for k := i; k < i+10; k++ {
			e := storetest.Event(k)
			change(k, e)
			events = append(events, e)
		}
		r.Append(events...)
	}
	b.Set(time.Time{})
	return r
}

// TestNothingIsLeftInTheDatabaseOfEntriesThatWereErased looks through all files of
// the server, as [TestNothingIsLeftInTheDatabaseOfWhatWasErased] does.
func TestNothingIsLeftInTheDatabaseOfEntriesThatWereErased(t *testing.T) {
	server := testenv.StartPostgres(t, "wal_recycle=off", "wal_keep_size=0", "min_wal_size=32MB", "autovacuum=off")
	name := ledgerIn(t, server)
	b := bedIn(t, server, name)
	r := old(t, b, 300, func(n int, e *event.Event) {
		canary := fmt.Sprintf("canary-%d", n)
		if n >= 255 { // they stay
			canary = fmt.Sprintf("other-%d", n)
		}
		e.Actor.Name, e.CorrelationID, e.Cluster, e.DurationMs = canary, canary, canary, int64(n)
		e.Resource = event.Resource{Kind: canary, Namespace: canary, Name: canary}
		e.Error = event.Failure{Code: canary, Message: canary + strings.Repeat("y", 50*n)}
		e.Source = event.Source{Name: "operator", Epoch: "e", Seq: int64(n + 1)}
	})
	server.SQL(name, "ANALYZE; CHECKPOINT")
	if left := server.Holds([]byte("canary-")); len(left) < 3 {
		t.Fatalf("the server's files do not hold what was recorded: %q", left)
	}
	if in := server.SQL(name, "SELECT DISTINCT attname FROM pg_stats WHERE schemaname = 'graven' AND attname IN ('entry', 'erasable', 'salt')"); in != "" {
		t.Errorf("the server keeps statistics of %s", in)
	}
	x := r.Erasing(0, 1, twentyDays...)
	defer x.Journal.Close()
	result, err := x.Eraser.Run(t.Context(), storetest.By, false)
	if err != nil || result.Entries != 256 || len(x.Failed) > 0 {
		t.Fatalf("%+v, %v, %v", result, err, x.Failed)
	}
	r.Append(storetest.Event(400))
	server.SQL(name, "VACUUM FULL pg_catalog.pg_statistic")
	server.SQL(name, "CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT")
	if left := server.Holds([]byte("canary-")); len(left) > 0 {
		t.Errorf("something is left in %q", left)
	}
	if rest := strings.TrimSpace(server.SQL(name, `SELECT count(*) FROM graven.audit_events e WHERE ledger_index BETWEEN 1 AND 255 AND (NOT pruned OR e::text LIKE '%canary%')`)); rest != "0" {
		t.Errorf("%s rows say what they said", rest)
	}
	if report := r.Check(b); report.Pruned != 256 {
		t.Errorf("%+v", report)
	}
}

func TestOnlyAPurgerErasesEntriesAndOnlyThoseThatATombstoneNames(t *testing.T) {
	server := testenv.StartPostgres(t)
	name := ledgerIn(t, server)
	b := bedIn(t, server, name)
	r := old(t, b, 600, func(int, *event.Event) {})
	x := r.Erasing(0, 1, twentyDays...)
	defer x.Journal.Close()
	who, month := custody.Caller{By: storetest.By}, time.Now().UTC().Format("2006_01")
	refused := func(role, statement, want string) {
		t.Helper()
		if out, err := server.TrySQL(role, name, "SET search_path = graven; "+statement); err == nil || !strings.Contains(out+err.Error(), want) {
			t.Errorf("%s: %s: %v, %s", role, statement, err, out)
		}
	}
	pruned := func(want int) {
		t.Helper()
		if got := strings.TrimSpace(server.SQL(name, "SELECT count(*) FROM graven.audit_events WHERE pruned")); got != fmt.Sprint(want) {
			t.Errorf("%s entries are erased, and not %d", got, want)
		}
	}
	const erase = "SELECT erase(100000, '{}', '{}', %d)"
	refused("app", fmt.Sprintf(erase, 256), "no tombstone in the ledger says that the entries below 256 were erased")
	server.SQL(name, "REVOKE graven_purger FROM app")
	held, err := x.Keeper.Place(t.Context(), who, &custody.Order{Reason: "r", Scope: retention.Scope{Event: storetest.Event(300).ID.String()}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := x.Eraser.Run(t.Context(), storetest.By, false)
	if err != nil || result.Entries != 256 || result.Left == "" || len(x.Failed) != 1 || !strings.Contains(x.Failed[0].Error(), "graven_purger") {
		t.Fatalf("without the right to: %+v, %v, %v", result, err, x.Failed)
	}
	refused("app", fmt.Sprintf(erase, 256), "permission denied")
	refused("app", "SELECT remains('', '')", "permission denied")
	pruned(0)
	if report := r.Check(b); report.Pruned != 256 || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "still here") }) {
		t.Errorf("what is told to be erased, and is there: %+v", report)
	}
	if rec, err := x.Present().Record(t.Context(), 100); err != nil || rec.Leaf == nil {
		t.Errorf("what is told to be erased is seen: %s, %v", rec.Entry, err)
	}
	server.SQL(name, "GRANT graven_purger TO app")
	refused("app", fmt.Sprintf(erase, 512), "no tombstone")
	refused("app", "SELECT erase(100000, '{256}', '{600}', 256)", "no tombstone")
	for _, statement := range []string{"TRUNCATE audit_events_" + month, "TRUNCATE audit_events", "DELETE FROM audit_events", "UPDATE audit_events SET pruned = true", "UPDATE erased SET pruned = 512"} {
		refused("app", "SET graven.erasing = 'on'; "+statement, "permission denied")
	}
	for _, statement := range []string{"TRUNCATE audit_events", "DELETE FROM audit_events", "UPDATE audit_events SET pruned = true"} {
		refused("postgres", "SET graven.erasing = 'on'; "+statement, "what was recorded cannot be changed")
	}
	t.Run("all of it is done, or nothing", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), server.DSN(name, "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		// The entries are rewritten, and then it waits in vain for the details.
		if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE graven.audit_event_details_"+month+" IN ACCESS SHARE MODE"); err != nil {
			t.Fatal(err)
		}
		if err := x.Eraser.Resume(t.Context()); !errors.Is(err, ledger.ErrBusy) {
			t.Errorf("while somebody reads: %v", err)
		}
		pruned(0)
	})
	if err := x.Eraser.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	pruned(255) // and not the first, which says who signs
	if rest := strings.TrimSpace(server.SQL(name, "SELECT count(*) FROM graven.audit_event_details WHERE ledger_index < 256")); rest != "0" {
		t.Errorf("the content of %s entries is left", rest)
	}
	if report := r.Check(b); report.Pruned != 256 {
		t.Errorf("%+v", report)
	}
	t.Run("a hold voids a tombstone that did not know of it", func(t *testing.T) {
		if _, err := x.Keeper.Release(t.Context(), who, held.ID, &custody.Order{Reason: "settled"}); err != nil {
			t.Fatal(err)
		}
		asOf := r.Size()
		if _, err := x.Keeper.Place(t.Context(), who, &custody.Order{Reason: "r", Scope: retention.Scope{Event: storetest.Event(300).ID.String()}}); err != nil {
			t.Fatal(err)
		}
		tomb := tombstone.Tombstone{AsOf: asOf, Entries: 512}
		if err := x.Journal.Once(t.Context(), ledger.Act{ID: event.NewID(time.Now()), Type: tombstone.TypeRetentionRun, By: storetest.By,
			Details: map[string]any{"policy": "all", "detailsErased": 0, "entriesErased": 256}, Facts: tomb.Member()}); err != nil {
			t.Fatal(err)
		}
		r.Size()
		refused("app", fmt.Sprintf(erase, 512), "no tombstone")
		pruned(255)
	})
	t.Run("what is done is not done again", func(t *testing.T) {
		file := func() string {
			return server.SQL(name, "SELECT pg_relation_filepath('graven.audit_events_"+month+"')")
		}
		before := file()
		server.SQL(name, "UPDATE graven.erased SET upto = -1, pruned = 0")
		if out, err := server.TrySQL("app", name, "SET search_path = graven; "+fmt.Sprintf(erase, 256)); err != nil || file() != before {
			t.Errorf("%s, %v", out, err)
		}
	})
	r.Check(b)
}

func TestWhatASuperuserChangesOfErasedEntriesIsNamed(t *testing.T) {
	server := testenv.StartPostgres(t)
	name := ledgerIn(t, server)
	b := bedIn(t, server, name)
	r := old(t, b, 300, func(n int, e *event.Event) {
		e.Source = event.Source{Name: "operator", Epoch: "e", Seq: int64(n + 1)}
		if n == 150 {
			e.EventType = event.TypeHeartbeat
		}
	})
	x := r.Erasing(0, 1, twentyDays...)
	if result, err := x.Eraser.Run(t.Context(), storetest.By, false); err != nil || result.Entries != 256 {
		t.Fatal(result, err)
	}
	if err := errors.Join(x.Journal.Close(), r.Store.Derived(t.Context(), r.Size())); err != nil {
		t.Fatal(err)
	}
	r.Check(b)
	r.Stop()
	dsn := server.DSN(name, "postgres")
	at := func(index int, set string) string {
		return fmt.Sprintf("UPDATE audit_events SET %s WHERE ledger_index = %d", set, index)
	}
	entry := func(old, new string) string {
		return at(100, fmt.Sprintf("entry = convert_to(replace(convert_from(entry, 'UTF8'), '%s', '%s'), 'UTF8')", old, new))
	}
	for _, tt := range []struct {
		name, change string
		kind         verify.Kind
		index        int64
	}{
		{"a leaf, as far as a checkpoint tells", at(100, "leaf_hash = sha256('x')"), verify.Changed, 91},
		{"a leaf that is none", at(100, "leaf_hash = 'x'"), verify.Changed, 91},
		{"a hash", at(100, "event_hash = repeat('a', 64)"), verify.Changed, 100},
		{"the hash before", at(100, "previous_event_hash = repeat('a', 64)"), verify.Changed, 99},
		{"where the chain goes on", at(255, "event_hash = repeat('a', 64)") + "; " + at(256, "previous_event_hash = repeat('a', 64)"), verify.Changed, 256},
		{"a column that says nothing more", at(100, "actor_id = 'somebody'"), verify.IndexMismatch, 100},
		{"a type", at(100, "event_type = 'RemediationExecuted'"), verify.IndexMismatch, 100},
		{"a heartbeat's type", at(151, "event_type = ''"), verify.IndexMismatch, 151},
		{"a time", at(100, "event_timestamp = now()"), verify.IndexMismatch, 100},
		{"a number", at(100, "source_seq = 7"), verify.IndexMismatch, 100},
		{"an id", at(100, "event_id = gen_random_uuid()"), verify.IndexMismatch, 100},
		{"the time in what remains", entry("2026-", "2025-"), verify.IndexMismatch, 100},
		{"an actor in what remains", entry(`"actor":{}`, `"actor":{"name":"x"}`), verify.DetailsMismatch, 100},
		{"more than remains", entry(`"id":`, `"durationMs":5,"id":`), verify.DetailsMismatch, 100},
		{"what remains is no entry", at(100, "entry = 'x'"), verify.DetailsMismatch, 100},
		{"the mark is gone", at(100, "pruned = false"), verify.Changed, 100},
		{"an entry that is gone", "DELETE FROM audit_events WHERE ledger_index = 100", verify.Missing, 100},
		{"an entry that no tombstone names", at(280, `pruned = true, entry = remains(entry, leaf_hash), event_type = '', event_category = '', event_action = '', event_outcome = '',
			actor_type = '', actor_id = '', resource_type = '', resource_id = '', namespace = '', cluster_id = '', correlation_id = '', severity = '', retention_days = 0`) +
			"; DELETE FROM audit_event_details WHERE ledger_index = 280", verify.Missing, 280},
		{"details", "INSERT INTO audit_event_details SELECT ledger_index, recorded_month, decode(repeat('00', 16), 'hex'), '{}' FROM audit_events WHERE ledger_index = 100", verify.DetailsMismatch, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server.SQL("postgres", "DROP DATABASE IF EXISTS tampered")
			server.SQL("postgres", "CREATE DATABASE tampered TEMPLATE "+name)
			server.SQL("tampered", "SET session_replication_role = replica; SET search_path = graven; "+tt.change)
			report, err := postgres.Verify(t.Context(), strings.Replace(dsn, name, "tampered", 1), verify.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if f.Kind == tt.kind && f.Index == tt.index {
					return
				}
			}
			t.Errorf("not found: %s", fmt.Sprint(report.Findings))
		})
	}
}

func TestOthersAppendReadAndVerifyWhileEntriesAreErased(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := old(t, b, 600, func(int, *event.Event) {})
	other, reading := b.Start(t), b.Start(t)
	x := r.Erasing(0, 1, twentyDays...)
	defer x.Journal.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	began := make(chan struct{}, 3)
	again := func(do func() error) {
		wg.Go(func() {
			for first := true; first || ctx.Err() == nil; first = false {
				if err := do(); err != nil && !errors.Is(err, ledger.ErrBusy) {
					t.Error(err)
				}
				if first {
					began <- struct{}{}
				}
			}
		})
	}
	next := 600
	again(func() error {
		next++
		_, _, err := other.Ledger.Append(t.Context(), storetest.By, []*event.Event{storetest.Event(next)})
		return err
	})
	again(func() error {
		next := int64(0)
		return reading.Store.Records(t.Context(), search.Range{End: 601}, func(rec *trail.Record) error {
			if rec.Index != next {
				return fmt.Errorf("entry %d in the place of entry %d", rec.Index, next)
			}
			next++
			_, err := rec.Event()
			return err
		})
	})
	again(func() error {
		report, err := reading.Store.Verify(t.Context(), verify.Options{Keys: []note.Verifier{b.Verifier}})
		if err == nil && !report.OK() {
			err = fmt.Errorf("%+v", report.Findings)
		}
		return err
	})
	for range 3 {
		<-began
	}
	result, err := x.Eraser.Run(t.Context(), storetest.By, false)
	for err == nil && r.Store.ErasedTo(t.Context()) < 0 { // it waits for those who read, and not for ever
		if err = x.Eraser.Resume(t.Context()); errors.Is(err, ledger.ErrBusy) {
			err = nil
		}
	}
	cancel()
	wg.Wait()
	if err != nil || result.Entries != 512 {
		t.Fatal(result, err)
	}
	if err := r.Ledger.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report := r.Check(b); report.Pruned != 512 {
		t.Errorf("%+v", report)
	}
}
