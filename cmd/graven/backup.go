package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/verify/remote"
)

func newBackup() *cobra.Command {
	var o backup.Options
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Back up a data directory, also while its server runs",
		Long: `Back up a data directory into DIR, also while its server runs. What is new since
the last time is added, and verified as it is copied. A ledger that does not
extend what DIR has of it, or is damaged in what is new, is refused with exit
code 3. DIR verifies as a data directory does: graven verify DIR`,
		Example: `  graven backup --data ./graven-data /mnt/elsewhere/graven
  graven backup --data ./graven-data --config graven.yaml --without-key /mnt/elsewhere/graven`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			var err error
			if o.Source, err = app.DataDir(o.Source, o.Config); err != nil {
				return err
			}
			bar := terminal.NewProgress(cmd.ErrOrStderr(), "copied: entry")
			o.Progress = bar.Show
			r, err := backup.Run(cmd.Context(), o)
			bar.End()
			if err != nil {
				return err
			}
			if r.Key {
				fmt.Fprintf(cmd.ErrOrStderr(), "graven: %s is the signing key (mode 0600): whoever reads it can sign in the ledger's name; --without-key leaves it out\n", filepath.Join(o.Dir, datadir.KeyFile))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), terminal.Printable(r.String()))
			return err
		},
	}
	cmd.Flags().StringVar(&o.Source, "data", "", "data directory, or another backup (default: that of --config, or graven-data)")
	cmd.Flags().StringVar(&o.Config, "config", "", "the server's configuration file: it says where the data directory is, and is kept with the backup")
	cmd.Flags().BoolVar(&o.WithoutKey, "without-key", false, "leave out the signing key and the administrator's token; keep them apart")
	cobra.CheckErr(cmd.MarkFlagDirname("data"))
	return cmd
}

// A restorer is the command restore.
type restorer struct {
	conn      connection
	o         backup.RestoreOptions
	tips      app.Tips
	keys      []string
	successor bool
	origin    string
}

func newRestore() *cobra.Command {
	var r restorer
	cmd := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Make a data directory from a backup",
		Long: `Make a data directory from a backup, which is verified whole.

The ledger goes on under its name only if nothing newer than the backup was
signed: give the newest tips that were kept elsewhere, such as the server's
tipFile or the old directory's file tip. The backup must extend each, and what
this user has seen of the ledger; one must be as new as the backup. What does
not fit is refused with exit code 3.

Where entries were lost, or nobody knows, --successor makes another ledger. Its
first entry names the old one, which is kept in DIR/predecessor and can be read:
graven serve --read-only --data DIR/predecessor`,
		Example: `  graven restore /mnt/elsewhere/graven --data ./graven-data --tip /mnt/tips/graven.tip
  graven restore /mnt/elsewhere/graven --data ./graven-data --successor --origin audit.example.com/2`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.o.Backup = args[0]
			return r.run(cmd)
		},
	}
	r.conn.flags(cmd)
	cmd.Flags().StringVar(&r.o.Dir, "data", "graven-data", "data directory to make; new or empty")
	cmd.Flags().StringArrayVar(&r.tips.Given, "tip", nil, "the newest checkpoint that was kept elsewhere: a file, or a server's address")
	cmd.Flags().StringArrayVar(&r.keys, "key", nil, "the ledger's public key, or a file with it, from a source you trust")
	cmd.Flags().StringVar(&r.tips.Config, "config", "", "the server's configuration file, for its tipFile (default: the one in the backup)")
	cmd.Flags().BoolVar(&r.successor, "successor", false, "begin another ledger, which succeeds this one")
	cmd.Flags().StringVar(&r.origin, "origin", "", "name of the successor (default graven.local/ and 16 random digits)")
	cobra.CheckErr(cmd.MarkFlagDirname("data"))
	return cmd
}

func (r *restorer) run(cmd *cobra.Command) error {
	if r.origin != "" && !r.successor {
		return usage("--origin names a successor: it takes --successor")
	}
	var err error
	if r.o.Keys, err = app.Keys("--key", r.keys); err != nil {
		return err
	}
	r.tips.Backup = r.o.Backup
	r.tips.Warn = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "graven:", terminal.Printable(text)) }
	r.tips.Log = func(address string) (*remote.Log, error) { return remoteLog(&r.conn, address) }
	if r.o.Tips, err = r.tips.Find(cmd.Context()); err != nil {
		return err
	}
	if r.successor {
		r.o.Found = app.Successor(cmd.Context(), r.origin, version)
	}
	bar := terminal.NewProgress(cmd.ErrOrStderr(), "restored: entry")
	r.o.Progress = bar.Show
	done, err := backup.Restore(cmd.Context(), r.o)
	bar.End()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), terminal.Printable(done.String()))
	return err
}
