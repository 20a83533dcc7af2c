package tree

import (
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// runLength is how many hashes of a row a whole run has.
const runLength = 1 << tileHeight

// Runs are the newest runs of a growing tree's hashes, of rows that are Step
// levels apart, from row 1 on. Those of row 0 are the leaves.
type Runs struct {
	Step    int
	growing [][]tlog.Hash // by row, from 1 on: of the run that is not full
	full    []Run         // that nobody asked for yet
}

// A Run is the n-th run of up to 256 hashes of a row.
type Run struct {
	Row    int
	N      int64
	Hashes []tlog.Hash
}

// Add takes the n-th hash of a level, which are complete in that order.
func (r *Runs) Add(level int, n int64, h tlog.Hash) {
	if level == 0 || level%r.Step != 0 {
		return
	}
	row := level / r.Step
	if len(r.growing) < row {
		r.growing = append(r.growing, nil)
	}
	g := append(r.growing[row-1], h)
	if len(g) == runLength {
		r.full = append(r.full, Run{row, n / runLength, g})
		g = nil
	}
	r.growing[row-1] = g
}

// Clone returns a copy that grows by itself.
func (r *Runs) Clone() Runs {
	c := Runs{Step: r.Step, full: slices.Clone(r.full)}
	for _, g := range r.growing {
		c.growing = append(c.growing, slices.Clone(g))
	}
	return c
}

// Close takes the runs that are not full for what they are, in a tree of so many
// leaves that grows no more.
func (r *Runs) Close(size int64) {
	for i, g := range r.growing {
		if len(g) > 0 {
			r.full = append(r.full, Run{i + 1, size >> (r.Step*(i+1) + tileHeight), g})
		}
	}
	r.growing = nil
}

// Full returns the runs that are full since it was called last.
func (r *Runs) Full() []Run {
	full := r.full
	r.full = nil
	return full
}

// Hashes reads the content of a tile; of nil it makes nil.
func Hashes(data []byte) []tlog.Hash {
	if data == nil {
		return nil
	}
	hashes := make([]tlog.Hash, len(data)/tlog.HashSize)
	for i := range hashes {
		copy(hashes[i][:], data[i*tlog.HashSize:])
	}
	return hashes
}
