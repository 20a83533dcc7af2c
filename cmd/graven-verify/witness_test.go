package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/trail"
)

func newWitness(t *testing.T, seed byte) *cosign.Cosigner {
	t.Helper()
	text, err := cosign.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)), "witness.example/"+string('a'+seed))
	if err != nil {
		t.Fatal(err)
	}
	c, err := cosign.NewCosigner(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cosigned returns a signed note with a witness's signature.
func cosigned(t *testing.T, signed []byte, by ...*cosign.Cosigner) []byte {
	t.Helper()
	text := string(signed[:bytes.Index(signed, []byte("\n\n"))+1])
	signed = bytes.Clone(signed)
	for _, w := range by {
		line, err := note.Sign(&note.Note{Text: text}, w)
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, line[len(text)+1:]...)
	}
	return signed
}

func TestWitnessesAreHeldAgainstThePolicy(t *testing.T) {
	dir, vkey, export, filtered := record(t, 20)
	fork, _, _, _ := record(t, 20)
	a, b, c := newWitness(t, 1), newWitness(t, 2), newWitness(t, 3)
	keyFile := filepath.Join(t.TempDir(), "b.vkey")
	if err := os.WriteFile(keyFile, []byte(b.Witness.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newest, err := os.ReadFile(tip(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(tip(t, fork))
	if err != nil {
		t.Fatal(err)
	}
	old, proof := older(t, dir)
	ab := []string{"--witness", a.Witness.String(), "--witness", keyFile}
	good := cosigned(t, old, a, b)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-20] ^= 2
	for _, tt := range []struct {
		name string
		text []byte
		args []string
		code int
		want string
	}{
		{"both of two", good, ab, 0, "by 2 of 2"},
		{"the newest", cosigned(t, newest, a, b), ab, 0, "witnessed up to entry 20 by 2 of 2"},
		{"entries behind", good, ab, 0, "are not witnessed yet"},
		{"one of two", cosigned(t, old, a), append(ab, "--threshold", "1"), 0, "by 1 of 2"},
		{"one, where two should", cosigned(t, old, a, c), ab, 3, "2 of 2 witnesses should have"},
		{"nothing", nil, ab, 3, "no checkpoint that witnesses have cosigned"},
		{"nothing, and nothing asked for", nil, nil, 0, "GOOD"},
		{"a false signature", damaged, ab, 3, "WRONG the cosigned checkpoint"},
		{"another ledger's", cosigned(t, foreign, a, b), nil, 3, "WRONG the cosigned checkpoint"},
		{"noise", []byte("noise"), nil, 3, "WRONG the cosigned checkpoint"},
	} {
		path := filepath.Join(dir, cosign.File)
		if tt.text == nil {
			os.Remove(path)
		} else if err := os.WriteFile(path, tt.text, 0o600); err != nil {
			t.Fatal(err)
		}
		targets := []string{dir}
		for _, from := range []string{export, filtered} {
			to := filepath.Join(t.TempDir(), filepath.Base(from))
			targets = append(targets, to)
			extends := proof
			if c, err := trail.ReadCheckpoint(tt.text); err == nil && c.Size == 21 {
				extends = nil
			}
			addCosigned(t, from, to, string(tt.text), extends)
		}
		for _, target := range targets {
			if code, text := verdict(append([]string{target, "--key", vkey}, tt.args...)...); code != tt.code || !strings.Contains(text, tt.want) {
				t.Errorf("%s: %s: exit code %d, want %d, and %q in:\n%s", tt.name, filepath.Base(target), code, tt.code, tt.want, text)
			}
		}
	}
	for _, args := range [][]string{{"--witness", "x"}, {"--threshold", "1"}, append(ab, "--threshold", "3"), append(ab, "--witness", a.Witness.String())} {
		if code, text := verdict(append([]string{dir}, args...)...); code != 2 || !strings.Contains(text, "--witness") {
			t.Errorf("%q: exit code %d: %s", args, code, text)
		}
	}
	// A fork's checkpoint, cosigned or not, is not one of the ledger's.
	addCosigned(t, export, export, string(good), append(tlog.TreeProof{{1}}, proof...))
	if code, text := verdict(append([]string{export, "--key", vkey}, ab...)...); code != 3 || !strings.Contains(text, "not shown to extend it") {
		t.Errorf("exit code %d: %s", code, text)
	}
}

// older returns the checkpoint of half of a directory's entries, as the log has
// it, and the proof that the newest extends it.
func older(t *testing.T, dir string) ([]byte, tlog.TreeProof) {
	t.Helper()
	v := &verifier{out: new(bytes.Buffer), roots: map[int64][]known{}}
	var found []byte
	var hashes []tlog.Hash
	paths, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("audit.example/test\n11\n"))
	if at < 0 {
		t.Fatal("no checkpoint of 11 entries")
	}
	end := at + bytes.Index(data[at:], []byte("\n\n")) + 2
	found = bytes.Clone(data[at : end+bytes.IndexByte(data[end:], '\n')+1])
	n := int64(0)
	if err := v.segment(paths[0], true, func(level int, _ int64, h tlog.Hash) {
		if level == 0 {
			more, err := tlog.StoredHashesForRecordHash(n, h, tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, _ error) {
				for _, x := range indexes {
					out = append(out, hashes[x])
				}
				return out, nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, more...)
			n++
		}
	}); err != nil {
		t.Fatal(err)
	}
	proof, err := tlog.ProveTree(n, 11, tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, _ error) {
		for _, x := range indexes {
			out = append(out, hashes[x])
		}
		return out, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return found, proof
}

// addCosigned writes an export with a cosigned checkpoint in its last line.
func addCosigned(t *testing.T, from, to, text string, extends tlog.TreeProof) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	var last trail.Trailer
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil {
		t.Fatal(err)
	}
	if last.Cosigned = text; text != "" {
		last.Extends = extends
	}
	if lines[len(lines)-1], err = json.Marshal(last); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, append(bytes.Join(lines, nil), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}
