package cosign_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/cosign"
)

const text = "ledger.example/prod\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"

func newCosigner(t testing.TB, name string, now func() time.Time) *cosign.Cosigner {
	t.Helper()
	key, err := cosign.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cosign.NewCosigner(key, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sign(t testing.TB, text string, signers ...note.Signer) []byte {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// TestACosignatureIsAsC2SPSays puts one together by the words of the
// specification.
func TestACosignatureIsAsC2SPSays(t *testing.T) {
	t.Parallel()
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	private := ed25519.NewKeyFromSeed(seed)
	key, err := cosign.GenerateKey(bytes.NewReader(seed), "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := cosign.NewCosigner(key, func() time.Time { return time.Unix(1679315147, 999) })
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := note.NewEd25519VerifierKey("witness.example/w1", private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if c.String() == vkey || !strings.HasPrefix(c.String(), "witness.example/w1+") {
		t.Errorf("key %s", c)
	}
	message := "cosignature/v1\ntime 1679315147\n" + text
	want := binary.BigEndian.AppendUint32(nil, c.KeyHash())
	want = binary.BigEndian.AppendUint64(want, 1679315147)
	want = append(want, ed25519.Sign(private, []byte(message))...)
	if line := "\n— witness.example/w1 " + base64.StdEncoding.EncodeToString(want) + "\n"; !strings.HasSuffix(string(sign(t, text, c)), line) {
		t.Errorf("signed %s, want %s", sign(t, text, c), line)
	}
	w, err := cosign.ParseWitness(c.String())
	if err != nil || w.String() != c.String() || w.ID() != fmt.Sprintf("%s+%08x", w.Name(), w.KeyHash()) {
		t.Fatal(w, err)
	}
	if n, err := note.Open(sign(t, text, c), note.VerifierList(w)); err != nil || n.Text != text {
		t.Error(n, err)
	}
	sig, err := c.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sig {
		for bit := range 8 {
			sig[i] ^= 1 << bit
			if w.Verify([]byte(text), sig) {
				t.Errorf("bit %d of byte %d does not count", bit, i)
			}
			sig[i] ^= 1 << bit
		}
	}
	for _, short := range [][]byte{nil, sig[:71], append(bytes.Clone(sig), 0)} {
		if w.Verify([]byte(text), short) {
			t.Errorf("a signature of %d bytes is good", len(short))
		}
	}
}

func TestMalformedWitnessKeysAreRefused(t *testing.T) {
	t.Parallel()
	c := newCosigner(t, "w", nil)
	good := c.String()
	name, rest, _ := strings.Cut(good, "+")
	hash, encoded, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	typed := func(kind byte, n int) string {
		return name + "+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{kind}, raw[1:n]...))
	}
	_, ledger, err := note.GenerateKey(rand.Reader, "ledger.example")
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{
		"nothing":                 "",
		"no hash":                 name,
		"no key":                  name + "+" + hash,
		"no name":                 "+" + rest,
		"a space in the name":     "a b+" + rest,
		"another name":            "v+" + rest,
		"another hash":            name + "+00000000+" + encoded,
		"a hash in upper case":    name + "+ABCDEF01+" + encoded,
		"not base64":              name + "+" + hash + "+" + encoded[:len(encoded)-1] + "!",
		"another spelling":        good + "\n",
		"no bytes":                name + "+" + hash + "+",
		"a ledger's key":          ledger,
		"a key for ML-DSA":        typed(6, len(raw)),
		"a key that is too short": typed(4, len(raw)-1),
	} {
		if w, err := cosign.ParseWitness(bad); err == nil {
			t.Errorf("%s: %s", what, w)
		}
		if _, err := cosign.NewCosigner("PRIVATE+KEY+"+bad, nil); err == nil {
			t.Errorf("%s, as a private key", what)
		}
	}
	if _, err := cosign.NewCosigner(good, nil); err == nil {
		t.Error("a public key signs")
	}
	for _, name := range []string{"", "a b", "a+b", "a\nb"} {
		if key, err := cosign.GenerateKey(rand.Reader, name); err == nil {
			t.Errorf("a key is called %q: %s", name, key)
		}
	}
	if _, err := cosign.GenerateKey(bytes.NewReader(nil), "w"); err == nil {
		t.Error("a key without randomness")
	}
	early := newCosigner(t, "w", func() time.Time { return time.Unix(-1, 0) })
	if _, err := early.Sign([]byte(text)); err == nil {
		t.Error("signed before 1970")
	}
}

func TestAPolicyCountsItsWitnessesOnce(t *testing.T) {
	t.Parallel()
	skey, _, err := note.GenerateKey(rand.Reader, "ledger.example/prod")
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := newCosigner(t, "a", nil), newCosigner(t, "b", nil), newCosigner(t, "c", nil)
	policy := cosign.Policy{Witnesses: []*cosign.Witness{a.Witness, b.Witness}, Need: 2}
	if err := policy.Check(); err != nil {
		t.Fatal(err)
	}
	later := sign(t, text, a) // a signs twice, at different times or not
	twice := append(sign(t, text, ledger, a), later[len(text)+1:]...)
	false1 := sign(t, "other"+text, a)
	forged := append(sign(t, text, ledger, b), false1[len("other"+text)+1:]...)
	for _, tt := range []struct {
		name   string
		signed []byte
		want   string
		err    bool
	}{
		{"nobody", sign(t, text, ledger), "", false},
		{"one", sign(t, text, ledger, a), "a", false},
		{"both, in the policy's order", sign(t, text, b, ledger, a), "a b", false},
		{"a stranger", sign(t, text, ledger, c), "", false},
		{"one, twice", twice, "a", false},
		{"one, and a false signature by the other", forged, "", true},
		{"no note", []byte("x"), "", true},
	} {
		by, err := policy.Cosigned(tt.signed)
		var names []string
		for _, w := range by {
			names = append(names, w.Name())
		}
		if strings.Join(names, " ") != tt.want || (err != nil) != tt.err {
			t.Errorf("%s: by %q, %v", tt.name, names, err)
		}
	}
	if by, err := (cosign.Policy{}).Cosigned(sign(t, text, a)); by != nil || err != nil {
		t.Error(by, err)
	}
}

func TestAPolicyThatCannotBeMetIsRefused(t *testing.T) {
	t.Parallel()
	a, b := newCosigner(t, "a", nil), newCosigner(t, "b", nil)
	// One key under two names would count as two witnesses.
	other, err := cosign.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{1}, 32)), "x")
	if err != nil {
		t.Fatal(err)
	}
	same, err := cosign.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{1}, 32)), "y")
	if err != nil {
		t.Fatal(err)
	}
	x, err1 := cosign.NewCosigner(other, nil)
	y, err2 := cosign.NewCosigner(same, nil)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		witnesses []*cosign.Witness
		need      int
		ok        bool
	}{
		{"nothing asked for", nil, 0, true},
		{"one of two", []*cosign.Witness{a.Witness, b.Witness}, 1, true},
		{"two of two", []*cosign.Witness{a.Witness, b.Witness}, 2, true},
		{"none of two", []*cosign.Witness{a.Witness, b.Witness}, 0, false},
		{"three of two", []*cosign.Witness{a.Witness, b.Witness}, 3, false},
		{"less than none", []*cosign.Witness{a.Witness}, -1, false},
		{"one of none", nil, 1, false},
		{"a key twice", []*cosign.Witness{a.Witness, a.Witness}, 1, false},
		{"a key under two names", []*cosign.Witness{x.Witness, y.Witness}, 2, false},
	} {
		if err := (cosign.Policy{Witnesses: tt.witnesses, Need: tt.need}).Check(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzParseWitness(f *testing.F) {
	f.Add(newCosigner(f, "witness.example/w1", nil).String())
	f.Add("a+00000000+BAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if w, err := cosign.ParseWitness(text); err == nil && w.String() != text {
			t.Errorf("%q is read as %q", text, w)
		}
	})
}

