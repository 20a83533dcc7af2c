package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// ErrTip means that something knows of a newer or another state of the ledger
// than its log holds, so that signing on would fork it.
var ErrTip = errors.New("refusing to sign: the log is damaged, or an older copy")

// ErrDerived means that what is derived from the log, and could be made anew from
// it, is damaged, or of another history: the log agrees with all its checkpoints.
var ErrDerived = errors.New("what is derived from the log is damaged, or of another log; the log itself agrees with its checkpoints")

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

// keepTips makes the tip durable once a second and copies it outside the
// directory, until Close. It is a second line of defence: a failure leaves an
// older tip there, holds nobody up, and is tried again.
func (s *Store) keepTips() {
	defer close(s.tipsDone)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var kept []byte
	var last string // failure
	for quit := false; ; {
		s.mu.Lock()
		tip := s.tipNote
		s.mu.Unlock()
		if !bytes.Equal(tip, kept) {
			err := s.tip.Sync()
			if s.tipFile != "" {
				err = errors.Join(err, seglog.WriteFile(s.fs, s.tipFile, tip))
			}
			if err == nil {
				kept, last = tip, ""
			} else if text := err.Error(); text != last && s.onError != nil {
				last = text
				s.onError(fmt.Errorf("keep the tip: %w", err))
			}
		}
		if quit {
			return
		}
		select {
		case <-tick.C:
		case <-s.quit:
			quit = true
		}
	}
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
