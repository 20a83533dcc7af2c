package app

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/internal/transfer"
	"github.com/graven-audit/graven/trail"
)

// A Copy copies a ledger from a directory or a database to another.
//
// Of the two, one goes on. The target is marked as a copy before the first entry
// is in it, so that no server records there. To move the ledger, the source is
// marked as one that was moved away, which keeps its servers from recording;
// what they have recorded until then is copied; and then the target loses its
// mark. Whatever fails, both are never without.
type Copy struct {
	From, To string
	// Keys, if there are any, are the ledger's from outside.
	Keys []note.Verifier
	// Move has the ledger go on in the target.
	Move bool
	// Progress, if not nil, is told how far copying has come, in entries.
	Progress func(done, total int64)
	// FS is the file system of a directory that is written; nil means the
	// machine's.
	FS seglog.FS
	// SegmentSize is the size of the log's files in such a directory; 0 means
	// 64 MiB.
	SegmentSize int64
}

// An origin is where a ledger is copied from.
type origin interface {
	transfer.Source
	key() (note.Verifier, string)
	// known returns checkpoints that are kept beside the ledger.
	known() []*trail.Checkpoint
	// newest returns how many entries there are by now.
	newest(ctx context.Context) (int64, error)
	tokens(ctx context.Context) ([]byte, error)
	elsewhere(ctx context.Context) (*datadir.Elsewhere, error)
	// leave marks it. When it returns, nothing more is recorded, and Size counts
	// all that was.
	leave(ctx context.Context, e *datadir.Elsewhere) error
	// left is told with which checkpoint the ledger was moved into a database.
	left(c *trail.Checkpoint) error
	Close() error
}

// A destination is where a ledger is copied to.
type destination interface {
	// newest returns the newest checkpoint there, or nil, by its own word. It
	// refuses what cannot be copied to, and changes nothing.
	newest(ctx context.Context) ([]byte, error)
	elsewhere(ctx context.Context) (*datadir.Elsewhere, error)
	setElsewhere(ctx context.Context, e *datadir.Elsewhere) error
	// open opens the store to append to it, or only to read.
	open(ctx context.Context, readOnly bool) (opened, error)
	setTokens(ctx context.Context, data []byte) error
}

type opened interface {
	transfer.Target
	Close() error
}

// A Copied tells of a ledger that was copied.
type Copied struct {
	From, To   string
	Checkpoint *trail.Checkpoint
	// Before is how many entries the target had. Checkpoints were added.
	Before, Checkpoints int64
	// Grown is how many entries the source has got meanwhile.
	Grown int64
	// Moved is set if the ledger goes on in the target.
	Moved bool
	// Notes tell of what was left behind.
	Notes []string
}

func (r *Copied) String() string {
	c := r.Checkpoint
	text := fmt.Sprintf("%s: %d entries in %s, %d of them new, with %d checkpoints\nread back from there, size and root (%s) are those of %s\n",
		c.Origin, c.Size, r.To, c.Size-r.Before, r.Checkpoints, base64.StdEncoding.EncodeToString(c.Root[:]), r.From)
	if r.Grown > 0 {
		text += fmt.Sprintf("%s has grown by %d entries meanwhile: run this again to copy them\n", r.From, r.Grown)
	}
	for _, n := range r.Notes {
		text += n + "\n"
	}
	if r.Moved {
		return text + fmt.Sprintf("the ledger goes on in %s, and nothing is recorded in %s any more; its servers need keys/ledger.key, which was not copied", r.To, r.From)
	}
	return text + fmt.Sprintf("%s is a copy, in which nothing is recorded: --move has the ledger go on there", r.To)
}

// Run makes the copy, or goes on with one that was interrupted. A source that is
// not what was signed, and a target that holds something else than its beginning,
// is [transfer.ErrRefused].
func (c *Copy) Run(ctx context.Context) (*Copied, error) {
	r, err := c.run(ctx)
	var refusal *postgres.Refusal
	if errors.As(err, &refusal) && refusal.Changed {
		err = fmt.Errorf("%w: %w", transfer.ErrRefused, err)
	}
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	return r, nil
}

