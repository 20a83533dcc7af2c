package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// maxLine bounds the lines of an export, in bytes.
const maxLine = 8 << 20

// export checks an export. A whole one gives chain and tree; in a filtered one
// each line has its own proof under the checkpoint in the last line.
func (v *verifier) export(path string) error {
	trailer, err := v.lastLine(path)
	if err != nil {
		return err
	}
	v.whole = trailer == nil || trailer.Whole()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	lines.Split(splitLines)
	n := 1
	for ; lines.Scan(); n++ {
		l, t, err := trail.ParseLine(lines.Bytes())
		switch {
		case err != nil:
			v.found("line %d: %v", n, err)
			return nil
		case t != nil:
			v.trailer(n, t, lines.Bytes())
			if lines.Scan() {
				v.found("line %d: something stands behind the last line", n+1)
			}
			return nil
		}
		v.line(n, l, lines.Bytes())
	}
	v.absence.Seal(math.MaxInt64) // nothing in it is sealed, and who asks for a seal is told below
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		v.found("line %d is longer than %d bytes; what follows was not checked", n, maxLine)
	case err != nil:
		return err
	case v.trusted || v.since != nil:
		v.found("nothing in the export is signed: it does not end with a checkpoint (over HTTP it does with ?checkpoint=true)")
	case n == 1:
		v.found("the export is empty")
	}
	return nil
}

// splitLines splits at newlines. Unlike bufio.ScanLines it takes nothing else
// away.
func splitLines(data []byte, end bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if end && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// lastLine looks ahead to an export's last line and opens its checkpoint,
// which the proofs of the lines before it are held against.
func (v *verifier) lastLine(path string) (*trail.Trailer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tail := make([]byte, min(info.Size(), maxLine))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return nil, err
	}
	tail = bytes.TrimSuffix(tail, []byte("\n"))
	_, t, err := trail.ParseLine(tail[bytes.LastIndexByte(tail, '\n')+1:])
	if err != nil || t == nil {
		return nil, nil // an export without a checkpoint; lines are judged later
	}
	if v.checkpoint, err = v.open([]byte(t.Checkpoint)); err != nil {
		v.found("the checkpoint in the last line: %v", err)
	}
	return t, nil
}

// line checks a line, read from text: its members are those of its entry, its
// hash follows from the one before, and it is in the ledger.
func (v *verifier) line(n int, l *trail.Line, text []byte) {
	r := &l.Record
	v.content(r, l.Check(text))
	if v.whole {
		if !v.gap && (r.Index != v.tree.Size() || l.Previous != v.chain) {
			v.found("line %d: entry %d stands where entry %d should", n, r.Index, v.tree.Size())
			v.gap = true // once is enough
		}
		v.chain = l.Previous
		v.add(r, nil)
		return
	}
	if v.count > 0 && r.Index <= v.last {
		v.found("line %d: entry %d stands after entry %d", n, r.Index, v.last)
	}
	v.count++
	v.last = r.Index
	if r.Leaf != nil {
		v.found("line %d: only the hash of entry %d is left, which does not show that it matches the filter", n, r.Index)
	}
	if r.Link(l.Previous) != r.Chain {
		v.found("line %d: the hash of entry %d is not that of its entry", n, r.Index)
	}
	if c := v.checkpoint; c != nil && (r.Index >= c.Size || tlog.CheckRecord(l.Proof, c.Size, c.Root, r.Index, r.LeafHash()) != nil) {
		v.found("line %d: entry %d is not under the checkpoint", n, r.Index)
	}
}

// trailer checks the last line, read from text, against all others.
func (v *verifier) trailer(n int, t *trail.Trailer, text []byte) {
	if again, err := json.Marshal(t); err != nil || !bytes.Equal(again, text) {
		v.found("line %d is not in the form in which it was exported", n)
	}
	if t.Count != v.count {
		v.found("the last line speaks of %d lines, there are %d", t.Count, v.count)
	}
	c := v.checkpoint
	if t.Cosigned != "" && c != nil {
		w, err := v.open([]byte(t.Cosigned))
		if err == nil {
			err = t.CheckExtends(c)
		}
		if err != nil {
			v.found("the cosigned checkpoint in the last line: %v", err)
		} else {
			v.cosigned = w
		}
	}
	if c != nil {
		v.absence.Seal(c.Size) // what is not under it is found otherwise
	}
	switch {
	case c == nil:
	case v.whole && (c.Size != v.tree.Size() || c.Root != v.tree.Root()):
		v.found("the lines are not the %d entries that the checkpoint was signed for", c.Size)
	case !v.whole && v.since != nil && v.since.Size > c.Size:
		v.found("the earlier checkpoint speaks of %d entries, the export's of %d", v.since.Size, c.Size)
	case !v.whole && v.since != nil && v.since.Size == c.Size && v.since.Root != c.Root:
		v.found("the earlier checkpoint has another root than the export's of as many entries: they are not the same ledger")
	}
}
