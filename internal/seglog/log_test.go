package seglog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/graven-audit/graven/internal/seglog"
)

// batch makes a batch of frames with the given bodies.
func batch(bodies ...string) *seglog.Batch {
	b := new(seglog.Batch)
	for _, body := range bodies {
		b.Add(func(dst []byte) []byte { return append(dst, body...) })
	}
	return b
}

func open(t testing.TB, dir string, o seglog.Options) *seglog.Log {
	t.Helper()
	l, err := seglog.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// begin opens a new log with one segment.
func begin(t testing.TB, o seglog.Options) (*seglog.Log, string) {
	t.Helper()
	dir := t.TempDir()
	l := open(t, dir, o)
	if err := l.Roll(0); err != nil {
		t.Fatal(err)
	}
	return l, dir
}

func appendTo(t testing.TB, l *seglog.Log, bodies ...string) int64 {
	t.Helper()
	offset, err := l.Append(batch(bodies...), false)
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

// bodies reads all frames of a segment, and why they end.
func bodies(t testing.TB, l *seglog.Log, base uint64) (list []string, end error) {
	t.Helper()
	r, err := l.Reader(base, seglog.FirstOffset)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckHeader(); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 4096)
	for {
		frames, err := r.Next(buf)
		if err != nil {
			return list, err
		}
		for _, f := range frames {
			list = append(list, string(f.Body))
		}
	}
}

func expect(t testing.TB, l *seglog.Log, base uint64, want ...string) {
	t.Helper()
	if got, end := bodies(t, l, base); !slices.Equal(got, want) || end != io.EOF {
		t.Errorf("segment %d holds %.100q and ends in %v, want %.100q", base, got, end, want)
	}
}

func TestWhatIsAppendedIsRead(t *testing.T) {
	t.Parallel()
	l, dir := begin(t, seglog.Options{})
	large := strings.Repeat("x", 3<<18)
	longest := strings.Repeat("y", seglog.MaxBody)
	offset := appendTo(t, l, "a", "bc")
	if offset != seglog.FirstOffset {
		t.Errorf("the first frame stands at %d", offset)
	}
	b := batch("d", large, "e")
	second, err := l.Append(b, false)
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, l, longest)
	expect(t, l, 0, "a", "bc", "d", large, "e", longest)
	for i, want := range []string{"d", large, "e"} {
		if body, err := l.ReadFrame(0, second+b.Offset(i)); err != nil || string(body) != want {
			t.Errorf("frame %d of the batch: %.20q, %v", i, body, err)
		}
	}
	end := l.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, seglog.SegmentName(0))); err != nil || info.Size() != end {
		t.Errorf("the closed segment has %v bytes, not %d (%v)", info.Size(), end, err)
	}
	again := open(t, dir, seglog.Options{})
	if got := again.Segments(); !slices.Equal(got, []uint64{0}) {
		t.Errorf("segments %v", got)
	}
	expect(t, again, 0, "a", "bc", "d", large, "e", longest)
	if err := again.Cut(end); err != nil {
		t.Fatal(err)
	}
	appendTo(t, again, "f")
	expect(t, again, 0, "a", "bc", "d", large, "e", longest, "f")
}

func TestOneWriteAndOneSyncCommitABatch(t *testing.T) {
	t.Parallel()
	fs := &faultFS{}
	l, _ := begin(t, seglog.Options{FS: fs})
	appendTo(t, l, "a")
	sizes := map[int64]bool{}
	for range 100 {
		fs.writes, fs.syncs = 0, 0
		appendTo(t, l, "b", "c", "d")
		if fs.writes != 1 || fs.syncs != 1 {
			t.Fatalf("%d writes and %d syncs", fs.writes, fs.syncs)
		}
		sizes[l.End()] = true
	}
	if len(sizes) != 100 {
		t.Errorf("%d ends", len(sizes))
	}
}

func TestASegmentThatIsFullIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	l, dir := begin(t, seglog.Options{SegmentSize: 1000})
	if l.Full() {
		t.Error("an empty segment is full")
	}
	want := map[uint64][]string{}
	base := uint64(0)
	for n := range uint64(100) {
		if l.Full() {
			if err := l.Roll(n); err != nil {
				t.Fatal(err)
			}
			base = n
		}
		body := fmt.Sprint("record ", n)
		appendTo(t, l, body)
		want[base] = append(want[base], body)
	}
	if len(want) < 2 || len(l.Segments()) != len(want) {
		t.Fatalf("%d segments", len(l.Segments()))
	}
	for _, base := range l.Segments() {
		expect(t, l, base, want[base]...)
		info, err := os.Stat(filepath.Join(dir, seglog.SegmentName(base)))
		if err != nil {
			t.Fatal(err)
		}
		if base != l.Segments()[len(want)-1] && (info.Size() < 1000 || info.Size() > 1100) {
			t.Errorf("segment %d keeps %d bytes", base, info.Size())
		}
	}
}

func TestWhatWasCutIsGone(t *testing.T) {
	t.Parallel()
	l, dir := begin(t, seglog.Options{})
	appendTo(t, l, "a")
	keep := l.End()
	appendTo(t, l, "b", strings.Repeat("c", 1000))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, seglog.Options{})
	if err := l.Cut(keep); err != nil {
		t.Fatal(err)
	}
	expect(t, l, 0, "a")
	appendTo(t, l, "d")
	expect(t, l, 0, "a", "d")
}

func TestOtherFilesAreNoSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"x", "1.seg", "0000000000000000000x.seg", "99999999999999999999.seg", "00000000000000000001.seg.tmp", seglog.SegmentName(7)} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := open(t, dir, seglog.Options{}).Segments(); !slices.Equal(got, []uint64{7}) {
		t.Errorf("segments %v", got)
	}
}

// A disk has room for some bytes beyond those of one file.
type disk struct{ free, size int64 }

// fill lets the files of fs grow only as far as there is room.
func (d *disk) fill(fs *faultFS) {
	fs.write = func(data []byte, at int64) (int, error) {
		grows := max(at+int64(len(data))-d.size, 0)
		if grows > d.free {
			n := int64(len(data)) - (grows - d.free)
			d.size, d.free = d.size+d.free, 0
			return int(max(n, 0)), syscall.ENOSPC
		}
		d.free, d.size = d.free-grows, d.size+grows
		return len(data), nil
	}
	fs.truncate = func(size int64) error {
		if size < d.size {
			d.free, d.size = d.free+d.size-size, size
		}
		return nil
	}
}

