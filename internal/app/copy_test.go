package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/internal/transfer"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A kept is a ledger in a directory.
type kept struct {
	t    *testing.T
	dir  string
	keys *keyring.Keys
	now  time.Time
}

// keep makes a ledger of n events and some, in pools of three, in a directory
// with small files of the log, from the beginning of 2025 on.
func keep(t *testing.T, origin string, n int) *kept {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	keys, err := keyring.Create(dir, origin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens.json"), []byte("[]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &kept{t, dir, keys, time.Date(2025, 1, 30, 12, 0, 0, 0, time.UTC)}
	k.add(0, n)
	if err := keyring.MarkUsed(dir); err != nil {
		t.Fatal(err)
	}
	return k
}

// add records events, six hours between one pool and the next.
func (k *kept) add(first, n int) {
	k.t.Helper()
	s, err := filestore.Open(k.dir, filestore.Options{Verifier: k.keys.Verifier, SegmentSize: 8 << 10})
	if err != nil {
		k.t.Fatal(err)
	}
	k.record(s, first, n)
	if err := s.Close(); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) record(s ledger.Store, first, n int) {
	k.t.Helper()
	l, err := ledger.Open(k.t.Context(), ledger.Config{Store: s, Signer: k.keys.Signer, VerifierKey: k.keys.VerifierKey, Version: "test",
		Now: func() time.Time { return k.now }})
	if err != nil {
		k.t.Fatal(err)
	}
	defer l.Close()
	for i := first; i < first+n; i += 3 {
		k.now = k.now.Add(6 * time.Hour)
		var events []*event.Event
		for j := i; j < min(i+3, first+n); j++ {
			e := storetest.Event(j)
			e.Timestamp = k.now.Add(-time.Second)
			events = append(events, e)
		}
		results, _, err := l.Append(k.t.Context(), storetest.By, events)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			k.t.Fatal(err)
		}
	}
}

// tables makes a database with the schema, and returns its name.
func tables(t *testing.T, server *testenv.Postgres) string {
	t.Helper()
	if server.SQL("postgres", "SELECT 1 FROM pg_database WHERE datname = 'empty'") == "" {
		server.SQL("postgres", "CREATE DATABASE empty; CREATE ROLE app LOGIN")
		if _, _, err := postgres.Migrate(t.Context(), server.DSN("empty", "postgres")); err != nil {
			t.Fatal(err)
		}
		server.SQL("empty", "GRANT graven_writer TO app")
	}
	return like(server, "empty")
}

// like makes a database that is as another is, and returns its name.
func like(server *testenv.Postgres, other string) string {
	name := server.Database()
	server.SQL("postgres", fmt.Sprintf("DROP DATABASE %[1]s; CREATE DATABASE %[1]s TEMPLATE %[2]s", name, other))
	return name
}

