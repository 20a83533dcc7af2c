package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/graven-audit/graven/internal/datadir"
)

func TestNobodyWaitsForAPipeInADirectory(t *testing.T) {
	t.Parallel()
	for _, name := range []string{datadir.FormatFile, datadir.BackupFile, "tip", "keys/ledger.vkey", "log/00000000000000000000.seg", "tree/00"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), syscall.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := datadir.CheckFormat(dir); err == nil {
			t.Errorf("%s: a pipe is taken for a file", name)
		}
		if _, err := datadir.ReadTip(path); err == nil {
			t.Errorf("%s: a pipe is read", name)
		}
		if _, err := datadir.ReadManifest(dir); (err != nil) != (name == datadir.BackupFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAFileThatIsHugeTakesNoMemory reads holes of 64 GiB.
func TestAFileThatIsHugeTakesNoMemory(t *testing.T) {
	t.Parallel()
	for _, name := range []string{datadir.FormatFile, datadir.BackupFile} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<36)); err != nil {
			t.Fatal(err)
		}
		_, err := datadir.ReadManifest(dir)
		if err = errors.Join(err, datadir.CheckFormat(dir)); err == nil {
			t.Errorf("%s: it is taken for good", name)
		}
	}
}
