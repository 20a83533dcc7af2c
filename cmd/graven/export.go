package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/trail"
)

func newExport() *cobra.Command {
	var conn connection
	var f terminal.Filter
	var format, file string
	var limit positive
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export events, with what it takes to verify them offline",
		Long: `Export events, the oldest first.

An NDJSON export ends with a line that holds the signed checkpoint it was made
under. Without filters it is the whole ledger, and its lines re-hash with
nothing but SHA-256; with filters, --limit among them, each line bears its
inclusion proof. 'graven verify FILE' and 'graven-verify FILE' check both.

If a file's checkpoint shows that the ledger is shorter than the one that
'graven verify' or 'graven checkpoint' remembers, or another, the exit code is 3.`,
		Example: `  graven export -o ledger.ndjson
  graven export --since 7d --namespace production --format csv -o week.csv
  graven export --format cloudevents | kcat -P -t audit`,
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
			q.Set("format", format)
			if format == "ndjson" {
				q.Set("checkpoint", "true")
			}
			seen := known.NewWatch()
			resp, err := c.Do(cmd.Context(), http.MethodGet, "/api/v1/audit/export", q, "", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if below := resp.Header.Get("Graven-Erased-Below"); below != "" && (format != "ndjson" || len(q) > 2) {
				fmt.Fprintf(cmd.ErrOrStderr(), "graven: entries were erased, and are not in this export: those below %s\n", terminal.Printable(below))
			}
			if file == "" || file == "-" {
				_, err := io.Copy(cmd.OutOrStdout(), resp.Body)
				return err
			}
			n, err := writeWhole(file, resp.Body)
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d bytes in %s\n", n, file)
			return seeExport(seen, file)
		},
	}
	conn.flags(cmd)
	f.Flags(cmd)
	limitFlag(cmd, &limit, "how many events at the most, the oldest first (default all)")
	oneOf(cmd, &format, "format", "", "ndjson", "how to write them", []string{"ndjson", "csv", "cloudevents"})
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write; nothing is left there if the export breaks off (default: standard output)")
	return cmd
}

// seeExport takes the checkpoint of an export, if it ends with one.
func seeExport(seen *known.Watch, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	last, err := trail.LastLine(f)
	if last != nil {
		seen.See(last.Checkpoint)
	}
	return errors.Join(err, seen.Err())
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
