package filestore_test

import (
	"context"
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
	if _, err := db.Exec("UPDATE posting SET word = 12345 WHERE field = 8 AND places = x'1100'"); err != nil {
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
	for _, derived := range []string{"index.db", "offsets", "tree"} {
		if err := os.RemoveAll(filepath.Join(dir, derived)); err != nil {
			t.Fatal(err)
		}
	}
	report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
	if err != nil || !report.OK() || !strings.Contains(strings.Join(report.Notes, "\n"), "there is no index") {
		t.Errorf("%v: %+v", err, report)
	}
}

// tamper runs statements on the index in a directory at rest.
func tamper(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatHidesEventsFromQueriesIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name       string
		statements []string
		index      int64
		says       string
	}{
		{"an index that answers in place of the table", []string{"CREATE INDEX hide ON posting (epoch, field, word, block, places) WHERE block <> 0"}, -1, "index hide does not belong"},
		{"a table of another order, under the name of the right one", []string{
			"ALTER TABLE ids RENAME TO gone",
			"CREATE TABLE ids (id BLOB PRIMARY KEY DESC, idx INTEGER NOT NULL) WITHOUT ROWID",
			"INSERT INTO ids SELECT * FROM gone",
			"DROP TABLE gone",
			"PRAGMA writable_schema = 1",
			"UPDATE sqlite_master SET sql = 'CREATE TABLE ids (id BLOB PRIMARY KEY, idx INTEGER NOT NULL) WITHOUT ROWID' WHERE name = 'ids'",
		}, -1, "not in PRIMARY KEY order"},
		{"a trigger", []string{"CREATE TRIGGER t AFTER INSERT ON ids BEGIN DELETE FROM ids WHERE idx = new.idx; END"}, -1, "trigger t does not belong"},
		{"a table that is gone", []string{"DROP TABLE block"}, -1, "table block is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, b, r := segmented(t)
			r.Stop()
			tamper(t, dir, tt.statements...)
			before := contents(t, dir, false)
			report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(report.Findings, func(f verify.Finding) bool {
				return f.Kind == verify.IndexMismatch && f.Index == tt.index && strings.Contains(f.Message, tt.says)
			}) {
				t.Errorf("no finding at %d that says %q: %+v", tt.index, tt.says, report.Findings)
			}
			if after := contents(t, dir, false); !slices.Equal(before, after) {
				t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

// TestAnIndexIsJudgedByWhatIsReadOfIt: what nobody reads says nothing, and an index
// of another version is made anew by who opens it, unless somebody has it open.
func TestAnIndexIsJudgedByWhatIsReadOfIt(t *testing.T) {
	dir, b, r := segmented(t)
	check := func(when string, ok bool, says string) {
		t.Helper()
		report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
		if err != nil {
			t.Fatal(err)
		}
		if said := fmt.Sprint(report.Findings, report.Unproven); report.OK() != ok || !strings.Contains(said, says) {
			t.Errorf("%s: %s, want %q", when, said, says)
		}
	}
	r.Stop()
	tamper(t, dir, "PRAGMA user_version = 99", "PRAGMA application_id = 99")
	check("marks that nobody reads", true, "")
	r = b.Start(t)
	r.Check(b)
	tamper(t, dir, "UPDATE meta SET value = 99 WHERE name = 'format'")
	check("another version, while a server has it open", false, "an index of another format: 99")
	served := dir
	dir = filepath.Join(t.TempDir(), "killed") // which leaves the same files, and no lock
	if err := os.CopyFS(dir, os.DirFS(served)); err != nil {
		t.Fatal(err)
	}
	check("another version, whose server was killed", true, "the index is of another version and was not checked")
	dir = served
	r.Stop()
	check("another version", true, "the index is of another version and was not checked")
	tamper(t, dir, "DROP TABLE block")
	check("another version, of another form", true, "the index is of another version and was not checked")
	r = b.Start(t)
	r.Check(b)
	r.Stop()
	check("made anew", true, "")
}

func TestADamagedIndexHidesNothingElse(t *testing.T) {
	dir, b, r := segmented(t)
	r.Stop()
	change(t, segments(t, dir)[1], func(data []byte) []byte { data[len(data)-300] ^= 1; return data })
	path := filepath.Join(dir, "index.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	index := func(f verify.Finding) bool { return f.Kind == verify.IndexMismatch }
	found := 0
	for at := 0; at < len(whole); at++ {
		if (at > 112 && at%page > 12 || at%headerStride != 0) && at%499 != 0 { // headers, and the rest by samples
			continue
		}
		harmed := slices.Clone(whole)
		harmed[at] ^= 1 << (at % 8)
		if err := os.WriteFile(path, harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		if !slices.ContainsFunc(report.Findings, func(f verify.Finding) bool { return !index(f) }) {
			t.Fatalf("byte %d hides the damaged log: %+v", at, report.Findings)
		}
		if slices.ContainsFunc(report.Findings, index) {
			found++
		}
	}
	if found == 0 {
		t.Error("nothing was found in the index")
	}
	t.Logf("%d of the flips were findings", found)
	for name, data := range map[string][]byte{"no database": []byte("none"), "nothing": {}, "half of it": whole[:len(whole)/2]} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
		if err != nil || !slices.ContainsFunc(report.Findings, index) {
			t.Errorf("%s: %v, %+v", name, err, report)
		}
	}
}

func TestAnIndexIsCheckedWhileItGrows(t *testing.T) {
	dir, b, r := segmented(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 150; ctx.Err() == nil; n += 10 {
			r.AppendMany(n, 10)
		}
	}()
	for range 10 {
		report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
		if err != nil || !report.OK() || len(report.Unproven) != 1 {
			t.Errorf("%v: %+v", err, report)
		}
	}
	cancel()
	<-ended
}
