package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/graven-audit/graven/internal/inorder"
	"github.com/graven-audit/graven/trail"
)

// A Table is a ledger of which a database holds each entry as a row.
type Table interface {
	// Rows calls fn for each row, by index, with the hash that stands in it as
	// that of the entry before. fn may keep the record. It returns fn's error.
	Rows(ctx context.Context, fn func(r trail.Record, previous trail.Hash) error) error
	// Where names an entry's row; -1 stands for what tells of the whole ledger.
	Where(index int64) string
}

// Rows checks a ledger that stands in a database, and ends with the given
// checkpoint, a signed note. What else stands in the rows is not looked at.
//
// Whatever is wrong with the ledger is in the report; an error means that it
// could not be checked.
func Rows(ctx context.Context, target string, t Table, checkpoint []byte, o Options) (*Report, error) {
	x := &export{o: o, rep: newReporter(target, o), keys: newKeyring(o.Keys), bareAt: map[int64]int64{}}
	if err := x.checkTable(ctx, t, checkpoint); err != nil {
		return nil, fmt.Errorf("verify %s: %w", target, err)
	}
	for i := range x.rep.Findings {
		if f := &x.rep.Findings[i]; strings.HasPrefix(f.Where, "line ") {
			f.Where = t.Where(f.Index)
		}
	}
	return x.rep.report(), nil
}

var errFirst = errors.New("the first is enough")

func (x *export) checkTable(ctx context.Context, t Table, checkpoint []byte) error {
	err := t.Rows(ctx, func(r trail.Record, _ trail.Hash) error {
		if r.Index == 0 && r.Leaf == nil && !x.keys.given {
			x.keys.addCreated(r.Entry)
		}
		return errFirst
	})
	if err != nil && !errors.Is(err, errFirst) {
		return err
	}
	x.seal = x.keys.open(checkpoint, true)
	x.trailer = &trail.Trailer{Checkpoint: string(checkpoint), Count: x.seal.Size}
	x.size = x.seal.Size
	since := openSince(x.rep, x.keys, x.o)
	x.tree = newAssembly(x.rep, since, hashSource{step: trail.TileHeight, run: func(int, int64) ([]trail.Hash, error) { return nil, nil }})
	if err := inorder.Run(ctx, x.o.Workers, tableBlocks(t), func(b *lineBlock) { b.examine() }, x.collect); err != nil {
		return err
	}
	if err := x.finishWhole(); err != nil {
		return err
	}
	x.reportAbsence()
	return nil
}

// tableRows is how many rows are checked at a time.
const tableRows = 256

// tableBlocks returns what makes blocks of rows.
func tableBlocks(t Table) func(context.Context, func(*lineBlock) error) error {
	return func(ctx context.Context, emit func(*lineBlock) error) error {
		b := &lineBlock{number: 1}
		err := t.Rows(ctx, func(r trail.Record, previous trail.Hash) error {
			b.records = append(b.records, r)
			b.previous = append(b.previous, previous)
			b.done = r.Index + 1
			if len(b.records) < tableRows {
				return nil
			}
			full := b
			b = &lineBlock{number: full.number + tableRows}
			return emit(full)
		})
		if err != nil || len(b.records) == 0 {
			return err
		}
		return emit(b)
	}
}

// examine checks what can be checked of rows on their own.
func (b *lineBlock) examine() {
	b.checked = make([]checkedLine, len(b.records))
	for i := range b.records {
		r, c := &b.records[i], &b.checked[i]
		c.number = b.number + int64(i)
		c.take(r, b.previous[i])
		if r.Link(b.previous[i]) != r.Chain {
			c.kind, c.fault = Changed, "the entry does not have the hash that stands beside it"
		} else if err := r.CheckErasable(); err != nil {
			c.kind, c.fault = DetailsMismatch, err.Error()
		}
	}
}
