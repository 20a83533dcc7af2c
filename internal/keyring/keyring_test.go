package keyring_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/trail"
)

func TestKeysAreLoadedAsTheyWereMade(t *testing.T) {
	dir := t.TempDir()
	if _, err := keyring.Load(dir); !errors.Is(err, keyring.ErrNone) {
		t.Fatalf("a new directory: %v", err)
	}
	made, err := keyring.Create(dir, "audit.example.com/prod")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := keyring.Load(dir)
	if err != nil || loaded.VerifierKey != made.VerifierKey || !made.Unused || !loaded.Unused {
		t.Fatalf("%+v, %v", loaded, err)
	}
	for range 2 {
		if err := keyring.MarkUsed(dir); err != nil {
			t.Fatal(err)
		}
		if used, err := keyring.Load(dir); err != nil || used.Unused {
			t.Errorf("once used, they are %+v, %v", used, err)
		}
	}
	signed, err := note.Sign(&note.Note{Text: "hello\n"}, loaded.Signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(made.Verifier)); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(made.VerifierKey, "audit.example.com/prod+") {
		t.Errorf("the key is named %s", made.VerifierKey)
	}
	for _, name := range []string{datadir.KeyFile, trail.VKeyFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAnOriginThatNoNoteCanBearIsRefused(t *testing.T) {
	for _, origin := range []string{"a b", "a+b", "a\nb", "\xff"} {
		dir := t.TempDir()
		if _, err := keyring.Create(dir, origin); err == nil || !strings.Contains(err.Error(), "origin") {
			t.Errorf("%q: %v", origin, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%q left %v, %v", origin, left, err)
		}
	}
}

func TestKeysThatDoNotBelongTogetherAreRefused(t *testing.T) {
	other := t.TempDir()
	if _, err := keyring.Create(other, "a"); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		harm func(dir string) error
		says string
	}{
		"another's public key":   {func(dir string) error { return copyFile(dir, other, trail.VKeyFile) }, "not that of the signing key"},
		"another's signing key":  {func(dir string) error { return copyFile(dir, other, datadir.KeyFile) }, "not that of the signing key"},
		"no public key":          {func(dir string) error { return os.Remove(filepath.Join(dir, trail.VKeyFile)) }, "ledger.vkey"},
		"an empty signing key":   {func(dir string) error { return os.Truncate(filepath.Join(dir, datadir.KeyFile), 0) }, "signing key"},
		"half of a public key":   {func(dir string) error { return os.Truncate(filepath.Join(dir, trail.VKeyFile), 9) }, "public key"},
		"an unreadable key file": {func(dir string) error { return replaceByDir(filepath.Join(dir, datadir.KeyFile)) }, "ledger.key"},
	} {
		dir := t.TempDir()
		if _, err := keyring.Create(dir, "a"); err != nil {
			t.Fatal(err)
		}
		if err := tt.harm(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Load(dir); err == nil || errors.Is(err, keyring.ErrNone) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func copyFile(to, from, name string) error {
	data, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, name), data, 0o600)
}

func replaceByDir(path string) error {
	return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
}

func TestKeysThatCannotBeWrittenAreNotThere(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keys"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Create(dir, "a"); err == nil || !strings.Contains(err.Error(), "keys") {
		t.Errorf("got %v", err)
	}
}

func TestAKeyOfALaterKindIsRefused(t *testing.T) {
	for _, name := range []string{datadir.KeyFile, trail.VKeyFile} {
		dir := t.TempDir()
		if _, err := keyring.Create(dir, "a.example"); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSpace(string(data))
		parts := strings.SplitN(strings.TrimPrefix(text, "PRIVATE+KEY+"), "+", 3)
		key, err := base64.StdEncoding.DecodeString(parts[2])
		if err != nil {
			t.Fatal(err)
		}
		key[0] = 7
		if err := os.WriteFile(path, []byte(strings.Replace(text, parts[2], base64.StdEncoding.EncodeToString(key), 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Load(dir); !errors.Is(err, datadir.ErrNewer) || !strings.Contains(err.Error(), "a key is of format 7, and this version knows format 1") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := keyring.Public(dir); errors.Is(err, datadir.ErrNewer) != (name == trail.VKeyFile) {
			t.Errorf("%s: the public key alone: %v", name, err)
		}
	}
}

func TestAPublicKeySignsNothing(t *testing.T) {
	dir := t.TempDir()
	made, err := keyring.Create(dir, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, datadir.KeyFile)); err != nil {
		t.Fatal(err)
	}
	k, err := keyring.Public(dir)
	if err != nil || k.VerifierKey != made.VerifierKey || k.Signer.Name() != "a.example" {
		t.Fatal(k, err)
	}
	if _, err := k.Signer.Sign([]byte("x")); err == nil {
		t.Error("it signs")
	}
}
