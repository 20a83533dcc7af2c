package backup_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// found founds a successor, as the app does.
func (h *home) found(origin string) func(string, *succession.Predecessor) error {
	return func(dir string, p *succession.Predecessor) error {
		keys, err := keyring.Create(dir, origin)
		if err != nil {
			return err
		}
		store, err := filestore.Open(dir, filestore.Options{Verifier: keys.Verifier, Unfinished: true})
		if err != nil {
			return err
		}
		l, err := ledger.Open(h.t.Context(), ledger.Config{Store: store, Signer: keys.Signer, VerifierKey: keys.VerifierKey, Version: "test", Predecessor: p})
		if err != nil {
			return err
		}
		l.Close()
		return store.Close()
	}
}

func TestALedgerGoesOnOnlyIfNothingNewerWasSigned(t *testing.T) {
	h := newHome(t, "a.example")
	old := h.record(0, 10)
	early := copyDir(t, h.dir)
	c := h.record(100, 10)
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	newer := h.record(200, 7)
	fork := h.at(copyDir(t, early)).record(500, 4)
	longFork := h.at(copyDir(t, early)).record(500, 60)
	atFork := h.at(copyDir(t, early)).record(500, 10)
	other := newHome(t, "b.example").record(0, 20)
	for name, tt := range map[string]struct {
		tips []backup.Tip
		says string // "" means that it is restored
	}{
		"no tip at all":                    {nil, "nothing shows that the backup's 21 entries are all"},
		"the newest tip":                   {[]backup.Tip{{Note: c.Note, From: "x"}}, ""},
		"the newest, and an older":         {[]backup.Tip{{Note: old.Note, From: "y"}, {Note: c.Note, From: "x"}}, ""},
		"only an older one":                {[]backup.Tip{{Note: old.Note, From: "y"}}, "the newest tip, y, knows of 11"},
		"one beyond the backup":            {[]backup.Tip{{Note: c.Note, From: "x"}, {Note: newer.Note, From: "y"}}, "the backup has 21 entries, and y knows of 28"},
		"only what was seen by chance":     {[]backup.Tip{{Note: c.Note, From: "m", Remembered: true}}, "nothing shows"},
		"what was seen by chance is newer": {[]backup.Tip{{Note: c.Note, From: "x"}, {Note: newer.Note, From: "m", Remembered: true}}, "m knows of 28"},
		"a fork, shorter":                  {[]backup.Tip{{Note: c.Note, From: "x"}, {Note: fork.Note, From: "y"}}, "another root at 15 entries than y"},
		"a fork, as long":                  {[]backup.Tip{{Note: atFork.Note, From: "y"}}, "another root at 21 entries than y"},
		"a fork, longer":                   {[]backup.Tip{{Note: longFork.Note, From: "y"}}, "y knows of 71"},
		"a fork that was seen by chance":   {[]backup.Tip{{Note: c.Note, From: "x"}, {Note: fork.Note, From: "m", Remembered: true}}, "another root at 15 entries than m"},
		"another ledger's":                 {[]backup.Tip{{Note: other.Note, From: "y"}}, "y does not hold a checkpoint of the ledger a.example"},
		"something that is none":           {[]backup.Tip{{Note: []byte("nonsense"), From: "y"}}, "y does not hold a checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "new")
			_, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Tips: tt.tips})
			if tt.says != "" {
				if !errors.Is(err, backup.ErrRefused) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("it says %v, want %q", err, tt.says)
				}
				if left := image(t, to); left != "" {
					t.Errorf("left %s", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			on := h.at(to).record(300, 5)
			h.good(to, on.Size, c, old)
			if on.Size != c.Size+5 {
				t.Errorf("%d entries, want %d", on.Size, c.Size+5)
			}
		})
	}
}

