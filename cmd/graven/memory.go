package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// memoryDir returns the directory that holds the newest checkpoints seen.
func memoryDir() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "graven"), nil
}

// memoryPath returns the file that holds the newest checkpoint seen of a
// ledger.
func memoryPath(origin string) (string, error) {
	dir, err := memoryDir()
	sum := sha256.Sum256([]byte(origin))
	return filepath.Join(dir, hex.EncodeToString(sum[:8])+".checkpoint"), err
}

// remembered returns the newest checkpoint seen of a ledger, or nil.
func remembered(origin string) (*trail.Checkpoint, error) {
	path, err := memoryPath(origin)
	if err != nil || origin == "" {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := trail.ReadCheckpoint(data)
	if err != nil || c.Origin != origin {
		return nil, fmt.Errorf("%s does not hold a checkpoint of %s", path, origin)
	}
	return c, nil
}

// remember keeps a checkpoint if it is the newest seen of its ledger. That it
// extends the one before is for the caller to know.
func remember(c *trail.Checkpoint) error {
	known, err := remembered(c.Origin)
	if err != nil || known != nil && known.Size >= c.Size {
		return err
	}
	path, err := memoryPath(c.Origin)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, path, c.Note)
}

// A memory verifies a target against what was seen of its ledger before.
type memory struct {
	target *target
	notes  io.Writer // told why nothing could be remembered
}

// verify demands that the ledger extends the remembered checkpoint, and
// remembers the newest if it does. Which ledger it should be is said by the
// keys from outside; only without does the target's own word count.
func (m memory) verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	claim, whole := m.target.claim(ctx)
	origin := ""
	if len(o.Keys) > 0 {
		origin = o.Keys[0].Name()
	}
	if claim != nil && (len(o.Keys) == 0 || slices.ContainsFunc(o.Keys, func(k note.Verifier) bool { return k.Name() == claim.Origin })) {
		origin = claim.Origin
	}
	if _, err := memoryPath(origin); err != nil {
		fmt.Fprintln(m.notes, "graven: nothing is remembered:", err)
		return m.target.verify(ctx, o)
	}
	r, err := m.verifyAs(ctx, origin, claim, whole, o)
	if err != nil || r.Origin == origin || r.Origin == "" {
		return r, err
	}
	return m.verifyAs(ctx, r.Origin, claim, whole, o) // nothing but the entries told whose they are
}

func (m memory) verifyAs(ctx context.Context, origin string, claim *trail.Checkpoint, whole bool, o verify.Options) (*verify.Report, error) {
	known, err := remembered(origin)
	if err != nil {
		fmt.Fprintln(m.notes, "graven: what was seen of the ledger before is not known:", printable(err.Error()))
		return m.target.verify(ctx, o)
	}
	older := known != nil && m.target.export != nil && claim != nil && claim.Size < known.Size
	if known != nil && !older {
		o.Since = append(slices.Clip(o.Since), known.Note)
	}
	r, err := m.target.verify(ctx, o)
	switch {
	case err != nil:
	case older:
		r.Unproven = append(r.Unproven, fmt.Sprintf("the export is older than the checkpoint of %d entries that was seen before, and was not compared with it", known.Size))
	case r.OK() && len(r.Checkpoint) > 0 && whole && r.Origin == origin:
		if c, err := trail.ReadCheckpoint(r.Checkpoint); err == nil {
			if err := remember(c); err != nil {
				fmt.Fprintln(m.notes, "graven: could not remember the checkpoint:", printable(err.Error()))
			}
		}
	}
	return r, err
}

// errTurnedBack means that a ledger is shown not to extend what was seen of it.
var errTurnedBack = errors.New("the ledger is not the one that was seen before")

// turnedBack is an error if two checkpoints alone show that a ledger does not
// go on from what was seen of it.
func turnedBack(known, now *trail.Checkpoint) error {
	switch {
	case now.Size < known.Size:
		return fmt.Errorf("%w: %s had %d entries, now it has %d", errTurnedBack, now.Origin, known.Size, now.Size)
	case now.Size == known.Size && now.Root != known.Root:
		return fmt.Errorf("%w: at %d entries, %s had another root", errTurnedBack, known.Size, now.Origin)
	}
	return nil
}

// A watch holds the checkpoints that come with answers against those that were
// remembered before they were asked for. It takes no request of its own.
type watch struct {
	known map[string]*trail.Checkpoint // by origin
	alarm error
}

// newWatch recalls what was seen of all ledgers, as far as it can be read.
func newWatch() *watch {
	w := &watch{known: map[string]*trail.Checkpoint{}}
	if dir, err := memoryDir(); err == nil {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.checkpoint"))
		for _, path := range paths {
			data, _ := os.ReadFile(path)
			if c, err := trail.ReadCheckpoint(data); err == nil {
				w.known[c.Origin] = c
			}
		}
	}
	return w
}

// see takes a checkpoint, a signed note, or "" for none.
func (w *watch) see(text string) {
	now, err := trail.ReadCheckpoint([]byte(text))
	if err != nil || w.known[now.Origin] == nil || w.alarm != nil {
		return
	}
	if err := turnedBack(w.known[now.Origin], now); err != nil {
		w.alarm = &exitCodeError{exitVerify, err}
	}
}

// export takes the checkpoint of an export, if it ends with one.
func (w *watch) export(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if last := lastLine(f); last != nil {
		w.see(last.Checkpoint)
	}
	return w.alarm
}

// checkExtends has a server show that its ledger, as of a checkpoint, extends
// the one of a checkpoint before.
func checkExtends(ctx context.Context, fetch verify.Fetch, known, now *trail.Checkpoint) error {
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

// A tileReader reads a server's hash tiles.
type tileReader struct {
	ctx   context.Context
	fetch verify.Fetch
}

func (r *tileReader) Height() int { return trail.TileHeight }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, err := r.fetch(r.ctx, trail.TilePath(t))
		if errors.Is(err, fs.ErrNotExist) && t.W < trail.TileWidth { // the full one has replaced it
			full := t
			full.W = trail.TileWidth
			data, err = r.fetch(r.ctx, trail.TilePath(full))
			data = data[:min(len(data), t.W*tlog.HashSize)]
		}
		if err != nil {
			return nil, err
		}
		out[i] = data
	}
	return out, nil
}

func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
