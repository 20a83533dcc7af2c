package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/inorder"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// Dir checks the data directory of an embedded store. A server may have it
// open and write to it: what was recorded when Dir began is checked.
//
// Whatever is wrong with the ledger is in the report; an error means that it
// could not be checked.
func Dir(ctx context.Context, dir string, o Options) (*Report, error) {
	for before := (tombstone.Indexes{}); ; {
		d := &directory{path: dir, o: o, rep: newReporter(dir, o), keys: newKeyring(o.Keys)}
		err := d.open(ctx)
		if err == nil {
			err = d.check(ctx)
		}
		again := false
		if err == nil && !d.unnamed.Empty() && !d.unnamed.Meets(&before) {
			// A tombstone may stand in a segment that was begun meanwhile. One
			// for what was bare before the log was listed does not.
			again, err = d.hasGrown()
			before = d.unnamed
		}
		if d.rows != nil {
			d.rows.Close() // was only read
		}
		if err != nil {
			return nil, fmt.Errorf("verify %s: %w", dir, err)
		}
		if !again {
			return d.rep.report(), nil
		}
	}
}

// hasGrown reports whether a segment was begun since the log was listed.
func (d *directory) hasGrown() (bool, error) {
	now, err := seglog.NewSurvey(filepath.Join(d.path, trail.LogDir), look)
	return err == nil && d.manifest == nil && len(now.Segments) > len(d.survey.Segments), err
}

// A directory is a data directory that is being checked.
type directory struct {
	path   string
	o      Options
	rep    *reporter
	keys   *keyring
	survey *seglog.Survey
	rows   *tree.Files
	since  []earlier
	tip    *earlier // nil where there is none that counts
	noTip  bool
	// manifest is that of a backup, of which nothing counts behind what it says
	// is good. It is nil where there is none.
	manifest *datadir.Manifest
	// unnamed are the entries that lack their details, with no tombstone.
	unnamed tombstone.Indexes

	cosigned cosigned
}

func (d *directory) at(segment int, offset int64) string {
	return place{trail.LogDir + "/" + d.survey.Segments[segment].Name, offset}.String()
}

