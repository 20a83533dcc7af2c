package verify

import (
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// A hashSource has the hashes of a tree as its keeper stores or serves them: in
// rows, of which each has those of every step-th level, and in runs of up to
// 256 of a row.
type hashSource struct {
	step int
	// run returns the n-th run of a row, or nil where there is none.
	run func(row int, n int64) ([]trail.Hash, error)
	// where returns the place of a row's hash.
	where func(row int, n int64) place
}

// first returns the first entry under the n-th hash of a row.
func (s *hashSource) first(row int, n int64) int64 { return n << (s.step * row) }

// A forest is a tree with the hashes that make up its newest runs, from row 1
// on. Those of row 0 are the leaves.
type forest struct {
	trail.Tree
	step    int
	growing [][]trail.Hash // by row, from 1 on: of the run that is not full
	full    []run          // not yet held against what is stored
}

type run struct {
	row    int
	n      int64
	hashes []trail.Hash
}

func (f *forest) grow(leaf trail.Hash) { f.Append(leaf, f.complete) }

func (f *forest) complete(level int, n int64, h trail.Hash) {
	if level == 0 || level%f.step != 0 {
		return
	}
	row := level / f.step
	if len(f.growing) < row {
		f.growing = append(f.growing, nil)
	}
	g := append(f.growing[row-1], h)
	if len(g) == trail.TileWidth {
		f.full = append(f.full, run{row, n / trail.TileWidth, g})
		g = nil
	}
	f.growing[row-1] = g
}

func (f *forest) clone() *forest {
	c := &forest{Tree: f.Tree, step: f.step, full: slices.Clone(f.full)}
	for _, g := range f.growing {
		c.growing = append(c.growing, slices.Clone(g))
	}
	return c
}

// closeRuns takes the runs that are not full for what they are. The tree grows
// no more.
func (f *forest) closeRuns() {
	for i, g := range f.growing {
		if len(g) > 0 {
			f.full = append(f.full, run{i + 1, f.Size() >> (f.step*(i+1) + trail.TileHeight), g})
		}
	}
	f.growing = nil
}

// checkRuns holds the hashes above the leaves against what is stored.
func (a *assembly) checkRuns() error {
	for _, t := range a.asStands.full {
		found, err := a.stored.run(t.row, t.n)
		if err != nil {
			return err
		}
		faults := hashFaults{row: t.row}
		for k, h := range t.hashes {
			if k < len(found) && found[k] != h {
				faults.add(t.n*trail.TileWidth + int64(k))
			}
		}
		faults.report(a.rep, &a.stored)
	}
	a.asStands.full = nil
	return nil
}

// hashFaults gathers wrong hashes of one row, so that one finding stands for
// each run. Hashes must come in order.
type hashFaults struct {
	row   int
	found []faultRun
}

type faultRun struct{ first, count int64 }

func (t *hashFaults) add(n int64) {
	if last := len(t.found) - 1; last >= 0 && t.found[last].first/trail.TileWidth == n/trail.TileWidth {
		t.found[last].count++
		return
	}
	t.found = append(t.found, faultRun{n, 1})
}

func (t *hashFaults) report(rep *reporter, stored *hashSource) {
	for _, r := range t.found {
		at := stored.where(t.row, r.first)
		rep.add(TileMismatch, stored.first(t.row, r.first), at.String(), "%d %s in %s %s not that of the entries",
			r.count, plural(r.count, "hash", "hashes"), at.file, plural(r.count, "is", "are"))
	}
}

// splitHashes reads the content of a tile; of nil it makes nil.
func splitHashes(data []byte) []trail.Hash {
	if data == nil {
		return nil
	}
	hashes := make([]trail.Hash, len(data)/tlog.HashSize)
	for i := range hashes {
		copy(hashes[i][:], data[i*tlog.HashSize:])
	}
	return hashes
}
