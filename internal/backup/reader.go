package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// A Reader reads a ledger in a directory, as far as it had come when it was
// opened, for those who copy it elsewhere than into a directory like it.
type Reader struct{ source *source }

// Open opens the ledger in dir, a data directory or a backup. Locked says that
// the caller has its lock, so that nobody writes to it.
func Open(dir string, locked bool) (*Reader, error) {
	s, err := openSource(dir, locked)
	if err != nil {
		return nil, err
	}
	return &Reader{s}, nil
}

// Close closes the log.
func (r *Reader) Close() error { return r.source.close() }

// Key returns the ledger's public key, and its text form.
func (r *Reader) Key() (note.Verifier, string) { return r.source.key, r.source.vkey }

// Backup reports whether the directory is a backup.
func (r *Reader) Backup() bool { return r.source.kept != nil }

// Size returns how many entries are read.
func (r *Reader) Size() int64 { return r.source.cut }

// Newest returns how many entries callers were told of by now.
func (r *Reader) Newest() (int64, error) {
	tip, err := readTip(r.source.dir, r.source.key)
	if err != nil || tip == nil {
		return r.source.cut, err
	}
	return max(tip.Size, r.source.cut), nil
}

// Known returns the checkpoints, beside those in the log, of what is read.
func (r *Reader) Known() (known []*trail.Checkpoint) {
	for _, c := range []*trail.Checkpoint{r.source.tip, r.source.cosigned} {
		if c != nil && c.Size > 0 && c.Size <= r.source.cut {
			known = append(known, c)
		}
	}
	return known
}

// Read calls record for each record from index first on, below end, in order,
// and checkpoint for each checkpoint of first entries or more, up to end.
func (r *Reader) Read(ctx context.Context, first, end int64, record func(*trail.Record) error, checkpoint func(note []byte) error) error {
	bases := r.source.log.Segments()
	// The checkpoint of first entries stands in the segment of the entry before.
	at := sort.Search(len(bases), func(i int) bool { return bases[i] >= uint64(max(first, 1)) }) - 1
	if at < 0 {
		return refuse("entry %d of %s is missing: there is no file of the log that could hold it", max(first-1, 0), r.source.dir)
	}
	w := walk{source: r.source, next: int64(bases[at]), first: first, end: end, record: record, checkpoint: checkpoint}
	for _, base := range bases[at:] {
		if w.done || int64(base) >= end {
			break
		}
		if int64(base) != w.next {
			return refuse("entry %d of %s is missing: %s begins with entry %d", w.next, r.source.dir, seglog.SegmentName(base), base)
		}
		if err := w.segment(ctx, base); err != nil {
			return err
		}
	}
	if !w.done && end > 0 {
		return refuse("the log of %s ends before entry %d, and should have %d entries; graven verify names what is wrong", r.source.dir, w.next, end)
	}
	return nil
}

// A walk goes through a log.
type walk struct {
	*source
	next       int64 // entry
	first, end int64
	record     func(*trail.Record) error
	checkpoint func(note []byte) error
	done       bool // the checkpoint of end entries was read
}

func (w *walk) segment(ctx context.Context, base uint64) error {
	r, err := w.log.Reader(base, seglog.FirstOffset)
	if err != nil {
		return err
	}
	if err := r.CheckHeader(); err != nil {
		return w.damaged(err)
	}
	buf := make([]byte, 1<<20)
	for !w.done {
		if err := ctx.Err(); err != nil {
			return err
		}
		frames, err := r.Next(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return w.damaged(err)
		}
		for _, f := range frames {
			if err := w.frame(base, f); err != nil || w.done {
				return err
			}
		}
	}
	return nil
}

func (w *walk) frame(base uint64, f seglog.Frame) error {
	switch {
	case trail.IsRecord(f.Body):
		rec, err := trail.ParseFrame(f.Body)
		if err != nil || rec.Index != w.next {
			return refuse("entry %d of %s should stand at byte %d of %s", w.next, w.dir, f.Offset, seglog.SegmentName(base))
		}
		if w.next == w.end {
			return refuse("%s has no checkpoint of %d entries, of which its tip tells", w.dir, w.end)
		}
		if w.next++; rec.Index >= w.first {
			return w.record(&rec)
		}
		return nil
	case f.Body[0] == trail.FrameCheckpoint:
		if w.next < w.first {
			return nil
		}
		w.done = w.next == w.end
		return w.checkpoint(f.Body[1:])
	}
	return fmt.Errorf("%s: %w", seglog.SegmentName(base), datadir.Newer(fmt.Sprintf("the frame at byte %d is", f.Offset), f.Body[0], trail.FramePruned))
}

func (w *walk) damaged(err error) error { return damaged(w.dir, w.next-1, err) }

// Newest returns the last whole checkpoint in the log of dir, or nil where there
// is none. Nothing is said about whether it is true.
func Newest(dir string) (text []byte, err error) {
	log, err := seglog.Open(filepath.Join(dir, trail.LogDir), seglog.Options{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return newest(log)
}

// newest returns the last whole checkpoint in a log, or nil.
func newest(log *seglog.Log) ([]byte, error) {
	for _, base := range slices.Backward(log.Segments()) {
		r, err := log.Reader(base, seglog.FirstOffset)
		if err != nil {
			return nil, err
		}
		if text, err := lastCheckpoint(r); err != nil || text != nil {
			return text, err
		}
	}
	return nil, nil
}

// CopyPredecessor copies the ledger that this one succeeds below another
// directory, if it is there.
func (r *Reader) CopyPredecessor(ctx context.Context, fs seglog.FS, dir string) error {
	return backUpPredecessor(ctx, &Options{Source: r.source.dir, Dir: dir, FS: fs})
}

// CopyCosigned copies the checkpoint that witnesses have signed beside the copy
// of the log in another directory.
func (r *Reader) CopyCosigned(fs seglog.FS, dir string) error { return r.source.keepCosigned(fs, dir) }
