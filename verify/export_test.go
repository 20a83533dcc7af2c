package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// line returns the export line of an entry, with a proof if asked for.
func (l *ledger) line(t testing.TB, i int, prove bool) string {
	t.Helper()
	e, err := l.records[i].Event()
	if err != nil {
		t.Fatal(err)
	}
	line := trail.Line{Event: e, Record: l.records[i]}
	if i > 0 {
		line.Previous = l.records[i-1].Chain
	}
	if prove {
		line.Proof, err = tlog.ProveRecord(l.tree.Size(), int64(i), tlog.HashReaderFunc(l.readHashes))
		if err != nil {
			t.Fatal(err)
		}
	}
	return string(line.Append(nil))
}

// readHashes serves the tree's hashes.
func (l *ledger) readHashes(indexes []int64) ([]trail.Hash, error) {
	var out []trail.Hash
	for _, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		var sub trail.Tree
		for _, leaf := range l.leaves[n<<level : (n+1)<<level] {
			sub.Append(leaf, nil)
		}
		out = append(out, sub.Root())
	}
	return out, nil
}

func trailer(t testing.TB, c *trail.Checkpoint, count int, filter map[string]string) string {
	t.Helper()
	if filter == nil {
		filter = map[string]string{}
	}
	data, err := json.Marshal(trail.Trailer{Checkpoint: string(c.Note), Filter: filter, Count: int64(count)})
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + "\n"
}

// export returns the lines of a whole export; the last is the checkpoint's.
func (l *ledger) export(t testing.TB) []string {
	t.Helper()
	var lines []string
	for i := range l.records {
		lines = append(lines, l.line(t, i, false))
	}
	return append(lines, trailer(t, l.newest(), len(lines), nil))
}

// filtered returns the lines of an export of some entries, with proofs.
func (l *ledger) filtered(t testing.TB, indexes ...int) []string {
	t.Helper()
	var lines []string
	for _, i := range indexes {
		lines = append(lines, l.line(t, i, true))
	}
	return append(lines, trailer(t, l.newest(), len(lines), map[string]string{"type": "x"}))
}

func checkExport(t testing.TB, lines []string, o verify.Options) *verify.Report {
	t.Helper()
	r, err := verify.Export(context.Background(), strings.NewReader(strings.Join(lines, "")), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnUntouchedExportIsGood(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 3, 1, 20, 300, 40)
	keys := verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{l.pools[1].Note, l.pools[2].Note, l.newest().Note}}
	whole := l.export(t)
	tests := []struct {
		name     string
		lines    []string
		o        verify.Options
		entries  int64
		unproven string
	}{
		{"a whole one", whole, keys, 361, ""},
		{"a whole one without a key", whole, verify.Options{}, 361, "the key was not authenticated"},
		{"a whole one without a checkpoint", whole[:361], verify.Options{}, 361, "the export has no checkpoint"},
		{"a part without a checkpoint", whole[10:40], verify.Options{}, 30, "the export has no checkpoint"},
		{"scattered lines without a checkpoint", append(slices.Clone(whole[10:40]), whole[50]), verify.Options{}, 31, "20 entries before its last are not in it; whether a filter or someone else left them out cannot be told"},
		{"a filtered one", l.filtered(t, 0, 5, 11, 12, 360), keys, 5, "the export is filtered"},
		{"a filtered one of nothing", l.filtered(t), keys, 0, "the export is filtered"},
		{"a filtered one without a key", l.filtered(t, 5, 7), verify.Options{}, 2, "no key is known"},
		{"one without its last newline", append(slices.Clone(whole[:361]), strings.TrimSuffix(whole[361], "\n")), keys, 361, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := checkExport(t, tt.lines, tt.o)
			if !r.OK() || r.Entries != tt.entries || !strings.Contains(strings.Join(r.Unproven, "\n"), tt.unproven) {
				t.Errorf("%d entries, unproven %q, found\n%s", r.Entries, r.Unproven, describe(r))
			}
		})
	}
}