func (c *Copy) run(ctx context.Context) (_ *Copied, err error) {
	if c.FS == nil {
		c.FS = seglog.OS{}
	}
	r := &Copied{}
	if r.From, err = placeName(c.From); err != nil {
		return nil, err
	}
	if r.To, err = placeName(c.To); err != nil {
		return nil, err
	}
	if r.From == r.To {
		return nil, fmt.Errorf("%s is where the ledger is", r.To)
	}
	from, err := c.openOrigin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	verifier, vkey := from.key()
	if len(c.Keys) > 0 && !slices.ContainsFunc(c.Keys, func(k note.Verifier) bool { return trail.KeyID(k) == trail.KeyID(verifier) }) {
		return nil, fmt.Errorf("%w: %s is of the ledger with the key %s, not %s", transfer.ErrRefused, r.From, trail.KeyID(verifier), trail.KeyID(c.Keys[0]))
	}
	move := &datadir.Elsewhere{Where: r.To, Moved: true}
	if c.Move {
		if e, err := from.elsewhere(ctx); err != nil {
			return nil, err
		} else if e != nil && *e != *move { // which an interrupted run has left
			return nil, fmt.Errorf("%s: %w", r.From, e)
		}
	}
	m := mover{Copied: r, Copy: c, from: from, to: c.destination(from, verifier, vkey),
		copying: &transfer.Copy{Source: from, Key: verifier, From: r.From, To: r.To, Progress: c.Progress}}
	if err = m.fill(ctx, move); err == nil {
		err = m.finish(ctx)
	}
	if err != nil && m.left {
		err = fmt.Errorf("%w; nothing is recorded in either of the two now: run this again", err)
	}
	if err != nil {
		return nil, err
	}
	newest, err := from.newest(ctx)
	r.Grown = newest - r.Checkpoint.Size
	return r, err
}

// placeName returns a place as it is called in marks and answers.
func placeName(place string) (string, error) {
	if IsDatabase(place) {
		return postgres.Address(place)
	}
	return absolute(place)
}

// A mover makes one copy.
type mover struct {
	*Copied
	*Copy
	from    origin
	to      destination
	copying *transfer.Copy
	left    bool // the source is marked
}

// fill copies all entries. To move the ledger, it marks the source.
func (m *mover) fill(ctx context.Context, move *datadir.Elsewhere) (err error) {
	newest, err := m.to.newest(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Copied.To, err)
	}
	if err := m.copying.Check(ctx, newest); err != nil {
		return err
	}
	if newest != nil {
		is, err := trail.ReadCheckpoint(newest)
		if err != nil {
			return err
		}
		m.Before = is.Size
	}
	store, err := m.to.open(ctx, false)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Copied.To, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	was, err := m.to.elsewhere(ctx)
	if err != nil {
		return err
	}
	if was != nil || newest == nil || m.Before < m.from.Size() { // otherwise it is there, and goes on
		if err := m.to.setElsewhere(ctx, &datadir.Elsewhere{Where: m.Copied.From}); err != nil {
			return err
		}
	}
	if err := m.copy(ctx, store); err != nil {
		if m.Checkpoints == 0 && newest != nil && errors.Is(err, transfer.ErrRefused) { // it was none of our business
			err = errors.Join(err, m.to.setElsewhere(ctx, was))
		}
		return err
	}
	if !m.Move {
		return nil
	}
	if err := m.from.leave(ctx, move); err != nil {
		return err
	}
	m.left = true
	return m.copy(ctx, store)
}

func (m *mover) copy(ctx context.Context, store opened) error {
	n, err := m.copying.Run(ctx, store)
	m.Checkpoints += n
	if err == nil {
		err = store.Wait(ctx, m.from.Size())
	}
	return err
}

// finish proves that the target has what the source has, and brings along what
// stands beside the ledger.
func (m *mover) finish(ctx context.Context) (err error) {
	store, err := m.to.open(ctx, true)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Copied.To, err)
	}
	m.Checkpoint, err = m.copying.Prove(ctx, store, m.from.known())
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	tokens, err := m.from.tokens(ctx)
	switch {
	case errors.Is(err, postgres.ErrRights) && !m.Move:
		m.Notes = append(m.Notes, "the tokens were not copied, for which the role needs graven_writer")
	case err != nil:
		return err
	case len(tokens) > 0:
		if err := m.to.setTokens(ctx, tokens); err != nil {
			return err
		}
	}
	if err := m.beside(ctx); err != nil {
		return err
	}
	if m.Move {
		if IsDatabase(m.Copy.To) {
			if err := m.from.left(m.Checkpoint); err != nil {
				return err
			}
		}
		if err := m.to.setElsewhere(ctx, nil); err != nil {
			return err
		}
	}
	e, err := m.to.elsewhere(ctx)
	m.Moved = e == nil
	return err
}

// beside copies what only directories have.
func (m *mover) beside(ctx context.Context) error {
	from, ok := m.from.(*fromDir)
	if !ok {
		return nil
	}
	if to, ok := m.to.(*toDir); ok {
		return errors.Join(from.CopyCosigned(m.FS, to.dir), from.CopyPredecessor(ctx, m.FS, to.dir))
	}
	if from.hasPredecessor() {
		m.Notes = append(m.Notes, "its predecessor stays where it is, below "+filepath.Join(m.Copied.From, succession.Dir))
	}
	return nil
}
