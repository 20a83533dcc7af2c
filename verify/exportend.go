package verify

import (
	"fmt"
	"slices"
	"strings"
)

// finishWhole judges a whole export, or one of which that is not known.
func (x *export) finishWhole() error {
	broken := x.nameBroken()
	a := arrange(x.runs)
	x.rep.Omitted += x.excess
	for _, r := range a.repeated {
		x.rep.add(Reordered, r.first, place{at: r.from}.String(), "%s %s here a second time", entries(r.first, r.end()), plural(r.count, "stands", "stand"))
	}
	for _, m := range a.moved {
		x.rep.add(Reordered, m.skip, place{at: m.from + m.skip - m.first}.String(), "%s %s here, out of order", entries(m.skip, m.end()), plural(m.end()-m.skip, "stands", "stand"))
	}
	var absent []string
	line := int64(0)
	for _, st := range a.steps {
		if st.gap {
			for _, g := range without(st.first, st.skip, broken) {
				absent = append(absent, entries(g.first, g.end()))
				if x.trailer != nil {
					x.rep.add(Missing, g.first, place{at: line + 1}.String(), "%s %s missing", entries(g.first, g.end()), plural(g.count, "is", "are"))
				}
			}
			continue
		}
		line = st.to - 1
	}
	if x.trailer == nil {
		x.tree.compare(x.tree.next)
		for _, e := range x.tree.since {
			x.rep.unproven("%s could not be compared: the export does not reach so far", e.what)
		}
		x.tree.since = nil
		x.tree.finish(new(chain))
		x.rep.unproven("the export has no checkpoint: it cannot show that nothing was cut off, and nothing in it is signed")
		if len(absent) > 0 {
			x.rep.unproven("whether a filter or someone else left them out cannot be told: %.300s", strings.Join(absent, ", "))
		}
		x.keys.conclude(x.rep, nil)
		return nil
	}
	end := a.end
	if n := len(broken); n > 0 {
		end = max(end, broken[n-1].end())
	}
	return x.finishUnderCheckpoint(end, len(a.moved)+len(a.repeated) > 0)
}

// finishUnderCheckpoint holds a whole export, which ends before entry end,
// against its checkpoint.
func (x *export) finishUnderCheckpoint(end int64, disorder bool) error {
	at := place{at: x.ended}
	switch {
	case x.seal.Note == nil:
	case end < x.seal.Size:
		x.rep.add(CutTail, end, at.String(), "the checkpoint covers %d entries, the last here is %d", x.seal.Size, end-1)
	case end > x.seal.Size:
		x.rep.add(Changed, x.seal.Size, at.String(), "%s %s not under the checkpoint of %d", entries(x.seal.Size, end), plural(end-x.seal.Size, "is", "are"), x.seal.Size)
	case x.trailer.Count != x.seal.Size:
		x.rep.add(Changed, -1, at.String(), "the checkpoint's line counts %d events, the checkpoint %d", x.trailer.Count, x.seal.Size)
	case disorder:
		x.tree.lost = true
	}
	x.reportSeal(at)
	if x.seal.Note != nil && x.seal.fault == "" && x.tree.next == x.seal.Size {
		if err := x.tree.settle(x.tree.way(x.seal.Root), 0, at); err != nil {
			return err
		}
	}
	x.tree.finish(new(chain))
	return nil
}

// finishFiltered judges an export of which the filter left out entries.
func (x *export) finishFiltered() {
	x.rep.Omitted += x.excess
	at := place{at: x.ended}
	next := int64(0)
	for _, r := range x.runs {
		if r.first < next {
			x.rep.add(Reordered, r.first, place{at: r.from}.String(), "entry %d stands behind entry %d", r.first, next-1)
		}
		next = max(next, r.end())
	}
	if x.trailer.Count != x.lines {
		x.rep.add(Missing, -1, at.String(), "the checkpoint's line counts %d events, there are %d", x.trailer.Count, x.lines)
	}
	x.reportSeal(at)
	x.rep.unproven("the export is filtered: it cannot show that it has everything that matches %s", filterText(x.trailer.Filter))
}

// reportSeal reports what is wrong with the checkpoint itself.
func (x *export) reportSeal(at place) {
	if x.seal.fault != "" {
		x.rep.add(x.seal.fault, x.seal.Size-1, at.String(), "%s", x.seal.reason)
	}
	if x.seal.Note != nil {
		x.keys.conclude(x.rep, &x.seal)
	}
}

// nameBroken finds out which entries the lines that cannot be read must have
// been: those that are missing where they stand.
func (x *export) nameBroken() (named []run) {
	for _, b := range x.broken {
		stands := slices.ContainsFunc(x.runs, func(r run) bool { return r.first <= b.index && b.index < r.end() })
		if stands || x.seal.Note != nil && b.index >= x.seal.Size {
			continue
		}
		named = append(named, run{first: b.index, count: 1})
		if b.finding >= 0 {
			x.rep.Findings[b.finding].Index = b.index
		}
	}
	return named
}

// without returns the parts of a gap for which no unreadable line stands.
func without(first, end int64, broken []run) (gaps []run) {
	for _, b := range broken {
		if b.first < end && b.end() > first {
			if first < b.first {
				gaps = append(gaps, run{first: first, count: b.first - first})
			}
			first = b.end()
		}
	}
	if first < end {
		gaps = append(gaps, run{first: first, count: end - first})
	}
	return gaps
}

// sinceFiltered compares what can be compared with a filtered export.
func (x *export) sinceFiltered(since []earlier) {
	for _, e := range since {
		switch {
		case x.seal.Note == nil:
		case e.Size > x.seal.Size:
			x.rep.add(RolledBack, x.seal.Size, e.where, "%s was signed before; the export's checkpoint covers %d", e.what, x.seal.Size)
		case e.Size == x.seal.Size && e.Root != x.seal.Root:
			x.rep.add(Forked, 0, e.where, "%s has another root than the export's checkpoint of the same size", e.what)
		case e.Size < x.seal.Size:
			x.rep.unproven("%s could not be compared with a filtered export", e.what)
		}
	}
}

func filterText(filter map[string]string) string { return fmt.Sprintf("%.200q", filter) }
