package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// readSmall reads a file that is small by nature, and no more of it than that.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return data, errors.Join(err, f.Close())
}

// checkFiles refuses a directory with something else in the place of a file, such
// as a pipe, for which we would wait. What cannot be looked at tells so later.
func checkFiles(dir string) error {
	for _, sub := range []string{".", "keys", trail.LogDir, treeDir} {
		found, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			continue
		}
		for _, f := range found {
			path := filepath.Join(dir, sub, f.Name())
			if info, err := os.Stat(path); err == nil && !info.IsDir() && !info.Mode().IsRegular() {
				return fmt.Errorf("%s is no file (%s)", path, info.Mode())
			}
		}
	}
	return nil
}

// directory checks a data directory. The tip is read before the log, which
// then has all that it tells of, though a server may be writing.
func (v *verifier) directory(dir string) error {
	v.whole = true
	if text, err := readSmall(filepath.Join(dir, "format")); err == nil && !slices.Contains([]string{"1", "2"}, strings.TrimSpace(string(text))) {
		return fmt.Errorf("the directory is of format %.20q, and this version knows format 2: it was written by a newer Graven; use the graven-verify of that version", strings.TrimSpace(string(text)))
	}
	if tip, err := readSmall(filepath.Join(dir, trail.TipFile)); err != nil {
		v.found("the tip record cannot be read: %v", err)
	} else if c, err := v.open(bytes.TrimRight(tip, "\x00")); err != nil || v.manifest == nil || c.Size <= v.manifest.Size { // or a run that was interrupted has written it
		v.expect(bytes.TrimRight(tip, "\x00"), "the tip record")
	}
	if text, err := readSmall(filepath.Join(dir, cosign.File)); err == nil {
		v.cosigned = v.expect(text, "the cosigned checkpoint")
	} else if !errors.Is(err, os.ErrNotExist) {
		v.found("the cosigned checkpoint cannot be read: %v", err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, trail.LogDir, "*.seg"))
	if err != nil || len(segments) == 0 {
		return errors.Join(fmt.Errorf("%s holds no log", dir), err)
	}
	segments = v.cut(segments)
	rows, closeRows := v.openRows(dir)
	defer closeRows()
	for i, path := range segments { // sorted by name, which is by index
		if err := v.segment(path, i == len(segments)-1, func(level int, n int64, h trail.Hash) {
			if have, ok := rows.next(level); ok && have != h {
				v.found("hash %d of %s/%s is not that of the entries", n, treeDir, rowName(level))
			}
		}); err != nil {
			v.found("%s: %v; what follows was not checked", filepath.Base(path), err)
			break
		}
	}
	if m := v.manifest; m != nil && m.Size != v.tree.Size() {
		v.found("backup.json tells of %d entries, and where it ends are %d", m.Size, v.tree.Size())
	}
	return v.predecessor(dir)
}

// predecessor checks the ledger that this one succeeds, if the first entry says
// so: what is kept below the directory must be signed by the key that stands
// there, and end with the checkpoint that stands there.
func (v *verifier) predecessor(dir string) error {
	e, _, err := event.ParseEntry(v.first)
	var facts struct {
		Predecessor *struct{ Key, Checkpoint string }
	}
	if err == nil && len(e.Ledger) > 0 {
		err = json.Unmarshal(e.Ledger, &facts)
	}
	if err != nil || facts.Predecessor == nil {
		return nil // a first entry that cannot be read is not what was signed
	}
	old := &verifier{out: v.out, roots: map[int64][]known{}, trusted: true}
	if err := old.setKey([]byte(facts.Predecessor.Key)); err != nil {
		v.found("the predecessor's key in entry 0: %v", err)
		return nil
	}
	if old.since = old.expect([]byte(facts.Predecessor.Checkpoint), "the checkpoint in entry 0 of its successor"); old.since == nil {
		v.wrong += old.wrong
		return nil
	}
	below := filepath.Join(dir, "predecessor")
	if _, err := os.Stat(below); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(v.out, "note: entry 0 names a predecessor, %s, which is not here and was not checked\n", printable(old.since.Origin))
		return nil
	}
	if old.manifest, err = old.readManifest(below); err == nil {
		err = old.directory(below)
	}
	if errors.Is(err, errUnfinished) {
		fmt.Fprintf(v.out, "note: predecessor was not checked: %v\n", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("predecessor: %w", err)
	}
	old.beyond()
	if old.tree.Size() > old.since.Size {
		old.found("the predecessor has %d entries, and entry 0 of its successor names %d", old.tree.Size(), old.since.Size)
	}
	if v.wrong += old.wrong; old.wrong == 0 {
		fmt.Fprintf(v.out, "note: predecessor is the ledger %s that entry 0 names: %d entries, all good\n", printable(old.since.Origin), old.count)
	}
	return nil
}

// The hashes of the tree stand in a file for every fourth level, those of its
// complete subtrees in order.
const (
	treeDir   = "tree"
	rowHeight = 4
)

func rowName(level int) string { return fmt.Sprintf("%02d", level) }

// rows reads the stored hashes of the tree, a file for each level that has one.
// The newest may not be written yet.
type rows map[int]*bufio.Reader

