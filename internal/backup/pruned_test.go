package backup_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/storetest"
)

// bed is the home's ledger as the suite of stores has it.
func (h *home) bed() *storetest.Bed {
	return &storetest.Bed{Signer: h.keys.Signer, Verifier: h.keys.Verifier, VerifierKey: h.keys.VerifierKey,
		Open: func() (storetest.Store, error) {
			return filestore.Open(h.dir, filestore.Options{Verifier: h.keys.Verifier})
		}}
}

// tenDays keeps entries for ten days.
var tenDays = []retention.Policy{{Name: "all", EntryDays: 10}}

// TestABackupGoesOnAfterEntriesWereErased: they went from the file in which the
// backup ends, whose frames stand elsewhere then.
func TestABackupGoesOnAfterEntriesWereErased(t *testing.T) {
	h := newHome(t, "a.example")
	b := h.bed()
	b.Set(time.Now().AddDate(0, -1, 0))
	r := b.Start(t)
	r.AppendMany(0, 400)
	r.Stop()
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	b.Set(time.Time{})
	r = b.Start(t)
	x := r.Erasing(0, 1, tenDays...)
	result, err := x.Eraser.Run(t.Context(), storetest.By, false)
	if err != nil || result.Entries != 256 || result.Left != "" {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := x.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	r.AppendMany(400, 50)
	c := r.Ledger.State().Checkpoint
	r.Stop()
	if got := h.backUp(dir); got.Checkpoint.Size != c.Size {
		t.Errorf("the backup has %d entries of %d", got.Checkpoint.Size, c.Size)
	}
	h.good(dir, c.Size, c)
	fresh := filepath.Join(t.TempDir(), "fresh")
	h.backUp(fresh)
	if report := h.good(fresh, c.Size, c); report.Pruned != 256 {
		t.Errorf("entries are gone below %d", report.Pruned)
	}
	for name, from := range map[string]string{"one from before": dir, "one from after": fresh} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "data")
			if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: from, Dir: to, Tips: []backup.Tip{{Note: c.Note, From: "the tip"}}}); err != nil {
				t.Fatal(err)
			}
			back := h.at(to)
			x := back.bed().Start(t).Erasing(0, 1, tenDays...)
			if err := x.Eraser.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := x.Journal.Close(); err != nil {
				t.Fatal(err)
			}
			x.Stop()
			if report := back.good(to, c.Size, c); report.Pruned != 256 || !strings.Contains(strings.Join(report.Notes, "\n"), "255 of the entries below 256 were erased") {
				t.Errorf("entries are gone below %d; %q", report.Pruned, report.Notes)
			}
		})
	}
}
