package terminal

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
)

// Holds are legal holds as a server lists them.
type Holds struct {
	Holds []*custody.Answer `json:"holds"`
	Total int               `json:"total"`
}

// PrintHolds writes legal holds, a line each.
func PrintHolds(out io.Writer, list *Holds) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tPLACED\tBY\tSTATUS\tSCOPE\tREASON")
	for _, h := range list.Holds {
		status := "stands"
		if h.ReleasedAt != "" {
			status = "released"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", Cell(h.ID), clockOf(h.PlacedAt), Cell(h.PlacedBy), status, Cell(h.Scope.String()), Cell(h.Reason))
	}
	return w.Flush()
}

// clockOf writes a time that a server told of.
func clockOf(text string) string {
	t, err := event.ParseTime(text)
	if err != nil {
		return Cell(text)
	}
	return Clock(t)
}

// PrintHold writes a legal hold and its history, a line for each of its events.
func PrintHold(out io.Writer, h *custody.Answer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(what, text string) { fmt.Fprintf(w, "%s\t%s\n", what, Cell(text)) }
	line("ID", h.ID)
	line("SCOPE", h.Scope.String())
	if h.Affected != nil {
		line("EVENTS", fmt.Sprint(*h.Affected))
	}
	if h.Released != nil {
		line("EVENTS", fmt.Sprint(*h.Released))
	}
	if h.Case != "" {
		line("CASE", h.Case)
	}
	act := func(what, by, at, reason string) { line(what, fmt.Sprintf("%s by %s: %s", clockOf(at), by, reason)) }
	if len(h.Versions) == 0 {
		act("PLACED", h.PlacedBy, h.PlacedAt, h.Reason)
	}
	for i, v := range h.Versions {
		what := "CHANGED"
		if i == 0 {
			what = "PLACED"
		}
		act(what, v.By, v.At, v.Reason)
	}
	if h.ReleasedAt != "" {
		act("RELEASED", h.ReleasedBy, h.ReleasedAt, h.ReleaseReason)
	}
	return w.Flush()
}
