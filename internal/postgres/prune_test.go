package postgres_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/trail"
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

// old returns a running ledger with n events of a month ago.
func old(t *testing.T, b *storetest.Bed, n int, change func(n int, e *event.Event)) *storetest.Running {
	t.Helper()
	now := time.Now().AddDate(0, 0, -30)
	b.Now = func() time.Time { return now }
	r := b.Start(t)
	for i := range n {
		e := storetest.Event(i)
		change(i, e)
		r.Append(e)
	}
	b.Now = nil
	now = time.Now()
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