// TestAServerThatWasKilledIsRestoredByItsOwnDirectory: its log may end with a
// pool of which its tip does not tell yet.
func TestAServerThatWasKilledIsRestoredByItsOwnDirectory(t *testing.T) {
	h := newHome(t, "a.example/1")
	older := h.record(0, 10)
	h.record(10, 5)
	if err := os.WriteFile(filepath.Join(h.dir, trail.TipFile), append(bytes.Clone(older.Note), make([]byte, trail.TipSize-len(older.Note))...), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	tip := backup.Tip{Note: older.Note, From: "the old tip"}
	restore := func() error {
		_, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: filepath.Join(t.TempDir(), "new"), Tips: []backup.Tip{tip}})
		return err
	}
	if err := restore(); !errors.Is(err, backup.ErrRefused) {
		t.Errorf("an older tip alone: %v", err)
	}
	tip.Dir = h.dir
	if err := restore(); err != nil {
		t.Errorf("with its directory: %v", err)
	}
	h.record(15, 3)
	if err := restore(); !errors.Is(err, backup.ErrRefused) {
		t.Errorf("when it has gone on: %v", err)
	}
}

func TestADamagedBackupIsNotRestored(t *testing.T) {
	h := newHome(t, "a.example")
	h.record(0, 10)
	c := h.record(100, 10)
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	other := newHome(t, "b.example")
	other.record(0, 1)
	full := newHome(t, "c.example")
	log := func(d string, n int) string { return filepath.Join(d, trail.LogDir, segments(t, d)[n]) }
	for name, tt := range map[string]struct {
		harm func(d string)
		to   string
		key  []note.Verifier
		says string
	}{
		"a changed byte":            {func(d string) { flip(t, log(d, 0), 700) }, "", nil, "damaged"},
		"a changed byte at the end": {func(d string) { flip(t, log(d, len(segments(t, d))-1), -20) }, "", nil, "damaged"},
		"a missing segment":         {func(d string) { os.Remove(log(d, 1)) }, "", nil, "missing"},
		"a changed manifest":        {func(d string) { flip(t, filepath.Join(d, datadir.BackupFile), 400) }, "", nil, "manifest"},
		"no signing key":            {func(d string) { os.Remove(filepath.Join(d, datadir.KeyFile)) }, "", nil, "has no signing key"},
		"another's signing key": {func(d string) {
			copyTo(t, filepath.Join(other.dir, datadir.KeyFile), filepath.Join(d, datadir.KeyFile))
		}, "", nil, "is not the key of the ledger a.example"},
		"another key from outside":    {nil, "", []note.Verifier{other.keys.Verifier}, "not b.example"},
		"where something is":          {nil, full.dir, nil, "take an empty directory"},
		"a backup of a backup is one": {func(d string) { os.Remove(filepath.Join(d, datadir.BackupFile)) }, "", nil, ""},
	} {
		src := copyDir(t, dir)
		if tt.harm != nil {
			tt.harm(src)
		}
		to := tt.to
		if to == "" {
			to = filepath.Join(t.TempDir(), "new")
		}
		before := image(t, to)
		_, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: src, Dir: to, Keys: tt.key, Tips: []backup.Tip{{Note: c.Note, From: "x"}}})
		if tt.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: it says %v, want %q", name, err, tt.says)
		}
		if image(t, to) != before {
			t.Errorf("%s: something was left", name)
		}
	}
}

