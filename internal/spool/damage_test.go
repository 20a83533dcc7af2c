package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/spool"
)

// A collection is what was told of damage.
type collection []spool.Damage

func (c *collection) add(d spool.Damage) error {
	*c = append(*c, d)
	return nil
}

// missing returns the numbers that were told to be missing.
func (c collection) missing() map[uint64]bool {
	m := map[uint64]bool{}
	for _, d := range c {
		for n := d.First; n < d.End; n++ {
			m[n] = true
		}
	}
	return m
}

// fill makes a spool of 60 durable items in several segments, of which those
// below done are done with, and returns its segment files.
func fill(t *testing.T, dir string, done uint64) (files []string) {
	t.Helper()
	s := open(t, dir, spool.Options{MaxBytes: 128 << 10})
	for n := range 60 {
		put(t, s, true, item(n+1))
	}
	if done > 1 {
		take(t, s, int(done)-1)
		if err := s.Done(done); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "queue", "*.seg"))
	if err != nil || done == 1 && len(files) < 4 {
		t.Fatal(files, err)
	}
	return files
}

// item returns what item n holds: 1 KiB, so that a segment has eight of them.
func item(n int) string { return fmt.Sprintf("item %d %s", n, strings.Repeat("x", 1000)) }

// drain opens a spool and takes all that it has.
func drain(t *testing.T, dir string) (items map[uint64]string, told collection, next uint64) {
	t.Helper()
	s, err := spool.Open(dir, spool.Options{MaxBytes: 128 << 10, OnDamage: told.add})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next = s.Stats().Next
	last, err := s.Put(t.Context(), true, []byte("the last"))
	if err != nil {
		t.Fatal(err)
	}
	if last != next {
		t.Errorf("the next item is number %d, and was told to be %d", last, next)
	}
	items = map[uint64]string{}
	before := uint64(0)
	for {
		got, err := s.Next(t.Context(), 7, 3000)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range got {
			if i.Number <= before {
				t.Fatalf("item %d comes after item %d", i.Number, before)
			}
			before = i.Number
			if i.Number == last {
				return items, told, next
			}
			items[i.Number] = string(i.Data)
		}
	}
}

func TestWhatIsDamagedIsToldAndTheRestIsGivenOut(t *testing.T) {
	rewrite := func(t *testing.T, path string, change func([]byte) []byte) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, change(data), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(data []byte) []byte { data[at] ^= 4; return data }
	}
	for name, tt := range map[string]struct {
		harm    func(t *testing.T, files []string)
		missing []uint64
		told    bool
	}{
		"nothing":                   {func(*testing.T, []string) {}, nil, false},
		"a bit of the first item":   {func(t *testing.T, f []string) { rewrite(t, f[0], flip(60)) }, []uint64{1}, true},
		"a bit of an item's number": {func(t *testing.T, f []string) { rewrite(t, f[0], flip(20+8+3)) }, []uint64{1}, true},
		"a length":                  {func(t *testing.T, f []string) { rewrite(t, f[0], flip(20)) }, []uint64{1}, true},
		"a header":                  {func(t *testing.T, f []string) { rewrite(t, f[1], flip(3)) }, nil, false},
		"the end of a segment":      {func(t *testing.T, f []string) { rewrite(t, f[0], func(d []byte) []byte { return d[:len(d)-5] }) }, []uint64{8}, true},
		"items at a segment's end":  {func(t *testing.T, f []string) { rewrite(t, f[0], func(d []byte) []byte { return d[:len(d)*13/16] }) }, []uint64{7, 8}, true},
		"a whole segment":           {func(t *testing.T, f []string) { os.Remove(f[1]) }, []uint64{9, 10, 11, 12, 13, 14, 15, 16}, true},
		"zeros within a segment": {func(t *testing.T, f []string) {
			rewrite(t, f[1], func(d []byte) []byte { clear(d[20 : 20+1500]); return d })
		}, []uint64{9, 10}, true},
		"what was never whole": {func(t *testing.T, f []string) {
			rewrite(t, f[len(f)-1], func(d []byte) []byte { return append(d, d[20:500]...) })
		}, nil, true},
		"the cursor": {func(t *testing.T, f []string) { os.Truncate(filepath.Join(filepath.Dir(f[0]), "..", "cursor"), 0) }, nil, false},
		"the cursor, with something": {func(t *testing.T, f []string) {
			rewrite(t, filepath.Join(filepath.Dir(f[0]), "..", "cursor"), func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 2000) })
		}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tt.harm(t, fill(t, dir, 1))
			items, told, next := drain(t, dir)
			if next != 61 {
				t.Errorf("the next item is number %d", next)
			}
			if (len(told) > 0) != tt.told {
				t.Errorf("told of %v", told)
			}
			missing := told.missing()
			for n := uint64(1); n < next; n++ {
				lost := false
				for _, m := range tt.missing {
					lost = lost || m == n
				}
				if _, there := items[n]; there == lost || missing[n] != lost {
					t.Errorf("item %d is there: %v; told to be missing: %v; want lost: %v", n, there, missing[n], lost)
				}
				if data, there := items[n]; there && data != item(int(n)) {
					t.Errorf("item %d is %.20q", n, data)
				}
			}
		})
	}
}

