package backup_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/backup"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

var errKilled = errors.New("killed")

// A mortal file system does what it is asked to until its time has come, and
// then nothing any more. A write that it dies in is done by half.
type mortal struct {
	seglog.OS
	left int
}

func (m *mortal) live() bool {
	m.left--
	return m.left >= 0
}

func (m *mortal) Open(name string, flag int) (seglog.File, error) {
	if flag&os.O_CREATE != 0 && !m.live() {
		return nil, errKilled
	}
	f, err := m.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &mortalFile{f, m}, nil
}

func (m *mortal) Remove(name string) error {
	if !m.live() {
		return errKilled
	}
	return m.OS.Remove(name)
}

func (m *mortal) Rename(from, to string) error {
	if !m.live() {
		return errKilled
	}
	return m.OS.Rename(from, to)
}

func (m *mortal) SyncDir(dir string) error {
	if !m.live() {
		return errKilled
	}
	return m.OS.SyncDir(dir)
}

type mortalFile struct {
	seglog.File
	m *mortal
}

func (f *mortalFile) WriteAt(b []byte, at int64) (int, error) {
	if f.m.live() {
		return f.File.WriteAt(b, at)
	}
	if f.m.left == -1 {
		f.File.WriteAt(b[:len(b)/2], at)
	}
	return 0, errKilled
}

func (f *mortalFile) Sync() error {
	if !f.m.live() {
		return errKilled
	}
	return f.File.Sync()
}

func (f *mortalFile) Truncate(size int64) error {
	if !f.m.live() {
		return errKilled
	}
	return f.File.Truncate(size)
}

// TestABackupThatWasKilledIsGoodStill kills a backup at each of its steps. What
// is there then can be restored up to the last state that was reached, and
// running again brings it up to date; and that again is killed at each step.
func TestABackupThatWasKilledIsGoodStill(t *testing.T) {
	h := newHome(t, "a.example")
	first := h.record(0, 6)
	early := copyDir(t, h.dir)
	h.record(100, 1)
	last := h.record(200, 9)
	old := filepath.Join(t.TempDir(), "old")
	h.at(early).backUp(old)
	for name, from := range map[string]string{"the first": "", "a later one": old} {
		ended := false
		for n := 0; !ended; n++ {
			dir := filepath.Join(t.TempDir(), "backup")
			if from != "" {
				dir = copyDir(t, from)
			}
			_, err := backup.Run(t.Context(), backup.Options{Source: h.dir, Dir: dir, FS: &mortal{left: n}})
			if ended = err == nil; !ended && !errors.Is(err, errKilled) {
				t.Fatalf("%s, at step %d: %v", name, n, err)
			}
			if n > 300 {
				t.Fatal("it never ends")
			}
			h.restorable(fmt.Sprintf("%s, killed at step %d", name, n), dir, from != "", first)
			h.accusesNobody(fmt.Sprintf("%s, killed at step %d", name, n), dir, from != "", first)
			if n%12 == 0 { // the run that repairs is killed, too
				for k := range 8 {
					copied := copyDir(t, dir)
					backup.Run(t.Context(), backup.Options{Source: h.dir, Dir: copied, FS: &mortal{left: 4 * k}})
					h.backUp(copied)
					h.good(copied, last.Size, first)
				}
			}
			if r := h.backUp(dir); r.Checkpoint.Size != last.Size {
				t.Fatalf("%s, killed at step %d, and run again: %d entries, want %d", name, n, r.Checkpoint.Size, last.Size)
			}
			h.good(dir, last.Size, first, last)
		}
	}
}

// restorable demands that what is there of a backup can be restored.
func (h *home) restorable(when, dir string, existed bool, first *trail.Checkpoint) {
	h.t.Helper()
	to := filepath.Join(h.t.TempDir(), "new")
	found := func(string, *succession.Predecessor) error { return errFound }
	_, err := backup.Restore(h.t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Found: found})
	switch {
	case errors.Is(err, errFound):
	case !existed && (strings.Contains(err.Error(), "never finished") || strings.Contains(err.Error(), "not the data directory")):
	default:
		h.t.Fatalf("%s: it cannot be restored: %v", when, err)
	}
}

var errFound = errors.New("found")

// accusesNobody demands that verification judges what the manifest says is
// good, and nothing else.
func (h *home) accusesNobody(when, dir string, existed bool, first *trail.Checkpoint) {
	h.t.Helper()
	m, err := datadir.ReadManifest(dir)
	if err != nil {
		h.t.Fatal(when, err)
	}
	r, err := filestore.Verify(h.t.Context(), dir, verify.Options{Keys: []note.Verifier{h.keys.Verifier}, Since: [][]byte{first.Note}})
	switch {
	case m == nil && err != nil && strings.Contains(err.Error(), "not the data directory") && !existed:
	case m != nil && m.Size == 0 && errors.Is(err, datadir.ErrUnfinished) && !existed:
	case m == nil || m.Size == 0 || err != nil:
		h.t.Errorf("%s: %v, %v", when, r, err)
	case m.Size < first.Size && len(r.Findings) == 1 && r.Findings[0].Kind == verify.RolledBack && !existed:
	case !r.OK() || r.Size != m.Size || r.Entries != m.Size || string(r.Checkpoint) != m.Checkpoint:
		h.t.Errorf("%s: %d entries, %d of them checked, and the manifest tells of %d: %v", when, r.Size, r.Entries, m.Size, r.Findings)
	}
}

// TestARestoreThatWasKilledLeavesNoLedger kills a restore at each of its steps.
func TestARestoreThatWasKilledLeavesNoLedger(t *testing.T) {
	h := newHome(t, "a.example")
	c := h.record(0, 12)
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	for n := 0; ; n++ {
		to := filepath.Join(t.TempDir(), "new")
		_, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Tips: []backup.Tip{{Note: c.Note, From: "x"}}, FS: &mortal{left: n}})
		if err == nil {
			h.good(to, c.Size)
			if n < 10 {
				t.Errorf("only %d steps", n)
			}
			return
		}
		if !errors.Is(err, errKilled) || n > 300 {
			t.Fatal(n, err)
		}
		if names, err := (seglog.OS{}).List(to); err == nil && len(names) > 0 {
			t.Errorf("step %d failed, and left %v", n, names)
		}
		// One that was killed before it could sweep.
		to = filepath.Join(t.TempDir(), "new")
		killed := backup.Killed(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Tips: []backup.Tip{{Note: c.Note, From: "x"}}, FS: &mortal{left: n}})
		if killed == nil {
			t.Fatal("it was not killed")
		}
		if names, err := (seglog.OS{}).List(to); err != nil || len(names) == 0 {
			continue
		}
		if s, err := filestore.Open(to, filestore.Options{Verifier: h.keys.Verifier}); err == nil {
			s.Close()
			if _, err := os.Stat(filepath.Join(to, datadir.KeyFile)); err != nil {
				t.Fatalf("step %d: a store opens what was restored by half", n)
			}
			h.good(to, c.Size) // the last step: removing the mark was done, and only not said to be
		} else if err := datadir.CheckRecordable(to); err == nil {
			t.Fatalf("step %d: the directory is not marked", n)
		}
		if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Tips: []backup.Tip{{Note: c.Note, From: "x"}}}); err == nil {
			t.Fatalf("step %d: restored over what was restored by half", n)
		}
	}
}