// openRows opens the files, from the upper levels on, for lower ones are
// written first.
func (v *verifier) openRows(dir string) (rows, func()) {
	r := rows{}
	var files []*os.File
	above := int64(0) // bytes of the level above
	for level := 60; level >= 0; level -= rowHeight {
		name, size := rowName(level), int64(0)
		if f, err := os.Open(filepath.Join(dir, treeDir, name)); err == nil {
			files = append(files, f)
			r[level] = bufio.NewReader(f)
			if info, err := f.Stat(); err == nil {
				size = info.Size()
			}
		}
		if size>>rowHeight < above {
			v.found("%s/%s is cut off: the level above has more", treeDir, name)
		}
		if size%32 != 0 {
			v.found("%s/%s ends within a hash", treeDir, name)
		}
		above = size - size%32
	}
	return r, func() {
		for _, f := range files {
			f.Close()
		}
	}
}

// next returns the next hash of a level, if there is one.
func (r rows) next(level int) (h trail.Hash, ok bool) {
	if r[level] == nil {
		return h, false
	}
	_, err := io.ReadFull(r[level], h[:])
	return h, err == nil
}

// segment checks a segment file: a header, frames of records and checkpoints,
// zeros. Frames behind the last checkpoint of the last segment belong to a
// pool that was not acknowledged.
func (v *verifier) segment(path string, last bool, done func(int, int64, trail.Hash)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	end := int64(math.MaxInt64)
	if v.manifest != nil && last {
		end = v.manifest.Offset
	}
	in := bufio.NewReaderSize(io.LimitReader(f, end), 1<<20)
	head := make([]byte, 20)
	if _, err := io.ReadFull(in, head); errors.Is(err, io.EOF) && last && v.tree.Size() > 0 {
		return nil // it was begun and not used
	} else if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if v := head[7]; string(head[:7]) == "GRVNSEG" && v > '1' && v <= '9' && binary.LittleEndian.Uint32(head[16:]) == crc32.Checksum(head[:16], castagnoli) {
		return fmt.Errorf("the segment is of format %c, and this version knows format 1: it was written by a newer Graven", v)
	}
	if string(head[:8]) != "GRVNSEG1" || binary.LittleEndian.Uint64(head[8:]) != uint64(v.tree.Size()) ||
		binary.LittleEndian.Uint32(head[16:]) != crc32.Checksum(head[:16], castagnoli) {
		return fmt.Errorf("the header is damaged, or the segment does not go on at entry %d", v.tree.Size())
	}
	var pending []trail.Record // records that no checkpoint covers yet
	size := 0                  // theirs, in bytes
	for {
		body, err := readFrame(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && last && v.acknowledged() {
			fmt.Fprintln(v.out, "note: an unfinished pool stands behind the last checkpoint")
			return nil
		}
		if err != nil {
			return fmt.Errorf("after entry %d: %w", v.tree.Size()+int64(len(pending))-1, err)
		}
		if body[0] == trail.FrameCheckpoint {
			for i := range pending {
				v.add(&pending[i], done)
				v.content(&pending[i], pending[i].CheckErasable())
			}
			pending, size = pending[:0], 0
			v.signed(body[1:])
			continue
		}
		r, err := trail.ParseFrame(body)
		if want := v.tree.Size() + int64(len(pending)); err != nil || r.Index != want {
			return fmt.Errorf("entry %d should stand after entry %d", want, want-1)
		}
		if pending, size = append(pending, r), size+len(body); size > maxPool {
			return fmt.Errorf("no checkpoint stands behind the %d MiB from entry %d on", maxPool>>20, v.tree.Size())
		}
	}
	if len(pending) > 0 && !last {
		return fmt.Errorf("no checkpoint covers its last %d entries", len(pending))
	}
	return nil
}

// acknowledged reports whether all entries that anything knows of were read.
func (v *verifier) acknowledged() bool {
	for size := range v.roots {
		if size > v.tree.Size() {
			return false
		}
	}
	return v.tree.Size() > 0
}

// maxPool bounds the records under one checkpoint, in bytes. The ledger makes
// smaller ones; without a bound, a file could take all memory.
const maxPool = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readFrame reads a frame's body. At the zeros that end the frames, or at the
// end of the file, the error is io.EOF.
func readFrame(in *bufio.Reader) ([]byte, error) {
	head := make([]byte, 8)
	if n, err := io.ReadFull(in, head); n == 0 {
		return nil, io.EOF
	} else if err != nil {
		return nil, errors.New("a frame is cut off")
	}
	n := binary.LittleEndian.Uint32(head)
	if n == 0 {
		if head[4]|head[5]|head[6]|head[7] != 0 || !zeros(in) {
			return nil, errors.New("something stands among the zeros that end the file")
		}
		return nil, io.EOF
	}
	if n > 1<<20 {
		return nil, errors.New("no frame stands here")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, errors.New("a frame is cut off")
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errors.New("a frame's checksum does not match")
	}
	return body, nil
}

// zeros reports whether nothing but zeros is left, however many.
func zeros(in io.Reader) bool {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if len(bytes.Trim(buf[:n], "\x00")) > 0 || err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			return true
		}
	}
}