// TestEveryDamageIsTold changes a byte of a spool at random, again and again:
// each item is given out as it was put in, or told to be missing.
func TestEveryDamageIsTold(t *testing.T) {
	whole := t.TempDir()
	files := fill(t, whole, 1)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		dir := filepath.Join(t.TempDir(), "s")
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "queue", filepath.Base(files[rng.IntN(len(files))]))
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := rng.IntN(len(data))
		data[at] ^= byte(1 + rng.IntN(255))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		items, told, next := drain(t, dir)
		last := path == filepath.Join(dir, "queue", filepath.Base(files[len(files)-1]))
		missing := told.missing()
		for n := uint64(1); n < 61; n++ {
			got, there := items[n]
			switch {
			case there && got != item(int(n)):
				t.Errorf("seed %d: byte %d of %s: item %d is %.20q", seed, at, path, n, got)
			case !there && !missing[n] && !(last && len(told) > 0 && n >= next-1):
				t.Errorf("seed %d: byte %d of %s: item %d is gone, and told was %v", seed, at, path, n, told)
			}
		}
		os.RemoveAll(dir)
	}
}

func TestWhatWasDoneWithMayBeDamaged(t *testing.T) {
	dir := t.TempDir()
	files := fill(t, dir, 20)
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	clear(data[20:200]) // of item 17, which is done with
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	items, told, _ := drain(t, dir)
	if len(items) != 41 || len(told.missing()) > 0 {
		t.Errorf("%d items, and told was %v", len(items), told)
	}
}

func TestANumberThatWasGivenOutIsNotUsedAgain(t *testing.T) {
	dir := t.TempDir()
	files := fill(t, dir, 61)
	if err := os.Truncate(files[len(files)-1], 20); err != nil { // the end is lost, but it is done with
		t.Fatal(err)
	}
	items, told, next := drain(t, dir)
	if next != 61 || len(items) != 0 || len(told) != 0 {
		t.Errorf("the next is number %d; %d items, and told was %v", next, len(items), told)
	}
}

func TestWhoeverIsToldOfDamageMayStopAndIsToldAgain(t *testing.T) {
	dir := t.TempDir()
	files := fill(t, dir, 1)
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[60] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	refusals := 3
	s := open(t, dir, spool.Options{OnDamage: func(spool.Damage) error {
		if refusals--; refusals >= 0 {
			return errors.New("no room for it")
		}
		return nil
	}})
	for range 3 {
		if items, err := s.Next(t.Context(), 1, 1); err == nil || len(items) > 0 {
			t.Errorf("%d items, %v", len(items), err)
		}
	}
	if items, err := s.Next(context.Background(), 1, 1); err != nil || items[0].Number != 2 {
		t.Error(items, err)
	}
}
