package main

import (
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/terminal"
)

func newList() *cobra.Command {
	var conn connection
	var f terminal.Filter
	var output, order string
	limit := positive(100)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List events, the newest first",
		Example: `  graven list --since 24h --severity critical,high
  graven list --actor alice@example.com -o wide
  graven list --type RemediationExecuted --namespace production --limit 20 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.Query()
			if err != nil {
				return usage("%w", err)
			}
			c, err := conn.client()
			if err != nil {
				return err
			}
			q.Set("order", order)
			var list terminal.List
			if err := list.Fetch(cmd.Context(), c, q, int(limit)); err != nil {
				return err
			}
			terminal.Remark(cmd.ErrOrStderr(), list.Erased)
			if err := list.Print(cmd.OutOrStdout(), output); err != nil {
				return err
			}
			if int64(len(list.Events)) < list.Total && (output == "table" || output == "wide") {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d events; --limit shows more\n", len(list.Events), list.Total)
			}
			return nil
		},
	}
	conn.flags(cmd)
	f.Flags(cmd)
	oneOf(cmd, &output, "output", "o", "table", "how to print", terminal.Outputs)
	limitFlag(cmd, &limit, "how many events at the most")
	oneOf(cmd, &order, "order", "", "desc", "which come first, the newest or the oldest", []string{"desc", "asc"})
	return cmd
}

func newGet() *cobra.Command {
	var conn connection
	var output string
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Show one event, by its id or its index",
		Example: `  graven get 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11
  graven get 0 -o yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.Get(cmd.Context(), "/api/v1/audit/events/"+url.PathEscape(args[0]), nil, &raw); err != nil {
				return err
			}
			if output == "json" || output == "yaml" {
				return terminal.Document(cmd.OutOrStdout(), output, raw)
			}
			e, err := terminal.ParseEvent(raw)
			if err != nil {
				return err
			}
			return (&terminal.List{Events: []terminal.Event{e}, Total: 1}).Print(cmd.OutOrStdout(), output)
		},
	}
	conn.flags(cmd)
	oneOf(cmd, &output, "output", "o", "json", "how to print", terminal.Outputs)
	return cmd
}