func TestAFullDiskRefusesABatchAndTakesItLater(t *testing.T) {
	t.Parallel()
	fs := &faultFS{}
	l, dir := begin(t, seglog.Options{FS: fs})
	d := &disk{free: 100_000, size: seglog.FirstOffset}
	d.fill(fs)
	if _, err := l.Append(batch("a"), false); !errors.Is(err, seglog.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	if d.free != 100_000 {
		t.Errorf("%d bytes are free after the refusal", d.free)
	}
	data, err := os.ReadFile(filepath.Join(dir, seglog.SegmentName(0)))
	if err != nil || len(bytes.Trim(data[seglog.FirstOffset:], "\x00")) > 0 {
		t.Errorf("something was written: %q (%v)", data, err)
	}
	expect(t, l, 0)
	d.free = 10 << 20
	appendTo(t, l, "a")
	expect(t, l, 0, "a")
}

func TestTheReserveIsForThoseWhoMayUseIt(t *testing.T) {
	t.Parallel()
	fs := &faultFS{}
	const reserve = 10_000
	l, _ := begin(t, seglog.Options{FS: fs, Reserve: reserve})
	d := &disk{free: 300_000, size: seglog.FirstOffset}
	d.fill(fs)
	appendTo(t, l, "a")
	d.free = 0
	body := strings.Repeat("x", 1000)
	var common, own int
	for ; ; common++ {
		if _, err := l.Append(batch(body), false); err != nil {
			if !errors.Is(err, seglog.ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	for ; ; own++ {
		if _, err := l.Append(batch(body), true); err != nil {
			if !errors.Is(err, seglog.ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if common < 10 || own < 8 {
		t.Errorf("%d common batches, then %d of the owner's", common, own)
	}
	got, end := bodies(t, l, 0)
	if len(got) != 1+common+own || end != io.EOF {
		t.Errorf("%d frames, end %v", len(got), end)
	}
}

// A blockDisk counts blocks as file systems do: a hole takes none.
type blockDisk struct {
	free  int
	taken map[int64]bool
}

func (d *blockDisk) fill(fs *faultFS) {
	const block = 4096
	fs.write = func(data []byte, at int64) (int, error) {
		for b := at / block; b*block < at+int64(len(data)); b++ {
			if d.taken[b] {
				continue
			}
			if d.free == 0 {
				return int(max(b*block-at, 0)), syscall.ENOSPC
			}
			d.free--
			d.taken[b] = true
		}
		return len(data), nil
	}
	fs.truncate = func(size int64) error {
		for b := range d.taken {
			if b*block >= size {
				delete(d.taken, b)
				d.free++
			}
		}
		return nil
	}
}

// TestALargeBatchThatDoesNotFitLeavesTheReserve: such a batch is written where
// nothing was reserved for it.
func TestALargeBatchThatDoesNotFitLeavesTheReserve(t *testing.T) {
	t.Parallel()
	const reserve = 40 << 10
	large := strings.Repeat("x", 200<<10)
	for free := range 70 {
		fs := &faultFS{}
		d := &blockDisk{free: 1 << 20, taken: map[int64]bool{}}
		l, dir := begin(t, seglog.Options{FS: fs, Reserve: reserve})
		d.fill(fs)
		appendTo(t, l, large) // which leaves no more than the reserve behind it
		d.free = free
		want := []string{large}
		_, err := l.Append(batch(large), false)
		if err == nil {
			want = append(want, large)
		} else if !errors.Is(err, seglog.ErrFull) {
			t.Fatalf("with %d free blocks: %v", free, err)
		}
		if (err == nil) != (free >= 50) {
			t.Errorf("with %d free blocks: %v", free, err)
		}
		if err != nil && d.free != free {
			t.Errorf("of %d free blocks, %d are left after the refusal", free, d.free)
		}
		d.free = 0
		for i := range reserve / 1100 {
			own := strings.Repeat("y", 1000)
			if _, err := l.Append(batch(own), true); err != nil {
				t.Fatalf("with %d free blocks, %d of the owner's: %v", free, i, err)
			}
			want = append(want, own)
		}
		expect(t, l, 0, want...)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		expect(t, open(t, dir, seglog.Options{}), 0, want...)
	}
}

func TestAShortWriteIsUndone(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
		fs := &faultFS{}
		l, dir := begin(t, seglog.Options{FS: fs})
		appendTo(t, l, "a")
		fs.write = func(data []byte, at int64) (int, error) { return 10, cause }
		_, err := l.Append(batch("b", "c"), false)
		if err == nil || errors.Is(err, seglog.ErrBroken) || errors.Is(err, seglog.ErrFull) != (cause != syscall.EIO) || !errors.Is(err, cause) {
			t.Errorf("%v: error %v", cause, err)
		}
		fs.write = nil
		expect(t, l, 0, "a")
		appendTo(t, l, "d")
		expect(t, l, 0, "a", "d")
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		expect(t, open(t, dir, seglog.Options{}), 0, "a", "d")
	}
}

func TestAFailedSyncBreaksTheLog(t *testing.T) {
	t.Parallel()
	tests := map[string]func(fs *faultFS){
		"of a batch": func(fs *faultFS) { fs.sync = func() error { return syscall.EIO } },
		"of undoing a write": func(fs *faultFS) {
			fs.write = func([]byte, int64) (int, error) { return 5, syscall.EIO }
			fs.sync = func() error { return syscall.EIO }
		},
		"for want of undoing": func(fs *faultFS) {
			fs.write = func([]byte, int64) (int, error) { return 5, syscall.EIO }
			fs.truncate = func(int64) error { return syscall.EIO }
		},
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			fs := &faultFS{}
			l, dir := begin(t, seglog.Options{FS: fs})
			appendTo(t, l, "a")
			end := l.End()
			fault(fs)
			if _, err := l.Append(batch("b"), false); !errors.Is(err, seglog.ErrBroken) || !errors.Is(err, syscall.EIO) {
				t.Errorf("error %v, want ErrBroken", err)
			}
			fs.write, fs.sync, fs.truncate = nil, nil, nil
			if _, err := l.Append(batch("c"), true); !errors.Is(err, seglog.ErrBroken) {
				t.Errorf("error %v, want ErrBroken", err)
			}
			if err := l.Roll(9); !errors.Is(err, seglog.ErrBroken) {
				t.Errorf("error %v, want ErrBroken", err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			again := open(t, dir, seglog.Options{})
			if err := again.Cut(end); err != nil {
				t.Fatal(err)
			}
			appendTo(t, again, "d")
			expect(t, again, 0, "a", "d")
		})
	}
}

func TestASegmentThatCannotBeBegunIsNotThere(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(fs *faultFS){
		"no file": func(fs *faultFS) { fs.open = func(string, int) error { return syscall.ENOSPC } },
		"a file that is not given": func(fs *faultFS) {
			fs.open = func(name string, _ int) error { return errors.Join(os.WriteFile(name, nil, 0o600), syscall.ENOSPC) }
		},
		"no header":      func(fs *faultFS) { fs.write = func([]byte, int64) (int, error) { return 3, syscall.ENOSPC } },
		"no sync":        func(fs *faultFS) { fs.sync = func() error { return syscall.ENOSPC } },
		"no sync of dir": func(fs *faultFS) { fs.syncDir = func() error { return syscall.ENOSPC } },
	} {
		t.Run(name, func(t *testing.T) {
			fs := &faultFS{}
			l, _ := begin(t, seglog.Options{FS: fs})
			appendTo(t, l, "a")
			fault(fs)
			if err := l.Roll(5); !errors.Is(err, seglog.ErrFull) {
				t.Errorf("error %v, want ErrFull", err)
			}
			fs.open, fs.write, fs.sync, fs.syncDir = nil, nil, nil, nil
			if got := l.Segments(); !slices.Equal(got, []uint64{0}) {
				t.Errorf("segments %v", got)
			}
			appendTo(t, l, "b")
			expect(t, l, 0, "a", "b")
			if err := l.Roll(5); err != nil {
				t.Fatal(err)
			}
			appendTo(t, l, "c")
			expect(t, l, 5, "c")
			expect(t, l, 0, "a", "b")
		})
	}
}

// TestWhatIsLeftOfASegmentBreaksTheLog: what the log would go on to write in the
// segment before, nobody would look for there.
func TestWhatIsLeftOfASegmentBreaksTheLog(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(fs *faultFS){
		"it cannot be removed": func(fs *faultFS) {
			fs.sync = func() error { return syscall.ENOSPC }
			fs.remove = func(string) error { return syscall.EIO }
		},
		"it is not ours": func(fs *faultFS) {
			fs.open = func(name string, _ int) error { return os.WriteFile(name, []byte("something"), 0o600) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := &faultFS{}
			l, dir := begin(t, seglog.Options{FS: fs})
			appendTo(t, l, "a")
			fault(fs)
			if err := l.Roll(5); !errors.Is(err, seglog.ErrBroken) {
				t.Errorf("error %v, want ErrBroken", err)
			}
			fs.open, fs.sync, fs.remove = nil, nil, nil
			if _, err := l.Append(batch("b"), true); !errors.Is(err, seglog.ErrBroken) {
				t.Errorf("error %v, want ErrBroken", err)
			}
			if _, err := os.Stat(filepath.Join(dir, seglog.SegmentName(5))); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestALogThatIsReadOnlyTakesNothing(t *testing.T) {
	t.Parallel()
	l, dir := begin(t, seglog.Options{})
	appendTo(t, l, "a")
	reader := open(t, dir, seglog.Options{ReadOnly: true})
	expect(t, reader, 0, "a")
	if _, err := reader.Append(batch("b"), false); err == nil {
		t.Error("a read-only log took a batch")
	}
	if err := reader.Roll(3); err == nil {
		t.Error("a read-only log was rolled")
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	appendTo(t, l, "b")
	expect(t, l, 0, "a", "b")
}

func TestAClosedLogGivesErrors(t *testing.T) {
	t.Parallel()
	l, _ := begin(t, seglog.Options{})
	at := appendTo(t, l, "a")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(batch("b"), false); !errors.Is(err, seglog.ErrBroken) {
		t.Errorf("append: %v", err)
	}
	if _, err := l.ReadFrame(0, at); !errors.Is(err, seglog.ErrBroken) {
		t.Errorf("read: %v", err)
	}
	if _, err := l.Reader(0, at); !errors.Is(err, seglog.ErrBroken) {
		t.Errorf("reader: %v", err)
	}
}

func TestReadersSeeWhatWasAppendedWhileMoreIs(t *testing.T) {
	t.Parallel()
	l, _ := begin(t, seglog.Options{SegmentSize: 1 << 14})
	type place struct {
		base   uint64
		offset int64
	}
	var places sync.Map
	var size atomic.Int64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			for n := int64(r); ; n += 7 {
				select {
				case <-stop:
					return
				default:
				}
				s := size.Load()
				if s == 0 {
					continue
				}
				i := n % s
				p, _ := places.Load(i)
				body, err := l.ReadFrame(p.(place).base, p.(place).offset)
				if err != nil || string(body) != fmt.Sprint("record ", i) {
					t.Errorf("record %d: %q, %v", i, body, err)
					return
				}
				bases := l.Segments()
				reader, err := l.Reader(bases[n%int64(len(bases))], seglog.FirstOffset)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := reader.Next(make([]byte, 512)); err != nil && err != io.EOF {
					var damage *seglog.Damage
					if !errors.As(err, &damage) { // a frame that is being written
						t.Error(err)
						return
					}
				}
			}
		})
	}
	base := uint64(0)
	for n := range int64(2000) {
		if l.Full() {
			base = uint64(n)
			if err := l.Roll(base); err != nil {
				t.Fatal(err)
			}
		}
		places.Store(n, place{base, appendTo(t, l, fmt.Sprint("record ", n))})
		size.Store(n + 1)
	}
	close(stop)
	readers.Wait()
}

func TestAFileIsReplacedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(fs *faultFS){
		"":          func(*faultFS) {},
		"no file":   func(fs *faultFS) { fs.open = func(string, int) error { return syscall.EACCES } },
		"no room":   func(fs *faultFS) { fs.write = func([]byte, int64) (int, error) { return 2, syscall.ENOSPC } },
		"no sync":   func(fs *faultFS) { fs.sync = func() error { return syscall.EIO } },
		"no rename": func(fs *faultFS) { fs.rename = func() error { return syscall.EIO } },
	} {
		fs := &faultFS{}
		path := filepath.Join(t.TempDir(), "f")
		if err := seglog.WriteFile(fs, path, []byte("old content")); err != nil {
			t.Fatal(err)
		}
		fault(fs)
		err := seglog.WriteFile(fs, path, []byte("new"))
		want := "new"
		if name != "" {
			want = "old content"
		}
		if got, readErr := os.ReadFile(path); readErr != nil || string(got) != want || (err == nil) != (name == "") {
			t.Errorf("%s: %q, %v, %v", name, got, readErr, err)
		}
	}
}
