// Package pgarray encodes arrays, and rows as their elements, in PostgreSQL's
// binary format. What encodes them in general takes longer than a ledger does for
// all else.
package pgarray

import (
	"encoding/binary"
	"time"
)

// Numbers of PostgreSQL's own types.
const (
	Bool   = 16
	Bytes  = 17
	Int8   = 20
	Int2   = 21
	Int4   = 23
	Text   = 25
	Moment = 1184 // timestamptz
	UUID   = 2950
)

// An Array is one of PostgreSQL's, of one dimension.
type Array struct {
	buf []byte
	n   uint32
	row int // where the row that is being added begins
}

// head is the size of what stands before the elements: the number of dimensions,
// whether there are nulls, the type, the number of elements, and the index of the
// first.
const head = 5 * 4

// maxKept bounds the memory that is kept for the next array, in bytes.
const maxKept = 8 << 20

// Begin empties the array, whose elements are of the type with a number.
func (a *Array) Begin(elements uint32) {
	if cap(a.buf) > maxKept {
		a.buf = nil
	}
	a.n, a.buf = 0, append(a.buf[:0], make([]byte, head)...)
	binary.BigEndian.PutUint32(a.buf[8:], elements)
}

// Add adds an element; nil is null.
func (a *Array) Add(b []byte) {
	a.n++
	if b == nil {
		a.buf = binary.BigEndian.AppendUint32(a.buf, null)
		return
	}
	a.buf = append(binary.BigEndian.AppendUint32(a.buf, uint32(len(b))), b...)
}

// null stands for the length of what is null.
const null = 1<<32 - 1

// End returns the array, which shares its memory.
func (a *Array) End() []byte {
	if a.n == 0 {
		return a.buf[:3*4] // of no dimension
	}
	for i, v := range []uint32{1, 1} {
		binary.BigEndian.PutUint32(a.buf[4*i:], v)
	}
	binary.BigEndian.PutUint32(a.buf[12:], a.n)
	binary.BigEndian.PutUint32(a.buf[16:], 1)
	return a.buf
}

// BeginRow begins an element that is a row of so many columns, which follow.
func (a *Array) BeginRow(columns uint32) {
	a.n++
	a.row = len(a.buf)
	a.buf = binary.BigEndian.AppendUint32(append(a.buf, 0, 0, 0, 0), columns)
}

// EndRow ends it.
func (a *Array) EndRow() {
	binary.BigEndian.PutUint32(a.buf[a.row:], uint32(len(a.buf)-a.row-4))
}

func (a *Array) column(of uint32, size int) {
	a.buf = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(a.buf, of), uint32(size))
}

// Column adds a column of a type, as the type is encoded.
func (a *Array) Column(of uint32, value []byte) {
	a.column(of, len(value))
	a.buf = append(a.buf, value...)
}

// Text adds a column of a string.
func (a *Array) Text(s string) {
	a.column(Text, len(s))
	a.buf = append(a.buf, s...)
}

// Int2 adds a column of a small number.
func (a *Array) Int2(n int16) {
	a.column(Int2, 2)
	a.buf = binary.BigEndian.AppendUint16(a.buf, uint16(n))
}

// Int4 adds a column of a number.
func (a *Array) Int4(n int32) {
	a.column(Int4, 4)
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(n))
}

// Int8 adds a column of a large number.
func (a *Array) Int8(n int64) {
	a.column(Int8, 8)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(n))
}

// Bool adds a column that is true or false.
func (a *Array) Bool(is bool) {
	a.column(Bool, 1)
	if is {
		a.buf = append(a.buf, 1)
	} else {
		a.buf = append(a.buf, 0)
	}
}

// Moment adds a column of a time, of which there are whole microseconds.
func (a *Array) Moment(t time.Time) {
	a.column(Moment, 8)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(t.UnixMicro()-epoch))
}

// epoch is where PostgreSQL's time begins, 2000-01-01, in microseconds of ours.
const epoch = 946_684_800_000_000
