package trail_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/testkey"
	"github.com/graven-audit/graven/trail"
)

func TestAProofShowsItsEntryAndNoOther(t *testing.T) {
	t.Parallel()
	signer, verifier, _ := testkey.New(t, origin)
	var all stored
	var tree trail.Tree
	const size = 37
	for n := range int64(size) {
		entry := fmt.Appendf(nil, "entry %d", n)
		hashes, err := tlog.StoredHashes(n, entry, &all)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hashes...)
		tree.Append(trail.LeafHash(entry), nil)
	}
	c := sign(t, size, tree.Root(), signer)
	for n := range int64(size) {
		hashes, err := tlog.ProveRecord(size, n, &all)
		if err != nil {
			t.Fatal(err)
		}
		p := &trail.Proof{Index: n, Hashes: hashes, Checkpoint: c.Note}
		if n%2 == 1 {
			p.Extra = []byte("extra data")
		}
		text := p.Marshal()
		if again, err := trail.ParseProof(text); err != nil || string(again.Marshal()) != string(text) || string(again.Extra) != string(p.Extra) {
			t.Fatalf("%+v, %v", again, err)
		} else {
			p = again
		}
		for m := range int64(size) {
			got, err := p.Verify(fmt.Appendf(nil, "entry %d", m), verifier)
			if (err == nil) != (n == m) || n == m && got.Size != size {
				t.Errorf("the proof of entry %d for entry %d: %v", n, m, err)
			}
		}
		if _, err := p.Verify(fmt.Appendf(nil, "entry %d", n)); err == nil {
			t.Error("a proof was verified without a key")
		}
		p.Index = size
		if _, err := p.Verify(fmt.Appendf(nil, "entry %d", n), verifier); err == nil {
			t.Error("a proof beyond the checkpoint was verified")
		}
	}
}

func TestAProofHasTheFormOfC2SP(t *testing.T) {
	t.Parallel()
	p := &trail.Proof{Index: 7, Hashes: tlog.RecordProof{{1}}, Extra: []byte("hi"), Checkpoint: []byte("a\n1\nb\n\n— a c\n")}
	want := "c2sp.org/tlog-proof@v1\nextra aGk=\nindex 7\nAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\na\n1\nb\n\n— a c\n"
	if got := string(p.Marshal()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Extra, p.Hashes = nil, nil
	if got, want := string(p.Marshal()), "c2sp.org/tlog-proof@v1\nindex 7\n\na\n1\nb\n\n— a c\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMalformedProofsAreRefused(t *testing.T) {
	t.Parallel()
	head := "c2sp.org/tlog-proof@v1\n"
	hash := "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	for _, text := range []string{
		"", head, head + "index 1\n", head + "\nindex 1\n\n", "c2sp.org/tlog-proof@v2\nindex 1\n\nx", head + "index -1\n\nx", head + "index 01\n\nx", head + "index \n\nx",
		head + "extra ?\nindex 1\n\nx", head + "extra aGk=\n\nx", head + "extra aGk=\nextra aGk=\nindex 1\n\nx", head + "index 1\nAAAA\n\nx", head + "index 1\n" + strings.Replace(hash, "A=", "B=", 1) + "\nx", head + "index 1\nindex 2\n\nx",
		head + "index 99999999999999999999\n\nx", head + "index 1\n" + strings.Repeat(hash, 64) + "\nx",
	} {
		if p, err := trail.ParseProof([]byte(text)); err == nil {
			t.Errorf("%q was read as %+v", text, p)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra aGk=\nindex 7\nAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\na\n1\nb\n\n— a c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := trail.ParseProof(text)
		if err != nil {
			return
		}
		again, err := trail.ParseProof(p.Marshal())
		if err != nil || string(again.Marshal()) != string(p.Marshal()) {
			t.Errorf("%q was read as %+v, and that as %+v (%v)", text, p, again, err)
		}
		_, _ = p.Verify([]byte("entry"))
	})
}
