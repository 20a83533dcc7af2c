package seglog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/seglog"
)

// segment returns the bytes of a segment with the given frames.
func segment(t testing.TB, base uint64, bodies ...string) []byte {
	t.Helper()
	l, dir := begin(t, seglog.Options{})
	if base > 0 {
		if err := l.Roll(base); err != nil {
			t.Fatal(err)
		}
	}
	if len(bodies) > 0 {
		appendTo(t, l, bodies...)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, seglog.SegmentName(base)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// walk reads a segment with a buffer of the given size, going on behind
// damage, and returns the bodies, with "!" for each damage.
func walk(t testing.TB, data []byte, size int) (list []string) {
	t.Helper()
	r := seglog.NewReader(bytes.NewReader(data), 0, seglog.FirstOffset)
	for {
		frames, err := r.Next(make([]byte, size))
		var damage *seglog.Damage
		switch {
		case err == io.EOF:
			return list
		case errors.As(err, &damage):
			list = append(list, "!")
			if more, err := r.Resync(int64(len(data)), func([]byte) bool { return true }); err != nil || !more {
				return list
			}
		case err != nil:
			t.Fatal(err)
		}
		for _, f := range frames {
			list = append(list, string(f.Body))
		}
	}
}

func TestFramesAreReadWithAnyBuffer(t *testing.T) {
	t.Parallel()
	want := []string{"a", strings.Repeat("b", 700), "c", strings.Repeat("d", 5000), "e"}
	data := segment(t, 0, want...)
	for _, size := range []int{8, 9, 100, 709, 1000, 6000, 1 << 20} {
		for _, zeros := range []int{0, 3, 8, 5000} {
			if got := walk(t, append(bytes.Clone(data), make([]byte, zeros)...), size); !slices.Equal(got, want) {
				t.Errorf("buffer of %d, %d zeros: %.50q", size, zeros, got)
			}
		}
	}
}

func TestEveryBitThatIsChangedIsDamageInItsPlace(t *testing.T) {
	t.Parallel()
	want := []string{"first", "second", strings.Repeat("third", 20), "fourth", "fifth"}
	data := segment(t, 0, want...)
	at := int(seglog.FirstOffset)
	for n, body := range want {
		for i := at; i < at+8+len(body); i++ {
			for bit := range 8 {
				data[i] ^= 1 << bit
				got := walk(t, data, 1<<16)
				if expect := slices.Concat(want[:n], []string{"!"}, want[n+1:]); !slices.Equal(got, expect) {
					t.Fatalf("bit %d of byte %d of frame %d: read %.40q", bit, i-at, n, got)
				}
				data[i] ^= 1 << bit
			}
		}
		at += 8 + len(body)
	}
	for i := range seglog.FirstOffset {
		data[i] ^= 1
		var damage *seglog.Damage
		if err := seglog.NewReader(bytes.NewReader(data), 0, 0).CheckHeader(); !errors.As(err, &damage) {
			t.Errorf("byte %d of the header: %v", i, err)
		}
		data[i] ^= 1
	}
}

func TestASegmentIsOfItsBaseOnly(t *testing.T) {
	t.Parallel()
	data := segment(t, 77, "a")
	for _, base := range []uint64{77, 78} {
		if err := seglog.NewReader(bytes.NewReader(data), base, 0).CheckHeader(); (err == nil) != (base == 77) {
			t.Errorf("base %d: %v", base, err)
		}
	}
	if base, ok := seglog.SegmentBase("/x/" + seglog.SegmentName(77)); !ok || base != 77 {
		t.Errorf("base %d, %v", base, ok)
	}
}

func TestAFrameThatIsCutOffIsDamage(t *testing.T) {
	t.Parallel()
	data := segment(t, 0, "first", "second")
	second := int(seglog.FirstOffset) + 8 + len("first")
	for n := second + 1; n < len(data); n++ {
		if got := walk(t, data[:n], 1<<16); !slices.Equal(got, []string{"first", "!"}) {
			t.Errorf("cut to %d bytes: read %q", n, got)
		}
	}
}

func TestReadingGoesOnBehindDamage(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("large ", 150_000)
	data := segment(t, 0, "a", large, "b", large, "c", "d")
	for name, tt := range map[string]struct {
		change func([]byte) []byte
		want   []string
	}{
		"garbage in the middle": {func(b []byte) []byte {
			copy(b[1000:], bytes.Repeat([]byte{0xff}, 100_000))
			return b
		}, []string{"a", "!", "b", large, "c", "d"}},
		"garbage between frames": {func(b []byte) []byte {
			return slices.Insert(b, int(seglog.FirstOffset)+9, bytes.Repeat([]byte("garbage"), 300_000)...)
		}, []string{"a", "!", large, "b", large, "c", "d"}},
		"heads of frames that are none": {func(b []byte) []byte {
			fake := binary.LittleEndian.AppendUint64(nil, 1000)
			return slices.Insert(b, int(seglog.FirstOffset)+9, bytes.Repeat(fake, 1000)...)
		}, []string{"a", "!", large, "b", large, "c", "d"}},
		"nothing but garbage behind": {func(b []byte) []byte { return append(b, "garbage"...) }, []string{"a", large, "b", large, "c", "d", "!"}},
	} {
		if got := walk(t, tt.change(bytes.Clone(data)), 1<<20); !slices.Equal(got, tt.want) {
			t.Errorf("%s: read %.60q", name, got)
		}
	}
}

func TestOnlyPlausibleFramesEndDamage(t *testing.T) {
	t.Parallel()
	data := segment(t, 0, "a", "no", "yes")
	r := seglog.NewReader(bytes.NewReader(data), 0, seglog.FirstOffset)
	asked := 0
	more, err := r.Resync(int64(len(data)), func(body []byte) bool { asked++; return string(body) == "yes" })
	if err != nil || !more || r.Offset() != int64(len(data)-8-3) || asked < 2 {
		t.Errorf("%v, %v, at byte %d", more, err, r.Offset())
	}
	r = seglog.NewReader(bytes.NewReader(data), 0, seglog.FirstOffset)
	if more, err := r.Resync(int64(len(data)), func([]byte) bool { return false }); more || err != nil || r.Offset() != seglog.FirstOffset {
		t.Errorf("%v, %v, at byte %d", more, err, r.Offset())
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("no disk") }

func TestADiskThatCannotBeReadIsNoDamage(t *testing.T) {
	t.Parallel()
	r := seglog.NewReader(failing{}, 0, seglog.FirstOffset)
	var damage *seglog.Damage
	_, next := r.Next(make([]byte, 100))
	_, resync := r.Resync(1000, func([]byte) bool { return true })
	for _, err := range []error{next, resync, r.CheckHeader()} {
		if err == nil || errors.As(err, &damage) || !strings.Contains(err.Error(), "no disk") {
			t.Errorf("error %v", err)
		}
	}
}

// FuzzReader reads hostile segments to the end, and no frame twice.
func FuzzSegmentBase(f *testing.F) {
	for _, s := range []string{seglog.SegmentName(0), "log/" + seglog.SegmentName(1<<63), "99999999999999999999.seg", "+0000000000000000001.seg", "1.seg", ".seg", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if base, ok := seglog.SegmentBase(path); ok && seglog.SegmentName(base) != filepath.Base(path) {
			t.Errorf("%q is taken for segment %d", path, base)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add(segment(f, 0, "a", "bc", strings.Repeat("d", 300)), 64)
	f.Add([]byte("GRVNSEG1"), 8)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if size < 8 || size > 1<<16 {
			size = 1 << 10
		}
		r := seglog.NewReader(bytes.NewReader(data), 0, seglog.FirstOffset)
		_ = r.CheckHeader()
		last := int64(-1)
		for {
			frames, err := r.Next(make([]byte, size))
			var damage *seglog.Damage
			switch {
			case err == io.EOF:
				return
			case errors.As(err, &damage):
				if damage.Offset < last {
					t.Fatalf("damage at %d behind %d", damage.Offset, last)
				}
				if more, err := r.Resync(int64(len(data)), func([]byte) bool { return true }); err != nil || !more {
					return
				}
				continue
			case err != nil:
				t.Fatal(err)
			}
			for _, fr := range frames {
				if fr.Offset <= last || fr.End() > int64(len(data)) {
					t.Fatalf("a frame from %d to %d behind %d", fr.Offset, fr.End(), last)
				}
				last = fr.Offset
			}
		}
	})
}
