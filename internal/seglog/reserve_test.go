package seglog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/testdisk"
)

const block = testdisk.Block

// TestTheReserveOutlastsNewSegments fills disks of all sizes, so that they are
// full before, while and after a segment ends. Whatever others take of the disk
// from then on, the owner's batches have the room that was kept for them.
func TestTheReserveOutlastsNewSegments(t *testing.T) {
	t.Parallel()
	const reserve, limit = 10 * block, 50 * block
	for _, size := range []int{1000, 200 << 10} { // of common batches
		for blocks := 80; blocks < 200; blocks += 3 {
			v := testdisk.NewVolume(blocks)
			l, dir := begin(t, seglog.Options{FS: v, SegmentSize: limit, Reserve: reserve})
			base, written := uint64(0), map[uint64][]string{}
			add := func(body string, own bool) error {
				next := base + uint64(len(written[base]))
				if l.Full() {
					if err := l.Roll(next); err == nil {
						base = next
					} else if !errors.Is(err, seglog.ErrFull) {
						t.Fatal(err)
					}
				}
				_, err := l.Append(batch(body), own)
				if err == nil {
					written[base] = append(written[base], body)
				} else if !errors.Is(err, seglog.ErrFull) {
					t.Fatal(err)
				}
				return err
			}
			for add(strings.Repeat("x", size), false) == nil {
			}
			for i := range (reserve - 2*block) / 1008 {
				v.SetFree(0) // others take all that there is
				if err := add(strings.Repeat("y", 1000), true); err != nil {
					t.Fatalf("%d blocks, batches of %d bytes: of the owner's batches, number %d: %v", blocks, size, i, err)
				}
				if err := add(strings.Repeat("x", size), false); err == nil && i == 0 {
					t.Fatalf("%d blocks: a common batch was written into the reserve", blocks)
				}
			}
			for base, want := range written {
				expect(t, l, base, want...)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			again := open(t, dir, seglog.Options{})
			for base, want := range written {
				expect(t, again, base, want...)
			}
		}
	}
}

// TestALogThatIsOpenedOnAFullDiskTakesItsReserve: a log that is closed has none.
func TestALogThatIsOpenedOnAFullDiskTakesItsReserve(t *testing.T) {
	t.Parallel()
	const reserve = 10 * block
	v := testdisk.NewVolume(1000)
	l, dir := begin(t, seglog.Options{FS: v, Reserve: reserve})
	appendTo(t, l, "a")
	end := l.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	v.SetFree(20) // which is less than a log takes in advance
	l = open(t, dir, seglog.Options{FS: v, Reserve: reserve})
	if err := l.Cut(end); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(batch("b"), true); err != nil {
		t.Errorf("the owner's batch: %v", err)
	}
	if _, err := l.Append(batch("c"), false); !errors.Is(err, seglog.ErrFull) {
		t.Errorf("a common batch: %v", err)
	}
	if v.Free() < 9 {
		t.Errorf("of 20 free blocks, %d are left to others", v.Free())
	}
	v.SetFree(0)
	want := []string{"a", "b"}
	for i := range (reserve - block) / 1008 {
		if _, err := l.Append(batch(strings.Repeat("y", 1000)), true); err != nil {
			t.Fatalf("of the owner's batches, number %d: %v", i, err)
		}
		want = append(want, strings.Repeat("y", 1000))
	}
	expect(t, l, 0, want...)
}
