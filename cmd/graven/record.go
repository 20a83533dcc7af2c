package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
)

// maxText bounds a document that must be read as a whole, in bytes.
const maxText = 256 << 20

func newRecord() *cobra.Command {
	var conn connection
	var file, output string
	cmd := &cobra.Command{
		Use:   "record -f FILE",
		Short: "Record events from a file, in JSON, NDJSON or YAML",
		Long: `Record events from a file, or from standard input with -f -: one event, a JSON
array, NDJSON, or YAML documents. Each answer is the event's receipt: it is
durable, has its place in the ledger and is covered by a signed checkpoint.

Recording the same event again is harmless if it has an id: it is recorded once.
An event without one gets another each time; 'graven import' derives ids instead.

If the receipts show that the ledger is shorter than the one that 'graven verify'
or 'graven checkpoint' remembers, or another, the exit code is 3.`,
		Example: `  graven record -f event.yaml
  echo '{"eventType":"RemediationExecuted","timestamp":"2026-03-19T14:30:00.123Z",
    "actor":{"type":"controller","name":"remediation-reconciler"},
    "resource":{"kind":"RemediationPlan","name":"plan-rollback-api-server","namespace":"production"},
    "correlationID":"inc-8f2a4b","severity":"high"}' | graven record -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage("-f FILE is needed; - is standard input")
			}
			c, err := conn.client()
			if err != nil {
				return err
			}
			in, err := openInput(file)
			if err != nil {
				return err
			}
			defer in.Close()
			items, err := documents(in, maxText)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if len(items) == 0 {
				return fmt.Errorf("%s: no events there", file)
			}
			return recordAll(cmd, c, items, output)
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVarP(&file, "filename", "f", "", "file with events; - is standard input")
	oneOf(cmd, &output, "output", "o", "table", "how to print receipts", receiptOutputs)
	return cmd
}

// recordAll records events, in batches, and prints their receipts.
func recordAll(cmd *cobra.Command, c *client.Client, items [][]byte, output string) error {
	rejected := 0
	seen := known.NewWatch()
	for first := 0; first < len(items); first += importBatch {
		results, err := send(cmd, c, seen, items[first:min(first+importBatch, len(items))], false)
		if err != nil {
			return errors.Join(seen.Err(), err)
		}
		for i, r := range results {
			if r.Err != nil {
				rejected++
				fmt.Fprintf(cmd.ErrOrStderr(), "graven: event %d: %s\n", first+i+1, terminal.Printable(r.Err.Error()))
				continue
			}
			if err := printReceipt(cmd.OutOrStdout(), output, r.Receipt); err != nil {
				return err
			}
		}
	}
	if rejected > 0 {
		return errors.Join(seen.Err(), fmt.Errorf("%d events were rejected", rejected))
	}
	return seen.Err()
}

// receiptOutputs are the values of -o for receipts.
var receiptOutputs = []string{"table", "ndjson", "name"}

func printReceipt(w io.Writer, output string, r *client.Receipt) error {
	var err error
	switch output {
	case "table":
		what := "recorded"
		if r.Duplicate {
			what = "recorded before"
		}
		_, err = fmt.Fprintf(w, "%s %s as entry %d\n", r.ID, what, r.Index)
	case "ndjson":
		err = json.NewEncoder(w).Encode(map[string]any{"id": r.ID.String(), "name": r.Name, "index": r.Index, "leafHash": r.LeafHash,
			"duplicate": r.Duplicate, "checkpoint": r.Checkpoint})
	case "name":
		_, err = fmt.Fprintln(w, r.Name)
	}
	return err
}

func openInput(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(path)
}

// documents splits an input of up to limit bytes into JSON documents: it is a
// JSON array, NDJSON or concatenated JSON, or YAML documents.
func documents(in io.Reader, limit int64) ([][]byte, error) {
	text, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("more than %d bytes; take it in parts", limit)
	}
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 {
		return nil, nil
	}
	if trimmed[0] == '[' {
		var items []json.RawMessage
		if err := json.Unmarshal(trimmed, &items); err != nil {
			return nil, err
		}
		return raws(items), nil
	}
	if trimmed[0] == '{' {
		var items []json.RawMessage
		dec := json.NewDecoder(bytes.NewReader(trimmed))
		for {
			var raw json.RawMessage
			err := dec.Decode(&raw)
			if errors.Is(err, io.EOF) {
				return raws(items), nil
			}
			if err != nil {
				return nil, err
			}
			items = append(items, raw)
		}
	}
	var out [][]byte
	for _, doc := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		if strings.TrimSpace(stripComments(doc)) == "" {
			continue
		}
		j, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}

func stripComments(doc []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(doc)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func raws(items []json.RawMessage) [][]byte {
	out := make([][]byte, len(items))
	for i, r := range items {
		out[i] = r
	}
	return out
}

// importBatch is how many events are sent at a time.
const importBatch = 500

// maxTries bounds how often a batch is sent while the server is busy or away.
const maxTries = 8

// send records events, and tries again while the server asks for it.
func send(cmd *cobra.Command, c *client.Client, seen *known.Watch, events [][]byte, asserted bool) ([]client.Result, error) {
	batch := &client.Batch{Events: events, Key: client.NewKey(), Asserted: asserted}
	for attempt := 0; ; attempt++ {
		results, err := c.RecordBatch(cmd.Context(), batch)
		if err == nil || !client.IsRetryable(err) || attempt == maxTries-1 {
			for _, r := range results {
				if r.Receipt != nil {
					seen.See(r.Receipt.Checkpoint) // the same for all
					break
				}
			}
			return results, err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "graven: trying again:", terminal.Printable(err.Error()))
		if err := wait(cmd, attempt, err); err != nil {
			return nil, err
		}
	}
}
