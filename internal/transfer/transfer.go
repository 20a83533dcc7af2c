// Package transfer copies a ledger from one store into another as it is: its
// entries, their salts and erasable content, its chain and every signed
// checkpoint. Nothing is signed again, so that no key is needed and the root
// stays the same.
//
//	source                      here                            target
//	  records            ──▶      chain, content, leaf
//	  checkpoint         ──▶      root, signature        ──▶      Append of a pool
//
// The pools of the target are those of the source. Each is checked whole before
// it is handed over, and durable when the next one is: wherever a run ends, the
// target ends with a checkpoint of the source, and the next run goes on there.
//
// A target that has something already must end with a checkpoint that the source
// has too, byte for byte. As what is added to it must give the roots that stand
// in the source's later checkpoints, which are signed, all of it is shown to be
// the beginning of the source's ledger.
package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// ErrRefused means that the source is not what was signed, or that the target
// holds something else than the beginning of it.
var ErrRefused = errors.New("refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}

// A Source is the ledger that is copied, as far as it had come at some moment.
type Source interface {
	// Size is how many entries it has, the last under a checkpoint.
	Size() int64
	// Read calls record for each record from index first on, below end, in
	// order, and checkpoint for each checkpoint of first entries or more, up to
	// end, behind the record that it ends with. They may keep nothing of what
	// they are given. Only that there is something to read is seen to.
	Read(ctx context.Context, first, end int64, record func(*trail.Record) error, checkpoint func(note []byte) error) error
}

// A Target is the store that it is copied into.
type Target interface {
	ledger.Store
	tlog.HashReader
	// Wait returns when everything is derived from the entries below size.
	Wait(ctx context.Context, size int64) error
}

// A Copy is one that is being made.
type Copy struct {
	Source Source
	// Key is the key of the source's ledger.
	Key note.Verifier
	// From and To are the names of source and target.
	From, To string
	// Progress, if not nil, is told how far copying has come, in entries.
	Progress func(done, total int64)
}

// Check demands that a target whose newest checkpoint is given, nil if it has
// none, is the beginning of the source.
func (c *Copy) Check(ctx context.Context, newest []byte) error {
	if newest == nil {
		return nil
	}
	is, err := trail.OpenCheckpoint(newest, c.Key)
	if err != nil {
		return refuse("%s holds another ledger than %s, or is damaged: its newest checkpoint: %w", c.To, c.From, err)
	}
	if is.Size > c.Source.Size() {
		return refuse("%s has %d entries, and %s only %d: it is ahead, or %s an older copy", c.To, is.Size, c.From, c.Source.Size(), c.From)
	}
	found := false
	err = c.Source.Read(ctx, is.Size, is.Size, func(*trail.Record) error { return nil }, func(text []byte) error {
		found = found || bytes.Equal(text, newest)
		return nil
	})
	if err != nil {
		return c.sourceError(err)
	}
	if !found {
		return refuse("%s does not have the checkpoint of %d entries with which %s ends: they are not one history", c.From, is.Size, c.To)
	}
	return nil
}

// sourceError says of an error while reading whether the source was changed.
func (c *Copy) sourceError(err error) error {
	if errors.Is(err, search.ErrChanged) {
		return refuse("%s: %w", c.From, err)
	}
	return err
}

// Run copies what the target lacks, and returns how many pools that were. What
// the target has must have been checked.
func (c *Copy) Run(ctx context.Context, to Target) (pools int64, err error) {
	head, err := to.Lock(ctx, 0)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.To, err)
	}
	to.Unlock()
	if head.Checkpoint != nil {
		if err := c.Check(ctx, head.Checkpoint.Note); err != nil {
			return 0, err
		}
	}
	w := writer{Copy: c, to: to, end: c.Source.Size(), head: head, next: head}
	if err := c.checkAbsence(ctx, head.Tree.Size(), w.end); err != nil {
		return 0, err
	}
	if err := c.Source.Read(ctx, head.Tree.Size(), w.end, w.record, func(text []byte) error { return w.checkpoint(ctx, text) }); err != nil {
		return w.pools, c.sourceError(err)
	}
	if size := w.head.Tree.Size(); size != w.end {
		return w.pools, refuse("%s has no checkpoint behind entry %d, and should have %d entries", c.From, size-1, w.end)
	}
	return w.pools, nil
}

// checkAbsence demands that tombstones name the entries from first on, below
// end, that lack their content. A tombstone stands behind what it names, and an
// entry that was copied is not looked at by the next run, so that this is known
// before anything is copied.
func (c *Copy) checkAbsence(ctx context.Context, first, end int64) error {
	var absence tombstone.Absence
	next := first
	err := c.Source.Read(ctx, first, end, func(r *trail.Record) error {
		absence.Entry(r.Index, r.Chain, r.Entry, r.Erasable == nil, r.Leaf != nil)
		next = r.Index + 1
		return nil
	}, func([]byte) error {
		absence.Seal(next) // whether it is one, copying tells
		return nil
	})
	if err != nil {
		return c.sourceError(err)
	}
	if err := absence.Check(); err != nil {
		return refuse("%s: %w; if something is being erased just now, run it again", c.From, err)
	}
	return nil
}

