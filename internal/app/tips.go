package app

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
	"github.com/graven-audit/graven/verify/remote"
)

// Tips says where to look for what is known of a ledger outside its backup.
type Tips struct {
	Backup string
	// Given are files, and addresses of servers, whose logs Log returns.
	Given []string
	Log   func(address string) (*remote.Log, error)
	// Config is the server's configuration, for its tipFile. Empty means the
	// one that is kept with the backup, if any.
	Config string
	// Warn is told of what could not be looked at.
	Warn func(string)
}

// Find returns the tips that were given, that of the configuration, and what
// this user has seen of the ledger.
func (f *Tips) Find(ctx context.Context) ([]backup.Tip, error) {
	var tips []backup.Tip
	for _, from := range f.Given {
		text, err := f.read(ctx, from)
		if err != nil {
			return nil, fmt.Errorf("--tip: %w", err)
		}
		t := backup.Tip{Note: text, From: from}
		if dir := filepath.Dir(from); filepath.Base(from) == trail.TipFile && isDir(filepath.Join(dir, trail.LogDir)) {
			t.Dir = dir
		}
		tips = append(tips, t)
	}
	path := f.Config
	if path == "" {
		path = filepath.Join(f.Backup, backup.ConfigFile)
	}
	c, _, err := readConfig(path)
	if err != nil && (f.Config != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	if c.TipFile != "" {
		text, err := readTip(c.TipFile)
		switch {
		case err != nil:
			return nil, err
		case len(text) == 0:
			f.Warn("the configured tipFile is not there: " + c.TipFile)
		default:
			tips = append(tips, backup.Tip{Note: text, From: c.TipFile})
		}
	}
	seen, err := f.remembered()
	if err != nil {
		f.Warn("what was seen of the ledger before is not known: " + err.Error())
	} else if seen != nil {
		tips = append(tips, backup.Tip{Note: seen.Note, From: "what you have seen of it before", Remembered: true})
	}
	return tips, nil
}

// read gets a tip that was given. The backup's own tells nothing about it.
func (f *Tips) read(ctx context.Context, from string) ([]byte, error) {
	if strings.HasPrefix(from, "http://") || strings.HasPrefix(from, "https://") {
		return f.fetch(ctx, from)
	}
	dir, err := os.Stat(f.Backup)
	if err != nil {
		return nil, err
	}
	path, err := filepath.EvalSymlinks(from)
	if err != nil {
		return nil, err
	}
	if in, err := os.Stat(filepath.Dir(path)); err == nil && os.SameFile(in, dir) {
		return nil, fmt.Errorf("%s is the backup's own: it cannot show that there was nothing newer", from)
	}
	if what := Dated(ctx, filepath.Dir(path)); what != "" {
		return nil, fmt.Errorf("%s is that of a %s: it cannot show that there was nothing newer", from, what)
	}
	return readTip(path)
}

// fetch gets the newest checkpoint of a server that records.
func (f *Tips) fetch(ctx context.Context, address string) ([]byte, error) {
	log, err := f.Log(address)
	if err != nil {
		return nil, err
	}
	server := *log
	server.URL = strings.TrimSuffix(log.URL, "/log")
	text, err := server.Fetch(ctx, "readyz")
	if err != nil {
		return nil, err
	}
	var state struct{ ReadOnly bool }
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("%s/readyz: %w", server.URL, err)
	}
	if state.ReadOnly {
		return nil, fmt.Errorf("%s records nothing: it cannot show that there was nothing newer", address)
	}
	return log.Fetch(ctx, verify.NewestPath)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// readTip reads a tip record without its padding.
func readTip(path string) ([]byte, error) {
	text, err := datadir.ReadTip(path)
	return bytes.TrimRight(text, "\x00"), err
}

// remembered returns the newest checkpoint that this user has seen of the
// ledger, or nil.
func (f *Tips) remembered() (*trail.Checkpoint, error) {
	text, err := os.ReadFile(filepath.Join(f.Backup, trail.VKeyFile))
	if err != nil {
		return nil, nil // restoring says what is wrong with it
	}
	key, err := trail.ParseKey(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, nil
	}
	m, err := known.Open()
	if err != nil {
		return nil, err
	}
	return m.Newest(key.Name())
}

// Dated says of a directory or a database that it is a backup or a copy, which
// may be older than what was seen of its ledger; otherwise it is empty.
func Dated(ctx context.Context, target string) string {
	if IsDatabase(target) {
		if e, err := postgres.Elsewhere(ctx, target); err == nil && e != nil { // who may not read the mark is as strict as without
			return "copy"
		}
		return ""
	}
	if _, err := os.Stat(filepath.Join(target, datadir.BackupFile)); err == nil {
		return "backup"
	}
	if _, err := os.Stat(filepath.Join(target, datadir.ElsewhereFile)); err == nil {
		return "copy"
	}
	return ""
}

// Claim returns the newest checkpoint of a directory or a database by its own word, which of a
// backup is its manifest's.
func Claim(ctx context.Context, dir string) []byte {
	if IsDatabase(dir) {
		text, _ := postgres.Claim(ctx, dir) // verifying says what is wrong with it
		return text
	}
	if m, err := datadir.ReadManifest(dir); err == nil && m != nil {
		return []byte(m.Checkpoint)
	}
	text, _ := readTip(filepath.Join(dir, trail.TipFile)) // verifying says what is wrong with it
	return text
}

// DataDir returns the data directory that is meant: the one that is named, or
// that of a configuration file, or graven-data.
func DataDir(named, config string) (string, error) {
	var c Config
	if config != "" {
		var err error
		if c, _, err = readConfig(config); err != nil {
			return "", err
		}
	}
	return cmp.Or(named, c.Data, "graven-data"), nil
}
