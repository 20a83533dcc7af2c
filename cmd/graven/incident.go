package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/terminal"
)

func newIncident() *cobra.Command {
	var conn connection
	var output string
	var check, rebuild bool
	var of rebuilding
	cmd := &cobra.Command{
		Use:   "incident CORRELATION-ID",
		Short: "Tell an incident as one story, with the steps that are missing, or reconstruct its resources",
		Example: `  graven incident inc-8f2a4b
  graven incident inc-8f2a4b -o markdown > postmortem.md
  graven incident inc-8f2a4b --check   # exit code 4 if a step is missing
  graven incident inc-8f2a4b --reconstruct --at 2026-03-19T14:31:00Z | kubectl apply --dry-run=server -f -
  graven incident --reconstruct --resource RemediationPlan/production/plan-1`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := of.check(cmd, args, rebuild, &output); err != nil {
				return err
			}
			c, err := conn.client()
			if err != nil {
				return err
			}
			if rebuild {
				return of.print(cmd, c, args, output)
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
	cmd.Flags().BoolVar(&rebuild, "reconstruct", false, "build the incident's resources as they were, as YAML that kubectl takes, from verified events")
	cmd.Flags().StringVar(&of.at, "at", "", "with --reconstruct, the moment: a time, a date (its end), or how long ago, as 90m")
	cmd.Flags().StringVar(&of.kind, "kind", "", "with --reconstruct, only resources of this kind")
	cmd.Flags().StringVar(&of.resource, "resource", "", "with --reconstruct, only this resource, as KIND/NAMESPACE/NAME; without an incident, any")
	return cmd
}

// A rebuilding says what is to be reconstructed.
type rebuilding struct{ at, kind, resource string }

// check returns what is wrong with the flags, and chooses how to print what is
// reconstructed.
func (r *rebuilding) check(cmd *cobra.Command, args []string, rebuild bool, output *string) error {
	if !rebuild {
		switch {
		case r.at != "" || r.kind != "" || r.resource != "":
			return usage("--at, --kind and --resource go with --reconstruct")
		case len(args) == 0:
			return usage("name the incident, by its correlation id")
		}
		return nil
	}
	if !cmd.Flags().Changed("output") {
		*output = "yaml"
	}
	switch {
	case *output != "yaml" && *output != "json":
		return usage("--reconstruct prints yaml or json")
	case cmd.Flags().Changed("check"):
		return usage("--check does not go with --reconstruct")
	case len(args) == 0 && r.resource == "":
		return usage("name the incident, or the resource with --resource")
	case len(args) == 0 && r.kind != "":
		return usage("--kind goes with an incident")
	}
	return nil
}

// print asks for resources as they were, and prints them: as YAML for kubectl, or as JSON
// with where each member comes from.
func (r *rebuilding) print(cmd *cobra.Command, c *client.Client, args []string, output string) error {
	path := "/api/v1/audit/resources/reconstruct"
	if len(args) > 0 {
		path = "/api/v1/audit/incidents/" + url.PathEscape(args[0]) + "/reconstruct"
	}
	q := url.Values{}
	for name, value := range map[string]string{"at": r.at, "kind": r.kind, "resource": r.resource} {
		if value != "" {
			q.Set(name, value)
		}
	}
	var raw json.RawMessage
	if err := ask(cmd.Context(), c, http.MethodPost, path, q, nil, &raw); err != nil {
		return err
	}
	var made struct {
		YAML       string
		Validation struct{ Errors []string }
		Unreadable []struct {
			Kind, Namespace, Name, Reason string
			Index                         int64
		}
	}
	if err := json.Unmarshal(raw, &made); err != nil {
		return err
	}
	for _, u := range made.Unreadable {
		fmt.Fprintln(cmd.ErrOrStderr(), terminal.Printable(fmt.Sprintf("graven: the state of %s %s/%s in entry %d cannot be read: %s", u.Kind, u.Namespace, u.Name, u.Index, u.Reason)))
	}
	for _, e := range made.Validation.Errors {
		fmt.Fprintln(cmd.ErrOrStderr(), terminal.Printable("graven: "+e+": a placeholder stands there"))
	}
	if output == "json" {
		return terminal.Document(cmd.OutOrStdout(), output, raw)
	}
	_, err := io.WriteString(cmd.OutOrStdout(), made.YAML)
	return err
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
