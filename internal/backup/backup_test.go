package backup_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A home is a data directory with its keys.
type home struct {
	t    *testing.T
	dir  string
	keys *keyring.Keys
}

// newHome makes a data directory without a ledger.
func newHome(t *testing.T, origin string) *home {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	keys, err := keyring.Create(dir, origin)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.MarkUsed(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"tokens.json": "[]\n", "admin.token": "gvn_secret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &home{t, dir, keys}
}

// at is the same ledger in another directory.
func (h *home) at(dir string) *home { return &home{h.t, dir, h.keys} }

// A running is an open ledger.
type running struct {
	*home
	store  *filestore.Store
	ledger *ledger.Ledger
}

func (h *home) open() *running {
	h.t.Helper()
	store, err := filestore.Open(h.dir, filestore.Options{Verifier: h.keys.Verifier, SegmentSize: 4 << 10})
	if err != nil {
		h.t.Fatal(err)
	}
	l, err := ledger.Open(h.t.Context(), ledger.Config{Store: store, Signer: h.keys.Signer, VerifierKey: h.keys.VerifierKey, Version: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	return &running{h, store, l}
}

// add records events from number first on, in pools of three.
func (r *running) add(first, n int) *running {
	r.t.Helper()
	for i := 0; i < n; i += 3 {
		var events []*event.Event
		for k := i; k < min(i+3, n); k++ {
			events = append(events, storetest.Event(first+k))
		}
		results, _, err := r.ledger.Append(r.t.Context(), storetest.By, events)
		for _, res := range results {
			err = errors.Join(err, res.Err)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return r
}

// close closes the ledger and returns its newest checkpoint.
func (r *running) close() *trail.Checkpoint {
	r.t.Helper()
	c := r.ledger.State().Checkpoint
	r.ledger.Close()
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// record records n events from number first on, and closes the ledger.
func (h *home) record(first, n int) *trail.Checkpoint {
	h.t.Helper()
	return h.open().add(first, n).close()
}

// backUp makes a backup that must succeed.
func (h *home) backUp(dir string) *backup.Result {
	h.t.Helper()
	r, err := backup.Run(h.t.Context(), backup.Options{Source: h.dir, Dir: dir})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// check verifies a directory, which must extend the given checkpoints, and
// returns its report.
func (h *home) check(dir string, since ...*trail.Checkpoint) *verify.Report {
	h.t.Helper()
	o := verify.Options{Keys: []note.Verifier{h.keys.Verifier}}
	for _, c := range since {
		o.Since = append(o.Since, c.Note)
	}
	r, err := filestore.Verify(h.t.Context(), dir, o)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// good demands that a directory verifies.
func (h *home) good(dir string, size int64, since ...*trail.Checkpoint) *verify.Report {
	h.t.Helper()
	r := h.check(dir, since...)
	if !r.OK() || !r.Authenticated || r.Size != size {
		h.t.Fatalf("%s: %d entries, want %d: %v", dir, r.Size, size, r.Findings)
	}
	return r
}

// image returns the digests of the files below a directory, but for the lock.
func image(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() || d.Name() == trail.LockFile {
			return err
		}
		data, err := os.ReadFile(path)
		sum := sha256.Sum256(data)
		fmt.Fprintf(&out, "%s %s\n", path, hex.EncodeToString(sum[:]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	names, err := seglog.OS{}.List(filepath.Join(dir, trail.LogDir))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestABackupGoesOnFromWhereItWas(t *testing.T) {
	h := newHome(t, "a.example")
	dir := filepath.Join(t.TempDir(), "below", "backup")
	var before []*trail.Checkpoint
	var copied int64
	for i, n := range []int{40, 0, 1, 25, 60, 3} {
		c := h.record(100*i, n)
		times := map[string]any{}
		old, _ := seglog.OS{}.List(filepath.Join(dir, trail.LogDir))
		for _, name := range old {
			info, err := os.Stat(filepath.Join(dir, trail.LogDir, name))
			if err != nil {
				t.Fatal(err)
			}
			times[name] = info.ModTime()
		}
		r := h.backUp(dir)
		if r.Checkpoint.Size != c.Size || !r.Key {
			t.Fatalf("%+v, want %d entries", r, c.Size)
		}
		copied += r.Bytes
		h.good(dir, c.Size, before...)
		before = append(before, c)
		var size int64
		for k, name := range segments(t, h.dir) {
			want, err := os.ReadFile(filepath.Join(h.dir, trail.LogDir, name))
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(dir, trail.LogDir, name))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s differs: %d and %d bytes, %v", name, len(got), len(want), err)
			}
			size += int64(len(want))
			info, err := os.Stat(filepath.Join(dir, trail.LogDir, name))
			if err != nil {
				t.Fatal(err)
			}
			if k < len(old)-1 && times[name] != info.ModTime() {
				t.Errorf("%s was finished, and was written to again", name)
			}
		}
		if copied != size {
			t.Errorf("%d bytes were written for a log of %d", copied, size)
		}
	}
	if len(segments(t, dir)) < 5 {
		t.Errorf("only the segments %v", segments(t, dir))
	}
	for _, name := range []string{datadir.KeyFile, trail.VKeyFile, "tokens.json", "admin.token", datadir.BackupFile, trail.TipFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for _, name := range []string{datadir.IndexFile, tree.Dir, "offsets"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is derived, and was copied", name)
		}
	}
}

func TestABackupOfALedgerInUseIsOfOneHistory(t *testing.T) {
	h := newHome(t, "a.example")
	r := h.open().add(0, 30)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 100; ctx.Err() == nil; i++ {
			if _, _, err := r.ledger.Append(context.Background(), storetest.By, []*event.Event{storetest.Event(i)}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	dir := filepath.Join(t.TempDir(), "backup")
	var before []*trail.Checkpoint
	for range 8 {
		at := r.ledger.State().Size()
		done := h.backUp(dir)
		if done.Checkpoint.Size < at {
			t.Errorf("a backup of %d entries, %d were acknowledged before it began", done.Checkpoint.Size, at)
		}
		h.good(dir, done.Checkpoint.Size, before...)
		before = append(before, done.Checkpoint)
	}
	cancel()
	<-ended
	last := r.close()
	h.good(h.dir, last.Size, before...)
	if before[0].Size == before[len(before)-1].Size {
		t.Error("nobody wrote meanwhile")
	}
}

// A pool that nobody was told of may vanish with the power, and another may
// come in its place. The backup of a running ledger must not have it.
func TestABackupOfALedgerInUseEndsAtItsTip(t *testing.T) {
	h := newHome(t, "a.example")
	c := h.record(0, 9)
	tip, err := os.ReadFile(filepath.Join(h.dir, trail.TipFile))
	if err != nil {
		t.Fatal(err)
	}
	longer := h.record(20, 9)
	if err := os.WriteFile(filepath.Join(h.dir, trail.TipFile), tip, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := seglog.Lock(filepath.Join(h.dir, trail.LockFile))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	if r := h.backUp(dir); r.Checkpoint.Size != c.Size {
		t.Errorf("in use: %d entries, the tip is of %d", r.Checkpoint.Size, c.Size)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if r := h.backUp(dir); r.Checkpoint.Size != longer.Size {
		t.Errorf("at rest: %d entries, there are %d", r.Checkpoint.Size, longer.Size)
	}
	h.good(dir, longer.Size, c)
}

// flip changes a byte of a file; negative counts from the end.
func flip(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0x10
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestASourceThatDoesNotExtendTheBackupIsRefused(t *testing.T) {
	h := newHome(t, "a.example")
	h.record(0, 20)
	early := copyDir(t, h.dir)
	h.record(100, 20)
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	later := h.record(200, 40)
	other := newHome(t, "b.example")
	other.record(0, 90)
	sameName := newHome(t, "a.example")
	sameName.record(0, 90)
	fork := h.at(copyDir(t, early))
	fork.record(500, 20)
	longFork := h.at(copyDir(t, early))
	longFork.record(500, 90)
	last := func(d string) string {
		names := segments(t, d)
		return filepath.Join(d, trail.LogDir, names[len(names)-1])
	}
	for name, tt := range map[string]struct {
		dir  string
		harm func(d string)
		says string
	}{
		"rolled back":                  {early, nil, "was rolled back"},
		"forked, as long":              {fork.dir, nil, "another history"},
		"forked, longer":               {longFork.dir, nil, "another history"},
		"another ledger":               {other.dir, nil, "the backup is of the ledger a.example"},
		"another of the same name":     {sameName.dir, nil, "the backup is of the ledger a.example"},
		"a changed entry":              {h.dir, func(d string) { flip(t, last(d), 200) }, "damaged"},
		"a damaged header":             {h.dir, func(d string) { flip(t, last(d), 2) }, "damaged"},
		"a cut end":                    {h.dir, func(d string) { os.Truncate(last(d), 30) }, "its tip knows of"},
		"a missing segment":            {h.dir, func(d string) { os.Remove(last(d)) }, "its tip knows of"},
		"a missing segment in between": {h.dir, func(d string) { n := segments(t, d); os.Remove(filepath.Join(d, trail.LogDir, n[len(n)-2])) }, "missing"},
		"no tip":                       {h.dir, func(d string) { os.Remove(filepath.Join(d, trail.TipFile)) }, "has no tip record"},
		"a tip of another ledger":      {h.dir, func(d string) { copyTo(t, filepath.Join(other.dir, trail.TipFile), filepath.Join(d, trail.TipFile)) }, "of another ledger"},
		"its checkpoint is not there": {h.dir, func(d string) {
			flip(t, filepath.Join(d, trail.LogDir, filepath.Base(last(dir))), size(t, last(dir))-10)
		}, "BACKUP/tip"},
		"a segment of the fork instead": {h.dir, func(d string) { copyTo(t, last(longFork.dir), last(d)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			src := copyDir(t, tt.dir)
			if tt.harm != nil {
				tt.harm(src)
			}
			target := copyDir(t, dir)
			before := image(t, target)
			_, err := backup.Run(t.Context(), backup.Options{Source: src, Dir: target})
			if !errors.Is(err, backup.ErrRefused) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %v, want %q", err, tt.says)
			}
			if after := image(t, target); after != before {
				t.Errorf("the backup was changed:\n%s\n%s", before, after)
			}
		})
	}
	if r := h.backUp(dir); r.Checkpoint.Size != later.Size {
		t.Errorf("%d entries, want %d", r.Checkpoint.Size, later.Size)
	}
}

func size(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size())
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What was changed so that every checksum is right again is found, too.
func TestEntriesThatWereMadeAnewAreNotBackedUp(t *testing.T) {
	h := newHome(t, "a.example")
	h.record(0, 8)
	path := filepath.Join(h.dir, trail.LogDir, seglog.SegmentName(0))
	for name, harm := range map[string]func(r *trail.Record) bool{
		"an entry":     func(r *trail.Record) bool { r.Entry[20] ^= 1; return r.Index == 4 },
		"details":      func(r *trail.Record) bool { r.Erasable[len(r.Erasable)-3] ^= 1; return r.Index == 4 },
		"no details":   func(r *trail.Record) bool { r.Erasable = nil; return r.Index == 4 },
		"a chain hash": func(r *trail.Record) bool { r.Chain[3] ^= 1; return r.Index == 4 },
		"an index":     func(r *trail.Record) bool { r.Index++; return r.Index == 5 },
	} {
		src := copyDir(t, h.dir)
		rewrite(t, path, filepath.Join(src, trail.LogDir, seglog.SegmentName(0)), func(body []byte) []byte {
			r, err := trail.ParseFrame(bytes.Clone(body))
			if err != nil || !harm(&r) {
				return body
			}
			return r.AppendFrame(nil)
		})
		dir := filepath.Join(t.TempDir(), "backup")
		_, err := backup.Run(t.Context(), backup.Options{Source: src, Dir: dir})
		if !errors.Is(err, backup.ErrRefused) || !strings.Contains(err.Error(), "entry 4") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A checkpoint by nobody's key.
	src := copyDir(t, h.dir)
	skey, _, err := note.GenerateKey(rand.Reader, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, filepath.Join(src, trail.LogDir, seglog.SegmentName(0)), func(body []byte) []byte {
		if body[0] != trail.FrameCheckpoint {
			return body
		}
		c, err := trail.ReadCheckpoint(body[1:])
		if err != nil {
			t.Fatal(err)
		}
		if c, err = trail.SignCheckpoint(c.Origin, c.Size, c.Root, signer); err != nil {
			t.Fatal(err)
		}
		return append([]byte{trail.FrameCheckpoint}, c.Note...)
	})
	if _, err := backup.Run(t.Context(), backup.Options{Source: src, Dir: filepath.Join(t.TempDir(), "backup")}); !errors.Is(err, backup.ErrRefused) {
		t.Errorf("checkpoints by another key: %v", err)
	}
}

// rewrite writes a segment's frames anew.
func rewrite(t *testing.T, from, to string, change func(body []byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	out := seglog.Header(0)
	r := seglog.NewReader(bytes.NewReader(data), 0, seglog.FirstOffset)
	for {
		frames, err := r.Next(make([]byte, 1<<20))
		if err != nil {
			break
		}
		for _, f := range frames {
			out = seglog.AppendFrame(out, func(dst []byte) []byte { return append(dst, change(f.Body)...) })
		}
	}
	if err := os.WriteFile(to, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestABackupGoesNowhereElse(t *testing.T) {
	h := newHome(t, "a.example")
	h.record(0, 5)
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(h.dir, link); err != nil {
		t.Fatal(err)
	}
	live := newHome(t, "b.example")
	live.record(0, 3)
	taken := filepath.Join(t.TempDir(), "taken")
	h.backUp(taken)
	lock, err := seglog.Lock(filepath.Join(taken, trail.LockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for name, tt := range map[string]struct{ source, dir, says string }{
		"a directory with something else": {h.dir, full, "holds letter"},
		"a data directory":                {h.dir, live.dir, "it is no backup"},
		"the data directory itself":       {h.dir, h.dir, "one within the other"},
		"below the data directory":        {h.dir, filepath.Join(h.dir, "x", "y"), "one within the other"},
		"above the data directory":        {h.dir, filepath.Dir(h.dir), "one within the other"},
		"by a link":                       {link, filepath.Join(h.dir, "x"), "one within the other"},
		"one that is being written":       {h.dir, taken, "another process has this directory open"},
		"of nothing":                      {t.TempDir(), filepath.Join(t.TempDir(), "b"), "not the data directory of a ledger"},
	} {
		around := filepath.Dir(tt.dir)
		before := image(t, around)
		if _, err := backup.Run(t.Context(), backup.Options{Source: tt.source, Dir: tt.dir}); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		if image(t, around) != before {
			t.Errorf("%s: something was changed", name)
		}
	}
}

func TestABackupWithoutTheKeyHasNoSecrets(t *testing.T) {
	h := newHome(t, "a.example")
	c := h.record(0, 5)
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir) // with it
	config := filepath.Join(t.TempDir(), "graven.yaml")
	if err := os.WriteFile(config, []byte("listen: 127.0.0.1:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := backup.Run(t.Context(), backup.Options{Source: h.dir, Dir: dir, WithoutKey: true, Config: config})
	if err != nil || r.Key {
		t.Fatalf("%+v, %v", r, err)
	}
	h.good(dir, c.Size)
	for name, want := range map[string]bool{datadir.KeyFile: false, "admin.token": false, "tokens.json": true, trail.VKeyFile: true, backup.ConfigFile: true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := backup.Run(t.Context(), backup.Options{Source: dir, Dir: filepath.Join(t.TempDir(), "b")}); err == nil || !strings.Contains(err.Error(), "--without-key") {
		t.Errorf("the key of a backup without one: %v", err)
	}
	other := newHome(t, "b.example")
	copyTo(t, filepath.Join(other.dir, datadir.KeyFile), filepath.Join(h.dir, datadir.KeyFile))
	if _, err := backup.Run(t.Context(), backup.Options{Source: h.dir, Dir: filepath.Join(t.TempDir(), "b")}); err == nil || !strings.Contains(err.Error(), "not the key of the ledger a.example") {
		t.Errorf("another's key: %v", err)
	}
	// A backup can be backed up.
	again := filepath.Join(t.TempDir(), "again")
	if _, err := backup.Run(t.Context(), backup.Options{Source: dir, Dir: again, WithoutKey: true}); err != nil {
		t.Fatal(err)
	}
	h.good(again, c.Size)
	if !slices.Equal(segments(t, again), segments(t, dir)) {
		t.Error("other segments")
	}
}
