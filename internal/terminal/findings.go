package terminal

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/graven-audit/graven/internal/finding"
)

// PrintFindings writes findings, a line each.
func PrintFindings(out io.Writer, list *finding.List) error {
	if len(list.Findings) == 0 {
		_, err := fmt.Fprintln(out, "No findings.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tHAPPENED\tSEVERITY\tSTATE\tRULE\tINCIDENT\tSAYS")
	for _, f := range list.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", Cell(f.ID), Clock(f.HappenedAt), Cell(f.Severity), Cell(f.State), Cell(f.Rule), Cell(f.Incident), Cell(f.Says))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if rest := list.Total - len(list.Findings); rest > 0 {
		_, err := fmt.Fprintf(out, "%d more; --before %d lists them.\n", rest, list.Next)
		return err
	}
	return nil
}

// PrintFinding writes a finding with what became of it.
func PrintFinding(out io.Writer, f *finding.Finding) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(w, "%s\t%s\n", what, Cell(text))
		}
	}
	line("ID", f.ID)
	line("RULE", f.Rule+": "+f.Title)
	line("SEVERITY", f.Severity)
	line("STATE", f.State)
	line("SAYS", f.Says)
	line("ABOUT", f.Subject)
	line("INCIDENT", f.Incident)
	line("NAMESPACE", f.Namespace)
	line("CLUSTER", f.Cluster)
	line("HAPPENED", Clock(f.HappenedAt))
	if f.Until != nil {
		line("UNTIL", Clock(*f.Until))
	}
	var evidence []string
	for _, index := range f.Evidence {
		evidence = append(evidence, fmt.Sprint(index))
	}
	line("EVIDENCE", strings.Join(evidence, ", "))
	for _, s := range f.Steps {
		text := Clock(s.At) + " by " + s.By
		if s.Reason != "" {
			text += ": " + s.Reason
		}
		line(strings.ToUpper(strings.TrimPrefix(s.Type, "Finding")), text)
	}
	return w.Flush()
}

// FindingRules are the rules of findings as a server lists them.
type FindingRules struct {
	Rules []finding.Rule `json:"rules"`
}

// PrintFindingRules writes the rules of findings, a line each.
func PrintFindingRules(out io.Writer, list *FindingRules) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSEVERITY\tTITLE")
	for _, r := range list.Rules {
		fmt.Fprintf(w, "%s\t%s\t%s\n", Cell(r.Name), Cell(r.Severity), Cell(r.Title))
	}
	return w.Flush()
}
