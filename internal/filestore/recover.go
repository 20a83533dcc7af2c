package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/places"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
)

// recover finds the last whole checkpoint, holds it against everything that
// knows of a state of this ledger, derives what is missing, and only then cuts
// off what was never acknowledged.
func (s *Store) recover(o Options) error {
	end, err := s.lastCheckpoint()
	if err != nil {
		return err
	}
	var size int64
	if end.note != nil {
		c, err := trail.OpenCheckpoint(end.note, o.Verifier)
		if err != nil {
			return fmt.Errorf("%w: the last checkpoint, at byte %d of %s: %w", ErrTip, end.at, seglog.SegmentName(end.base), err)
		}
		if c.Size != end.size {
			return fmt.Errorf("%w: the last checkpoint speaks of %d entries, %d stand before it", ErrTip, c.Size, end.size)
		}
		size, s.head.Checkpoint = c.Size, c
	}
	if err := s.lookBehind(o, end); err != nil {
		return err
	}
	tips, err := s.readTips(o, end)
	if err != nil {
		return err
	}
	err = s.derive(o, size)
	if err == nil {
		err = s.compare(tips)
	}
	var d *disagreement
	if errors.As(err, &d) {
		return s.judge(d, tips)
	}
	if err != nil {
		return err
	}
	// From here on the directory is known to be sound up to the checkpoint.
	if o.replaceHashes {
		if err := s.hashes.Move(filepath.Join(s.dir, tree.Dir)); err != nil {
			return err
		}
	}
	if o.ReadOnly {
		s.tipNote = end.note
		return nil
	}
	for _, base := range end.empty {
		if err := s.fs.Remove(filepath.Join(s.dir, trail.LogDir, seglog.SegmentName(base))); err != nil {
			return err
		}
	}
	if len(end.empty) > 0 {
		if err := s.reopenLog(o); err != nil {
			return err
		}
	}
	if end.note == nil {
		return nil
	}
	if err := s.log.Cut(end.at); err != nil {
		return err
	}
	s.tipNote = end.note
	return writeTip(s.tip, end.note)
}

// A disagreement is one between the log and what is derived from it, of which it
// is not known which is wrong.
type disagreement struct{ reason string }

func (d *disagreement) Error() string { return d.reason }

// compare holds the tree against the last checkpoint and those given out.
func (s *Store) compare(tips []*trail.Checkpoint) error {
	if c := s.head.Checkpoint; c != nil && s.head.Tree.Root() != c.Root {
		return &disagreement{"the entries, by their hashes in " + tree.Dir + ", do not give the root of the last checkpoint"}
	}
	for _, tip := range tips {
		root, err := tlog.TreeHash(tip.Size, s.hashes)
		if err != nil {
			return err
		}
		if root != tip.Root {
			return &disagreement{fmt.Sprintf("a checkpoint of %d entries that was given out has another root than they have, by their hashes in %s", tip.Size, tree.Dir)}
		}
	}
	return nil
}

