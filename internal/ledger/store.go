package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// A Head is the state of a ledger: all that is needed to append to it.
type Head struct {
	Chain      trail.Hash
	Tree       trail.Tree
	Checkpoint *trail.Checkpoint // nil for an empty ledger
}

// A Pool is what is appended at once. Its records and events are the ledger's
// again when Append returns; the rest is the store's.
type Pool struct {
	Records []trail.Record
	Events  []*event.Event // what the entries hold, decoded, without details and original
	Leaves  []trail.Hash   // of the records, in the Merkle tree
	// Head is the state after the last record. Its checkpoint is to be kept.
	Head Head
	// Own is set for pools of nothing but the ledger's own events, which may
	// use the space that is reserved for them.
	Own bool
}

// A Store keeps the ledger. Several processes may write to one ledger, each
// through a store of its own, if the store can have that.
type Store interface {
	// Lock returns the state that the next pool must extend, which is of least
	// entries or more, and keeps other writers from appending until Append or
	// Unlock was called. A store may count on nobody else, and put the locking
	// off: then Append returns [ErrMoved] where somebody was faster, and the
	// next Lock keeps them out.
	Lock(ctx context.Context, least int64) (Head, error)
	// Unlock ends what Lock began, where there is nothing to append.
	Unlock()
	// Append makes a pool durable, records and checkpoint alike, before it
	// returns. On an error that is [ErrBroken] or [ErrAway] it is unknown
	// whether the pool is durable, which in the second case the next Lock
	// tells; on any other, such as [ErrFull], nothing of it was kept.
	Append(ctx context.Context, p *Pool) error
	// Find looks up event ids among all entries and sets indexes[i] to the
	// index of ids[i], or to -1 where there is none.
	Find(ctx context.Context, ids []event.ID, indexes []int64) error
	// Recent returns the ids that carry a time (UUIDv7) within from and to,
	// with their indexes.
	Recent(ctx context.Context, from, to time.Time) (map[event.ID]int64, error)
	// Record returns the record at an index below the size of the head.
	Record(ctx context.Context, index int64) (trail.Record, error)
}

// A Shared is a store of a ledger to which others append, too.
type Shared interface {
	// Newest returns the newest checkpoint in the store, which extends those
	// that it returned before; nil for an empty ledger. It may be called
	// concurrently.
	Newest(ctx context.Context) (*trail.Checkpoint, error)
}

var (
	// ErrBusy means that too many events await their turn. Nothing was
	// recorded. Doors answer 503 with Retry-After.
	ErrBusy = errors.New("the ledger is busy, try again")
	// ErrFull means that the store has no room. Nothing was recorded, and the
	// ledger recovers by itself once there is room.
	ErrFull = errors.New("the ledger's disk is full")
	// ErrAway means that the store cannot be reached. What was to be recorded
	// may have been, which trying again with the same ids tells.
	ErrAway = errors.New("the ledger's store is away, try again")
	// ErrMoved is what a store returns when another writer has appended since
	// the store was locked. Nothing was kept.
	ErrMoved = errors.New("another writer has appended")
	// ErrBroken is what a store returns when it no longer knows what is
	// durable.
	ErrBroken = errors.New("the store is broken")
	// ErrStopped means that the ledger takes nothing more until the process
	// is started anew.
	ErrStopped = errors.New("the ledger has stopped")
	// ErrReadOnly means that nothing is recorded in this ledger.
	ErrReadOnly = errors.New("this ledger is only read")
	// ErrConflict means that the id was recorded before with other content.
	ErrConflict = errors.New("the id was recorded before with other content")
)
