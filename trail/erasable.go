package trail

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/graven-audit/graven/event"
)

// An ErasableError says in what way erasable content does not match the
// digests in its entry.
type ErasableError struct{ Reason string }

func (e *ErasableError) Error() string { return e.Reason }

// CheckErasable checks that the record's erasable content is the one that the
// entry has digests of, in the very bytes, or was erased. Otherwise the error
// is an [ErasableError]. Of an entry that was pruned it checks that no more is
// left than is to be.
func (r *Record) CheckErasable() error {
	switch {
	case r.Leaf != nil:
		return r.checkRemains()
	case r.Erasable == nil && r.Salt != event.Salt{}:
		return &ErasableError{"the details were erased, but their salt was not"}
	case r.Erasable == nil || r.matches():
		return nil
	}
	e, want, err := event.ParseEntry(r.Entry)
	if err != nil {
		return &ErasableError{fmt.Sprintf("the entry cannot be read: %v", err)}
	}
	if err := e.SetErasable(r.Erasable); err != nil {
		return &ErasableError{fmt.Sprintf("the details cannot be read: %v", err)}
	}
	if !bytes.Equal(e.AppendErasable(nil), r.Erasable) {
		return &ErasableError{"the details are not in the form in which they were sealed"}
	}
	return compareDigests(e.Digests(r.Salt), want)
}

// checkRemains checks that what is left of an entry is what [Record.Prune] leaves.
func (r *Record) checkRemains() error {
	e, digests, err := event.ParseEntry(r.Entry)
	if err != nil {
		return &ErasableError{fmt.Sprintf("what is left of the entry cannot be read: %v", err)}
	}
	if !bytes.Equal(e.Remains().AppendEntry(nil, event.Digests{Details: digests.Details}), r.Entry) || r.Erasable != nil || r.Salt != (event.Salt{}) {
		return &ErasableError{"what is left of the entry is not what is to be left"}
	}
	return nil
}

// compareDigests names the first digest that differs.
func compareDigests(got, want event.Digests) error {
	for _, d := range []struct {
		name      string
		got, want *[32]byte
	}{
		{"details", got.Details, want.Details},
		{"error message", got.Message, want.Message},
		{"original spellings", got.Original, want.Original},
	} {
		switch {
		case d.got == nil && d.want == nil:
		case d.got == nil:
			return &ErasableError{"the " + d.name + ", of which the entry has a digest, are missing"}
		case d.want == nil:
			return &ErasableError{"the " + d.name + " were added: the entry has no digest of them"}
		case *d.got != *d.want:
			return &ErasableError{"the " + d.name + " or their salt do not match the entry's digest"}
		}
	}
	return nil
}

// matches reports whether the erasable content has the digests in the entry,
// without decoding either: parsing takes several times as long as hashing. It
// rests on the form and the order of members in which package event writes
// both; within strings quotes are escaped, so that no string looks like a
// member. A true answer is certain, for all hashes have matched; after a false
// one, decoding tells.
func (r *Record) matches() bool {
	d, ok := findDigests(r.Entry)
	content := r.Erasable
	if !ok || len(content) < 2 || content[0] != '{' || content[len(content)-1] != '}' {
		return false
	}
	content = content[1 : len(content)-1]
	if d.original != nil {
		if content, ok = r.cutMember(content, `"original":{`, d.original); !ok {
			return false
		}
	}
	if d.message != nil {
		if content, ok = r.cutMember(content, `"message":"`, d.message); !ok {
			return false
		}
	}
	if len(content) == 0 {
		return r.hashes([]byte("{}"), d.details)
	}
	content, ok = bytes.CutPrefix(content, []byte(`"details":`))
	return ok && string(content) != "{}" && r.hashes(content, d.details)
}

// hexDigests are digests as they stand in an entry; nil where it has none.
type hexDigests struct{ details, message, original []byte }

// findDigests finds the members of an entry that are digests. It gives up
// where one seems to stand twice, as within the member "ledger".
func findDigests(entry []byte) (d hexDigests, ok bool) {
	const member = `Digest":"`
	for {
		at := bytes.Index(entry, []byte(member))
		if at < 0 {
			return d, d.details != nil
		}
		name, rest := entry[:at], entry[at+len(member):]
		if len(rest) < 2*sha256.Size {
			return d, false
		}
		var into *[]byte
		switch {
		case bytes.HasSuffix(name, []byte(`,"details`)):
			into = &d.details
		case bytes.HasSuffix(name, []byte(`"message`)):
			into = &d.message
		case bytes.HasSuffix(name, []byte(`,"original`)):
			into = &d.original
		}
		if into == nil || *into != nil {
			return d, false
		}
		*into, entry = rest[:2*sha256.Size], rest[2*sha256.Size:]
	}
}

// cutMember cuts the last member off an object's content, if it begins with
// start and its value has the given digest.
func (r *Record) cutMember(content []byte, start string, digest []byte) (rest []byte, ok bool) {
	at := bytes.LastIndex(content, []byte(start))
	if at < 0 || !r.hashes(content[at+len(start)-1:], digest) {
		return nil, false
	}
	if at == 0 {
		return nil, true
	}
	rest, ok = bytes.CutSuffix(content[:at], []byte(","))
	return rest, ok && len(rest) > 0
}

// hashes reports whether content has the given digest under the record's salt.
func (r *Record) hashes(content, digest []byte) bool {
	var buf [768]byte
	sum := sha256.Sum256(append(append(buf[:0], r.Salt[:]...), content...))
	text := hexText(sum)
	return bytes.Equal(text[:], digest)
}
