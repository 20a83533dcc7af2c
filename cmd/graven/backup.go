package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/trail"
)

func newBackup() *cobra.Command {
	var o backup.Options
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Back up a data directory, also while its server runs",
		Long: `Back up a data directory into DIR, also while its server runs. What is new since
the last time is added; it is verified as it is copied.

A ledger that does not extend what DIR has of it, because it was rolled back,
forked or is another one, and one that is damaged in what is new, is refused
with exit code 3, and DIR stays as it is. DIR verifies as a data directory does:
graven verify DIR`,
		Example: `  graven backup --data ./graven-data /mnt/elsewhere/graven
  graven backup --data ./graven-data --config graven.yaml --without-key /mnt/elsewhere/graven`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			if o.Config != "" {
				c, err := app.ReadConfig(o.Config)
				if err != nil {
					return err
				}
				if c.Data != "" && !cmd.Flags().Changed("data") {
					o.Source = c.Data
				}
			}
			bar := terminal.NewProgress(cmd.ErrOrStderr(), "copied: entry")
			o.Progress = bar.Show
			r, err := backup.Run(cmd.Context(), o)
			bar.End()
			if err != nil {
				return err
			}
			if r.Key {
				fmt.Fprintf(cmd.ErrOrStderr(), "graven: %s is the signing key (mode 0600): whoever reads it can sign in the ledger's name; --without-key leaves it out\n", filepath.Join(o.Dir, trail.KeyFile))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d entries in %s, %d of them new (%d files, %d bytes)\n",
				terminal.Printable(r.Checkpoint.Origin), r.Checkpoint.Size, o.Dir, r.Checkpoint.Size-r.Before, r.Segments, r.Bytes)
			return err
		},
	}
	cmd.Flags().StringVar(&o.Source, "data", "graven-data", "data directory, or another backup")
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
	key       string
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
signed, or those who saw that would hold a fork. So give the newest tip of it
that was kept elsewhere: the file of the server's tipFile, the file tip of the
old directory, or the address of a server that has it. The backup must extend
each, and one must be as new as the backup. The tipFile of the backup's
configuration is looked at by itself, and what this user has seen of the ledger
is held against the backup, too. What does not fit is refused with exit code 3.

Where entries were lost, or nobody knows, --successor makes another ledger, with
an origin and a key of its own. Its first entry names the old one and what is
lost of it. The old one is kept below, in DIR/predecessor:
graven serve --read-only --data DIR/predecessor shows what is in it.`,
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
	cmd.Flags().StringVar(&r.key, "key", "", "the ledger's public key, or a file with it, from a source you trust")
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
	if r.key != "" {
		keys, err := readKeys("--key", []string{r.key})
		if err != nil {
			return err
		}
		r.o.Key = keys[0]
	}
	r.tips.Backup = r.o.Backup
	r.tips.Warn = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "graven:", terminal.Printable(text)) }
	r.tips.Fetch = func(ctx context.Context, address string) ([]byte, error) {
		log, err := remoteLog(&r.conn, address)
		if err != nil {
			return nil, err
		}
		return log.Fetch(ctx, "checkpoint")
	}
	var err error
	if r.o.Tips, err = r.tips.Find(cmd.Context()); err != nil {
		return err
	}
	if r.successor {
		r.o.Found = func(dir string, p *succession.Predecessor) error {
			return app.FoundSuccessor(cmd.Context(), dir, r.origin, version, p)
		}
	}
	bar := terminal.NewProgress(cmd.ErrOrStderr(), "restored: entry")
	r.o.Progress = bar.Show
	done, err := backup.Restore(cmd.Context(), r.o)
	bar.End()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if p := done.Predecessor; p != nil {
		_, err = fmt.Fprintf(out, "%s holds a new ledger, which succeeds %s; %s\nits %d entries are in %s (graven serve --read-only --data %s)\nhand out the new key: %s\n",
			r.o.Dir, terminal.Printable(p.Origin), p.Lost, p.Size, filepath.Join(r.o.Dir, succession.Dir), filepath.Join(r.o.Dir, succession.Dir), filepath.Join(r.o.Dir, trail.VKeyFile))
		return err
	}
	_, err = fmt.Fprintf(out, "%s holds %s with %d entries, and goes on from there; see to it that no other copy does\n",
		r.o.Dir, terminal.Printable(done.Checkpoint.Origin), done.Checkpoint.Size)
	return err
}
