package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/terminal"
)

// streamOutputs are the values of -o for events that never end.
var streamOutputs = []string{"table", "wide", "ndjson", "csv", "name"}

func newTail() *cobra.Command {
	var conn connection
	var f terminal.Filter
	var output, after string
	var limit positive
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print events as they are recorded",
		Example: `  graven tail --severity critical,high
  graven tail --after 4711 -o ndjson | jq .eventType
  graven tail --type ApprovalRequested --limit 1   # waits for one`,
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
			limit.set(q)
			t := tailer{cmd: cmd, output: output}
			if err := c.Follow(cmd.Context(), q, after, t.print); cmd.Context().Err() == nil {
				return err
			}
			return nil // interrupted: that is how a tail ends
		},
	}
	conn.flags(cmd)
	f.Flags(cmd)
	limitFlag(cmd, &limit, "end after so many events (default never)")
	oneOf(cmd, &output, "output", "o", "table", "how to print", streamOutputs)
	cmd.Flags().StringVar(&after, "after", "", "begin behind the event with this index; -1 begins at the first")
	return cmd
}

// A tailer prints the events that come.
type tailer struct {
	cmd    *cobra.Command
	output string
	headed bool
}

func (t *tailer) print(raw json.RawMessage) error {
	e, err := terminal.ParseEvent(raw)
	if err != nil {
		return err
	}
	if t.output != "table" && t.output != "wide" {
		return (&terminal.List{Events: []terminal.Event{e}}).Print(t.cmd.OutOrStdout(), t.output)
	}
	if !t.headed {
		t.headed = true
		fmt.Fprintf(t.cmd.OutOrStdout(), "%-8s %-20s %-28s %-8s %-40s %s\n", "INDEX", "TIME", "TYPE", "SEVERITY", "ACTOR", "RESOURCE")
	}
	v := e.Event
	_, err = fmt.Fprintf(t.cmd.OutOrStdout(), "%-8d %-20s %-28s %-8s %-40s %s\n", e.Index, terminal.Clock(v.Timestamp), terminal.Cell(v.EventType),
		terminal.Cell(v.Severity), terminal.Cell(terminal.Actor(v)), terminal.Cell(terminal.Resource(v)))
	return err
}
