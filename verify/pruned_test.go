package verify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// stone returns a tombstone of the entries below 256, decided when there were
// 600.
func (l *ledger) stone(t testing.TB, change func(*tombstone.Tombstone)) *event.Event {
	t.Helper()
	s := &tombstone.Tombstone{AsOf: 600, Entries: 256, Chain: l.records[255].Chain}
	if change != nil {
		change(s)
	}
	member, err := json.Marshal(s.Member())
	if err != nil {
		t.Fatal(err)
	}
	return l.own(t, tombstone.TypeRetentionRun, string(member))
}

// prune erases the entries below 256, as a server does.
func (l *ledger) prune(t testing.TB) {
	t.Helper()
	for i := range l.records[:256] {
		left, err := l.records[i].Prune()
		if err != nil {
			t.Fatal(err)
		}
		l.records[i] = left
	}
}

// A rows is a ledger in a table.
type rows struct{ *ledger }

func (x rows) Rows(_ context.Context, fn func(trail.Record, trail.Hash) error) error {
	var previous trail.Hash
	for _, r := range x.records {
		if err := fn(r, previous); err != nil {
			return err
		}
		previous = r.Chain
	}
	return nil
}

func (rows) Where(index int64) string { return fmt.Sprint("row ", index) }

// forge makes a record one of which only the hash is left, beside an entry that
// nobody recorded.
func forge(r *trail.Record, e *event.Event) {
	leaf := r.LeafHash()
	*r = trail.Record{Index: r.Index, Chain: r.Chain, Leaf: &leaf, Entry: e.AppendEntry(nil, e.Digests(event.Salt{}))}
}

func TestOnlyASealedTombstoneExcusesEntriesThatAreGone(t *testing.T) {
	t.Parallel()
	const good, bad = "", "*"
	unnamed := tombstone.ErrPruned.Error()
	stone := func(l *ledger) { l.append(t, l.stone(t, nil)); l.seal(t) }
	for _, tt := range []struct {
		name string
		make func(l *ledger)
		harm func(l *ledger)
		// What is found in a directory, in an export or table, and in a log,
		// which has neither the chain nor what is left of entries.
		dir, export, log string
	}{
		{"one that names them", stone, nil, good, good, good},
		{"none", func(l *ledger) { l.seal(t) }, nil, unnamed, unnamed, "no tombstone"},
		{"one of another type", func(l *ledger) {
			e := l.stone(t, nil)
			e.EventType = "LedgerStarted"
			l.append(t, e)
			l.seal(t)
		}, nil, unnamed, unnamed, "no tombstone"},
		{"one that a hold has overtaken", func(l *ledger) {
			l.append(t, l.own(t, tombstone.TypeHoldPlaced, `{"hold":{"id":"x"}}`))
			stone(l)
		}, nil, unnamed, unnamed, "no tombstone"},
		{"one with another value of the chain", func(l *ledger) {
			l.append(t, l.stone(t, func(s *tombstone.Tombstone) { s.Chain[3] ^= 1 }))
			l.seal(t)
		}, nil, "the tombstone says", "the tombstone says", good},
		{"one, and another entry is gone", stone, func(l *ledger) {
			left, err := l.records[300].Prune()
			if err != nil {
				t.Fatal(err)
			}
			l.records[300] = left
		}, unnamed, unnamed, good},
		{"one, and a bit of a leaf is flipped", stone, func(l *ledger) { l.records[77].Leaf[9] ^= 1 }, "the hash that was sealed for entry 77", "the checkpoint of 601 entries", good},
		{"one, and a bit of the chain's last value is flipped", stone, func(l *ledger) { l.records[255].Chain[0] ^= 1 }, "the tombstone says", "the tombstone says", good},
		{"one, and a bit of an index is flipped", stone, func(l *ledger) { l.records[64].Index ^= 1 }, bad, bad, good},
		{"one, and two have changed their places", stone, func(l *ledger) { l.records[64], l.records[65] = l.records[65], l.records[64] }, bad, bad, good},
		{"one, and the entry with the key is gone", stone, func(l *ledger) { forge(&l.records[0], l.event(t).Remains()) }, "the first entry names no key", "the first entry names no key", good},
		{"what is left of an entry says that it is one", func(l *ledger) { l.append(t, l.event(t)); l.seal(t) }, func(l *ledger) {
			forge(&l.records[600], l.stone(t, nil))
		}, unnamed, unnamed, "no tombstone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t, 1, 10, 0, 590)
			tt.make(l)
			files := l.files()
			delete(files, "tile/entries/000")
			l.prune(t)
			if tt.harm != nil {
				tt.harm(l)
			}
			o := verify.Options{Keys: []note.Verifier{l.key.verifier}}
			table, err := verify.Rows(t.Context(), "table", rows{l}, l.newest().Note, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range []struct {
				what, want string
				report     *verify.Report
			}{
				{"a directory", tt.dir, checkDir(t, l.image(t).write(t), o)},
				{"an export", tt.export, checkExport(t, l.export(t), o)},
				{"a table", tt.export, table},
				{"a log", tt.log, checkLog(t, files, o)},
			} {
				r := x.report
				switch said := slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return strings.Contains(f.Message, x.want) }); {
				case x.want == good:
					noted := slices.ContainsFunc(r.Notes, func(n string) bool {
						return strings.Contains(n, "of the entries below 256 ") && strings.Contains(n, "their hashes are left")
					})
					if !r.OK() || !noted || r.Pruned != 256 || r.Entries != l.tree.Size() {
						t.Errorf("%s: %d entries, below %d, notes %q\n%s", x.what, r.Entries, r.Pruned, r.Notes, describe(r))
					}
				case r.OK(), x.want != bad && !said:
					t.Errorf("%s: want %q, found\n%.2000s", x.what, x.want, describe(r))
				}
			}
		})
	}
}

func TestAnExportByAFilterHasNoEntriesThatAreGone(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 600)
	l.append(t, l.stone(t, nil))
	l.seal(t)
	l.prune(t)
	o := verify.Options{Keys: []note.Verifier{l.key.verifier}}
	if r := checkExport(t, l.filtered(t, 0, 256, 300, 600), o); !r.OK() {
		t.Error(describe(r))
	}
	if r := checkExport(t, l.filtered(t, 255, 300, 600), o); !slices.Equal(findings(r), []found{{verify.Changed, 255}}) {
		t.Error(describe(r))
	}
}

func TestALogWithoutItsFirstEntriesDoesNotNameItsKey(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 600)
	l.append(t, l.stone(t, nil))
	l.seal(t)
	files := l.files()
	delete(files, "tile/entries/000")
	r := checkLog(t, files, verify.Options{})
	if !r.OK() || r.Authenticated || !slices.ContainsFunc(r.Unproven, func(s string) bool {
		return strings.Contains(s, "entry 0, which names the ledger's key, is not served")
	}) {
		t.Errorf("%q\n%s", r.Unproven, describe(r))
	}
	for _, name := range []string{"tile/0/000", "tile/entries/001"} {
		broken := cloneFiles(files)
		delete(broken, name)
		if r := checkLog(t, broken, verify.Options{Keys: []note.Verifier{l.key.verifier}}); r.OK() {
			t.Errorf("%s is missing, too, and the log is good", name)
		}
	}
}
