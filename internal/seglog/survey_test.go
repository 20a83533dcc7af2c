package seglog_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/seglog"
)

// A frame of these tests is a record "r", its number and some text, or a
// commit "c" and the number of records, each number in 8 bytes.
func frame(kind byte, n int64) string {
	text := string(binary.LittleEndian.AppendUint64([]byte{kind}, uint64(n)))
	if kind == 'r' {
		text += fmt.Sprintf("text of record %d", n)
	}
	return text
}

func look(body []byte) (n int64, commit, ok bool) {
	if len(body) < 9 || body[0] != 'r' && body[0] != 'c' {
		return 0, false, false
	}
	n = int64(binary.LittleEndian.Uint64(body[1:]))
	return n, body[0] == 'c', n >= 0
}

// segments writes segments of the given frames, written as "0 1 c2 2 c3".
func segments(t testing.TB, frames ...string) string {
	t.Helper()
	dir := t.TempDir()
	l := open(t, dir, seglog.Options{})
	for k, list := range frames {
		base := uint64(k * 1000)
		var b seglog.Batch
		for i, word := range strings.Fields(list) {
			var n int64
			kind := byte('r')
			if after, ok := strings.CutPrefix(word, "c"); ok {
				word, kind = after, 'c'
			}
			if _, err := fmt.Sscan(word, &n); err != nil {
				t.Fatal(err)
			}
			if i == 0 && kind == 'r' {
				base = max(base, uint64(n))
			}
			b.Add(func(dst []byte) []byte { return append(dst, frame(kind, n)...) })
		}
		if err := l.Roll(base); err != nil {
			t.Fatal(err)
		}
		if b.Size() > 0 {
			if _, err := l.Append(&b, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// survey reads a log and returns the survey and what it emitted.
func survey(t testing.TB, dir string, known int64) (*seglog.Survey, []string) {
	t.Helper()
	s, err := seglog.NewSurvey(dir, look)
	if err != nil {
		t.Fatal(err)
	}
	var emitted []string
	if err := s.Read(context.Background(), known, collect(s, &emitted)); err != nil {
		t.Fatal(err)
	}
	return s, emitted
}

func collect(s *seglog.Survey, list *[]string) func(int, []seglog.Frame, []byte) error {
	return func(_ int, frames []seglog.Frame, memory []byte) error {
		for _, f := range frames {
			n, commit, ok := look(f.Body)
			word := fmt.Sprint(n)
			if commit {
				word = "c" + word
			}
			if !ok {
				word = "?"
			}
			*list = append(*list, word)
		}
		s.Recycle(memory)
		return nil
	}
}

func TestASoundLogIsReadOnce(t *testing.T) {
	t.Parallel()
	s, emitted := survey(t, segments(t, "0 1 c2 2 c3", "3 c4 4 5 6 c7"), 7)
	if got := strings.Join(emitted, " "); got != "0 1 c2 2 c3 3 c4 4 5 6 c7" || !s.InOrder {
		t.Errorf("emitted %s", got)
	}
	if s.Commits != 4 || s.Commit.Size != 7 || s.Commit.Segment != 1 || len(s.Faults) > 0 || len(s.Uncommitted) > 0 || s.Unfinished > 0 {
		t.Errorf("%+v", s)
	}
}

func TestFramesOutOfOrderAreArranged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		segments []string
		read     string // in the order of the arrangement, gaps as "-first..last"
		moved    string
		repeated string
		strays   string
	}{
		{"in order", []string{"0 1 c2 2 c3"}, "0 1 c2 2 c3", "", "", ""},
		{"neighbours swapped", []string{"0 2 1 3 c4"}, "0 1 2 3 c4", "2..2 1..1", "", ""},
		{"far ones swapped", []string{"0 5 2 3 4 1 6 c7"}, "0 1 2 3 4 5 6 c7", "5..5 1..1", "", ""},
		{"swapped around a commit", []string{"0 2 c2 1 3 c4"}, "0 1 c2 2 3 c4", "2..2 1..1", "", ""},
		{"a block moved", []string{"0 1 5 6 7 2 3 4 8 c9"}, "0 1 2 3 4 5 6 7 8 c9", "5..7 2..4", "", ""},
		{"a record missing", []string{"0 1 3 4 c5"}, "0 1 -2..2 3 4 c5", "", "", ""},
		{"the first missing", []string{"1 2 c3"}, "-0..0 1 2 c3", "", "", ""},
		{"the first and its commit's records missing", []string{"c1 1 2 c3"}, "-0..0 c1 1 2 c3", "", "", ""},
		{"the last missing, but not its commit", []string{"0 1 c2 c3"}, "0 1 c2 -2..2 c3", "", "", ""},
		{"the last missing, but not its commit in a segment of its own", []string{"0 1 c2", "c3"}, "0 1 c2 -2..2 c3", "", "", ""},
		{"one twice", []string{"0 1 1 2 c3"}, "0 1 2 c3", "", "1..1", ""},
		{"one once more at the end", []string{"0 1 2 c3 1"}, "0 1 2 c3", "", "1..1", ""},
		{"some twice, in part", []string{"0 1 2 3 c4 2 3 4 5 c6"}, "0 1 2 3 c4 4 5 c6", "", "2..3", ""},
		{"one in another's place", []string{"0 1 4 3 4 c5"}, "0 1 -2..2 3 4 c5", "", "4..4", ""},
		{"a commit from elsewhere", []string{"0 1 c2 2 3 c2 4 c5"}, "0 1 c2 2 3 4 c5", "", "", "c2 behind 3"},
		{"a commit of the future", []string{"0 1 c7 2 c3"}, "0 1 2 c3", "", "", "c7 behind 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := survey(t, segments(t, tt.segments...), 0)
			a := s.Arrange()
			var read, moved, repeated, strays []string
			for _, st := range a.Steps {
				if st.Gap {
					read = append(read, fmt.Sprintf("-%d..%d", st.First, st.Number-1))
					continue
				}
				var run []string
				if err := s.ReadRun(context.Background(), st.Run, collect(s, &run)); err != nil {
					t.Fatal(err)
				}
				read = append(read, run[st.Number-st.First:]...) // of which no commit stands among the first here
			}
			for _, m := range a.Moved {
				moved = append(moved, fmt.Sprintf("%d..%d", m.Number, m.End()-1))
			}
			for _, r := range a.Repeated {
				repeated = append(repeated, fmt.Sprintf("%d..%d", r.First, r.End()-1))
			}
			for _, r := range a.Strays {
				strays = append(strays, fmt.Sprintf("c%d behind %d", r.First, r.After))
			}
			for what, pair := range map[string][2]string{
				"read": {strings.Join(read, " "), tt.read}, "moved": {strings.Join(moved, " "), tt.moved},
				"repeated": {strings.Join(repeated, " "), tt.repeated}, "strays": {strings.Join(strays, " "), tt.strays},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s %q, want %q", what, pair[0], pair[1])
				}
			}
			if s.InOrder != (tt.name == "in order") {
				t.Errorf("in order: %v", s.InOrder)
			}
		})
	}
}

