package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

func TestAnUntouchedLedgerIsGood(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 50 {
		pools := []int{1}
		for range r.IntN(12) {
			pools = append(pools, []int{0, 1, 1, 2, 17, 255, 256, 300}[r.IntN(8)])
			if l := len(pools); pools[l-1] == 0 && pools[l-2] == 0 {
				pools = pools[:l-1]
			}
		}
		zeros := r.IntN(10000)
		t.Run(fmt.Sprint(n, pools), func(t *testing.T) {
			t.Parallel()
			l := newLedger(t, uint64(n), pools...)
			i := l.image(t)
			i["log/notes.txt"] = []byte("not a segment")
			last := i.segments()[len(l.segments)-1]
			i[last] = append(i[last], make([]byte, zeros)...)
			o := verify.Options{Keys: []note.Verifier{l.key.verifier}, Workers: 1 + n%3}
			for _, c := range l.pools {
				o.Since = append(o.Since, c.Note)
			}
			var done, total atomic.Int64
			o.Progress = func(d, t int64) { done.Store(d); total.Store(t) }
			r := checkDir(t, i.write(t), o)
			size := l.tree.Size()
			if !r.OK() || !r.Authenticated || r.Size != size || r.Root != l.tree.Root() || r.Entries != size || r.Details != size || r.Origin != origin {
				t.Errorf("%+v\n%s", r, describe(r))
			}
			if !bytes.Equal(r.Checkpoint, l.newest().Note) {
				t.Errorf("checkpoint %q", r.Checkpoint)
			}
			if done.Load() == 0 || done.Load() > total.Load() {
				t.Errorf("progress %d of %d", done.Load(), total.Load())
			}
		})
	}
}

func TestWhatWasNotShownIsSaid(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 300, 3)
	i := l.image(t)
	tests := []struct {
		name     string
		tamper   func(image)
		o        verify.Options
		unproven []string
		notes    []string
	}{
		{"with everything given", nil, verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{l.pools[1].Note}},
			nil, nil},
		{"without a key", nil, verify.Options{Since: [][]byte{l.pools[1].Note}},
			[]string{"the key was not authenticated"}, nil},
		{"without an earlier checkpoint", nil, verify.Options{Keys: []note.Verifier{l.key.verifier}},
			[]string{"no earlier checkpoint was given"}, nil},
		{"without hashes", func(i image) { delete(i, "tree/00"); delete(i, "tree/04"); delete(i, "tree/08") }, verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{l.pools[1].Note}},
			nil, nil},
		{"without a key file", func(i image) { delete(i, "keys/ledger.vkey") }, verify.Options{Since: [][]byte{l.pools[1].Note}},
			[]string{"the key was not authenticated"}, []string{"there is no file keys/ledger.vkey"}},
		{"with strays", func(i image) { i["log/x"] = nil }, verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{l.pools[1].Note}},
			nil, []string{"files that are not segments of the log: 1, such as x"}},
		{"with a segment just begun", func(i image) { i["log/"+seglog.SegmentName(304)] = nil }, verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{l.pools[1].Note}},
			nil, []string{"was begun and not used"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := i.clone()
			if tt.tamper != nil {
				tt.tamper(i)
			}
			r := checkDir(t, i.write(t), tt.o)
			if !r.OK() || r.Authenticated != (len(tt.o.Keys) > 0) {
				t.Errorf("authenticated %v, found\n%s", r.Authenticated, describe(r))
			}
			expect := func(what string, got, want []string) {
				if len(got) != len(want) {
					t.Errorf("%s: %q, want %q", what, got, want)
					return
				}
				for i := range want {
					if !strings.Contains(got[i], want[i]) {
						t.Errorf("%s: %q, want %q", what, got, want)
					}
				}
			}
			expect("unproven", r.Unproven, tt.unproven)
			expect("notes", r.Notes, tt.notes)
		})
	}
}

