// Package custody places, changes and releases the legal holds of a ledger,
// each by an event of its own, and knows which of them keep an event.
//
// What a hold is, [retention] says. A [Keeper] finds the entries that holds are
// made of, and tombstones, by the index of event types, at the start as later: it asks the index
// for those between where its book stands and the size that an answer is about.
package custody

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

var (
	// ErrNoHold means that there is no such hold, or that it was released.
	ErrNoHold = errors.New("no such legal hold stands")
	// ErrNothing means that a hold would keep no event that there is.
	ErrNothing = errors.New("no event is like this, or you may not see it; with future set, the hold waits for those to come")
	// ErrSeveral means that a correlation id does not tell which hold is meant.
	ErrSeveral = errors.New("several legal holds are on this correlation id; release each by its own id")
	// ErrTooMany means that too many holds stand.
	ErrTooMany = errors.New("too many legal holds stand; release some, or hold by a broader scope")
)

// maxStanding bounds the holds that stand at a time: every answer about an
// event asks all of them.
const maxStanding = 1000

// A Store is what a keeper reads from.
type Store interface {
	search.Index
	search.Reader
	// Find sets indexes[i] to the index of the entry with ids[i], or to -1.
	Find(ctx context.Context, ids []event.ID, indexes []int64) error
}

// A Keeper keeps the holds of a ledger. It may be used concurrently.
type Keeper struct {
	ledger  *ledger.Ledger
	journal *ledger.Journal
	store   Store
	find    search.Finder
	now     func() time.Time
	shared  bool // other servers place holds and erase, too

	acting    sync.Mutex // makes looking and recording one step
	following sync.Mutex
	book      *retention.Book
}

// New returns the keeper of a ledger's holds.
func New(l *ledger.Ledger, j *ledger.Journal, s Store, now func() time.Time) *Keeper {
	_, shared := s.(ledger.Shared)
	k := &Keeper{shared: shared, ledger: l, journal: j, store: s, now: now, book: retention.NewBook()}
	k.find = search.Finder{Index: s, Reader: search.Present{Reader: s, Tombs: k}, Tombs: k}
	return k
}

// Book returns the holds as of a ledger of at least that size.
func (k *Keeper) Book(ctx context.Context, size int64) (*retention.Book, error) {
	k.following.Lock()
	defer k.following.Unlock()
	first := k.book.Size()
	if first >= size {
		return k.book, nil
	}
	f := search.Filter{Types: retention.Types()}
	err := k.find.Candidates(ctx, &f, search.Range{First: first, End: size}, func(index int64) error {
		e, err := k.entry(ctx, index)
		if errors.Is(err, search.ErrChanged) {
			k.book.Unread(index, err)
			return nil
		}
		if err != nil {
			return err
		}
		return k.book.Follow(index, e)
	})
	if err != nil {
		return nil, err
	}
	k.book.Skip(size)
	return k.book, nil
}

// entry returns what an entry says, whatever became of its content: what holds
// and tombstones say stands in the entry.
func (k *Keeper) entry(ctx context.Context, index int64) (*event.Event, error) {
	r, err := k.store.Record(ctx, index)
	var content *trail.ErasableError
	if err != nil && !errors.As(err, &content) {
		return nil, err
	}
	if r.Leaf != nil {
		return nil, fmt.Errorf("%w: entry %d: only its hash is left", search.ErrChanged, index)
	}
	e, _, err := event.ParseEntry(r.Entry)
	return e, err
}

// Erased implements [search.Tombs].
func (k *Keeper) Erased(index int64) bool { return k.book.Erased(index) }

// Pruned implements [search.Tombs].
func (k *Keeper) Pruned() int64 { return k.book.Pruned() }

// Follow implements [search.Tombs].
func (k *Keeper) Follow(ctx context.Context) error {
	_, _, err := k.current(ctx)
	return err
}

// CatchUp implements [search.Tombs]. Who erases here has the keeper follow.
func (k *Keeper) CatchUp(ctx context.Context) error {
	if !k.shared {
		return nil
	}
	_, err := k.Book(ctx, k.ledger.State().Size())
	return err
}

// current returns the holds as of now, and the ledger's size.
func (k *Keeper) current(ctx context.Context) (*retention.Book, int64, error) {
	if err := k.ledger.Refresh(ctx); err != nil {
		return nil, 0, err
	}
	size := k.ledger.State().Size()
	b, err := k.Book(ctx, size)
	return b, size, err
}

// Held returns the holds that keep an event, as far as a book knows.
func Held(b *retention.Book, h *search.Hit) []*retention.Hold {
	return b.Held(&retention.Subject{Index: h.Record.Index, Event: h.Event, Erased: h.Record.Erasable == nil}, math.MaxInt64)
}

