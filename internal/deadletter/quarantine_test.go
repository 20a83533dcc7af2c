package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/deadletter"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/quarantine"
)

var (
	dropped = quarantine.Decision{Type: event.TypeDropped, At: time.Now(), By: "oper", Because: "a test"}
	retried = quarantine.Decision{Type: event.TypeRetried, At: time.Now(), By: "oper"}
)

// refused returns a directory with three events in quarantine, which the book
// refuses as long as it has others with their ids, and the book.
func refused(t *testing.T) (dir string, b *book) {
	t.Helper()
	dir, b = t.TempDir(), newBook()
	b.set(ledger.ErrAway)
	r, halt := start(t, b, dir)
	for _, name := range []string{"a", "b", "c"} {
		e := happened(name)
		e.Source = event.Source{Name: "operator-0", Epoch: "s", Seq: 7}
		b.ids[e.ID] = "another"
		tell(t, r, e)
	}
	b.set(nil)
	settled(t, r)
	halt()
	return dir, b
}

// accept has the book accept what it refused.
func (b *book) accept(names ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		delete(b.ids, event.DeriveID(name))
	}
}

// inQuarantine returns what is in quarantine, by the names of resources.
func inQuarantine(t *testing.T, dir string) (list []quarantine.Held, names string) {
	t.Helper()
	list, torn, err := deadletter.ReadDisk(dir)
	if err != nil || torn > 0 {
		t.Fatal(torn, err)
	}
	for _, h := range list {
		e, err := event.ParseServed(h.Event)
		if err != nil {
			t.Fatal(err)
		}
		names += e.Resource.Name
	}
	return list, names
}

// out carries out a decision.
func out(t *testing.T, dir, key string, d quarantine.Decision) error {
	t.Helper()
	q, err := deadletter.OpenDiskQuarantine(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return errors.Join(q.Out(ctx, key, d), q.Close())
}

func TestWhatIsInQuarantineIsSentAgainOrDroppedAndTold(t *testing.T) {
	for name, running := range map[string]bool{"while the server runs": true, "while it does not": false} {
		t.Run(name, func(t *testing.T) {
			dir, b := refused(t)
			list, names := inQuarantine(t, dir)
			if names != "abc" || list[0].Principal != alice.Principal || list[0].Via != alice.Via || !strings.Contains(list[0].Reason, "other content") {
				t.Fatalf("%s: %+v", names, list)
			}
			b.accept("a")
			var r *deadletter.Recorder
			if running {
				r, _ = start(t, b, dir)
			}
			if err := out(t, dir, "99", dropped); !errors.Is(err, quarantine.ErrNone) {
				t.Error(err)
			}
			if err := out(t, dir, list[0].Key(), retried); err != nil {
				t.Fatal(err)
			}
			if err := out(t, dir, fmt.Sprint(list[1].Number), dropped); err != nil {
				t.Fatal(err)
			}
			if !running {
				r, _ = start(t, b, dir)
			}
			settled(t, r)
			if got := strings.Join(b.recorded(), " "); got != "a operator-0 operator-0" {
				t.Errorf("recorded %s", got)
			}
			if b.by[0] != alice || b.by[1].Principal == alice.Principal || b.by[1].Attribution != event.AttributionAsserted {
				t.Errorf("%+v", b.by)
			}
			if _, names := inQuarantine(t, dir); names != "c" {
				t.Errorf("%s are in quarantine", names)
			}
		})
	}
}

// TestADecisionIsCarriedOutOnceWhereverItIsKilled takes a decision, and then away
// what a program that was killed at each moment would not have written.
func TestADecisionIsCarriedOutOnceWhereverItIsKilled(t *testing.T) {
	for _, d := range []quarantine.Decision{retried, dropped} {
		for _, written := range []string{"the decision", "all but that it is done", "all"} {
			t.Run(d.Type+", "+written, func(t *testing.T) {
				dir, b := refused(t)
				before := filepath.Join(t.TempDir(), "before")
				if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				list, _ := inQuarantine(t, dir)
				if err := out(t, dir, list[1].Key(), d); err != nil {
					t.Fatal(err)
				}
				text, err := os.ReadFile(filepath.Join(dir, deadletter.QuarantineFile))
				if err != nil {
					t.Fatal(err)
				}
				lines := slices.Collect(strings.Lines(string(text)))
				switch written {
				case "the decision":
					dir = before
					fallthrough
				case "all but that it is done":
					lines = lines[:len(lines)-1]
				}
				if err := os.WriteFile(filepath.Join(dir, deadletter.QuarantineFile), []byte(strings.Join(lines, "")), 0o600); err != nil {
					t.Fatal(err)
				}
				b.accept("b")
				for range 2 {
					r, halt := start(t, b, dir)
					settled(t, r)
					halt()
				}
				want := map[string]string{event.TypeRetried: "b operator-0", event.TypeDropped: "operator-0"}[d.Type]
				if got := strings.Join(b.recorded(), " "); got != want {
					t.Errorf("recorded %s", got)
				}
				if _, names := inQuarantine(t, dir); names != "ac" {
					t.Errorf("%s are in quarantine", names)
				}
			})
		}
	}
}

func TestWhatWasDroppedDoesNotComeBackFromAQueueThatWasNotTold(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.set(ledger.ErrAway)
	r, halt := start(t, b, dir)
	b.ids[event.DeriveID("a")] = "another"
	tell(t, r, happened("a"))
	halt()
	// The server had it refused, and was killed before it could say so.
	d := queue(t, dir)
	items, err := d.Next(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Quarantine(deadletter.Refused{Item: items[0], Reason: "bad"}), d.Close()); err != nil {
		t.Fatal(err)
	}
	if err := out(t, dir, "1", dropped); err != nil {
		t.Fatal(err)
	}
	b.set(nil)
	r, _ = start(t, b, dir)
	settled(t, r)
	if _, names := inQuarantine(t, dir); names != "" {
		t.Errorf("%s is in quarantine", names)
	}
}

func TestWhatCannotBeReadCanOnlyBeDropped(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	d := queue(t, dir)
	if err := errors.Join(d.Put(t.Context(), []byte(`{"v":7}`)), d.Close()); err != nil {
		t.Fatal(err)
	}
	r, halt := start(t, b, dir)
	settled(t, r)
	halt()
	list, torn, err := deadletter.ReadDisk(dir)
	if err != nil || torn > 0 || len(list) != 1 || string(list[0].Bytes) != `{"v":7}` || list[0].Event != nil {
		t.Fatalf("%+v, %d, %v", list, torn, err)
	}
	if err := out(t, dir, "1", retried); !errors.Is(err, quarantine.ErrNoEvent) {
		t.Error(err)
	}
	if err := out(t, dir, "1", dropped); err != nil {
		t.Error(err)
	}
	r, _ = start(t, b, dir)
	settled(t, r)
	if got := strings.Join(b.recorded(), " "); got != list[0].Key() {
		t.Errorf("recorded %s", got)
	}
	if _, err := deadletter.OpenDiskQuarantine(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
