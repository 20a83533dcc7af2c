package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/document"
	"github.com/graven-audit/graven/internal/importer"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
)

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
			items, err := document.Split(in, importer.MaxText)
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
	s := sender(cmd, c, seen, false)
	for first := 0; first < len(items); first += importer.BatchSize {
		results, err := s.Send(cmd.Context(), items[first:min(first+importer.BatchSize, len(items))])
		if err != nil {
			return errors.Join(seen.Err(), err)
		}
		for i, r := range results {
			if r.Err != nil {
				rejected++
				fmt.Fprintf(cmd.ErrOrStderr(), "graven: event %d: %s\n", first+i+1, terminal.Printable(r.Err.Error()))
				continue
			}
			if err := terminal.PrintReceipt(cmd.OutOrStdout(), output, r.Receipt); err != nil {
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

func openInput(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(path)
}
