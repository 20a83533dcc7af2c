package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestADiskWithoutRoomForReadingAccusesNoIndex: beside a server that was killed,
// SQLite takes some room even to read. A pipe has none.
func TestADiskWithoutRoomForReadingAccusesNoIndex(t *testing.T) {
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "killed")
	x, err := Open(filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(copied, "index.db")
	if err := errors.Join(os.CopyFS(copied, os.DirFS(dir)), os.Remove(path+"-shm"), syscall.Mkfifo(path+"-shm", 0o600), x.Close()); err != nil {
		t.Fatal(err)
	}
	var unproven string
	c := Check{Path: path, Found: func(_ int64, message string) { t.Error(message) }, Unproven: func(message string) { unproven = message }}
	if err := c.Run(t.Context()); err != nil || !strings.Contains(unproven, "the index could not be opened") {
		t.Errorf("%q, %v", unproven, err)
	}
	if _, err := Open(path); err == nil || strings.Contains(err.Error(), "reindex") || !strings.Contains(err.Error(), "may be full") {
		t.Error(err)
	}
}
