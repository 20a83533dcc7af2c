package filestore_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testdisk"
)

// isLog tells the log's files from others.
func isLog(name string) bool { return strings.HasSuffix(name, ".seg") }

func TestAFullDiskIsRefusedAndRecoversByItself(t *testing.T) {
	fs := &testdisk.Faulty{}
	b := newBed(t, t.TempDir(), filestore.Options{FS: fs, Reserve: 64 << 10})
	r := b.Start(t)
	r.AppendMany(0, 10)
	fs.Set(func(op, name string) (error, bool) {
		if op == "write" && isLog(name) {
			return syscall.ENOSPC, false
		}
		return nil, false
	})
	for i := range 3 {
		results, _, err := r.Ledger.Append(t.Context(), storetest.By, []*event.Event{storetest.Event(1000 + i)})
		if err == nil {
			err = results[0].Err
		}
		if !errors.Is(err, ledger.ErrFull) {
			t.Fatalf("got %v, want %v", err, ledger.ErrFull)
		}
	}
	size := r.Ledger.State().Size()
	fs.Set(nil)
	r.AppendMany(5000, 10)
	if got := r.Ledger.State().Size(); got != size+10 {
		t.Errorf("%d entries after the disk had room again, want %d", got, size+10)
	}
	r.Check(b)
	r.Stop()
	r = b.Start(t)
	r.Check(b)
}

func TestTheLedgersOwnEventsHaveRoomOnAFullDisk(t *testing.T) {
	fs := &testdisk.Faulty{}
	b := newBed(t, t.TempDir(), filestore.Options{FS: fs, Reserve: 64 << 10, SegmentSize: 8 << 20})
	r := b.Start(t)
	fs.Set(func(op, name string) (error, bool) {
		if op == "grow" && isLog(name) {
			return syscall.ENOSPC, false
		}
		return nil, false
	})
	for i := 0; ; i++ {
		results, _, err := r.Ledger.Append(t.Context(), storetest.By, []*event.Event{storetest.Event(i)})
		if err == nil {
			err = results[0].Err
		}
		if errors.Is(err, ledger.ErrFull) {
			break
		}
		if err != nil || i > 10_000 {
			t.Fatalf("event %d: %v, want %v in the end", i, err, ledger.ErrFull)
		}
	}
	for range 20 {
		own := ledger.OwnEvent("LedgerStarted", "x", storetest.Event(1).Timestamp)
		if err := own.SetDetails(map[string]any{"version": "test", "size": 1}); err != nil {
			t.Fatal(err)
		}
		if err := r.Ledger.Own(t.Context(), own); err != nil {
			t.Fatalf("the ledger's own event: %v", err)
		}
	}
	r.Check(b)
}

// TestTheLedgersOwnEventsHaveRoomWhereASegmentEnds: a full disk takes all of the
// reserve, wherever the segment ends and whatever others take meanwhile.
func TestTheLedgersOwnEventsHaveRoomWhereASegmentEnds(t *testing.T) {
	for n := range 6 {
		fs := testdisk.NewVolume(150 + 6*n)
		b := newBed(t, t.TempDir(), filestore.Options{FS: fs, Reserve: 64 << 10, SegmentSize: 160 << 10})
		r := b.Start(t)
		full := func(i int) bool {
			results, _, err := r.Ledger.Append(t.Context(), storetest.By, []*event.Event{storetest.Event(i)})
			if err == nil {
				err = results[0].Err
			}
			if err != nil && !errors.Is(err, ledger.ErrFull) {
				t.Fatalf("event %d: %v", i, err)
			}
			return err != nil
		}
		i := 0
		for ; !full(i); i++ {
		}
		for own := range 48 { // of about 1 KiB
			fs.SetFree(n % 2) // others take the rest
			e := ledger.OwnEvent("LedgerStarted", "x", storetest.Event(1).Timestamp)
			if err := e.SetDetails(map[string]any{"version": "test", "size": own}); err != nil {
				t.Fatal(err)
			}
			if err := r.Ledger.Own(t.Context(), e); err != nil {
				t.Fatalf("disk %d: the ledger's own event %d: %v", n, own, err)
			}
			full(i)
		}
		fs.SetFree(1000)
		r.AppendMany(5000, 10)
		r.Check(b)
		r.Stop()
		r = b.Start(t)
		r.Check(b)
		r.Stop()
	}
}

// TestRecordingGoesOnWhereNoSegmentCanBeBegun: a table of files that is full
// stops nothing.
func TestRecordingGoesOnWhereNoSegmentCanBeBegun(t *testing.T) {
	fs := &testdisk.Faulty{}
	dir := t.TempDir()
	var told []error
	b := newBed(t, dir, filestore.Options{FS: fs, OnError: func(err error) { told = append(told, err) }})
	r := b.Start(t)
	r.AppendMany(0, 10)
	before := len(segments(t, dir))
	fs.Set(func(op, name string) (error, bool) {
		if op == "open" && isLog(name) {
			return syscall.EMFILE, false
		}
		return nil, false
	})
	r.AppendMany(100, 400)
	if n := len(segments(t, dir)); n != before {
		t.Fatalf("%d segments, before it were %d", n, before)
	}
	fs.Set(nil)
	r.AppendMany(1000, 400)
	if n := len(segments(t, dir)); n < before+2 {
		t.Errorf("%d segments once there are files again", n)
	}
	r.Check(b)
	r.Stop()
	if len(told) != 1 || !errors.Is(told[0], syscall.EMFILE) {
		t.Errorf("told: %v", told)
	}
	r = b.Start(t)
	r.Check(b)
}

// TestEveryWriteThatFailsLeavesASoundLedger breaks each write and each sync of
// a run in turn, with and without the data reaching the disk.
func TestEveryWriteThatFailsLeavesASoundLedger(t *testing.T) {
	for _, op := range []string{"write", "grow", "sync", "truncate"} {
		for _, persisted := range []bool{false, true} {
			for nth := range 12 {
				t.Run(fmt.Sprintf("%s %d fails, persisted %v", op, nth, persisted), func(t *testing.T) {
					t.Parallel()
					breakNth(t, op, nth, persisted)
				})
			}
		}
	}
}

func breakNth(t *testing.T, op string, nth int, persisted bool) {
	fs := &testdisk.Faulty{}
	b := newBed(t, t.TempDir(), filestore.Options{FS: fs})
	r := b.Start(t)
	r.AppendMany(0, 5)
	count := 0
	fs.Set(func(o, name string) (error, bool) {
		if o != op || !isLog(name) {
			return nil, false
		}
		if count++; count == nth+1 {
			return syscall.EIO, persisted
		}
		return nil, false
	})
	acknowledged := map[int]int64{}
	stopped := false
	for i := 100; i < 130; i++ {
		results, _, err := r.Ledger.Append(t.Context(), storetest.By, []*event.Event{storetest.Event(i)})
		if err == nil {
			err = results[0].Err
		}
		switch {
		case err == nil && stopped:
			t.Fatal("a stopped ledger recorded an event")
		case err == nil:
			acknowledged[i] = results[0].Index
		case errors.Is(err, ledger.ErrStopped):
			stopped = true
		}
	}
	fs.Set(nil)
	r.Stop()
	r = b.Start(t)
	for i, index := range acknowledged {
		again := r.Append(storetest.Event(i))[0]
		if !again.Duplicate || again.Index != index {
			t.Errorf("event %d was acknowledged at %d, after the restart: %+v", i, index, again)
		}
	}
	r.AppendMany(200, 5)
	r.Check(b)
}
