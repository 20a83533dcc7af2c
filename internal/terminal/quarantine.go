package terminal

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/quarantine"
)

// PrintQuarantine writes what is in quarantine, a line each.
func PrintQuarantine(out io.Writer, list []quarantine.Held) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSINCE\tTYPE\tREASON")
	for _, q := range list {
		what := "(damaged)"
		if e, err := event.ParseServed(q.Event); err == nil {
			what = e.EventType
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", Cell(q.Key()), Clock(q.At), Cell(what), Cell(q.Reason))
	}
	return w.Flush()
}