func TestAPoolThatWasNeverAcknowledgedIsNoted(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 20)
	sealed := l.image(t)
	more := newLedger(t, 1, 1, 20, 12)
	whole := more.image(t)
	name := "log/" + seglog.SegmentName(0)
	from, to := len(sealed[name]), len(whole[name])
	// cut returns the pool up to a byte, with the zeros that were there before.
	cut := func(n int) []byte { return append(bytes.Clone(whole[name][:n]), make([]byte, 30000)...) }
	page := func(data []byte, n int) { clear(data[n : n+4096]) }
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing of it", cut(from), ""},
		{"its first bytes", cut(from + 20), "20 bytes"},
		{"half a record", cut(from + 300), "bytes"},
		{"some records", cut(from + 5000), "bytes"},
		{"all but the checkpoint", cut(to - 300), "bytes"},
		{"all but its last byte", cut(to - 1), "bytes"},
		{"all, though the tip does not know", cut(to), ""},
		{"a file that ends within it", whole[name][:from+3000], "bytes"},
	}
	first := (from + 4096) / 4096 * 4096
	for n := first; n < to-4096; n += 4096 {
		torn := cut(to)
		page(torn, n)
		tests = append(tests, struct {
			name string
			data []byte
			want string
		}{fmt.Sprintf("all but the page at %d", n), torn, "bytes"})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := sealed.clone()
			i[name] = tt.data
			r := checkDir(t, i.write(t), verify.Options{Keys: []note.Verifier{l.key.verifier}})
			text := strings.Join(r.Notes, "\n")
			if !r.OK() || strings.Contains(text, "never acknowledged") != (tt.want != "") || !strings.Contains(text, tt.want) {
				t.Errorf("notes %q, found\n%s", r.Notes, describe(r))
			}
			if size := r.Size; size != 21 && tt.name != "all, though the tip does not know" {
				t.Errorf("%d entries", size)
			}
		})
	}
	t.Run("the first pool of a segment", func(t *testing.T) {
		i := sealed.clone()
		second := newLedger(t, 1, 1, 20, 0, 12).image(t)
		name := second.segments()[1]
		i[name] = append(second[name][:3000], make([]byte, 5000)...)
		r := checkDir(t, i.write(t), verify.Options{Keys: []note.Verifier{l.key.verifier}})
		if !r.OK() || r.Size != 21 {
			t.Errorf("notes %q, found\n%s", r.Notes, describe(r))
		}
	})
}

