package filestore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// lastSegment returns the path of the last segment in dir.
func lastSegment(t *testing.T, dir string) string {
	t.Helper()
	names, err := seglog.OS{}.List(filepath.Join(dir, trail.LogDir))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return filepath.Join(dir, trail.LogDir, names[len(names)-1])
}

// appendTo appends a frame to the last segment.
func appendTo(t *testing.T, dir string, body []byte) {
	t.Helper()
	path := lastSegment(t, dir)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = seglog.AppendFrame(data, func(dst []byte) []byte { return append(dst, body...) })
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// files returns the digests of the files in a directory, but for the lock.
func files(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == trail.LockFile {
			return err
		}
		data, err := os.ReadFile(path)
		sum := sha256.Sum256(data)
		fmt.Fprintln(&out, path, hex.EncodeToString(sum[:]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestALaterFormatIsRefusedAndLeftAsItIs makes a directory look as a later
// version may leave it.
func TestALaterFormatIsRefusedAndLeftAsItIs(t *testing.T) {
	for name, tt := range map[string]struct {
		harm func(dir string)
		says string
		// passes is set where verify need not see it.
		passes bool
	}{
		"the directory": {func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, datadir.FormatFile), []byte("3\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "the directory is of format 3, and this version knows format 2", false},
		"a segment": {func(dir string) {
			path := lastSegment(t, dir)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[7] = '2'
			binary.LittleEndian.PutUint32(data[16:], crc32.Checksum(data[:16], crc32.MakeTable(crc32.Castagnoli)))
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "the log is of format 2, and this version knows format 1", false},
		"a kind of frame": {func(dir string) { appendTo(t, dir, []byte{9, 1, 2, 3}) }, "is of format 9, and this version knows format", true},
		"an entry": {func(dir string) {
			appendTo(t, dir, (&trail.Record{Index: 41, Entry: []byte(`{"hue":"blue","v":2}`)}).AppendFrame(nil))
		}, "the entries are of format 2, and this version knows format 1", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := newBed(t, dir, filestore.Options{})
			r := b.Start(t)
			r.AppendMany(0, 40)
			r.Stop()
			tt.harm(dir)
			before := files(t, dir)
			for what, open := range map[string]func() error{
				"open":    func() error { _, err := filestore.Open(dir, filestore.Options{Verifier: b.Verifier}); return err },
				"reindex": func() error { _, err := filestore.Reindex(dir, filestore.Options{Verifier: b.Verifier}); return err },
				"verify": func() error {
					_, err := filestore.Verify(context.Background(), dir, verify.Options{})
					if tt.passes && err == nil {
						return fmt.Errorf("%w: %s; use the version that wrote it", datadir.ErrNewer, tt.says)
					}
					return err
				},
			} {
				err := open()
				if !errors.Is(err, datadir.ErrNewer) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "use the version that wrote it") {
					t.Errorf("%s: it says %v, want %q", what, err, tt.says)
				}
				if files(t, dir) != before {
					t.Errorf("%s has changed something", what)
				}
			}
		})
	}
}

func TestAnIndexOfAnotherFormatIsMadeAnew(t *testing.T) {
	for _, format := range []int{1, 99} {
		dir := t.TempDir()
		b := newBed(t, dir, filestore.Options{})
		r := b.Start(t)
		r.AppendMany(0, 300)
		r.Stop()
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, datadir.IndexFile))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec("UPDATE meta SET value = ? WHERE name = 'format'; DROP TABLE block; CREATE TABLE hues (hue TEXT)", format)
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		r = b.Start(t)
		r.AppendMany(1000, 10)
		r.Check(b)
		r.Stop()
		if rep, err := filestore.Verify(t.Context(), dir, verify.Options{}); err != nil || !rep.OK() {
			t.Errorf("format %d: %v, %+v", format, err, rep)
		}
	}
}

// TestLedgersOfEarlierVersionsGoOn opens a copy of each ledger that a released
// version has written, and records into it.
func TestLedgersOfEarlierVersionsGoOn(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) { goesOn(t, filepath.Join("..", "..", "verify", "testdata", version, "ledger")) })
	}
}

func goesOn(t *testing.T, golden string) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	// The key of the golden ledgers is no secret: verify's tests make it so.
	const origin = "ledger.example/prod"
	skey, vkey, err := note.GenerateKey(rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, origin, 1))), origin)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, trail.VKeyFile)); err != nil || strings.TrimSpace(string(text)) != vkey {
		t.Fatalf("the golden ledger has another key: %s, %v", text, err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	tip, err := os.ReadFile(filepath.Join(dir, trail.TipFile))
	if err != nil {
		t.Fatal(err)
	}
	tip = bytes.TrimRight(tip, "\x00")
	old, err := trail.OpenCheckpoint(tip, verifier)
	if err != nil {
		t.Fatal(err)
	}
	b := &storetest.Bed{Signer: signer, Verifier: verifier, VerifierKey: vkey}
	b.Open = func() (storetest.Store, error) {
		return filestore.Open(dir, filestore.Options{Verifier: verifier, SegmentSize: 64 << 10})
	}
	r := b.Start(t)
	if got := r.Ledger.State().Checkpoint; got.Size != old.Size || got.Root != old.Root {
		t.Errorf("it opens with %d entries and root %s", got.Size, got.Root)
	}
	for i := range old.Size {
		if rec, err := r.Store.(*filestore.Store).Record(t.Context(), i); err != nil || rec.Index != i {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	r.AppendMany(0, 600)
	size := r.Ledger.State().Size()
	r.Stop()
	o := verify.Options{Keys: []note.Verifier{verifier}, Since: [][]byte{tip}}
	rep, err := filestore.Verify(t.Context(), dir, o)
	if err != nil || !rep.OK() || rep.Size != size || size != old.Size+600 {
		t.Errorf("%v, %+v", err, rep)
	}
	// What is derived can be made anew, tiles of the old entries among it.
	for _, name := range []string{tree.Dir, "offsets", datadir.IndexFile} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r = b.Start(t)
	r.AppendMany(2000, 3)
	r.Stop()
	if rep, err := filestore.Verify(t.Context(), dir, o); err != nil || !rep.OK() || rep.Size != size+3 {
		t.Errorf("after deriving anew: %v, %+v", err, rep)
	}
}
