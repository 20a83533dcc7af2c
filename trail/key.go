package trail

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
)

// KeyID returns the name and hash that a key's signatures bear.
func KeyID(v note.Verifier) string { return fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash()) }

// ParseKey reads a verifier key in exactly the form in which it is written, so
// that two spellings of a key cannot pass for one.
func ParseKey(text string) (note.Verifier, error) {
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("not a verifier key: %w", err)
	}
	encoded, ok := strings.CutPrefix(text, KeyID(v)+"+")
	if _, err := decodeExactly(encoded); !ok || err != nil {
		return nil, errors.New("not a verifier key in its usual spelling")
	}
	return v, nil
}

// Signers returns the ids of the keys that a note's signature lines claim.
func Signers(signed []byte) ([]string, error) {
	_, lines, _ := strings.Cut(string(signed), "\n\n")
	var ids []string
	for line := range strings.Lines(lines) {
		name, encoded, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "— "), "\n"), " ")
		sig, err := decodeExactly(encoded)
		if err != nil || len(sig) < 5 {
			return nil, errors.New("malformed signature")
		}
		ids = append(ids, name+"+"+hex.EncodeToString(sig[:4]))
	}
	return ids, nil
}

// decodeExactly decodes base64 as encoders write it. Decoders pass over line
// breaks and unused bits, in which a changed bit would hide.
func decodeExactly(text string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err == nil && base64.StdEncoding.EncodeToString(data) != text {
		err = errors.New("not in the usual base64")
	}
	return data, err
}

// Created reads what a ledger's first entry says about it: its origin and its
// first key.
func Created(entry []byte) (origin, key string, err error) {
	e, _, err := event.ParseEntry(entry)
	if err != nil {
		return "", "", err
	}
	var facts struct {
		Created *struct{ Origin, Key string }
	}
	if len(e.Ledger) > 0 {
		if err := json.Unmarshal(e.Ledger, &facts); err != nil {
			return "", "", err
		}
	}
	if e.EventType != "LedgerCreated" || facts.Created == nil {
		return "", "", errors.New("it does not tell of the ledger's creation")
	}
	return facts.Created.Origin, facts.Created.Key, nil
}
