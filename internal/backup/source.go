package backup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// ErrRefused means that a ledger was found to be damaged, or not the one that
// it has to be, or too short. Nothing was changed.
var ErrRefused = errors.New("refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}

// A source is a ledger that is copied: a data directory, or a backup.
type source struct {
	dir  string
	vkey string
	key  note.Verifier
	// kept is nil unless it is a backup.
	kept *datadir.Manifest
	log  *seglog.Log
	tip  *trail.Checkpoint // that callers were told of
	// cosigned is the newest checkpoint that witnesses have signed, or nil.
	cosigned *trail.Checkpoint
	cut      int64 // entries that are copied
}

// openSource opens the ledger in dir and decides where the copy ends. Locked says
// that we have the lock of it.
func openSource(dir string, locked bool) (*source, error) {
	if err := datadir.CheckFormat(dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, datadir.UnfinishedFile)); err == nil {
		return nil, fmt.Errorf("%s was not restored to the end: remove it and restore anew", dir)
	}
	s := &source{dir: dir}
	m, key, err := readManifest(dir)
	switch {
	case err != nil:
		return nil, err
	case m != nil && m.Size == 0:
		return nil, fmt.Errorf("%s: %w", dir, datadir.ErrUnfinished)
	case m != nil:
		s.kept, s.key, s.vkey = m, key, m.Key
	default:
		if s.vkey, s.key, err = readKey(dir); err != nil {
			return nil, fmt.Errorf("%s is not the data directory of a ledger: %w", dir, err)
		}
	}
	// It is read before the tip, which therefore is as new at least.
	err = s.readCosigned()
	if err == nil {
		err = s.settle(locked)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *source) readCosigned() error {
	path := filepath.Join(s.dir, cosign.File)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.cosigned, err = trail.OpenCheckpoint(text, s.key); err != nil {
		return refuse("%s is damaged, or of another ledger: %w", path, err)
	}
	return nil
}

// keepCosigned writes the checkpoint that witnesses have signed beside a copy.
func (s *source) keepCosigned(fs seglog.FS, dir string) error {
	path := filepath.Join(dir, cosign.File)
	if s.cosigned == nil || s.cosigned.Size > s.cut {
		return nil
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, s.cosigned.Note) {
		return nil
	}
	return seglog.WriteFile(fs, path, s.cosigned.Note)
}

func readKey(dir string) (string, note.Verifier, error) {
	data, err := os.ReadFile(filepath.Join(dir, trail.VKeyFile))
	if err != nil {
		return "", nil, err
	}
	text := strings.TrimSpace(string(data))
	key, err := trail.ParseKey(text)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", trail.VKeyFile, err)
	}
	return text, key, nil
}

// settle decides where the copy ends: where the manifest says, or else at the
// tip of a ledger that is in use, and at the last whole checkpoint of one that
// is not.
func (s *source) settle(locked bool) error {
	if s.kept != nil {
		s.cut = s.kept.Size
		return s.list()
	}
	var newest int64
	look := func() (err error) {
		if err = s.list(); err == nil {
			newest, err = s.newest()
		}
		return err
	}
	free, err := true, error(nil)
	if locked {
		err = look()
	} else {
		free, err = seglog.Unlocked(filepath.Join(s.dir, trail.LockFile), look)
	}
	if err != nil {
		return err
	}
	if !free {
		if err := s.list(); err != nil {
			return err
		}
		newest = s.tip.Size
	}
	if newest < s.tip.Size {
		return refuse("the log of %s can be read up to entry %d, but its tip knows of %d entries: it is damaged, or was cut off; graven verify names what is wrong", s.dir, newest-1, s.tip.Size)
	}
	if s.cosigned != nil && s.cosigned.Size > newest {
		return refuse("the log of %s can be read up to entry %d, but witnesses have signed %d entries of it", s.dir, newest-1, s.cosigned.Size)
	}
	s.cut = newest
	return nil
}

// list reads the tip and, after it, lists the log, which therefore has all that
// the tip tells of.
func (s *source) list() (err error) {
	if s.tip, err = readTip(s.dir, s.key); err != nil {
		return err
	}
	if s.tip == nil && s.kept == nil {
		return refuse("%s has no tip record, so that nothing shows whether its end was cut off", s.dir)
	}
	s.log, err = seglog.Open(filepath.Join(s.dir, trail.LogDir), seglog.Options{ReadOnly: true})
	return err
}

// readTip reads a directory's tip record. It returns nil where there is none.
func readTip(dir string, key note.Verifier) (*trail.Checkpoint, error) {
	path := filepath.Join(dir, trail.TipFile)
	text, err := datadir.ReadTip(path)
	if err != nil {
		return nil, err
	}
	if text = bytes.TrimRight(text, "\x00"); len(text) == 0 {
		return nil, nil
	}
	c, err := trail.OpenCheckpoint(text, key)
	if err != nil {
		return nil, refuse("the tip record %s is damaged, or of another ledger: %w", path, err)
	}
	return c, nil
}

