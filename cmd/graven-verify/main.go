// Command graven-verify checks a Graven ledger with nothing but its public
// key: a data directory, or a file that "graven export" wrote.
//
// It is a second opinion. It shares the formats with Graven (packages event,
// trail and cosign) and nothing else, and is meant to be read before it is run. It
// stops where a file no longer makes sense; "graven verify" goes on and
// explains more.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// version is set when the program is built.
var version = "dev"

const usage = `Usage: graven-verify [--key KEY] [--since CHECKPOINT]
                     [--witness KEY]... [--threshold N] TARGET

TARGET is a data directory, or a file that 'graven export' wrote. KEY is the
ledger's public key, or a file with it, from a source you trust; without it the
ledger can only be found to agree with itself. CHECKPOINT is a file with a
checkpoint that was seen earlier, which the ledger must extend; whether the
ledger of a filtered export does can be told only at the export's own size.
With either of them, an export that does not end with a checkpoint fails.
With --witness, the public key of a witness or a file with it, N of the given
witnesses (all, unless told) must have cosigned a checkpoint of the ledger.

Exit codes: 0 nothing wrong, 1 error, 2 usage, 3 verification failed.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs one command line and returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("graven-verify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	key := flags.String("key", "", "")
	earlier := flags.String("since", "", "")
	var witnesses []string
	flags.Func("witness", "", func(s string) error { witnesses = append(witnesses, s); return nil })
	threshold := flags.Int("threshold", 0, "")
	showVersion := flags.Bool("version", false, "")
	var targets []string
	for len(args) > 0 { // flags may stand behind the target
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return 0
		} else if err != nil {
			return 2
		}
		if args = flags.Args(); len(args) > 0 {
			targets, args = append(targets, args[0]), args[1:]
		}
	}
	if *showVersion {
		fmt.Fprintln(stdout, "graven-verify "+version)
		return 0
	}
	if len(targets) != 1 {
		flags.Usage()
		return 2
	}
	v := &verifier{out: stdout, roots: map[int64][]known{}}
	since, err := v.setFlags(*key, *earlier, witnesses, *threshold)
	if err != nil {
		fmt.Fprintln(stderr, "graven-verify:", printable(err.Error()))
		return 2
	}
	if err := v.run(targets[0], since); err != nil {
		fmt.Fprintln(stderr, "graven-verify:", printable(err.Error()))
		return 1
	}
	if v.wrong > 0 {
		fmt.Fprintf(stdout, "FAILED: %d findings\n", v.wrong)
		return 3
	}
	v.good()
	return 0
}

// good prints the verdict, and what it does not say.
func (v *verifier) good() {
	if v.whole {
		fmt.Fprintf(v.out, "GOOD: %d entries, root %s\n", v.tree.Size(), v.tree.Root())
	} else {
		fmt.Fprintf(v.out, "GOOD: %d entries, each with its proof\n", v.count)
	}
	switch {
	case v.key == nil:
		fmt.Fprintln(v.out, "unproven: no key was given (--key), so that no signature was checked")
	case !v.trusted:
		fmt.Fprintln(v.out, "unproven: self-consistent, key not authenticated (--key does that)")
	}
	switch {
	case v.checkpoint == nil:
		fmt.Fprintln(v.out, "unproven: there is no checkpoint, so that nothing shows that the end was not cut off")
	case v.since == nil:
		fmt.Fprintln(v.out, "unproven: no earlier checkpoint was given (--since), so that an older copy would pass")
	case !v.whole && v.since.Size < v.checkpoint.Size:
		fmt.Fprintf(v.out, "unproven: the earlier checkpoint of %d entries could not be compared with a filtered export\n", v.since.Size)
	}
	if !v.whole {
		fmt.Fprintln(v.out, "unproven: the export is filtered; it cannot show that it has everything that matches")
	}
}

// A verifier is one run.
type verifier struct {
	out     io.Writer
	key     note.Verifier // nil until it is known
	trusted bool          // the key came from outside

	tree       trail.Tree
	chain      trail.Hash
	checkpoint *trail.Checkpoint // the newest that was found good
	since      *trail.Checkpoint // the earlier one that was given
	policy     cosign.Policy
	cosigned   *trail.Checkpoint // that witnesses have signed
	roots      map[int64][]known // by size: what the tree must have been
	whole      bool              // the target holds the ledger from entry 0
	count      int64
	last       int64 // index in the line before, of a filtered export
	wrong      int
	manifest   *manifest // nil unless it is a backup
	gap        bool      // entries are missing, or out of order
	first      []byte    // entry 0
}

// known is a root that something outside the entries tells of.
type known struct {
	root trail.Hash
	who  string
}

func (v *verifier) found(format string, args ...any) {
	if v.wrong++; v.wrong <= 100 {
		fmt.Fprintln(v.out, "WRONG", printable(fmt.Sprintf(format, args...)))
	}
}

// setFlags takes what the command line says, and returns the earlier checkpoint.
func (v *verifier) setFlags(key, earlier string, witnesses []string, threshold int) (since []byte, err error) {
	if key != "" {
		text, err := os.ReadFile(key)
		if err != nil {
			text = []byte(key)
		}
		if err := v.setKey(text); err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		v.trusted = true
	}
	if earlier != "" {
		if since, err = os.ReadFile(earlier); err == nil {
			_, err = trail.ReadCheckpoint(since)
		}
		if err != nil {
			return nil, fmt.Errorf("--since: %w", err)
		}
	}
	return since, v.setPolicy(witnesses, threshold)
}

func (v *verifier) run(target string, since []byte) error {
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if v.manifest, err = v.readManifest(target); err != nil {
			return err
		}
	}
	if info.IsDir() && v.key == nil {
		text, err := os.ReadFile(filepath.Join(target, trail.VKeyFile))
		if err == nil {
			err = v.setKey(text)
		}
		if err != nil {
			return err
		}
	}
	if since != nil {
		v.since = v.expect(since, "the earlier checkpoint")
	}
	if info.IsDir() {
		err = v.directory(target)
	} else {
		err = v.export(target)
	}
	if err != nil {
		return err
	}
	v.beyond()
	v.witnessed()
	return nil
}

// beyond finds entries that something tells of, and that are not there.
func (v *verifier) beyond() {
	for size, list := range v.roots {
		for _, k := range list {
			if size > v.tree.Size() && v.whole {
				v.found("%s speaks of %d entries, there are %d", k.who, size, v.tree.Size())
			}
		}
	}
}

// setPolicy reads the witnesses' keys.
func (v *verifier) setPolicy(args []string, threshold int) error {
	for _, a := range args {
		text, err := os.ReadFile(a)
		if err != nil {
			text = []byte(a)
		}
		w, err := cosign.ParseWitness(strings.TrimSpace(string(text)))
		if err != nil {
			return fmt.Errorf("--witness: %w", err)
		}
		v.policy.Witnesses = append(v.policy.Witnesses, w)
	}
	if v.policy.Need = threshold; threshold == 0 {
		v.policy.Need = len(args)
	}
	if err := v.policy.Check(); err != nil {
		return fmt.Errorf("--witness, --threshold: %w", err)
	}
	return nil
}

// witnessed holds the cosigned checkpoint against the policy. That the ledger
// extends it is checked elsewhere.
func (v *verifier) witnessed() {
	if v.policy.Need == 0 {
		return
	}
	if v.cosigned == nil {
		v.found("there is no checkpoint that witnesses have cosigned")
		return
	}
	by, err := v.policy.Cosigned(v.cosigned.Note)
	switch of := len(v.policy.Witnesses); {
	case err != nil:
		v.found("the cosigned checkpoint: %v", err)
	case len(by) < v.policy.Need:
		v.found("%d of %d witnesses should have cosigned the checkpoint of %d entries, %d did", v.policy.Need, of, v.cosigned.Size, len(by))
	case v.wrong > 0: // it may be another ledger that they have seen
	default:
		fmt.Fprintf(v.out, "witnessed up to entry %d by %d of %d\n", v.cosigned.Size-1, len(by), of)
		if c := v.checkpoint; c != nil && c.Size > v.cosigned.Size {
			fmt.Fprintf(v.out, "note: entries %d to %d are not witnessed yet\n", v.cosigned.Size, c.Size-1)
		}
	}
}

func (v *verifier) setKey(text []byte) (err error) {
	v.key, err = note.NewVerifier(strings.TrimSpace(string(text)))
	return err
}

// open reads a signed checkpoint. Without a key it is taken at its word.
func (v *verifier) open(text []byte) (*trail.Checkpoint, error) {
	if v.key == nil {
		return trail.ReadCheckpoint(text)
	}
	return trail.OpenCheckpoint(text, v.key)
}

// expect demands that the ledger extends a checkpoint.
func (v *verifier) expect(text []byte, who string) *trail.Checkpoint {
	c, err := v.open(text)
	if err != nil {
		v.found("%s: %v", who, err)
		return nil
	}
	v.roots[c.Size] = append(v.roots[c.Size], known{c.Root, who})
	return c
}

// add takes the next entry into chain and tree.
func (v *verifier) add(r *trail.Record, done func(level int, n int64, h trail.Hash)) {
	if v.chain = trail.Link(v.chain, r.Entry); v.chain != r.Chain {
		v.found("entry %d does not follow from the one before it", r.Index)
		v.chain = r.Chain
	}
	if v.tree.Size() == 0 {
		v.first = bytes.Clone(r.Entry)
	}
	v.tree.Append(trail.LeafHash(r.Entry), done)
	for _, k := range v.roots[v.tree.Size()] {
		if k.root != v.tree.Root() {
			v.found("%s has another root at %d entries: they are not the same ledger", k.who, v.tree.Size())
		}
	}
	v.count++
}

// content takes what a check of a record's erasable content has given. That
// passes content which is gone; here there are no tombstones to allow it.
func (v *verifier) content(r *trail.Record, err error) {
	switch {
	case err != nil:
		v.found("entry %d: %v", r.Index, err)
	case r.Erasable == nil:
		v.found("entry %d: the details are missing, and no tombstone in the ledger says that they may be", r.Index)
	}
}

// signed checks a checkpoint that covers all entries so far.
func (v *verifier) signed(text []byte) {
	c, err := v.open(text)
	switch {
	case err != nil:
		v.found("the checkpoint behind entry %d: %v", v.tree.Size()-1, err)
	case c.Size != v.tree.Size() || c.Root != v.tree.Root():
		v.found("the checkpoint behind entry %d is not that of these %d entries", v.tree.Size()-1, v.tree.Size())
	default:
		v.checkpoint = c
	}
}

// directory checks a data directory. The tip is read before the log, which
// then has all that it tells of, though a server may be writing.
func (v *verifier) directory(dir string) error {
	v.whole = true
	if text, err := os.ReadFile(filepath.Join(dir, "format")); err == nil && strings.TrimSpace(string(text)) != "1" {
		return fmt.Errorf("the directory is of format %.20q, and this version knows format 1: it was written by a newer Graven; use the graven-verify of that version", strings.TrimSpace(string(text)))
	}
	if tip, err := os.ReadFile(filepath.Join(dir, trail.TipFile)); err != nil {
		v.found("the tip record cannot be read: %v", err)
	} else if c, err := v.open(bytes.TrimRight(tip, "\x00")); err != nil || v.manifest == nil || c.Size <= v.manifest.Size { // or a run that was interrupted has written it
		v.expect(bytes.TrimRight(tip, "\x00"), "the tip record")
	}
	if text, err := os.ReadFile(filepath.Join(dir, cosign.File)); err == nil {
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
			return fmt.Errorf("behind entry %d: %w", v.tree.Size()+int64(len(pending))-1, err)
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
			return fmt.Errorf("entry %d should stand behind entry %d", want, want-1)
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
		v.found("line %d: entry %d stands behind entry %d", n, r.Index, v.last)
	}
	v.count++
	v.last = r.Index
	if trail.Link(l.Previous, r.Entry) != r.Chain {
		v.found("line %d: the hash of entry %d is not that of its entry", n, r.Index)
	}
	if c := v.checkpoint; c != nil && (r.Index >= c.Size || tlog.CheckRecord(l.Proof, c.Size, c.Root, r.Index, trail.LeafHash(r.Entry)) != nil) {
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

// printable replaces what a terminal would act upon.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e {
			return '?'
		}
		return r
	}, s)
}
