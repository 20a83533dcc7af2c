package verify

import (
	"github.com/graven-audit/graven/internal/tree"
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

// A forest is a tree, with the hashes that make up its newest runs.
type forest struct {
	trail.Tree
	runs tree.Runs
}

func (f *forest) grow(leaf trail.Hash) { f.Append(leaf, f.runs.Add) }

func (f *forest) clone() *forest { return &forest{f.Tree, f.runs.Clone()} }

// checkRuns holds the hashes above the leaves against what is stored.
func (a *assembly) checkRuns() error {
	for _, t := range a.asStands.runs.Full() {
		found, err := a.stored.run(t.Row, t.N)
		if err != nil {
			return err
		}
		faults := hashFaults{row: t.Row}
		for k, h := range t.Hashes {
			if k < len(found) && found[k] != h {
				faults.add(t.N*trail.TileWidth + int64(k))
			}
		}
		faults.report(a.rep, &a.stored)
	}
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
