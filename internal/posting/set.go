// Package posting keeps sets of places within a block of entries, small on disk
// and quick to combine.
package posting

import (
	"encoding/binary"
	"errors"
	"iter"
	"math/bits"
)

// BlockSize is how many places a block has.
const BlockSize = 16384

// A Set is a set of places from 0 to BlockSize-1. The zero Set is empty.
type Set [BlockSize / 64]uint64

// bitmapSize is the size of a set's encoding as a bitmap, in bytes. Sets of
// fewer places are lists of uint16, which are shorter.
const bitmapSize = BlockSize / 8

// Add adds a place.
func (s *Set) Add(place int) { s[place/64] |= 1 << (place % 64) }

// Has reports whether a place is in the set.
func (s *Set) Has(place int) bool { return s[place/64]&(1<<(place%64)) != 0 }

// AddRange adds the places from first on, below end.
func (s *Set) AddRange(first, end int) {
	for i := range s {
		lo, hi := max(first-i*64, 0), min(end-i*64, 64)
		if lo < hi {
			s[i] |= ^uint64(0) >> (64 - (hi - lo)) << lo
		}
	}
}

// And keeps the places that are in o, too.
func (s *Set) And(o *Set) {
	for i := range s {
		s[i] &= o[i]
	}
}

// Or adds the places of o.
func (s *Set) Or(o *Set) {
	for i := range s {
		s[i] |= o[i]
	}
}

// Remove removes the places of o.
func (s *Set) Remove(o *Set) {
	for i := range s {
		s[i] &^= o[i]
	}
}

// Len returns the number of places.
func (s *Set) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// All returns the places, the smallest first.
func (s *Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(i*64 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// Backward returns the places, the largest first.
func (s *Set) Backward() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := len(s) - 1; i >= 0; i-- {
			for w := s[i]; w != 0; {
				top := 63 - bits.LeadingZeros64(w)
				if !yield(i*64 + top) {
					return
				}
				w &^= 1 << top
			}
		}
	}
}

// AppendPlaces appends the encoding of the set of the given places, which must
// rise: a list of little-endian uint16, or a bitmap where that is shorter.
func AppendPlaces(dst []byte, places []uint16) []byte {
	if 2*len(places) < bitmapSize {
		for _, p := range places {
			dst = binary.LittleEndian.AppendUint16(dst, p)
		}
		return dst
	}
	var s Set
	for _, p := range places {
		s.Add(int(p))
	}
	for _, w := range s {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst
}

// Parse reads what [AppendPlaces] writes.
func Parse(data []byte) (s Set, err error) {
	switch {
	case len(data) == bitmapSize:
		for i := range s {
			s[i] = binary.LittleEndian.Uint64(data[8*i:])
		}
		return s, nil
	case len(data)%2 != 0 || len(data) > bitmapSize:
		return s, errors.New("malformed set")
	}
	for ; len(data) > 0; data = data[2:] {
		p := binary.LittleEndian.Uint16(data)
		if p >= BlockSize {
			return s, errors.New("malformed set")
		}
		s.Add(int(p))
	}
	return s, nil
}
