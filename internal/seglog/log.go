package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/graven-audit/graven/internal/openfile"
)

// ErrFull means that the disk has no room. Nothing was written.
var ErrFull = errors.New("no space left for the log")

// ErrBroken means that a write may or may not be durable. The log takes
// nothing more until it is opened anew.
var ErrBroken = errors.New("the log is broken and must be opened anew")

// Options of a Log.
type Options struct {
	// SegmentSize is the size from which on a segment is [Log.Full], in
	// bytes. 0 means 64 MiB.
	SegmentSize int64
	// Reserve is how many bytes are kept ready beyond every batch, for
	// batches that are appended with reserve = true when the disk is full.
	Reserve int64
	// ReadOnly opens files for reading only, and allows no appending.
	ReadOnly bool
	// FS is the file system; nil means [OS].
	FS FS
}

// A Log is a directory of segment files, open for appending. Appending,
// cutting, rolling and removing are for one goroutine at a time; reading is for
// any.
type Log struct {
	fs      FS
	dir     string
	limit   int64
	reserve int64
	flag    int // how segments are opened

	// What follows is owned by the appending goroutine. end and size are where
	// the next frame goes, and up to where the active file holds zeros.
	end, size int64
	broken    error

	// active is the last segment's file, if it was used. It stays open.
	active *openfile.File[File]

	files *openfile.Cache[File]
	mu    sync.RWMutex // guards what follows
	bases []uint64     // sorted; the last is the active segment
}

// maxFiles bounds the segments that are open, but for those in use.
const maxFiles = 64

// Open opens the log in dir, which must exist and may be empty. The caller
// scans the last segment and calls [Log.Cut] before the first Append.
func Open(dir string, o Options) (*Log, error) {
	l := &Log{fs: o.FS, dir: dir, limit: o.SegmentSize, reserve: o.Reserve}
	if l.fs == nil {
		l.fs = OS{}
	}
	if l.limit == 0 {
		l.limit = 64 << 20
	}
	l.flag = os.O_RDWR
	if o.ReadOnly {
		l.flag, l.broken = os.O_RDONLY, fmt.Errorf("%w: it is open for reading", ErrBroken)
	}
	l.files = openfile.New(maxFiles, func(base uint64) (File, error) { return l.fs.Open(l.path(base), l.flag) })
	names, err := l.fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	for _, name := range names {
		if base, ok := SegmentBase(name); ok {
			l.bases = append(l.bases, base)
		}
	}
	slices.Sort(l.bases)
	return l, nil
}

// Segments returns the bases of all segments, in order.
func (l *Log) Segments() []uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.bases)
}

// End returns where the next frame goes in the active segment.
func (l *Log) End() int64 { return l.end }

// Full reports whether the active segment has reached its size, or there is
// none, so that the owner should [Log.Roll].
func (l *Log) Full() bool { return len(l.bases) == 0 || l.end >= l.limit }

// Roll begins a new segment, to which all further batches go. On an error that
// is not [ErrBroken], they may go on to the old one, which has its reserve.
func (l *Log) Roll(base uint64) error {
	if l.broken != nil {
		return l.broken
	}
	if n := len(l.bases); n > 0 && base <= l.bases[n-1] {
		panic("internal error: segments must have rising bases")
	}
	f, err := l.begin(base)
	if err != nil {
		return err
	}
	if l.active != nil {
		// The zeros have done their work. They do no harm if they stay.
		_ = l.active.F.Truncate(l.end)
		l.active.Release()
	}
	l.active = l.files.Add(base, f)
	l.mu.Lock()
	l.bases = append(l.bases, base)
	l.mu.Unlock()
	l.end, l.size = FirstOffset, FirstOffset
	return nil
}

