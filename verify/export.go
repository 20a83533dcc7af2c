package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// Export checks an NDJSON export.
//
// A whole export, which has every entry of the ledger and ends in a
// checkpoint, shows as much as the ledger itself. A filtered one shows of each
// of its entries that it is in the ledger, and not that nothing else matches
// the filter. Without a checkpoint the lines can only agree with each other.
//
// If r cannot be read twice, such as a pipe, it is first copied to a temporary
// file. Whatever is wrong with the export is in the report; an error means
// that it could not be checked.
func Export(ctx context.Context, r io.Reader, o Options) (*Report, error) {
	target := "export"
	if named, ok := r.(interface{ Name() string }); ok {
		target = named.Name()
	}
	file, done, err := twice(r)
	if err != nil {
		return nil, fmt.Errorf("verify export: %w", err)
	}
	defer done()
	x := &export{ctx: ctx, o: o, rep: newReporter(target, o), keys: &keyring{}, file: file}
	if err := x.check(ctx); err != nil {
		return nil, fmt.Errorf("verify export: %w", err)
	}
	return x.rep.report(), nil
}

// twice returns what r reads as something that can be read twice.
func twice(r io.Reader) (io.ReadSeeker, func(), error) {
	if s, ok := r.(io.ReadSeeker); ok {
		if _, err := s.Seek(0, io.SeekStart); err == nil {
			return s, func() {}, nil
		}
	}
	f, err := os.CreateTemp("", "export-*.ndjson")
	if err != nil {
		return nil, nil, err
	}
	done := func() {
		f.Close()
		os.Remove(f.Name())
	}
	if _, err = io.Copy(f, r); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return f, done, nil
}

// maxLine bounds the lines that are read, in bytes. The longest event makes a
// line of less than a quarter of it.
const maxLine = 8 << 20

// An export is one that is being checked.
type export struct {
	ctx  context.Context
	o    Options
	rep  *reporter
	keys *keyring
	file io.ReadSeeker
	size int64

	trailer *trail.Trailer // nil for none
	seal    seal           // its checkpoint
	tree    *assembly

	lines   int64 // events and what should have been events
	runs    []run // of indexes; from and to are lines
	excess  int64
	broken  []brokenLine
	ended   int64 // line of the checkpoint
	next    int64
	before  checkedLine // the line before, if it was read
	chained bool
}

// A brokenLine is a line that cannot be read.
type brokenLine struct {
	finding int   // in Findings, or -1
	index   int64 // the one that was expected there
}

// A checkedLine is what a worker found out about a line.
type checkedLine struct {
	number  int64
	index   int64
	hash    trail.Hash // the chain after the entry, and before it:
	before  trail.Hash
	linked  bool // hash follows from before and the entry
	leaf    trail.Hash
	entry   []byte // of the first entry only
	erased  bool
	trailer *trail.Trailer
	// kind and fault say what is wrong with the line in itself.
	kind  Kind
	fault string
	read  bool // the line could be read
}

// A lineBlock is a run of lines on their way through the stages.
type lineBlock struct {
	text    []byte
	ends    []int64 // of lines in text; -1 for one that was too long
	number  int64   // of the first line
	done    int64
	checked []checkedLine
}

func (x *export) check(ctx context.Context) error {
	if err := x.peek(); err != nil {
		return err
	}
	since := openSince(x.rep, x.keys, x.o.Since)
	whole := x.trailer == nil || x.trailer.Whole()
	if !whole {
		x.sinceFiltered(since)
		since = nil
	}
	x.tree = newAssembly(x.rep, since, func(int, int64) ([]trail.Hash, error) { return nil, nil })
	if err := inOrder(ctx, x.o.Workers, x.read, x.work, x.collect); err != nil {
		return err
	}
	if whole {
		return x.finishWhole()
	}
	x.finishFiltered()
	return nil
}

