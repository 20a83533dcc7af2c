package spool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/spool"
	"github.com/graven-audit/graven/internal/testdisk"
)

// TestNothingIsLostWithThePower cuts the power at a random moment, again and
// again. What was put durably and is not done with is given out afterwards, and
// no number is given to two items. GRAVEN_SEED replays one.
func TestNothingIsLostWithThePower(t *testing.T) {
	first, count := uint64(0), uint64(500)
	if text := os.Getenv("GRAVEN_SEED"); text != "" {
		var err error
		if first, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
		count = 1
	}
	base := testdisk.MemoryDir(t)
	for seed := first; seed < first+count && !t.Failed(); seed++ {
		loseOnce(t, base, seed)
	}
}

func loseOnce(t *testing.T, base string, seed uint64) {
	fail := func(format string, args ...any) { t.Errorf("GRAVEN_SEED=%d: %s", seed, fmt.Sprintf(format, args...)) }
	rng := rand.New(rand.NewPCG(seed, 3))
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	disk := testdisk.NewPower(rng.IntN(80))
	kept := map[uint64]string{} // durable, by its number
	given := map[uint64]string{}
	done := uint64(1)
	for range 1 + rng.IntN(2) {
		s, err := spool.Open(dir, spool.Options{MaxBytes: 64 << 10, SyncEvery: time.Hour, FS: disk})
		if err != nil {
			break
		}
		for range rng.IntN(15) {
			switch n := rng.IntN(10); {
			case n < 6:
				durable := rng.IntN(2) == 0
				items := make([][]byte, 1+rng.IntN(4))
				for i := range items {
					items[i] = fmt.Appendf(nil, "%d/%s", rng.Uint64(), strings.Repeat("x", rng.IntN(3000)))
				}
				number, err := s.Put(t.Context(), durable, items...)
				if err == nil && durable {
					for i, item := range items {
						kept[number+uint64(i)] = string(item)
					}
				}
			case n < 9:
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond) // there may be none
				items, err := s.Next(ctx, 1+rng.IntN(5), 1<<20)
				cancel()
				if err != nil {
					break
				}
				for _, i := range items {
					if was, ok := given[i.Number]; ok && was != string(i.Data) {
						fail("number %d was given to two items", i.Number)
					}
					given[i.Number] = string(i.Data)
					if rng.IntN(2) == 0 {
						done = i.Number + 1
						if s.Done(done) != nil {
							break // it may be kept all the same
						}
					}
				}
			}
		}
		s.Close() // what it says is of a disk that may be gone
	}
	if err := disk.Crash(rng); err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(dir, spool.Options{MaxBytes: 64 << 10, OnDamage: func(d spool.Damage) error {
		for n := max(d.First, done); n < d.End; n++ {
			if kept[n] != "" {
				return fmt.Errorf("item %d was durable: %s", n, d.String())
			}
		}
		return nil
	}})
	if err != nil {
		fail("after the crash: %v", err)
		return
	}
	defer s.Close()
	last, err := s.Put(t.Context(), true, []byte("the last"))
	if err != nil {
		fail("it does not go on: %v", err)
		return
	}
	after := map[uint64]string{}
	for {
		items, err := s.Next(t.Context(), 100, 1<<20)
		if err != nil {
			fail("%v", err)
			return
		}
		for _, i := range items {
			after[i.Number] = string(i.Data)
		}
		if _, ok := after[last]; ok {
			break
		}
	}
	for n, item := range kept {
		if got, ok := after[n]; n >= done && (!ok || got != item) {
			fail("item %d was kept, and is %.30q now (done up to %d)", n, got, done)
		}
	}
	for n, item := range given {
		if got, ok := after[n]; ok && got != item {
			fail("item %d was given out as %.30q, and is %.30q now", n, item, got)
		}
		if n >= last {
			fail("number %d was given out, and the next is %d", n, last)
		}
	}
}

// TestEveryOperationThatFailsLeavesTheSpoolSound breaks each write, sync and
// opening of a run in turn, with and without its effect.
func TestEveryOperationThatFailsLeavesTheSpoolSound(t *testing.T) {
	for _, op := range []string{"open", "write", "grow", "sync", "truncate"} {
		for _, persisted := range []bool{false, true} {
			for nth := range 10 {
				t.Run(fmt.Sprintf("%s %d, persisted %v", op, nth, persisted), func(t *testing.T) {
					breakNth(t, op, nth, persisted)
				})
			}
		}
	}
}

func breakNth(t *testing.T, op string, nth int, persisted bool) {
	dir := testdisk.MemoryDir(t)
	disk := &testdisk.Faulty{}
	count := 0
	disk.Set(func(o, _ string) (error, bool) {
		if o == op {
			if count++; count == nth+1 {
				return syscall.EIO, persisted
			}
		}
		return nil, false
	})
	kept := map[uint64]string{}
	s, err := spool.Open(dir, spool.Options{MaxBytes: 64 << 10, FS: disk})
	if err == nil {
		for i := range 20 {
			text := fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000))
			if n, err := s.Put(t.Context(), true, []byte(text)); err == nil {
				kept[n] = text
			} else if !errors.Is(err, syscall.EIO) && !errors.Is(err, seglog.ErrBroken) {
				t.Error(err)
			}
		}
		_ = s.Close() // which may be what fails
	}
	disk.Set(nil)
	s = open(t, dir, spool.Options{OnDamage: func(d spool.Damage) error {
		if d.End > d.First {
			return errors.New(d.String())
		}
		return nil
	}})
	for n := s.Stats().Items; n > 0; {
		items, err := s.Next(t.Context(), 100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		n -= int64(len(items))
		for _, i := range items {
			if want, ok := kept[i.Number]; ok && want != string(i.Data) {
				t.Errorf("item %d is %.20q, not %.20q", i.Number, i.Data, want)
			}
			delete(kept, i.Number)
		}
	}
	if len(kept) > 0 {
		t.Errorf("%d items that were kept are gone", len(kept))
	}
}

