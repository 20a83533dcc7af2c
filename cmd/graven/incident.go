package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/terminal"
)

func newIncident() *cobra.Command {
	var conn connection
	var output string
	var check bool
	cmd := &cobra.Command{
		Use:   "incident CORRELATION-ID",
		Short: "Tell an incident as one story, with the steps that are missing",
		Example: `  graven incident inc-8f2a4b
  graven incident inc-8f2a4b -o markdown > postmortem.md
  graven incident inc-8f2a4b --check   # exit code 4 if a step is missing`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			t, err := showIncident(cmd, c, args[0], output)
			switch {
			case err != nil || !check:
				return err
			case t.Namespaces != nil:
				return &exitCodeError{exitGap, fmt.Errorf("cannot tell: the token is limited to namespaces %s", strings.Join(t.Namespaces, ", "))}
			case len(t.Missing) > 0:
				return &exitCodeError{exitGap, fmt.Errorf("%d steps are missing", len(t.Missing))}
			}
			return nil
		},
	}
	conn.flags(cmd)
	oneOf(cmd, &output, "output", "o", "text", "how to print", incidentOutputs)
	cmd.Flags().BoolVar(&check, "check", false, "end with exit code 4 if a step is missing, or the token sees too little to tell")
	return cmd
}

// incidentOutputs are the forms of an incident: the story that is told of it, its events
// in a table, or everything.
var incidentOutputs = []string{"text", "markdown", "table", "json", "yaml"}

// showIncident fetches an incident and prints it.
func showIncident(cmd *cobra.Command, c *client.Client, id, output string) (*terminal.Incident, error) {
	var raw json.RawMessage
	if err := c.Get(cmd.Context(), "/api/v1/audit/incidents/"+url.PathEscape(id), nil, &raw); err != nil {
		return nil, err
	}
	t := new(terminal.Incident)
	if err := json.Unmarshal(raw, t); err != nil {
		return nil, err
	}
	terminal.Remark(cmd.ErrOrStderr(), t.ErasedBelow)
	switch {
	case output == "json" || output == "yaml":
		return t, terminal.Document(cmd.OutOrStdout(), output, raw)
	case output == "table" || t.Narrative == nil: // of a server that tells no stories
		return t, t.Print(cmd.OutOrStdout())
	case output == "text":
		_, err := cmd.OutOrStdout().Write(t.Narrative.Text())
		return t, err
	}
	_, err := cmd.OutOrStdout().Write(t.Narrative.Markdown())
	return t, err
}
