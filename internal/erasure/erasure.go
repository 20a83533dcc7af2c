package erasure

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// A Store is where the ledger is kept.
type Store interface {
	custody.Store
	// Erase erases the salts and the erasable content of the entries of runs,
	// which are in order and apart, and the entries below an index but for what
	// [trail.Record.Prune] leaves, durably. They are those of all tombstones
	// behind ErasedTo, up to the one at index to. It may be called again.
	Erase(ctx context.Context, to int64, runs []tombstone.Run, below int64) error
	// ErasedTo returns the index of the last tombstone up to which Erase has
	// done its work, or -1.
	ErasedTo(ctx context.Context) int64
}

// Config of an Eraser. All fields are required, but for the last three.
type Config struct {
	Ledger  *ledger.Ledger
	Journal *ledger.Journal
	Store   Store
	Holds   *custody.Keeper
	// Policies say how long events are kept.
	Policies *retention.Policies
	// Confirmations is how many principals must want an erasure that somebody
	// asks for: 1 or 2.
	Confirmations int
	Clock         Clock
	// Look is how often [Eraser.Keep] looks whether something is to be erased;
	// 0 means a minute.
	Look time.Duration
	// OnError, if not nil, is told why the store could not erase.
	OnError func(error)
	// Newest is when the newest entry was recorded that the ledger had before
	// this server started; zero for none.
	Newest time.Time
}

// An Eraser erases. It may be used concurrently.
type Eraser struct {
	c     Config
	watch *watch

	acting   sync.Mutex // makes planning and recording one step
	applying sync.Mutex // held while the store erases

	following sync.Mutex
	// book is made of the entries alone. The keeper's is made with the help of
	// the index, where a hold could be hidden.
	book *retention.Book
	// gone is the last entry that it has met of which only the hash is left; -1 for
	// none.
	gone int64
}

// New returns an eraser.
func New(c Config) *Eraser {
	return &Eraser{c: c, watch: newWatch(c.Clock, c.Newest), book: retention.NewBook(), gone: -1}
}

var (
	// ErrHeld means that a legal hold keeps what was to be erased.
	ErrHeld = errors.New("a legal hold keeps some of these events; nothing was erased")
	// ErrOvertaken means that holds were placed while it was decided what may
	// go, again and again.
	ErrOvertaken = errors.New("a legal hold was placed meanwhile; nothing was erased, try again")
)

// Follow finds out what tombstones name, so that nobody sees it any more.
func (x *Eraser) Follow(ctx context.Context) error { return x.c.Holds.Follow(ctx) }

// Resume has the store erase what tombstones name, those of other servers among
// them, and it has not erased yet.
func (x *Eraser) Resume(ctx context.Context) error {
	if err := x.Follow(ctx); err != nil {
		return err
	}
	return x.apply(ctx)
}

// apply has the store erase what tombstones name.
func (x *Eraser) apply(ctx context.Context) error {
	x.applying.Lock()
	defer x.applying.Unlock()
	from, size := x.c.Store.ErasedTo(ctx)+1, x.c.Ledger.State().Size()
	if from > size {
		from = 0 // what says so is of another ledger, or was changed
	}
	known, err := x.c.Holds.Book(ctx, size)
	if err != nil || len(known.Tombs(from)) == 0 {
		return err
	}
	book, _, err := x.state(ctx)
	if err != nil {
		return err
	}
	tombs := book.Tombs(from)
	if len(tombs) == 0 {
		return nil
	}
	runs, below := merge(tombs)
	return x.c.Store.Erase(ctx, tombs[len(tombs)-1].Index, runs, below)
}

// merge returns the entries whose content tombstones name, in order and apart,
// and the index below which they name the entries.
func merge(tombs []retention.Tomb) (runs []tombstone.Run, below int64) {
	for _, t := range tombs {
		runs, below = append(runs, t.Details...), max(below, t.Entries)
	}
	return tombstone.Merge(runs), below
}