// begin makes the file of a new segment, durably, or leaves none: it must not
// stay where the old segment goes on.
func (l *Log) begin(base uint64) (File, error) {
	path := l.path(base)
	f, err := l.fs.Open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err == nil {
		if _, err = f.WriteAt(Header(base), 0); err == nil {
			err = f.Sync()
		}
		if err == nil {
			err = l.fs.SyncDir(l.dir)
		}
		if err == nil {
			return f, nil
		}
		err = errors.Join(err, f.Close())
	}
	err = fmt.Errorf("new segment: %w", err)
	left := os.ErrExist // and not of our making
	if !errors.Is(err, os.ErrExist) {
		left = l.fs.Remove(path) // where opening failed, the file may be there
	}
	if left != nil && !errors.Is(left, os.ErrNotExist) {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, errors.Join(err, left))
		return nil, l.broken
	}
	return nil, full(err)
}

// Append writes b to the active segment, durably, and returns where its first
// frame stands. With reserve, the last reserved bytes may be used.
func (l *Log) Append(b *Batch, reserve bool) (offset int64, err error) {
	if offset, err = l.Write(b, reserve); err == nil {
		err = l.Sync()
	}
	if err != nil {
		return 0, err
	}
	return offset, nil
}

// Write is [Log.Append] without making b durable: it outlives the process, and
// a power cut only once [Log.Sync] has returned. Until then, a batch that fails
// may take those that were written since the last Sync with it: the error is
// [ErrBroken] then.
func (l *Log) Write(b *Batch, reserve bool) (offset int64, err error) {
	if l.broken != nil {
		return 0, l.broken
	}
	f, err := l.last()
	if err != nil {
		return 0, err
	}
	need, before := l.end+int64(len(b.buf)), l.size
	if err := l.grow(f, need); err != nil && !reserve {
		return 0, err
	}
	if _, err := f.WriteAt(b.buf, l.end); err != nil {
		return 0, l.undo(f, min(need, before), before, fmt.Errorf("append: %w", err))
	}
	offset = l.end
	l.end, l.size = need, max(l.size, need)
	return offset, nil
}

// Sync makes durable what was written.
func (l *Log) Sync() error {
	if l.broken != nil {
		return l.broken
	}
	f, err := l.last()
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		return l.broken
	}
	return nil
}

// Remove removes a segment that is not the active one.
func (l *Log) Remove(base uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.bases, base)
	if i < 0 || i == len(l.bases)-1 {
		return fmt.Errorf("remove segment: %s is not there, or is being written to", SegmentName(base))
	}
	if err := l.fs.Remove(l.path(base)); err != nil {
		return fmt.Errorf("remove segment: %w", err)
	}
	l.bases = slices.Delete(l.bases, i, i+1)
	l.files.Forget(base)
	return nil
}

// undo brings back the state before a failed write, with the file's size before
// it and zeros up to where it wrote over some, or breaks the log. What was
// reserved stays so, if the file takes zeros.
func (l *Log) undo(f File, wrote, size int64, cause error) error {
	size = max(l.end, size)
	err := f.Truncate(size)
	if err == nil {
		if _, fault := zero(f, l.end, wrote); fault != nil {
			size = l.end
			err = f.Truncate(size)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, errors.Join(cause, err))
		return l.broken
	}
	l.size = size
	l.keep(f)
	return full(cause)
}

// keep takes the reserve, or what there is of it, which a segment does not have
// yet that was just begun or opened. What is missing, grow asks for again.
func (l *Log) keep(f File) {
	n, _ := zero(f, l.size, l.end+l.reserve)
	l.size += n
}

// zero overwrites a part of a file with zeros, and returns how many it wrote.
func zero(f File, from, to int64) (n int64, err error) {
	for from+n < to && err == nil {
		var wrote int
		wrote, err = f.WriteAt(zeros[:min(to-from-n, int64(len(zeros)))], from+n)
		n += int64(wrote)
	}
	return n, err
}

// zeros is what files are grown with.
var zeros [1 << 20]byte

// largeBatch is the size in bytes from which on a batch is worth more than the
// change of metadata that comes with growing the file.
const largeBatch = 128 << 10

