package trail_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/testkey"
	"github.com/graven-audit/graven/trail"
)

const origin = "ledger.example/prod"

func sign(t testing.TB, size int64, root trail.Hash, signers ...note.Signer) *trail.Checkpoint {
	t.Helper()
	c, err := trail.SignCheckpoint(origin, size, root, signers[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(signers) > 1 {
		if c.Note, err = note.Sign(&note.Note{Text: c.Text()}, signers...); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestACheckpointIsReadAsItIsSigned(t *testing.T) {
	t.Parallel()
	signer, verifier, _ := testkey.New(t, origin)
	root := trail.LeafHash([]byte("x"))
	for _, size := range []int64{0, 1, 1 << 40, 1 << 60} {
		c := sign(t, size, root, signer)
		if want := origin + "\n"; !strings.HasPrefix(string(c.Note), want) || !strings.Contains(string(c.Note), "\n\n— "+origin+" ") {
			t.Errorf("note %q", c.Note)
		}
		for what, read := range map[string]func() (*trail.Checkpoint, error){
			"opened": func() (*trail.Checkpoint, error) { return trail.OpenCheckpoint(c.Note, verifier) },
			"read":   func() (*trail.Checkpoint, error) { return trail.ReadCheckpoint(c.Note) },
		} {
			got, err := read()
			if err != nil || got.Origin != origin || got.Size != size || got.Root != root || string(got.Note) != string(c.Note) {
				t.Errorf("%s: %+v, %v", what, got, err)
			}
		}
	}
}

func TestACheckpointIsOpenedOnlyWithAGoodSignatureOfItsOrigin(t *testing.T) {
	t.Parallel()
	signer, verifier, _ := testkey.New(t, origin)
	second, secondVerifier, _ := testkey.New(t, origin)
	_, other, _ := testkey.New(t, origin)
	witness, witnessVerifier, _ := testkey.New(t, "witness.example")
	root := trail.LeafHash([]byte("x"))
	good := sign(t, 7, root, signer)
	both := sign(t, 7, root, second, signer)
	witnessed := sign(t, 7, root, signer, witness)
	change := func(c *trail.Checkpoint, at int) []byte {
		b := []byte(string(c.Note))
		b[at] ^= 1
		return b
	}
	end := len(good.Note)
	resigned := []byte(string(good.Note))
	resigned[end-20] = map[bool]byte{true: 'A', false: 'B'}[resigned[end-20] != 'A']
	tests := []struct {
		name string
		note []byte
		keys []note.Verifier
		want string // of the error; "" for none
	}{
		{"by the key", good.Note, []note.Verifier{verifier}, ""},
		{"by one of the keys", good.Note, []note.Verifier{other, verifier}, ""},
		{"by two keys of which one is known", both.Note, []note.Verifier{verifier}, ""},
		{"by two keys", both.Note, []note.Verifier{secondVerifier, verifier}, ""},
		{"with a witness that is not known", witnessed.Note, []note.Verifier{verifier}, ""},
		{"by another key of that name", good.Note, []note.Verifier{other}, trail.ErrUnsigned.Error()},
		{"by a witness only", witnessed.Note, []note.Verifier{witnessVerifier}, trail.ErrUnsigned.Error()},
		{"without keys", good.Note, nil, trail.ErrUnsigned.Error()},
		{"with another origin", change(good, 0), []note.Verifier{verifier}, "invalid signature"},
		{"with another size", change(good, len(origin)+1), []note.Verifier{verifier}, "invalid signature"},
		{"with another signature", resigned, []note.Verifier{verifier}, "invalid signature"},
		{"with other unused bits in the signature", change(good, end-3), []note.Verifier{verifier}, "malformed signature"},
		{"without the last newline", good.Note[:end-1], []note.Verifier{verifier}, "malformed"},
		{"with a control character", append(good.Note[:end-2:end-2], '\r', '=', '\n'), []note.Verifier{verifier}, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := trail.OpenCheckpoint(tt.note, tt.keys...)
			switch {
			case tt.want == "" && (err != nil || c.Size != 7):
				t.Errorf("%+v, %v", c, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			case tt.want == trail.ErrUnsigned.Error() && !errors.Is(err, trail.ErrUnsigned):
				t.Errorf("error %v is not ErrUnsigned", err)
			}
		})
	}
}

func TestMalformedCheckpointsAreRefused(t *testing.T) {
	t.Parallel()
	signer, verifier, _ := testkey.New(t, origin)
	hash := "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	for _, text := range []string{
		"", "\n", origin + "\n", origin + "\n1\n", "\n1\n" + hash + "\n",
		origin + "\n-1\n" + hash + "\n", origin + "\n01\n" + hash + "\n", origin + "\n+1\n" + hash + "\n", origin + "\n1 \n" + hash + "\n",
		origin + "\n9223372036854775808\n" + hash + "\n", origin + "\n1152921504606846977\n" + hash + "\n", origin + "\n\n" + hash + "\n",
		origin + "\n1\n" + hash[1:] + "\n", origin + "\n1\nAAAA\n", origin + "\n1\n?" + hash[1:] + "\n",
	} {
		signed := []byte(text + "\n— x AAAAAAAA\n")
		if text != "" && strings.HasSuffix(text, "\n") {
			var err error
			if signed, err = note.Sign(&note.Note{Text: text}, signer); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := trail.ReadCheckpoint(signed); err == nil {
			t.Errorf("%q was read as %+v", text, c)
		}
		if c, err := trail.OpenCheckpoint(signed, verifier); err == nil {
			t.Errorf("%q was opened as %+v", text, c)
		}
	}
	if _, err := trail.ReadCheckpoint([]byte(origin + "\n1\n" + hash + "\n")); err == nil {
		t.Error("a checkpoint without signatures was read")
	}
}

func TestACheckpointMayHaveFurtherLines(t *testing.T) {
	t.Parallel()
	signer, verifier, _ := testkey.New(t, origin)
	signed, err := note.Sign(&note.Note{Text: sign(t, 3, trail.Hash{1}, signer).Text() + "more\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := trail.OpenCheckpoint(signed, verifier); err != nil || c.Size != 3 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAKeyHasOneSpelling(t *testing.T) {
	t.Parallel()
	_, verifier, vkey := testkey.New(t, origin)
	v, err := trail.ParseKey(vkey)
	if err != nil || trail.KeyID(v) != trail.KeyID(verifier) || !strings.HasPrefix(vkey, trail.KeyID(v)+"+") {
		t.Errorf("%v, %v", v, err)
	}
	name, rest, _ := strings.Cut(vkey, "+")
	hash, key, _ := strings.Cut(rest, "+")
	upper := strings.ToUpper(hash)
	if upper == hash { // without a letter
		upper += "0"
	}
	for _, bad := range []string{"", "x", vkey + "\n", " " + vkey, name + "+" + upper + "+" + key, name + "x+" + hash + "+" + key, name + "+" + hash + "+" + key[:4] + "\n" + key[4:]} {
		if v, err := trail.ParseKey(bad); err == nil {
			t.Errorf("%q was read as %v", bad, trail.KeyID(v))
		}
	}
}

func FuzzReadCheckpoint(f *testing.F) {
	signer, verifier, _ := testkey.New(f, origin)
	f.Add(sign(f, 7, trail.Hash{1}, signer).Note)
	f.Add([]byte("a\n1\nb\n\n— a b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := trail.ReadCheckpoint(text)
		if err == nil && (c.Size < 0 || !strings.HasPrefix(string(text), c.Text())) {
			t.Errorf("%q was read as %+v", text, c)
		}
		opened, openErr := trail.OpenCheckpoint(text, verifier)
		if openErr == nil && (err != nil || opened.Size != c.Size || opened.Root != c.Root) {
			t.Errorf("%q was opened as %+v and read as %+v", text, opened, c)
		}
	})
}
