package pgarray_test

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/graven-audit/graven/internal/pgarray"
)

func TestArraysAreWhatAnotherEncoderReads(t *testing.T) {
	m := pgtype.NewMap()
	var a pgarray.Array
	for _, want := range [][][]byte{{[]byte("a"), nil, {}, {0, 1, 2}}, {}, {nil}} {
		a.Begin(pgarray.Bytes)
		for _, b := range want {
			a.Add(b)
		}
		var got [][]byte
		if err := m.Scan(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, a.End(), &got); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, want, func(x, y []byte) bool { return string(x) == string(y) && (x == nil) == (y == nil) }) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestARowIsWhatAnotherEncoderReads(t *testing.T) {
	at := time.Date(1999, 12, 31, 23, 59, 59, 5000, time.UTC)
	var a pgarray.Array
	a.Begin(pgtype.RecordOID)
	a.BeginRow(7)
	a.Text("x")
	a.Int2(-2)
	a.Int4(-4)
	a.Int8(-8)
	a.Bool(true)
	a.Moment(at)
	a.Column(pgarray.Bytes, []byte{7})
	a.EndRow()
	element := a.End()[6*4:] // behind the array's head and the element's length
	var text string
	var i2 int16
	var i4 int32
	var i8 int64
	var is bool
	var moment time.Time
	var raw []byte
	m := pgtype.NewMap()
	if err := m.Scan(pgtype.RecordOID, pgtype.BinaryFormatCode, element, pgtype.CompositeFields{&text, &i2, &i4, &i8, &is, &moment, &raw}); err != nil {
		t.Fatal(err, hex.EncodeToString(element))
	}
	if text != "x" || i2 != -2 || i4 != -4 || i8 != -8 || !is || !moment.Equal(at) || string(raw) != "\x07" {
		t.Error(text, i2, i4, i8, is, moment, raw)
	}
}
