// Package tombstone knows which entries, or their content, a ledger says were
// erased.
//
// The content of an event, its details, error message and original spellings,
// can be erased without breaking chain or tree, for an entry holds digests of it
// only. Whole entries can go from the ledger's beginning on, up to a multiple of
// [Width]: their hashes stay, and the value from which the chain goes on. The
// ledger says what was erased by entries of its own, tombstones: they tell what
// was erased from what somebody took away.
package tombstone

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"

	"github.com/graven-audit/graven/event"
)

// Types of the ledger's own entries that decide what may be erased.
const (
	// TypeHoldPlaced and TypeHoldChanged have events kept that were not.
	TypeHoldPlaced  = "LegalHoldPlaced"
	TypeHoldChanged = "LegalHoldChanged"
	// TypeRetentionRun and TypeContentErased are tombstones: of what was due,
	// and of what somebody asked to erase.
	TypeRetentionRun  = "RetentionRun"
	TypeContentErased = "ContentErased"
)

// ErrBare is for an entry whose erasable content is gone, though no tombstone
// names it.
var ErrBare = errors.New("the details are missing, and no tombstone in the ledger says that they may be")

// ErrPruned is for an entry of which only the hash is left, though no tombstone
// says that it was erased.
var ErrPruned = errors.New("only the entry's hash is left, and no tombstone in the ledger says that it may be so")

// Width is what the index below which entries are erased is a multiple of: the
// width of a tile (C2SP tlog-tiles, minimum index).
const Width = 256

// MaxRuns bounds the runs of entries that a tombstone names.
const MaxRuns = 4096

// A Run is Count entries from First on.
type Run struct{ First, Count int64 }

// End returns the index behind the run's last entry.
func (r Run) End() int64 { return r.First + r.Count }

// A Tombstone is what an entry says was erased: the salt and the erasable
// content of other entries, and whole entries, all before it. It stands in the
// entry's member "ledger", which only the ledger writes:
//
//	{"erased":{"asOf":4096,"details":[[300,1]],"entries":{"chain":"<hexadecimal>","end":256,"kept":1},"policies":"<SHA-256, hexadecimal>"}}
type Tombstone struct {
	// AsOf is the size of the ledger for which was decided what may go. Where a
	// hold was placed or changed from there on, but before the tombstone, it
	// names nothing: what it says was decided without knowing of the hold.
	AsOf int64
	// Details are the entries, in order.
	Details []Run
	// Entries is the index below which the entries were erased, but for those
	// that have a member "ledger", which are Kept in number; 0 for none. Chain is
	// the chain's value there.
	Entries, Kept int64
	Chain         [32]byte
	// Policies is the digest of the policies that were applied; empty where
	// somebody asked.
	Policies string
}

// Member returns the tombstone as the member "ledger" of its entry.
func (t *Tombstone) Member() map[string]any {
	details := make([]any, len(t.Details))
	for i, r := range t.Details {
		details[i] = []any{r.First, r.Count}
	}
	erased := map[string]any{"asOf": t.AsOf, "details": details}
	if t.Entries > 0 {
		erased["entries"] = map[string]any{"end": t.Entries, "kept": t.Kept, "chain": hex.EncodeToString(t.Chain[:])}
	}
	if t.Policies != "" {
		erased["policies"] = t.Policies
	}
	return map[string]any{"erased": erased}
}

