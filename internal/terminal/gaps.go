package terminal

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
)

// PrintGaps writes what is missing, a line each.
func PrintGaps(out io.Writer, g *finding.Gaps) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(what, of, text string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\t%s\n", what, Cell(of), Cell(fmt.Sprintf(text, args...)))
	}
	for _, m := range g.Missing {
		line("MISSING", m.Source, "%s, before entry %d", missingNumbers(m), m.Before.Index)
	}
	for _, s := range g.Silent {
		line("SILENT", s.Source, "since %s; its newest is entry %d", Clock(s.Since), s.Last.Index)
	}
	for _, in := range g.Incidents {
		if in.TooLarge {
			line("UNKNOWN", in.CorrelationID, "the incident has too many events to look at")
		}
		for _, s := range in.Missing {
			line("STEP", in.CorrelationID, "%s: %s (entry %d)", strings.Join(s.Expected, " or "), s.Reason, s.Index)
		}
	}
	for _, m := range g.Accounted {
		verb := map[string]string{event.TypeRetried: "sent again", event.TypeDropped: "dropped", event.TypeRepeated: "the ledger had them before, told"}[m.Account.Type]
		line("told", m.Source, "%s: %s by %s (entry %d)", missingNumbers(m), verb, m.Account.Actor, m.Account.Index)
	}
	for _, r := range g.Renewed {
		line("anew", r.Source, "counts from 1 again, in epoch %s from entry %d on", cmp.Or(r.Epoch, "-"), r.First.Index)
	}
	for _, r := range g.Repeated {
		line("twice", r.Source, "%d events bear numbers of others, up to entry %d", r.Events, r.Last.Index)
	}
	if g.Complete {
		fmt.Fprintln(w, "Nothing is missing.")
	}
	return w.Flush()
}

// missingNumbers writes which numbers are missing.
func missingNumbers(m finding.Missing) string {
	text := fmt.Sprintf("number %d", m.From)
	if m.To > m.From {
		text = fmt.Sprintf("numbers %d to %d", m.From, m.To)
	}
	if m.Epoch != "" {
		text += " of epoch " + m.Epoch
	}
	return text
}
