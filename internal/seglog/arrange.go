package seglog

import (
	"cmp"
	"slices"
)

// An Arrangement says in what order runs are to be read so that numbers rise,
// and what is wrong with the order in which they lie.
type Arrangement struct {
	Steps    []Step
	Repeated []Run  // stand elsewhere, too
	Strays   []Run  // lone commits behind other records than they are over
	Moved    []Step // stand before or behind where they belong
	End      int64  // the number behind the last record
}

// A Step is a run, of which the records from number From on count, or a gap up
// to that number.
type Step struct {
	Run
	Gap    bool
	Number int64
}

// Arrange orders the runs that were found, with the damaged frames among them
// that are a record's by their place.
func (s *Survey) Arrange() Arrangement {
	runs := slices.Clone(s.runs)
	for _, x := range s.Faults {
		if x.End == x.First+1 && !x.Padding && x.To-x.From > frameHead && x.To-x.From <= MaxBody {
			runs = append(runs, Run{Segment: x.Segment, From: x.From, To: x.To, First: x.First, Count: 1, Damaged: true})
		}
	}
	slices.SortStableFunc(runs, byPlace)
	return Arrange(runs)
}

func byPlace(x, y Run) int {
	return cmp.Or(cmp.Compare(x.Segment, y.Segment), cmp.Compare(x.From, y.From))
}

// Arrange orders runs, which come in the order in which they lie.
func Arrange(runs []Run) Arrangement {
	var a Arrangement
	var sorted []Run
	var count int64
	for i, r := range runs {
		// A lone commit is in place if the number of records before it, or
		// the one before or behind it, says so, or if it is the last and over
		// more than there are.
		last := i+1 == len(runs)
		if r.Count > 0 || count == r.First || r.After == r.First-1 || !last && runs[i+1].First == r.First || last && r.First > count {
			sorted = append(sorted, r)
		} else {
			a.Strays = append(a.Strays, r)
		}
		count += r.Count
	}
	slices.SortStableFunc(sorted, func(x, y Run) int {
		if x.First != y.First || x.Count == 0 || y.Count == 0 {
			return cmp.Or(cmp.Compare(x.First, y.First), cmp.Compare(x.Count, y.Count)) // the commit over n before record n
		}
		return cmp.Compare(y.Count, x.Count)
	})
	for _, r := range sorted {
		switch {
		case r.Count == 0 && r.First < a.End:
			a.Strays = append(a.Strays, r)
		case r.Count > 0 && r.End() <= a.End:
			a.Repeated = append(a.Repeated, r)
		default:
			if r.First > a.End {
				a.Steps = append(a.Steps, Step{Run: Run{First: a.End}, Gap: true, Number: r.First})
			}
			if r.First < a.End {
				twice := r
				twice.Count = a.End - r.First
				a.Repeated = append(a.Repeated, twice)
			}
			a.Steps = append(a.Steps, Step{Run: r, Number: max(r.First, a.End)})
			a.End = max(a.End, r.End())
		}
	}
	a.findMoved()
	return a
}

// findMoved finds the runs before which not as many records lie as there are
// lower numbers.
func (a *Arrangement) findMoved() {
	type ranked struct {
		Step
		lower int64
	}
	var lie []ranked
	var count int64
	for _, s := range a.Steps {
		if !s.Gap && s.Count > 0 {
			lie = append(lie, ranked{s, count})
			count += s.End() - s.Number
		}
	}
	slices.SortStableFunc(lie, func(x, y ranked) int { return byPlace(x.Run, y.Run) })
	count = 0
	for _, r := range lie {
		if r.lower != count {
			a.Moved = append(a.Moved, r.Step)
		}
		count += r.End() - r.Number
	}
}

// Gaps returns the entries that are nowhere and that no fault explains, each
// with the place behind the run before it, and the last run; last is the one
// before the first.
func (a *Arrangement) Gaps(faults []Fault, last Run) (gaps []Run, end Run) {
	faults = slices.Clone(faults)
	slices.SortFunc(faults, func(x, y Fault) int { return cmp.Compare(x.First, y.First) })
	for _, st := range a.Steps {
		if !st.Gap {
			last = st.Run
			continue
		}
		first := st.First
		gap := func(end int64) {
			if first < end {
				gaps = append(gaps, Run{Segment: last.Segment, From: last.To, First: first, Count: end - first})
			}
		}
		for len(faults) > 0 && faults[0].First < st.Number {
			gap(faults[0].First)
			if first = max(first, faults[0].End); first > st.Number {
				break // it reaches into a later gap
			}
			faults = faults[1:]
		}
		gap(st.Number)
	}
	return gaps, last
}