// Parse reads what the entry of an index says in its member "ledger".
func Parse(index int64, member []byte) (*Tombstone, error) {
	var outer struct {
		Erased *struct {
			AsOf    *int64     `json:"asOf"`
			Details [][2]int64 `json:"details"`
			Entries *struct {
				End   int64  `json:"end"`
				Kept  int64  `json:"kept"`
				Chain string `json:"chain"`
			} `json:"entries"`
			Policies string `json:"policies"`
		} `json:"erased"`
	}
	d := json.NewDecoder(bytes.NewReader(member))
	d.DisallowUnknownFields() // a newer version may mean more
	if err := d.Decode(&outer); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	x := outer.Erased
	switch {
	case x == nil:
		return nil, errors.New("ledger.erased: missing")
	case x.AsOf == nil || *x.AsOf < 0 || *x.AsOf > index:
		return nil, errors.New("ledger.erased.asOf: not the size of the ledger that it was decided for")
	case len(x.Details) > MaxRuns:
		return nil, fmt.Errorf("ledger.erased.details: %d runs, the limit is %d", len(x.Details), MaxRuns)
	}
	t := &Tombstone{AsOf: *x.AsOf, Policies: x.Policies}
	end := int64(0)
	for i, pair := range x.Details {
		r := Run{pair[0], pair[1]}
		if r.First < end || r.Count < 1 || r.Count > t.AsOf-r.First {
			return nil, fmt.Errorf("ledger.erased.details[%d]: not entries below %d that stand behind those before", i, t.AsOf)
		}
		end = r.End()
		t.Details = append(t.Details, r)
	}
	if p := x.Entries; p != nil {
		if p.End <= 0 || p.End%Width != 0 || p.End > t.AsOf {
			return nil, fmt.Errorf("ledger.erased.entries.end: not a multiple of %d up to %d", Width, t.AsOf)
		}
		if p.Kept < 0 || p.Kept > p.End {
			return nil, fmt.Errorf("ledger.erased.entries.kept: not a number of entries below %d", p.End)
		}
		chain, err := hex.DecodeString(p.Chain)
		if err != nil || len(chain) != len(t.Chain) {
			return nil, errors.New("ledger.erased.entries.chain: not the hexadecimal form of a hash")
		}
		t.Entries, t.Kept, t.Chain = p.End, p.Kept, [32]byte(chain)
	}
	return t, nil
}

// A judge knows which tombstones count, as of some size of the ledger.
type judge struct {
	grown int64 // behind the last hold that was placed or changed
}

// Erased knows which entries' content a ledger's tombstones name, as of some
// size. The zero Erased is that of an empty ledger.
type Erased struct {
	judge
	named  Indexes
	pruned int64
	kept   int64
}

// Decides reports whether an entry may be one that [Erased.Follow] must be told
// of. It is quick, and rarely says so of others.
func Decides(entry []byte) bool { return bytes.Contains(entry, ownMember) }

// ownMember cannot stand within a string, where quotes are escaped.
var ownMember = []byte(`"ledger":{`)

// Grow takes note of an entry that may have placed a hold, and cannot be read.
func (j *judge) Grow(index int64) { j.grown = index + 1 }

// follow takes note of the next entry that decides what may be erased. It
// returns the tombstone, if the entry is one and it counts.
func (j *judge) follow(index int64, e *event.Event) *Tombstone {
	switch e.EventType {
	case TypeHoldPlaced, TypeHoldChanged:
		j.Grow(index)
	case TypeRetentionRun, TypeContentErased:
		if t, err := Parse(index, e.Ledger); err == nil && t.AsOf >= j.grown {
			return t
		}
	}
	return nil
}

// Follow takes note of the next entry that decides what may be erased, in order
// of index. It returns the tombstone, if the entry is one and it counts. What
// cannot be read names nothing.
func (x *Erased) Follow(index int64, e *event.Event) *Tombstone {
	t := x.follow(index, e)
	if t != nil {
		for _, r := range t.Details {
			x.named.Add(r)
		}
		if t.Entries > x.pruned {
			x.pruned, x.kept = t.Entries, t.Kept
		}
	}
	return t
}

// Names reports whether a tombstone names an entry, or its content.
func (x *Erased) Names(index int64) bool { return index < x.pruned || x.named.Has(index) }

// Pruned returns the index below which entries were erased.
func (x *Erased) Pruned() int64 { return x.pruned }

// Kept returns how many of those entries were kept.
func (x *Erased) Kept() int64 { return x.kept }

// Indexes is a set of indexes of entries. It takes memory by how far they are
// apart: a bit for each where they are dense. The zero set is empty.
type Indexes struct {
	pages map[int64]*page
	count int64
}

