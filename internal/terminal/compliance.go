package terminal

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/report"
)

// PrintCompliance writes the numbers of a report, a line each.
func PrintCompliance(out io.Writer, r *report.ComplianceReport) error {
	where := "all namespaces"
	if r.Namespace != "" {
		where = Cell(r.Namespace)
	}
	fmt.Fprintf(out, "%s, %s to %s\n", where, Clock(r.Window.From), Clock(r.Window.To))
	fmt.Fprintf(out, "%s, %d entries\n\n", Cell(r.Ledger.Origin), r.Ledger.Size)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tVALUE\tN\tP50\tP95\tBEFORE\tCHANGE")
	dash := func(text string) string {
		if text == "" {
			return "-"
		}
		return Cell(text)
	}
	for _, n := range r.Numbers {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", Cell(n.Title), dash(n.Value), n.N, dash(n.P50), dash(n.P95), dash(n.Previous), dash(n.Change))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.SLAMetrics.Violations) > 0 {
		fmt.Fprintln(out)
		fmt.Fprintln(w, "NOT IN TIME\tSEVERITY\tPROMISED\tTOOK\tWHY")
		for _, v := range r.SLAMetrics.Violations {
			took := v.ActualResolution
			if v.Open {
				took += " so far"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", Cell(v.Issue), Cell(v.Severity), v.SLATarget, took, Cell(v.Reason))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(r.Notes) > 0 {
		fmt.Fprintf(out, "\n! %s\n", strings.Join(cells(r.Notes), "\n! "))
	}
	return nil
}

func cells(texts []string) (safe []string) {
	for _, text := range texts {
		safe = append(safe, Cell(text))
	}
	return safe
}

// PrintControls writes what the trail shows of controls: a line for each check of each.
func PrintControls(out io.Writer, d *control.Document) error {
	fmt.Fprintf(out, "%s\n%s to %s, %s, %d entries\n\n", Cell(d.Title), Clock(d.Window.From), Clock(d.Window.To), Cell(d.Ledger.Origin), d.Ledger.Size)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CONTROL\tCHECK\tRESULT\tEVIDENCE")
	for _, c := range d.Controls {
		for _, r := range c.Results {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", Cell(c.ID), Cell(r.Check), Cell(r.Result), Cell(c.Strength))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n! %s\n", strings.Join(cells(d.Notes), "\n! "))
	return err
}
