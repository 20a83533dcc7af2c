package main

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/terminal"
)

const findingsPath = "/api/v1/findings"

func newFindings() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "findings",
		Short: "What the trail shows to be wrong, and what becomes of it",
		Long: `What the trail shows to be wrong, and what becomes of it.

The server looks through the ledger as it grows. What a rule finds is an event
of the ledger, with the entries that show it; so is what people say of it.`,
		Example: `  graven findings list --state open
  graven findings show 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11
  graven findings resolve 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 --reason "jane approved it on the phone"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFindingsList(), newFindingsShow(), newFindingsRules(),
		judgement("acknowledge", "Say that somebody looks into a finding", `--reason "ask the platform team"`),
		judgement("accept", "Answer for a finding as it is, until a time", `--until 2027-03-31 --reason "the old controller cannot do better"`),
		judgement("resolve", "Say that a finding is settled", `--reason "jane approved it on the phone"`),
		judgement("reopen", "Say that a finding is not settled after all", `--reason "it happened again, see 4711"`))
	return cmd
}

func newFindingsList() *cobra.Command {
	var conn connection
	var output string
	var limit int
	var before int64
	asked := map[string]*string{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List findings, the newest first",
		Example: `  graven findings list --state open --severity critical,high
  graven findings list --incident inc-8f2a4b -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for name, v := range asked {
				if *v != "" {
					q.Set(name, *v)
				}
			}
			q.Set("limit", strconv.Itoa(limit))
			if before > 0 {
				q.Set("before", strconv.FormatInt(before, 10))
			}
			return askAndPrint(cmd, &conn, http.MethodGet, findingsPath, q, nil, output, terminal.PrintFindings)
		},
	}
	conn.flags(cmd)
	for _, d := range []struct{ flag, help string }{
		{"rule", "names of rules, separated by commas"},
		{"state", "states, separated by commas: open, acknowledged, accepted, resolved, withdrawn"},
		{"severity", "severities, separated by commas"},
		{"incident", "the incident's correlation id"},
		{"namespace", "the Kubernetes namespace"},
		{"from", "not before: a time, a date, or an age such as 24h or 7d"},
		{"to", "not after: a time, a date, or an age"},
	} {
		asked[d.flag] = cmd.Flags().String(d.flag, "", d.help)
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most, up to 1000")
	cmd.Flags().Int64Var(&before, "before", 0, "those that were opened before this entry")
	holdOutput(cmd, &output)
	return cmd
}

func newFindingsShow() *cobra.Command {
	var conn connection
	var output string
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a finding with what became of it",
		Example: "  graven findings show 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 -o yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askAndPrint(cmd, &conn, http.MethodGet, findingsPath+"/"+url.PathEscape(args[0]), nil, nil, output, terminal.PrintFinding)
		},
	}
	conn.flags(cmd)
	holdOutput(cmd, &output)
	return cmd
}

func newFindingsRules() *cobra.Command {
	var conn connection
	var output string
	cmd := &cobra.Command{
		Use:     "rules",
		Short:   "List what is looked for",
		Example: "  graven findings rules -o yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAndPrint(cmd, &conn, http.MethodGet, findingsPath+"/rules", nil, nil, output, terminal.PrintFindingRules)
		},
	}
	conn.flags(cmd)
	holdOutput(cmd, &output)
	return cmd
}

// judgement returns the command that says what becomes of a finding.
func judgement(act, short, example string) *cobra.Command {
	var conn connection
	var reason, until, output string
	cmd := &cobra.Command{
		Use:     act + " ID",
		Short:   short,
		Example: "  graven findings " + act + " 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 " + example,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"reason": reason}
			if until != "" {
				body["until"] = until
			}
			return askAndPrint(cmd, &conn, http.MethodPost, findingsPath+"/"+url.PathEscape(args[0])+"/"+act, nil, body, output, terminal.PrintFinding)
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, as the ledger will tell; required")
	cobra.CheckErr(cmd.MarkFlagRequired("reason"))
	if act == "accept" {
		cmd.Flags().StringVar(&until, "until", "", "when the acceptance ends: a time or a date; required")
		cobra.CheckErr(cmd.MarkFlagRequired("until"))
	}
	holdOutput(cmd, &output)
	return cmd
}
