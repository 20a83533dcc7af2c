package trail

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/graven-audit/graven/event"
)

// A Record is an entry with what a store keeps beside it.
type Record struct {
	Index int64
	// Chain is the chain's value after this entry.
	Chain Hash
	Entry []byte
	// Salt and Erasable are the salt and the erasable content
	// ([event.Event.AppendErasable]) behind the entry's digests. Erasable is
	// nil once the content was erased; the salt is zero then.
	Salt     event.Salt
	Erasable []byte
	// Leaf is the hash of the leaf of an entry that was pruned: Entry is what
	// remains of it then, which no hash speaks for. It is nil otherwise.
	Leaf *Hash
}

// LeafHash returns the hash of the entry's leaf in the tree.
func (r *Record) LeafHash() Hash {
	if r.Leaf != nil {
		return *r.Leaf
	}
	return LeafHash(r.Entry)
}

// Link returns the chain's value after the entry, given the one before. Of an
// entry that was pruned it is the one stored with it.
func (r *Record) Link(previous Hash) Hash {
	if r.Leaf != nil {
		return r.Chain
	}
	return Link(previous, r.Entry)
}

// Prune returns what is left of the record when its entry is erased: only the
// content goes where the entry holds facts that verification rests on, in its
// member "ledger".
func (r *Record) Prune() (Record, error) {
	left := Record{Index: r.Index, Chain: r.Chain, Entry: r.Entry, Leaf: r.Leaf}
	if r.Leaf != nil {
		return left, nil
	}
	e, digests, err := event.ParseEntry(r.Entry)
	if err != nil {
		return left, fmt.Errorf("prune entry %d: %w", r.Index, err)
	}
	if len(e.Ledger) == 0 {
		leaf := LeafHash(r.Entry)
		left.Leaf, left.Entry = &leaf, e.Remains().AppendEntry(nil, event.Digests{Details: digests.Details})
	}
	return left, nil
}

// Event returns the event that the record holds. The record keeps its
// memory. Whether the erasable content matches the entry is not checked.
func (r *Record) Event() (*event.Event, error) {
	e, _, err := event.ParseEntry(r.Entry)
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", r.Index, err)
	}
	if r.Erasable != nil {
		if err := e.SetErasable(r.Erasable); err != nil {
			return nil, fmt.Errorf("read erasable content of entry %d: %w", r.Index, err)
		}
	}
	return e, nil
}

// Kinds of frames in the segment files of a data directory: the first byte of
// a frame's body.
const (
	FrameRecord     = 1
	FrameCheckpoint = 2
	// frameErased is a record whose salt and erasable content were overwritten
	// with zeros, so that all frames stay where they are.
	frameErased = 3
	// FramePruned is what is left of a record whose entry was erased: kind,
	// index, chain, the hash of the leaf, and what remains of the entry.
	FramePruned = 4
)

// IsRecord reports whether a frame is a record's, by its kind, whatever is left
// of the record.
func IsRecord(body []byte) bool {
	return len(body) > 0 && (body[0] == FrameRecord || body[0] == frameErased || body[0] == FramePruned)
}

// recordHead is the fixed part of a record's frame: kind, index, chain, salt
// and the entry's length, integers little-endian.
const recordHead = 1 + 8 + 32 + 16 + 4

// prunedHead is the fixed part of the frame of one that was pruned: kind, index,
// chain and leaf.
const prunedHead = 1 + 8 + 32 + 32

// AppendFrame appends the body of the frame that holds r.
func (r *Record) AppendFrame(dst []byte) []byte {
	if r.Leaf != nil {
		dst = append(dst, FramePruned)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Index))
		dst = append(dst, r.Chain[:]...)
		dst = append(dst, r.Leaf[:]...)
		return append(dst, r.Entry...)
	}
	dst = append(dst, FrameRecord)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Index))
	dst = append(dst, r.Chain[:]...)
	dst = append(dst, r.Salt[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Entry)))
	dst = append(dst, r.Entry...)
	return append(dst, r.Erasable...)
}

// ParseFrame reads the body of a record's frame. The record shares its memory.
func ParseFrame(body []byte) (Record, error) {
	var r Record
	if len(body) > 0 && body[0] == FramePruned {
		return parsePruned(body)
	}
	if len(body) < recordHead || body[0] != FrameRecord && body[0] != frameErased {
		return r, errors.New("not a record")
	}
	erased := body[0] == frameErased
	r.Index = int64(binary.LittleEndian.Uint64(body[1:]))
	copy(r.Chain[:], body[9:])
	copy(r.Salt[:], body[41:])
	n := int(binary.LittleEndian.Uint32(body[57:]))
	body = body[recordHead:]
	if r.Index < 0 || n > len(body) {
		return r, errors.New("malformed record")
	}
	r.Entry = body[:n:n]
	switch rest := body[n:]; {
	case erased && (len(rest) == 0 || r.Salt != event.Salt{} || len(bytes.Trim(rest, "\x00")) > 0):
		return r, errors.New("malformed record: something stands where its content was erased")
	case !erased && len(rest) > 0:
		r.Erasable = rest
	}
	return r, nil
}

func parsePruned(body []byte) (r Record, err error) {
	if len(body) <= prunedHead {
		return r, errors.New("malformed record")
	}
	r.Index = int64(binary.LittleEndian.Uint64(body[1:]))
	if r.Index < 0 {
		return r, errors.New("malformed record")
	}
	copy(r.Chain[:], body[9:])
	r.Leaf = (*Hash)(bytes.Clone(body[41:prunedHead]))
	r.Entry = body[prunedHead:len(body):len(body)]
	return r, nil
}

// AppendErased appends the body of the frame that takes the place of r's once
// its content was erased. It is as long as the one that r has.
func (r *Record) AppendErased(dst []byte) []byte {
	bare := Record{Index: r.Index, Chain: r.Chain, Entry: r.Entry}
	start := len(dst)
	dst = append(bare.AppendFrame(dst), make([]byte, len(r.Erasable))...)
	dst[start] = frameErased
	return dst
}