// state returns holds and tombstones as of now, and the ledger's size. Where an
// entry has only its hash left and no tombstone says so, it may have been one of a
// hold, and the error is [search.ErrChanged].
func (x *Eraser) state(ctx context.Context) (*retention.Book, int64, error) {
	x.following.Lock()
	defer x.following.Unlock()
	for again := false; ; again = true {
		size, err := x.read(ctx)
		if err != nil {
			return nil, 0, err
		}
		if x.gone < x.book.Pruned() {
			return x.book, size, nil
		}
		if again { // or another server may have erased it meanwhile
			return nil, 0, fmt.Errorf("%w: entry %d: %w", search.ErrChanged, x.gone, tombstone.ErrPruned)
		}
	}
}

// read has the book follow the ledger, and returns its size.
func (x *Eraser) read(ctx context.Context) (int64, error) {
	if err := x.c.Ledger.Refresh(ctx); err != nil {
		return 0, err
	}
	size := x.c.Ledger.State().Size()
	err := x.c.Store.Records(ctx, search.Range{First: x.book.Size(), End: size}, func(r *trail.Record) error {
		if r.Leaf != nil { // no hash speaks for what is left
			x.gone = max(x.gone, r.Index)
			return nil
		}
		if !tombstone.Decides(r.Entry) {
			return nil
		}
		e, _, err := event.ParseEntry(r.Entry)
		if err != nil {
			return fmt.Errorf("entry %d: %w", r.Index, err)
		}
		return x.book.Follow(r.Index, e)
	})
	if err == nil {
		x.book.Skip(size)
	}
	return size, err
}

// reader reads what was not erased, or told to be.
func (x *Eraser) reader() search.Reader { return search.Present{Reader: x.c.Store, Tombs: tombs{x}} }

// tombs are an eraser's [search.Tombs].
type tombs struct{ x *Eraser }

func (t tombs) Erased(index int64) bool { return t.x.book.Erased(index) }

func (t tombs) Pruned() int64 { return t.x.book.Pruned() }

func (tombs) CatchUp(context.Context) error { return nil } // it was, by state

func (t tombs) Follow(ctx context.Context) error {
	_, _, err := t.x.state(ctx)
	return err
}

// bury records a tombstone for some entries, decided as of a size, and reports
// whether it counts. The store has yet to erase them. Nothing stops it halfway
// because the caller has left.
func (x *Eraser) bury(ctx context.Context, act ledger.Act, t *tombstone.Tombstone) (bool, error) {
	ctx = context.WithoutCancel(ctx)
	if act.ID.IsZero() {
		act.ID = event.NewID(x.c.Clock.Now())
	}
	act.Facts = t.Member()
	if err := x.c.Journal.Once(ctx, act); err != nil {
		return false, fmt.Errorf("record what is to be erased: %w", err)
	}
	if err := x.Follow(ctx); err != nil { // nobody sees it from here on
		return false, err
	}
	book, size, err := x.state(ctx)
	if err != nil {
		return false, err
	}
	index, err := x.find(ctx, act.ID, size)
	if err != nil || index < 0 {
		return false, err
	}
	tombs := book.Tombs(index)
	return len(tombs) > 0 && tombs[0].Index == index, nil
}

// find returns the index of the entry with an id in the ledger of a size, or -1.
func (x *Eraser) find(ctx context.Context, id event.ID, size int64) (int64, error) {
	if err := x.c.Store.Ready(ctx, size); err != nil {
		return -1, err
	}
	found := []int64{-1}
	err := x.c.Store.Find(ctx, []event.ID{id}, found)
	return found[0], err
}

// stillThere is what callers are told where the store could not erase.
const stillThere = "the store could not erase it yet, and tries again every minute; nobody sees it"

// carryOut has the store erase what was recorded. It returns "", or what callers
// are told: the erasure stands either way.
func (x *Eraser) carryOut(ctx context.Context) string {
	err := x.apply(context.WithoutCancel(ctx))
	if err == nil {
		return ""
	}
	if x.c.OnError != nil {
		x.c.OnError(err)
	}
	return stillThere
}
