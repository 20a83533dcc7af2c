package filestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/places"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// Reindex derives the index and the hashes of the ledger in dir anew, and
// returns the number of entries. Nothing else may have the directory open.
func Reindex(dir string, o Options) (size int64, err error) {
	lock, err := seglog.Lock(filepath.Join(dir, trail.LockFile))
	if err != nil {
		return 0, fmt.Errorf("reindex: %w", err)
	}
	if err := (&Store{dir: dir}).admit(o); err != nil {
		return 0, errors.Join(fmt.Errorf("reindex: %w", err), lock.Close())
	}
	for _, name := range []string{datadir.IndexFile, datadir.IndexFile + "-wal", datadir.IndexFile + "-shm", places.Dir} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	if err = errors.Join(err, lock.Close()); err != nil {
		return 0, fmt.Errorf("reindex: %w", err)
	}
	o.replaceHashes = true
	s, err := Open(dir, o)
	if err != nil {
		return 0, err
	}
	if c := s.Head().Checkpoint; c != nil {
		size = c.Size
	}
	return size, s.Close()
}
