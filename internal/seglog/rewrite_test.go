package seglog_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/seglog"
)

// twoSegments returns a log with a segment of three frames and an active one,
// the path of the first, and a path for its copy.
func twoSegments(t *testing.T) (l *seglog.Log, path, tmp string) {
	t.Helper()
	l, dir := begin(t, seglog.Options{})
	appendTo(t, l, "first", "second", strings.Repeat("third", 1000))
	if err := l.Roll(3); err != nil {
		t.Fatal(err)
	}
	appendTo(t, l, "fourth")
	return l, filepath.Join(dir, seglog.SegmentName(0)), filepath.Join(dir, "copy")
}

// crossOut edits a body.
func crossOut(dst, body []byte) ([]byte, error) {
	return append(dst, bytes.Repeat([]byte{'x'}, len(body))...), nil
}

func TestARewrittenSegmentHasItsFramesWhereTheyWere(t *testing.T) {
	t.Parallel()
	l, path, tmp := twoSegments(t)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, l, 0, "first", "second", strings.Repeat("third", 1000)) // so that the file is open
	if err := l.Rewrite(0, tmp, func(dst, body []byte) ([]byte, error) {
		if string(body) == "second" {
			return crossOut(dst, body)
		}
		return append(dst, body...), nil
	}); err != nil {
		t.Fatal(err)
	}
	expect(t, l, 0, "first", "xxxxxx", strings.Repeat("third", 1000))
	expect(t, l, 3, "fourth")
	if after, err := os.Stat(path); err != nil || after.Size() != before.Size() {
		t.Errorf("the file's size: %v, and it was %d: %v", after.Size(), before.Size(), err)
	}
	if _, err := os.Stat(tmp); !os.IsNotExist(err) {
		t.Errorf("the copy is left: %v", err)
	}
	if err := l.Rewrite(3, tmp, crossOut); err == nil {
		t.Error("the active segment was rewritten")
	}
}

func TestASegmentThatIsDamagedIsNotRewritten(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string][]byte{
		"a bit": {1}, "zeros, where a frame should begin": make([]byte, 16),
	} {
		t.Run(name, func(t *testing.T) {
			l, path, tmp := twoSegments(t)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			r, err := l.Reader(0, seglog.FirstOffset)
			if err != nil {
				t.Fatal(err)
			}
			frames, err := r.Next(make([]byte, 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(damage, frames[1].Offset); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Rewrite(0, tmp, crossOut); err == nil {
				t.Error("it was rewritten")
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
				t.Errorf("it is not what it was: %v", err)
			}
			if _, err := os.Stat(tmp); !os.IsNotExist(err) {
				t.Errorf("the copy is left: %v", err)
			}
		})
	}
}

func TestZerosThatWereReservedDoNotKeepASegmentFromBeingRewritten(t *testing.T) {
	t.Parallel()
	l, path, tmp := twoSegments(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = f.Truncate(end + 3<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Rewrite(0, tmp, func(dst, body []byte) ([]byte, error) { return append(dst, body...), nil }); err != nil {
		t.Fatal(err)
	}
	expect(t, l, 0, "first", "second", strings.Repeat("third", 1000))
}
