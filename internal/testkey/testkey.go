// Package testkey gives tests the keys of ledgers.
package testkey

import (
	"crypto/rand"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// New makes the key of a ledger: what signs, what verifies, and its public half as
// text.
func New(t testing.TB, origin string) (note.Signer, note.Verifier, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier, vkey
}
