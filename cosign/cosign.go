// Package cosign is what witnesses sign: the checkpoints of logs that they saw
// grow, so that a log cannot show different histories to different readers
// without their help.
//
// A cosignature (C2SP tlog-cosignature, cosignature/v1, Ed25519) says that at
// a time the witness knew of no greater checkpoint of the log, and of none that
// this one does not extend. In a signed note it is a signature line with 4
// bytes of the key's hash, 8 of the time in seconds, and 64 of signature. A
// [Policy] says how many of which witnesses it takes.
package cosign

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// cosignatureV1 is the type of the keys that make cosignatures (C2SP
// tlog-cosignature), as it stands before the key in texts and in key hashes.
const cosignatureV1 = 4

// File is the name, in a ledger's data directory, of the newest checkpoint that
// enough witnesses have cosigned, with their signatures.
const File = "cosigned"

// A Witness is the public key of one. It implements [note.Verifier].
type Witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// ParseWitness reads a witness's key in exactly the form in which it is
// written: NAME+HASH+BASE64 (C2SP signed-note, key type 4).
func ParseWitness(text string) (*Witness, error) {
	name, hash, key, err := parseWitnessKey(text)
	if err != nil {
		return nil, err
	}
	w := newWitness(name, key)
	if hash != w.hash {
		return nil, errors.New("not a witness's key: its hash is not that of its name and key")
	}
	return w, nil
}

// parseWitnessKey takes NAME+HASH+BASE64 apart. The 32 bytes are a public key,
// or the seed of a private one.
func parseWitnessKey(text string) (name string, hash uint32, key []byte, err error) {
	fail := func(why string) (string, uint32, []byte, error) {
		return "", 0, nil, errors.New("not a witness's key: " + why)
	}
	name, rest, _ := strings.Cut(text, "+")
	digits, encoded, ok := strings.Cut(rest, "+")
	if !ok || name == "" || strings.ContainsFunc(name, notInName) {
		return fail("not of the form NAME+HASH+BASE64")
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || fmt.Sprintf("%08x", n) != digits {
		return fail("its hash is not eight hexadecimal digits")
	}
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err == nil && base64.StdEncoding.EncodeToString(data) != encoded {
		err = errors.New("another spelling")
	}
	switch {
	case err != nil || len(data) == 0:
		return fail("its last part is not base64")
	case data[0] == 1:
		return fail("it is of type 1, as ledgers' are; a witness's is of type 4")
	case data[0] != cosignatureV1 || len(data) != 1+ed25519.PublicKeySize:
		return fail("not one for Ed25519 cosignatures (type 4)")
	}
	return name, uint32(n), data[1:], nil
}

// notInName reports what may not stand in a key's name.
func notInName(r rune) bool {
	return r < ' ' || r == '+' || r == 0x7f || r == utf8.RuneError || unicode.IsSpace(r)
}

func newWitness(name string, key ed25519.PublicKey) *Witness {
	h := sha256.New()
	h.Write(append([]byte(name+"\n"), cosignatureV1))
	h.Write(key)
	return &Witness{name: name, hash: binary.BigEndian.Uint32(h.Sum(nil)), key: key}
}

// Name implements [note.Verifier].
func (w *Witness) Name() string { return w.name }

// KeyHash implements [note.Verifier].
func (w *Witness) KeyHash() uint32 { return w.hash }

// ID returns the name and hash that the witness's signatures bear.
func (w *Witness) ID() string { return fmt.Sprintf("%s+%08x", w.name, w.hash) }

// Verify implements [note.Verifier].
func (w *Witness) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(sig)
	return seconds < 1<<63 && ed25519.Verify(w.key, cosigned(text, seconds), sig[8:])
}

// String returns the key's text.
func (w *Witness) String() string {
	return w.ID() + "+" + base64.StdEncoding.EncodeToString(append([]byte{cosignatureV1}, w.key...))
}

// cosigned returns what a cosignature signs.
func cosigned(text []byte, seconds uint64) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", seconds), text...)
}

// A Cosigner signs as a witness. It implements [note.Signer].
type Cosigner struct {
	*Witness
	private ed25519.PrivateKey
	now     func() time.Time
}

const privateKey = "PRIVATE+KEY+"

// GenerateKey makes the private key of a witness, as [NewCosigner] reads
// it.
func GenerateKey(rand io.Reader, name string) (string, error) {
	if name == "" || strings.ContainsFunc(name, notInName) {
		return "", fmt.Errorf("a witness's name has neither spaces nor plus signs: %.100q", name)
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return "", err
	}
	w := newWitness(name, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	return privateKey + w.ID() + "+" + base64.StdEncoding.EncodeToString(append([]byte{cosignatureV1}, seed...)), nil
}

// NewCosigner reads a witness's private key. The clock now may be nil for
// time.Now.
func NewCosigner(text string, now func() time.Time) (*Cosigner, error) {
	rest, ok := strings.CutPrefix(text, privateKey)
	if !ok {
		return nil, errors.New("not a witness's private key")
	}
	name, hash, seed, err := parseWitnessKey(rest)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	c := &Cosigner{Witness: newWitness(name, private.Public().(ed25519.PublicKey)), private: private, now: now}
	if c.hash != hash {
		return nil, errors.New("private key: its hash is not that of its name and key")
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

// Sign implements [note.Signer].
func (c *Cosigner) Sign(text []byte) ([]byte, error) {
	seconds := c.now().Unix()
	if seconds < 0 {
		return nil, errors.New("the clock stands before 1970")
	}
	sig := binary.BigEndian.AppendUint64(nil, uint64(seconds))
	return append(sig, ed25519.Sign(c.private, cosigned(text, uint64(seconds)))...), nil
}

// A Policy says whose cosignatures make a checkpoint count as witnessed: those
// of any Need of the witnesses. The zero Policy asks for none.
type Policy struct {
	Witnesses []*Witness
	Need      int
}

// Check refuses a policy that cannot be met, and one in which a key stands
// twice, be it under two names: a cosignature does not tell its name, so that
// one witness would count as two.
func (p Policy) Check() error {
	if len(p.Witnesses) == 0 && p.Need == 0 {
		return nil
	}
	if p.Need < 1 || p.Need > len(p.Witnesses) {
		return fmt.Errorf("%d of %d witnesses cannot be asked for", p.Need, len(p.Witnesses))
	}
	for i, w := range p.Witnesses {
		for _, other := range p.Witnesses[:i] {
			if w.key.Equal(other.key) || w.ID() == other.ID() {
				return fmt.Errorf("the key of the witness %s is also that of %s", w.name, other.name)
			}
		}
	}
	return nil
}

// Cosigned returns the policy's witnesses that have cosigned a note, in the
// policy's order. Signatures by others count for nothing; a false one that
// claims to be by one of the policy's witnesses gives an error.
func (p Policy) Cosigned(signed []byte) ([]*Witness, error) {
	var keys []note.Verifier
	for _, w := range p.Witnesses {
		keys = append(keys, w)
	}
	n, err := note.Open(signed, note.VerifierList(keys...))
	var none *note.UnverifiedNoteError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cosignatures: %w", err)
	}
	var by []*Witness
	for _, w := range p.Witnesses {
		for _, s := range n.Sigs {
			if s.Name == w.name && s.Hash == w.hash {
				by = append(by, w)
				break
			}
		}
	}
	return by, nil
}
