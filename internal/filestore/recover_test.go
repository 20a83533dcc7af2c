package filestore_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// openStore opens a store whose directory holds the public key, as a real one
// does.
func openStore(dir string, o filestore.Options, b *storetest.Bed) (storetest.Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "keys", "ledger.vkey"), []byte(b.VerifierKey+"\n"), 0o600); err != nil {
		return nil, err
	}
	return filestore.Open(dir, o)
}

// segments returns the paths of the log's files, in order.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no segments", err)
	}
	slices.Sort(paths)
	return paths
}

func last[T any](list []T) T { return list[len(list)-1] }

// change changes a file.
func change(t *testing.T, path string, fn func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fn(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// copyDir copies a directory.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedOrOlderDirectoryIsNotSignedOn(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(t *testing.T, dir, older string)
	}{
		{"a bit of the last pool is flipped", func(t *testing.T, dir, _ string) {
			change(t, last(segments(t, dir)), func(b []byte) []byte { b[len(b)-200] ^= 1; return b })
		}},
		{"a bit of the last checkpoint's signature is flipped", func(t *testing.T, dir, _ string) {
			change(t, last(segments(t, dir)), func(b []byte) []byte { b[len(b)-3] ^= 1; return b })
		}},
		{"a bit in the middle of the last segment is flipped", func(t *testing.T, dir, _ string) {
			change(t, last(segments(t, dir)), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}},
		{"the tail of the last segment is cut", func(t *testing.T, dir, _ string) {
			change(t, last(segments(t, dir)), func(b []byte) []byte { return b[:len(b)-1500] })
		}},
		{"the last segment is gone", func(t *testing.T, dir, _ string) {
			if err := os.Remove(last(segments(t, dir))); err != nil {
				t.Fatal(err)
			}
		}},
		{"all segments are gone", func(t *testing.T, dir, _ string) {
			if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
				t.Fatal(err)
			}
		}},
		{"the log is from an older copy", func(t *testing.T, dir, older string) {
			copyDir(t, filepath.Join(older, "log"), filepath.Join(dir, "log"))
		}},
		{"log and tip are older, the index is not", func(t *testing.T, dir, older string) {
			copyDir(t, filepath.Join(older, "log"), filepath.Join(dir, "log"))
			if err := os.Remove(filepath.Join(dir, "tip")); err != nil {
				t.Fatal(err)
			}
		}},
		{"log, tip and index are older, the hashes are not", func(t *testing.T, dir, older string) {
			tree := filepath.Join(t.TempDir(), "tree")
			copyDir(t, filepath.Join(dir, "tree"), tree)
			copyDir(t, older, dir)
			copyDir(t, tree, filepath.Join(dir, "tree"))
		}},
		{"everything is older, but for the tip record outside", func(t *testing.T, dir, older string) {
			copyDir(t, older, dir)
		}},
		{"the tip record and the index are gone, and a bit of the last pool is flipped", func(t *testing.T, dir, _ string) {
			change(t, last(segments(t, dir)), func(b []byte) []byte { b[len(b)-200] ^= 1; return b })
			for _, name := range []string{"tip", "index.db"} {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"the tip record is empty", func(t *testing.T, dir, _ string) {
			change(t, filepath.Join(dir, "tip"), func([]byte) []byte { return nil })
		}},
		{"the tip record is damaged", func(t *testing.T, dir, _ string) {
			change(t, filepath.Join(dir, "tip"), func(b []byte) []byte { b[30] ^= 1; return b })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, older, outside := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "tip")
			b := newBed(t, dir, filestore.Options{TipFile: outside})
			r := b.Start(t)
			r.AppendMany(0, 400)
			r.Stop()
			copyDir(t, dir, older)
			r = b.Start(t)
			r.AppendMany(400, 300)
			r.Stop()
			tt.harm(t, dir, older)
			before := read(t, dir)

			_, err := b.TryStart(t)
			if !errors.Is(err, filestore.ErrTip) {
				t.Fatalf("got %v, want a refusal to sign", err)
			}
			t.Log(err)
			if after := read(t, dir); after != before {
				t.Error("the refusal changed the log")
			}
		})
	}
}

// TestALogThatIsCutBackToItsFirstPoolIsNotSignedOn takes the tip record away, too.
// Each thing in the directory that knows better is enough; where there is none,
// nothing in it can show that there was more.
func TestALogThatIsCutBackToItsFirstPoolIsNotSignedOn(t *testing.T) {
	for _, tt := range []struct {
		left    string
		used    bool
		refused string
	}{
		{"tree", false, "tree knows of"}, {"index.db", false, "the index knows of"}, {"offsets", false, "offsets knows of"},
		{"", true, "tip record"}, {"", false, ""},
	} {
		t.Run(tt.left+tt.refused, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := newBed(t, dir, filestore.Options{SegmentSize: 8 << 10})
			r := b.Start(t)
			first := r.Ledger.State().Checkpoint
			for n := range 12 {
				r.AppendMany(10*n, 10)
			}
			if err := r.Store.Wait(t.Context(), r.Ledger.State().Size()); err != nil {
				t.Fatal(err)
			}
			r.Stop()
			paths := segments(t, dir)
			if len(paths) < 3 {
				t.Fatalf("%d segments", len(paths))
			}
			for _, path := range paths[1:] {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			change(t, paths[0], func(data []byte) []byte { return data[:bytes.Index(data, first.Note)+len(first.Note)] })
			for _, name := range []string{"tip", "tree", "index.db", "offsets"} {
				if name == tt.left {
					continue
				}
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			before := read(t, dir)
			s, err := openStore(dir, filestore.Options{Verifier: b.Verifier, SegmentSize: 8 << 10, Used: tt.used}, b)
			if tt.refused == "" {
				if err != nil {
					t.Fatalf("nothing there knows better, and: %v", err)
				}
				if err := s.(*filestore.Store).Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, filestore.ErrTip) || !strings.Contains(err.Error(), tt.refused) || read(t, dir) != before {
				t.Errorf("got %v, want %q", err, tt.refused)
			}
		})
	}
}

// read returns the content of the log.
func read(t *testing.T, dir string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %x\n", filepath.Base(p), data)
	}
	return b.String()
}

// TestWhatWasAcknowledgedBehindDamageIsNotCutOff damages a pool that has others
// behind it, where all that knows of these is older, or gone.
func TestWhatWasAcknowledgedBehindDamageIsNotCutOff(t *testing.T) {
	for name, harm := range map[string]func(checkpoint []byte){
		"a bit of a checkpoint":        func(c []byte) { c[60] ^= 1 },
		"a frame's length":             func(c []byte) { c[0] ^= 0x40 },
		"a checkpoint of zeros":        func(c []byte) { clear(c[:200]) },
		"zeros from a frame on":        func(c []byte) { clear(c[:1500]) },
		"a record behind a checkpoint": func(c []byte) { c[500] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, older := t.TempDir(), t.TempDir()
			b := newBed(t, dir, filestore.Options{SegmentSize: 1 << 20})
			r := b.Start(t)
			r.Append(storetest.Event(0))
			r.Stop()
			copyDir(t, dir, older)
			r = b.Start(t)
			for n := range 12 {
				r.Append(storetest.Event(1+3*n), storetest.Event(2+3*n), storetest.Event(3+3*n))
			}
			r.Stop()
			for _, derived := range []string{"tip", "index.db", "tree", "offsets"} {
				if err := os.RemoveAll(filepath.Join(dir, derived)); err != nil {
					t.Fatal(err)
				}
			}
			tip, err := os.ReadFile(filepath.Join(older, "tip"))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "tip"), tip, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			change(t, last(segments(t, dir)), func(data []byte) []byte {
				at := 0
				for range 6 {
					at += 1 + bytes.Index(data[at+1:], []byte("\x02test.example/ledger\n"))
				}
				harm(data[at-8:])
				return data
			})
			before := read(t, dir)
			if _, err := b.TryStart(t); !errors.Is(err, filestore.ErrTip) {
				t.Fatalf("got %v, want a refusal to sign", err)
			}
			if read(t, dir) != before {
				t.Error("the refusal changed the log")
			}
		})
	}
}