func TestEveryTamperingWithAnExportIsNamed(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 3, 1, 20, 300, 40)
	other := newLedger(t, 3, 1, 20, 300, 40)
	other.key = newKey(t, origin, 2)
	other.resign(t)
	forged := newLedger(t, 3, 1, 20, 300, 40)
	forged.records[100] = l.records[100]
	forged.records[100].Entry = bytes.Replace(l.records[100].Entry, []byte(`"controller"`), []byte(`"system"`), 1)
	forged.resign(t)
	whole, some := l.export(t), l.filtered(t, 0, 5, 11, 12, 360)
	replace := func(i int, old, with string) func([]string) []string {
		return func(lines []string) []string {
			if !strings.Contains(lines[i], old) {
				t.Fatalf("no %s in %s", old, lines[i])
			}
			lines[i] = strings.Replace(lines[i], old, with, 1)
			return lines
		}
	}
	swap := func(i, j int) func([]string) []string {
		return func(lines []string) []string { lines[i], lines[j] = lines[j], lines[i]; return lines }
	}
	asItIs := func(lines []string) []string { return lines }
	stripped := newLedger(t, 3, 1, 20, 300, 40)
	stripped.erase(11)
	chain := func(i int) string { return trail.Hex(l.records[i].Chain) }
	tests := []struct {
		name   string
		of     []string
		tamper func([]string) []string
		want   []found
		says   string
	}{
		{"an entry is changed", whole, replace(50, `\"controller\"`, `\"system\"`), []found{{verify.Changed, 50}}, "hash"},
		{"a member is changed", whole, replace(50, `"controller"`, `"system"`), []found{{verify.Changed, 50}}, `"actor.type"`},
		{"a member is added", whole, replace(50, `"severity"`, `"cluster":"c","severity"`), []found{{verify.Changed, 50}}, `"cluster"`},
		{"a member is removed", whole, replace(50, `"action":"executed",`, ``), []found{{verify.Changed, 50}}, `"action"`},
		{"an unknown member is added", whole, replace(50, `"severity"`, `"more":1,"severity"`), []found{{verify.Changed, 50}}, "form"},
		{"a member stands twice", whole, replace(50, `"severity"`, `"action":"executed","severity"`), []found{{verify.Changed, 50}}, "twice"},
		{"a member in other case stands beside it", whole, replace(50, `"index":50`, `"index":50,"Index":51`), []found{{verify.Changed, 50}}, ""},
		{"a line gets a space", whole, replace(50, `"severity":`, `"severity": `), []found{{verify.Changed, 50}}, "form"},
		{"details are changed", whole, replace(52, `"n":52`, `"n":53`), []found{{verify.DetailsMismatch, 52}}, "details"},
		{"a message is changed", whole, replace(53, `failed`, `worked`), []found{{verify.DetailsMismatch, 53}}, "error message"},
		{"an original spelling is changed", whole, replace(50, `"severity":"warning"`, `"severity":"warnung"`), []found{{verify.DetailsMismatch, 50}}, "original"},
		{"a salt is removed", whole, replace(52, `"salt"`, `"sult"`), []found{{verify.DetailsMismatch, 52}}, "salt"},
		{"details are stripped with their salt", stripped.export(t), asItIs, []found{{verify.DetailsMismatch, 11}}, "no tombstone"},
		{"details are stripped from a filtered line", stripped.filtered(t, 5, 11), asItIs, []found{{verify.DetailsMismatch, 11}}, "no tombstone"},
		{"a hash is changed", whole, replace(50, `"hash":"`+chain(50), `"hash":"`+chain(51)), []found{{verify.Changed, 50}}, ""},
		{"a previous hash is changed", whole, replace(50, `"previousHash":"`+chain(49), `"previousHash":"`+chain(48)), []found{{verify.Changed, 50}}, ""},
		{"the first previous hash is changed", whole, func(lines []string) []string {
			r := l.records[0]
			r.Chain = trail.Link(trail.Hash{1}, r.Entry)
			e, _ := r.Event()
			lines[0] = string((&trail.Line{Event: e, Record: r, Previous: trail.Hash{1}}).Append(nil))
			return lines
		}, []found{{verify.Changed, 0}}, ""},
		{"a line is rewritten with its hash", whole, func(lines []string) []string {
			e, _ := forged.records[100].Event()
			lines[100] = string((&trail.Line{Event: e, Record: forged.records[100], Previous: l.records[99].Chain}).Append(nil))
			return lines
		}, []found{{verify.Changed, 100}}, ""},
		{"all lines are made anew behind a changed one", whole, func(lines []string) []string {
			return append(forged.export(t)[:361], lines[361])
		}, []found{{verify.Changed, 0}}, "one of them"},
		{"a line is removed", whole, func(lines []string) []string { return slices.Delete(lines, 50, 51) }, []found{{verify.Missing, 50}}, ""},
		{"lines are removed", whole, func(lines []string) []string { return slices.Delete(lines, 50, 60) }, []found{{verify.Missing, 50}}, "entries 50 to 59"},
		{"the first line is removed", whole, func(lines []string) []string { return lines[1:] }, []found{{verify.Missing, 0}}, ""},
		{"the last events are removed", whole, func(lines []string) []string { return slices.Delete(lines, 355, 361) }, []found{{verify.CutTail, 355}}, ""},
		{"neighbours are swapped", whole, swap(50, 51), []found{{verify.Reordered, 50}, {verify.Reordered, 51}}, ""},
		{"lines far apart are swapped", whole, swap(50, 300), []found{{verify.Reordered, 50}, {verify.Reordered, 300}}, ""},
		{"a line stands twice", whole, func(lines []string) []string { return slices.Insert(lines, 70, lines[50]) }, []found{{verify.Reordered, 50}}, ""},
		{"a line is garbage", whole, func(lines []string) []string { lines[50] = "garbage\n"; return lines }, []found{{verify.Changed, 50}}, "cannot be read"},
		{"garbage is added", whole, func(lines []string) []string { return slices.Insert(lines, 50, "garbage\n") }, []found{{verify.Changed, 50}}, "cannot be read"},
		{"garbage is added to a filtered export", some, func(lines []string) []string { lines[1] = "garbage\n"; return lines }, []found{{verify.Changed, -1}}, "cannot be read"},
		{"a line is too long", whole, func(lines []string) []string { lines[50] = strings.Repeat("x", 9<<20) + "\n"; return lines }, []found{{verify.Changed, 50}}, "longer than"},
		{"an empty line is added", whole, func(lines []string) []string { return slices.Insert(lines, 50, "\n") }, []found{{verify.Changed, 50}}, ""},
		{"a line stands behind the checkpoint", whole, func(lines []string) []string { return append(lines, lines[361]) }, []found{{verify.Changed, -1}}, "behind"},
		{"the checkpoint's line is changed", whole, replace(361, `"filter"`, `"felter"`), []found{{verify.Changed, -1}}, "form"},
		{"the count is changed", whole, replace(361, `"count":361`, `"count":362`), []found{{verify.Changed, -1}}, "counts 362"},
		{"the signature is changed", whole, func(lines []string) []string {
			i := strings.LastIndex(lines[361], `=\n`) - 9
			lines[361] = lines[361][:i] + "abcdefg" + lines[361][i+7:]
			return lines
		}, []found{{verify.BadSignature, 360}}, ""},
		{"the checkpoint is an older one", whole, func(lines []string) []string {
			lines[361] = trailer(t, l.pools[2], 321, nil)
			return lines
		}, []found{{verify.Changed, 321}}, "not under the checkpoint"},
		{"the export is another ledger's", other.export(t), asItIs, []found{{verify.WrongKey, 360}}, "not a key of the ledger"},
		{"a filtered line's entry is changed", some, replace(1, `\"controller\"`, `\"system\"`), []found{{verify.Changed, 5}}, "hash"},
		{"a filtered line's index is changed", some, replace(1, `"index":5`, `"index":6`), []found{{verify.Changed, 6}}, "proof"},
		{"a filtered line's proof is changed", some, func(lines []string) []string {
			i := strings.Index(lines[1], `"proof":["`) + 12
			lines[1] = lines[1][:i] + "AAAA" + lines[1][i+4:]
			return lines
		}, []found{{verify.Changed, 5}}, "proof"},
		{"a filtered line has no proof", some, func(lines []string) []string { lines[1] = whole[5]; return lines }, []found{{verify.Changed, 5}}, "no proof"},
		{"a filtered line is removed", some, func(lines []string) []string { return slices.Delete(lines, 1, 2) }, []found{{verify.Missing, -1}}, "counts 5"},
		{"filtered lines are swapped", some, swap(1, 2), []found{{verify.Reordered, 5}}, ""},
		{"the checkpoint is removed", whole[:361], asItIs, []found{{verify.Missing, -1}}, "nothing in the export is signed"},
		{"the checkpoint is removed from a filtered export", some[:5], asItIs, []found{{verify.Missing, -1}}, "?checkpoint=true"},
		{"all of it is made anew and not signed", forged.export(t)[:361], asItIs, []found{{verify.Missing, -1}}, "nothing in the export is signed"},
		{"nothing is left", nil, asItIs, []found{{verify.Missing, -1}}, "nothing in the export is signed"},
		{"a filtered export's entries are a fork's", some, func(lines []string) []string {
			return []string{forged.line(t, 100, true), trailer(t, l.newest(), 1, map[string]string{"type": "x"})}
		}, []found{{verify.Changed, 100}}, "proof"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := checkExport(t, tt.tamper(slices.Clone(tt.of)), verify.Options{Keys: []note.Verifier{l.key.verifier}})
			if got := findings(r); !slices.Equal(got, tt.want) || !strings.Contains(r.Findings[0].Message, tt.says) {
				t.Errorf("want %v, found\n%s", tt.want, describe(r))
			}
		})
	}
}

