package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/verify/remote"
)

func newRecover() *cobra.Command {
	r := restorer{successor: true}
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on from a volume that was restored, as a successor that records the loss",
		Long: `Go on from a data directory that is older than what was signed, because its volume
was restored from a snapshot. The ledger cannot go on under its name: it would sign
again what was signed already. Another ledger takes its place in the directory. Its
first entry names the old one and what is lost, as far as the tips show it; the old
one stays readable in DIR/predecessor, and the directory as it was in DIR.recovered.

It needs as much room again beside the directory. A run that was interrupted is
ended by another, or says what is to be moved away first.`,
		Example: "  graven recover --data /var/lib/graven/data --tip /mnt/tips/graven.tip --origin audit.example.com/2",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if r.o.Backup, err = app.DataDir(r.o.Backup, r.tips.Config); err != nil {
				return err
			}
			r.tips.Backup = r.o.Backup
			r.tips.Warn = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "graven:", terminal.Printable(text)) }
			r.tips.Log = func(address string) (*remote.Log, error) { return remoteLog(&r.conn, address) }
			bar := terminal.NewProgress(cmd.ErrOrStderr(), "restored: entry")
			r.o.Progress = bar.Show
			r.o.Found = app.Successor(cmd.Context(), r.origin, version)
			done, err := backup.Recover(cmd.Context(), r.o, r.tips.Find)
			bar.End()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), terminal.Printable(done.String()))
			return err
		},
	}
	r.conn.flags(cmd)
	cmd.Flags().StringVar(&r.o.Backup, "data", "", "data directory (default: that of --config, or graven-data)")
	cmd.Flags().StringVar(&r.tips.Config, "config", "", "the server's configuration file, for its data directory and tipFile")
	cmd.Flags().StringArrayVar(&r.tips.Given, "tip", nil, "the newest checkpoint that was kept elsewhere: a file, or a server's address")
	cmd.Flags().StringVar(&r.origin, "origin", "", "name of the successor (default graven.local/ and 16 random digits)")
	cobra.CheckErr(cmd.MarkFlagDirname("data"))
	return cmd
}