func TestWhatWasNeverAcknowledgedIsCutOff(t *testing.T) {
	for _, tt := range []struct {
		name string
		tail func(whole []byte, size int) []byte // the last segment after the crash; size is that before the lost pool
	}{
		{"records without their checkpoint", func(whole []byte, size int) []byte { return whole[:len(whole)-150] }},
		{"half a frame", func(whole []byte, size int) []byte { return whole[:size+30] }},
		{"a frame's head", func(whole []byte, size int) []byte { return whole[:size+5] }},
		{"zeros", func(whole []byte, size int) []byte { return append(whole[:size], make([]byte, 4096)...) }},
		{"torn pages", func(whole []byte, size int) []byte {
			clear(whole[size : size+300])
			return whole
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := newBed(t, dir, filestore.Options{})
			r := b.Start(t)
			r.AppendMany(0, 20)
			before := r.Ledger.State().Checkpoint
			r.Stop()
			older := t.TempDir()
			copyDir(t, dir, older)
			path := last(segments(t, dir))
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			r = b.Start(t)
			r.AppendMany(20, 5)
			r.Stop()
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// The directory as it was, but for the pool that was being written.
			copyDir(t, older, dir)
			change(t, path, func([]byte) []byte { return tt.tail(whole, int(info.Size())) })

			r = b.Start(t)
			if after := r.Ledger.State().Checkpoint; after.Size != before.Size || after.Root != before.Root {
				t.Errorf("recovered %d entries, want %d", after.Size, before.Size)
			}
			r.AppendMany(20, 5)
			r.Check(b)
			r.Stop()
			r = b.Start(t)
			r.Check(b)
		})
	}
}

