package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
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
			missing, err := showIncident(cmd, c, args[0], output)
			if err == nil && check && missing > 0 {
				return &exitCodeError{exitGap, fmt.Errorf("%d steps are missing", missing)}
			}
			return err
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "how to print: table, json, yaml")
	cmd.Flags().BoolVar(&check, "check", false, "end with exit code 4 if a step is missing")
	return cmd
}

// showIncident prints an incident's timeline and returns how many steps are missing.
func showIncident(cmd *cobra.Command, c *client.Client, id, output string) (missing int, err error) {
	var raw json.RawMessage
	if err := c.Get(cmd.Context(), "/api/v1/audit/incidents/"+url.PathEscape(id), nil, &raw); err != nil {
		return 0, err
	}
	var t struct {
		CorrelationID, Status, Severity, StartedAt string
		DurationMs                                 int64
		Total                                      int
		Events                                     []struct {
			SinceStartMs int64
			Event        json.RawMessage
		}
		Missing []struct {
			Expected []string
			Index    int64
			Reason   string
		}
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return 0, err
	}
	out := cmd.OutOrStdout()
	switch output {
	case "json", "yaml":
		return len(t.Missing), printDocument(out, output, raw)
	case "table":
	default:
		return 0, usage("-o %s: one of table, json, yaml", output)
	}
	fmt.Fprintf(out, "Incident %s: %s, severity %s, %d events in %s, from %s\n\n", cell(t.CorrelationID), t.Status, t.Severity, t.Total,
		span(t.DurationMs), t.StartedAt)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, s := range t.Events {
		e, err := parseFound(s.Event)
		if err != nil {
			return 0, err
		}
		v := e.event
		fmt.Fprintf(w, "  +%s\t%s\t%s\t%s\t%s\t%s\n", span(s.SinceStartMs), cell(v.EventType), cell(actorOf(v)), cell(resourceOf(v)),
			cell(v.Outcome), cell(gist(v)))
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	for _, m := range t.Missing {
		fmt.Fprintf(out, "\n  MISSING %s: %s (entry %d)\n", cell(strings.Join(m.Expected, " or ")), cell(m.Reason), m.Index)
	}
	return len(t.Missing), nil
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
