package terminal

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/retention"
)

// PrintPlan writes what a retention run would erase, and what it would not.
func PrintPlan(out io.Writer, p *retention.Plan) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "AS OF\t%s, %d entries\n", Clock(p.Now), p.Size)
	fmt.Fprintf(w, "DUE\tthe content of %s\n", events(p.DetailsCount))
	for _, name := range slices.Sorted(maps.Keys(p.Policies)) {
		fmt.Fprintf(w, "\t%d by %s\n", p.Policies[name], Cell(name))
	}
	if n := p.Entries.End - p.Entries.First; n > 0 {
		fmt.Fprintf(w, "\t%s, from %d to %d, but for hashes\n", entries(n), p.Entries.First, p.Entries.End-1)
	}
	if s := p.Stops; s != nil {
		fmt.Fprintf(w, "STAYS\tentry %d and those after it: %s\n", s.Index, Cell(s.Reason))
	}
	printHeld(w, p)
	return w.Flush()
}

// PrintRun writes what a retention run has erased.
func PrintRun(out io.Writer, r *erasure.Result) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "ERASED\tthe content of %s\n", events(r.Erased))
	if r.Entries > 0 {
		fmt.Fprintf(w, "\t%s, but for hashes\n", entries(r.Entries))
	}
	if r.Run != "" {
		fmt.Fprintf(w, "RUN\t%s, %s\n", Cell(r.Run), many(int64(r.Tombstones), "tombstone"))
	}
	if r.Left != "" {
		fmt.Fprintf(w, "LEFT\t%s\n", Cell(r.Left))
	}
	printHeld(w, r.Plan)
	return w.Flush()
}

func printHeld(w io.Writer, p *retention.Plan) {
	for _, h := range p.Held {
		if h.Details > 0 {
			fmt.Fprintf(w, "HELD\t%s by %s, from entry %d on\n", events(h.Details), h.Hold, h.First)
		}
	}
}

// PrintErasure writes what becomes of an erasure that somebody asks for.
func PrintErasure(out io.Writer, a *erasure.Answer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	what := "WOULD ERASE"
	switch {
	case a.Erased:
		what = "ERASED"
	case a.Left != "":
		what = "TO BE ERASED"
	case a.Request != "":
		what = "ASKED FOR"
	}
	fmt.Fprintf(w, "%s\tthe content of %s, entries %d to %d\n", what, events(a.Events), a.First, a.Last)
	if a.Left != "" {
		fmt.Fprintf(w, "LEFT\t%s\n", Cell(a.Left))
	} else if a.Request != "" && !a.Erased {
		fmt.Fprintf(w, "CONFIRM\tgraven erase --confirm %s, by somebody else within 7 days\n", Cell(a.Request))
	}
	for _, id := range a.Held {
		fmt.Fprintf(w, "HELD\tby %s: nothing goes until it is released\n", Cell(id))
	}
	for _, field := range slices.Sorted(maps.Keys(a.Remaining)) {
		fmt.Fprintf(w, "STAYS\t%s: %s\n", Cell(field), Cell(strings.Join(a.Remaining[field], ", ")))
	}
	return w.Flush()
}

func events(n int64) string { return many(n, "event") }

func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// many writes a number of things.
func many(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
