package spool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/internal/spool"
	"github.com/graven-audit/graven/internal/testdisk"
)

func open(t *testing.T, dir string, o spool.Options) *spool.Spool {
	t.Helper()
	if o.OnDamage == nil {
		o.OnDamage = func(d spool.Damage) error { return fmt.Errorf("damaged: %s", d.String()) }
	}
	s, err := spool.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(t *testing.T, s *spool.Spool, durable bool, items ...string) uint64 {
	t.Helper()
	var data [][]byte
	for _, item := range items {
		data = append(data, []byte(item))
	}
	first, err := s.Put(t.Context(), durable, data...)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// take takes n items and returns them as "number:data".
func take(t *testing.T, s *spool.Spool, n int) (items []string) {
	t.Helper()
	for len(items) < n {
		got, err := s.Next(t.Context(), n-len(items), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range got {
			items = append(items, fmt.Sprintf("%d:%s", item.Number, item.Data))
		}
	}
	return items
}

func TestWhatWasPutComesInOrderAndAgainUntilItIsDoneWith(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	if first := put(t, s, true, "a", "b"); first != 1 {
		t.Errorf("the first item is number %d", first)
	}
	put(t, s, false, "c")
	if got := fmt.Sprint(take(t, s, 3)); got != "[1:a 2:b 3:c]" {
		t.Error(got)
	}
	if err := s.Done(2); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Items != 2 || st.Next != 4 {
		t.Errorf("%+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, spool.Options{})
	put(t, s, true, "d")
	if got := fmt.Sprint(take(t, s, 3)); got != "[2:b 3:c 4:d]" {
		t.Error(got)
	}
}

func TestASpoolThatWasEmptiedGoesOnCounting(t *testing.T) {
	dir := t.TempDir()
	for i := range uint64(5) {
		s := open(t, dir, spool.Options{MaxBytes: 64 << 10})
		for range 20 {
			put(t, s, true, strings.Repeat("x", 1000))
		}
		take(t, s, 20)
		if err := s.Done((i+1)*20 + 1); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if first := put(t, open(t, dir, spool.Options{}), true, "last"); first != 101 {
		t.Errorf("the 101st item is number %d", first)
	}
}

func TestAFullSpoolRefusesUntilThereIsRoom(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{MaxBytes: 64 << 10})
	item := []byte(strings.Repeat("x", 1000))
	n := uint64(0)
	for {
		_, err := s.Put(t.Context(), false, item)
		if errors.Is(err, spool.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if st := s.Stats(); n < 50 || n > 70 || st.Bytes < st.MaxBytes {
		t.Errorf("it was full with %d items: %+v", n, st)
	}
	take(t, s, int(n))
	if err := s.Done(n + 1); err != nil {
		t.Fatal(err)
	}
	for range 100 { // the writer makes room by itself, soon
		if _, err := s.Put(t.Context(), true, item); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("there is no room, though everything is done with")
}

func TestAProducerWaitsForRoomIfItLikes(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{MaxBytes: 64 << 10, Wait: true})
	item := []byte(strings.Repeat("x", 1000))
	const all = 500
	var producer sync.WaitGroup
	producer.Go(func() {
		for range all {
			if _, err := s.Put(t.Context(), false, item); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := 0; n < all; {
		items, err := s.Next(t.Context(), 10, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		n += len(items)
		if err := s.Done(items[len(items)-1].Number + 1); err != nil {
			t.Fatal(err)
		}
	}
	producer.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for {
		if _, err := s.Put(ctx, false, item); err != nil {
			if !errors.Is(err, spool.ErrFull) || !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			return
		}
	}
}

func TestOneWriteServesAllThatWait(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{})
	var producers sync.WaitGroup
	for p := range 20 {
		producers.Go(func() {
			for i := range 50 {
				if _, err := s.Put(t.Context(), true, fmt.Appendf(nil, "%d/%d", p, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	producers.Wait()
	last := map[string]int{}
	for i, item := range take(t, s, 1000) {
		var n, p, k int
		if _, err := fmt.Sscanf(item, "%d:%d/%d", &n, &p, &k); err != nil || n != i+1 {
			t.Fatalf("item %d is %s", i+1, item)
		}
		producer := fmt.Sprint(p)
		if k != last[producer] {
			t.Fatalf("of producer %d, item %d comes after %d others", p, k, last[producer])
		}
		last[producer]++
	}
}

func TestASpoolClosesOnceAndRefusesFromThenOn(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{})
	waiting := make(chan error)
	go func() {
		_, err := s.Next(context.Background(), 1, 1)
		waiting <- err
	}()
	var closers sync.WaitGroup
	for range 5 {
		closers.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closers.Wait()
	if err := <-waiting; !errors.Is(err, spool.ErrClosed) {
		t.Error(err)
	}
	if _, err := s.Put(t.Context(), true, []byte("x")); !errors.Is(err, spool.ErrClosed) {
		t.Error(err)
	}
}

func TestOneProcessHasASpoolOpen(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, spool.Options{})
	if _, err := spool.Open(dir, spool.Options{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Error(err)
	}
}

func TestAnItemHasToFit(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{})
	for _, n := range []int{0, spool.MaxItem + 1} {
		if _, err := s.Put(t.Context(), true, make([]byte, n)); err == nil {
			t.Errorf("%d bytes went in", n)
		}
	}
	if _, err := s.Put(t.Context(), true, make([]byte, spool.MaxItem)); err != nil {
		t.Error(err)
	}
	if got, err := s.Next(t.Context(), 5, 1); err != nil || len(got) != 1 || len(got[0].Data) != spool.MaxItem {
		t.Error(len(got), err)
	}
}

func TestAnItemIsMadeDurableInTimeAndAtOnceForWhoReadsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &testdisk.Faulty{}
		var syncs atomic.Int32
		s := open(t, t.TempDir(), spool.Options{SyncEvery: time.Minute, FS: disk})
		put(t, s, true, "first") // so that the segment is there
		disk.Set(func(op, _ string) (error, bool) {
			if op == "sync" {
				syncs.Add(1)
			}
			return nil, false
		})
		put(t, s, false, "second")
		if n := syncs.Load(); n != 0 {
			t.Errorf("%d syncs for an item that was not put durably", n)
		}
		time.Sleep(time.Minute + time.Second)
		if n := syncs.Load(); n != 1 {
			t.Errorf("%d syncs after the time was up", n)
		}
		put(t, s, false, "third")
		began := time.Now()
		take(t, s, 3)
		if n, waited := syncs.Load(), time.Since(began); n != 2 || waited > 0 {
			t.Errorf("%d syncs, and whoever read waited %s", n, waited)
		}
		disk.Set(nil)
	})
}

func TestWhoeverClosesASpoolMayOpenItAgain(t *testing.T) {
	dir := t.TempDir()
	for range 20 {
		s, err := spool.Open(dir, spool.Options{})
		if err != nil { // though another was closing it first, perhaps
			t.Fatal(err)
		}
		var other sync.WaitGroup
		other.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := spool.Open(dir, spool.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		other.Wait()
	}
}
