// Package known remembers the newest checkpoint seen of each ledger, and
// tells when a ledger does not go on from there.
package known

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// ErrTurnedBack means that a ledger is shown not to extend what was seen of it.
var ErrTurnedBack = errors.New("the ledger is not the one that was seen before")

// A Memory is a directory with a file for each ledger.
type Memory struct{ dir string }

// Open returns the user's memory, below $XDG_STATE_HOME or the home directory.
// The error is for one who has neither.
func Open() (Memory, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Memory{}, err
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return Memory{filepath.Join(dir, "graven")}, nil
}

func (m Memory) path(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return filepath.Join(m.dir, hex.EncodeToString(sum[:8])+".checkpoint")
}

// Newest returns the newest checkpoint seen of a ledger, or nil.
func (m Memory) Newest(origin string) (*trail.Checkpoint, error) {
	if origin == "" {
		return nil, nil
	}
	data, err := os.ReadFile(m.path(origin))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := trail.ReadCheckpoint(data)
	if err != nil || c.Origin != origin {
		return nil, fmt.Errorf("%s does not hold a checkpoint of %s", m.path(origin), origin)
	}
	return c, nil
}

// Keep keeps a checkpoint if it is the newest seen of its ledger. That it
// extends the one before is for the caller to know.
func (m Memory) Keep(c *trail.Checkpoint) error {
	known, err := m.Newest(c.Origin)
	if err != nil || known != nil && known.Size >= c.Size {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	lock, err := seglog.LockWait(filepath.Join(m.dir, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close() // nothing was written to it
	if known, err = m.Newest(c.Origin); err != nil || known != nil && known.Size >= c.Size {
		return err // another process was faster
	}
	return seglog.WriteFile(seglog.OS{}, m.path(c.Origin), c.Note)
}

// turnedBack is an error if two checkpoints alone show that a ledger does not
// go on from what was seen of it.
func turnedBack(known, now *trail.Checkpoint) error {
	switch {
	case now.Size < known.Size:
		return fmt.Errorf("%w: %s had %d entries, now it has %d", ErrTurnedBack, now.Origin, known.Size, now.Size)
	case now.Size == known.Size && now.Root != known.Root:
		return fmt.Errorf("%w: at %d entries, %s had another root", ErrTurnedBack, known.Size, now.Origin)
	}
	return nil
}

// CheckExtends has a log show that, as of a checkpoint, it extends the one of a
// checkpoint before.
func CheckExtends(ctx context.Context, fetch verify.Fetch, known, now *trail.Checkpoint) error {
	if now.Size <= known.Size {
		return turnedBack(known, now)
	}
	tiles := tlog.TileHashReader(tlog.Tree{N: now.Size, Hash: now.Root}, &tileReader{ctx, fetch})
	root, err := tlog.TreeHash(known.Size, tiles)
	if err != nil {
		return fmt.Errorf("the server does not show that its ledger extends the %d entries seen before: %w", known.Size, err)
	}
	return turnedBack(known, &trail.Checkpoint{Origin: now.Origin, Size: known.Size, Root: root})
}

// A tileReader reads a log's hash tiles.
type tileReader struct {
	ctx   context.Context
	fetch verify.Fetch
}

func (r *tileReader) Height() int { return trail.TileHeight }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, err := verify.FetchTile(r.ctx, r.fetch, t)
		if err != nil {
			return nil, err
		}
		out[i] = data[:min(len(data), t.W*tlog.HashSize)]
	}
	return out, nil
}

func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