func TestAWholePoolThatWasNotAcknowledgedIsAdopted(t *testing.T) {
	dir, older := t.TempDir(), t.TempDir()
	b := newBed(t, dir, filestore.Options{})
	r := b.Start(t)
	r.AppendMany(0, 20)
	r.Stop()
	copyDir(t, dir, older)
	r = b.Start(t)
	r.AppendMany(20, 5)
	after := r.Ledger.State().Checkpoint
	r.Stop()
	log := filepath.Join(t.TempDir(), "log")
	copyDir(t, filepath.Join(dir, "log"), log)
	copyDir(t, older, dir) // the crash came before the tip and the index
	copyDir(t, log, filepath.Join(dir, "log"))
	r = b.Start(t)
	if got := r.Ledger.State().Checkpoint; got.Size != after.Size || got.Root != after.Root {
		t.Errorf("recovered %d entries, want %d", got.Size, after.Size)
	}
	for _, again := range r.Append(storetest.Event(22)) {
		if !again.Duplicate {
			t.Error("an adopted event was recorded again")
		}
	}
	r.Check(b)
}

func TestDerivedFilesAreMadeAnew(t *testing.T) {
	for name, paths := range map[string][]string{
		"index":              {"index.db", "index.db-wal", "index.db-shm"},
		"offsets":            {"offsets"},
		"index, hashes, all": {"index.db", "index.db-wal", "index.db-shm", "offsets", "tree"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := newBed(t, dir, filestore.Options{})
			r := b.Start(t)
			r.AppendMany(0, 700)
			r.Stop()
			for _, p := range paths {
				if err := os.RemoveAll(filepath.Join(dir, p)); err != nil {
					t.Fatal(err)
				}
			}
			r = b.Start(t)
			r.AppendMany(700, 10)
			r.Check(b)
			for _, index := range []int64{0, 1, 300, 710} {
				if _, err := r.Finder.Get(t.Context(), index); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestReindexMakesADamagedIndexAnew(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, dir, filestore.Options{})
	r := b.Start(t)
	r.AppendMany(0, 600)
	if _, err := filestore.Reindex(dir, filestore.Options{Verifier: b.Verifier}); !errors.Is(err, seglog.ErrLocked) {
		t.Errorf("while the server runs: %v", err)
	}
	r.Stop()
	change(t, filepath.Join(dir, "index.db"), func(data []byte) []byte { copy(data, "rubbish"); return data })
	if _, err := b.TryStart(t); err == nil || !strings.Contains(err.Error(), "reindex") {
		t.Errorf("with a damaged index: %v", err)
	}
	size, err := filestore.Reindex(dir, filestore.Options{Verifier: b.Verifier})
	if err != nil || size != 601 {
		t.Fatalf("reindex: %d entries, %v", size, err)
	}
	r = b.Start(t)
	r.Check(b)
}

func TestOneDirectoryHasOneWriter(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, dir, filestore.Options{})
	r := b.Start(t)
	if _, err := b.TryStart(t); !errors.Is(err, seglog.ErrLocked) {
		t.Errorf("got %v, want a refusal", err)
	}
	r.AppendMany(0, 3)
	r.Check(b)
}

func TestATamperedIndexChangesNoAnswerAndIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name, sql string
		index     int64
	}{
		// Field 8 is the resource's name, which no other entry shares.
		{"a row says another word", "UPDATE posting SET word = 12345 WHERE field = 8 AND places = x'1100'", 17},
		{"a row says another place", "UPDATE posting SET places = x'1000' WHERE field = 8 AND places = x'1100'", 16},
		{"a row says no place", "UPDATE posting SET places = x'' WHERE field = 8 AND places = x'1100'", 17},
		{"a row says it in another way", "UPDATE posting SET places = x'11001100' WHERE field = 8 AND places = x'1100'", 0},
		{"a row is malformed", "UPDATE posting SET places = x'11' WHERE field = 8 AND places = x'1100'", 0},
		{"a row is gone", "DELETE FROM posting WHERE field = 8 AND places = x'1100'", 17},
		{"a row is made up", "INSERT INTO posting VALUES (0, 8, 12345, 0, x'1100')", 17},
		{"a row is of another epoch", "UPDATE posting SET epoch = 1 WHERE field = 8 AND places = x'1100'", 17},
		{"a row is of another field", "UPDATE posting SET field = 99 WHERE field = 8 AND places = x'1100'", 17},
		{"a row is of a later block", "INSERT INTO posting VALUES (0, 8, 12345, 7, x'0000')", 7 * 16384},
		{"an id is gone", "DELETE FROM ids WHERE idx = 17", 17},
		{"an id leads elsewhere", "UPDATE ids SET idx = 3 WHERE idx = 17", 17},
		{"an id is made up", "INSERT INTO ids VALUES (x'00000000000000000000000000000000', 17)", -1},
		{"a time is wrong", "UPDATE block SET times = x'02' || substr(times, 2)", 0},
		{"a range of times is wrong", "UPDATE block SET last = last - 1", 0},
		{"a block's times are gone", "DELETE FROM block", 0},
		{"there is another index", "CREATE INDEX hide ON posting (block) WHERE word <> 5", -1},
		{"there is a trigger", "CREATE TRIGGER x AFTER DELETE ON ids BEGIN DELETE FROM block; END", -1},
		{"the chain's value is another", "UPDATE meta SET value = zeroblob(32) WHERE name = 'chain'", -1},
		{"the size is less", "UPDATE meta SET value = 40 WHERE name = 'size'", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := newBed(t, dir, filestore.Options{})
			r := b.Start(t)
			r.AppendMany(0, 50)
			size := r.Size()
			db, err := sql.Open("sqlite", filepath.Join(dir, "index.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec(tt.sql); err != nil {
				t.Fatal(err)
			}
			report, err := r.Store.Verify(t.Context(), verify.Options{Keys: []note.Verifier{b.Verifier}})
			if err != nil {
				t.Fatal(err)
			}
			named := false
			for _, f := range report.Findings {
				named = named || f.Kind == verify.IndexMismatch && f.Index == tt.index
			}
			if !named {
				t.Errorf("verify does not name entry %d: %+v", tt.index, report.Findings)
			}
			// Whatever the index says, an answer holds what the entries say.
			for _, f := range []search.Filter{{Types: []string{"RemediationExecuted"}}, {Actor: "controller-1"}} {
				a, err := r.Finder.Page(t.Context(), &f, search.Page{Limit: 100, Cursor: -1}, size)
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range a.Hits {
					if !f.Match(h.Event) || h.Record.Index >= size {
						t.Errorf("entry %d answers a question it does not meet", h.Record.Index)
					}
				}
			}
		})
	}
}