func TestHeadersAreHeldAgainstNames(t *testing.T) {
	t.Parallel()
	dir := segments(t, "0 1 c2", "2 3 c4", "4 c5")
	names := []string{seglog.SegmentName(0), seglog.SegmentName(1000), seglog.SegmentName(2000)}
	if err := os.Rename(filepath.Join(dir, names[0]), filepath.Join(dir, seglog.SegmentName(9000))); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, names[1]))
	if err != nil {
		t.Fatal(err)
	}
	data[2] ^= 1
	for name, content := range map[string][]byte{names[1]: data, seglog.SegmentName(3000): nil, "stray": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := survey(t, dir, 5)
	var states []seglog.HeaderState
	var bases []uint64
	for _, seg := range s.Segments {
		states, bases = append(states, seg.State), append(bases, seg.Base)
	}
	if !slices.Equal(states, []seglog.HeaderState{seglog.Renamed, seglog.Damaged, seglog.Sound, seglog.Blank}) ||
		!slices.Equal(bases, []uint64{0, 1000, 2000, 3000}) || !slices.Equal(s.Strays, []string{"stray"}) {
		t.Errorf("states %v, bases %v, strays %v", states, bases, s.Strays)
	}
	if !s.InOrder || s.Commit.Size != 5 {
		t.Errorf("%+v", s)
	}
}

