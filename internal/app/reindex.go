package app

import (
	"fmt"
	"path/filepath"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/keyring"
)

// Reindex makes anew what is derived from the log in a data directory, and says
// what it has done.
func Reindex(dir string, progress func(done, total int64)) (string, error) {
	keys, err := keyring.Load(dir)
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	size, err := filestore.Reindex(dir, filestore.Options{Verifier: keys.Verifier, Used: !keys.Unused, Progress: progress})
	return fmt.Sprintf("%d entries indexed in %s", size, filepath.Join(dir, datadir.IndexFile)), err
}
