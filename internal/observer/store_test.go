package observer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/capture"
)

var issues = capture.Resource{Group: "platform.chatcli.io", Version: "v1alpha1", Resource: "issues"}

func reopen(t *testing.T, dir string, s *store) *store {
	t.Helper()
	if s != nil {
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openStore(dir, issues)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seenAs(uid, text string) *state {
	return &state{UID: uid, Version: "1", Object: object{"metadata": map[string]any{"uid": uid}, "text": text, "n": int64(1) << 60}}
}

func (s *store) says(t *testing.T) string {
	t.Helper()
	var all []string
	for _, uid := range s.uids() {
		st, err := s.get(uid)
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := st.Object["n"].(int64); !ok || n != 1<<60 {
			t.Errorf("%v", st.Object["n"])
		}
		all = append(all, fmt.Sprint(uid, "=", st.Object["text"]))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestStatesOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir, nil)
	s.put("a", seenAs("a", "1"))
	s.put("b", seenAs("b", "1"))
	if got := s.says(t); got != "a=1 b=1" {
		t.Error(got)
	}
	if err := s.flush(&position{ResourceVersion: "7"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.put("a", seenAs("a", "2"))
	s.put("b", nil)
	if err := s.flush(nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.put("c", seenAs("c", "lost")) // never flushed
	s = reopen(t, dir, s)
	if got := s.says(t); got != "a=2" {
		t.Error(got)
	}
	if at, err := s.position(); err != nil || at.ResourceVersion != "7" {
		t.Error(at, err)
	}
}

func TestWhatIsTornOrDamagedAtTheEndIsNotThere(t *testing.T) {
	for name, damage := range map[string]func(text []byte) []byte{
		"a torn head":     func(text []byte) []byte { return append(text, 1, 2, 3) },
		"a torn state":    func(text []byte) []byte { return append(text, 200, 0, 0, 0, 1, 2, 3, 4, '{') },
		"a changed state": func(text []byte) []byte { text[len(text)-3] ^= 1; return text },
		"a huge length":   func(text []byte) []byte { return append(text, 255, 255, 255, 255, 0, 0, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := reopen(t, dir, nil)
			for _, uid := range []string{"a", "b"} {
				s.put(uid, seenAs(uid, "1"))
				if err := s.flush(nil, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(s.dir, logFile)
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, damage(text), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := "a=1 b=1"
			if name == "a changed state" {
				want = "a=1"
			}
			s = reopen(t, dir, s)
			if got := s.says(t); got != want {
				t.Error(got)
			}
			s.put("c", seenAs("c", "1")) // and it goes on
			if err := s.flush(nil, time.Now()); err != nil {
				t.Fatal(err)
			}
			if got := reopen(t, dir, s).says(t); got != want+" c=1" {
				t.Error(got)
			}
		})
	}
}

func TestALogIsWrittenAnewOnceMostOfItIsOld(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir, nil)
	long := strings.Repeat("a", 10_000)
	for i := range 1000 {
		s.put("a", seenAs("a", long+fmt.Sprint(i)))
		s.put("b", seenAs("b", "1"))
		if err := s.flush(nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if s.end > 2*minLog {
		t.Errorf("the log has %d bytes", s.end)
	}
	if got := reopen(t, dir, s).says(t); got != "a="+long+"999 b=1" {
		t.Errorf("%.40s", got)
	}
}

func TestAThresholdIsReachedOnceInItsTimeInWhateverOrderThingsAreSeen(t *testing.T) {
	at := time.Date(2026, 3, 19, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name    string
		minutes []int // when each happened, in the order in which it is seen
		want    string
	}{
		{"three within the hour", []int{0, 20, 40}, "2"},
		{"three in more", []int{0, 40, 61}, ""},
		{"five in an hour are one", []int{0, 1, 2, 3, 4}, "2"},
		{"the third is seen late", []int{20, 30, 0}, "2"},
		{"the first is seen third, and two more", []int{30, 31, 20, 32, 33}, "2"},
		{"again after an hour", []int{0, 1, 2, 90, 91, 92}, "2 5"},
		{"by a clock that is ahead", []int{0, 1, 10_000_000}, ""},
		{"one is seen again and again", []int{0, 0, 0, 0}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := reopen(t, t.TempDir(), nil)
			open := func() *counts {
				c, err := openCounts(s, func() time.Time { return at.Add(100 * time.Minute) })
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			for _, again := range []bool{false, true} { // what was seen before a kill is seen again
				var reached []string
				for i, m := range test.minutes {
					c := open()
					fact := fmt.Sprint("fact ", i)
					if test.name == "one is seen again and again" {
						fact = "fact"
					}
					if c.Reaches("k", fact, at.Add(time.Duration(m)*time.Minute), time.Hour, 3) {
						reached = append(reached, fmt.Sprint(i))
					}
					if err := c.write(at); err != nil {
						t.Fatal(err)
					}
				}
				if got := strings.Join(reached, " "); got != test.want {
					t.Errorf("reached with %q, want %q, again %v", got, test.want, again)
				}
			}
		})
	}
}
