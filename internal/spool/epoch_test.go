package spool_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/spool"
)

func TestACountGoesOnUnderItsNameUntilItIsLost(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	epoch := s.Epoch()
	if epoch == "" {
		t.Fatal("a new spool's count has no name")
	}
	put(t, s, true, "a", "b", "c")
	take(t, s, 2)
	if err := s.Done(3); err != nil {
		t.Fatal(err)
	}
	reopen := func(damaged *[]string) *spool.Spool {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return open(t, dir, spool.Options{OnDamage: func(d spool.Damage) error {
			*damaged = append(*damaged, d.String())
			return nil
		}})
	}
	var damaged []string
	if s = reopen(&damaged); s.Epoch() != epoch || len(damaged) > 0 {
		t.Errorf("%s, then %s, %q", epoch, s.Epoch(), damaged)
	}
	if err := os.RemoveAll(filepath.Join(dir, "queue")); err != nil {
		t.Fatal(err)
	}
	s = reopen(&damaged)
	if s.Epoch() == epoch || s.Epoch() == "" {
		t.Errorf("the count that lost its items is still %q", s.Epoch())
	}
	if first := put(t, s, true, "d"); first != 1 {
		t.Errorf("another count begins with %d", first)
	}
	if len(damaged) != 1 || !strings.Contains(damaged[0], "are gone") {
		t.Errorf("it was told %q", damaged)
	}
}

func TestASpoolOfBeforeCountsHadNamesGoesOnWithout(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	put(t, s, true, "a", "b")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "epoch")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, spool.Options{})
	if first := put(t, s, true, "c"); first != 3 || s.Epoch() != "" {
		t.Errorf("%d of %q", first, s.Epoch())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "\n", "torn", "two words\n", "\x01\n", strings.Repeat("x", 100) + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := spool.Open(dir, spool.Options{}); err == nil || !strings.Contains(err.Error(), "name of a count") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