// peek reads the first line, for the key, and the last, for the checkpoint.
func (x *export) peek() error {
	for _, v := range x.o.Keys {
		x.keys.add(v)
	}
	x.keys.given = len(x.keys.keys) > 0
	first, err := bufio.NewReaderSize(io.LimitReader(x.file, maxLine), 64<<10).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if l, _, err := trail.ParseLine(bytes.TrimSuffix(first, []byte("\n"))); err == nil && l != nil && l.Record.Index == 0 && !x.keys.given {
		if _, text, err := created(l.Record.Entry); err == nil {
			if v, err := parseKey(text); err == nil {
				x.keys.add(v)
			}
		}
	}
	if x.size, err = x.file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	last, err := lastLine(x.file, x.size)
	if err != nil {
		return err
	}
	if _, t, err := trail.ParseLine(last); err == nil && t != nil {
		x.trailer = t
		x.seal = x.keys.open([]byte(t.Checkpoint), true)
	}
	_, err = x.file.Seek(0, io.SeekStart)
	return err
}

// lastLine returns the last line without its newline, or nil where it is
// longer than a line may be.
func lastLine(r io.ReadSeeker, size int64) ([]byte, error) {
	for n := int64(4 << 10); ; n *= 8 {
		n = min(n, size, maxLine)
		if _, err := r.Seek(size-n, io.SeekStart); err != nil {
			return nil, err
		}
		tail := make([]byte, n)
		if _, err := io.ReadFull(r, tail); err != nil {
			return nil, err
		}
		tail = bytes.TrimSuffix(tail, []byte("\n"))
		if i := bytes.LastIndexByte(tail, '\n'); i >= 0 {
			return tail[i+1:], nil
		}
		if n == size {
			return tail, nil
		}
		if n == maxLine {
			return nil, nil
		}
	}
}

