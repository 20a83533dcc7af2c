package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

func TestABackupIsJudgedUpToWhereItsManifestEnds(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "audit.example/test")
	if err != nil {
		t.Fatal(err)
	}
	dir, _, _ := recordWith(t, skey, vkey, 10)
	to := filepath.Join(t.TempDir(), "backup")
	backUp := func() []byte {
		t.Helper()
		if _, err := backup.Run(t.Context(), backup.Options{Source: dir, Dir: to, WithoutKey: true}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(to, datadir.BackupFile))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	early := backUp()
	recordIn(t, dir, skey, vkey, 5, nil)
	late := backUp()
	fresh := fmt.Appendf(nil, `{"v":1,"origin":"audit.example/test","key":%q,"size":0,"segment":0,"offset":0,"chain":%q,"edge":[]}`, vkey, trail.Hash{})
	log := filepath.Join(trail.LogDir, seglog.SegmentName(0))
	write := func(name, text string) func(string) error {
		return func(d string) error { return os.WriteFile(filepath.Join(d, name), []byte(text), 0o600) }
	}
	for name, tt := range map[string]struct {
		manifest string
		harm     func(d string) error
		code     int
		says     string
	}{
		"the whole":                          {string(late), nil, 0, "GOOD: 16 entries"},
		"an interrupted run":                 {string(early), nil, 0, "GOOD: 11 entries"},
		"an interrupted run, said":           {string(early), nil, 0, "do not count: run graven backup again"},
		"an interrupted run's new segment":   {string(late), write("log/"+seglog.SegmentName(16), "GRVNSEG1 and more"), 0, "note: the backup holds 16 entries"},
		"an interrupted run, and a torn log": {string(early), func(d string) error { return os.Truncate(filepath.Join(d, log), int64(len(read(t, to, log))-100)) }, 0, "GOOD: 11 entries"},
		"a first run":                        {string(fresh), nil, 1, "never finished"},
		"a first run, just begun": {string(fresh), func(d string) error {
			for _, name := range []string{"keys", "log", "tip"} {
				if err := os.RemoveAll(filepath.Join(d, name)); err != nil {
					return err
				}
			}
			return nil
		}, 1, "never finished"},
		"a first run's empty segment": {string(fresh), func(d string) error { return os.Truncate(filepath.Join(d, log), 0) }, 1, "never finished"},
		"a cut log":                   {string(late), func(d string) error { return os.Truncate(filepath.Join(d, log), 3000) }, 3, "WRONG"},
		"another size":                {strings.Replace(string(early), `"size": 11`, `"size": 12`, 1), nil, 3, "backup.json tells of 12 entries, and where it ends are 11"},
		"another offset":              {strings.Replace(string(early), `"offset": `, `"offset": 9`, 1), nil, 3, "WRONG backup.json tells of 11"},
		"no checkpoint":               {strings.Replace(string(early), `"checkpoint"`, `"check"`, 1), nil, 3, "WRONG backup.json: "},
		"no manifest":                 {"{", nil, 3, "WRONG backup.json is no manifest"},
		"a later manifest":            {strings.Replace(string(early), `"v": 1`, `"v": 2`, 1), nil, 1, "written by a newer Graven"},
	} {
		t.Run(name, func(t *testing.T) {
			d := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(d, os.DirFS(to)); err != nil {
				t.Fatal(err)
			}
			if err := write(datadir.BackupFile, tt.manifest)(d); err != nil {
				t.Fatal(err)
			}
			if tt.harm != nil {
				if err := tt.harm(d); err != nil {
					t.Fatal(err)
				}
			}
			args := []string{d, "--key", vkey}
			if strings.HasPrefix(name, "a first run") {
				args = []string{d, "--since", tip(t, dir)}
			}
			code, text := verdict(args...)
			if code != tt.code || !strings.Contains(text, tt.says) || code != 3 && strings.Contains(text, "WRONG") {
				t.Errorf("exit code %d, want %d, and %q:\n%s", code, tt.code, tt.says, text)
			}
		})
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
