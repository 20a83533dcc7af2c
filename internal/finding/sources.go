package finding

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/graven-audit/graven/event"
)

// A Key stands for a source's name and the epoch of its count.
type Key [16]byte

// KeyOf returns the key of an event's source. Whoever finds another name with
// the same key could have taken the name as well.
func KeyOf(s event.Source) (name, count Key) {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s.Name))))
	h.Write([]byte(s.Name))
	copy(name[:], h.Sum(nil))
	h.Write([]byte(s.Epoch))
	copy(count[:], h.Sum(nil))
	return name, count
}

// IsNumbered reports whether a source's events are counted.
func IsNumbered(s event.Source) bool { return s.Name != "" && s.Seq > 0 }

// IsSign reports whether events of a type say how long their source will be
// silent at most: a heartbeat, or a farewell.
func IsSign(eventType string) bool {
	return eventType == event.TypeHeartbeat || eventType == event.TypeStopped
}

// A Count is what the ledger has of one count of a source: of all events with
// its name and epoch.
type Count struct {
	// First and Last are the indexes of its first and its newest entry.
	First, Last int64
	// Entries are how many there are, and Distinct how many numbers they bear.
	Entries, Distinct int64
	// Sign is the index of its newest heartbeat or farewell, -1 for none.
	Sign int64
	// Earlier is how many counts of the same name began before it.
	Earlier int64
}

// A Hole is numbers of a count that no entry bears, between two that do.
type Hole struct {
	From, To int64
	// Before and After are the indexes of the first entries with the numbers
	// around it. Before is -1 where the count begins with the hole.
	Before, After int64
}

// Sources is what a store derives from the sources of events ([IsNumbered]). A
// source's name limits what is asked for to that source, unless it is empty. It
// costs time by what is told, and not by how many entries there are.
type Sources interface {
	// Derived returns when all of this covers every entry below size.
	Derived(ctx context.Context, size int64) error
	// Holes calls fn for each hole, those of a count in rising order.
	Holes(ctx context.Context, source string, fn func(Hole) error) error
	// Signed calls fn for each count that has a heartbeat or a farewell.
	Signed(ctx context.Context, source string, fn func(Count) error) error
	// Odd calls fn for each count that is not the first of its name, or in
	// which a number is borne by several entries.
	Odd(ctx context.Context, source string, fn func(Count) error) error
}
