package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// newWitnesses makes witnesses, the same each time.
func newWitnesses(t testing.TB, names ...string) (all []*cosign.Cosigner, keys []*cosign.Witness) {
	t.Helper()
	for i, name := range names {
		text, err := cosign.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{byte(i + 1)}, 32)), name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := cosign.NewCosigner(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		all, keys = append(all, c), append(keys, c.Witness)
	}
	return all, keys
}

// cosigned returns a checkpoint with witnesses' signatures.
func cosigned(t testing.TB, c *trail.Checkpoint, by ...*cosign.Cosigner) []byte {
	t.Helper()
	signed := bytes.Clone(c.Note)
	for _, w := range by {
		line, err := note.Sign(&note.Note{Text: c.Text()}, w)
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, line[len(c.Text())+1:]...)
	}
	return signed
}

// TestWitnessesAreHeldAgainstThePolicy does so for a directory, a whole export,
// a filtered one, and a server.
func TestWitnessesAreHeldAgainstThePolicy(t *testing.T) {
	t.Parallel()
	pools := []int{1, 20, 300, 40}
	l := newLedger(t, 7, pools...)
	fork := newLedger(t, 7, pools...)
	alter(&fork.records[5])
	fork.resign(t)
	longer := newLedger(t, 7, append(pools, 10)...)
	foreign := newLedger(t, 7, pools...)
	foreign.key = newKey(t, "ledger.example/other", 3)
	foreign.resign(t)
	all, keys := newWitnesses(t, "a", "b", "c", "d")
	a, b, d := all[0], all[1], all[3]
	part := l.pools[2] // 321 of 361 entries
	good := cosigned(t, part, a, b)
	flip := func(text []byte, at int) []byte { // it is base64 before and after
		text = bytes.Clone(text)
		if text[at]++; !bytes.ContainsRune([]byte("BCDEFGHIJKLMNOPQRSTUVWXYZbcdefghijklmnopqrstuvwxyz123456789"), rune(text[at])) {
			text[at] = 'A'
		}
		return text
	}
	for _, tt := range []struct {
		name string
		text []byte // "" where there is none
		need int    // of a, b and c
		want []found
		size int64 // witnessed
		by   int
	}{
		{"two of three", good, 2, nil, 321, 2},
		{"one of three", good, 1, nil, 321, 2},
		{"all of three", good, 3, []found{{verify.Unwitnessed, -1}}, 321, 2},
		{"no policy", good, 0, nil, 321, 0},
		{"the newest", cosigned(t, l.newest(), a, b), 2, nil, 361, 2},
		{"a stranger's signature", cosigned(t, part, a, d), 2, []found{{verify.Unwitnessed, -1}}, 321, 1},
		{"one witness twice", cosigned(t, part, a, a), 2, []found{{verify.Unwitnessed, -1}}, 321, 1},
		{"no signature", part.Note, 2, []found{{verify.Unwitnessed, -1}}, 321, 0},
		{"no signature, and none asked for", part.Note, 0, nil, 0, 0},
		{"nothing is cosigned", nil, 2, []found{{verify.Unwitnessed, -1}}, 0, 0},
		{"nothing is cosigned, and nothing asked for", nil, 0, nil, 0, 0},
		{"a cosignature is changed", flip(good, len(good)-20), 2, []found{{verify.BadSignature, -1}}, 0, 0},
		{"a cosignature is changed that nobody asks for", flip(good, len(good)-20), 0, nil, 321, 0},
		{"its size is changed", bytes.Replace(good, []byte("\n321\n"), []byte("\n320\n"), 1), 2, []found{{verify.BadSignature, -1}, {verify.Unwitnessed, -1}}, 0, 0},
		{"its size is changed, without a policy", bytes.Replace(good, []byte("\n321\n"), []byte("\n320\n"), 1), 0, []found{{verify.BadSignature, -1}}, 0, 0},
		{"a fork's", cosigned(t, fork.pools[2], a, b), 2, []found{{verify.Unwitnessed, -1}, {verify.Forked, 0}}, 0, 0},
		{"a fork's, without a policy", cosigned(t, fork.pools[2], a, b), 0, []found{{verify.Forked, 0}}, 0, 0},
		{"a longer ledger's", cosigned(t, longer.newest(), a, b), 0, []found{{verify.RolledBack, 361}}, 0, 0},
		{"another ledger's", cosigned(t, foreign.newest(), a, b), 0, []found{{verify.WrongKey, -1}}, 0, 0},
		{"noise", []byte("noise"), 0, []found{{verify.BadSignature, -1}}, 0, 0},
	} {
		o := verify.Options{Keys: []note.Verifier{l.key.verifier}, Witnesses: cosign.Policy{Witnesses: keys[:3], Need: tt.need}}
		if tt.need == 0 {
			o.Witnesses = cosign.Policy{}
		}
		check := func(target string, r *verify.Report, want []found) {
			t.Helper()
			got := findings(r)
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: want %v, found\n%s", tt.name, target, want, describe(r))
			}
			switch {
			case tt.size == 0 && r.Witnessed != nil, tt.size > 0 && (r.Witnessed == nil || r.Witnessed.Size != tt.size || len(r.Witnessed.By) != tt.by):
				t.Errorf("%s, %s: witnessed %+v", tt.name, target, r.Witnessed)
			case tt.size > 0 && tt.size < 361 && tt.need > 0 && !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "entries 321 to 360 are not witnessed yet") }):
				t.Errorf("%s, %s: notes %q", tt.name, target, r.Notes)
			}
			if text, err := json.Marshal(r); err != nil || bytes.Contains(text, []byte(`"witnessed"`)) != (r.Witnessed != nil) {
				t.Errorf("%s, %s: %s, %v", tt.name, target, text, err)
			}
		}
		i := l.image(t)
		if tt.text != nil {
			i[cosign.File] = tt.text
		}
		check("directory", checkDir(t, i.write(t), o), tt.want)

		// An export carries a proof, which a longer ledger's cannot have.
		want := slices.Clone(tt.want)
		for k := range want {
			if want[k].kind == verify.RolledBack {
				want[k] = found{verify.Forked, 0}
			}
		}
		for target, lines := range map[string][]string{"export": l.export(t), "filtered export": l.filtered(t, 3, 7, 300)} {
			last := &lines[len(lines)-1]
			var tr trail.Trailer
			if err := json.Unmarshal([]byte(*last), &tr); err != nil {
				t.Fatal(err)
			}
			tr.Cosigned = string(tt.text)
			if c, err := trail.ReadCheckpoint(tt.text); err == nil && c.Size <= 361 {
				if tr.Extends, err = tlog.ProveTree(361, c.Size, tlog.HashReaderFunc(l.readHashes)); err != nil {
					t.Fatal(err)
				}
			}
			text, err := json.Marshal(tr)
			if err != nil {
				t.Fatal(err)
			}
			*last = string(text) + "\n"
			check(target, checkExport(t, lines, o), want)
		}

		// A server shows its newest only where it is asked for it.
		shown := tt.text
		if shown == nil {
			shown = l.newest().Note
		}
		files := l.files()
		r, err := verify.Log(context.Background(), "server", func(_ context.Context, path string) ([]byte, error) {
			if path == "checkpoint" {
				return shown, nil
			}
			path = strings.TrimSuffix(path, "?newest=true")
			if data, ok := files[path]; ok {
				return data, nil
			}
			return nil, fs.ErrNotExist
		}, o)
		if err != nil {
			t.Fatal(err)
		}
		check("server", r, tt.want)
	}
}

