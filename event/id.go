package event

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// An ID is the UUID (RFC 9562) of an event. The zero ID stands for none.
type ID [16]byte

// NewID mints a UUIDv7, which begins with the time in milliseconds.
func NewID(now time.Time) ID {
	var id ID
	if _, err := rand.Read(id[6:]); err != nil {
		panic("internal error: no randomness: " + err.Error())
	}
	ms := uint64(now.UnixMilli())
	binary.BigEndian.PutUint16(id[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(id[2:], uint32(ms))
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// DeriveID returns the UUIDv8 that stands for parts: the same parts give the
// same id. Each part counts with its length, so {"a", "b"} and {"ab"} differ.
func DeriveID(parts ...string) ID {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	var id ID
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	if id.Reserved() {
		id[0] = ^id[0]
	}
	return id
}

// reservedPrefix is what reserved ids begin with.
var reservedPrefix = [4]byte{'g', 'r', 'v', 'n'}

// Reserve returns the id that a derived one stands for where nobody can take it but
// who vouches for others: for what follows from what others may know, and only the
// ledger and its operator record.
func (id ID) Reserve() ID {
	copy(id[:], reservedPrefix[:])
	return id
}

// Reserved reports whether an id is one of [ID.Reserve]'s: a UUIDv8 that begins with
// 6772766e.
func (id ID) Reserved() bool {
	return [4]byte(id[:4]) == reservedPrefix && id[6]>>4 == 8 && id[8]>>6 == 2
}

// ParseID reads the 36-character form, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, fmt.Errorf("not a UUID: %.40q", s)
	}
	for i, at := range [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		hi, lo := unhex(s[at]), unhex(s[at+1])
		if hi > 15 || lo > 15 {
			return ID{}, fmt.Errorf("not a UUID: %.40q", s)
		}
		id[i] = hi<<4 | lo
	}
	return id, nil
}

// IsZero reports whether id stands for none.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the 36-character form, or "" for none.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return string(id.append(make([]byte, 0, 36)))
}

// Time returns the time that a UUIDv7 carries, to the millisecond, and whether
// id is one.
func (id ID) Time() (time.Time, bool) {
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return time.Time{}, false
	}
	ms := uint64(binary.BigEndian.Uint16(id[0:]))<<32 | uint64(binary.BigEndian.Uint32(id[2:]))
	return time.UnixMilli(int64(ms)).UTC(), true
}

func (id ID) append(dst []byte) []byte {
	dst = hex.AppendEncode(dst, id[0:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[4:6])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[6:8])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[8:10])
	dst = append(dst, '-')
	return hex.AppendEncode(dst, id[10:16])
}

// nameOf derives an event's label from its id and timestamp.
func nameOf(id ID, at time.Time) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256(id[:])
	n := binary.BigEndian.Uint64(sum[:])
	b := make([]byte, 0, 24)
	b = append(b, "audit-"...)
	b = strconv.AppendInt(b, at.Unix(), 10)
	b = append(b, '-')
	for range 6 {
		b = append(b, alphabet[n%36])
		n /= 36
	}
	return string(b)
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
