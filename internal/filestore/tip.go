package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// ErrTip means that something knows of a newer or another state of the ledger
// than its log holds, so that signing on would fork it.
var ErrTip = errors.New("refusing to sign: the log is damaged, or an older copy")

// writeTip overwrites the tip record. It is one small write within a page, so
// that it survives the process at once; it is made durable by the way.
func writeTip(f seglog.File, checkpoint []byte) error {
	if len(checkpoint) > trail.TipSize {
		return fmt.Errorf("checkpoint of %d bytes, the limit is %d", len(checkpoint), trail.TipSize)
	}
	var page [trail.TipSize]byte
	copy(page[:], checkpoint)
	_, err := f.WriteAt(page[:], 0)
	return err
}

// readTip reads a tip record. It returns nil where there is none yet.
func readTip(path string, key note.Verifier) (*trail.Checkpoint, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data = bytes.TrimRight(data, "\x00")
	if len(data) == 0 {
		return nil, nil
	}
	c, err := trail.OpenCheckpoint(data, key)
	if err != nil {
		return nil, fmt.Errorf("%w: the tip record %s is damaged: %w", ErrTip, path, err)
	}
	return c, nil
}