// maxPool bounds a pool, in bytes. Those that ledgers make are much smaller.
const maxPool = 512 << 20

// A writer makes the source's pools again.
type writer struct {
	*Copy
	to   Target
	end  int64
	head ledger.Head // of the target
	next ledger.Head // behind the pool, but for its checkpoint

	pool  ledger.Pool
	size  int // of the pool, in bytes
	pools int64
}

// record adds a record to the pool.
func (w *writer) record(r *trail.Record) error {
	index := w.next.Tree.Size()
	if r.Index != index {
		return refuse("%s: where entry %d should be there is entry %d", w.From, index, r.Index)
	}
	if w.next.Chain = r.Link(w.next.Chain); w.next.Chain != r.Chain {
		return refuse("%s: entry %d does not follow from the one before it: it was changed, or is of another history", w.From, index)
	}
	if err := r.CheckErasable(); err != nil {
		return refuse("%s: entry %d: %w", w.From, index, err)
	}
	e, _, err := event.ParseEntry(r.Entry)
	if err != nil {
		if newer := datadir.CheckEntry(r.Entry); newer != nil {
			err = newer
		}
		return fmt.Errorf("%s: entry %d: %w", w.From, index, err)
	}
	if w.size += len(r.Entry) + len(r.Erasable); w.size > maxPool {
		return refuse("%s: no checkpoint stands behind entry %d, %d bytes before entry %d", w.From, w.head.Tree.Size()-1, w.size, index)
	}
	kept := *r
	kept.Entry, kept.Erasable = bytes.Clone(r.Entry), bytes.Clone(r.Erasable)
	leaf := r.LeafHash()
	w.next.Tree.Append(leaf, nil)
	w.pool.Records = append(w.pool.Records, kept)
	w.pool.Events = append(w.pool.Events, e)
	w.pool.Leaves = append(w.pool.Leaves, leaf)
	return nil
}

// checkpoint ends the pool.
func (w *writer) checkpoint(ctx context.Context, text []byte) error {
	size := w.next.Tree.Size()
	if len(w.pool.Records) == 0 && w.head.Checkpoint != nil && bytes.Equal(text, w.head.Checkpoint.Note) {
		return nil // where we begin
	}
	cp, err := trail.OpenCheckpoint(bytes.Clone(text), w.Key)
	switch {
	case err != nil:
		return refuse("%s: the checkpoint behind entry %d: %w", w.From, size-1, err)
	case cp.Size != size || cp.Root != w.next.Tree.Root():
		return refuse("%s: the checkpoint behind entry %d is not that of the entries before it: some were changed, or are of another history", w.From, size-1)
	case len(w.pool.Records) == 0:
		return refuse("%s: there are two checkpoints behind entry %d", w.From, size-1)
	}
	w.next.Checkpoint = cp
	w.pool.Head = w.next
	if err := w.append(ctx); err != nil {
		return fmt.Errorf("%s: after entry %d: %w", w.To, w.head.Tree.Size()-1, err)
	}
	w.head, w.pool, w.size = w.next, ledger.Pool{}, 0
	if w.pools++; w.Progress != nil {
		w.Progress(size, w.end)
	}
	return nil
}

// maxTries is how often a pool is appended that the target is too busy for.
const maxTries = 5

// append hands the pool over.
func (w *writer) append(ctx context.Context) error {
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		is, err := w.to.Lock(ctx, w.head.Tree.Size())
		if err != nil {
			return err
		}
		if is.Tree.Size() != w.head.Tree.Size() || is.Chain != w.head.Chain {
			w.to.Unlock()
			return refuse("somebody else appends to it")
		}
		err = w.to.Append(ctx, &w.pool)
		switch {
		case errors.Is(err, ledger.ErrMoved):
			return refuse("somebody else appends to it: %w", err)
		case !errors.Is(err, ledger.ErrBusy) || try == maxTries:
			return err
		}
		if err := w.to.Wait(ctx, w.head.Tree.Size()); err != nil {
			return err
		}
	}
}

// Prove demands that a target, which was opened anew, ends with the newest
// checkpoint of the source, that the hashes in it give its root, and those of
// the other checkpoints that are known of the ledger.
func (c *Copy) Prove(ctx context.Context, to Target, known []*trail.Checkpoint) (*trail.Checkpoint, error) {
	head, err := to.Lock(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.To, err)
	}
	to.Unlock()
	is := head.Checkpoint
	if is == nil || is.Size != c.Source.Size() {
		return nil, refuse("%s does not have the %d entries of %s", c.To, c.Source.Size(), c.From)
	}
	if err := c.Check(ctx, is.Note); err != nil {
		return nil, err
	}
	for _, cp := range append([]*trail.Checkpoint{is}, known...) {
		root, err := tlog.TreeHash(cp.Size, to)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.To, err)
		}
		if root != cp.Root {
			return nil, refuse("the first %d entries have another root in %s than in a checkpoint that was given out", cp.Size, c.To)
		}
	}
	return is, nil
}
