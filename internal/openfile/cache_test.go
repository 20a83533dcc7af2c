package openfile_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/graven-audit/graven/internal/openfile"
)

// A shelf opens files, and knows which are open. There is room for a number of
// them; 0 means any.
type shelf struct {
	mu     sync.Mutex
	room   int
	open   int
	most   int
	opened []uint64
	failed error // what closing fails with
}

type file struct {
	s      *shelf
	number uint64
	closed bool
}

func (s *shelf) Open(number uint64) (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room > 0 && s.open >= s.room {
		return nil, fmt.Errorf("open %d: %w", number, syscall.EMFILE)
	}
	s.open++
	s.most = max(s.most, s.open)
	s.opened = append(s.opened, number)
	return &file{s: s, number: number}, nil
}

func (f *file) Close() error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.closed {
		return errors.New("closed twice")
	}
	f.closed = true
	f.s.open--
	return f.s.failed
}

// sound reports whether f is open, and the one with the number.
func (f *file) sound(number uint64) bool {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return !f.closed && f.number == number
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// use uses a file.
func use(t *testing.T, c *openfile.Cache[*file], number uint64) *openfile.File[*file] {
	t.Helper()
	f, err := c.Use(number)
	if err != nil {
		t.Fatal(err)
	}
	if !f.F.sound(number) {
		t.Fatalf("file %d is closed, or another", number)
	}
	return f
}

func TestTheFileThatWasUsedTheLongestTimeAgoIsClosed(t *testing.T) {
	s := &shelf{}
	c := openfile.New(3, s.Open)
	for _, n := range []uint64{1, 2, 3, 1, 1, 4, 1, 3, 5, 1, 2} {
		use(t, c, n).Release()
	}
	if got, want := fmt.Sprint(s.opened), "[1 2 3 4 5 2]"; got != want {
		t.Errorf("opened %s, want %s", got, want)
	}
	if s.most != 4 || s.open != 3 { // the fourth is open before another is closed
		t.Errorf("%d are open, and were %d", s.open, s.most)
	}
	if err := c.Close(); err != nil || s.open != 0 {
		t.Errorf("%d are open, %v", s.open, err)
	}
}

func TestAFileInUseStaysOpen(t *testing.T) {
	s := &shelf{}
	c := openfile.New(3, s.Open)
	own, err := s.Open(100)
	if err != nil {
		t.Fatal(err)
	}
	held := []*openfile.File[*file]{c.Add(100, own), use(t, c, 100)}
	for n := range uint64(10) {
		held = append(held, use(t, c, n))
	}
	c.Forget(4)
	if s.count() != 11 {
		t.Errorf("%d are open, while 11 are in use", s.count())
	}
	anew := use(t, c, 4)
	if anew.F == held[6].F {
		t.Error("a file that was forgotten is used again")
	}
	held = append(held, anew)
	for _, f := range held {
		if f.F.closed {
			t.Errorf("file %d is closed while it is in use", f.F.number)
		}
		f.Release()
	}
	if s.count() != 3 {
		t.Errorf("%d are open, want 3", s.count())
	}
}

func TestAClosedCacheHasNothing(t *testing.T) {
	s := &shelf{failed: syscall.EIO}
	c := openfile.New(3, s.Open)
	use(t, c, 1).Release()
	f := use(t, c, 2)
	if err := c.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("closing fails: %v", err)
	}
	if _, err := c.Use(1); !errors.Is(err, openfile.ErrClosed) {
		t.Errorf("use: %v", err)
	}
	if !f.F.sound(2) {
		t.Error("a file is closed while it is in use")
	}
	if f.Release(); s.open != 0 {
		t.Errorf("%d are open", s.open)
	}
}

func TestWhereFilesAreFewTheCacheMakesDoWithLess(t *testing.T) {
	s := &shelf{room: 2}
	c := openfile.New(8, s.Open)
	for n := range uint64(20) {
		use(t, c, n).Release()
	}
	first, second := use(t, c, 1), use(t, c, 2)
	if _, err := c.Use(3); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("where both are in use: %v", err)
	}
	first.Release()
	use(t, c, 3).Release()
	second.Release()
}

// TestAFileThatIsForgottenWhileItIsOpenedIsNotKept: it may be the one before.
func TestAFileThatIsForgottenWhileItIsOpenedIsNotKept(t *testing.T) {
	s := &shelf{}
	var c *openfile.Cache[*file]
	forget := true
	c = openfile.New(8, func(number uint64) (*file, error) {
		f, err := s.Open(number)
		if forget {
			c.Forget(number)
		}
		return f, err
	})
	before := use(t, c, 1)
	forget = false
	after := use(t, c, 1)
	if before.F == after.F {
		t.Error("it was kept")
	}
	before.Release()
	after.Release()
	if s.open != 1 || use(t, c, 1).F != after.F {
		t.Errorf("%d are open", s.open)
	}
}

func TestManyUseFilesAtOnce(t *testing.T) {
	s := &shelf{}
	const limit, users = 8, 16
	c := openfile.New(limit, s.Open)
	var wg sync.WaitGroup
	for u := range uint64(users) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(u, 1))
			for range 5000 {
				n := uint64(rng.IntN(40))
				f, err := c.Use(n)
				if err != nil || !f.F.sound(n) {
					t.Errorf("file %d: %v", n, err)
					return
				}
				if rng.IntN(50) == 0 {
					c.Forget(n)
				}
				if !f.F.sound(n) {
					t.Errorf("file %d is closed while it is in use", n)
				}
				f.Release()
			}
		})
	}
	wg.Wait()
	if s.open > limit || s.most > limit+2*users {
		t.Errorf("%d are open, and were %d", s.open, s.most)
	}
	if err := c.Close(); err != nil || s.open != 0 {
		t.Errorf("%d are open, %v", s.open, err)
	}
}
