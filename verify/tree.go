package verify

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
)

// An assembly puts a ledger's leaves together in order of index and holds the
// outcome against hash tiles and signed checkpoints.
//
// Where an entry and its tile differ, or an entry does not follow its
// predecessor in the chain, it is not known at once which of them is wrong.
// Such entries are suspects, and the tree is grown in up to three ways: by
// the entries as they stand, by the tiles, and by the tile wherever the chain
// speaks against the entry. The next checkpoint whose signature is good tells
// which way is right, and judge names the culprits. Where no way leads to the
// root that was signed, the tree is lost: what follows is held against the
// chain and the tiles only.
type assembly struct {
	rep *reporter
	// stored are the tree's hashes as they are kept, as far as there are some.
	stored hashSource

	next     int64   // index of the next leaf
	asStands *forest // what is believed, unless there are the others
	byTiles  *forest // nil unless a leaf differs from its tile
	byLinks  *forest // nil unless a leaf differs from its tile
	suspects []suspect
	doubt    bool // something since the last checkpoint may explain a wrong root
	lost     bool

	block  int64 // the run of row 0 that hashes holds
	hashes []trail.Hash

	since   []earlier // to be compared yet, by size
	matched int64     // size of the greatest one that agreed
	settled int64     // size of the ledger's own last checkpoint that agreed

	wrong      int64     // the last entry that was found wrong
	misplaced  []suspect // wrong entries of which the right hash is known
	tileFaults hashFaults
	// vague is the place in Findings of one that names all entries since the
	// checkpoint before the last, for want of anything better, or -1.
	vague int
}

// A slot is one entry's place in the ledger and what was found there.
type slot struct {
	index int64
	where place
	leaf  trail.Hash
	// unlinked: the chain speaks against the entry.
	unlinked bool
	// reported: a finding names the entry already.
	reported bool
	// fault says what is wrong with the erasable content, or is "".
	fault string
}

type suspect struct {
	slot
	tiled bool // there is a tile, and it has:
	want  trail.Hash
}

func (s *suspect) differs() bool { return s.tiled && s.leaf != s.want }

func newAssembly(rep *reporter, since []earlier, stored hashSource) *assembly {
	a := &assembly{rep: rep, stored: stored, asStands: &forest{runs: tree.Runs{Step: stored.step}}, block: -1, since: slices.Clone(since), wrong: -2, vague: -1}
	slices.SortStableFunc(a.since, func(x, y earlier) int { return cmp.Compare(x.Size, y.Size) })
	return a
}

// add adds the next entry.
func (a *assembly) add(s slot) error {
	want, tiled, err := a.expect(s.index)
	if err != nil {
		return err
	}
	a.next = s.index + 1
	p := suspect{slot: s, tiled: tiled, want: want}
	if a.vague >= 0 && s.unlinked { // the chain knows which of them it was
		f := &a.rep.Findings[a.vague]
		f.Index, f.Message = s.index-1, fmt.Sprintf("entry %d is not under the checkpoint behind it, and entry %d does not follow it in the chain", s.index-1, s.index)
		p.reported = true
	}
	a.vague = -1
	if p.unlinked || p.reported || p.differs() || p.fault != "" {
		a.doubt = a.doubt || p.unlinked || p.reported || p.differs()
		switch {
		case len(a.suspects) < 2*a.rep.limit:
			a.suspects = append(a.suspects, p)
		case !p.reported:
			a.rep.Omitted++
		}
	}
	if a.lost {
		return nil
	}
	if p.differs() {
		a.rival()
	}
	a.grow(s.leaf, p)
	return nil
}

// skip passes over entries that are not there; tiles stand in for them.
func (a *assembly) skip(to int64) error {
	for !a.lost && a.next < to {
		want, tiled, err := a.expect(a.next)
		if err != nil {
			return err
		}
		if !tiled {
			a.lost = true
			break
		}
		a.next++
		a.rival()
		a.doubt = true
		a.grow(want, suspect{want: want, tiled: true})
	}
	a.next = to
	return nil
}

// expect gets ready for an entry and returns what its tile has for it.
func (a *assembly) expect(index int64) (want trail.Hash, tiled bool, err error) {
	a.compare(index)
	if n := index / trail.TileWidth; n != a.block {
		a.block = n
		if a.hashes, err = a.stored.run(0, n); err != nil {
			return want, false, err
		}
		if !a.lost && !a.doubt {
			if err := a.checkRuns(); err != nil {
				return want, false, err
			}
		}
	}
	if k := index % trail.TileWidth; k < int64(len(a.hashes)) {
		return a.hashes[k], true, nil
	}
	return want, false, nil
}

// rival begins to grow the tree in other ways, too.
func (a *assembly) rival() {
	if a.byTiles == nil {
		a.byTiles, a.byLinks = a.asStands.clone(), a.asStands.clone()
	}
}

func (a *assembly) grow(leaf trail.Hash, p suspect) {
	a.asStands.grow(leaf)
	if a.byTiles == nil {
		return
	}
	tile := leaf
	if p.tiled {
		tile = p.want
	}
	a.byTiles.grow(tile)
	if p.unlinked || p.reported {
		leaf = tile
	}
	a.byLinks.grow(leaf)
}

