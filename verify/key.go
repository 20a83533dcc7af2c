package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// A keyring holds the keys that signatures are checked with.
type keyring struct {
	keys  []note.Verifier
	given bool // from outside
}

// add adds a key that is not there yet: note.Open fails where one stands twice.
func (k *keyring) add(v note.Verifier) {
	if !k.has(v) {
		k.keys = append(k.keys, v)
	}
}

func (k *keyring) has(v note.Verifier) bool {
	return slices.ContainsFunc(k.keys, func(o note.Verifier) bool { return keyID(o) == keyID(v) })
}

// keyID returns the name and hash that a key's signatures bear.
func keyID(v note.Verifier) string { return fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash()) }

// parseKey reads a verifier key in exactly the form in which it is written,
// so that two spellings of a key cannot pass for one.
func parseKey(text string) (note.Verifier, error) {
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("not a verifier key: %w", err)
	}
	encoded, ok := strings.CutPrefix(text, keyID(v)+"+")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || base64.StdEncoding.EncodeToString(raw) != encoded {
		return nil, errors.New("not a verifier key in its usual spelling")
	}
	return v, nil
}

// A seal is a checkpoint and what its signature is worth.
type seal struct {
	trail.Checkpoint
	checked bool   // a signature by a key of the keyring is good
	fault   Kind   // BadSignature, WrongKey or "" for none found
	reason  string // of the fault
}

// keep returns a copy that shares no memory with the block it came from.
func (s *seal) keep() *seal {
	c := *s
	c.Note = bytes.Clone(s.Note)
	return &c
}

// open reads a checkpoint and, if check is set and there are keys, checks its
// signature. Without a readable checkpoint the seal's Note is nil.
func (k *keyring) open(text []byte, check bool) seal {
	c, err := trail.ReadCheckpoint(text)
	if err != nil {
		return seal{fault: BadSignature, reason: err.Error()}
	}
	s := seal{Checkpoint: *c}
	if check {
		k.check(&s)
	}
	return s
}

// check checks the signature of a readable checkpoint.
func (k *keyring) check(s *seal) {
	if s.checked || s.fault != "" || len(k.keys) == 0 {
		return
	}
	by, err := signers(s.Note)
	if err == nil {
		_, err = trail.OpenCheckpoint(s.Note, k.keys...)
	}
	switch {
	case errors.Is(err, trail.ErrUnsigned):
		s.fault, s.reason = WrongKey, fmt.Sprintf("the checkpoint of %d entries is signed by %s, which is not a key of the ledger", s.Size, by)
	case err != nil:
		s.fault, s.reason = BadSignature, fmt.Sprintf("the checkpoint of %d entries: %v", s.Size, err)
	default:
		s.checked = true
	}
}

// signers names the keys that a note's signature lines claim. Signatures must
// be in the base64 that encoders write: others decode alike, and a changed bit
// must not pass.
func signers(text []byte) (string, error) {
	_, lines, _ := strings.Cut(string(text), "\n\n")
	var names []string
	for line := range strings.Lines(lines) {
		name, encoded, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "— "), "\n"), " ")
		sig, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(sig) < 5 || base64.StdEncoding.EncodeToString(sig) != encoded {
			return "", errors.New("malformed signature")
		}
		names = append(names, name+"+"+hex.EncodeToString(sig[:4]))
	}
	return fmt.Sprintf("%.200s", strings.Join(names, " and ")), nil
}

// An earlier is a checkpoint that the ledger must extend.
type earlier struct {
	seal
	what  string // such as "the earlier checkpoint of 12 entries"
	where string
}

// openSince reads the earlier checkpoints and reports those that cannot count.
func openSince(rep *reporter, keys *keyring, since [][]byte) []earlier {
	var out []earlier
	for i, text := range since {
		where := fmt.Sprintf("earlier checkpoint %d", i+1)
		s := keys.open(text, true)
		if s.fault != "" {
			rep.add(s.fault, -1, where, "%s", s.reason)
			continue
		}
		out = append(out, earlier{s, fmt.Sprintf("the earlier checkpoint of %d entries", s.Size), where})
	}
	if len(since) == 0 {
		rep.unproven("no earlier checkpoint was given, so a rollback to an older state, or a ledger made anew with the real key, cannot be excluded")
	}
	return out
}

// created reads what the first entry says about the ledger: the origin, and
// its first key. Other members are passed over.
func created(entry []byte) (origin, key string, err error) {
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

// checkCreated holds the first entry against the keys.
func (k *keyring) checkCreated(rep *reporter, entry []byte, where string) {
	origin, text, err := created(entry)
	if err != nil {
		rep.add(WrongKey, 0, where, "the first entry names no key: %v", err)
		return
	}
	v, err := parseKey(text)
	switch {
	case err != nil:
		rep.add(WrongKey, 0, where, "the first entry names no key: %v", err)
	case v.Name() != origin:
		rep.add(WrongKey, 0, where, "the first entry names the ledger %q and a key of %q", origin, v.Name())
	case len(k.keys) > 0 && !k.has(v):
		rep.add(WrongKey, 0, where, "the ledger was created with the key %s, which is not %s", keyID(v), k.ids())
	}
}

func (k *keyring) ids() string {
	var ids []string
	for _, v := range k.keys {
		ids = append(ids, keyID(v))
	}
	return strings.Join(ids, " or ")
}

// conclude writes the newest checkpoint into the report and says what the
// verdict rests on.
func (k *keyring) conclude(rep *reporter, newest *seal) {
	if newest != nil {
		rep.Origin, rep.Size, rep.Root, rep.Checkpoint = newest.Origin, newest.Size, newest.Root, newest.Note
		rep.Authenticated = k.given && newest.checked
	}
	switch {
	case len(k.keys) == 0:
		rep.unproven("no key is known, so no signature was checked")
	case !k.given:
		rep.unproven("the key was not authenticated: it came from the ledger itself")
	}
}
