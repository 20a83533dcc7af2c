package finding

import (
	"cmp"
	"slices"
)

// A Run is consecutive numbers of a source, all of which entries bear.
type Run struct {
	Low, High int64
	// LowIndex and HighIndex are those of the first entries that bear Low and
	// High. Of the number 0, which stands for the beginning of a count and which
	// no entry bears, it is -1.
	LowIndex, HighIndex int64
}

// Beginning is the run that every count with a name begins with: its first
// number is 1.
var Beginning = Run{0, 0, -1, -1}

// A Numbers is a set of numbers that entries bear, given in any order. It takes
// memory by the runs they form.
type Numbers struct {
	runs  []Run // as they came
	tidy  int   // how many there were when they were merged
	Count int64 // of the entries
}

// Add adds the number of the entry at an index.
func (n *Numbers) Add(number, index int64) {
	n.Count++
	if last := len(n.runs) - 1; last >= 0 && n.runs[last].High+1 == number && n.runs[last].HighIndex < index {
		n.runs[last].High, n.runs[last].HighIndex = number, index
		return
	}
	n.AddRun(Run{number, number, index, index})
}

// AddRun adds the numbers of a run.
func (n *Numbers) AddRun(r Run) {
	if n.runs = append(n.runs, r); len(n.runs) > 2*n.tidy+64 {
		n.Runs()
	}
}

// Held returns how many runs are held in memory.
func (n *Numbers) Held() int { return len(n.runs) }

// Runs returns the runs, rising and apart. They are valid until the next call.
func (n *Numbers) Runs() []Run {
	slices.SortFunc(n.runs, func(a, b Run) int { return cmp.Or(cmp.Compare(a.Low, b.Low), cmp.Compare(a.LowIndex, b.LowIndex)) })
	merged := n.runs[:0]
	for _, r := range n.runs {
		last := len(merged) - 1
		if last < 0 || r.Low > merged[last].High+1 {
			merged = append(merged, r)
			continue
		}
		switch m := &merged[last]; {
		case r.High > m.High:
			m.High, m.HighIndex = r.High, r.HighIndex
		case r.High == m.High:
			m.HighIndex = min(m.HighIndex, r.HighIndex)
		}
	}
	n.runs, n.tidy = merged, len(merged)
	return merged
}
