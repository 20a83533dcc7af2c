package verify

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/graven-audit/graven/internal/inorder"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// Export checks an NDJSON export.
//
// A whole export, which has every entry of the ledger and ends in a
// checkpoint, shows as much as the ledger itself. A filtered one shows of each
// of its entries that it is in the ledger, and not that nothing else matches
// the filter. Without a checkpoint the lines can only agree with each other,
// which is a finding where the options have a key or an earlier checkpoint.
//
// Whatever is wrong with the export is in the report; an error means that it
// could not be checked.
func Export(ctx context.Context, r io.ReadSeeker, o Options) (*Report, error) {
	target := "export"
	if named, ok := r.(interface{ Name() string }); ok {
		target = named.Name()
	}
	x := &export{o: o, rep: newReporter(target, o), keys: newKeyring(o.Keys), file: r, bareAt: map[int64]int64{}}
	if err := x.check(ctx); err != nil {
		return nil, fmt.Errorf("verify export: %w", err)
	}
	return x.rep.report(), nil
}

// An export is one that is being checked.
type export struct {
	o    Options
	rep  *reporter
	keys *keyring
	file io.ReadSeeker
	size int64

	trailer *trail.Trailer // the last line, or nil
	seal    seal           // its checkpoint
	tree    *assembly      // of a whole export

	lines  int64 // but for the trailer's
	ended  int64 // number of the trailer's line
	before *checkedLine
	next   int64          // index that the next line should have
	absent int64          // entries before it that are not there
	broken []seglog.Fault // lines that cannot be read, as the entries expected there
	runs   []seglog.Run   // of the indexes of a whole export; From and To are lines

	absence tombstone.Absence
	bareAt  map[int64]int64 // lines of entries without details, or only with their hash; of the first of them
}

// maxRuns bounds the runs that are remembered.
const maxRuns = 1 << 16

// whole reports whether the export says that it has every entry, and filtered
// whether it says that a filter left some out.
func (x *export) whole() bool    { return x.trailer != nil && x.trailer.Whole() }
func (x *export) filtered() bool { return x.trailer != nil && !x.trailer.Whole() }

func (x *export) check(ctx context.Context) error {
	if err := x.peek(); err != nil {
		return err
	}
	since := openSince(x.rep, x.keys, x.o)
	if x.filtered() {
		x.compareFiltered(since)
		since = nil
	}
	x.tree = newAssembly(x.rep, since, hashSource{step: trail.TileHeight, run: func(int, int64) ([]trail.Hash, error) { return nil, nil }})
	err := inorder.Run(ctx, x.o.Workers, x.read, x.work, x.collect)
	switch {
	case err != nil:
	case x.whole():
		err = x.finishWhole()
	case x.filtered():
		x.finishFiltered()
	default:
		x.finishUnsigned()
	}
	if err == nil {
		x.reportAbsence()
	}
	x.checkCosigned(place{at: max(x.ended, 1)})
	return err
}

// reportAbsence judges the entries that are gone, or without details, by the tombstones among the
// lines, each of which has a proof, or stands in a whole ledger.
func (x *export) reportAbsence() {
	x.absence.Seal(x.tree.next)
	if x.filtered() && x.seal.fault == "" {
		x.absence.Seal(x.seal.Size)
	}
	reportAbsence(x.rep, &x.absence, math.MaxInt64, func(index int64) string {
		if line, ok := x.bareAt[index]; ok {
			return atLine(0, line)
		}
		return ""
	})
	if x.whole() {
		reportKept(x.rep, &x.absence, x.seal.Size)
	}
}

