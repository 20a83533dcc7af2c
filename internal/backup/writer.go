package backup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// A writer appends pools to the log of a copy.
type writer struct {
	fs          seglog.FS
	dir         string
	origin, key string
	fresh       bool // there is no manifest yet
	// bare means that no manifest is kept: the copy is no backup.
	bare bool

	at       position // what is durable, and said to be
	next     position // what was written
	file     seglog.File
	segment  uint64
	end      int64 // of what was written to the file
	pending  []byte
	segments int
	bytes    int64
}

// blockSize is how much is written at once.
const blockSize = 1 << 20

// begin makes room. With the manifest, a directory becomes a backup before
// anything is put there.
func (w *writer) begin() error {
	w.next = w.at
	if w.fresh && !w.bare {
		if err := writeManifest(w.fs, w.dir, w.at.manifest(w.origin, w.key)); err != nil {
			return err
		}
	}
	return makeDir(w.fs, filepath.Join(w.dir, trail.LogDir))
}

// prune removes segments that a run which was interrupted has left, and that
// the source does not have up to where the copy ends.
func (w *writer) prune(bases []uint64) error {
	log := filepath.Join(w.dir, trail.LogDir)
	names, err := w.fs.List(log)
	if err != nil {
		return err
	}
	for _, name := range names {
		base, ok := seglog.SegmentBase(name)
		if !ok || base <= w.next.segment && slices.Contains(bases, base) {
			continue
		}
		if err := removeFiles(w.fs, log, []string{name}); err != nil {
			return err
		}
	}
	if w.file != nil || w.next.note == nil {
		return nil
	}
	err = w.open(w.next.segment, w.next.offset) // commit cuts off what stands behind
	w.segments = 0
	return err
}

// pool takes the next pool.
func (w *writer) pool(p *pool) error {
	if w.file != nil && w.segment != p.segment {
		if err := w.commit(); err != nil {
			return err
		}
	}
	if w.file == nil {
		if err := w.open(p.segment, p.offset); err != nil {
			return err
		}
	}
	w.pending = append(w.pending, p.frames...)
	w.next = *p.after
	if len(w.pending) < blockSize {
		return nil
	}
	return w.flush()
}

// open opens a segment, of which what stands before offset is good. What stands
// behind is of a run that was interrupted: most likely the same that comes now,
// so that it stays until it is written over, and no state is lost by that.
func (w *writer) open(segment uint64, offset int64) error {
	log := filepath.Join(w.dir, trail.LogDir)
	f, err := w.fs.Open(filepath.Join(log, seglog.SegmentName(segment)), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	w.file, w.segment, w.end = f, segment, offset
	w.segments++
	size, err := f.Size()
	if err != nil {
		return err
	}
	if offset == seglog.FirstOffset {
		w.pending, w.end = append(w.pending[:0], seglog.Header(segment)...), 0
	} else if size < offset {
		return refuse("%s ends at byte %d of %d: the backup was changed; make another", seglog.SegmentName(segment), size, offset)
	}
	if size == 0 {
		return w.fs.SyncDir(log)
	}
	return nil
}

func (w *writer) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	if _, err := w.file.WriteAt(w.pending, w.end); err != nil {
		return err
	}
	w.end += int64(len(w.pending))
	w.bytes += int64(len(w.pending))
	w.pending = w.pending[:0]
	return nil
}

// commit makes what was written durable, and the backup's state.
func (w *writer) commit() error {
	if w.file != nil {
		err := w.flush()
		var size int64
		if err == nil {
			size, err = w.file.Size()
		}
		if err == nil && size > w.end {
			err = w.file.Truncate(w.end)
		}
		if err == nil {
			err = w.file.Sync()
		}
		err = errors.Join(err, w.file.Close())
		if w.file = nil; err != nil {
			return err
		}
	}
	if w.next.tree.Size() == w.at.tree.Size() {
		return nil
	}
	var tip [trail.TipSize]byte
	copy(tip[:], w.next.note)
	if err := seglog.WriteFile(w.fs, filepath.Join(w.dir, trail.TipFile), tip[:]); err != nil {
		return err
	}
	if !w.bare {
		if err := writeManifest(w.fs, w.dir, w.next.manifest(w.origin, w.key)); err != nil {
			return err
		}
	}
	w.at = w.next
	return nil
}

func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}