func TestFaultsSayWhatStoodThere(t *testing.T) {
	t.Parallel()
	const frames = "0 1 c2 2 3 4 c5"
	sound := segments(t, frames)
	name := seglog.SegmentName(0)
	data, err := os.ReadFile(filepath.Join(sound, name))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{} // where frames begin
	offset := int(seglog.FirstOffset)
	for _, word := range strings.Fields(frames) {
		at[word] = offset
		offset += 8 + int(binary.LittleEndian.Uint32(data[offset:]))
	}
	tests := []struct {
		name   string
		change func([]byte) []byte
		want   string // first..end of each fault, "commit" behind a record, "padding"
	}{
		{"a record", func(b []byte) []byte { b[at["1"]+12] ^= 1; return b }, "1..2"},
		{"a record's length", func(b []byte) []byte { b[at["1"]] ^= 4; return b }, "1..2"},
		{"a commit", func(b []byte) []byte { b[at["c2"]+12] ^= 1; return b }, "2..2 commit"},
		{"the last commit", func(b []byte) []byte { b[at["c5"]+12] ^= 1; return b }, "5..5 commit"},
		{"neighbours", func(b []byte) []byte { b[at["2"]+30] ^= 1; b[at["3"]+30] ^= 1; return b }, "2..3 3..4"},
		{"a record and its commit", func(b []byte) []byte { b[at["1"]+30] ^= 1; b[at["c2"]+9] ^= 1; return b }, "1..2 2..2 commit"},
		{"a stretch", func(b []byte) []byte { copy(b[at["2"]:at["4"]+5], strings.Repeat("\xee", 200)); return b }, "2..5"},
		{"a stretch of zeros", func(b []byte) []byte { clear(b[at["2"]:at["4"]]); return b }, "2..4 padding"},
		{"the end", func(b []byte) []byte { return b[:at["4"]+20] }, "4..5 cut"},
		{"a zero behind", func(b []byte) []byte { b = append(b, make([]byte, 900)...); b[len(b)-1] = 1; return b }, "5..5 padding"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, name), tt.change(slices.Clone(data)), 0o600); err != nil {
				t.Fatal(err)
			}
			s, _ := survey(t, dir, 5)
			var got []string
			for _, x := range s.Faults {
				got = append(got, fmt.Sprintf("%d..%d", x.First, x.End))
				switch {
				case x.Padding:
					got = append(got, "padding")
				case x.First == x.End && x.AfterRecord:
					got = append(got, "commit")
				case x.Cut:
					got = append(got, "cut")
				}
			}
			if text := strings.Join(got, " "); text != tt.want || s.InOrder {
				t.Errorf("faults %q, want %q", text, tt.want)
			}
		})
	}
}

func TestABatchThatWasNeverCommittedIsNoFault(t *testing.T) {
	t.Parallel()
	dir := segments(t, "0 1 c2 2 3 4 5 6 7 8 c9")
	name := filepath.Join(dir, seglog.SegmentName(0))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	committed := int(seglog.FirstOffset) + 2*(8+len(frame('r', 0))) + 8 + len(frame('c', 0))
	for n := committed; n < len(whole); n++ {
		if err := os.WriteFile(name, append(slices.Clone(whole[:n]), make([]byte, 5000)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if n%37 != 0 && n-committed > 20 { // each takes its time
			continue
		}
		s, _ := survey(t, dir, 2)
		written := n - committed
		if len(s.Faults) > 0 && (written >= 9 || s.Faults[0].First != 2) || s.Commit.Size != 2 {
			t.Errorf("%d bytes of the batch: %+v", written, s.Faults)
		}
		if len(s.Faults) == 0 && (s.Unfinished > 0) != (written > 0) {
			t.Errorf("%d bytes of the batch: %d are unfinished", written, s.Unfinished)
		}
		if s, _ = survey(t, dir, 9); len(s.Faults) == 0 && s.Commit.Size == 9 {
			t.Errorf("%d bytes of a batch that is known pass for all of it", written)
		}
	}
}

// FuzzSurvey surveys hostile segments and reads them in the order arranged.
func FuzzSurvey(f *testing.F) {
	for _, frames := range []string{"0 1 c2 2 c3", "0 2 c2 1 3 c4", "0 0 c1 5"} {
		data, err := os.ReadFile(filepath.Join(segments(f, frames), seglog.SegmentName(0)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, int64(3))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, known int64) {
		if err := os.WriteFile(filepath.Join(dir, seglog.SegmentName(0)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _ := survey(t, dir, known|1<<40) // a writer is not waited for
		next := int64(0)
		for _, st := range s.Arrange().Steps {
			if st.Number < next || st.Gap && st.First != next {
				t.Fatalf("step %+v behind record %d", st, next)
			}
			next = max(next, st.Number)
			if !st.Gap {
				next = max(next, st.End())
				var list []string
				if err := s.ReadRun(context.Background(), st.Run, collect(s, &list)); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
