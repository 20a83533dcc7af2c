package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

func newList() *cobra.Command {
	var conn connection
	var f filter
	var output, order string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List events, the newest first",
		Example: `  graven list --since 24h --severity critical,high
  graven list --actor alice@example.com -o wide
  graven list --type RemediationExecuted --namespace production --limit 20 -o json`,
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
			if limit < 1 {
				return usage("--limit %d: a number from 1 on", limit)
			}
			q.Set("order", order)
			p := printer{w: cmd.OutOrStdout(), output: output}
			var events []found
			for len(events) < limit {
				var page struct {
					Total  int64             `json:"total"`
					Events []json.RawMessage `json:"events"`
					Next   string            `json:"next"`
				}
				q.Set("limit", itoa(min(limit-len(events), 1000)))
				if err := c.Get(cmd.Context(), "/api/v1/audit", q, &page); err != nil {
					return err
				}
				for _, raw := range page.Events {
					e, err := parseFound(raw)
					if err != nil {
						return err
					}
					events = append(events, e)
				}
				p.total, p.next = page.Total, page.Next
				if page.Next == "" {
					break
				}
				q.Set("cursor", page.Next)
			}
			if err := p.print(events); err != nil {
				return err
			}
			if int64(len(events)) < p.total && (output == "table" || output == "wide") {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d events; --limit shows more\n", len(events), p.total)
			}
			return nil
		},
	}
	conn.flags(cmd)
	f.flags(cmd)
	outputFlag(cmd, &output, "table")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many events at the most")
	cmd.Flags().StringVar(&order, "order", "desc", "desc puts the newest first, asc the oldest")
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
				return printDocument(cmd.OutOrStdout(), output, raw)
			}
			e, err := parseFound(raw)
			if err != nil {
				return err
			}
			return (&printer{w: cmd.OutOrStdout(), output: output, total: 1}).print([]found{e})
		},
	}
	conn.flags(cmd)
	outputFlag(cmd, &output, "json")
	return cmd
}

func newTail() *cobra.Command {
	var conn connection
	var f filter
	var output, after string
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print events as they are recorded",
		Example: `  graven tail --severity critical,high
  graven tail --after 4711 -o ndjson | jq .eventType`,
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
			if output == "json" || output == "yaml" {
				return usage("-o %s: a stream has no end; take ndjson", output)
			}
			t := tailer{cmd: cmd, client: c, query: q, last: after, output: output}
			return t.run()
		},
	}
	conn.flags(cmd)
	f.flags(cmd)
	outputFlag(cmd, &output, "table")
	cmd.Flags().StringVar(&after, "after", "", "begin behind the event with this index; -1 begins at the first")
	return cmd
}

// A tailer follows the server's stream, through its restarts too.
type tailer struct {
	cmd    *cobra.Command
	client *client.Client
	query  url.Values
	last   string // index of the last event seen or, before one is, of the one before the stream began
	output string
	headed bool
}

func (t *tailer) run() error {
	for attempt := 0; ; attempt++ {
		err := t.follow(&attempt)
		if t.cmd.Context().Err() != nil {
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
		case "": // the end of a message; the first has an id and nothing else
			if id != "" {
				t.last = id
			}
		}
	}
	return nil
}

func (t *tailer) print(raw json.RawMessage) error {
	e, err := parseFound(raw)
	if err != nil {
		return err
	}
	if t.output != "table" && t.output != "wide" {
		return (&printer{w: t.cmd.OutOrStdout(), output: t.output}).print([]found{e})
	}
	if !t.headed {
		t.headed = true
		fmt.Fprintf(t.cmd.OutOrStdout(), "%-8s %-20s %-28s %-8s %-40s %s\n", "INDEX", "TIME", "TYPE", "SEVERITY", "ACTOR", "RESOURCE")
	}
	v := e.event
	_, err = fmt.Fprintf(t.cmd.OutOrStdout(), "%-8d %-20s %-28s %-8s %-40s %s\n", e.index, clock(v.Timestamp), cell(v.EventType),
		cell(v.Severity), cell(actorOf(v)), cell(resourceOf(v)))
	return err
}

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

