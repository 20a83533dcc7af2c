package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/terminal"
)

// streamOutputs are the values of -o for events that never end.
var streamOutputs = []string{"table", "wide", "ndjson", "csv", "name"}

func newTail() *cobra.Command {
	var conn connection
	var f filter
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
			q, err := f.query()
			if err != nil {
				return err
			}
			c, err := conn.client()
			if err != nil {
				return err
			}
			t := tailer{cmd: cmd, client: c, query: q, last: after, left: limit, output: output}
			return t.run()
		},
	}
	conn.flags(cmd)
	f.flags(cmd)
	limitFlag(cmd, &limit, "end after so many events (default never)")
	oneOf(cmd, &output, "output", "o", "table", "how to print", streamOutputs)
	cmd.Flags().StringVar(&after, "after", "", "begin behind the event with this index; -1 begins at the first")
	return cmd
}

// A tailer follows the server's stream, through its restarts too.
type tailer struct {
	cmd    *cobra.Command
	client *client.Client
	query  url.Values
	last   string   // index of the last event seen or, before one is, of the one before the stream began
	left   positive // events to come; 0 for no limit
	done   bool     // there are none
	output string
	headed bool
}

func (t *tailer) run() error {
	for attempt := 0; ; attempt++ {
		err := t.follow(&attempt)
		if t.done || t.cmd.Context().Err() != nil {
			return nil // interrupted: that is how a tail ends
		}
		if err != nil && !client.IsRetryable(err) {
			return err
		}
		if err := wait(t.cmd, attempt, err); err != nil {
			return nil
		}
	}
}

func (t *tailer) follow(attempt *int) error {
	if t.last != "" {
		t.query.Set("last_event_id", t.last)
	}
	t.left.set(t.query)
	resp, err := t.client.Do(t.cmd.Context(), http.MethodGet, "/api/v1/audit/stream", t.query, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 8<<20)
	var id string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "data":
			if err := t.print(json.RawMessage(value)); err != nil {
				return err
			}
			*attempt = 0
			if t.left == 1 {
				t.done = true
				return nil
			}
			t.left = max(t.left-1, 0)
		case "": // the end of a message; the first has an id and nothing else
			if id != "" {
				t.last = id
			}
		}
	}
	return nil
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
