package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/verify"
	"github.com/graven-audit/graven/verify/remote"
)

func newVerify() *cobra.Command {
	var conn connection
	var keys, since []string
	var witnesses witnessing
	var output string
	var quiet, noMemory, everySignature bool
	cmd := &cobra.Command{
		Use:   "verify TARGET",
		Short: "Check a ledger without trusting its keeper",
		Long: `Check a ledger: a data directory, also while its server runs; an export; or a
server's URL, whose tiles are fetched below /log/.

All entries are hashed again and checked against the chain, the tree and the
signatures. Whatever is wrong is named with its place, and the exit code is 3.

Without --key the ledger's own word is taken for its key, so that all that can
be said is that it agrees with itself. Take the key from elsewhere.

With --witness, enough witnesses must have cosigned a checkpoint of the ledger;
how far, the report says. What was recorded since is not theirs to vouch for.

This command remembers the newest checkpoint of each ledger that it found good,
below $XDG_STATE_HOME/graven, and demands that the ledger extends it. An export
may be older than that; a filtered one shows too little to be remembered.`,
		Example: `  graven verify ./graven-data
  graven verify ledger.ndjson --key ledger.vkey
  graven verify http://127.0.0.1:8090 --since /mnt/elsewhere/2026-11-21.checkpoint`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := verify.Options{EverySignature: everySignature}
			var err error
			if o.Keys, err = app.Keys("--key", keys); err != nil {
				return err
			}
			if o.Since, err = app.Checkpoints("--since", since); err != nil {
				return err
			}
			if o.Witnesses, err = app.Policy(witnesses.keys, int(witnesses.threshold)); err != nil {
				return err
			}
			t, err := app.OpenTarget(args[0], func(url string) (*remote.Log, error) { return remoteLog(&conn, url) })
			if err != nil {
				return err
			}
			defer t.Close()
			bar := terminal.NewProgress(cmd.ErrOrStderr(), "verified")
			o.Progress = bar.Show
			check := t.Verify
			if !noMemory {
				claim, whole := t.Claim(cmd.Context())
				check = (&known.Target{Claim: claim, Whole: whole, Dated: t.Dated(cmd.Context()), Check: t.Verify, Warn: func(err error) {
					fmt.Fprintln(cmd.ErrOrStderr(), "graven:", terminal.Printable(err.Error()))
				}}).Verify
			}
			r, err := check(cmd.Context(), o)
			bar.End()
			if err != nil {
				return err
			}
			return printReport(cmd, r, output, quiet)
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the ledger's public key, or a file with it, from a source you trust")
	cmd.Flags().StringArrayVar(&since, "since", nil, "an earlier checkpoint, or a file with it, that the ledger must extend")
	witnesses.flags(cmd)
	oneOf(cmd, &output, "output", "o", "table", "how to print", documentOutputs)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing but what is wrong")
	cmd.Flags().BoolVar(&everySignature, "every-signature", false, "check the signatures of all checkpoints, also of more than 20,000")
	cmd.Flags().BoolVar(&noMemory, "no-memory", false, "neither use nor update the remembered checkpoint")
	return cmd
}

// documentOutputs are the values of -o for what is not a list of events.
var documentOutputs = []string{"table", "json", "yaml"}

// remoteLog reaches the ledger of a server.
func remoteLog(conn *connection, url string) (*remote.Log, error) {
	token, err := conn.token(url)
	if err != nil {
		return nil, err
	}
	return &remote.Log{URL: strings.TrimSuffix(strings.TrimRight(url, "/"), "/log") + "/log", Token: token}, nil
}

func printReport(cmd *cobra.Command, r *verify.Report, output string, quiet bool) error {
	var err error
	switch {
	case output != "table":
		err = terminal.Document(cmd.OutOrStdout(), output, r)
	case !quiet || !r.OK():
		err = terminal.PrintReport(cmd.OutOrStdout(), r)
	}
	if !r.OK() {
		err = errors.Join(err, &exitCodeError{exitVerify, errSilent})
	}
	return err
}
