package verify

import (
	"os"
	"slices"

	"github.com/graven-audit/graven/internal/seglog"
)

// A claim is how many entries the ledger must have, and what says so.
type claim struct {
	size int64
	what string
}

// conclude reports what is wrong with how records and checkpoints lie on disk,
// and returns the order in which they are to be read. The ledger has at least
// as many entries as least claims.
func (s *survey) conclude(rep *reporter, keys *keyring, least claim) []step {
	s.dropUnfinished(rep)
	if n := len(s.damages); n > 0 && s.damages[n-1].end < 0 {
		s.damages[n-1].end = max(s.damages[n-1].first, s.known)
	}
	for _, d := range s.damages {
		s.reportDamage(rep, d)
	}
	a := arrange(s.salvage())
	for i, st := range a.steps {
		if st.gap {
			s.reportGap(rep, a.steps[:i], st)
		}
	}
	for _, r := range a.repeated {
		rep.add(Reordered, r.first, s.at(r.seg, r.from), "%s %s here a second time", entries(r.first, r.end()), plural(r.count, "stands", "stand"))
	}
	for _, m := range a.moved {
		rep.add(Reordered, m.skip, s.at(m.seg, m.from), "%s %s here, out of order", entries(m.skip, m.end()), plural(m.end()-m.skip, "stands", "stand"))
	}
	for _, r := range a.strays {
		s.reportStray(rep, keys, r)
	}
	for _, r := range s.unsealed {
		rep.add(Missing, r.first, s.at(r.seg, r.from), "the checkpoint behind entry %d, with which the segment must end, is missing", r.first)
	}
	rep.Omitted += s.excess
	s.reportEnd(rep, a, least)
	return a.steps
}

func (s *survey) at(seg int, offset int64) string { return place{s.segs[seg].file, offset}.String() }

// dropUnfinished forgets a pool at the very end that was never acknowledged,
// as a crash or a power cut leaves it: nothing knows of its entries, and it
// breaks off, or lacks sectors that were not written. An acknowledged pool
// that was changed is not taken for one as long as the tip tells of it.
func (s *survey) dropUnfinished(rep *reporter) {
	end := -1
	for i, d := range s.damages {
		later := s.seals - d.seals
		broke := later == 0 && (d.left.written || d.end >= 0 && !d.padding)
		if d.first >= s.known && d.seal.size >= s.known && (broke || later == 1 && !s.inRecord && d.torn) {
			end = i
			break
		}
	}
	var from, to int64
	switch {
	case end >= 0:
		d := s.damages[end]
		from, to = s.behind(d.seal, d.seg), s.damages[len(s.damages)-1].to
		s.runs = slices.DeleteFunc(s.runs, func(r run) bool { return r.seg > d.seg || r.seg == d.seg && r.from >= d.from })
		s.damages, s.seal, s.inRecord = s.damages[:end], d.seal, false
		s.disorder = d.withheld || len(s.damages) > 0
	case s.inRecord && s.seal.size >= s.known && len(s.damages) == 0:
		last := s.runs[len(s.runs)-1]
		from, to = s.behind(s.seal, last.seg), last.to
	default:
		return
	}
	if !s.growing {
		rep.note("an unfinished pool of %d bytes that was never acknowledged stands at the end of the log", to-from)
	}
}

// behind returns where a segment goes on behind a checkpoint.
func (s *survey) behind(seal sealPlace, seg int) int64 {
	if seal.seg == seg && seal.size > 0 {
		return seal.end
	}
	return seglog.FirstOffset
}

func (s *survey) reportDamage(rep *reporter, d damage) {
	at := s.at(d.seg, d.from)
	switch {
	case d.first < d.end && d.left.cut && d.seg == len(s.segs)-1:
		rep.add(CutTail, d.first, at, "the log breaks off within entry %d; there were %d entries", d.first, s.known)
	case d.first < d.end:
		rep.add(Changed, d.first, at, "%d bytes, where %s stood, are damaged: %s", d.to-d.from, entries(d.first, d.end), d.reason)
	case d.behindRecord && !d.padding:
		rep.add(BadSignature, d.first-1, at, "the checkpoint behind entry %d is damaged: %s", d.first-1, d.reason)
	default:
		rep.add(Changed, -1, at, "bytes were changed where no entry stands: %s", d.reason)
	}
}

// reportGap reports entries that are nowhere, as far as no damage explains it.
func (s *survey) reportGap(rep *reporter, before []step, gap step) {
	first := gap.first
	at := s.behindLast(before)
	report := func(end int64) {
		if first < end {
			rep.add(Missing, first, at, "%s %s missing", entries(first, end), plural(end-first, "is", "are"))
		}
	}
	for _, d := range s.damages {
		if d.first < d.end && d.first < gap.skip && d.end > first {
			report(d.first)
			first = d.end
		}
	}
	report(gap.skip)
}

// behindLast says where the entry behind the last of steps should be.
func (s *survey) behindLast(steps []step) string {
	for i := len(steps) - 1; i >= 0; i-- {
		if !steps[i].gap {
			return s.at(steps[i].seg, steps[i].to)
		}
	}
	return s.segs[0].file
}

// reportStray reports a checkpoint that covers other entries than stand
// before it: one from elsewhere, or one that was changed.
func (s *survey) reportStray(rep *reporter, keys *keyring, r run) {
	var c seal
	f, err := os.Open(s.segs[r.seg].path)
	if err == nil {
		defer f.Close()
		frames, err := seglog.NewReader(f, s.segs[r.seg].base, r.from).Next(make([]byte, r.to-r.from))
		if err == nil && len(frames) > 0 {
			c = keys.open(frames[0].Body[1:], true)
		}
	}
	if c.fault != "" {
		rep.add(c.fault, r.behind, s.at(r.seg, r.from), "%s", c.reason)
		return
	}
	rep.add(Reordered, r.behind, s.at(r.seg, r.from), "the checkpoint of %d entries stands behind entry %d", r.first, r.behind)
}

// reportEnd reports what the log lacks at its end.
func (s *survey) reportEnd(rep *reporter, a arrangement, least claim) {
	explained := slices.ContainsFunc(s.damages, func(d damage) bool { return d.end >= least.size })
	if len(s.segs) == 0 {
		if least.size > 0 {
			rep.add(CutTail, 0, "log", "%s, and the log is empty", least.what)
		}
		return
	}
	at := s.behindLast(a.steps)
	switch {
	case explained || s.seal.size >= least.size:
	case a.end < least.size:
		rep.add(CutTail, a.end, at, "%s, but the log ends before entry %d", least.what, a.end)
	default:
		rep.add(CutTail, least.size-1, at, "%s, but the checkpoint behind entry %d is missing", least.what, least.size-1)
	}
}

// salvage returns the runs, with the damaged frames among them that have a
// record's length, so that what is left of it can be looked at.
func (s *survey) salvage() []run {
	runs := slices.Clone(s.runs)
	for _, d := range s.damages {
		if d.end != d.first+1 || d.padding || d.to-d.from > seglog.MaxBody {
			continue
		}
		r := run{seg: d.seg, from: d.from, to: d.to, first: d.first, count: 1, damaged: true}
		at, _ := slices.BinarySearchFunc(runs, r, func(x, y run) int {
			if x.seg != y.seg {
				return x.seg - y.seg
			}
			return int(max(min(x.from-y.from, 1), -1))
		})
		runs = slices.Insert(runs, at, r)
	}
	return runs
}
