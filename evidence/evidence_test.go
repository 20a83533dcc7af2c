package evidence_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/evidence"
	"github.com/graven-audit/graven/trail"
)

// A forest keeps all hashes of a tree.
type forest []tlog.Hash

func (f forest) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		list[i] = f[index]
	}
	return list, nil
}

func TestASpanGivesTheRootOfTheWholeTree(t *testing.T) {
	var all forest
	var entries [][]byte
	for n := range int64(70) {
		entry := fmt.Appendf(nil, "entry %d", n)
		entries = append(entries, entry)
		added, err := tlog.StoredHashes(n, entry, all)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, added...)
	}
	root, err := tlog.TreeHash(70, all)
	if err != nil {
		t.Fatal(err)
	}
	for first := range int64(71) {
		s, err := evidence.NewSpan(all, first, 70)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = evidence.ParseSpan(text); err != nil {
			t.Fatal(err)
		}
		var bundle []byte
		for _, entry := range entries[first:] {
			bundle = trail.AppendBundled(bundle, entry)
		}
		next := first
		got, err := s.Root(bytes.NewReader(bundle), func(index int64, entry []byte) error {
			if index != next || string(entry) != string(entries[index]) {
				t.Fatalf("entry %d is %q", index, entry)
			}
			next++
			return nil
		})
		if err != nil || got != root {
			t.Errorf("from %d on the root is %v, %v; want %v", first, got, err, root)
		}
		nothing := func(int64, []byte) error { return nil }
		for what, bad := range map[string][]byte{"cut": bundle[:max(len(bundle)-1, 0)], "longer": append(bytes.Clone(bundle), 0, 1, 'x')} {
			if _, err := s.Root(bytes.NewReader(bad), nothing); err == nil && len(bad) != len(bundle) {
				t.Errorf("from %d on, %s: taken", first, what)
			}
		}
		if len(bundle) > 0 {
			changed := bytes.Clone(bundle)
			changed[len(changed)-1] ^= 1
			if got, err := s.Root(bytes.NewReader(changed), nothing); err == nil && got == root {
				t.Errorf("from %d on: a changed entry gives the same root", first)
			}
		}
		if len(s.Edge) > 0 {
			for i := range s.Edge { // not all of them count
				s.Edge[i][0] ^= 1
			}
			if got, err := s.Root(bytes.NewReader(bundle), nothing); err == nil && got == root {
				t.Errorf("from %d on: another edge gives the same root", first)
			}
		}
	}
	for _, text := range []string{`{}x`, `{"first":5,"size":3,"edge":[]}`, `{"first":-1,"size":3,"edge":[]}`, `{"first":1,"size":3,"edge":[],"x":1}`, ``} {
		if _, err := evidence.ParseSpan([]byte(text)); err == nil {
			t.Errorf("%q is taken for a span", text)
		}
	}
}

func TestAStatementIsWhatItsKeySigned(t *testing.T) {
	secret, public, err := note.GenerateKey(rand.Reader, "example.org/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.NewStatement(evidence.PackageType, []evidence.Subject{evidence.Digest("a.csv", [32]byte{1})}, evidence.Contents{Events: 3})
	if err != nil {
		t.Fatal(err)
	}
	plain, signed, err := evidence.Sign(s, signer)
	if err != nil {
		t.Fatal(err)
	}
	got, text, err := evidence.Open(signed, key)
	if err != nil || !bytes.Equal(text, plain) {
		t.Fatalf("opened: %v", err)
	}
	if c, err := got.Contents(); err != nil || c.Events != 3 {
		t.Errorf("contents are %+v, %v", c, err)
	}
	_, other, err := note.GenerateKey(rand.Reader, "example.org/ledger")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := note.NewVerifier(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := evidence.Open(signed, stranger); err == nil {
		t.Error("another's key opens it")
	}
	var e evidence.Envelope
	if err := json.Unmarshal(signed, &e); err != nil {
		t.Fatal(err)
	}
	for i := range signed { // whatever is changed, it is no other statement
		bad := bytes.Clone(signed)
		bad[i] ^= 1
		if _, text, err := evidence.Open(bad, key); err == nil && !bytes.Equal(text, plain) {
			t.Fatalf("byte %d changed, and another statement is taken", i)
		}
	}
	for _, name := range []string{"", "/etc/passwd", "../x", `..\x`} {
		s.Subject[0].Name = name
		if _, signed, err := evidence.Sign(s, signer); err != nil {
			t.Fatal(err)
		} else if _, _, err := evidence.Open(signed, key); err == nil || !strings.Contains(err.Error(), "file name") {
			t.Errorf("a file called %q: %v", name, err)
		}
	}
}