const pageSize = 1 << 13 // indexes, in 1 KiB

type page [pageSize / 64]uint64

// Add adds the entries of a run.
func (s *Indexes) Add(r Run) {
	if s.pages == nil {
		s.pages = map[int64]*page{}
	}
	for i := r.First; i < r.End(); {
		p := s.pages[i/pageSize]
		if p == nil {
			p = new(page)
			s.pages[i/pageSize] = p
		}
		at := i % pageSize
		n := min(64-at%64, r.End()-i) // of the bits of one word
		mask := (^uint64(0) >> (64 - n)) << (at % 64)
		s.count += int64(bits.OnesCount64(mask &^ p[at/64]))
		p[at/64] |= mask
		i += n
	}
}

// Has reports whether an index is in the set.
func (s *Indexes) Has(index int64) bool {
	p := s.pages[index/pageSize]
	return p != nil && p[index%pageSize/64]>>(index%64)&1 == 1
}

// Empty reports whether there is no index in the set.
func (s *Indexes) Empty() bool { return s.count == 0 }

// Meets reports whether the sets have an index in common.
func (s *Indexes) Meets(other *Indexes) bool {
	for n, p := range s.pages {
		if o := other.pages[n]; o != nil {
			for k := range p {
				if p[k]&o[k] != 0 {
					return true
				}
			}
		}
	}
	return false
}

// each calls fn for the indexes below end, in order, until fn returns false.
func (s *Indexes) each(end int64, fn func(index int64) bool) {
	for _, n := range slices.Sorted(maps.Keys(s.pages)) {
		for k, w := range s.pages[n] {
			for ; w != 0; w &= w - 1 {
				if i := n*pageSize + int64(k)*64 + int64(bits.TrailingZeros64(w)); i >= end || !fn(i) {
					return
				}
			}
		}
	}
}