// newest returns how many entries the last whole checkpoint covers.
func (s *source) newest() (int64, error) {
	text, err := newest(s.log)
	if err != nil || text == nil {
		return 0, err
	}
	c, err := trail.ReadCheckpoint(text)
	if err != nil {
		return 0, err
	}
	return c.Size, nil
}

// lastCheckpoint returns the last whole checkpoint of a segment, or nil.
func lastCheckpoint(r *seglog.Reader) (text []byte, err error) {
	buf := make([]byte, 1<<20)
	for {
		frames, err := r.Next(buf)
		var damage *seglog.Damage
		if errors.Is(err, io.EOF) || errors.As(err, &damage) {
			return text, nil
		}
		if err != nil {
			return nil, err
		}
		for _, f := range frames {
			if f.Body[0] != trail.FrameCheckpoint {
				continue
			}
			if _, err := trail.ReadCheckpoint(f.Body[1:]); err == nil {
				text = append(text[:0], f.Body[1:]...)
			}
		}
	}
}

func (s *source) close() error {
	if s.log == nil {
		return nil
	}
	return s.log.Close()
}

// A claim is a checkpoint that the ledger must extend, and who made it known.
type claim struct {
	*trail.Checkpoint
	who string
}

// A pool is records and the checkpoint over them, as they stand in the log.
type pool struct {
	segment uint64
	offset  int64
	frames  []byte
	after   *position
	entries int64
}

// A scan follows a source's log and checks every byte on its way: frames,
// chain, tree, erasable content, the root of each checkpoint, and the signature
// of the last in each segment. The others vouch for nothing that it does not.
type scan struct {
	*source
	at position
	// shift is by how much more bytes stand before where we begin, in the copy
	// than in the source: entries were erased there since.
	shift  int64
	claims []claim // by size
	// sink, if not nil, takes what was checked, pool by pool.
	sink     func(*pool) error
	progress func(done, total int64)

	pool pool
	next position // behind the records of the pool
	last []byte   // entry

	absence tombstone.Absence
}

// run reads up to where the copy ends.
func (c *scan) run(ctx context.Context) error {
	c.claims = slices.Clone(c.claims) // the caller's are used again
	if c.cosigned != nil {
		c.claims = append(c.claims, claim{c.cosigned, "its file " + cosign.File})
	}
	slices.SortFunc(c.claims, func(a, b claim) int { return cmp.Compare(a.Size, b.Size) })
	for len(c.claims) > 0 && c.claims[0].Size <= c.at.tree.Size() {
		if e := c.claims[0]; e.Size == c.at.tree.Size() && e.Root != c.at.tree.Root() {
			return c.forked(e)
		}
		c.claims = c.claims[1:]
	}
	bases := c.log.Segments()
	first := 0
	if c.at.note != nil {
		if err := c.checkStart(); err != nil {
			return err
		}
		first = slices.Index(bases, c.at.segment)
	}
	c.next = c.at
	for _, base := range bases[first:] {
		if c.at.tree.Size() == c.cut {
			break
		}
		if err := c.segment(ctx, base); err != nil {
			return err
		}
	}
	if c.at.tree.Size() != c.cut {
		return refuse("the log of %s ends before entry %d, and should have %d entries; graven verify names what is wrong", c.dir, c.at.tree.Size(), c.cut)
	}
	if c.kept != nil && !reflect.DeepEqual(c.at.manifest(c.kept.Origin, c.kept.Key), c.kept) {
		return refuse("the manifest of the backup %s does not agree with its log", c.dir)
	}
	if err := c.absence.Check(); err != nil {
		return refuse("%s: %w; if something is being erased just now, run it again", c.dir, err)
	}
	if c.last != nil {
		return datadir.CheckEntry(c.last)
	}
	return nil
}

// checkStart demands that the source has the checkpoint at which we begin where
// we know it to be or, where entries were erased, elsewhere in the segment.
func (c *scan) checkStart() error {
	note := c.appendNote(nil)
	if slices.Contains(c.log.Segments(), c.at.segment) {
		body, err := c.log.ReadFrame(c.at.segment, c.at.offset-int64(len(seglog.AppendFrame(nil, c.appendNote))))
		if err == nil && bytes.Equal(body, note) {
			return nil
		}
		end, err := c.find(note)
		if c.shift = c.at.offset - end; err != nil || end > 0 {
			return err
		}
	}
	return refuse("%s does not have the checkpoint of %d entries, with which the backup ends, in its place: it was changed, or is another history; graven verify %s --since BACKUP/%s tells more",
		c.dir, c.at.tree.Size(), c.dir, trail.TipFile)
}

// find returns where the frame with a body ends, in the segment at which we
// begin, or 0.
func (c *scan) find(body []byte) (int64, error) {
	r, err := c.log.Reader(c.at.segment, seglog.FirstOffset)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<20)
	for {
		frames, err := r.Next(buf)
		var damage *seglog.Damage
		if errors.Is(err, io.EOF) || errors.As(err, &damage) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		for _, f := range frames {
			if bytes.Equal(f.Body, body) {
				return f.End(), nil
			}
		}
	}
}

