package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// A memory is a log in memory.
type memory [][]byte

// Scan implements [Log].
func (m memory) Scan(_ context.Context, size int64, fn func(*trail.Record) error) error {
	for i := range size {
		if err := fn(&trail.Record{Index: i, Entry: m[i]}); err != nil {
			return err
		}
	}
	return nil
}

// sourced makes an index of events, and the log that it is derived from.
func sourced(t *testing.T, sources []event.Source) (string, memory) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.db")
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	x.Resume(nil)
	rng := rand.New(rand.NewPCG(1, 2))
	var deriver Deriver
	var log memory
	var rows []Row
	for i, s := range sources {
		e := &event.Event{ID: event.DeriveID("sources", fmt.Sprint(i)), EventType: "IssueCreated", Timestamp: time.Unix(int64(i), 0).UTC(),
			Actor: event.Actor{Type: "user", Name: "u"}, Resource: event.Resource{Kind: "Issue"}, Source: s}
		e.Complete(e.Timestamp)
		e.Recorded = event.Recorded{At: e.Timestamp, Principal: "p", Via: "token", Attribution: event.AttributionAsserted}
		entry := e.AppendEntry(nil, e.Digests(event.Salt{}))
		if _, _, err := event.ParseEntry(entry); err != nil {
			t.Fatal(err)
		}
		log = append(log, entry)
		rows = append(rows, deriver.Row(int64(i), e))
		if rng.IntN(20) == 0 || i == len(sources)-1 {
			if err := x.Commit(t.Context(), rows, int64(i+1), trail.Hash{}); err != nil {
				t.Fatal(err)
			}
			rows = nil
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return path, log
}

// findings runs a check and returns what it found.
func findings(t *testing.T, path string, log Log, partRows uint64) string {
	t.Helper()
	var found strings.Builder
	c := Check{Path: path, Log: log, Resting: true, PartRows: partRows,
		Found:    func(index int64, message string) { fmt.Fprintf(&found, "%d: %s\n", index, message) },
		Unproven: func(message string) { fmt.Fprintf(&found, "unproven: %s\n", message) }}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return found.String()
}

func TestTheCountsOfSourcesAreCheckedInParts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var sources []event.Source
	for range 600 {
		sources = append(sources, event.Source{Name: fmt.Sprint("s-", rng.IntN(15)), Epoch: []string{"", "a", "b"}[rng.IntN(3)], Seq: 1 + rng.Int64N(60)})
	}
	path, log := sourced(t, sources)
	for _, rows := range []uint64{1 << 20, 100, 60} {
		if found := findings(t, path, log, rows); found != "" {
			t.Errorf("in parts of %d rows: %s", rows, found)
		}
	}
	for _, tt := range []struct{ name, sql, says string }{
		{"a source is gone", "DELETE FROM source WHERE first = 5", "5: the index does not know the source"},
		{"a source is made up", "INSERT INTO source VALUES (zeroblob(16), zeroblob(16), 9, 9, 1, 1, 1, -1, 0)", "-1: the index has a source, of entry 9, that no entry names"},
		{"a source's id is no id", "UPDATE source SET id = x'00' WHERE first = 0", "0: the index does not know the source"},
		{"a gap is hidden from the list", "UPDATE source SET runs = 1 WHERE first = 0", "0: the index is wrong about the source"},
		{"a gap is filled", "UPDATE run SET high = high + 1 WHERE source = (SELECT id FROM source WHERE first = 0) AND low = (SELECT max(low) FROM run WHERE source = (SELECT id FROM source WHERE first = 0))", "0: the index is wrong about which numbers"},
		{"a run is gone", "DELETE FROM run WHERE low = 0 AND source = (SELECT id FROM source WHERE first = (SELECT min(first) FROM source JOIN run ON run.source = source.id WHERE low = 0))", "wrong about which numbers"},
		{"a run names another entry", "UPDATE run SET low_idx = low_idx + 1 WHERE source = (SELECT id FROM source WHERE first = 0)", "0: the index is wrong about which numbers"},
		{"a run is of nobody", "INSERT INTO run VALUES (x'77', 1, 2, 3, 4)", "1 runs of numbers of no source"},
		{"a repetition is hidden", "UPDATE source SET entries = numbers WHERE first = 0", "0: the index is wrong about the source"},
		{"a heartbeat is made up", "UPDATE source SET sign = 1 WHERE first = 0", "0: the index is wrong about the source"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, log := sourced(t, sources)
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(tt.sql); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			for _, rows := range []uint64{1 << 20, 50} {
				if found := findings(t, path, log, rows); !strings.Contains(found, tt.says) {
					t.Errorf("in parts of %d rows: %q", rows, found)
				}
			}
		})
	}
	t.Run("an index that knows no source is not believed, whatever memory it would take to tell each", func(t *testing.T) {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("DELETE FROM source; DELETE FROM run"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if found := findings(t, path, log, 2); !strings.Contains(found, "unproven: what the index says of the sources") {
			t.Error(found)
		}
		if found := findings(t, path, log, 1<<20); strings.Count(found, "does not know the source") != 45 {
			t.Error(found)
		}
	})
}

func TestSourcesWithoutAGapAreNotLookedThrough(t *testing.T) {
	path, _ := sourced(t, []event.Source{{Name: "a", Seq: 1}})
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for which, index := range map[string]string{"s.sign >= 0": "source_signed", "(s.earlier > 0 OR s.entries > s.numbers)": "source_odd"} {
		var a, b, c int
		var plan string
		if err := db.QueryRow("EXPLAIN QUERY PLAN SELECT s.first FROM source s WHERE "+which+" ORDER BY s.id").Scan(&a, &b, &c, &plan); err != nil || !strings.Contains(plan, index) {
			t.Errorf("%s: %s, %v", which, plan, err)
		}
	}
	var a, b, c int
	var plan string // its first step
	if err := db.QueryRow("EXPLAIN QUERY PLAN "+holes+" ORDER BY s.id, r.low").Scan(&a, &b, &c, &plan); err != nil || !strings.Contains(plan, "source_gapped") {
		t.Errorf("holes: %s, %v", plan, err)
	}
}

// A gone is a log of which only the hashes of entries are left.
type gone struct{ memory }

func (g gone) Scan(ctx context.Context, size int64, fn func(*trail.Record) error) error {
	return g.memory.Scan(ctx, size, func(r *trail.Record) error {
		left, err := r.Prune()
		if err != nil {
			return err
		}
		return fn(&left)
	})
}

func TestWhatAnIndexForgotThoughNoTombstoneSaysSoIsFoundOnce(t *testing.T) {
	path, log := sourced(t, []event.Source{{Name: "a", Seq: 1}, {Name: "a", Seq: 2}, {Name: "a", Seq: 3}})
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE meta SET value = 2 WHERE name = 'pruned'"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, log := range map[string]Log{"the log has them": log, "entries are gone from the log": gone{log}} { // which is looked at again then
		if found := findings(t, path, log, 0); strings.Count(found, "has forgotten what the entries below 2 say") != 1 {
			t.Errorf("%s: %s", name, found)
		}
	}
}
