package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/graven-audit/graven/internal/posting"
)

// An openBlock is the block of entries that is being indexed.
type openBlock struct {
	n      int64
	places map[term][]uint16
	// written is how many places of each term are in the database.
	written map[term]int
	times   []int64 // of the entries, in nanoseconds since 1970
}

// A term is a word in a field.
type term struct {
	field field
	word  int64
}

func newOpenBlock(n int64) *openBlock {
	return &openBlock{n: n, places: map[term][]uint16{}, written: map[term]int{}}
}

// end returns the index behind the block's last entry.
func (b *openBlock) end() int64 { return (b.n + 1) * posting.BlockSize }

func (b *openBlock) add(r *Row) {
	place := uint16(r.Index % posting.BlockSize)
	for f, w := range r.words {
		if w != 0 {
			t := term{field(f), w}
			b.places[t] = append(b.places[t], place)
		}
	}
	b.times = append(b.times, r.ts)
}

// done says that everything added so far is in the database.
func (b *openBlock) done() {
	for t, p := range b.places {
		b.written[t] = len(p)
	}
}

// write writes what was added since the last time.
func (b *openBlock) write(ctx context.Context, tx *sql.Tx) error {
	var changed []term
	for t, p := range b.places {
		if len(p) > b.written[t] {
			changed = append(changed, t)
		}
	}
	// In the order of the table, neighbours go into one page.
	slices.SortFunc(changed, func(a, b term) int { return cmp.Or(cmp.Compare(a.field, b.field), cmp.Compare(a.word, b.word)) })
	var buf []byte
	err := insert(ctx, tx, "INSERT INTO posting (epoch, field, word, block, places) VALUES ",
		" ON CONFLICT DO UPDATE SET places = excluded.places", 5, len(changed), func(dst []any, i int) []any {
			t, from := changed[i], len(buf)
			buf = posting.AppendPlaces(buf, b.places[t])
			return append(dst, b.n/blocksPerEpoch, int64(t.field), t.word, b.n, buf[from:])
		})
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO block (n, first, last, times) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET first = excluded.first, last = excluded.last, times = excluded.times`,
		b.n, slices.Min(b.times), slices.Max(b.times), appendTimes(nil, b.times))
	b.done()
	return err
}

// appendTimes appends times as varints of their differences.
func appendTimes(dst []byte, times []int64) []byte {
	last := int64(0)
	for _, t := range times {
		dst = binary.AppendVarint(dst, t-last)
		last = t
	}
	return dst
}

// parseTimes calls fn for each time that [appendTimes] wrote.
func parseTimes(data []byte, fn func(i int, t int64)) error {
	last := int64(0)
	for i := 0; len(data) > 0; i++ {
		d, n := binary.Varint(data)
		if n <= 0 || i >= posting.BlockSize {
			return errors.New("malformed times")
		}
		data, last = data[n:], last+d
		fn(i, last)
	}
	return nil
}
