package sqlite

import "slices"

// Rows are the rows of consecutive entries that no index has yet, by columns, so
// that many are looked through quickly. One goroutine adds; others may read a
// [View] meanwhile.
type Rows struct {
	first int64
	n     int
	ts    [rowsSize]int64
	words [fields][rowsSize]int64
}

const rowsSize = 4096

// NewRows returns rows of which the first will be that of the given entry.
func NewRows(first int64) *Rows { return &Rows{first: first} }

// End returns the index behind the last row's entry.
func (r *Rows) End() int64 { return r.first + int64(r.n) }

// Add adds the row of the next entry. It reports false if r is full, or another
// entry is next.
func (r *Rows) Add(row *Row) bool {
	if r.n == rowsSize || row.Index != r.End() {
		return false
	}
	r.ts[r.n] = row.ts
	for f, w := range row.words {
		r.words[f][r.n] = w
	}
	r.n++
	return true
}

// View returns the rows that there are.
func (r *Rows) View() View { return View{r, r.n} }

// A View is the first n of some rows, which do not change.
type View struct {
	rows *Rows
	n    int
}

// Select appends to dst the indexes of candidates from the first on, below end.
func (m *Matcher) Select(dst []int64, v View, first, end int64) []int64 {
	r := v.rows
	lo, hi := max(first-r.first, 0), min(end-r.first, int64(v.n))
	if !m.any || lo >= hi {
		return dst
	}
	if len(m.conditions) == 0 || len(m.conditions[0].words) != 1 {
		for i := lo; i < hi; i++ {
			if m.matches(r, i) {
				dst = append(dst, r.first+i)
			}
		}
		return dst
	}
	word := m.conditions[0].words[0]
	for i, w := range r.words[m.conditions[0].field][lo:hi] {
		if w == word && m.matches(r, lo+int64(i)) {
			dst = append(dst, r.first+lo+int64(i))
		}
	}
	return dst
}

// matches reports whether the entry of a row is a candidate.
func (m *Matcher) matches(r *Rows, i int64) bool {
	if r.ts[i] < m.from || r.ts[i] > m.to || !m.access && r.words[fieldAccess][i] != 0 {
		return false
	}
	for _, c := range m.conditions {
		if !slices.Contains(c.words, r.words[c.field][i]) {
			return false
		}
	}
	return true
}
