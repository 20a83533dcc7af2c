package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// Dir checks the data directory of an embedded store. A server may have it
// open and write to it: what was recorded when Dir began is checked.
//
// Whatever is wrong with the ledger is in the report; an error means that it
// could not be checked.
func Dir(ctx context.Context, dir string, o Options) (*Report, error) {
	rep := newReporter(dir, o)
	d := &directory{path: dir, o: o, rep: rep, keys: &keyring{}}
	if err := d.open(); err != nil {
		return nil, fmt.Errorf("verify %s: %w", dir, err)
	}
	if err := d.check(ctx); err != nil {
		return nil, fmt.Errorf("verify %s: %w", dir, err)
	}
	return rep.report(), nil
}

// A directory is a data directory that is being checked.
type directory struct {
	path  string
	o     Options
	rep   *reporter
	keys  *keyring
	tiles *tileDir
	since []earlier
	tip   *earlier // nil where there is none that counts
	segs  []segment
	total int64 // bytes of all segments
	noTip bool
}

// open reads everything but the log's records. The tip and the tiles are
// looked at before the log, which therefore has all that they tell of.
func (d *directory) open() error {
	info, err := os.Stat(filepath.Join(d.path, trail.LogDir))
	if err != nil || !info.IsDir() {
		return errors.Join(errors.New("not the data directory of a ledger: it has no directory log"), err)
	}
	tip, err := readTip(filepath.Join(d.path, trail.TipFile))
	if err != nil {
		return err
	}
	if d.tiles, err = listTiles(d.path, d.rep); err != nil {
		return err
	}
	if err := d.listSegments(); err != nil {
		return err
	}
	if err := d.readKeys(); err != nil {
		return err
	}
	d.since = openSince(d.rep, d.keys, d.o.Since)
	d.checkTip(tip)
	return nil
}

// readTip reads the tip record, nil where there is none. A server may be
// writing to it: only what is read twice counts.
func readTip(path string) ([]byte, error) {
	var last []byte
	for range 10 {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(f, trail.TipSize+1))
		f.Close()
		if err != nil {
			return nil, err
		}
		if last != nil && bytes.Equal(data, last) {
			break
		}
		last = data
	}
	return last, nil
}

// checkTip checks the tip record on its own.
func (d *directory) checkTip(data []byte) {
	text, padding, _ := bytes.Cut(data, []byte{0})
	if len(bytes.Trim(data, "\x00")) == 0 {
		d.noTip = true
		return
	}
	if i := bytes.IndexFunc(padding, func(r rune) bool { return r != 0 }); i >= 0 {
		d.rep.add(Changed, -1, place{trail.TipFile, int64(len(text) + 1 + i)}.String(), "the padding of the tip was changed")
	}
	if len(data) != trail.TipSize {
		d.rep.add(Changed, -1, trail.TipFile, "the tip is not %d bytes long", trail.TipSize)
	}
	s := d.keys.open(text, true)
	if s.fault != "" {
		d.rep.add(s.fault, -1, trail.TipFile, "%s", s.reason)
		return
	}
	d.tip = &earlier{s, fmt.Sprintf("the tip, the checkpoint of %d entries that was given out last,", s.Size), trail.TipFile}
}

// listSegments finds the segment files and reads their headers.
func (d *directory) listSegments() error {
	found, err := os.ReadDir(filepath.Join(d.path, trail.LogDir))
	if err != nil {
		return err
	}
	for _, entry := range found {
		file := trail.LogDir + "/" + entry.Name()
		base, ok := seglog.SegmentBase(entry.Name())
		if !ok || !entry.Type().IsRegular() {
			d.rep.note("%s is not a segment of the log", file)
			continue
		}
		seg := segment{file: file, path: filepath.Join(d.path, trail.LogDir, entry.Name()), base: base}
		if err := d.readHeader(&seg); err != nil {
			return err
		}
		d.segs = append(d.segs, seg)
		d.total += seg.size
	}
	slices.SortStableFunc(d.segs, func(x, y segment) int {
		switch {
		case x.base < y.base:
			return -1
		case x.base > y.base:
			return 1
		}
		return strings.Compare(x.file, y.file)
	})
	return nil
}