// grow fills the active file with zeros up to the reserve behind need at least,
// and farther if the batch that ends at need is small, so that it and those
// after it change no metadata. A large batch would take longer to write twice:
// where it will stand, the file is grown by a hole. The zeros become durable
// with the next batch.
func (l *Log) grow(f File, need int64) error {
	if need+l.reserve <= l.size {
		return nil
	}
	at, to := l.size, need+l.reserve
	if need-l.end >= largeBatch {
		at = max(at, need)
	} else {
		// Doubling keeps small logs small and large ones free of growing.
		to = min(max(2*l.size, to+1<<18), to+16<<20)
	}
	if rest := (to - at) % 4096; rest != 0 {
		to += 4096 - rest
	}
	if _, err := zero(f, at, to); err != nil {
		// Give back what was taken, or others find the disk full too.
		err = full(fmt.Errorf("grow segment: %w", errors.Join(err, f.Truncate(l.size))))
		l.keep(f)
		return err
	}
	l.size = to
	return nil
}

// full marks errors that say the disk has no room.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// Cut sets where the next frame goes in the last segment and removes, durably,
// whatever stands there or later.
func (l *Log) Cut(offset int64) error {
	if len(l.bases) == 0 {
		return nil
	}
	f, err := l.last()
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("cut log: %w", err)
	}
	if size > offset {
		if err = f.Truncate(offset); err == nil {
			err = f.Sync()
		}
		if err != nil {
			return fmt.Errorf("cut log: %w", err)
		}
	}
	l.end, l.size = offset, offset
	return nil
}

// ReadFrame returns the body of one frame.
func (l *Log) ReadFrame(base uint64, offset int64) ([]byte, error) {
	in, err := l.use(base)
	if err != nil {
		return nil, err
	}
	defer in.Release()
	f := in.F
	// One read serves most frames.
	buf := make([]byte, 2048)
	n, err := f.ReadAt(buf, offset)
	if n < frameHead {
		return nil, fmt.Errorf("read frame at %d of segment %d: %w", offset, base, err)
	}
	length := int(binary.LittleEndian.Uint32(buf))
	if length == 0 || length > MaxBody {
		return nil, damaged(base, offset)
	}
	if frameHead+length > n {
		more := make([]byte, frameHead+length)
		copy(more, buf[:n])
		if _, err := f.ReadAt(more[n:], offset+int64(n)); err != nil {
			return nil, fmt.Errorf("read frame at %d of segment %d: %w", offset, base, err)
		}
		buf = more
	}
	body := buf[frameHead : frameHead+length]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(buf[4:]) {
		return nil, damaged(base, offset)
	}
	return body, nil
}

func damaged(base uint64, offset int64) error {
	return fmt.Errorf("damaged frame at byte %d of %s", offset, SegmentName(base))
}

// Reader returns a reader of one segment's frames, from offset on. It has the
// file only while it reads.
func (l *Log) Reader(base uint64, offset int64) (*Reader, error) {
	f, err := l.use(base)
	if err != nil {
		return nil, err
	}
	f.Release()
	return NewReader(segment{l, base}, base, offset), nil
}

// A segment reads a log's segment.
type segment struct {
	l    *Log
	base uint64
}

func (s segment) ReadAt(data []byte, at int64) (int, error) {
	f, err := s.l.use(s.base)
	if err != nil {
		return 0, err
	}
	defer f.Release()
	return f.F.ReadAt(data, at)
}

// Close closes all files. If the log is sound, the active file keeps no zeros.
func (l *Log) Close() error {
	var errs []error
	if l.active != nil {
		if l.broken == nil && l.size > l.end {
			errs = append(errs, l.active.F.Truncate(l.end), l.active.F.Sync())
		}
		l.active.Release()
		l.active = nil
	}
	l.broken = errClosed
	return errors.Join(append(errs, l.files.Close())...)
}

var errClosed = fmt.Errorf("%w: closed", ErrBroken)

func (l *Log) path(base uint64) string { return filepath.Join(l.dir, SegmentName(base)) }

// use returns a segment's file, to be released.
func (l *Log) use(base uint64) (*openfile.File[File], error) {
	f, err := l.files.Use(base)
	if errors.Is(err, openfile.ErrClosed) {
		return nil, errClosed
	}
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return f, nil
}

// last returns the active file.
func (l *Log) last() (File, error) {
	if l.active == nil {
		f, err := l.use(l.bases[len(l.bases)-1])
		if err != nil {
			return nil, err
		}
		l.active = f
	}
	return l.active.F, nil
}
