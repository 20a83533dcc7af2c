package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// A block is a run of frames on their way from the reader, who makes it, over
// a worker, who hashes, to the collector.
type block struct {
	file   string
	buf    []byte // the frames' memory, to be used again
	frames []seglog.Frame
	// before is the stored chain value before the first record, if known.
	before      trail.Hash
	beforeKnown bool
	// skip: records below this index stand elsewhere, too, and are passed over.
	skip int64
	// damaged: a finding names the only record already.
	damaged bool
	// gap: instead of frames, the entries up to this index are missing.
	gap int64
	// seals counts the checkpoints before the block; signatures are checked
	// as sampled says.
	seals sampler

	checked []checkedFrame
	done    int64 // bytes read so far
}

// A checkedFrame is what a worker found out about a frame.
type checkedFrame struct {
	seal *seal // nil for a record, of which follows what it has
	// parsed: there is a record. All others are damaged.
	parsed bool
	erased bool
	// broken: the stored chain value does not follow from the one before.
	broken bool
	index  int64
	leaf   trail.Hash
	fault  string
}

// A sampler says which checkpoints have their signatures checked while the
// log is read: all of the first 20,000, and then one for each 256 entries. A
// check costs as much as hashing 30 entries. The roots of all are compared,
// and whichever differs is checked, as is the newest and the last of every
// segment; a signature that is passed over vouches for nothing that the
// newest one does not.
type sampler struct {
	every            bool // of the signatures
	count, unsampled int64
}

const (
	sampleAll   = 20_000
	sampleEvery = 256
)

func (s *sampler) entry() { s.unsampled++ }

func (s *sampler) checkpoint() (check bool) {
	s.count++
	if !s.every && s.count > sampleAll && s.unsampled < sampleEvery {
		return false
	}
	s.unsampled = 0
	return true
}

// work checks what can be checked of a block on its own.
func (b *block) work(keys *keyring) {
	b.checked = make([]checkedFrame, len(b.frames))
	previous, known := b.before, b.beforeKnown
	sample := b.seals
	var scratch []byte
	for i, f := range b.frames {
		c := &b.checked[i]
		if f.Body[0] == trail.FrameCheckpoint {
			s := keys.open(f.Body[1:], sample.checkpoint())
			c.seal = &s
			continue
		}
		r, err := trail.ParseFrame(f.Body)
		if err != nil {
			continue
		}
		sample.entry()
		c.parsed, c.index, c.erased = true, r.Index, r.Erasable == nil
		c.broken = known && trail.Link(previous, r.Entry) != r.Chain
		c.leaf = trail.LeafHash(r.Entry)
		c.fault, scratch = erasableFault(&r, scratch)
		previous, known = r.Chain, true
	}
}

// pass takes note of all frames of a block.
func (s *sampler) pass(frames []seglog.Frame) {
	for _, f := range frames {
		if f.Body[0] == trail.FrameCheckpoint {
			s.checkpoint()
		} else {
			s.entry()
		}
	}
}

// erasableFault returns what is wrong with a record's erasable content, or "".
// It returns scratch, memory to be used again, too.
func erasableFault(r *trail.Record, scratch []byte) (string, []byte) {
	switch {
	case r.Erasable == nil && r.Salt != event.Salt{}:
		return "the details were erased, but their salt was not", scratch
	case r.Erasable == nil:
		return "", scratch
	}
	m := matcher{salt: r.Salt, scratch: scratch}
	if m.matches(r.Entry, r.Erasable) {
		return "", m.scratch
	}
	e, want, err := event.ParseEntry(r.Entry)
	if err != nil {
		return fmt.Sprintf("the entry cannot be read: %v", err), m.scratch
	}
	if err := e.SetErasable(r.Erasable); err != nil {
		return fmt.Sprintf("the details cannot be read: %v", err), m.scratch
	}
	if !bytes.Equal(e.AppendErasable(nil), r.Erasable) {
		return "the details are not in the form in which they were sealed", m.scratch
	}
	return digestFault(e.Digests(r.Salt), want), m.scratch
}

// digestFault names the digests that differ, or returns "".
func digestFault(got, want event.Digests) string {
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
			return "the " + d.name + ", of which the entry has a digest, are missing"
		case d.want == nil:
			return "the " + d.name + " were added: the entry has no digest of them"
		case *d.got != *d.want:
			return "the " + d.name + " or their salt do not match the entry's digest"
		}
	}
	return ""
}

// A matcher holds erasable content against an entry's digests without decoding
// either: parsing takes several times as long as hashing.
type matcher struct {
	salt    event.Salt
	scratch []byte
}

// matches reports whether content has the digests that entry names, given the
// form and the order of members in which package event writes both: within
// strings quotes are escaped, so that no string looks like a member. A true
// answer is certain, for all hashes have matched; after a false one, decoding
// tells.
func (m *matcher) matches(entry, content []byte) bool {
	d, ok := findDigests(entry)
	if !ok || len(content) < 2 || content[0] != '{' || content[len(content)-1] != '}' {
		return false
	}
	content = content[1 : len(content)-1]
	if d.original != nil {
		if content, ok = m.cutMember(content, `"original":{`, d.original); !ok {
			return false
		}
	}
	if d.message != nil {
		if content, ok = m.cutMember(content, `"message":"`, d.message); !ok {
			return false
		}
	}
	if len(content) == 0 {
		return m.hashes([]byte("{}"), d.details)
	}
	content, ok = bytes.CutPrefix(content, []byte(`"details":`))
	return ok && string(content) != "{}" && m.hashes(content, d.details)
}

// foundDigests are digests in hexadecimal, as they stand in an entry.
type foundDigests struct{ details, message, original []byte }

// findDigests finds the members of an entry that are digests. It gives up
// where one seems to stand twice, as within the member "ledger".
func findDigests(entry []byte) (d foundDigests, ok bool) {
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
func (m *matcher) cutMember(content []byte, start string, digest []byte) (rest []byte, ok bool) {
	at := bytes.LastIndex(content, []byte(start))
	if at < 0 || !m.hashes(content[at+bytes.IndexByte(content[at:], ':')+1:], digest) {
		return nil, false
	}
	if at == 0 {
		return nil, true
	}
	rest, ok = bytes.CutSuffix(content[:at], []byte(","))
	return rest, ok && len(rest) > 0
}

// hashes reports whether content has the given digest under the salt.
func (m *matcher) hashes(content, digest []byte) bool {
	m.scratch = append(append(m.scratch[:0], m.salt[:]...), content...)
	sum := sha256.Sum256(m.scratch)
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], sum[:])
	return bytes.Equal(text[:], digest)
}
