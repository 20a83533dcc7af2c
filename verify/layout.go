package verify

import (
	"context"
	"slices"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// A claim is how many entries the ledger must have, and what says so.
type claim struct {
	size int64
	what string
}

// reportHeaders reports what is wrong with the segment files as such.
func (d *directory) reportHeaders() {
	if strays := d.survey.Strays; len(strays) > 0 {
		d.rep.note("in %s are files that are not segments of the log: %d, such as %s", trail.LogDir, len(strays), strays[0])
	}
	for k, seg := range d.survey.Segments {
		switch seg.State {
		case seglog.Renamed:
			d.rep.add(Reordered, int64(seg.Base), d.at(k, 0), "the segment that begins with entry %d has the name of another", seg.Base)
		case seglog.Blank:
			d.rep.note("%s/%s was begun and not used", trail.LogDir, seg.Name)
		case seglog.Damaged:
			d.rep.add(Changed, -1, d.at(k, 0), "the header of the segment is damaged")
		}
	}
}

// reportLayout reports what is wrong with how records and checkpoints lie on
// disk, and returns the order in which they are to be read.
func (d *directory) reportLayout(ctx context.Context, least claim) []seglog.Step {
	s, rep := d.survey, d.rep
	if s.Unfinished > 0 {
		rep.note("an unfinished pool of %d bytes that was never acknowledged stands at the end of the log", s.Unfinished)
	}
	for _, x := range s.Faults {
		d.reportFault(x)
	}
	a := s.Arrange()
	reportOrder(rep, a, d.at)
	gaps, end := a.Gaps(s.Faults, seglog.Run{To: seglog.FirstOffset})
	for _, g := range gaps {
		rep.add(Missing, g.First, d.at(g.Segment, g.From), "%s %s missing", entries(g.First, g.End()), plural(g.Count, "is", "are"))
	}
	for _, r := range a.Strays {
		d.reportStray(ctx, r)
	}
	for _, r := range s.Uncommitted {
		rep.add(Missing, r.First, d.at(r.Segment, r.From), "the checkpoint after entry %d, with which the segment must end, is missing", r.First)
	}
	rep.Omitted += s.Excess
	d.reportEnd(a, end, least)
	return a.Steps
}

// reportOrder reports what stands out of order, or twice.
func reportOrder(rep *reporter, a seglog.Arrangement, at func(segment int, from int64) string) {
	for _, r := range a.Repeated {
		rep.add(Reordered, r.First, at(r.Segment, r.From), "%s %s here a second time", entries(r.First, r.End()), plural(r.Count, "stands", "stand"))
	}
	for _, m := range a.Moved {
		rep.add(Reordered, m.Number, at(m.Segment, m.From), "%s %s here, out of order", entries(m.Number, m.End()), plural(m.End()-m.Number, "stands", "stand"))
	}
}

func (d *directory) reportFault(x seglog.Fault) {
	at := d.at(x.Segment, x.From)
	switch {
	case x.First < x.End && x.Cut && x.Segment == len(d.survey.Segments)-1:
		d.rep.add(CutTail, x.First, at, "the log breaks off within entry %d; there were %d entries", x.First, x.End)
	case x.First < x.End:
		d.rep.add(Changed, x.First, at, "%d bytes, where %s stood, are damaged: %s", x.To-x.From, entries(x.First, x.End), x.Reason)
	case x.AfterRecord && !x.Padding:
		d.rep.add(BadSignature, x.First-1, at, "the checkpoint after entry %d is damaged: %s", x.First-1, x.Reason)
	default:
		d.rep.add(Changed, -1, at, "bytes were changed where no entry stands: %s", x.Reason)
	}
}

// reportStray reports a checkpoint that covers other entries than stand before
// it: one from elsewhere, or one that was changed.
func (d *directory) reportStray(ctx context.Context, r seglog.Run) {
	var s seal
	_ = d.survey.ReadRun(ctx, r, func(_ int, frames []seglog.Frame, _ []byte) error {
		s = d.keys.open(frames[0].Body[1:], true)
		return nil
	})
	at := d.at(r.Segment, r.From)
	if s.fault != "" {
		d.rep.add(s.fault, r.After, at, "%s", s.reason)
		return
	}
	d.rep.add(Reordered, r.After, at, "the checkpoint of %d entries stands after entry %d", r.First, r.After)
}

// reportEnd reports what the log lacks at its end.
func (d *directory) reportEnd(a seglog.Arrangement, last seglog.Run, least claim) {
	explained := slices.ContainsFunc(d.survey.Faults, func(x seglog.Fault) bool { return x.End >= least.size })
	switch {
	case explained || d.survey.Commit.Size >= least.size:
	case len(d.survey.Segments) == 0:
		d.rep.add(CutTail, 0, trail.LogDir, "%s, and the log is empty", least.what)
	case a.End < least.size:
		d.rep.add(CutTail, a.End, d.at(last.Segment, last.To), "%s, but the log ends before entry %d", least.what, a.End)
	default:
		d.rep.add(CutTail, least.size-1, d.at(last.Segment, last.To), "%s, but the checkpoint after entry %d is missing", least.what, least.size-1)
	}
}
