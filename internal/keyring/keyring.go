// Package keyring keeps the ledger's signing key in a directory.
package keyring

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// Keys are a ledger's key pair. The name of both is the ledger's origin.
type Keys struct {
	Signer   note.Signer
	Verifier note.Verifier
	// VerifierKey is the public half in its text form (C2SP signed-note).
	VerifierKey string
	// Unused is set until [MarkUsed]: nothing was signed yet. A used key
	// without its ledger must not begin another, which would be a fork.
	Unused bool
}

// unusedFile stands beside keys that have signed nothing.
const unusedFile = "keys/unused"

// ErrNone means that there are no keys yet.
var ErrNone = errors.New("no keys")

// Load reads the keys of the ledger in the data directory dir.
func Load(dir string) (*Keys, error) {
	skey, err := read(filepath.Join(dir, datadir.KeyFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	vkey, err := read(filepath.Join(dir, trail.VKeyFile))
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	k, err := parse(skey, vkey)
	if err != nil {
		return nil, fmt.Errorf("load keys from %s: %w", filepath.Join(dir, filepath.Dir(datadir.KeyFile)), err)
	}
	_, err = os.Stat(filepath.Join(dir, unusedFile))
	k.Unused = err == nil
	return k, nil
}

// Public reads the public key alone of the ledger in dir. The signer signs
// nothing.
func Public(dir string) (*Keys, error) {
	text, err := read(filepath.Join(dir, trail.VKeyFile))
	if err == nil {
		err = checkKind(text)
	}
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	v, err := trail.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("load keys: %s: %w", trail.VKeyFile, err)
	}
	return &Keys{Signer: mute{v}, Verifier: v, VerifierKey: text}, nil
}

// A mute signer has a name only.
type mute struct{ note.Verifier }

func (mute) Sign([]byte) ([]byte, error) { return nil, errors.New("there is no key to sign with") }

// MarkUsed remembers, durably, that the keys in dir have signed something.
func MarkUsed(dir string) error {
	path := filepath.Join(dir, unusedFile)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil // keys may stand where nothing can be removed, as in a cluster's Secret
	}
	err := os.Remove(path)
	if err == nil {
		err = seglog.OS{}.SyncDir(filepath.Join(dir, filepath.Dir(unusedFile)))
	}
	if err != nil {
		return fmt.Errorf("mark keys as used: %w", err)
	}
	return nil
}

// Create makes the keys of a new ledger in dir. An empty origin stands for one
// made up at random.
func Create(dir, origin string) (*Keys, error) {
	if origin == "" {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, fmt.Errorf("create keys: %w", err)
		}
		origin = "graven.local/" + hex.EncodeToString(b[:])
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, fmt.Errorf("create keys: %w", err)
	}
	k, err := parse(skey, vkey)
	if err != nil {
		return nil, fmt.Errorf("create keys: the origin %q will not do: %w", origin, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(datadir.KeyFile)), 0o700); err != nil {
		return nil, fmt.Errorf("create keys: %w", err)
	}
	k.Unused = true
	for _, f := range []struct{ name, text string }{{unusedFile, ""}, {trail.VKeyFile, vkey}, {datadir.KeyFile, skey}} {
		// The signing key comes last: with it the pair is there.
		if err := seglog.WriteFile(seglog.OS{}, filepath.Join(dir, f.name), []byte(f.text+"\n")); err != nil {
			return nil, fmt.Errorf("create keys: %w", err)
		}
	}
	return k, nil
}

// ed25519 marks the only kind of key that this version knows.
const ed25519 = 1

// checkKind refuses keys of a kind that a later version may have made. What is
// wrong with them otherwise is for note to say.
func checkKind(texts ...string) error {
	for _, text := range texts {
		parts := strings.SplitN(strings.TrimPrefix(text, "PRIVATE+KEY+"), "+", 3) // name, hash, and in base64 kind and key
		data, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
		if err == nil && len(data) > 0 && data[0] != ed25519 && len(parts) == 3 {
			return datadir.Newer("a key is", data[0], ed25519)
		}
	}
	return nil
}

func parse(skey, vkey string) (*Keys, error) {
	if err := checkKind(skey, vkey); err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if signer.Name() != verifier.Name() || signer.KeyHash() != verifier.KeyHash() {
		return nil, errors.New("the public key is not that of the signing key")
	}
	return &Keys{Signer: signer, Verifier: verifier, VerifierKey: vkey}, nil
}

func read(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}