func TestAnExportThatNobodySignedIsFoundByWhatItSays(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 3, 1, 20, 40)
	whole := l.export(t)
	since := verify.Options{Since: [][]byte{l.pools[1].Note}}
	swapped, changed := slices.Clone(whole[:61]), slices.Clone(whole[:61])
	swapped[50], swapped[51] = swapped[51], swapped[50]
	changed[50] = strings.Replace(changed[50], `\"controller\"`, `\"system\"`, 1)
	for _, tt := range []struct {
		name  string
		lines []string
		o     verify.Options
		want  []found
	}{
		{"lines are swapped", swapped, verify.Options{}, []found{{verify.Reordered, 50}}},
		{"a line is changed", changed, verify.Options{}, []found{{verify.Changed, 50}}},
		{"it is empty", nil, verify.Options{}, []found{{verify.Missing, -1}}},
		{"an earlier checkpoint is given", whole[:61], since, []found{{verify.Missing, -1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := checkExport(t, tt.lines, tt.o); !slices.Equal(findings(r), tt.want) {
				t.Errorf("want %v, found\n%s", tt.want, describe(r))
			}
		})
	}
}

func TestAFilteredExportIsHeldAgainstEarlierCheckpoints(t *testing.T) {
	t.Parallel()
	l, long, forged := newLedger(t, 3, 1, 20, 40), newLedger(t, 3, 1, 20, 40, 5), newLedger(t, 3, 1, 20, 40)
	alter(&forged.records[9])
	forged.resign(t)
	for _, tt := range []struct {
		since    *trail.Checkpoint
		want     []found
		unproven bool
	}{
		{l.newest(), nil, false},
		{l.pools[1], nil, true},
		{long.newest(), []found{{verify.RolledBack, 61}}, false},
		{forged.newest(), []found{{verify.Forked, 0}}, false},
	} {
		r := checkExport(t, l.filtered(t, 3, 4), verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{tt.since.Note}})
		if got := findings(r); !slices.Equal(got, tt.want) || strings.Contains(strings.Join(r.Unproven, "\n"), "could not be compared") != tt.unproven {
			t.Errorf("since %d: unproven %q, found\n%s", tt.since.Size, r.Unproven, describe(r))
		}
	}
}

func TestEveryBitOfAnExportIsFound(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 5, 1, 2)
	data := []byte(strings.Join(l.export(t), ""))
	o := verify.Options{Keys: []note.Verifier{cached{l.key.verifier, map[string]bool{}}}, Workers: 1}
	for at := range data {
		if race && at%41 != 0 {
			continue
		}
		for bit := range 8 {
			data[at] ^= 1 << bit
			r, err := verify.Export(context.Background(), bytes.NewReader(data), o)
			if err != nil {
				t.Fatal(err)
			}
			if r.OK() {
				t.Fatalf("bit %d of byte %d (line %d): not found", bit, at, bytes.Count(data[:at], []byte("\n"))+1)
			}
			data[at] ^= 1 << bit
		}
	}
}