func TestASuccessorNamesWhatWasLost(t *testing.T) {
	h := newHome(t, "a.example")
	c := h.record(0, 10)
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	newer := h.record(100, 4)
	for name, tt := range map[string]struct {
		tips []backup.Tip
		lost string
	}{
		"nobody knows":       {nil, "what stood after entry 10, if anything, is lost"},
		"an older tip":       {[]backup.Tip{{Note: c.Note, From: "m", Remembered: true}}, "what stood after entry 10, if anything, is lost"},
		"a newer tip":        {[]backup.Tip{{Note: newer.Note, From: "x"}}, "entries 11 to 14 are lost"},
		"the tip as it is":   {[]backup.Tip{{Note: c.Note, From: "x"}}, "nothing that is known of is lost"},
		"one seen by chance": {[]backup.Tip{{Note: newer.Note, From: "m", Remembered: true}}, "entries 11 to 14 are lost"},
	} {
		to := filepath.Join(t.TempDir(), "new")
		r, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Tips: tt.tips, Found: h.found("a.example/2")})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p := r.Predecessor; p.Lost.String() != tt.lost || p.Size != c.Size || p.Root != c.Root || p.Origin != "a.example" || p.Key != h.keys.VerifierKey {
			t.Errorf("%s: %+v, %s", name, p, p.Lost)
		}
		rep := verified(t, to)
		if !rep.OK() || !strings.Contains(strings.Join(rep.Notes, "\n"), tt.lost) || !strings.Contains(strings.Join(rep.Notes, "\n"), "predecessor is that ledger: 11 entries") {
			t.Errorf("%s: %+v", name, rep)
		}
		for _, below := range []string{datadir.KeyFile, "admin.token"} {
			if _, err := os.Stat(filepath.Join(to, succession.Dir, below)); err == nil {
				t.Errorf("%s: the predecessor could be signed on: it has %s", name, below)
			}
		}
		if _, err := filestore.Open(filepath.Join(to, succession.Dir), filestore.Options{Verifier: h.keys.Verifier}); err == nil || !strings.Contains(err.Error(), "it is a backup") {
			t.Errorf("%s: the predecessor is opened to be written: %v", name, err)
		}
		s, err := filestore.Open(filepath.Join(to, succession.Dir), filestore.Options{Verifier: h.keys.Verifier, ReadOnly: true})
		if err != nil {
			t.Fatalf("%s: the predecessor cannot be read: %v", name, err)
		}
		if rec, err := s.Record(t.Context(), 7); err != nil || rec.Index != 7 || s.Head().Checkpoint.Size != c.Size {
			t.Errorf("%s: entry 7 of the predecessor: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// verified verifies a directory and the link to its predecessor.
func verified(t *testing.T, dir string) *verify.Report {
	t.Helper()
	r, err := filestore.Verify(t.Context(), dir, verify.Options{})
	if err == nil {
		err = backup.VerifyPredecessor(t.Context(), dir, verify.Options{}, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestThePredecessorIsTheOneThatIsNamed(t *testing.T) {
	h := newHome(t, "a.example")
	h.record(0, 10)
	early := copyDir(t, h.dir)
	h.record(100, 3)
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	to := filepath.Join(t.TempDir(), "new")
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Found: h.found("a.example/2")}); err != nil {
		t.Fatal(err)
	}
	fork := h.at(copyDir(t, early))
	fork.record(500, 3)
	other := newHome(t, "b.example")
	other.record(0, 13)
	h.record(200, 2)
	for name, tt := range map[string]struct {
		instead, says string
		harm          func(d string)
	}{
		"an older copy":       {early, "rolled back", nil},
		"a fork":              {fork.dir, "forked", nil},
		"a longer one":        {h.dir, "has 16 entries, and the first entry here names 14", nil},
		"another ledger":      {other.dir, "wrong key", nil},
		"a changed entry":     {dir, "entry 0 of the predecessor", func(d string) { flip(t, filepath.Join(d, trail.LogDir, segments(t, d)[0]), 100) }},
		"itself":              {dir, "", nil},
		"none, which is open": {"", "", nil},
		"one not copied yet": {dir, "", func(d string) {
			text := `{"v":1,"origin":"a.example","key":"","size":0,"segment":0,"offset":0,"chain":"` + trail.Hash{}.String() + `","edge":[]}`
			if err := os.WriteFile(filepath.Join(d, datadir.BackupFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		d := copyDir(t, to)
		below := filepath.Join(d, succession.Dir)
		if err := os.RemoveAll(below); err != nil {
			t.Fatal(err)
		}
		if tt.instead != "" {
			if err := os.CopyFS(below, os.DirFS(tt.instead)); err != nil {
				t.Fatal(err)
			}
		}
		if tt.harm != nil {
			tt.harm(below)
		}
		r := verified(t, d)
		var all []string
		for _, f := range r.Findings {
			all = append(all, string(f.Kind)+": "+f.Message+" "+f.Where)
		}
		if text := strings.Join(all, "\n"); (tt.says == "") != r.OK() || !strings.Contains(text, tt.says) {
			t.Errorf("%s: found %q, want %q", name, text, tt.says)
		}
		if tt.instead == "" && !strings.Contains(strings.Join(r.Unproven, "\n"), "the predecessor is not kept") {
			t.Errorf("%s: %v", name, r.Unproven)
		}
		if name == "one not copied yet" && !strings.Contains(strings.Join(r.Unproven, "\n"), "never finished") {
			t.Errorf("%s: %v", name, r.Unproven)
		}
	}
}

// A successor's backup holds its predecessors, and so does what is restored of it.
func TestPredecessorsAreBackedUpWithTheirSuccessors(t *testing.T) {
	h := newHome(t, "a.example")
	h.record(0, 4)
	dir := filepath.Join(t.TempDir(), "backup")
	h.backUp(dir)
	for _, origin := range []string{"a.example/2", "a.example/3"} {
		to := filepath.Join(t.TempDir(), "new")
		if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Found: h.found(origin)}); err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(t.TempDir(), "backup")
		if _, err := backup.Run(t.Context(), backup.Options{Source: to, Dir: dir}); err != nil {
			t.Fatal(err)
		}
	}
	tip, err := os.ReadFile(filepath.Join(dir, trail.TipFile))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "new")
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Tips: []backup.Tip{{Note: []byte(strings.TrimRight(string(tip), "\x00")), From: "x"}}}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, to} {
		r := verified(t, d)
		notes := strings.Join(r.Notes, "\n")
		if !r.OK() || !strings.Contains(notes, "it succeeds the ledger a.example/2") {
			t.Errorf("%s: %v %v", d, r.Findings, r.Notes)
		}
		flip(t, filepath.Join(d, succession.Dir, succession.Dir, trail.LogDir, segments(t, filepath.Join(d, succession.Dir, succession.Dir))[0]), 300)
		if r := verified(t, d); r.OK() || !strings.HasPrefix(r.Findings[0].Where, "predecessor/predecessor/") {
			t.Errorf("%s: a changed predecessor of the predecessor: %v", d, r.Findings)
		}
	}
}

// golden are the SHA-256 of the files of backups by released versions, which
// stay as they are for ever. The ledger in them is that of verify's tests.
var golden = map[string]string{
	"testdata/v1/backup.json":                  "f49d8dfb05039aaa8f58fb1d9231c21acb89ec906a532cd2738b019260ff0ff6",
	"testdata/v1/tip":                          "1417078b31b7b40813a5686484575eefdab1ee02f3a7d79d3987113b912e159e",
	"testdata/v1/keys/ledger.vkey":             "7e4db74339475063ffb88fa00e17b8b3517d5ed993cc50471524a021c9bbfe90",
	"testdata/v1/log/00000000000000000000.seg": "16c3b38f53f06cb9e6b73bceb7867c7201d19e299b24fdfdbf5b4cb4d41bd1f2",
	"testdata/v1/log/00000000000000000004.seg": "90a9e2006b56b0f0d6f84da1a4b0ba4a42e400ed507874a05709776cd642d51f",
}

func TestBackupsOfEarlierVersionsAreGood(t *testing.T) {
	found := map[string]string{}
	for line := range strings.Lines(image(t, "testdata")) {
		path, sum, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.Contains(path, "fuzz") {
			found[filepath.ToSlash(path)] = sum
		}
	}
	if !maps.Equal(found, golden) {
		t.Errorf("found %v\nwant  %v", found, golden)
	}
	dir := copyDir(t, filepath.Join("testdata", "v1"))
	to := filepath.Join(t.TempDir(), "new")
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Found: newHome(t, "x").found("a.example/2")}); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, to); !r.OK() || !strings.Contains(strings.Join(r.Notes, "\n"), "predecessor is that ledger: 10 entries") {
		t.Errorf("%+v", r)
	}
	r, err := backup.Run(t.Context(), backup.Options{Source: filepath.Join("..", "..", "verify", "testdata", "v1", "ledger"), Dir: dir, WithoutKey: true})
	if err != nil || r.Before != 10 || r.Bytes != 0 {
		t.Errorf("the ledger that it is of: %+v, %v", r, err)
	}
}

// TestASuccessorKeepsAPredecessorWhoseEntriesWereErased restores a backup of the
// golden ledger in which entries and content were erased.
func TestASuccessorKeepsAPredecessorWhoseEntriesWereErased(t *testing.T) {
	dir, to := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "new")
	r, err := backup.Run(t.Context(), backup.Options{Source: filepath.Join("..", "..", "verify", "testdata", "v2", "ledger"), Dir: dir, WithoutKey: true})
	if err != nil || r.Before != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: dir, Dir: to, Found: newHome(t, "x").found("a.example/2")}); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, to); !r.OK() || !strings.Contains(strings.Join(r.Notes, "\n"), "predecessor is that ledger: 277 entries") {
		t.Errorf("%+v", r)
	}
}
