package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
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
	oneOf(cmd, &output, "output", "o", "table", "how to print", documentOutputs)
	cmd.Flags().BoolVar(&check, "check", false, "end with exit code 4 if a step is missing, or the token sees too little to tell")
	return cmd
}

// A timeline is an incident as the server tells it.
type timeline struct {
	CorrelationID, Status, Severity, StartedAt string
	DurationMs                                 int64
	Total                                      int
	Events                                     []struct {
		SinceStartMs int64
		Event        json.RawMessage
	}
	// Namespaces are those that the token is limited to, or nil. What is
	// missing cannot be told then.
	Namespaces []string
	Missing    []struct {
		Expected []string
		Index    int64
		Reason   string
	}
}

// showIncident fetches an incident and prints it.
func showIncident(cmd *cobra.Command, c *client.Client, id, output string) (*timeline, error) {
	var raw json.RawMessage
	if err := c.Get(cmd.Context(), "/api/v1/audit/incidents/"+url.PathEscape(id), nil, &raw); err != nil {
		return nil, err
	}
	t := new(timeline)
	if err := json.Unmarshal(raw, t); err != nil {
		return nil, err
	}
	if output != "table" {
		return t, terminal.Document(cmd.OutOrStdout(), output, raw)
	}
	return t, t.print(cmd.OutOrStdout())
}

func (t *timeline) print(out io.Writer) error {
	fmt.Fprintf(out, "Incident %s: %s, severity %s, %d events in %s, from %s\n\n", terminal.Cell(t.CorrelationID), t.Status, t.Severity, t.Total,
		span(t.DurationMs), t.StartedAt)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, s := range t.Events {
		e, err := terminal.ParseEvent(s.Event)
		if err != nil {
			return err
		}
		v := e.Event
		fmt.Fprintf(w, "  +%s\t%s\t%s\t%s\t%s\t%s\n", span(s.SinceStartMs), terminal.Cell(v.EventType), terminal.Cell(terminal.Actor(v)), terminal.Cell(terminal.Resource(v)),
			terminal.Cell(v.Outcome), terminal.Cell(gist(v)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if t.Namespaces != nil {
		fmt.Fprintf(out, "\n  Only events of these namespaces are shown: %s\n", terminal.Cell(strings.Join(t.Namespaces, ", ")))
	}
	for _, m := range t.Missing {
		fmt.Fprintf(out, "\n  MISSING %s: %s (entry %d)\n", terminal.Cell(strings.Join(m.Expected, " or ")), terminal.Cell(m.Reason), m.Index)
	}
	return nil
}

func span(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// gist returns what an event's details say, in a few words.
func gist(e *event.Event) string {
	var details map[string]any
	if len(e.Details) == 0 || json.Unmarshal(e.Details, &details) != nil {
		return e.Error.Message
	}
	var words []string
	for _, key := range []string{"action", "target", "decision", "approver", "reason", "strategy", "resolution", "description", "result", "confidence", "failures", "type", "attempt"} {
		switch v := details[key].(type) {
		case string:
			if v != "" {
				words = append(words, key+"="+v)
			}
		case float64, bool:
			words = append(words, fmt.Sprintf("%s=%v", key, v))
		}
		if len(words) == 3 {
			break
		}
	}
	text := strings.Join(words, " ")
	if r := []rune(text); len(r) > 90 {
		text = string(r[:89]) + "…"
	}
	return text
}