// whole returns every byte of a ledger that a copy must have.
func whole(t *testing.T, key note.Verifier, target string) string {
	t.Helper()
	var src interface {
		transfer.Source
		Close() error
	}
	if app.IsDatabase(target) {
		s, err := postgres.Open(t.Context(), target, postgres.Options{Verifier: key, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		src = sized{s}
	} else {
		r, err := backup.Open(target, false)
		if err != nil {
			t.Fatal(err)
		}
		src = r
	}
	defer src.Close()
	var b strings.Builder
	err := src.Read(t.Context(), 0, src.Size(), func(r *trail.Record) error {
		fmt.Fprintf(&b, "%d %s %s %v %q %x %q\n", r.Index, r.Chain, r.LeafHash(), r.Leaf != nil, r.Entry, r.Salt, r.Erasable)
		return nil
	}, func(text []byte) error {
		fmt.Fprintf(&b, "%q\n", text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type sized struct{ *postgres.Store }

func (s sized) Size() int64 { return s.Seen().Size }

// good demands that a copy verifies under a key.
func good(t *testing.T, key note.Verifier, target string) {
	t.Helper()
	report, err := app.VerifyStore(t.Context(), target, verify.Options{Keys: []note.Verifier{key}, EverySignature: true})
	if err != nil || !report.OK() || !report.Authenticated {
		t.Fatalf("%s: %+v, %v", target, report, err)
	}
}

func copied(t *testing.T, c app.Copy) *app.Copied {
	t.Helper()
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestALedgerIsCopiedAsItIsBetweenAllPlaces(t *testing.T) {
	server := testenv.StartPostgres(t)
	k := keep(t, "copy.example/a", 600)
	want := whole(t, k.keys.Verifier, k.dir)
	dir := func() string { return filepath.Join(t.TempDir(), "new") }
	database := func() string { return server.DSN(tables(t, server), "app") }
	last := k.dir
	for _, to := range []string{database(), database(), dir(), dir()} {
		r := copied(t, app.Copy{From: last, To: to, SegmentSize: 1 << 16})
		if got := whole(t, k.keys.Verifier, to); got != want {
			t.Fatalf("the copy from %s to %s is another", last, to)
		}
		good(t, k.keys.Verifier, to)
		if r.Before != 0 || r.Checkpoints != 201 || r.Grown != 0 || r.Moved {
			t.Errorf("%+v", r)
		}
		again := copied(t, app.Copy{From: last, To: to})
		if again.Before != r.Checkpoint.Size || again.Checkpoints != 0 {
			t.Errorf("once more: %+v", again)
		}
		last = to
	}
	months := server.SQL("test1", "SELECT string_agg(recorded_month::text, ' ' ORDER BY recorded_month) FROM (SELECT DISTINCT recorded_month FROM graven.audit_events) m")
	if months != "2025-01-01 2025-02-01 2025-03-01" {
		t.Errorf("entries stand in the months %s", months)
	}
	k.add(600, 30)
	r := copied(t, app.Copy{From: k.dir, To: server.DSN("test1", "app")})
	if r.Before != 601 || r.Checkpoints != 10 || whole(t, k.keys.Verifier, k.dir) != whole(t, k.keys.Verifier, server.DSN("test1", "app")) {
		t.Errorf("what is new: %+v", r)
	}
}

func TestAMovedLedgerGoesOnInOnePlace(t *testing.T) {
	dsn, _ := database(t)
	c := config(t)
	s := run(t, c)
	admin := token(t, c)
	record := func(s *server, n int) {
		t.Helper()
		if code, body := s.do(http.MethodPost, "/api/v1/audit/events", admin, strings.Replace(native, "issue-1", fmt.Sprint("issue-", n), 1)); code != http.StatusCreated {
			t.Fatalf("%d %s", code, body)
		}
	}
	refused := func(c app.Config, want string) {
		t.Helper()
		a, err := try(c)
		if err == nil {
			a.Stop(t.Context())
			t.Fatal("it started")
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, not %q", err, want)
		}
	}
	record(s, 1)
	r := copied(t, app.Copy{From: c.Data, To: dsn}) // while the server runs
	if r.Moved || !strings.Contains(r.String(), "--move") {
		t.Errorf("%v", r)
	}
	inDatabase := c
	inDatabase.Store = dsn
	refused(inDatabase, "it is a copy of the ledger in "+r.From)
	reads := inDatabase
	reads.ReadOnly = true
	look := run(t, reads)
	if code, body := look.do(http.MethodGet, "/api/v1/audit?type=IssueCreated", admin, ""); code != http.StatusOK || !strings.Contains(body, "issue-1") {
		t.Errorf("%d %s", code, body)
	}
	if err := look.halt(); err != nil {
		t.Error(err)
	}
	record(s, 2)
	if _, err := (&app.Copy{From: c.Data, To: dsn, Move: true}).Run(t.Context()); !errors.Is(err, seglog.ErrLocked) || !strings.Contains(err.Error(), "stop the server") {
		t.Errorf("moved from under a server: %v", err)
	}
	if err := s.halt(); err != nil {
		t.Fatal(err)
	}
	r = copied(t, app.Copy{From: c.Data, To: dsn, Move: true})
	if !r.Moved || r.Before == 0 || r.Checkpoints == 0 {
		t.Errorf("%+v", r)
	}
	refused(c, "its ledger was moved to postgres:")
	saved, restored := filepath.Join(t.TempDir(), "backup"), c
	restored.Data = filepath.Join(t.TempDir(), "restored")
	if _, err := backup.Run(t.Context(), backup.Options{Source: c.Data, Dir: saved}); err != nil {
		t.Fatal(err)
	}
	tip, err := backup.Newest(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: saved, Dir: restored.Data, Tips: []backup.Tip{{Note: tip, From: "the tip"}}}); err != nil {
		t.Fatal(err)
	}
	refused(restored, "its ledger was moved to postgres:")
	tips := app.Tips{Backup: saved, Given: []string{filepath.Join(c.Data, "tip")}, Warn: func(string) {}}
	if _, err := tips.Find(t.Context()); err == nil || !strings.Contains(err.Error(), "that of a copy") {
		t.Errorf("the tip of a ledger that was moved away: %v", err)
	}
	s = run(t, inDatabase)
	record(s, 3)
	if _, err := (&app.Copy{From: c.Data, To: dsn, Move: true}).Run(t.Context()); !errors.Is(err, transfer.ErrRefused) || !strings.Contains(err.Error(), "ahead") {
		t.Errorf("moved there twice: %v", err)
	}

	// Back into the directory, from under two servers.
	second := run(t, replica(t, inDatabase))
	record(second, 4)
	r = copied(t, app.Copy{From: dsn, To: c.Data, Move: true})
	if !r.Moved {
		t.Errorf("%+v", r)
	}
	for _, s := range []*server{s, second} {
		if code, body := s.do(http.MethodPost, "/api/v1/audit/events", admin, native); code == http.StatusCreated {
			t.Errorf("recorded where the ledger is no more: %s", body)
		}
		if err := s.halt(); err == nil || !strings.Contains(err.Error(), "moved to "+r.To) {
			t.Errorf("a server of a ledger that was moved away: %v", err)
		}
	}
	refused(inDatabase, "was moved to "+r.To)
	s = run(t, c)
	record(s, 5)
	if err := s.halt(); err != nil {
		t.Error(err)
	}
	key, err := keyring.Public(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	good(t, key.Verifier, c.Data)
	good(t, key.Verifier, dsn)
}

// errKilled is what a disk that died answers.
var errKilled = errors.New("killed")

// A dying file system takes so many writes, and then nothing.
type dying struct {
	seglog.OS
	left int
}

func (d *dying) Open(name string, flag int) (seglog.File, error) {
	f, err := d.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &dyingFile{f, d}, nil
}

type dyingFile struct {
	seglog.File
	d *dying
}

func (f *dyingFile) WriteAt(b []byte, at int64) (int, error) {
	if f.d.left--; f.d.left >= 0 {
		return f.File.WriteAt(b, at)
	}
	if f.d.left == -1 {
		f.File.WriteAt(b[:len(b)/2], at)
	}
	return 0, syscall.ENOSPC
}

func (d *dying) Rename(from, to string) error {
	if d.left < 0 {
		return errKilled
	}
	return d.OS.Rename(from, to)
}

func (d *dying) Remove(name string) error {
	if d.left < 0 {
		return errKilled
	}
	return d.OS.Remove(name)
}

func (f *dyingFile) Truncate(size int64) error {
	if f.d.left < 0 {
		return errKilled
	}
	return f.File.Truncate(size)
}

func TestACopyThatWasKilledGoesOn(t *testing.T) {
	server := testenv.StartPostgres(t)
	k := keep(t, "copy.example/a", 120)
	want := whole(t, k.keys.Verifier, k.dir)
	finish := func(t *testing.T, c app.Copy) {
		t.Helper()
		c.FS, c.Progress, c.Move = nil, nil, false
		copied(t, c)
		if got := whole(t, k.keys.Verifier, c.To); got != want {
			t.Fatal("the copy is another")
		}
		good(t, k.keys.Verifier, c.To)
	}
	t.Run("a disk that takes no more", func(t *testing.T) {
		died := 0
		for n := 0; ; n += 1 + n/3 {
			to := filepath.Join(t.TempDir(), "new")
			c := app.Copy{From: k.dir, To: to, FS: &dying{left: n}, SegmentSize: 8 << 10}
			if _, err := c.Run(t.Context()); err == nil {
				break
			}
			died++
			if err := os.CopyFS(filepath.Join(to, "keys"), os.DirFS(filepath.Join(k.dir, "keys"))); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			if a, err := try(app.Config{Data: to, Listen: "127.0.0.1:0"}); err == nil {
				a.Stop(t.Context())
				t.Fatalf("after %d writes a server records in half a copy", n)
			}
			finish(t, c)
		}
		if died < 10 {
			t.Errorf("it died %d times only", died)
		}
	})
	stopAt := func(ctx context.Context, at int64, then func()) (context.Context, func(done, total int64)) {
		ctx, cancel := context.WithCancel(ctx)
		return ctx, func(done, total int64) {
			if done >= at && ctx.Err() == nil {
				then()
				cancel()
			}
		}
	}
	for name, from := range map[string]string{"from a directory": k.dir, "from a database": func() string {
		dsn := server.DSN(tables(t, server), "app")
		copied(t, app.Copy{From: k.dir, To: dsn})
		return dsn
	}()} {
		for _, at := range []int64{1, 4, 61, 118} {
			t.Run(fmt.Sprintf("interrupted %s at entry %d", name, at), func(t *testing.T) {
				for _, to := range []string{filepath.Join(t.TempDir(), "new"), server.DSN(tables(t, server), "app")} {
					c := app.Copy{From: from, To: to}
					ctx, progress := stopAt(t.Context(), at, func() {})
					c.Progress = progress
					if _, err := c.Run(ctx); !errors.Is(err, context.Canceled) {
						t.Fatalf("%v", err)
					}
					finish(t, c)
				}
			})
		}
	}
	t.Run("the database is killed", func(t *testing.T) {
		for _, at := range []int64{1, 61} {
			dsn := server.DSN(tables(t, server), "app")
			c := app.Copy{From: k.dir, To: dsn}
			killed := false
			c.Progress = func(done, _ int64) {
				if done >= at && !killed {
					killed = true
					server.Kill()
				}
			}
			if _, err := c.Run(t.Context()); !errors.Is(err, ledger.ErrAway) {
				t.Fatalf("%v", err)
			}
			server.Start()
			if _, err := postgres.Open(t.Context(), dsn, postgres.Options{Verifier: k.keys.Verifier}); err == nil || !strings.Contains(err.Error(), "it is a copy") {
				t.Errorf("half a copy: %v", err)
			}
			finish(t, c)
		}
	})
}

func TestAMoveThatWasKilledNeverLeavesTwoThatGoOn(t *testing.T) {
	k := keep(t, "copy.example/a", 12)
	want := whole(t, k.keys.Verifier, k.dir)
	neither := 0
	for n := 0; ; n++ {
		from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
		if err := os.CopyFS(from, os.DirFS(k.dir)); err != nil {
			t.Fatal(err)
		}
		_, err := (&app.Copy{From: from, To: to, Move: true, FS: &dying{left: n}}).Run(t.Context())
		here, there := datadir.CheckHere(from) == nil, datadir.CheckHere(to) == nil
		if size, _ := backup.Newest(to); here && there && size != nil {
			t.Fatalf("after %d writes the ledger goes on in both places", n)
		}
		if err == nil {
			if here || !there {
				t.Errorf("moved, and it goes on: there %v, here %v", there, here)
			}
			break
		}
		if !here && !there {
			neither++
			if !strings.Contains(err.Error(), "run this again") {
				t.Errorf("%v", err)
			}
		}
		if r := copied(t, app.Copy{From: from, To: to, Move: true}); !r.Moved || whole(t, k.keys.Verifier, to) != want {
			t.Fatalf("after %d writes, once more: %+v", n, r)
		}
	}
	if neither == 0 {
		t.Error("it was never killed between the two marks")
	}
}

func TestADamagedSourceIsRefused(t *testing.T) {
	server := testenv.StartPostgres(t)
	k := keep(t, "copy.example/a", 90)
	segments, err := filepath.Glob(filepath.Join(k.dir, "log", "*.seg"))
	if err != nil || len(segments) < 3 {
		t.Fatal(segments, err)
	}
	refused := func(t *testing.T, from, want string) {
		t.Helper()
		to := server.DSN(tables(t, server), "app")
		if app.IsDatabase(from) {
			to = filepath.Join(t.TempDir(), "new")
		}
		_, err := (&app.Copy{From: from, To: to}).Run(t.Context())
		if !errors.Is(err, transfer.ErrRefused) && !errors.Is(err, backup.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	inDatabase := tables(t, server)
	copied(t, app.Copy{From: k.dir, To: server.DSN(inDatabase, "app")})
	for name, tt := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"a bit of the log":       {func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "log", filepath.Base(segments[1])), 3000) }, "is damaged after entry"},
		"a file of the log less": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "log", filepath.Base(segments[1]))) }, "is missing"},
		"the end was cut off": {func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "log", filepath.Base(segments[len(segments)-1])))
		}, "its tip knows of 91 entries"},
		"no tip": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "tip")) }, "no tip record"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "damaged")
			if err := os.CopyFS(dir, os.DirFS(k.dir)); err != nil {
				t.Fatal(err)
			}
			tt.change(t, dir)
			refused(t, dir, tt.want)
		})
	}
	for name, tt := range map[string]struct{ sql, want string }{
		"an entry":                    {"UPDATE graven.audit_events SET entry = overlay(entry PLACING 'X' FROM 30) WHERE ledger_index = 50", "entry 50"},
		"an entry less":               {"DELETE FROM graven.audit_events WHERE ledger_index = 50", "entry 50"},
		"a hash":                      {"UPDATE graven.audit_events SET event_hash = repeat('a', 64) WHERE ledger_index = 50", "entry 50 does not follow"},
		"a hash that is none":         {"UPDATE graven.audit_events SET event_hash = repeat('x', 64) WHERE ledger_index = 50", "entry 50"},
		"a leaf":                      {"UPDATE graven.audit_events SET leaf_hash = decode(repeat('aa', 32), 'hex') WHERE ledger_index = 50", "entry 50"},
		"the last leaf":               {"UPDATE graven.audit_events SET leaf_hash = decode(repeat('aa', 32), 'hex') WHERE ledger_index = 90", "entry 90"},
		"details":                     {"UPDATE graven.audit_event_details SET erasable = replace(convert_from(erasable, 'UTF8'), 'Rollback', 'Restart')::bytea WHERE ledger_index = 50", "entry 50"},
		"details less":                {"DELETE FROM graven.audit_event_details WHERE ledger_index = 50", "entry 50"},
		"a salt":                      {"UPDATE graven.audit_event_details SET salt = decode(repeat('aa', 16), 'hex') WHERE ledger_index = 50", "entry 50"},
		"a checkpoint":                {"UPDATE graven.ledger_checkpoints SET checkpoint = (SELECT checkpoint FROM graven.ledger_checkpoints WHERE size = 46) WHERE size = 52", "the checkpoint behind entry 51"},
		"a signature":                 {"UPDATE graven.ledger_checkpoints SET checkpoint = overlay(checkpoint PLACING 'AAAA' FROM length(checkpoint) - 40) WHERE size = 52", "the checkpoint behind entry 51"},
		"the newest checkpoint":       {"UPDATE graven.ledger_head SET checkpoint = overlay(checkpoint PLACING 'AAAA' FROM length(checkpoint) - 40)", "checkpoint"},
		"the last of the checkpoints": {"DELETE FROM graven.ledger_checkpoints WHERE size = 91", "no checkpoint behind entry 87"},
	} {
		t.Run(name+" in the database", func(t *testing.T) {
			from := like(server, inDatabase)
			server.SQL(from, "SET session_replication_role = replica; "+tt.sql)
			refused(t, server.DSN(from, "app"), tt.want)
		})
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// content returns all that is in a directory.
func content(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(path) == trail.LockFile {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAWrongTargetIsRefusedAndUnchanged(t *testing.T) {
	server := testenv.StartPostgres(t)
	k := keep(t, "copy.example/a", 60)
	other := keep(t, "copy.example/b", 30)
	ahead := filepath.Join(t.TempDir(), "ahead")
	diverged := filepath.Join(t.TempDir(), "diverged")
	for _, dir := range []string{ahead, diverged} {
		if err := os.CopyFS(dir, os.DirFS(k.dir)); err != nil {
			t.Fatal(err)
		}
	}
	at := func(dir string) *kept { return &kept{t, dir, k.keys, k.now} }
	at(ahead).add(60, 30)
	at(diverged).add(1000, 3)
	k.add(60, 6)
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "backup")
	if _, err := backup.Run(t.Context(), backup.Options{Source: k.dir, Dir: saved}); err != nil {
		t.Fatal(err)
	}
	used := at(filepath.Join(t.TempDir(), "used"))
	if err := os.CopyFS(used.dir, os.DirFS(k.dir)); err != nil {
		t.Fatal(err)
	}
	open, err := filestore.Open(used.dir, filestore.Options{Verifier: k.keys.Verifier})
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	intoDatabase := func(from string) string {
		name := tables(t, server)
		copied(t, app.Copy{From: from, To: server.DSN(name, "app")})
		return name
	}
	for name, tt := range map[string]struct{ to, want string }{
		"another ledger":                {other.dir, "it is of another ledger"},
		"one that is ahead":             {ahead, "it is ahead"},
		"one that has diverged":         {diverged, "they are not one history"},
		"a directory of something else": {elsewhere, "notes.txt: take an empty directory"},
		"a backup":                      {saved, "it is a backup"},
		"one that a server has open":    {used.dir, "another process has this directory open"},
		"the source":                    {k.dir, "is where the ledger is"},
		"within the source":             {filepath.Join(k.dir, "new"), "one within the other"},
		"another ledger in a database":  {intoDatabase(other.dir), "holds another ledger"},
		"a database that is ahead":      {intoDatabase(ahead), "it is ahead"},
		"a database that has diverged":  {intoDatabase(diverged), "they are not one history"},
		"a database without schema":     {"postgres", "graven postgres migrate"},
	} {
		t.Run(name, func(t *testing.T) {
			to := tt.to
			state := func() string {
				if filepath.IsAbs(to) {
					if _, err := os.Stat(to); err != nil {
						return ""
					}
					return content(t, to)
				}
				out, err := server.TrySQL("postgres", tt.to, "SELECT h.*, (SELECT count(*) FROM graven.audit_events), (SELECT string_agg(d::text, ',') FROM graven.documents d) FROM graven.ledger_head h")
				if err != nil {
					return ""
				}
				return out
			}
			before := state()
			address := to
			if !filepath.IsAbs(to) {
				address = server.DSN(to, "app")
			}
			_, err := (&app.Copy{From: k.dir, To: address}).Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if state() != before {
				t.Error("it was changed")
			}
		})
	}
	wrong := app.Copy{From: k.dir, To: filepath.Join(t.TempDir(), "new"), Keys: []note.Verifier{other.keys.Verifier}}
	if _, err := wrong.Run(t.Context()); !errors.Is(err, transfer.ErrRefused) {
		t.Errorf("with another key: %v", err)
	}
}

func TestAWriterInTheTargetIsNotCopiedOver(t *testing.T) {
	server := testenv.StartPostgres(t)
	k := keep(t, "copy.example/a", 60)
	dsn := server.DSN(tables(t, server), "app")
	// A server has the beginning of the ledger in a database without a mark.
	copied(t, app.Copy{From: k.dir, To: dsn, Move: true})
	remove(t, filepath.Join(k.dir, "elsewhere"))
	k.add(60, 60)
	s, err := postgres.Open(t.Context(), dsn, postgres.Options{Verifier: k.keys.Verifier})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := &kept{t, "", k.keys, k.now}
	l, err := ledger.Open(t.Context(), ledger.Config{Store: s, Signer: k.keys.Signer, VerifierKey: k.keys.VerifierKey, Version: "test", Now: func() time.Time { return at.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var recorded error
	c := app.Copy{From: k.dir, To: dsn, Progress: func(done, _ int64) {
		if recorded == nil {
			e := storetest.Event(5000)
			e.Timestamp = at.now
			var results []ledger.Result
			if results, _, recorded = l.Append(t.Context(), storetest.By, []*event.Event{e}); recorded == nil {
				recorded = results[0].Err
			}
		}
	}}
	copied(t, c)
	if recorded == nil || !strings.Contains(recorded.Error(), "it is a copy of the ledger in "+k.dir) {
		t.Errorf("a server records in a copy: %v", recorded)
	}
	good(t, k.keys.Verifier, dsn)
}

func TestASourceThatIsRecordedToIsCopiedAsItStood(t *testing.T) {
	server := testenv.StartPostgres(t)
	k := keep(t, "copy.example/a", 60)
	dsn := server.DSN(tables(t, server), "app")
	s, err := filestore.Open(k.dir, filestore.Options{Verifier: k.keys.Verifier, SegmentSize: 8 << 10})
	if err != nil {
		t.Fatal(err)
	}
	more := 60
	r := copied(t, app.Copy{From: k.dir, To: dsn, Progress: func(int64, int64) {
		k.record(s, more, 3)
		more += 3
	}})
	if r.Checkpoint.Size != 61 || r.Grown != int64(more-60) || !strings.Contains(r.String(), fmt.Sprintf("has grown by %d entries", more-60)) {
		t.Errorf("%v", r)
	}
	good(t, k.keys.Verifier, dsn)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// So is a database.
	db, err := postgres.Open(t.Context(), dsn, postgres.Options{Verifier: k.keys.Verifier, Copying: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	more = 9000
	to := filepath.Join(t.TempDir(), "new")
	r = copied(t, app.Copy{From: dsn, To: to, Progress: func(int64, int64) {
		k.record(db, more, 3)
		more += 3
	}})
	if r.Checkpoint.Size != 61 || r.Grown != int64(more-9000) {
		t.Errorf("%v", r)
	}
	good(t, k.keys.Verifier, to)
}
