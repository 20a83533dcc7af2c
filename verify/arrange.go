package verify

import (
	"cmp"
	"slices"
)

// A step is one part of the way through the records in order of index: a run,
// from the record skip on, or a gap up to the record skip.
type step struct {
	run
	gap  bool
	skip int64
}

// An arrangement says in what order runs are to be read so that indexes rise,
// and what is wrong with the order in which they lie.
type arrangement struct {
	steps    []step
	repeated []run  // stand elsewhere, too
	strays   []run  // lone checkpoints that stand behind other entries than they cover
	moved    []step // stand before or behind where they belong
	end      int64  // behind the last record
}

// arrange orders runs, which come in the order in which they lie on disk.
func arrange(runs []run) arrangement {
	var a arrangement
	var sorted []run
	var count int64
	for i, r := range runs {
		// A lone checkpoint is in place if the number of the entries before
		// it, or the one before or behind it, says so.
		if r.count > 0 || count == r.first || r.behind == r.first-1 || i+1 < len(runs) && runs[i+1].first == r.first {
			sorted = append(sorted, r)
		} else {
			a.strays = append(a.strays, r)
		}
		count += r.count
	}
	slices.SortStableFunc(sorted, func(x, y run) int {
		if c := cmp.Compare(x.first, y.first); c != 0 {
			return c
		}
		if x.count == 0 || y.count == 0 {
			return cmp.Compare(x.count, y.count) // the checkpoint of n entries stands before entry n
		}
		return cmp.Compare(y.count, x.count)
	})
	for _, r := range sorted {
		switch {
		case r.count == 0 && r.first < a.end:
			a.strays = append(a.strays, r)
		case r.count > 0 && r.end() <= a.end:
			a.repeated = append(a.repeated, r)
		default:
			if r.first > a.end {
				a.steps = append(a.steps, step{run: run{first: a.end}, gap: true, skip: r.first})
			}
			if r.first < a.end {
				a.repeated = append(a.repeated, run{seg: r.seg, from: r.from, to: r.to, first: r.first, count: a.end - r.first})
			}
			a.steps = append(a.steps, step{run: r, skip: max(r.first, a.end)})
			a.end = max(a.end, r.end())
		}
	}
	a.findMoved()
	return a
}

// findMoved finds the runs that as many records do not precede on disk as by
// index.
func (a *arrangement) findMoved() {
	type ranked struct {
		step
		before int64 // records that precede it by index
	}
	var lie []ranked
	var count int64
	for _, s := range a.steps {
		if !s.gap && s.count > 0 {
			lie = append(lie, ranked{s, count})
			count += s.end() - s.skip
		}
	}
	slices.SortStableFunc(lie, func(x, y ranked) int {
		return cmp.Or(cmp.Compare(x.seg, y.seg), cmp.Compare(x.from, y.from))
	})
	count = 0
	for _, r := range lie {
		if r.before != count {
			a.moved = append(a.moved, r.step)
		}
		count += r.end() - r.skip
	}
}
