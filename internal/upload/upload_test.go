package upload_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/upload"
)

// A sender sends size bytes, so many per second. It is the connection, too,
// and keeps its read deadline.
type sender struct {
	http.ResponseWriter
	size, rate int
	deadline   time.Time
}

func (s *sender) SetReadDeadline(t time.Time) error {
	s.deadline = t
	return nil
}

func (s *sender) Read(b []byte) (int, error) {
	if s.size == 0 {
		return 0, io.EOF
	}
	n := min(len(b), s.size, s.rate)
	time.Sleep(time.Second * time.Duration(n) / time.Duration(s.rate))
	if !s.deadline.IsZero() && time.Now().After(s.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	s.size -= n
	return n, nil
}

// The clock is that of synctest: no time passes.
func TestABodyHasTimeAsItComesIn(t *testing.T) {
	for name, tt := range map[string]struct {
		size, rate int
		ok         bool
	}{
		"small and slow":      {25, 1, true},
		"small and too slow":  {35, 1, false},
		"large at a pace":     {8 << 20, 65 << 10, true},
		"large and too slow":  {8 << 20, 40 << 10, false},
		"large and much slow": {8 << 20, 1 << 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := upload.Limits{Size: 16 << 20, Time: 30 * time.Second, Memory: access.NewQuota(128 << 20)}
				s := &sender{ResponseWriter: httptest.NewRecorder(), size: tt.size, rate: tt.rate}
				r := httptest.NewRequest(http.MethodPost, "/", s)
				data, held, err := l.Read(s, r, "a")
				if !tt.ok {
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatalf("%d bytes, %v", len(data), err)
					}
				} else {
					if err != nil || len(data) != tt.size || !s.deadline.IsZero() {
						t.Fatalf("%d bytes, %v, and the deadline is %v", len(data), err, s.deadline)
					}
					held.Release()
				}
				if _, ok := l.Memory.Take("a", 32<<20); !ok {
					t.Error("not all was given back")
				}
			})
		})
	}
}

func TestAPrincipalsBodiesShareTheirMemory(t *testing.T) {
	l := upload.Limits{Size: 1 << 20, Time: time.Second, Memory: access.NewQuota(4 << 20)}
	read := func(principal string) (*access.Held, error) {
		s := &sender{ResponseWriter: httptest.NewRecorder(), size: 600 << 10, rate: 1 << 30}
		_, held, err := l.Read(s, httptest.NewRequest(http.MethodPost, "/", s), principal)
		return held, err
	}
	first, err := read("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read("a"); !errors.Is(err, upload.ErrBusy) {
		t.Errorf("got %v", err)
	}
	for _, other := range []string{"b", "c", "d"} {
		if _, err := read(other); err != nil {
			t.Errorf("%s has no share: %v", other, err)
		}
	}
	first.Release()
	if _, err := read("a"); err != nil {
		t.Error(err)
	}
}
