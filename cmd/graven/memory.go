package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// memoryPath returns the file that holds the newest checkpoint seen of a
// ledger.
func memoryPath(origin string) (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".local", "state")
	}
	sum := sha256.Sum256([]byte(origin))
	return filepath.Join(dir, "graven", hex.EncodeToString(sum[:8])+".checkpoint"), nil
}

// remembered returns the newest checkpoint seen of a ledger, or nil.
func remembered(origin string) []byte {
	path, err := memoryPath(origin)
	if err != nil || origin == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	if c, err := trail.ReadCheckpoint(data); err != nil || c.Origin != origin {
		return nil
	}
	return data
}

// errTurnedBack means that a ledger does not extend what was seen of it.
var errTurnedBack = errors.New("the ledger is not the one that was seen before")

// remember keeps a checkpoint if it is the newest of its ledger. If it
// contradicts the newest by itself, the error is errTurnedBack.
func remember(checkpoint []byte) error {
	c, err := trail.ReadCheckpoint(checkpoint)
	if err != nil {
		return err
	}
	if known := remembered(c.Origin); known != nil {
		k, err := trail.ReadCheckpoint(known)
		if err != nil {
			return err
		}
		switch {
		case c.Size < k.Size:
			return fmt.Errorf("%w: %s had %d entries, now it has %d", errTurnedBack, c.Origin, k.Size, c.Size)
		case c.Size == k.Size && c.Root != k.Root:
			return fmt.Errorf("%w: at %d entries, %s had another root", errTurnedBack, c.Size, c.Origin)
		case c.Size == k.Size:
			return nil
		}
	}
	path, err := memoryPath(c.Origin)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, path, checkpoint)
}