// A server writes while the directory is verified, again and again.
func TestALedgerThatGrowsMeanwhileIsGood(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 9, 1)
	dir := l.image(t).write(t)
	log, err := seglog.Open(filepath.Join(dir, trail.LogDir), seglog.Options{SegmentSize: 1 << 20, FS: unsynced{}})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r, err := log.Reader(0, seglog.FirstOffset)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := log.Cut(r.Offset()); err != nil {
		t.Fatal(err)
	}
	tip, err := os.OpenFile(filepath.Join(dir, trail.TipFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tip.Close()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			var b seglog.Batch
			for range 1 + n%40 {
				l.append(t, l.event(t))
				b.Add(l.records[len(l.records)-1].AppendFrame)
			}
			if log.Full() {
				if err := log.Roll(uint64(l.tree.Size()) - uint64(1+n%40)); err != nil {
					t.Error(err)
					return
				}
			}
			l.seal(t)
			b.Add(func(dst []byte) []byte { return append(append(dst, trail.FrameCheckpoint), l.newest().Note...) })
			if _, err := log.Append(&b, false); err != nil {
				t.Error(err)
				return
			}
			var page [trail.TipSize]byte
			copy(page[:], l.newest().Note)
			if _, err := tip.WriteAt(page[:], 0); err != nil {
				t.Error(err)
				return
			}
			tiles := l.fullTiles(n)
			for _, name := range slices.Sorted(maps.Keys(tiles)) {
				path, data := filepath.Join(dir, name), tiles[name]
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Error(err)
				}
				if err := seglog.WriteFile(unsynced{}, path, data); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	var since []byte
	for range 30 {
		o := verify.Options{Keys: []note.Verifier{l.key.verifier}}
		if since != nil {
			o.Since = [][]byte{since}
		}
		r := checkDir(t, dir, o)
		if !r.OK() {
			t.Errorf("notes %q, found\n%s", r.Notes, describe(r))
			break
		}
		since = r.Checkpoint
	}
	close(stop)
	<-done
}

// fullTiles returns the tiles that are full, now and then.
func (l *ledger) fullTiles(n int) map[string][]byte {
	if n%16 != 0 {
		return nil
	}
	return l.tileFiles(false)
}

func TestEarlierCheckpointsAreExtended(t *testing.T) {
	t.Parallel()
	shape := []int{1, 20, 300, 40, 100}
	l := newLedger(t, 1, shape...)
	keys := []note.Verifier{l.key.verifier}
	forged := newLedger(t, 1, shape...)
	alter(&forged.records[330])
	forged.resign(t)
	long := newLedger(t, 1, append(shape, 7)...)
	other := newLedger(t, 1, shape...)
	other.key = newKey(t, origin, 2)
	other.resign(t)
	stranger := newLedger(t, 1, shape...)
	stranger.key = newKey(t, "ledger.example/other", 1)
	stranger.resign(t)
	garbled := bytes.Clone(l.pools[2].Note)
	garbled[len(garbled)-20] ^= 1
	old := func(n int) []byte { return l.pools[n].Note }
	tests := []struct {
		name  string
		of    *ledger
		since [][]byte
		want  []found
	}{
		{"all of them", l, [][]byte{old(4), old(0), old(2), old(3), old(1)}, nil},
		{"one of more entries", l, [][]byte{old(1), long.newest().Note}, []found{{verify.RolledBack, 461}}},
		{"one of a ledger made anew with the real key", forged, [][]byte{old(1), old(2), old(3), old(4)}, []found{{verify.Forked, 321}, {verify.Forked, 321}}},
		{"only the newest of a ledger made anew with the real key", forged, [][]byte{old(4)}, []found{{verify.Forked, 0}}},
		{"one that another key has signed", l, [][]byte{other.pools[2].Note}, []found{{verify.WrongKey, -1}}},
		{"one of another ledger", l, [][]byte{stranger.pools[2].Note}, []found{{verify.WrongKey, -1}}},
		{"one with a false signature", l, [][]byte{garbled}, []found{{verify.BadSignature, -1}}},
		{"garbage", l, [][]byte{[]byte("garbage")}, []found{{verify.BadSignature, -1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := verify.Options{Keys: keys, Since: tt.since}
			for what, r := range map[string]*verify.Report{
				"directory": checkDir(t, tt.of.image(t).write(t), o),
				"export":    checkExport(t, tt.of.export(t), o),
				"log":       checkLog(t, tt.of.files(), o),
			} {
				if got := findings(r); !slices.Equal(got, tt.want) {
					t.Errorf("%s: want %v, found\n%s", what, tt.want, describe(r))
				}
			}
		})
	}
}

func TestARolledBackDirectoryIsFound(t *testing.T) {
	t.Parallel()
	old, l := newLedger(t, 1, 1, 20), newLedger(t, 1, 1, 20, 5)
	r := checkDir(t, old.image(t).write(t), verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{l.newest().Note}})
	if got := findings(r); !slices.Equal(got, []found{{verify.RolledBack, 21}}) {
		t.Error(describe(r))
	}
}

func TestALedgerWithoutARealFirstEntryIsFound(t *testing.T) {
	t.Parallel()
	first := func(old, with string) *ledger {
		l := newLedger(t, 1, 1, 3)
		if !bytes.Contains(l.records[0].Entry, []byte(old)) {
			t.Fatalf("no %s in %s", old, l.records[0].Entry)
		}
		l.records[0].Entry = bytes.Replace(l.records[0].Entry, []byte(old), []byte(with), 1)
		l.resign(t)
		return l
	}
	for name, l := range map[string]*ledger{
		"another event":        first("LedgerCreated", "LedgerCreatad"),
		"another origin":       first(`"origin":"ledger`, `"origin":"ladger`),
		"another key":          first(newKey(t, origin, 1).vkey, newKey(t, origin, 2).vkey),
		"no key":               first(`{"created":`, `{"creation":`),
		"something unreadable": first(`{"created":`, `{"created":1,"x":`),
	} {
		for _, keys := range [][]note.Verifier{nil, {l.key.verifier}} {
			r := checkDir(t, l.image(t).write(t), verify.Options{Keys: keys})
			if got := findings(r); !slices.Equal(got, []found{{verify.WrongKey, 0}}) {
				t.Errorf("%s: found\n%s", name, describe(r))
			}
		}
	}
}

func TestFindingsAreBoundedAndTheRestIsCounted(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 600)
	i := l.image(t)
	for n := int64(100); n < 150; n++ {
		i.editRecord(n, alter)
	}
	r := checkDir(t, i.write(t), verify.Options{MaxFindings: 7})
	if len(r.Findings) != 7 || r.Omitted != 43 || r.OK() {
		t.Errorf("%d and %d more", len(r.Findings), r.Omitted)
	}
}

func TestWhatCannotBeCheckedIsAnError(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 600)
	dir := l.image(t).write(t)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := verify.Dir(cancelled, dir, verify.Options{}); err == nil {
		t.Error("no error from a cancelled context")
	}
	if _, err := verify.Export(cancelled, strings.NewReader(strings.Join(l.export(t), "")), verify.Options{}); err == nil {
		t.Error("no error from a cancelled context")
	}
	for _, dir := range []string{t.TempDir(), filepath.Join(dir, "none"), filepath.Join(dir, "tip")} {
		if _, err := verify.Dir(context.Background(), dir, verify.Options{}); err == nil {
			t.Errorf("no error from %s", dir)
		}
	}
}

func TestTheReportIsWrittenAsJSON(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 3)
	r := checkDir(t, l.image(t).write(t), verify.Options{})
	r.Target = "ledger"
	got, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{
 "ok": true,
 "target": "ledger",
 "origin": "ledger.example/prod",
 "size": 4,
 "root": %q,
 "entries": 4,
 "details": 4,
 "authenticated": false,
 "findings": [],
 "omitted": 0,
 "notes": [],
 "unproven": [
  "no earlier checkpoint was given, so a rollback to an older state, or a ledger made anew with the real key, cannot be excluded",
  "the key was not authenticated: it came from the ledger itself"
 ],
 "checkpoint": %q
}`, l.tree.Root(), l.newest().Note)
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
