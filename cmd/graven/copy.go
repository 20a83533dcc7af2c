package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/terminal"
)

func newCopy() *cobra.Command {
	var c app.Copy
	var keys []string
	cmd := &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy or move a ledger between a directory and a database",
		Long: `Copy a ledger as it is, with every signed checkpoint, from a data directory or a
PostgreSQL database to another. FROM is verified on the way, and may be recorded
to: what stood there at the start is copied. Run it again to go on after it was
interrupted, and to add what is new. Keys are not copied.

Nothing is recorded in TO until --move: it copies the rest, has FROM refuse to
record from then on, and the ledger goes on in TO. The server of a directory
FROM must not run then.

What is not what was signed, or in TO and not in FROM, is refused (exit code 3).`,
		Example: `  graven copy ./graven-data postgres://app@db.example/graven
  graven copy --move ./graven-data postgres://app@db.example/graven
  graven copy --move postgres://app@db.example/graven ./graven-data`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			c.From, c.To = args[0], args[1]
			if c.Keys, err = app.Keys("--key", keys); err != nil {
				return err
			}
			bar := terminal.NewProgress(cmd.ErrOrStderr(), "copied: entry")
			c.Progress = bar.Show
			r, err := c.Run(cmd.Context())
			bar.End()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), terminal.Printable(r.String()))
			return err
		},
	}
	cmd.Flags().BoolVar(&c.Move, "move", false, "have the ledger go on in TO, and no longer in FROM")
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the ledger's public key, or a file with it, from a source you trust")
	return cmd
}
