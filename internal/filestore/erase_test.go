package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// canary returns an event whose content stands nowhere else.
func canary(n int) *event.Event {
	e := storetest.Event(n)
	e.Error = event.Failure{Code: "E", Message: fmt.Sprintf("canary-message-%d", n)}
	e.Original = map[string]string{"severity": fmt.Sprintf("canary-original-%d", n)}
	if err := e.SetDetails(map[string]any{"secret": fmt.Sprintf("canary-details-%d", n)}); err != nil {
		panic(err)
	}
	return e
}

// grep returns the files below dir that hold a text, and how many bytes of it.
func grep(t *testing.T, dir string, text []byte) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, text) {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// salts returns the salts of entries.
func salts(t *testing.T, r *storetest.Running, indexes ...int64) (list [][]byte) {
	t.Helper()
	for _, i := range indexes {
		rec, err := r.Store.Record(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, bytes.Clone(rec.Salt[:]))
	}
	return list
}

func TestNothingIsLeftOfWhatWasErased(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, dir, filestore.Options{})
	r := b.Start(t)
	r.AppendMany(0, 200)
	var indexes []int64
	for n := 200; n < 400; n++ { // into several segments, and the active one
		indexes = append(indexes, r.Append(canary(n))[0].Index)
	}
	secret := salts(t, r, indexes...)
	x := r.Erasing(0, 1)
	who := custody.Caller{By: storetest.By}
	for n := 200; n < 400; n += 5 { // an incident each
		if _, err := x.Eraser.Erase(t.Context(), who, &custody.Order{Reason: "r", Scope: retention.Scope{CorrelationID: storetest.Event(n).CorrelationID}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if found := grep(t, dir, []byte("canary-")); len(found) > 0 {
			t.Errorf("%s, content is left in %q", when, found)
		}
		for i, salt := range secret {
			if found := grep(t, dir, salt); len(found) > 0 {
				t.Fatalf("%s, the salt of entry %d is left in %q", when, indexes[i], found)
			}
		}
	}
	check("while the server runs")
	r.Check(b)
	r.AppendMany(1000, 100)
	r.Stop()
	check("when it has stopped")
	r = b.Start(t)
	r.Check(b)
	check("when it has started again")
}

// A failing file system fails once at its nth operation that changes something.
type failing struct {
	seglog.FS
	left atomic.Int64
}

var errFails = errors.New("the disk fails")

func (f *failing) fails() error {
	if f.left.Add(-1) == 0 {
		return errFails
	}
	return nil
}

func (f *failing) Open(name string, flag int) (seglog.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := f.fails(); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.Open(name, flag)
	return &failingFile{file, f}, err
}

func (f *failing) Rename(from, to string) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *failing) SyncDir(dir string) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

type failingFile struct {
	seglog.File
	fs *failing
}

func (f *failingFile) WriteAt(p []byte, at int64) (int, error) {
	if err := f.fs.fails(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

func (f *failingFile) Sync() error {
	if err := f.fs.fails(); err != nil {
		return err
	}
	return f.File.Sync()
}

// TestAnErasureThatIsInterruptedIsFinishedLater has each operation of an erasure
// fail once, and starts anew.
func TestAnErasureThatIsInterruptedIsFinishedLater(t *testing.T) {
	for n := int64(1); ; n += interruptStride {
		dir := t.TempDir()
		disk := &failing{FS: seglog.OS{}}
		b := newBed(t, dir, filestore.Options{FS: disk})
		r := b.Start(t)
		for i := range 120 {
			r.Append(canary(i))
		}
		x := r.Erasing(0, 1)
		disk.left.Store(n)
		a, err := x.Eraser.Erase(t.Context(), custody.Caller{By: storetest.By}, &custody.Order{Reason: "r", Scope: retention.Scope{Kind: "RemediationPlan"}})
		done := disk.left.Load() > 0 // nothing failed
		disk.left.Store(0)
		if err == nil && a.Erased && len(grep(t, dir, []byte("canary-"))) > 0 {
			t.Fatalf("operation %d failed, and the erasure says that it is done", n)
		}
		_ = x.Journal.Close() // the ledger may have stopped
		r.Abandon()
		x = b.Start(t).Erasing(0, 1)
		named := int64(0)
		if err := x.Eraser.Follow(t.Context()); err != nil {
			t.Fatal(err)
		}
		for index := range x.Size() {
			if x.Keeper.Erased(index) {
				named++
			}
		}
		if err := x.Eraser.Resume(t.Context()); err != nil {
			t.Fatalf("after operation %d failed: %v", n, err)
		}
		if left := grep(t, dir, []byte("canary-")); named > 0 != (len(left) == 0) {
			t.Fatalf("after operation %d failed: %d are named, and content is left in %q", n, named, left)
		}
		x.Check(b)
		if err := x.Journal.Close(); err != nil {
			t.Fatal(err)
		}
		x.Stop()
		if done {
			if n < 10 {
				t.Errorf("there were %d operations only", n)
			}
			return
		}
	}
}

// whileOthersWork does something while others record, read and verify, once each
// of them has done so.
func whileOthersWork(t *testing.T, x *storetest.Erasing, check func() (*verify.Report, error), do func()) {
	t.Helper()
	size := x.Size()
	stop, began := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	worker := func(fn func(n int) error) {
		wg.Go(func() {
			for n := 0; ; n++ {
				err := fn(n)
				if n == 0 {
					began <- struct{}{}
				}
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	worker(func(n int) error {
		_, _, err := x.Ledger.Append(context.Background(), storetest.By, []*event.Event{storetest.Event(5000 + n)})
		return err
	})
	worker(func(n int) error {
		_, err := x.Present().Record(context.Background(), int64(n*37)%size)
		return err
	})
	worker(func(n int) error {
		first := int64(n*113) % (size - 300)
		return x.Present().Records(context.Background(), search.Range{First: first, End: first + 300}, func(*trail.Record) error { return nil })
	})
	worker(func(int) error {
		report, err := check()
		if err == nil && !report.OK() {
			err = fmt.Errorf("meanwhile: %+v", report.Findings[0])
		}
		return err
	})
	for range 4 {
		<-began
	}
	defer wg.Wait()
	defer close(stop)
	do()
}

// TestAnErasureKeepsNobodyWaiting reads, verifies and records while content is
// erased.
func TestAnErasureKeepsNobodyWaiting(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, dir, filestore.Options{})
	r := b.Start(t)
	r.AppendMany(0, 1000)
	x := r.Erasing(0, 1)
	who := custody.Caller{By: storetest.By}
	whileOthersWork(t, x, func() (*verify.Report, error) {
		return verify.Dir(context.Background(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}, Workers: 1})
	}, func() {
		for n := 0; n < 200; n += 5 {
			if _, err := x.Eraser.Erase(t.Context(), who, &custody.Order{Reason: "r", Scope: retention.Scope{CorrelationID: storetest.Event(n * 4).CorrelationID}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err := x.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	r.Check(b)
}