// read makes blocks of lines.
func (x *export) read(emit func(*lineBlock) error) error {
	r := bufio.NewReaderSize(x.file, 64<<10)
	b := &lineBlock{number: 1}
	start := 0 // of the line in b.text; -1 while one that is too long is passed over
	for {
		part, err := r.ReadSlice('\n')
		b.done += int64(len(part))
		if start >= 0 {
			b.text = append(b.text, part...)
			if len(b.text)-start > maxLine {
				b.text, start = b.text[:start], -1
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return err
		}
		switch {
		case start < 0:
			b.ends = append(b.ends, -1)
		case len(b.text) > start:
			b.ends = append(b.ends, int64(len(b.text)))
		}
		start = len(b.text)
		if err == nil && len(b.text) < bufferSize {
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
	start := int64(0)
	for i, end := range b.ends {
		c := &b.checked[i]
		c.number = b.number + int64(i)
		if end < 0 {
			c.kind, c.fault = Changed, fmt.Sprintf("the line is longer than %d bytes", maxLine)
			continue
		}
		x.line(c, b.text[start:end])
		start = end
	}
}

// line checks one line.
func (x *export) line(c *checkedLine, text []byte) {
	l, t, err := trail.ParseLine(bytes.TrimSuffix(text, []byte("\n")))
	switch {
	case err != nil:
		c.kind, c.fault = Changed, fmt.Sprintf("the line cannot be read: %v", err)
		return
	case t != nil:
		c.trailer = t
		if again, err := json.Marshal(t); err != nil || !bytes.Equal(again, bytes.TrimSuffix(text, []byte("\n"))) {
			c.kind, c.fault = Changed, "the checkpoint's line is not in the form in which it was exported"
		}
		return
	}
	c.read, c.index, c.hash, c.before = true, l.Record.Index, l.Record.Chain, l.Previous
	c.linked = trail.Link(l.Previous, l.Record.Entry) == l.Record.Chain
	c.leaf = trail.LeafHash(l.Record.Entry)
	c.erased = l.Record.Erasable == nil
	if c.index == 0 {
		c.entry = l.Record.Entry
	}
	if !c.linked {
		c.kind, c.fault = Changed, "the entry does not have the hash that stands beside it"
		return
	}
	if c.kind, c.fault = lineFault(l, text); c.fault != "" || x.trailer == nil || x.seal.Note == nil || x.trailer.Whole() {
		return
	}
	switch {
	case l.Proof == nil:
		c.kind, c.fault = Changed, "the line has no proof"
	case c.index >= x.seal.Size:
		c.kind, c.fault = Changed, fmt.Sprintf("the entry is not under the checkpoint of %d entries", x.seal.Size)
	case tlog.CheckRecord(l.Proof, x.seal.Size, x.seal.Root, c.index, c.leaf) != nil:
		c.kind, c.fault = Changed, "the entry, its index or the proof was changed: the proof does not lead to the checkpoint"
	}
}

// collect takes the next lines.
func (x *export) collect(b *lineBlock) error {
	for i := range b.checked {
		c := &b.checked[i]
		if x.ended > 0 {
			x.rep.add(Changed, -1, c.where(), "a line stands behind the checkpoint's")
			x.ended = c.number
		}
		switch {
		case c.trailer != nil:
			x.ended = c.number
			if c.fault != "" {
				x.rep.add(c.kind, -1, c.where(), "%s", c.fault)
			}
		case !c.read:
			x.unreadable(c)
		default:
			if err := x.event(c); err != nil {
				return err
			}
		}
	}
	if x.o.Progress != nil {
		x.o.Progress(b.done, x.size)
	}
	return nil
}

func (c *checkedLine) where() string { return place{at: c.number}.String() }

// unreadable takes a line that cannot be read for the entry that should stand
// there.
func (x *export) unreadable(c *checkedLine) {
	x.lines++
	x.chained = false
	f := x.rep.add(c.kind, -1, c.where(), "%s", c.fault)
	if len(x.broken) < maxRuns {
		x.broken = append(x.broken, brokenLine{f, x.next})
	}
	x.next++
}

// event takes an event's line.
func (x *export) event(c *checkedLine) error {
	x.lines++
	x.rep.Entries++
	if c.erased {
		x.rep.Erased++
	} else {
		x.rep.Details++
	}
	follows := x.chained && x.before.index+1 == c.index
	switch {
	case c.fault != "":
		x.rep.add(c.kind, c.index, c.where(), "%s", c.fault)
	case follows && x.before.hash != c.before && x.before.fault == "":
		x.tree.doubt = true
		x.rep.add(Changed, x.before.index, x.before.where(), "the hash of entry %d is not the one that entry %d was recorded behind", x.before.index, c.index)
	case c.index == 0 && c.before != trail.Hash{}:
		c.fault = "the chain does not begin with zeros"
		x.rep.add(Changed, 0, c.where(), "%s", c.fault)
	}
	if c.index == 0 && c.fault == "" {
		x.keys.checkCreated(x.rep, c.entry, c.where())
	}
	x.before, x.chained = *c, true
	x.place(c)
	if x.trailer != nil && !x.trailer.Whole() || c.index < x.tree.next {
		return nil // there is no tree, or a finding about the order will say so
	}
	if c.index > x.tree.next {
		if err := x.tree.skip(c.index); err != nil {
			return err
		}
	}
	return x.tree.add(slot{index: c.index, where: place{at: c.number}, leaf: c.leaf, reported: c.fault != ""})
}

// place notes where an index stands.
func (x *export) place(c *checkedLine) {
	x.next = c.index + 1
	if n := len(x.runs); n > 0 && x.runs[n-1].to == c.number && x.runs[n-1].end() == c.index {
		x.runs[n-1].to++
		x.runs[n-1].count++
		return
	}
	if len(x.runs) == maxRuns {
		x.excess++
		return
	}
	x.runs = append(x.runs, run{from: c.number, to: c.number + 1, first: c.index, count: 1})
}