// FuzzCosigned asks who has cosigned a note. Who is named has signed the text.
func FuzzCosigned(f *testing.F) {
	one := newCosigner(f, "witness.example/w1", func() time.Time { return time.Unix(1679315147, 0) })
	two := newCosigner(f, "witness.example/w2", func() time.Time { return time.Unix(1, 0) })
	good := sign(f, text, one, two)
	f.Add(good)
	f.Add(sign(f, text, one))
	f.Add(bytes.Replace(good, []byte("w2"), []byte("w1"), 1))
	f.Add(append(bytes.Clone(good), good[len(text)+1:]...))
	f.Add([]byte(text + "\n— witness.example/w1 AAAAAAAA\n"))
	f.Add([]byte(text))
	p := cosign.Policy{Witnesses: []*cosign.Witness{one.Witness, two.Witness}, Need: 1}
	f.Fuzz(func(t *testing.T, signed []byte) {
		by, err := p.Cosigned(signed)
		if err == nil && len(by) > 0 && !bytes.HasPrefix(signed, []byte(text+"\n— ")) {
			t.Errorf("%q has cosigned %q", by[0], signed)
		}
		if len(by) > len(p.Witnesses) || len(by) == 2 && by[0] == by[1] {
			t.Errorf("%d witnesses have cosigned", len(by))
		}
	})
}