// A Caller is who acts, and the namespaces that they see: nil for all.
type Caller struct {
	By         ledger.By
	Namespaces []string
}

// Place places a hold, and returns it with the number of events that it keeps
// already. What the caller has placed already, in the same words, is not placed
// again.
func (k *Keeper) Place(ctx context.Context, c Caller, o *Order) (*Answer, error) {
	k.acting.Lock()
	defer k.acting.Unlock()
	b, n, err := k.prepare(ctx, c, o)
	if err != nil {
		return nil, err
	}
	standing := 0
	for _, h := range b.Holds() {
		if h.Released != nil {
			continue
		}
		standing++
		if v := h.Last(); len(h.Versions) == 1 && v.By == c.By.Principal && v.Reason == o.Reason && v.Case == o.Case && v.Scope.Equal(&o.Scope) {
			return answer(h, n), nil
		}
	}
	if standing >= maxStanding {
		return nil, ErrTooMany
	}
	id := event.NewID(k.now())
	return k.act(ctx, c, retention.TypePlaced, id, &retention.Fact{Hold: id, Scope: &o.Scope, Reason: o.Reason, Case: o.Case}, n)
}

// Change gives a hold another scope, reason and case.
func (k *Keeper) Change(ctx context.Context, c Caller, id string, o *Order) (*Answer, error) {
	k.acting.Lock()
	defer k.acting.Unlock()
	b, n, err := k.prepare(ctx, c, o)
	if err != nil {
		return nil, err
	}
	h := standing(b, c, id)
	if h == nil {
		return nil, ErrNoHold
	}
	return k.act(ctx, c, retention.TypeChanged, event.NewID(k.now()), &retention.Fact{Hold: h.ID, Scope: &o.Scope, Reason: o.Reason, Case: o.Case}, n)
}

// prepare checks an order and counts the events that it is about.
func (k *Keeper) prepare(ctx context.Context, c Caller, o *Order) (*retention.Book, *int64, error) {
	if k.ledger.ReadOnly() {
		return nil, nil, ledger.ErrReadOnly
	}
	if o.Hold != "" {
		return nil, nil, &event.FieldError{Field: "hold_id", Reason: "a new hold gets its own; to change one, post to its address"}
	}
	o.Scope.Namespaces = c.Namespaces
	if err := (&retention.Fact{Scope: &o.Scope, Reason: o.Reason, Case: o.Case}).Check(); err != nil {
		return nil, nil, err
	}
	b, size, err := k.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	n, err := k.count(ctx, &o.Scope, size)
	if err == nil && n != nil && *n == 0 && !o.Future {
		err = ErrNothing
	}
	return b, n, err
}

// Release releases the hold with an id or, if there is none, the one whose
// scope is a correlation id. Either is name or, where that is empty, stands in
// the order.
func (k *Keeper) Release(ctx context.Context, c Caller, name string, o *Order) (*Answer, error) {
	k.acting.Lock()
	defer k.acting.Unlock()
	if k.ledger.ReadOnly() {
		return nil, ledger.ErrReadOnly
	}
	name = cmp.Or(name, o.Hold, o.Scope.CorrelationID)
	if only := (retention.Scope{CorrelationID: o.Scope.CorrelationID}); name == "" || !o.Scope.Equal(&only) {
		return nil, &event.FieldError{Field: "hold_id", Reason: "to release, name one hold, by its id or its correlation_id"}
	}
	f := &retention.Fact{Reason: o.Reason}
	if err := f.Check(); err != nil {
		var invalid event.Invalid
		if errors.As(err, &invalid) {
			invalid[0].Field = "release_reason"
		}
		return nil, err
	}
	b, size, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	h := standing(b, c, name)
	if h == nil {
		all := slices.DeleteFunc(b.Holds(), func(h *retention.Hold) bool {
			return h.Released != nil || !h.Last().Scope.Within(c.Namespaces) || !h.Last().Scope.Of(name)
		})
		switch len(all) {
		case 0:
			return nil, ErrNoHold
		case 1:
			h = all[0]
		default:
			return nil, ErrSeveral
		}
	}
	n, err := k.count(ctx, &h.Last().Scope, size)
	if err != nil {
		return nil, err
	}
	f.Hold, f.Case = h.ID, h.Last().Case
	a, err := k.act(ctx, c, retention.TypeReleased, event.NewID(k.now()), f, nil)
	if err == nil {
		a.Released = n
	}
	return a, err
}

