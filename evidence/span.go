package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// A Span is the end of a ledger, from an entry on: with the hashes of what stands before
// it, its entries give the tree's root.
type Span struct {
	First int64 `json:"first"`
	Size  int64 `json:"size"` // of the ledger
	// Edge are the roots of the last complete subtree of each height that the first
	// entries make up, the lowest first: what [trail.ResumeTree] asks for.
	Edge []tlog.Hash `json:"edge"`
}

// hashes is a reader of the hashes that it was given, in the order of the questions; or
// one that takes note of the answers of another.
type hashes struct {
	from  tlog.HashReader // nil to give what is in list
	list  []tlog.Hash
	given int
}

func (h *hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	if h.from != nil {
		got, err := h.from.ReadHashes(indexes)
		h.list = append(h.list, got...)
		return got, err
	}
	if h.given+len(indexes) > len(h.list) {
		return nil, errors.New("too few hashes")
	}
	got := slices.Clone(h.list[h.given : h.given+len(indexes)])
	h.given += len(indexes)
	return got, nil
}

// NewSpan returns the span of a ledger from an entry on.
func NewSpan(r tlog.HashReader, first, size int64) (*Span, error) {
	if first < 0 || first > size {
		return nil, fmt.Errorf("a span from %d of %d entries", first, size)
	}
	h := &hashes{from: r, list: []tlog.Hash{}}
	if _, err := trail.ResumeTree(first, h); err != nil {
		return nil, err
	}
	return &Span{First: first, Size: size, Edge: h.list}, nil
}

// ParseSpan reads what json.Marshal makes of a span.
func ParseSpan(text []byte) (*Span, error) {
	s := new(Span)
	if err := strict(text, s); err != nil {
		return nil, fmt.Errorf("span: %w", err)
	}
	if s.First < 0 || s.First > s.Size || len(s.Edge) > 64 {
		return nil, fmt.Errorf("span: from %d of %d entries, with %d hashes", s.First, s.Size, len(s.Edge))
	}
	return s, nil
}

// Root returns the root that the span's entries give, read in the form that
// [trail.AppendBundled] writes; each is shown to fn, which must not keep it.
func (s *Span) Root(entries io.Reader, fn func(index int64, entry []byte) error) (trail.Hash, error) {
	tree, err := trail.ResumeTree(s.First, &hashes{list: s.Edge})
	if err != nil {
		return trail.Hash{}, fmt.Errorf("span: %w", err)
	}
	var length [2]byte
	var entry []byte
	for {
		if _, err := io.ReadFull(entries, length[:]); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return trail.Hash{}, fmt.Errorf("entry %d: %w", tree.Size(), err)
		}
		entry = slices.Grow(entry[:0], int(binary.BigEndian.Uint16(length[:])))[:binary.BigEndian.Uint16(length[:])]
		if _, err := io.ReadFull(entries, entry); err != nil {
			return trail.Hash{}, fmt.Errorf("entry %d: %w", tree.Size(), err)
		}
		if err := fn(tree.Size(), entry); err != nil {
			return trail.Hash{}, err
		}
		tree.Append(trail.LeafHash(entry), nil)
	}
	if tree.Size() != s.Size {
		return trail.Hash{}, fmt.Errorf("there are %d entries from %d on, there should be %d", tree.Size()-s.First, s.First, s.Size-s.First)
	}
	return tree.Root(), nil
}

// Ahead is how much earlier than it happened an event may be recorded, and some: entries
// that were recorded so long before a window cannot be about it.
const Ahead = 2 * time.Hour

// A Filter is what a package has the events of.
type Filter struct {
	// From is the first moment, To the first that is not asked for.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Namespace limits it to events about resources there; empty for all.
	Namespace string `json:"namespace"`
	// Namespaces, if not null, are those that whoever asked may see.
	Namespaces []string `json:"namespaces"`
}

// Match reports whether an event is among those asked for: by its time and namespace,
// and none that tells of reading the ledger.
func (f *Filter) Match(e *event.Event) bool {
	if e.Timestamp.Before(f.From) || !e.Timestamp.Before(f.To) {
		return false
	}
	namespace := e.Resource.Namespace
	if f.Namespace != "" && namespace != f.Namespace || f.Namespaces != nil && !slices.Contains(f.Namespaces, namespace) {
		return false
	}
	t, ok := event.Lookup(e.EventType)
	return !ok || !t.Access
}
