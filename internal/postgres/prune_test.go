package postgres_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
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