// open reads everything but the log's records. The manifest, the tip and the
// hashes are looked at before the log, which therefore has all that they tell of.
func (d *directory) open(ctx context.Context) error {
	if err := datadir.CheckFormat(d.path); err != nil {
		return err
	}
	m, err := datadir.ReadManifest(d.path)
	switch {
	case errors.Is(err, datadir.ErrManifest):
		d.rep.add(Changed, -1, datadir.BackupFile, "it is no manifest of a backup, or was changed")
	case err != nil:
		return err
	case m != nil && m.Size == 0:
		return datadir.ErrUnfinished
	}
	d.manifest = m
	if info, err := os.Stat(filepath.Join(d.path, trail.LogDir)); err != nil {
		return fmt.Errorf("not the data directory of a ledger: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("not the data directory of a ledger: %s is no directory", trail.LogDir)
	}
	tip, err := datadir.ReadTip(filepath.Join(d.path, trail.TipFile))
	if err != nil {
		return err
	}
	d.cosigned.where = cosign.File
	if d.cosigned.text, err = d.readFile(cosign.File, 1<<20); err != nil {
		return err
	}
	if err := d.openRows(); err != nil {
		return err
	}
	if d.survey, err = seglog.NewSurvey(filepath.Join(d.path, trail.LogDir), look); err != nil {
		return err
	}
	if m != nil {
		if n := d.survey.Cut(m.Segment, m.Offset); n > 0 {
			d.rep.note("the backup holds %d entries, as %s says; behind them stand %d bytes of a run that was interrupted, which do not count: run graven backup again", m.Size, datadir.BackupFile, n)
		}
	}
	d.reportHeaders()
	if err := d.readKeys(ctx); err != nil {
		return err
	}
	d.since = append(openSince(d.rep, d.keys, d.o), d.cosigned.expect(d.rep, d.keys)...)
	d.checkTip(tip)
	if m != nil {
		d.checkManifest(m)
	}
	return nil
}

// checkManifest takes the manifest's checkpoint for the ledger's last.
func (d *directory) checkManifest(m *datadir.Manifest) {
	switch s := d.keys.open([]byte(m.Checkpoint), true); {
	case s.fault != "":
		d.rep.add(s.fault, -1, datadir.BackupFile, "%s", s.reason)
	case s.Size != m.Size:
		d.rep.add(Changed, -1, datadir.BackupFile, "it tells of %d entries, and its checkpoint of %d", m.Size, s.Size)
	default:
		d.since = append(d.since, earlier{s, fmt.Sprintf("the checkpoint of %d entries in %s", s.Size, datadir.BackupFile), datadir.BackupFile, true})
	}
	if d.tip != nil && d.tip.Size > m.Size {
		d.tip = nil // the run that was interrupted has written it
	}
}

// readFile reads a file of up to limit bytes, and one byte more of a longer
// one. It returns nil where there is none.
func (d *directory) readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(d.path, filepath.FromSlash(name)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
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
	d.tip = &earlier{s, fmt.Sprintf("the tip, the checkpoint of %d entries that was given out last,", s.Size), trail.TipFile, true}
}

// readKeys reads the public key file and the key in the first entry. Keys from
// outside come first; without, the ledger is taken at its word.
func (d *directory) readKeys(ctx context.Context) error {
	data, err := d.readFile(trail.VKeyFile, 1<<20)
	if err != nil {
		return err
	}
	if data == nil {
		d.rep.note("there is no file %s", trail.VKeyFile)
	}
	own := &keyring{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		at := fmt.Sprintf("%s: line %d", trail.VKeyFile, n)
		v, err := trail.ParseKey(strings.TrimSuffix(line, "\n"))
		switch {
		case err != nil:
			d.rep.add(WrongKey, -1, at, "%v", err)
		case d.keys.given && !d.keys.has(v):
			d.rep.add(WrongKey, -1, at, "the key file names %s, not only %s", trail.KeyID(v), d.keys)
		default:
			own.add(v)
		}
	}
	if !d.keys.given {
		d.keys.keys = own.keys
	}
	if len(d.keys.keys) == 0 && len(d.survey.Segments) > 0 {
		d.firstKey(ctx)
	}
	return nil
}

// firstKey takes the key from the first entry, if it can be read.
func (d *directory) firstKey(ctx context.Context) {
	first := seglog.Run{From: seglog.FirstOffset, To: seglog.FirstOffset + 64}
	_ = d.survey.ReadRun(ctx, first, func(_ int, frames []seglog.Frame, _ []byte) error {
		if r, err := trail.ParseFrame(frames[0].Body); err == nil {
			d.keys.addCreated(r.Entry)
		}
		return nil
	})
}

// check reads the log: as it lies on disk and, where that is not in order, a
// second time in order of index.
func (d *directory) check(ctx context.Context) error {
	least := d.least()
	known := least.size
	for _, e := range d.since {
		known = max(known, e.Size)
	}
	c, err := d.read(ctx, func(ctx context.Context, f *feeder) error { return d.survey.Read(ctx, known, f.feed) })
	if err != nil {
		return err
	}
	steps := d.reportLayout(ctx, least)
	if !d.survey.InOrder {
		c, err = d.read(ctx, func(ctx context.Context, f *feeder) error {
			for _, st := range steps {
				if err := f.step(st, func(r seglog.Run) error { return d.survey.ReadRun(ctx, r, f.feed) }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := c.finish(known, d.tip); err != nil {
		return err
	}
	d.rep.merge(c.rep)
	d.unnamed = reportAbsence(d.rep, &c.absence, max(known, c.sealed), d.segmentOf)
	reportKept(d.rep, &c.absence, c.sealed)
	d.conclude(c)
	return nil
}

// segmentOf names the segment in which an entry stands.
func (d *directory) segmentOf(index int64) string {
	name := trail.LogDir
	for _, seg := range d.survey.Segments {
		if seg.Base <= uint64(index) {
			name = trail.LogDir + "/" + seg.Name
		}
	}
	return name
}

// least returns how many entries the ledger has at least, by its own word.
func (d *directory) least() claim {
	if m := d.manifest; m != nil {
		return claim{m.Size, fmt.Sprintf("%s tells of %d entries", datadir.BackupFile, m.Size)}
	}
	least := claim{d.rows.Claimed(), "the tree's hashes tell of more entries"}
	if d.tip != nil && d.tip.Size >= least.size {
		least = claim{d.tip.Size, fmt.Sprintf("the tip tells of %d entries", d.tip.Size)}
	}
	return least
}

// read hashes the frames that source feeds, and collects the outcome.
func (d *directory) read(ctx context.Context, source func(context.Context, *feeder) error) (*collector, error) {
	c := d.collector()
	produce := func(ctx context.Context, emit func(*block) error) error {
		f := &feeder{survey: d.survey, emit: emit}
		f.next.seals.every, f.next.follows = d.o.EverySignature, true // from zeros, in front of entry 0
		return source(ctx, f)
	}
	return c, inorder.Run(ctx, d.o.Workers, produce, func(b *block) { b.work(d.keys) }, c.collect)
}

// mayLag is by how many entries hashes may lag behind a server that fares well.
const mayLag = 1 << 17

// conclude sums up what the verdict rests on, and what it does not say.
func (d *directory) conclude(c *collector) {
	if d.keys.conclude(d.rep, c.newest); c.newest == nil && d.keys.given && d.rep.OK() {
		d.rep.add(Missing, -1, trail.LogDir, "nothing in the log is signed: it holds no checkpoint")
	}
	if m := d.manifest; m != nil && d.survey.Commit.Size > m.Size {
		d.rep.add(Changed, -1, datadir.BackupFile, "it tells of %d entries, and its offset is behind %d", m.Size, d.survey.Commit.Size)
	}
	d.cosigned.judge(d.rep, d.o.Witnesses)
	switch {
	case !d.noTip:
	case d.survey.Commits > 1:
		d.rep.add(Missing, -1, trail.TipFile, "there is no tip; without it, nothing shows that the end was not cut off")
	default:
		d.rep.note("there is no tip yet")
	}
	if have, _ := d.rows.Count(0); d.rep.Size-have > mayLag {
		d.rep.note("the hashes of %d of %d entries are not written yet", d.rep.Size-have, d.rep.Size)
	}
	d.checkRows()
	if c.seals > c.signatures && len(d.keys.keys) > 0 {
		d.rep.note("the signatures of %d of %d checkpoints were checked, the newest among them; the roots of all were compared", c.signatures, c.seals)
	}
}