func TestVerifyOfADirectoryInUseRaisesNoAlarm(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, dir, filestore.Options{})
	r := b.Start(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				r.Append(storetest.Event(i))
			}
		}
	}()
	deadline := time.Now().Add(3 * time.Second)
	for n := 0; n < 3 || time.Now().Before(deadline) && n < 20; n++ {
		report, err := filestore.Verify(t.Context(), dir, verify.Options{Keys: []note.Verifier{b.Verifier}})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			t.Errorf("run %d: %+v", n, f)
		}
	}
	close(stop)
	<-done
	r.Check(b)
}

func TestATipFileThatCannotBeKeptIsRefusedAtOnce(t *testing.T) {
	b := newBed(t, t.TempDir(), filestore.Options{TipFile: filepath.Join(t.TempDir(), "nowhere", "tip")})
	if _, err := b.TryStart(t); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("got %v", err)
	}
}

// TestARecordThatWasChangedIsNotServed changes records in ways that only
// hashing shows.
func TestARecordThatWasChangedIsNotServed(t *testing.T) {
	const at = 25
	for name, harm := range map[string]func(r *trail.Record){
		"the entry":         func(r *trail.Record) { r.Entry = bytes.Replace(r.Entry, []byte("plan-24"), []byte("plan-99"), 1) },
		"the details":       func(r *trail.Record) { r.Erasable = bytes.Replace(r.Erasable, []byte("24"), []byte("99"), 1) },
		"no details":        func(r *trail.Record) { r.Erasable, r.Salt = nil, event.Salt{} },
		"the salt":          func(r *trail.Record) { r.Salt[0] ^= 1 },
		"the chain's value": func(r *trail.Record) { r.Chain[0] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := newBed(t, dir, filestore.Options{})
			r := b.Start(t)
			r.AppendMany(0, 300) // more than a tile
			r.Stop()
			rewrite(t, segments(t, dir)[0], at, harm)
			if err := os.RemoveAll(filepath.Join(dir, "offsets")); err != nil {
				t.Fatal(err)
			}
			r = b.Start(t)
			ctx := context.Background()
			x := r.Erasing(0, 1)
			defer x.Journal.Close()
			if _, err := x.Present().Record(ctx, at); name != "the chain's value" && !errors.Is(err, search.ErrChanged) {
				t.Errorf("by itself: %v", err)
			}
			seen := int64(0)
			err := x.Present().Records(ctx, search.Range{First: 3, End: 300}, func(r *trail.Record) error { seen = r.Index; return nil })
			if !errors.Is(err, search.ErrChanged) || seen != at-1 {
				t.Errorf("among others: after %d, %v", seen, err)
			}
			seen = 0
			err = x.Present().(search.Picker).Pick(ctx, []int64{at - 2, at - 1, at, at + 1}, func(r *trail.Record) error { seen = r.Index; return nil })
			if name != "the chain's value" && (!errors.Is(err, search.ErrChanged) || seen != at-1) {
				t.Errorf("picked: after %d, %v", seen, err)
			}
			for i := range int64(300) {
				if _, err := x.Present().Record(ctx, i); i != at && err != nil {
					t.Errorf("record %d: %v", i, err)
				}
			}
		})
	}
}

