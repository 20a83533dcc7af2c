package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Rewrite replaces a segment that is not the active one by a copy with other
// bodies of frames: edit appends to dst what takes the place of each. Frames
// stay where they are if their bodies stay as long. The copy is made under the
// name tmp, on the same file system; what has that name is overwritten. After a
// crash the old segment is there or the new one, whole. The blocks of the old one
// are the file system's to use again.
//
// It may run while others append and read, but for one goroutine at a time.
func (l *Log) Rewrite(base uint64, tmp string, edit func(dst, body []byte) ([]byte, error)) error {
	l.mu.RLock()
	i := slices.Index(l.bases, base)
	last := i < 0 || i == len(l.bases)-1
	l.mu.RUnlock()
	if last {
		return fmt.Errorf("rewrite segment: %s is not there, or is being written to", SegmentName(base))
	}
	err := l.copyTo(tmp, base, edit)
	if err == nil {
		if err = l.fs.Rename(tmp, l.path(base)); err == nil {
			l.files.Forget(base)
			err = errors.Join(l.fs.SyncDir(l.dir), l.fs.SyncDir(filepath.Dir(tmp)))
		}
	}
	if err != nil {
		if left := l.fs.Remove(tmp); !errors.Is(left, os.ErrNotExist) {
			err = errors.Join(err, left)
		}
		return full(fmt.Errorf("rewrite %s: %w", SegmentName(base), err))
	}
	return nil
}

// copyTo makes the edited copy of a segment, durably.
func (l *Log) copyTo(tmp string, base uint64, edit func(dst, body []byte) ([]byte, error)) (err error) {
	r, err := l.Reader(base, FirstOffset)
	if err != nil {
		return err
	}
	if err := r.CheckHeader(); err != nil {
		return err
	}
	f, err := l.fs.Open(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out, at := Header(base), int64(0)
	buf := make([]byte, 1<<20)
	for {
		frames, err := r.Next(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for _, frame := range frames {
			var unedited error
			out = AppendFrame(out, func(dst []byte) []byte {
				dst, unedited = edit(dst, frame.Body)
				return dst
			})
			if unedited != nil {
				return unedited
			}
		}
		if _, err := f.WriteAt(out, at); err != nil {
			return err
		}
		at += int64(len(out))
		if out = out[:0]; err != nil {
			break
		}
	}
	// Zeros end the frames, and may be damage: what stands behind them can be
	// brought back only while it is there.
	for at := r.Offset(); ; at += int64(len(buf)) {
		n, err := r.r.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			return r.damage("something stands behind the end of the frames")
		}
		if err != nil {
			return f.Sync()
		}
	}
}
