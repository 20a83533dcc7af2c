package filestore_test

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/verify"
)

// contents returns the names and, at rest, the times and sizes of all files
// below dir.
func contents(t *testing.T, dir string, running bool) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		file := strings.TrimPrefix(path, dir)
		if !running {
			file = fmt.Sprint(file, " ", info.Size(), " ", info.ModTime().UnixNano())
		}
		files = append(files, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// segmented makes a ledger of 150 entries in several segments.
func segmented(t *testing.T) (string, *storetest.Bed, *storetest.Running) {
	t.Helper()
	dir := t.TempDir()
	b := newBed(t, dir, filestore.Options{SegmentSize: 8 << 10})
	r := b.Start(t)
	for first := 0; first < 150; first += 10 {
		r.AppendMany(first, 10)
	}
	if n := len(segments(t, dir)); n < 3 {
		t.Fatalf("%d segments", n)
	}
	return dir, b, r
}

func TestVerifyWritesNothing(t *testing.T) {
	for name, running := range map[string]bool{"into a directory at rest": false, "into one in use": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, b, r := segmented(t)
			if !running {
				r.Stop()
			}
			if err := os.RemoveAll(filepath.Join(dir, "offsets")); err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir, running)
			report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
			if err != nil || !report.OK() {
				t.Fatalf("%v: %+v", err, report)
			}
			if after := contents(t, dir, running); !slices.Equal(before, after) {
				t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			if running { // which needs them
				if err := os.Mkdir(filepath.Join(dir, "offsets"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestATamperedIndexIsNamedWhereTheLogHasSegments(t *testing.T) {
	dir, b, r := segmented(t)
	r.Stop()
	if err := os.RemoveAll(filepath.Join(dir, "offsets")); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE entry SET actor = 12345 WHERE idx = 17 OR idx = 140"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, segments(t, dir)[2], func(data []byte) []byte { data[len(data)-300] ^= 1; return data })
	report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
	if err != nil {
		t.Fatal(err)
	}
	index := slices.IndexFunc(report.Findings, func(f verify.Finding) bool { return f.Kind == verify.IndexMismatch && f.Index == 17 })
	damage := slices.IndexFunc(report.Findings, func(f verify.Finding) bool { return f.Kind == verify.Changed && f.Index > 17 })
	if index < 0 || damage < index {
		t.Errorf("they are not in order: %+v", report.Findings)
	}
	if !strings.Contains(strings.Join(report.Unproven, "\n"), "the index was checked as far as") {
		t.Errorf("what was not checked is not said: %q", report.Unproven)
	}
}

func TestACopyWithoutItsIndexIsWhole(t *testing.T) {
	dir, b, r := segmented(t)
	r.Stop()
	for _, derived := range []string{"index.db", "offsets", "tile"} {
		if err := os.RemoveAll(filepath.Join(dir, derived)); err != nil {
			t.Fatal(err)
		}
	}
	report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
	if err != nil || !report.OK() || !strings.Contains(strings.Join(report.Notes, "\n"), "there is no index") {
		t.Errorf("%v: %+v", err, report)
	}
}
