package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

const (
	maxLine   = 8 << 20 // in bytes, as [trail.LastLine] has it
	blockSize = 256 << 10
)

var newline = []byte("\n")

// A lineBlock is a run of lines on their way through the stages.
type lineBlock struct {
	text    []byte
	ends    []int // of lines in text; -1 for one that was too long
	number  int64 // of the first line
	done    int64 // bytes read so far
	checked []checkedLine

	// Of a table there are rows instead of text.
	records  []trail.Record
	previous []trail.Hash
}

// A checkedLine is what a worker found out about a line.
type checkedLine struct {
	number  int64
	trailer bool
	read    bool // it is an event's, which has:
	index   int64
	// previous and hash are the chain before and after the entry.
	previous, hash trail.Hash
	leaf           trail.Hash
	entry          []byte // of the first entry, and of those that may be of a tombstone, or of a hold
	bare           bool   // without erasable content
	pruned         bool   // without the entry, of which leaf is the hash
	// kind and fault say what is wrong with the line in itself.
	kind  Kind
	fault string
}

func (c *checkedLine) where() string { return atLine(0, c.number) }

func atLine(_ int, line int64) string { return place{at: line}.String() }

// read makes blocks of lines.
func (x *export) read(_ context.Context, emit func(*lineBlock) error) error {
	r := bufio.NewReaderSize(x.file, 64<<10)
	b := &lineBlock{number: 1}
	start := 0 // of the line in b.text; -1 while one that is too long is passed over
	for {
		part, err := r.ReadSlice('\n')
		b.done += int64(len(part))
		if start >= 0 {
			if b.text = append(b.text, part...); len(b.text)-start > maxLine {
				b.text, start = b.text[:start], -1
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case start < 0:
			b.ends = append(b.ends, -1)
		case len(b.text) > start:
			b.ends = append(b.ends, len(b.text))
		}
		if start = len(b.text); err == nil && start < blockSize {
			continue
		}
		if len(b.ends) > 0 {
			if err := emit(b); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		b, start = &lineBlock{number: b.number + int64(len(b.ends)), done: b.done}, 0
	}
}

// work checks what can be checked of lines on their own.
func (x *export) work(b *lineBlock) {
	b.checked = make([]checkedLine, len(b.ends))
	start := 0
	for i, end := range b.ends {
		c := &b.checked[i]
		c.number = b.number + int64(i)
		if end < 0 {
			c.kind, c.fault = Changed, fmt.Sprintf("the line is longer than %d bytes", maxLine)
			continue
		}
		if err := x.line(c, bytes.TrimSuffix(b.text[start:end], newline)); err != nil {
			c.kind, c.fault = Changed, err.Error()
			var erasable *trail.ErasableError
			if errors.As(err, &erasable) {
				c.kind = DetailsMismatch
			}
		}
		start = end
	}
}

// take takes what a line, or a row, says of an entry.
func (c *checkedLine) take(r *trail.Record, previous trail.Hash) {
	c.read, c.index, c.previous, c.hash, c.leaf = true, r.Index, previous, r.Chain, r.LeafHash()
	if c.bare, c.pruned = r.Erasable == nil, r.Leaf != nil; c.index == 0 || tombstone.Decides(r.Entry) {
		c.entry = r.Entry
	}
}

// line checks one line.
func (x *export) line(c *checkedLine, text []byte) error {
	l, t, err := trail.ParseLine(text)
	switch {
	case err != nil:
		return fmt.Errorf("the line cannot be read: %w", err)
	case t != nil:
		c.trailer = true
		if again, err := json.Marshal(t); err != nil || !bytes.Equal(again, text) {
			return errors.New("the checkpoint's line is not in the form in which it was exported")
		}
		return nil
	}
	r := &l.Record
	c.take(r, l.Previous)
	if r.Link(l.Previous) != r.Chain {
		return errors.New("the entry does not have the hash that stands beside it")
	}
	if err := l.Check(text); err != nil {
		return err
	}
	switch {
	case x.filtered() && c.pruned:
		return errors.New("only the entry's hash is left: nothing shows that it matches the filter")
	case !x.filtered() || x.seal.Note == nil:
	case l.Proof == nil:
		return errors.New("the line has no proof")
	case c.index >= x.seal.Size:
		return fmt.Errorf("the entry is not under the checkpoint of %d entries", x.seal.Size)
	case tlog.CheckRecord(l.Proof, x.seal.Size, x.seal.Root, c.index, c.leaf) != nil:
		return errors.New("the entry, its index or the proof was changed: the proof does not lead to the checkpoint")
	}
	return nil
}