// judge decides a disagreement: the log is right if its entries alone, all of
// them, give the roots of its last checkpoint and of those given out.
func (s *Store) judge(d *disagreement, tips []*trail.Checkpoint) error {
	last := s.head.Checkpoint
	want := append(slices.Clone(tips), last)
	var t trail.Tree
	var chain trail.Hash
	err := s.records(context.Background(), search.Range{End: last.Size}, func(r *trail.Record) error {
		if chain = r.Link(chain); chain != r.Chain {
			return fmt.Errorf("entry %d does not follow from the one before it", r.Index)
		}
		t.Append(r.LeafHash(), nil)
		for _, c := range want {
			if c.Size == t.Size() && c.Root != t.Root() {
				return fmt.Errorf("the first %d entries have another root than their checkpoint", c.Size)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w, and %w; graven verify names what is wrong", ErrTip, d, err)
	}
	return fmt.Errorf("%w: %w; if graven verify finds nothing else, graven reindex makes it anew", ErrDerived, d)
}

// reopenLog opens the log again after segments were removed.
func (s *Store) reopenLog(o Options) error {
	if err := s.log.Close(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var err error
	s.log, err = seglog.Open(filepath.Join(s.dir, trail.LogDir), seglog.Options{SegmentSize: o.SegmentSize, Reserve: o.Reserve, FS: o.FS})
	s.places.Reopened(s.log)
	return err
}

// logEnd is where the log ends as far as it was acknowledged.
type logEnd struct {
	base uint64
	at   int64  // behind the last whole checkpoint
	size int64  // entries before it
	note []byte // that checkpoint; nil for an empty ledger
	// several is set where the ledger has had more than one pool, whole or not.
	several bool
	// empty are later segments that hold no whole checkpoint.
	empty []uint64
}

// lastCheckpoint looks for the last whole checkpoint, from the last segment
// back, and loads where the records of its segment stand.
func (s *Store) lastCheckpoint() (logEnd, error) {
	var end logEnd
	bases := s.log.Segments()
	for i := len(bases) - 1; i >= 0; i-- {
		found, err := s.scanSegment(bases[i], &end)
		if err != nil || found {
			return end, err
		}
		end.empty = append(end.empty, bases[i])
		end.several = true
	}
	return end, nil
}

// scanSegment reads the whole frames of a segment and reports whether there is
// a checkpoint among them.
func (s *Store) scanSegment(base uint64, end *logEnd) (bool, error) {
	r, err := s.log.Reader(base, seglog.FirstOffset)
	if err != nil {
		return false, err
	}
	var damage *seglog.Damage
	if err := r.CheckHeader(); errors.As(err, &damage) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	s.places.Roll(int64(base))
	next, covered := int64(base), int64(base)
	var offsets []int64
	buf := make([]byte, 1<<20)
scan:
	for {
		frames, err := r.Next(buf)
		if errors.Is(err, io.EOF) || errors.As(err, &damage) {
			break
		}
		if err != nil {
			return false, err
		}
		for _, f := range frames {
			switch {
			case trail.IsRecord(f.Body):
				rec, err := trail.ParseFrame(f.Body)
				if err != nil || rec.Index != next {
					end.several = true
					break scan
				}
				offsets = append(offsets, f.Offset)
				next++
			case f.Body[0] == trail.FrameCheckpoint:
				end.several = end.several || end.note != nil || base > 0
				end.base, end.size, end.at = base, next, f.End()
				end.note = append([]byte(nil), f.Body[1:]...)
				covered = next
			default:
				end.several = true
				break scan
			}
		}
	}
	end.several = end.several || damage != nil || next > covered
	if covered == int64(base) {
		s.places.Forget()
		return false, nil
	}
	for _, o := range offsets[:covered-int64(base)] {
		s.places.Add(o)
	}
	return true, nil
}

// lookBehind refuses a log that has more behind the last checkpoint than the one
// pool that a crash may have torn. A pool is only begun once the one before it
// is durable, so that a sealed pool with something behind it was acknowledged.
func (s *Store) lookBehind(o Options, end logEnd) error {
	sealed := int64(-1) // the size that the last sealed pool behind the end speaks of
	look := func(base uint64, f seglog.Frame) error {
		if sealed >= 0 {
			return fmt.Errorf("%w: it is damaged after entry %d, at byte %d of %s, and a pool of up to %d entries that stands behind the damage was acknowledged",
				ErrTip, end.size-1, end.at, seglog.SegmentName(end.base), sealed)
		}
		if f.Body[0] == trail.FrameCheckpoint {
			if c, err := trail.OpenCheckpoint(f.Body[1:], o.Verifier); err == nil && c.Size > end.size {
				sealed = c.Size
			}
		}
		return nil
	}
	if end.note != nil {
		if err := s.eachIntact(end.base, end.at, end.size, look); err != nil {
			return err
		}
	}
	for _, base := range slices.Backward(end.empty) {
		if err := s.eachIntact(base, seglog.FirstOffset, end.size, look); err != nil {
			return err
		}
	}
	return nil
}

// eachIntact calls fn for each frame of a segment that is intact, from an
// offset on, damaged ones in between or not, and that can be of entries beyond
// size.
func (s *Store) eachIntact(base uint64, offset, size int64, fn func(base uint64, f seglog.Frame) error) error {
	file, err := s.fs.Open(filepath.Join(s.dir, trail.LogDir, seglog.SegmentName(base)), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer file.Close()
	limit, err := file.Size()
	if err != nil {
		return err
	}
	plausible := func(body []byte) bool {
		if r, err := trail.ParseFrame(body); err == nil {
			return r.Index >= size
		}
		return body[0] == trail.FrameCheckpoint && bytes.Contains(body, []byte("\n\n"))
	}
	r := seglog.NewReader(file, base, offset)
	buf := make([]byte, 1<<20)
	for {
		frames, err := r.Next(buf)
		for _, f := range frames {
			if !plausible(f.Body) {
				continue
			}
			if err := fn(base, f); err != nil {
				return err
			}
		}
		var damage *seglog.Damage
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.As(err, &damage) {
			return err
		}
		if found, err := r.Resync(limit, plausible); err != nil || !found {
			return err
		}
	}
}

// readTips returns the checkpoints that were given out, as far as they are
// known here, and refuses if one is beyond the log's size, or if the tip
// record, which is durable from the first pool on, is gone.
func (s *Store) readTips(o Options, end logEnd) ([]*trail.Checkpoint, error) {
	size, own := end.size, filepath.Join(s.dir, trail.TipFile)
	behind := func(who string, knows int64) error {
		return fmt.Errorf("%w: it holds %d entries, but %s knows of %d; bring back the newest copy", ErrTip, size, who, knows)
	}
	var tips []*trail.Checkpoint
	for _, path := range []string{own, o.TipFile} {
		if path == "" {
			continue
		}
		c, err := readTip(path, o.Verifier)
		if err != nil {
			return nil, err
		}
		if c == nil && path == own && end.note != nil && (end.several || o.Used) {
			return nil, fmt.Errorf("%w: the tip record %s is gone, so that nothing shows whether the end was cut off; bring it back, or put the newest checkpoint that you kept there", ErrTip, path)
		}
		if c == nil {
			continue
		}
		if c.Size > size {
			return nil, behind("the tip record "+path, c.Size)
		}
		tips = append(tips, c)
	}
	if m := s.index.Size(); m > size {
		return nil, behind("the index", m)
	}
	if s.claimed > size {
		return nil, behind("the hashes in "+filepath.Join(s.dir, tree.Dir), s.claimed)
	}
	if n, err := s.places.Claimed(); err != nil {
		return nil, err
	} else if n > size {
		return nil, behind("the offsets in "+filepath.Join(s.dir, places.Dir), n)
	}
	return tips, nil
}

// derive takes up the derived files where the follower left them, and brings
// them up to size.
func (s *Store) derive(o Options, size int64) error {
	ctx := context.Background()
	from := s.index.Size()
	s.size, s.recovering = size, true
	defer func() { s.recovering = false }()
	if from > 0 {
		last, err := s.record(from - 1)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTip, err)
		}
		if last.Chain != s.index.Chain() {
			return &disagreement{fmt.Sprintf("entry %d is not the one that the index knows", from-1)}
		}
	}
	if err := s.deriveHashes(ctx, from, o.Progress); err != nil {
		return err
	}
	s.followed = from
	for s.followed < size {
		if err := s.advance(ctx, nil, s.followed, min(size, s.followed+followBatch)); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(s.followed, size)
		}
	}
	s.fedTo = size
	s.head = ledger.Head{Chain: s.index.Chain(), Tree: s.hashes.tree, Checkpoint: s.head.Checkpoint}
	return nil
}

// openHashes opens the tree's hashes or, to replace them, begins new ones beside
// them: the old ones stay until the log has proven them wrong, for they are
// evidence.
func (s *Store) openHashes(replace bool) error {
	var err error
	dir := filepath.Join(s.dir, tree.Dir)
	if s.hashes, err = openHashes(dir); err != nil {
		return err
	}
	s.whole, s.claimed = s.hashes.Whole(), s.hashes.Claimed()
	if !replace {
		return nil
	}
	if err := errors.Join(s.hashes.Close(), os.RemoveAll(dir+".new")); err != nil {
		return err
	}
	s.hashes, err = openHashes(dir + ".new")
	s.whole = 0
	return err
}

// deriveHashes makes the hashes those of the entries that the index has done.
// The newest may not have been durable: those that were lost are made again from
// the log, the others built upon. If the log is not what they were made of, they
// are right, and the root will tell.
func (s *Store) deriveHashes(ctx context.Context, size int64, progress func(done, total int64)) error {
	first := min(s.whole, size-size%syncEvery)
	if err := s.hashes.resume(first); err != nil {
		return err
	}
	for first < size {
		end := min(size, first+followBatch)
		leaves, err := s.hashes.kept(first, end)
		if err == nil && leaves == nil {
			err = s.records(ctx, search.Range{First: first, End: end}, func(r *trail.Record) error {
				leaves = append(leaves, r.LeafHash())
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTip, err)
		}
		for _, leaf := range leaves {
			s.hashes.append(leaf)
		}
		if err := s.writeHashes(first, end); err != nil {
			return err
		}
		s.hashes.publish()
		if first = end; progress != nil {
			progress(first, s.size)
		}
	}
	return nil
}
