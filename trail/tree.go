package trail

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A Hash is a SHA-256 hash, of the chain or of the tree.
type Hash = tlog.Hash

// Link returns the chain's value after entry, given its value before. The
// value before the first entry is the zero Hash.
func Link(previous Hash, entry []byte) Hash {
	text := hexText(previous)
	h := sha256.New()
	h.Write(text[:])
	h.Write(entry)
	var next Hash
	h.Sum(next[:0])
	return next
}

// hexText is [Hex] in a fraction of the time: it stands in the way of every
// event. It makes eight digits of four bytes at a time.
func hexText(h Hash) (text [2 * len(Hash{})]byte) {
	const each = 0x0101010101010101
	for i := 0; i < len(h); i += 4 {
		v := uint64(binary.BigEndian.Uint32(h[i:]))
		v = (v<<16 | v) & 0x0000ffff0000ffff
		v = (v<<8 | v) & 0x00ff00ff00ff00ff
		v = (v<<4 | v) & 0x0f0f0f0f0f0f0f0f
		letters := (v + 6*each) >> 4 & each // 1 for each digit from a on
		binary.BigEndian.PutUint64(text[2*i:], v+'0'*each+letters*('a'-'0'-10))
	}
	return text
}

// Hex returns h as 64 lower-case hexadecimal digits.
func Hex(h Hash) string { return hex.EncodeToString(h[:]) }

// ParseHex reads what [Hex] writes.
func ParseHex(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return h, fmt.Errorf("hash has %d hexadecimal digits, not %d", len(s), 2*len(h))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return h, fmt.Errorf("hash: %w", err)
	}
	if Hex(h) != s {
		return h, errors.New("hash has digits in upper case")
	}
	return h, nil
}

// parseHash reads a hash in base64, in exactly the form in which it is written.
func parseHash(s string) (Hash, error) {
	h, err := tlog.ParseHash(s)
	if err == nil && h.String() != s {
		err = errors.New("malformed hash")
	}
	return h, err
}

// LeafHash returns the tree's leaf for an entry.
func LeafHash(entry []byte) Hash { return tlog.RecordHash(entry) }

// A Tree is the right edge of the Merkle tree: enough to append leaves and to
// compute the root, and no more. The zero Tree is empty.
type Tree struct {
	size int64
	// edge[k] is the hash of the last complete subtree of 2^k leaves.
	edge [63]Hash
}

// Size returns the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Append adds a leaf and calls done, if it is not nil, for each subtree that
// the leaf completes: the leaf itself at level 0, then upwards; n counts the
// complete subtrees of a level from 0.
func (t *Tree) Append(leaf Hash, done func(level int, n int64, h Hash)) {
	complete := bits.TrailingZeros64(uint64(t.size + 1))
	for level := 0; ; level++ {
		previous := t.edge[level]
		t.edge[level] = leaf
		if done != nil {
			done(level, t.size>>level, leaf)
		}
		if level == complete {
			break
		}
		leaf = tlog.NodeHash(previous, leaf)
	}
	t.size++
}

// Root returns the tree's root hash.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	root, err := tlog.TreeHash(t.size, tlog.HashReaderFunc(t.read))
	if err != nil {
		panic("internal error: tree hash: " + err.Error())
	}
	return root
}

// read serves the hashes of complete subtrees at the right edge.
func (t *Tree) read(indexes []int64) ([]Hash, error) {
	out := make([]Hash, len(indexes))
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		if n != t.size>>level-1 {
			return nil, fmt.Errorf("hash %d of level %d is not at the right edge", n, level)
		}
		out[i] = t.edge[level]
	}
	return out, nil
}

// ResumeTree returns the tree of size leaves whose hashes r serves.
func ResumeTree(size int64, r tlog.HashReader) (*Tree, error) {
	t := &Tree{size: size}
	var indexes []int64
	var levels []int
	for level := 0; level < len(t.edge); level++ {
		if n := size >> level; n > 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, n-1))
			levels = append(levels, level)
		}
	}
	if len(indexes) == 0 {
		return t, nil
	}
	hashes, err := r.ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("read the tree's edge: %w", err)
	}
	for i, level := range levels {
		t.edge[level] = hashes[i]
	}
	return t, nil
}