// standing returns a hold by its id if it stands and the caller may see it.
func standing(b *retention.Book, c Caller, id string) *retention.Hold {
	parsed, err := event.ParseID(id)
	if err != nil {
		return nil
	}
	if h := b.Hold(parsed); h != nil && h.Released == nil && h.Last().Scope.Within(c.Namespaces) {
		return h
	}
	return nil
}

// act records what becomes of a hold, and returns the hold as it stands then.
// Of two servers that release or change it at a time, the ledger has both
// events, and the hold the effect of the first release.
func (k *Keeper) act(ctx context.Context, c Caller, eventType string, id event.ID, f *retention.Fact, n *int64) (*Answer, error) {
	err := k.journal.Once(ctx, ledger.Act{Type: eventType, ID: id, By: c.By,
		Resource: event.Resource{Kind: "LegalHold", Name: f.Hold.String()}, Details: f.Details(), Facts: f.Member()})
	if err != nil {
		return nil, err
	}
	b, _, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	h := b.Hold(f.Hold)
	if h == nil {
		return nil, ErrNoHold
	}
	return answer(h, n), nil
}

// List returns the holds that stand and that the caller may see, in the order
// of their placing; with released, those released, too.
func (k *Keeper) List(ctx context.Context, c Caller, released bool) ([]*Answer, error) {
	b, _, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	list := []*Answer{}
	for _, h := range b.Holds() {
		if (released || h.Released == nil) && h.Last().Scope.Within(c.Namespaces) {
			list = append(list, answer(h, nil))
		}
	}
	return list, nil
}

// Get returns a hold by its id, released or not, with all of its versions and
// the number of events in its scope.
func (k *Keeper) Get(ctx context.Context, c Caller, id string) (*Answer, error) {
	b, size, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	parsed, err := event.ParseID(id)
	if err != nil {
		return nil, &search.ParamError{Param: "id", Reason: err.Error()}
	}
	h := b.Hold(parsed)
	if h == nil || !h.Last().Scope.Within(c.Namespaces) {
		return nil, ErrNoHold
	}
	n, err := k.count(ctx, &h.Last().Scope, size)
	if err != nil {
		return nil, err
	}
	a := answer(h, n)
	for i := range h.Versions {
		a.Versions = append(a.Versions, versionOf(&h.Versions[i]))
	}
	return a, nil
}

// filterOf returns a filter that finds the events in a scope, but for what its
// condition says.
func filterOf(s *retention.Scope) search.Filter {
	f := search.Filter{Actor: s.Actor, CorrelationID: s.CorrelationID, Namespace: s.Namespace, Kind: s.Kind, Resource: s.Resource,
		Access: true, Scope: s.Namespaces}
	if s.From != nil {
		f.From = *s.From
	}
	if s.To != nil {
		f.To = *s.To
	}
	return f
}

// Select calls fn for the events below size that are in a scope, in order, until
// fn gives an error, which it returns. Where it cannot be told whether an event
// is, unsure says why.
func (k *Keeper) Select(ctx context.Context, s *retention.Scope, size int64, fn func(s *retention.Subject, unsure error) error) error {
	m := s.Matcher()
	look := func(h search.Hit) error {
		subject := &retention.Subject{Index: h.Record.Index, Event: h.Event, Erased: h.Record.Erasable == nil}
		is, unsure := m.Match(subject)
		if !is && unsure == nil {
			return nil
		}
		return fn(subject, unsure)
	}
	if s.Event != "" {
		h, err := k.one(ctx, s.Event, size)
		if err != nil || h == nil || h.Record.Leaf != nil { // nothing is left to keep
			return err
		}
		return look(*h)
	}
	f := filterOf(s)
	return k.find.Each(ctx, &f, search.Range{End: size}, look)
}

// maxCount is how long events are counted that no index counts.
const maxCount = 10 * time.Second

// count returns the number of events in a scope, or nil where to count them
// would take too long.
func (k *Keeper) count(ctx context.Context, s *retention.Scope, size int64) (*int64, error) {
	var n int64
	one := func(*retention.Subject, error) error { n++; return nil }
	if s.Event != "" {
		err := k.Select(ctx, s, size, one)
		return &n, err
	}
	f := filterOf(s)
	if s.Match == "" {
		a, err := k.find.Page(ctx, &f, search.Page{Limit: 1, Cursor: -1}, size)
		if err != nil {
			return nil, err
		}
		return &a.Total, nil
	}
	bounded, cancel := context.WithTimeout(ctx, maxCount)
	defer cancel()
	err := k.Select(bounded, s, size, one)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return nil, nil
	}
	return &n, err
}
