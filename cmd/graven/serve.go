package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/listener"
	"github.com/graven-audit/graven/internal/terminal"
)

func newServe() *cobra.Command {
	var c app.Config
	var file, data, store, deadLetter, listen string
	var readOnly, findings bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep a ledger in a directory or a database and serve it",
		Long: `Keep a ledger in a directory and serve it over HTTP, until interrupted.

The first start makes the directory, the ledger's keys in DIR/keys and a token
for its administrator in DIR/admin.token. Hand DIR/keys/ledger.vkey to those who
are to verify the ledger.

With --store the ledger is kept in a PostgreSQL database, which 'graven postgres
migrate' has prepared, and several servers may serve it; each needs a copy of
DIR/keys. Passwords belong into ~/.pgpass or PGPASSWORD.

With --read-only it shows a backup, or the predecessor of a ledger. Nothing is
recorded then, and no key needed; who reads stands on stderr.`,
		Example: `  graven serve --data ./graven-data --listen 127.0.0.1:8090
  graven serve --store postgres://graven@db.example/graven --data ./graven-data
  graven serve --config graven.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				var err error
				if c, err = app.ReadConfig(file); err != nil {
					return err
				}
			}
			c.Data, c.Store, c.Listen = cmp.Or(data, c.Data, "graven-data"), cmp.Or(store, c.Store), cmp.Or(listen, c.Listen)
			c.DeadLetter = cmp.Or(deadLetter, c.DeadLetter)
			c.ReadOnly = c.ReadOnly || readOnly
			c.Findings.Off = c.Findings.Off || !findings
			return serve(cmd, c, nil)
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data directory (default ./graven-data)")
	cmd.Flags().StringVar(&store, "store", "", "keep the ledger in a PostgreSQL database: postgres://USER@HOST/DATABASE")
	cmd.Flags().StringVar(&deadLetter, "dead-letter", "", "keep events in Redis or Valkey while the database is away: redis://HOST:PORT/DB")
	listenFlag(cmd, &listen, "", "address to listen on (default 127.0.0.1:8090)")
	cmd.Flags().BoolVar(&findings, "findings", true, "look for findings in the trail")
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "record nothing: serve a backup or a predecessor")
	cmd.Flags().StringVar(&file, "config", "", "configuration file in YAML; flags override it")
	return cmd
}

// listenFlag adds the flag --listen.
func listenFlag(cmd *cobra.Command, listen *string, def, what string) {
	*listen = def
	cmd.Flags().Var((*address)(listen), "listen", what)
}

// An address is the value of a flag: HOST:PORT.
type address string

func (a *address) String() string { return string(*a) }
func (a *address) Type() string   { return "HOST:PORT" }

func (a *address) Set(s string) error {
	*a = address(s)
	return listener.Check(s)
}

// serve runs a server until the command is interrupted or meanwhile, if it is
// not nil, returns.
func serve(cmd *cobra.Command, c app.Config, meanwhile func(context.Context, *app.App) error) error {
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	bar := terminal.NewProgress(cmd.ErrOrStderr(), "recovering: entry")
	a, err := app.New(cmd.Context(), c, version, log, bar.Show)
	bar.End()
	if err != nil {
		return err
	}
	if meanwhile == nil {
		log.Info("serving", "url", a.URL(), "data", c.Data, "token", filepath.Join(c.Data, datadir.AdminTokenFile))
		err := a.Run(cmd.Context())
		log.Info("stopped", "data", c.Data)
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- meanwhile(ctx, a)
		cancel()
	}()
	err = a.Run(ctx)
	cancel()
	return errors.Join(err, <-done)
}

func newReindex() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "reindex",
		Short: "Rebuild the index and the hashes from the log",
		Long: `Rebuild the index and the hashes of the tree from the log. The server must not run.
The log itself is only read.`,
		Example: "  graven reindex --data ./graven-data",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bar := terminal.NewProgress(cmd.ErrOrStderr(), "indexed")
			done, err := app.Reindex(data, bar.Show)
			bar.End()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), done)
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "graven-data", "data directory")
	cobra.CheckErr(cmd.MarkFlagDirname("data"))
	return cmd
}
