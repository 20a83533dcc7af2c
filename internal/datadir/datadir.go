// Package datadir knows how data directories are marked: with the format that
// they are of, and as those in which nothing may be recorded.
package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	// FormatFile holds the number of the directory's format. Where there is
	// none, it is 1.
	FormatFile = "format"
	// KeyFile holds the ledger's signing key, in the text form of C2SP
	// signed-note.
	KeyFile = "keys/ledger.key"
	// IndexFile is derived from the log and can be made anew.
	IndexFile = "index.db"
	// BackupFile marks a directory as a backup.
	BackupFile = "backup.json"
	// UnfinishedFile marks a directory that is being restored.
	UnfinishedFile = "unfinished"
	// TokensFile holds the digests of the server's tokens.
	TokensFile = "tokens.json"
	// AdminTokenFile holds the secret of the first token.
	AdminTokenFile = "admin.token"
)

// ErasedFormat is the format of directories with records whose content was
// erased: the newest that this version knows.
const ErasedFormat = 2

// entryFormat is the format of the entries that this version knows.
const entryFormat = 1

// ErrNewer means that something is in a format that this version does not know.
var ErrNewer = errors.New("written by a newer Graven")

// Newer returns the error about something of a later format than known.
func Newer(what string, is, known any) error {
	return fmt.Errorf("%w: %s of format %v, and this version knows format %v; use the version that wrote it", ErrNewer, what, is, known)
}

// CheckFormat refuses a directory of a later format, before anything else in it
// is looked at.
func CheckFormat(dir string) error {
	if err := checkFiles(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, FormatFile)
	text, err := readUpTo(path, maxSmall)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil || n < 1:
		return fmt.Errorf("%s does not hold the number of a format", path)
	case n > ErasedFormat:
		return fmt.Errorf("%s: %w", dir, Newer("the directory is", n, ErasedFormat))
	}
	return nil
}

// checkFiles refuses a directory in which something else stands in the place of a
// file, such as a pipe, for which whoever reads it would wait. Directories come
// from anywhere. What cannot be looked at here is for those to tell who need it.
func checkFiles(dir string) error {
	for _, sub := range []string{".", "keys", "log", "tree", "offsets"} {
		found, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			continue
		}
		for _, f := range found {
			if f.IsDir() || f.Type().IsRegular() {
				continue
			}
			path := filepath.Join(dir, sub, f.Name())
			if info, err := os.Stat(path); err == nil && !info.IsDir() && !info.Mode().IsRegular() {
				return fmt.Errorf("%s is no file (%s)", path, info.Mode())
			}
		}
	}
	return nil
}

// CheckEntry refuses an entry of a later format. What is wrong with it otherwise
// is for others to say.
func CheckEntry(entry []byte) error {
	var v struct{ V int }
	if err := json.Unmarshal(entry, &v); err == nil && v.V > entryFormat {
		return Newer("the entries are", v.V, entryFormat)
	}
	return nil
}

// CheckRecordable refuses a directory in which nothing may be recorded.
func CheckRecordable(dir string) error {
	for name, why := range map[string]string{
		BackupFile:     "it is a backup, and recording there would fork the ledger: graven restore makes a data directory of it, and graven serve --read-only shows what is in it",
		UnfinishedFile: "it was not restored to the end: remove it, and restore anew",
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s: %s", dir, why)
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
	}
	return nil
}