// TestRecordsThatHaveChangedPlacesAreNotServed swaps two frames of one length, so
// that all others stand where they stood.
func TestRecordsThatHaveChangedPlacesAreNotServed(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, dir, filestore.Options{})
	r := b.Start(t)
	r.AppendMany(0, 300)
	r.Stop()
	var first, second int64
	change(t, segments(t, dir)[0], func(data []byte) []byte {
		frames, err := seglog.NewReader(bytes.NewReader(data), 0, seglog.FirstOffset).Next(make([]byte, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		for i := range frames {
			for _, y := range frames[i+1 : min(i+4, len(frames))] {
				x := frames[i]
				if !trail.IsRecord(x.Body) || !trail.IsRecord(y.Body) || len(x.Body) != len(y.Body) {
					continue
				}
				one, err := trail.ParseFrame(x.Body)
				other, failed := trail.ParseFrame(y.Body)
				if err := errors.Join(err, failed); err != nil {
					t.Fatal(err)
				}
				first, second = one.Index, other.Index
				before := bytes.Clone(data[x.Offset:x.End()])
				copy(data[x.Offset:], data[y.Offset:y.End()])
				copy(data[y.Offset:], before)
				return data
			}
		}
		t.Fatal("no two frames of one length stand near one another")
		return nil
	})
	r = b.Start(t)
	for name, indexes := range map[string][]int64{"the first": {first}, "the second": {second}, "both": {first, second}, "both, the newest first": {second, first}, "among others": {first - 1, first, first + 1, second}} {
		seen := 0
		err := r.Store.Pick(t.Context(), indexes, func(*trail.Record) error { seen++; return nil })
		if err == nil || seen > len(indexes)/4 {
			t.Errorf("%s: %d are served, %v", name, seen, err)
		}
	}
}

// rewrite changes a record in a segment, whose frames keep their checksums.
func rewrite(t *testing.T, path string, index int64, fn func(r *trail.Record)) {
	t.Helper()
	change(t, path, func(data []byte) []byte {
		out := bytes.Clone(data[:seglog.FirstOffset])
		r := seglog.NewReader(bytes.NewReader(data), 0, seglog.FirstOffset)
		buf := make([]byte, 1<<20)
		for {
			frames, err := r.Next(buf)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				body := f.Body
				if rec, err := trail.ParseFrame(body); err == nil && rec.Index == index {
					fn(&rec)
					body = rec.AppendFrame(nil)
				}
				out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
				out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
				out = append(out, body...)
			}
		}
		return out
	})
}