func TestACosignedCheckpointOfAnExportTakesItsProof(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 7, 1, 20, 300, 40)
	all, keys := newWitnesses(t, "a")
	o := verify.Options{Keys: []note.Verifier{l.key.verifier}, Witnesses: cosign.Policy{Witnesses: keys, Need: 1}}
	proof, err := tlog.ProveTree(361, 321, tlog.HashReaderFunc(l.readHashes))
	if err != nil {
		t.Fatal(err)
	}
	wrong := slices.Clone(proof)
	wrong[0][0] ^= 1
	for name, extends := range map[string]tlog.TreeProof{"none": nil, "wrong": wrong, "short": proof[1:], "long": append(slices.Clone(proof), tlog.Hash{})} {
		for _, lines := range [][]string{l.export(t), l.filtered(t, 3)} {
			last := &lines[len(lines)-1]
			var tr trail.Trailer
			if err := json.Unmarshal([]byte(*last), &tr); err != nil {
				t.Fatal(err)
			}
			tr.Cosigned, tr.Extends = string(cosigned(t, l.pools[2], all[0])), extends
			text, err := json.Marshal(tr)
			if err != nil {
				t.Fatal(err)
			}
			*last = string(text) + "\n"
			if r := checkExport(t, lines, o); r.OK() || r.Witnessed != nil {
				t.Errorf("proof %s: %+v", name, r.Witnessed)
			}
		}
	}
}

func TestAnExportWithoutCheckpointIsNotWitnessed(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 7, 1, 20)
	_, keys := newWitnesses(t, "a")
	lines := l.export(t)
	r := checkExport(t, lines[:len(lines)-1], verify.Options{Witnesses: cosign.Policy{Witnesses: keys, Need: 1}})
	if got := findings(r); !slices.Equal(got, []found{{verify.Unwitnessed, -1}}) {
		t.Errorf("found\n%s", describe(r))
	}
}

func TestEveryByteOfTheCosignedFileIsWatched(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 7, 1, 5, 4)
	all, keys := newWitnesses(t, "a", "witness.example/b")
	i := l.image(t)
	i[cosign.File] = cosigned(t, l.pools[1], all...)
	dir := i.write(t)
	o := verify.Options{Keys: []note.Verifier{l.key.verifier}, Witnesses: cosign.Policy{Witnesses: keys, Need: 2}}
	if r := checkDir(t, dir, o); !r.OK() {
		t.Fatal(describe(r))
	}
	path := filepath.Join(dir, cosign.File)
	write := func(text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for at := range i[cosign.File] {
		for _, bit := range []byte{1, 4, 32, 128} {
			text := bytes.Clone(i[cosign.File])
			text[at] ^= bit
			write(text)
			if r := checkDir(t, dir, o); r.OK() {
				t.Errorf("bit %d of byte %d of %q is not missed", bit, at, text)
			}
		}
		write(i[cosign.File][:at])
		if r := checkDir(t, dir, o); r.OK() {
			t.Errorf("cut off at byte %d, it is good", at)
		}
	}
}