// TestWhatWasReadBeforeAFailureIsGivenOut breaks the reading in the middle of
// what is asked for: a segment that cannot be opened at the moment, and damage
// that cannot be told of.
func TestWhatWasReadBeforeAFailureIsGivenOut(t *testing.T) {
	for name, damaged := range map[string]bool{"at the next file": false, "at damage": true} {
		t.Run(name, func(t *testing.T) {
			dir, disk := t.TempDir(), &testdisk.Faulty{}
			files := fill(t, dir, 1)
			missing, failures := 0, 1
			if damaged {
				data, err := os.ReadFile(files[0])
				if err != nil {
					t.Fatal(err)
				}
				data[seglog.FirstOffset+3*1100] ^= 1
				if err := os.WriteFile(files[0], data, 0o600); err != nil {
					t.Fatal(err)
				}
				missing = 1
			}
			s := open(t, dir, spool.Options{MaxBytes: 128 << 10, FS: disk, OnDamage: func(spool.Damage) error {
				if failures--; failures >= 0 {
					return syscall.ENOSPC
				}
				return nil
			}})
			opened := 0
			disk.Set(func(op, name string) (error, bool) {
				if op == "open" {
					if opened++; opened == 2 && !damaged {
						return syscall.EMFILE, false
					}
				}
				return nil, false
			})
			given, last := 0, uint64(0)
			for tries := 0; last < 60; tries++ {
				items, err := s.Next(t.Context(), 100, 1<<20)
				if err != nil && tries < 5 {
					continue // as whoever is told of a failure does
				}
				if err != nil {
					t.Fatal(err)
				}
				given, last = given+len(items), items[len(items)-1].Number
			}
			if given != 60-missing {
				t.Errorf("%d items are given out, of %d", given, 60-missing)
			}
		})
	}
}

func TestAFullDiskIsAFullSpool(t *testing.T) {
	disk := &testdisk.Faulty{}
	s := open(t, t.TempDir(), spool.Options{FS: disk})
	put(t, s, true, "a")
	full := func(op, _ string) (error, bool) {
		if op == "write" || op == "grow" {
			return syscall.ENOSPC, false
		}
		return nil, false
	}
	disk.Set(full)
	if _, err := s.Put(t.Context(), true, []byte("b")); !errors.Is(err, spool.ErrFull) {
		t.Error(err)
	}
	disk.Set(nil)
	put(t, s, true, "c")
	if got := fmt.Sprint(take(t, s, 2)); got != "[1:a 2:c]" {
		t.Error(got)
	}
}

func TestAFullDiskKeepsNoSpoolFromGettingEmpty(t *testing.T) {
	disk := &testdisk.Faulty{}
	s := open(t, t.TempDir(), spool.Options{MaxBytes: 64 << 10, FS: disk})
	for range 20 {
		put(t, s, true, strings.Repeat("x", 1000))
	}
	before := s.Stats().Bytes
	disk.Set(func(op, _ string) (error, bool) {
		if op == "grow" {
			return syscall.ENOSPC, false
		}
		return nil, false
	})
	for n := range 20 {
		take(t, s, 1)
		if err := s.Done(uint64(n) + 2); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(time.Minute); s.Stats().Bytes >= before; {
		if time.Now().After(end) {
			t.Fatal("no room was made")
		}
		time.Sleep(time.Millisecond)
	}
	disk.Set(nil)
}

func TestWhatIsNotRemovedIsTriedAgain(t *testing.T) {
	told := make(chan error, 100)
	disk := &stubborn{}
	disk.refuse.Store(true)
	s := open(t, t.TempDir(), spool.Options{MaxBytes: 64 << 10, SyncEvery: time.Millisecond, FS: disk, OnError: func(err error) {
		select {
		case told <- err:
		default:
		}
	}})
	for range 10 {
		put(t, s, true, strings.Repeat("x", 1000))
	}
	take(t, s, 10)
	before := s.Stats().Bytes
	if err := s.Done(11); err != nil {
		t.Fatal(err)
	}
	if err := <-told; !strings.Contains(err.Error(), "remove segment") {
		t.Error(err)
	}
	disk.refuse.Store(false)
	for end := time.Now().Add(time.Minute); s.Stats().Bytes >= before; {
		if time.Now().After(end) {
			t.Fatal("it is not tried again")
		}
		time.Sleep(time.Millisecond)
	}
}

// stubborn is a disk on which nothing can be removed for a while.
type stubborn struct {
	seglog.OS
	refuse atomic.Bool
}

func (d *stubborn) Remove(name string) error {
	if d.refuse.Load() {
		return syscall.EPERM
	}
	return d.OS.Remove(name)
}
