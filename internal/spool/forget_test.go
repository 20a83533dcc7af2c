package spool_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/spool"
)

// holds reports whether a file below dir holds a text.
func holds(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it may go meanwhile
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(text)) {
			found = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWhatIsDoneWithDoesNotStay(t *testing.T) {
	take := func(s *spool.Spool, n int) {
		t.Helper()
		var got int
		for got < n {
			items, err := s.Next(t.Context(), n-got, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			got += len(items)
			if err := s.Done(items[len(items)-1].Number + 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	put := func(s *spool.Spool, text string) {
		t.Helper()
		if _, err := s.Put(context.Background(), true, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	o := spool.Options{SyncEvery: time.Millisecond, Forget: time.Millisecond}
	s, err := spool.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	put(s, "canary-1")
	put(s, "canary-2")
	take(s, 1)
	if !holds(t, dir, "canary-2") {
		t.Fatal("what is not done with is gone")
	}
	take(s, 1)
	for holds(t, dir, "canary") { // it takes a moment
		if t.Context().Err() != nil {
			t.Fatal("what is done with stays")
		}
	}
	put(s, "canary-3")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// One that is closed forgets at once, and numbers go on.
	if s, err = spool.Open(dir, spool.Options{}); err != nil {
		t.Fatal(err)
	}
	items, err := s.Next(t.Context(), 10, 1<<20)
	if err != nil || len(items) != 1 || string(items[0].Data) != "canary-3" || items[0].Number != 3 {
		t.Fatalf("%v, %v", items, err)
	}
	if err := s.Done(4); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if holds(t, dir, "canary") {
		t.Error("what is done with stays in a spool that was closed")
	}
	if s, err = spool.Open(dir, spool.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if first, err := s.Put(t.Context(), true, []byte("more")); err != nil || first != 4 {
		t.Errorf("the next is %d, %v", first, err)
	}
}