// peek reads the first line, for a key, and the last, for the checkpoint.
func (x *export) peek() error {
	if _, err := x.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	first, err := bufio.NewReaderSize(io.LimitReader(x.file, maxLine), 64<<10).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if l, _, err := trail.ParseLine(bytes.TrimSuffix(first, newline)); err == nil && l != nil && l.Record.Index == 0 && l.Record.Leaf == nil && !x.keys.given {
		x.keys.addCreated(l.Record.Entry)
	}
	if x.size, err = x.file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if x.trailer, err = trail.LastLine(x.file); err != nil {
		return err
	}
	if x.trailer != nil {
		x.seal = x.keys.open([]byte(x.trailer.Checkpoint), true)
	}
	_, err = x.file.Seek(0, io.SeekStart)
	return err
}

// collect takes the next lines.
func (x *export) collect(b *lineBlock) error {
	for i := range b.checked {
		c := &b.checked[i]
		if x.ended > 0 {
			x.rep.add(Changed, -1, c.where(), "a line stands behind the checkpoint's")
		}
		switch {
		case c.trailer:
			x.ended = c.number
			if c.fault != "" {
				x.rep.add(c.kind, -1, c.where(), "%s", c.fault)
			}
		case c.read:
			if err := x.event(c); err != nil {
				return err
			}
		default:
			x.unreadable(c)
		}
	}
	if x.o.Progress != nil {
		x.o.Progress(b.done, x.size)
	}
	return nil
}

// unreadable takes a line for the entry that should stand there.
func (x *export) unreadable(c *checkedLine) {
	index := int64(-1)
	if !x.filtered() {
		index = x.next
		if len(x.broken) < maxRuns {
			x.broken = append(x.broken, seglog.Fault{First: index, End: index + 1})
		}
	}
	x.rep.add(c.kind, index, c.where(), "%s", c.fault)
	x.lines++
	x.next++
	x.before = nil
}

// event takes an event's line.
func (x *export) event(c *checkedLine) error {
	x.lines++
	x.rep.Entries++
	switch {
	case !c.bare:
		x.rep.Details++
	case c.fault == "" && len(x.bareAt) < maxRuns:
		x.bareAt[c.index] = c.number
	}
	if c.fault == "" {
		x.absence.Entry(c.index, c.hash, c.entry, c.bare, c.pruned)
	}
	if c.index == 0 && c.previous != (trail.Hash{}) && c.fault == "" {
		c.kind, c.fault = Changed, "the chain does not begin with zeros"
	}
	switch b := x.before; {
	case c.fault != "":
		x.rep.add(c.kind, c.index, c.where(), "%s", c.fault)
	case b != nil && b.index+1 == c.index && b.hash != c.previous && b.fault == "":
		x.tree.doubt = true
		x.rep.add(Changed, b.index, b.where(), "the hash of entry %d is not the one that entry %d was recorded behind", b.index, c.index)
	case c.index == 0:
		x.keys.checkCreated(x.rep, c.entry, c.where())
	}
	x.before = c
	x.place(c)
	if x.filtered() || c.index < x.tree.next {
		return nil // there is no tree, or a finding about the order will say so
	}
	if err := x.tree.skip(c.index); err != nil {
		return err
	}
	return x.tree.add(slot{index: c.index, where: place{at: c.number}, leaf: c.leaf, reported: c.fault != ""})
}

// place takes note of where an index stands.
func (x *export) place(c *checkedLine) {
	n := len(x.runs)
	switch {
	case !x.whole() && c.index < x.next:
		x.rep.add(Reordered, c.index, c.where(), "entry %d stands after entry %d", c.index, x.next-1)
		return
	case !x.whole():
		x.absent += c.index - x.next
	case n > 0 && x.runs[n-1].To == c.number && x.runs[n-1].End() == c.index:
		x.runs[n-1].To++
		x.runs[n-1].Count++
	case n < maxRuns:
		x.runs = append(x.runs, seglog.Run{From: c.number, To: c.number + 1, First: c.index, Count: 1})
	default:
		x.rep.Omitted++ // the order beyond this is not looked at
	}
	x.next = c.index + 1
}