// readHeader holds a segment's header against its name. Where the header is
// sound and another segment's, the file was renamed.
func (d *directory) readHeader(seg *segment) error {
	f, err := os.Open(seg.path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	seg.size = info.Size()
	var damage *seglog.Damage
	err = seglog.NewReader(f, seg.base, 0).CheckHeader()
	if err == nil || !errors.As(err, &damage) {
		return err
	}
	head := make([]byte, seglog.FirstOffset)
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	at := place{seg.file, 0}.String()
	base := binary.LittleEndian.Uint64(head[8:])
	switch {
	case seglog.NewReader(f, base, 0).CheckHeader() == nil:
		d.rep.add(Reordered, int64(base), at, "the segment that begins with entry %d has the name of another", base)
		seg.base = base
	case len(bytes.Trim(head, "\x00")) == 0 && seg.size <= seglog.FirstOffset:
		d.rep.note("%s was begun and not used", seg.file)
	default:
		d.rep.add(Changed, -1, at, "the header of the segment is damaged")
	}
	return nil
}

// readKeys reads the public key file and the key in the first entry. Keys from
// outside come first; without, the ledger is taken at its word.
func (d *directory) readKeys() error {
	for _, v := range d.o.Keys {
		d.keys.add(v)
	}
	d.keys.given = len(d.keys.keys) > 0
	data, err := os.ReadFile(filepath.Join(d.path, filepath.FromSlash(trail.VKeyFile)))
	if errors.Is(err, os.ErrNotExist) {
		d.rep.note("there is no file %s", trail.VKeyFile)
	} else if err != nil {
		return err
	}
	own := &keyring{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		at := fmt.Sprintf("%s: line %d", trail.VKeyFile, n)
		v, err := parseKey(strings.TrimSuffix(line, "\n"))
		switch {
		case err != nil:
			d.rep.add(WrongKey, -1, at, "%v", err)
		case d.keys.given && !d.keys.has(v):
			d.rep.add(WrongKey, -1, at, "the key file names %s, not only %s", keyID(v), d.keys.ids())
		default:
			own.add(v)
		}
	}
	if d.keys.given {
		return nil
	}
	d.keys.keys = own.keys
	if len(d.keys.keys) == 0 && len(d.segs) > 0 {
		if v := d.firstKey(); v != nil {
			d.keys.add(v)
		}
	}
	return nil
}

// firstKey returns the key that the first entry names, if it can be read.
func (d *directory) firstKey() (v note.Verifier) {
	f, err := os.Open(d.segs[0].path)
	if err != nil {
		return nil
	}
	defer f.Close()
	frames, err := seglog.NewReader(f, d.segs[0].base, seglog.FirstOffset).Next(make([]byte, 64<<10))
	if err != nil {
		return nil
	}
	r, err := trail.ParseFrame(frames[0].Body)
	if err != nil {
		return nil
	}
	_, text, err := created(r.Entry)
	if err != nil {
		return nil
	}
	if v, err = parseKey(text); err != nil {
		return nil
	}
	return v
}

// check reads the log: as it lies on disk and, where that is not in order, a
// second time in order of index.
func (d *directory) check(ctx context.Context) error {
	least := claim{d.tiles.size(), "a hash tile tells of more entries"}
	if d.tip != nil && d.tip.Size >= least.size {
		least = claim{d.tip.Size, fmt.Sprintf("the tip tells of %d entries", d.tip.Size)}
	}
	s := &survey{segs: d.segs, known: least.size, free: make(chan []byte, 64)}
	s.block.seals.every = d.o.EverySignature
	for _, e := range d.since {
		s.known = max(s.known, e.Size)
	}
	c := d.collector(s)
	read := func(ctx context.Context, from func(context.Context, func(*block) error) error) error {
		return inOrder(ctx, d.o.Workers, func(emit func(*block) error) error { return from(ctx, emit) },
			func(b *block) { b.work(d.keys) }, c.collect)
	}
	if err := read(ctx, s.read); err != nil {
		return err
	}
	steps := s.conclude(d.rep, d.keys, least)
	if s.disorder {
		c = d.collector(s)
		if err := read(ctx, (&replay{s, steps}).read); err != nil {
			return err
		}
	}
	if err := c.finish(s, d.tip); err != nil {
		return err
	}
	d.rep.merge(c.rep)
	d.conclude(c, s)
	return nil
}

// conclude sums up what the verdict rests on, and what it does not say.
func (d *directory) conclude(c *collector, s *survey) {
	d.keys.conclude(d.rep, c.newest)
	switch {
	case !d.noTip:
	case s.seals > 1:
		d.rep.add(Missing, -1, trail.TipFile, "there is no tip; without it, nothing shows that the end was not cut off")
	default:
		d.rep.note("there is no tip yet")
	}
	if full := d.rep.Size / trail.TileWidth; full > d.tiles.last[0]+1 {
		d.rep.note("%d of %d hash tiles are not written yet", full-d.tiles.last[0]-1, full)
	}
	if d.rep.Erased > 0 {
		d.rep.unproven("the details of %d %s were erased; whether that was due was not checked", d.rep.Erased, plural(d.rep.Erased, "entry", "entries"))
	}
	if c.seals > c.signatures {
		d.rep.note("the signatures of %d of %d checkpoints were checked, the newest among them; the roots of all were compared", c.signatures, c.seals)
	}
}