// way returns the tree that has the given root, or nil.
func (a *assembly) way(root trail.Hash) *forest {
	for _, f := range []*forest{a.asStands, a.byTiles, a.byLinks} {
		if !a.lost && f != nil && f.Root() == root {
			return f
		}
	}
	return nil
}

// compare holds the tree of size entries against earlier checkpoints.
func (a *assembly) compare(size int64) {
	for len(a.since) > 0 && a.since[0].Size <= size {
		e := a.since[0]
		a.since = a.since[1:]
		switch {
		case e.Size == a.asStands.Size() && a.way(e.Root) != nil:
			if !e.own {
				a.matched = e.Size
			}
		case a.lost || a.doubt || e.Size != a.asStands.Size():
			a.rep.unproven("%s could not be compared: entries before its end are missing or were changed", e.what)
		default:
			first := a.matched
			if e.own { // it is as good as the ledger's other checkpoints
				first = max(first, a.settled)
			}
			first %= max(e.Size, 1)
			a.rep.add(Forked, first, e.where, "%s has another root than the first %d entries here: not all of %s are those it was signed for",
				e.what, e.Size, entries(first, e.Size))
		}
	}
}

// settle judges the suspects once a checkpoint of the tree's size was
// compared: right is the tree that has its root, or nil. The entries from
// first on have not been under a checkpoint before.
func (a *assembly) settle(right *forest, first int64, at place) error {
	explained := a.judge(right)
	if right != nil {
		a.settled = right.Size()
		a.asStands, a.doubt = right, false
		a.byTiles, a.byLinks = nil, nil
		return a.checkRuns()
	}
	if !a.lost && !explained && !a.doubt {
		a.vague = a.rep.add(Changed, first, at.String(), "%s: one of them, or more, is not what the checkpoint of %d entries was signed for", entries(first, a.next), a.next)
	}
	a.lost = true
	return nil
}

// forget drops suspects from an index on.
func (a *assembly) forget(from int64) {
	a.suspects = slices.DeleteFunc(a.suspects, func(s suspect) bool { return s.index >= from })
}

// judge reports the suspects, given which way is right; nil means that none
// is known to be. It reports whether there were wrong entries among them.
func (a *assembly) judge(right *forest) (explained bool) {
	for _, s := range a.suspects {
		var wrong bool
		switch right {
		case nil:
			wrong = s.unlinked || s.reported || s.differs()
		case a.asStands:
			wrong = false
		case a.byTiles:
			wrong = s.differs()
		case a.byLinks:
			wrong = s.differs() && (s.unlinked || s.reported)
		}
		if s.differs() && !wrong {
			a.tileFaults.add(s.index)
		}
		switch {
		case wrong && right != nil:
			if len(a.misplaced) < 2*a.rep.limit {
				a.misplaced = append(a.misplaced, s)
			}
			if !s.reported {
				a.rep.add(Changed, s.index, s.where.String(), "the entry does not have the hash that was sealed for entry %d", s.index)
			}
		case s.reported:
		case s.unlinked && right == nil:
			a.rep.add(Changed, s.index, s.where.String(), "entry %d does not follow entry %d in the chain: it, or the chain value before it, was changed", s.index, s.index-1)
		case wrong:
			a.rep.add(Changed, s.index, s.where.String(), "entry %d and its hash in %s differ, and no checkpoint confirms either", s.index, a.stored.where(0, s.index).file)
		case s.unlinked && a.wrong != s.index-1:
			a.rep.add(Changed, s.index, s.where.String(), "the chain value of entry %d was changed; the entry was not", s.index)
		case s.fault != "":
			a.rep.add(DetailsMismatch, s.index, s.where.String(), "%s", s.fault)
		}
		if wrong {
			explained, a.wrong = true, s.index
		}
	}
	a.suspects = a.suspects[:0]
	return explained
}

// finish judges what no checkpoint has settled. Among the wrong entries it
// looks for those that stand in each other's places.
func (a *assembly) finish() error {
	if !a.lost && !a.doubt {
		a.asStands.runs.Close(a.asStands.Size())
		if err := a.checkRuns(); err != nil {
			return err
		}
	}
	a.judge(nil)
	a.tileFaults.report(a.rep, &a.stored)
	a.compare(a.next)
	for _, e := range a.since {
		if !e.own { // what the ledger itself tells of was not rolled back, but cut off
			a.rep.add(RolledBack, a.next, e.where, "%s was signed before; here are only %d", e.what, a.next)
		}
	}
	belongs := map[trail.Hash]int64{}
	for _, s := range a.misplaced {
		belongs[s.want] = s.index
	}
	moved := map[int64]int64{}
	for _, s := range a.misplaced {
		if j, ok := belongs[s.leaf]; ok && j != s.index {
			moved[s.index] = j
		}
	}
	for i := range a.rep.Findings {
		f := &a.rep.Findings[i]
		if j, ok := moved[f.Index]; ok && f.Kind == Changed {
			f.Kind, f.Message = Reordered, fmt.Sprintf("entry %d stands in the place of entry %d", j, f.Index)
		}
	}
	if a.lost {
		a.rep.unproven("from where entries are missing or were changed, the others could be held against the chain and the tree's hashes only, not against checkpoints")
	}
	return nil
}
