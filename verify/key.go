package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/trail"
)

// A keyring holds the keys that signatures are checked with.
type keyring struct {
	keys  []note.Verifier
	given bool // from outside
}

func newKeyring(given []note.Verifier) *keyring {
	k := &keyring{given: len(given) > 0}
	for _, v := range given {
		k.add(v)
	}
	return k
}

// add adds a key that is not there yet: note.Open fails where one stands twice.
func (k *keyring) add(v note.Verifier) {
	if !k.has(v) {
		k.keys = append(k.keys, v)
	}
}

func (k *keyring) has(v note.Verifier) bool {
	return slices.ContainsFunc(k.keys, func(o note.Verifier) bool { return trail.KeyID(o) == trail.KeyID(v) })
}

func (k *keyring) String() string {
	var ids []string
	for _, v := range k.keys {
		ids = append(ids, trail.KeyID(v))
	}
	return strings.Join(ids, " or ")
}

// A seal is a checkpoint and what its signature is worth.
type seal struct {
	trail.Checkpoint
	checked bool   // a signature by a key of the keyring is good
	fault   Kind   // BadSignature, WrongKey or "" for none found
	reason  string // of the fault
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
	switch _, err := trail.OpenCheckpoint(s.Note, k.keys...); {
	case errors.Is(err, trail.ErrUnsigned):
		by, _ := trail.Signers(s.Note)
		s.fault, s.reason = WrongKey, fmt.Sprintf("the checkpoint of %d entries is signed by %.200s, which is not a key of the ledger", s.Size, strings.Join(by, " and "))
	case err != nil:
		s.fault, s.reason = BadSignature, fmt.Sprintf("the checkpoint of %d entries: %v", s.Size, err)
	default:
		s.checked = true
	}
}

// An earlier is a checkpoint that the ledger must extend.
type earlier struct {
	seal
	what  string // such as "the earlier checkpoint of 12 entries"
	where string
	own   bool // it stands beside the ledger, and may have been made anew with it
}

// openSince reads the earlier checkpoints and reports those that cannot count.
func openSince(rep *reporter, keys *keyring, o Options) []earlier {
	var out []earlier
	for i, text := range o.Since {
		where := fmt.Sprintf("earlier checkpoint %d", i+1)
		if s := keys.open(text, true); s.fault != "" {
			rep.add(s.fault, -1, where, "%s", s.reason)
		} else {
			out = append(out, earlier{s, fmt.Sprintf("the earlier checkpoint of %d entries", s.Size), where, false})
		}
	}
	switch {
	case len(o.Since) > 0:
	case o.Witnesses.Need > 0:
		rep.unproven("no earlier checkpoint was given, so a rollback to an older state, cosigned then, cannot be excluded")
	default:
		rep.unproven("no earlier checkpoint was given, so a rollback to an older state, or a ledger made anew with the real key, cannot be excluded")
	}
	return out
}

// addCreated takes the key that the first entry names, if it names one.
func (k *keyring) addCreated(entry []byte) {
	if _, text, err := trail.Created(entry); err == nil {
		if v, err := trail.ParseKey(text); err == nil {
			k.add(v)
		}
	}
}

// checkCreated holds the first entry against the keys.
func (k *keyring) checkCreated(rep *reporter, entry []byte, where string) {
	origin, text, err := trail.Created(entry)
	var v note.Verifier
	if err == nil {
		v, err = trail.ParseKey(text)
	}
	switch {
	case err != nil:
		rep.add(WrongKey, 0, where, "the first entry names no key: %v", err)
	case v.Name() != origin:
		rep.add(WrongKey, 0, where, "the first entry names the ledger %q and a key of %q", origin, v.Name())
	case len(k.keys) > 0 && !k.has(v):
		rep.add(WrongKey, 0, where, "the ledger was created with the key %s, which is not %s", trail.KeyID(v), k)
	}
}

// conclude writes the newest checkpoint, if any, into the report and says what
// the verdict rests on.
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