// Merge returns the entries of runs in order and apart. It uses their memory.
func Merge(runs []Run) []Run {
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Compare(a.First, b.First) })
	merged := runs[:0]
	for _, r := range runs {
		if last := len(merged) - 1; last >= 0 && r.First <= merged[last].End() {
			merged[last].Count = max(merged[last].End(), r.End()) - merged[last].First
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// An Absence judges the entries of a ledger that are gone but for their hash, or
// lack their erasable content. It
// is told of all entries that are of interest, in order of index; a tombstone
// counts once it is sealed. The zero Absence has seen no entry.
type Absence struct {
	bare    Indexes // pruned ones, too
	pruned  Indexes
	judge   judge
	named   []Run      // as tombstones say it: whoever forges one may name more entries than memory has bits
	pending []decision // entries that decide, and are not sealed yet
	plain   []Run      // entries that are there, and have no member "ledger"
	first   resume     // the greatest that a tombstone tells of
	stones  []resume   // all that tombstones tell of
	kept    int64      // of the entries below the greatest
	edges   []resume   // behind the last that was pruned
}

// maxEdges bounds the values of the chain that are kept. Behind the last entry
// that was pruned, before the index that the tombstone tells, stand at most as
// many that were kept.
const maxEdges = 4096

// A resume is an index below which entries were erased, and the chain's value
// there.
type resume struct {
	end   int64
	chain [32]byte
}

type decision struct {
	index int64
	entry []byte
}

// Entry tells of the next entry, with the chain's value after it, whether it
// lacks its erasable content, and whether only its hash is left.
func (a *Absence) Entry(index int64, chain [32]byte, entry []byte, bare, pruned bool) {
	if bare || pruned {
		a.bare.Add(Run{index, 1})
	}
	if pruned {
		a.pruned.Add(Run{index, 1})
		a.edges = a.edges[:0]
	}
	if a.pruned.count > 0 && index%Width == Width-1 && len(a.edges) < maxEdges {
		a.edges = append(a.edges, resume{index + 1, chain})
	}
	switch {
	case pruned: // no hash speaks for what is left
	case Decides(entry):
		a.Decision(index, entry)
	default:
		a.whole(index)
	}
}

// whole takes note of an entry that is there, and not one of those that are kept.
func (a *Absence) whole(index int64) {
	if n := len(a.plain) - 1; n >= 0 && a.plain[n].End() == index {
		a.plain[n].Count++
	} else {
		a.plain = append(a.plain, Run{index, 1})
	}
}

// Decision tells of an entry of which [Decides] is true. It keeps a copy.
func (a *Absence) Decision(index int64, entry []byte) {
	a.pending = append(a.pending, decision{index, bytes.Clone(entry)})
}

// Seal tells that the entries below size are under a checkpoint.
func (a *Absence) Seal(size int64) {
	n := 0
	for ; n < len(a.pending) && a.pending[n].index < size; n++ {
		if e, _, err := event.ParseEntry(a.pending[n].entry); err == nil {
			if t := a.judge.follow(a.pending[n].index, e); t != nil {
				a.named = append(a.named, t.Details...)
				if t.Entries > 0 {
					a.stones = append(a.stones, resume{t.Entries, t.Chain})
				}
				if t.Entries > a.first.end {
					a.first, a.kept = resume{t.Entries, t.Chain}, t.Kept
				}
			}
		} else {
			a.judge.Grow(a.pending[n].index)
		}
	}
	a.pending = a.pending[n:]
}

// Named returns how many entries lack their content, as tombstones say.
func (a *Absence) Named() int64 {
	n := a.bare.count
	a.Unnamed(math.MaxInt64, func(int64, error) bool { n--; return true })
	return n
}

// Below returns the index below which tombstones say that entries were erased,
// and how many of them have only their hash left.
func (a *Absence) Below() (end, pruned int64) {
	a.pruned.each(a.first.end, func(int64) bool { pruned++; return true })
	return a.first.end, pruned
}

// Unnamed calls fn for the entries below end that lack their content, or are
// gone but for their hash, though no tombstone names them, in order, with
// [ErrBare] or [ErrPruned], until fn returns false.
func (a *Absence) Unnamed(end int64, fn func(index int64, why error) bool) {
	a.named = Merge(a.named)
	rest := a.named
	a.bare.each(end, func(index int64) bool {
		if index < a.first.end {
			return true
		}
		if a.pruned.Has(index) {
			return fn(index, ErrPruned)
		}
		for len(rest) > 0 && rest[0].End() <= index {
			rest = rest[1:]
		}
		return len(rest) > 0 && rest[0].First <= index || fn(index, ErrBare)
	})
}

// Agrees returns an error where what is left of entries that were erased is not
// what the tombstone says: the value from which the chain goes on, and how many
// entries were kept.
func (a *Absence) Agrees() error {
	for _, t := range a.stones {
		for _, e := range a.edges {
			if e.end == t.end && e.chain != t.chain {
				return fmt.Errorf("the chain's value after entry %d is not the one that the tombstone says", e.end-1)
			}
		}
	}
	end, left := a.Below()
	left = end - left
	for _, r := range a.plain {
		left -= max(0, min(r.End(), end)-r.First)
	}
	if left < a.kept {
		return fmt.Errorf("%d of the entries below %d were kept, as the tombstone says, and %d are left", a.kept, end, left)
	}
	return nil
}

// Kept returns how many entries below end have their content, though tombstones
// name them.
func (a *Absence) Kept(end int64) (n int64) {
	a.named = Merge(a.named)
	n = min(end, a.first.end)
	for _, r := range a.named {
		n += max(0, min(end, r.End())-max(r.First, a.first.end))
	}
	a.bare.each(end, func(int64) bool { n--; return true })
	a.Unnamed(end, func(int64, error) bool { n++; return true })
	return n
}

// Check returns [ErrBare] or [ErrPruned] with the first entry that lacks its
// content, or is gone, though no tombstone names it, or what [Absence.Agrees]
// does.
func (a *Absence) Check() error {
	var err error
	a.Unnamed(math.MaxInt64, func(index int64, why error) bool {
		err = fmt.Errorf("entry %d: %w", index, why)
		return false
	})
	return cmp.Or(err, a.Agrees())
}