func (c *scan) appendNote(dst []byte) []byte {
	return append(append(dst, trail.FrameCheckpoint), c.at.note...)
}

// segment reads one segment from where we are.
func (c *scan) segment(ctx context.Context, base uint64) error {
	offset := seglog.FirstOffset
	if c.at.note != nil && base == c.at.segment {
		offset = c.at.offset
	} else if base != uint64(c.at.tree.Size()) {
		return refuse("entry %d is missing: %s begins with entry %d", c.at.tree.Size(), seglog.SegmentName(base), base)
	}
	if base != c.at.segment {
		c.shift = 0
	}
	r, err := c.log.Reader(base, offset-c.shift)
	if err != nil {
		return err
	}
	if err := r.CheckHeader(); err != nil {
		return c.damaged(err)
	}
	c.pool = pool{segment: base, offset: offset}
	buf := make([]byte, 1<<20)
	for c.at.tree.Size() < c.cut {
		if err := ctx.Err(); err != nil {
			return err
		}
		frames, err := r.Next(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c.damaged(err)
		}
		for _, f := range frames {
			if err := c.frame(base, f); err != nil {
				return err
			}
			if c.at.tree.Size() == c.cut {
				break
			}
		}
	}
	if c.pool.entries > 0 {
		return refuse("no checkpoint stands after entry %d, at the end of %s", c.next.tree.Size()-1, seglog.SegmentName(base))
	}
	if c.at.note != nil && c.at.segment == base {
		if _, err := trail.OpenCheckpoint(c.at.note, c.key); err != nil {
			return refuse("the checkpoint of %d entries in %s: %w", c.at.tree.Size(), seglog.SegmentName(base), err)
		}
	}
	return nil
}

func (c *scan) damaged(err error) error { return damaged(c.dir, c.next.tree.Size()-1, err) }

// damaged says what damage behind an entry means to whoever copies.
func damaged(dir string, last int64, err error) error {
	var damage *seglog.Damage
	if errors.As(err, &damage) {
		return refuse("%s is damaged after entry %d: %w; graven verify names what is wrong", dir, last, err)
	}
	return err
}

func (c *scan) forked(e claim) error {
	return refuse("%s has another root at %d entries than %s: they are not one history", c.dir, e.Size, e.who)
}

// frame takes the next frame.
func (c *scan) frame(base uint64, f seglog.Frame) error {
	c.pool.frames = seglog.AppendFrame(c.pool.frames, func(dst []byte) []byte { return append(dst, f.Body...) })
	switch {
	case trail.IsRecord(f.Body):
		return c.record(f)
	case f.Body[0] == trail.FrameCheckpoint:
		return c.checkpoint(base, f)
	}
	return fmt.Errorf("%s: %w", seglog.SegmentName(base), datadir.Newer(fmt.Sprintf("the frame at byte %d is", f.Offset), f.Body[0], trail.FramePruned))
}

func (c *scan) record(f seglog.Frame) error {
	r, err := trail.ParseFrame(f.Body)
	index := c.next.tree.Size()
	if err != nil || r.Index != index {
		return refuse("entry %d should stand at byte %d of %s", index, f.Offset, seglog.SegmentName(c.pool.segment))
	}
	if c.next.chain = r.Link(c.next.chain); c.next.chain != r.Chain {
		return refuse("entry %d of %s does not follow from the one before it: it was changed, or is of another history", index, c.dir)
	}
	if err := r.CheckErasable(); err != nil {
		return refuse("entry %d of %s: %w", index, c.dir, err)
	}
	c.absence.Entry(r.Index, r.Chain, r.Entry, r.Erasable == nil, r.Leaf != nil)
	c.next.append(r.LeafHash())
	c.pool.entries++
	c.last = append(c.last[:0], r.Entry...)
	for len(c.claims) > 0 && c.claims[0].Size == index+1 {
		if c.claims[0].Root != c.next.tree.Root() {
			return c.forked(c.claims[0])
		}
		c.claims = c.claims[1:]
	}
	return nil
}

func (c *scan) checkpoint(base uint64, f seglog.Frame) error {
	size := c.next.tree.Size()
	cp, err := trail.ReadCheckpoint(f.Body[1:])
	if err != nil {
		return refuse("the checkpoint after entry %d of %s: %w", size-1, c.dir, err)
	}
	if cp.Size != size || cp.Root != c.next.tree.Root() {
		return refuse("the checkpoint after entry %d of %s is not that of the entries before it: some were changed, or are of another history", size-1, c.dir)
	}
	if size > c.cut {
		return refuse("%s has no checkpoint of %d entries, of which its tip tells", c.dir, c.cut)
	}
	c.next.segment, c.next.offset, c.next.note = base, f.End()+c.shift, bytes.Clone(f.Body[1:])
	c.at = c.next
	c.absence.Seal(size)
	if c.sink != nil {
		c.pool.after = &c.at
		if err := c.sink(&c.pool); err != nil {
			return err
		}
	}
	c.pool = pool{segment: base, offset: f.End() + c.shift, frames: c.pool.frames[:0]}
	if c.progress != nil {
		c.progress(size, c.cut)
	}
	return nil
}
