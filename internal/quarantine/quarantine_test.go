package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/quarantine"
	"github.com/graven-audit/graven/internal/testdisk"
)

var errFull = errors.New("full")

// A heap is what decisions put events into.
type heap struct {
	items []string
	err   error
}

func (h *heap) way() quarantine.Way {
	return quarantine.Way{
		Items: func(q quarantine.Held, d quarantine.Decision) ([][]byte, error) {
			return [][]byte{[]byte(q.Key() + " " + d.Type + " by " + d.By)}, nil
		},
		Put: func(_ context.Context, items ...[]byte) error {
			if h.err == nil {
				for _, it := range items {
					h.items = append(h.items, string(it))
				}
			}
			return h.err
		},
	}
}

func numbered(n uint64) quarantine.Held {
	return quarantine.Held{At: time.Unix(int64(n), 0).UTC(), Epoch: "e", Number: n, Count: 1, Reason: "it is bad", Event: []byte(`{}`)}
}

func open(t *testing.T, path string, o quarantine.Options) *quarantine.File {
	t.Helper()
	f, err := quarantine.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func keys(t *testing.T, path string) string {
	t.Helper()
	list, _, err := quarantine.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, h := range list {
		keys = append(keys, h.Key())
	}
	return strings.Join(keys, " ")
}

func drop(by string) quarantine.Decision {
	return quarantine.Decision{Type: event.TypeDropped, At: time.Unix(100, 0), By: by, Because: "a test"}
}

// TestEveryOperationThatFailsLeavesTheFileSound breaks each operation in turn. A
// line that was said to be there is, also behind one that failed.
func TestEveryOperationThatFailsLeavesTheFileSound(t *testing.T) {
	for _, op := range []string{"open", "write", "grow", "sync", "truncate"} {
		for _, persisted := range []bool{false, true} {
			for nth := range 8 {
				t.Run(fmt.Sprintf("%s %d, persisted %v", op, nth, persisted), func(t *testing.T) {
					path, disk, count := filepath.Join(t.TempDir(), "f"), &testdisk.Faulty{}, 0
					disk.Set(func(o, _ string) (error, bool) {
						if o == op {
							if count++; count == nth+1 {
								return syscall.EIO, persisted
							}
						}
						return nil, false
					})
					f := open(t, path, quarantine.Options{FS: disk})
					var want []string
					for n := uint64(1); n <= 6; n++ {
						h := numbered(n)
						if err := f.Add(h); err == nil {
							want = append(want, h.Key())
						} else if !errors.Is(err, syscall.EIO) {
							t.Error(err)
						}
					}
					if got := keys(t, path); got != strings.Join(want, " ") {
						t.Errorf("%s, want %s", got, want)
					}
				})
			}
		}
	}
}

func TestALineThatWasTornIsEndedAndCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(`{"at":"2026-03`), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path, quarantine.Options{})
	if err := f.Add(numbered(3)); err != nil {
		t.Fatal(err)
	}
	if list, torn, err := quarantine.Read(path); len(list) != 1 || torn != 1 || err != nil {
		t.Errorf("%v, %d torn, %v", list, torn, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Add(numbered(4)); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := quarantine.Open(filepath.Dir(path), quarantine.Options{}); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Error(err)
	}
}

func TestWhatIsDecidedIsDoneOnceAndBefore(t *testing.T) {
	path, into := filepath.Join(t.TempDir(), "f"), &heap{}
	f := open(t, path, quarantine.Options{})
	for n := uint64(1); n <= 3; n++ {
		if err := f.Add(numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	for name, d := range map[string]quarantine.Decision{"7": drop("alice"), "2": {Type: event.TypeDropped, By: "alice"}, "3": drop(" ")} {
		if _, err := f.Out(t.Context(), name, d, into.way()); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
	into.err = errFull
	if _, err := f.Out(t.Context(), "2", drop("alice"), into.way()); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if left, err := f.Finish(into.way(), errFull); !left || err != nil || keys(t, path) != "e:1 e:2 e:3" {
		t.Errorf("%v, %v, %s", left, err, keys(t, path))
	}
	into.err = nil
	if left, err := f.Finish(into.way(), errFull); left || err != nil {
		t.Error(left, err)
	}
	if _, err := f.Out(t.Context(), "2", drop("bob"), into.way()); !errors.Is(err, quarantine.ErrNone) {
		t.Error(err)
	}
	// What was refused before comes again, from a queue that was not told.
	if err := f.Add(numbered(2)); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, path); got != "e:1 e:3" || fmt.Sprint(into.items) != "[e:2 QuarantineDropped by alice]" {
		t.Errorf("%s, %s", got, into.items)
	}
}

// TestProgramsShareAFile has two programs add lines, while one of them fails at
// every third, and people decide in a third.
func TestProgramsShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	disk, count := &testdisk.Faulty{}, 0
	disk.Set(func(op, _ string) (error, bool) {
		if op == "sync" {
			count++
			return map[bool]error{true: syscall.EIO}[count%3 == 0], true
		}
		return nil, false
	})
	const each = 60
	var wg sync.WaitGroup
	var added sync.Map
	for i, o := range []quarantine.Options{{Shared: true, FS: disk}, {Shared: true}} {
		f := open(t, path, o)
		wg.Go(func() {
			for n := range uint64(each) {
				h := numbered(uint64(i)*each + n + 1)
				if f.Add(h) == nil {
					added.Store(h.Key(), true)
				}
			}
		})
	}
	people := open(t, path, quarantine.Options{Shared: true})
	wg.Go(func() {
		for range 20 {
			list, _, err := quarantine.Read(path)
			if err != nil {
				t.Error(err)
			}
			if len(list) > 0 {
				if _, err := people.Decide(list[0].Key(), drop("alice"), (&heap{}).way()); err != nil && !errors.Is(err, quarantine.ErrNone) {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	list, torn, err := quarantine.Read(path)
	if torn > 0 || err != nil {
		t.Errorf("%d lines are torn, %v", torn, err)
	}
	is := map[string]bool{}
	for _, h := range list {
		is[h.Key()] = true
	}
	added.Range(func(key, _ any) bool {
		if !is[key.(string)] {
			t.Errorf("%s is gone", key)
		}
		return true
	})
	if len(is) != each+each-each/3 {
		t.Errorf("%d are there", len(is))
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"at":"2026-03-19T14:30:00Z","epoch":"e","number":4,"count":2,"reason":"damaged","bytes":"AAEC"}` + "\n" + `{"epoch":"e","number":4,"count":2,"done":"x"}`)
	f.Add(`{"number":1,"count":1,"event":{},"reason":"x"}` + "\n" + `{"number":1,"count":1,"decision":"QuarantineDropped","by":"a"}` + "\n{")
	f.Add(`{"id":"1-1","reason":"x"}` + "\n[]\nnull\n7")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list, torn, err := quarantine.Read(path)
		if err != nil || len(list)+torn > strings.Count(text, "\n")+1 {
			t.Fatalf("%d, %d torn, %v", len(list), torn, err)
		}
		seen := map[string]bool{}
		for _, h := range list {
			if seen[h.Key()] {
				t.Errorf("%s stands there twice", h.Key())
			}
			seen[h.Key()] = true
		}
	})
}
