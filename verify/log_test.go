package verify_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
	"github.com/graven-audit/graven/verify/remote"
)

// files returns what a server offers below /log/.
func (l *ledger) files() map[string][]byte {
	files := l.tileFiles(true)
	files["checkpoint"] = l.newest().Note
	for n := 0; n < len(l.records); n += trail.TileWidth {
		part := l.records[n:min(n+trail.TileWidth, len(l.records))]
		var data []byte
		for _, r := range part {
			data = trail.AppendBundled(data, r.Entry)
		}
		files[trail.TilePath(tlog.Tile{L: -1, N: int64(n / trail.TileWidth), W: len(part)})] = data
	}
	return files
}

// serve serves files over HTTP, bundles compressed.
func serve(t testing.TB, files map[string][]byte) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[strings.TrimPrefix(r.URL.Path, "/log/")]
		switch {
		case !ok:
			http.NotFound(w, r)
		case strings.Contains(r.URL.Path, "/entries/"):
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(data)
			z.Close()
		default:
			w.Write(data)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func checkLog(t testing.TB, files map[string][]byte, o verify.Options) *verify.Report {
	t.Helper()
	h := remote.Log{URL: serve(t, files).URL + "/log/"}
	r, err := verify.Log(context.Background(), h.URL, h.Fetch, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnUntouchedLogIsGood(t *testing.T) {
	t.Parallel()
	for _, pools := range [][]int{{1}, {255}, {256}, {1, 300, 1}, {512}, {300, 300, 100}} {
		l := newLedger(t, 2, pools...)
		r := checkLog(t, l.files(), verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{l.pools[0].Note, l.newest().Note}})
		if !r.OK() || !r.Authenticated || r.Entries != l.tree.Size() || r.Root != l.tree.Root() {
			t.Errorf("%v: %+v\n%s", pools, r, describe(r))
		}
		r = checkLog(t, l.files(), verify.Options{})
		if !r.OK() || r.Authenticated {
			t.Errorf("%v without a key: %+v\n%s", pools, r, describe(r))
		}
	}
}

func TestALogWithUpperTilesIsGood(t *testing.T) {
	t.Parallel()
	l := manyEntries(t, 65536+256+3)
	files := l.files()
	if r := checkLog(t, files, verify.Options{Keys: []note.Verifier{l.key.verifier}}); !r.OK() {
		t.Error(describe(r))
	}
	for name, want := range map[string]found{"tile/1/000": {verify.TileMismatch, 512}, "tile/1/001.p/1": {verify.TileMismatch, 65536}, "tile/2/000.p/1": {verify.TileMismatch, 0}} {
		broken := cloneFiles(files)
		broken[name] = bytes.Clone(broken[name])
		at := 0
		if want.index == 512 {
			at = 64
		}
		broken[name][at] ^= 1
		if r := checkLog(t, broken, verify.Options{}); !slices.Equal(findings(r), []found{want}) {
			t.Errorf("%s: want %v, found\n%s", name, want, describe(r))
		}
	}
}

// manyEntries makes a ledger of n entries of which all but the first are tiny
// and no events.
func manyEntries(t testing.TB, n int) *ledger {
	l := newLedger(t, 1, 1)
	for len(l.records) < n {
		r := l.tiny()
		leaf := trail.LeafHash(r.Entry)
		l.records, l.leaves = append(l.records, r), append(l.leaves, leaf)
		l.tree.Append(leaf, nil)
	}
	l.seal(t)
	return l
}

func cloneFiles(files map[string][]byte) map[string][]byte {
	c := map[string][]byte{}
	for name, data := range files {
		c[name] = data
	}
	return c
}

func TestEveryTamperingWithALogIsNamed(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 2, 1, 300, 299)
	other := newLedger(t, 2, 1, 300, 299)
	other.key = newKey(t, origin, 2)
	other.resign(t)
	forged := newLedger(t, 2, 1, 300, 299)
	alter(&forged.records[33])
	forged.resign(t)
	flip := func(name string, at int) func(map[string][]byte) {
		return func(f map[string][]byte) {
			f[name] = bytes.Clone(f[name])
			f[name][at] ^= 1
		}
	}
	at := func(n int) int { return bytes.Index(l.files()["tile/entries/001"], l.records[n].Entry) + 9 }
	tests := []struct {
		name   string
		tamper func(map[string][]byte)
		want   []found
	}{
		{"an entry is changed", flip("tile/entries/001", at(300)), []found{{verify.Changed, 300}}},
		{"a length is changed", flip("tile/entries/001", 0), []found{{verify.Changed, 256}}},
		{"a newest entry is changed", flip("tile/entries/002.p/88", 99), []found{{verify.Changed, 512}}},
		{"a tile is changed", flip("tile/0/001", 64), []found{{verify.TileMismatch, 258}}},
		{"a partial tile is changed", flip("tile/0/002.p/88", 0), []found{{verify.TileMismatch, 512}}},
		{"an upper tile is changed", flip("tile/1/000.p/2", 33), []found{{verify.TileMismatch, 256}}},
		{"the checkpoint's root is changed", func(f map[string][]byte) {
			f["checkpoint"] = bytes.Clone(f["checkpoint"])
			b := &f["checkpoint"][len(origin)+8]
			*b = map[bool]byte{true: 'A', false: 'B'}[*b != 'A']
		}, []found{{verify.BadSignature, 599}}},
		{"the checkpoint is garbage", func(f map[string][]byte) { f["checkpoint"] = []byte("garbage") }, []found{{verify.BadSignature, -1}}},
		{"a bundle is missing", func(f map[string][]byte) { delete(f, "tile/entries/001") }, []found{{verify.Missing, 256}}},
		{"a bundle lacks entries", func(f map[string][]byte) { f["tile/entries/001"] = f["tile/entries/001"][:at(300)-11] }, []found{{verify.Changed, 300}}},
		{"a tile is missing", func(f map[string][]byte) { delete(f, "tile/0/001") }, []found{{verify.TileMismatch, 256}}},
		{"an upper tile is missing", func(f map[string][]byte) { delete(f, "tile/1/000.p/2") }, []found{{verify.TileMismatch, 0}}},
		{"bundles are swapped", func(f map[string][]byte) {
			f["tile/entries/000"], f["tile/entries/001"] = f["tile/entries/001"], f["tile/entries/000"]
		}, nil},
		{"all is another ledger's", func(f map[string][]byte) {
			for name, data := range other.files() {
				f[name] = data
			}
		}, []found{{verify.WrongKey, 599}}},
		{"all is made anew but the checkpoint", func(f map[string][]byte) {
			checkpoint := f["checkpoint"]
			for name, data := range forged.files() {
				f[name] = data
			}
			f["checkpoint"] = checkpoint
		}, []found{{verify.Changed, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := cloneFiles(l.files())
			tt.tamper(files)
			r := checkLog(t, files, verify.Options{Keys: []note.Verifier{l.key.verifier}})
			if tt.want == nil { // every entry is out of place
				for _, f := range r.Findings {
					if f.Kind != verify.Reordered && (f.Kind != verify.WrongKey || f.Index != 0) {
						t.Errorf("%+v", f)
					}
				}
				if len(r.Findings) != 513 {
					t.Errorf("%d findings", len(r.Findings))
				}
			} else if got := findings(r); !slices.Equal(got, tt.want) {
				t.Errorf("want %v, found\n%s", tt.want, describe(r))
			}
		})
	}
}

func TestALogThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 2, 1, 300)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "checkpoint") {
			w.Write(l.newest().Note)
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	h := remote.Log{URL: server.URL}
	if _, err := verify.Log(context.Background(), h.URL, h.Fetch, verify.Options{Keys: []note.Verifier{l.key.verifier}}); err == nil {
		t.Error("no error")
	}
}

func TestABoastfulCheckpointDoesNotKeepUsBusy(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 2, 1)
	c, err := trail.SignCheckpoint(origin, 1<<55, trail.Hash{}, l.key)
	if err != nil {
		t.Fatal(err)
	}
	files := l.files()
	files["checkpoint"] = c.Note
	if r := checkLog(t, files, verify.Options{}); r.OK() || len(r.Findings) > 1000 {
		t.Error(describe(r))
	}
}