// finishUnsigned judges an export without a checkpoint, of which it is not
// known whether it should be whole.
func (x *export) finishUnsigned() {
	x.tree.compare(x.tree.next)
	for _, e := range x.tree.since {
		x.rep.unproven("%s could not be compared: the export does not reach so far", e.what)
	}
	x.tree.since = nil
	x.tree.finish()
	switch {
	case x.keys.given || len(x.o.Since) > 0:
		x.rep.add(Missing, -1, atLine(0, x.lines+1), "nothing in the export is signed: it does not end with a checkpoint (over HTTP it does with ?checkpoint=true)")
	case x.lines == 0:
		x.rep.add(Missing, -1, atLine(0, 1), "the export is empty")
	default:
		x.rep.unproven("the export has no checkpoint: it cannot show that nothing was cut off, and nothing in it is signed")
	}
	if x.absent > 0 {
		x.rep.unproven("%d entries before its last are not in it; whether a filter or someone else left them out cannot be told", x.absent)
	}
	x.keys.conclude(x.rep, nil)
}

// finishWhole holds a whole export against its checkpoint.
func (x *export) finishWhole() error {
	a := seglog.Arrange(x.runs)
	reportOrder(x.rep, a, atLine)
	gaps, _ := a.Gaps(x.broken, seglog.Run{To: 1})
	for _, g := range gaps {
		x.rep.add(Missing, g.First, atLine(0, g.From), "%s %s missing", entries(g.First, g.End()), plural(g.Count, "is", "are"))
	}
	end, size, at := a.End, x.seal.Size, place{at: x.ended}
	if n := len(x.broken); n > 0 {
		end = max(end, min(x.broken[n-1].End, size))
	}
	switch disorder := len(a.Moved)+len(a.Repeated) > 0; {
	case x.seal.Note == nil:
	case end < size:
		x.rep.add(CutTail, end, at.String(), "the checkpoint covers %d entries, the last here is %d", size, end-1)
	case end > size:
		x.rep.add(Changed, size, at.String(), "%s %s not under the checkpoint of %d", entries(size, end), plural(end-size, "is", "are"), size)
	case x.trailer.Count != size:
		x.rep.add(Changed, -1, at.String(), "the checkpoint's line counts %d events, the checkpoint %d", x.trailer.Count, size)
	case disorder:
		x.tree.lost = true
	}
	if x.reportSeal(at); x.seal.Note != nil && x.seal.fault == "" && x.tree.next == size {
		if err := x.tree.settle(x.tree.way(x.seal.Root), 0, at); err != nil {
			return err
		}
	}
	x.tree.finish()
	return nil
}

// finishFiltered judges an export of which a filter left out entries.
func (x *export) finishFiltered() {
	at := place{at: x.ended}
	if x.trailer.Count != x.lines {
		x.rep.add(Missing, -1, at.String(), "the checkpoint's line counts %d events, there are %d", x.trailer.Count, x.lines)
	}
	x.reportSeal(at)
	x.rep.unproven("the export is filtered: it cannot show that it has everything that matches %.200q", x.trailer.Filter)
}

// reportSeal reports what is wrong with the checkpoint itself.
func (x *export) reportSeal(at place) {
	if x.seal.fault != "" {
		x.rep.add(x.seal.fault, x.seal.Size-1, at.String(), "%s", x.seal.reason)
	}
	if x.seal.Note != nil {
		x.keys.conclude(x.rep, &x.seal)
	}
}

// compareFiltered compares what can be compared with a filtered export.
func (x *export) compareFiltered(since []earlier) {
	for _, e := range since {
		switch {
		case x.seal.Note == nil:
		case e.Size > x.seal.Size:
			x.rep.add(RolledBack, x.seal.Size, e.where, "%s was signed before; the export's checkpoint covers %d", e.what, x.seal.Size)
		case e.Size < x.seal.Size:
			x.rep.unproven("%s could not be compared with a filtered export", e.what)
		case e.Root != x.seal.Root:
			x.rep.add(Forked, 0, e.where, "%s has another root than the export's checkpoint of the same size", e.what)
		}
	}
}
