package main

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/terminal"
)

func newGaps() *cobra.Command {
	var conn connection
	var from, to, source, settled, output string
	cmd := &cobra.Command{
		Use:   "gaps",
		Short: "Tell what is missing: events, sources, steps of incidents",
		Long: `Tell what is missing, with exit code 4 if anything is:

  - numbers that a source gave to events and the ledger lacks. What a person has
    told the fate of ('graven quarantine') is listed and does not count;
  - sources that promised a sign of life, and did not give it;
  - incidents without the steps that their events make one expect.

Sources are looked at from the first entry on, incidents of the last 7 days,
unless --from says otherwise. Sources that began their count anew, and numbers
that came twice, are told and do not count.`,
		Example: `  graven gaps
  graven gaps --source operator-0 --from 24h -o json
  graven gaps --from 2026-03-01 --to 2026-03-31 --settled 1d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			q := url.Values{}
			for name, value := range map[string]string{"from": from, "to": to, "source": source, "settled": settled} {
				if value != "" {
					q.Set(name, value)
				}
			}
			var all *finding.Gaps
			for {
				part := new(finding.Gaps)
				if err := c.Get(cmd.Context(), "/api/v1/audit/gaps", q, part); err != nil {
					return err
				}
				all = all.Join(part)
				if part.Next == nil {
					break
				}
				q.Set("after", itoa(*part.Next))
			}
			if output == "table" {
				err = terminal.PrintGaps(cmd.OutOrStdout(), all)
			} else {
				err = terminal.Document(cmd.OutOrStdout(), output, all)
			}
			if err == nil && !all.Complete {
				err = &exitCodeError{exitGap, fmt.Errorf("%d events are missing, %d sources are silent, %d incidents lack steps", all.Events(), len(all.Silent), len(all.Incidents))}
			}
			if all.More {
				err = errors.Join(err, errors.New("there is more than was listed: ask for one source, or a time"))
			}
			return err
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVar(&from, "from", "", "not what went missing before: a time, a date, or an age such as 24h or 7d")
	cmd.Flags().StringVar(&to, "to", "", "not what went missing later: a time, a date, or an age")
	cmd.Flags().StringVar(&source, "source", "", "this source only, and no incidents")
	cmd.Flags().StringVar(&settled, "settled", "", "how long nothing must have happened in an incident before a step counts as missing (default 15m)")
	oneOf(cmd, &output, "output", "o", "table", "how to print", documentOutputs)
	return cmd
}