func newExport() *cobra.Command {
	var conn connection
	var f filter
	var format, file string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export events, with what it takes to verify them offline",
		Long: `Export events, the oldest first.

An NDJSON export ends with a line that holds the signed checkpoint it was made
under. Without filters it is the whole ledger, and its lines re-hash with
nothing but SHA-256; with filters each line bears its inclusion proof.
'graven verify FILE' and 'graven-verify FILE' check both.`,
		Example: `  graven export -o ledger.ndjson
  graven export --since 7d --namespace production --format csv -o week.csv
  graven export --format cloudevents | kcat -P -t audit`,
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
			q.Set("format", format)
			if format == "ndjson" {
				q.Set("checkpoint", "true")
			}
			resp, err := c.Do(cmd.Context(), http.MethodGet, "/api/v1/audit/export", q, "", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if file == "" || file == "-" {
				_, err := io.Copy(cmd.OutOrStdout(), resp.Body)
				return err
			}
			n, err := writeWhole(file, resp.Body)
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d bytes in %s\n", n, file)
			return nil
		},
	}
	conn.flags(cmd)
	f.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "ndjson", "ndjson, csv or cloudevents")
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write; nothing is left there if the export breaks off (default: standard output)")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"ndjson", "csv", "cloudevents"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// writeWhole writes a file that appears under its name only when it is whole.
func writeWhole(path string, r io.Reader) (n int64, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	n, err = io.Copy(tmp, r)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return n, err
	}
	return n, os.Rename(tmp.Name(), path)
}

func newProve() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "prove ID",
		Short:   "Print the proof that an event is in the ledger (C2SP tlog-proof)",
		Example: `  graven prove 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 > event.tlog-proof`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			resp, err := c.Do(cmd.Context(), http.MethodGet, "/api/v1/audit/events/"+url.PathEscape(args[0])+"/proof", nil, "", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(cmd.OutOrStdout(), io.LimitReader(resp.Body, 1<<20))
			return err
		},
	}
	conn.flags(cmd)
	return cmd
}

func newCheckpoint() *cobra.Command {
	var conn connection
	var keys []string
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the ledger's newest signed checkpoint; keep it elsewhere",
		Long: `Print the ledger's newest signed checkpoint (C2SP tlog-checkpoint).

Kept where nobody who can change the ledger can change it, it shows later that
nothing was taken away since: graven verify TARGET --since FILE

What this command or 'graven verify' remembers of the ledger, the server has to
show to be a part of it; the exit code is 3 if it is not. Once --key has
authenticated the checkpoint, it is remembered, too.`,
		Example: `  graven checkpoint > /mnt/elsewhere/$(date +%F).checkpoint
  graven checkpoint --key ledger.vkey`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			verifiers, err := readKeys(keys)
			if err != nil {
				return err
			}
			now, err := newestCheckpoint(cmd.Context(), c, verifiers)
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(now.Note); err != nil {
				return err
			}
			log, err := remoteLog(&conn, conn.address())
			if err != nil {
				return err
			}
			known, err := remembered(now.Origin)
			if err == nil && known != nil && now.Size < known.Size { // unless it was remembered since
				if now, err = newestCheckpoint(cmd.Context(), c, verifiers); err != nil {
					return err
				}
			}
			if err == nil && known != nil {
				if err := checkExtends(cmd.Context(), log.Fetch, known, now); errors.Is(err, errTurnedBack) {
					return &exitCodeError{exitVerify, err}
				} else if err != nil {
					return err
				}
			}
			if err == nil && len(verifiers) > 0 {
				err = remember(now)
			}
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "graven: the checkpoint is not remembered:", printable(err.Error()))
			}
			return nil
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the ledger's public key, or a file with it, to check the signature with")
	return cmd
}

// newestCheckpoint fetches a server's newest checkpoint. With keys, one of them
// must have signed it.
func newestCheckpoint(ctx context.Context, c *client.Client, keys []note.Verifier) (*trail.Checkpoint, error) {
	resp, err := c.Do(ctx, http.MethodGet, "/log/checkpoint", nil, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return trail.ReadCheckpoint(text)
	}
	cp, err := trail.OpenCheckpoint(text, keys...)
	if err != nil {
		return nil, &exitCodeError{exitVerify, err}
	}
	return cp, nil
}
