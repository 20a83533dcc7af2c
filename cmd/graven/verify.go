package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/trail"
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
			o, err := verifyOptions(keys, since)
			if err != nil {
				return err
			}
			if o.Witnesses, err = witnesses.policy(); err != nil {
				return err
			}
			o.EverySignature = everySignature
			t, err := openTarget(&conn, args[0])
			if err != nil {
				return err
			}
			defer t.close()
			bar := terminal.NewProgress(cmd.ErrOrStderr(), "verified")
			o.Progress = bar.Show
			check := t.verify
			if !noMemory {
				claim, whole := t.claim(cmd.Context())
				dated := app.Dated(t.name)
				if t.export != nil {
					dated = "export"
				}
				check = (&known.Target{Claim: claim, Whole: whole, Dated: dated, Check: t.verify, Warn: func(err error) {
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

func verifyOptions(keys, since []string) (o verify.Options, err error) {
	if o.Keys, err = readKeys("--key", keys); err != nil {
		return o, err
	}
	for _, s := range since {
		text, err := textOrFile("--since", s, "\n")
		if err != nil {
			return o, err
		}
		if _, err := trail.ReadCheckpoint(text); err != nil {
			return o, usage("--since %.80q: %w", s, err)
		}
		o.Since = append(o.Since, text)
	}
	return o, nil
}

// isURL reports whether a target is a server.
func isURL(target string) bool {
	return strings.HasPrefix(target, "http://") || strings.HasPrefix(target, "https://")
}

// A target is what is verified: a server's log, a data directory, or an export.
type target struct {
	name   string
	log    *remote.Log // of a server, or
	export *os.File
	temp   bool // the export is a copy of ours
}

// openTarget finds out what a target is. Of an export that cannot be read
// twice, such as a pipe, it makes a copy.
func openTarget(conn *connection, name string) (*target, error) {
	t := &target{name: name}
	if isURL(name) {
		var err error
		t.log, err = remoteLog(conn, name)
		return t, err
	}
	if app.IsDatabase(name) {
		return t, nil
	}
	in := os.Stdin
	if name != "-" {
		var err error
		if in, err = os.Open(name); err != nil {
			return nil, err
		}
	}
	info, err := in.Stat()
	if err != nil || info.IsDir() {
		return t, errors.Join(err, in.Close())
	}
	if t.export = in; info.Mode().IsRegular() {
		return t, nil
	}
	defer in.Close()
	if t.export, err = os.CreateTemp("", "export-*.ndjson"); err != nil {
		return nil, err
	}
	t.temp = true
	if _, err := io.Copy(t.export, in); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *target) close() {
	if t.export != nil {
		t.export.Close()
	}
	if t.temp {
		os.Remove(t.export.Name())
	}
}

func (t *target) verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	switch {
	case t.log != nil:
		return verify.Log(ctx, t.name, t.log.Fetch, o)
	case t.export == nil:
		return app.VerifyStore(ctx, t.name, o)
	}
	r, err := verify.Export(ctx, t.export, o)
	if r != nil {
		r.Target = t.name
	}
	return r, err
}

// claim returns the newest checkpoint by the target's own word, or nil, and
// whether the target has every entry under it.
func (t *target) claim(ctx context.Context) (c *trail.Checkpoint, whole bool) {
	var text []byte
	whole = true
	switch {
	case t.log != nil:
		text, _ = t.log.Fetch(ctx, verify.NewestPath)
	case t.export == nil:
		text = app.Claim(ctx, t.name)
	default:
		if last, _ := trail.LastLine(t.export); last != nil {
			text, whole = []byte(last.Checkpoint), last.Whole()
		}
	}
	c, _ = trail.ReadCheckpoint(text) // verifying will say what is wrong with it
	return c, whole
}

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

// readKeys reads public keys, given to a flag as such or in files.
func readKeys(flag string, args []string) ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, a := range args {
		text, err := textOrFile(flag, a, "+")
		if err != nil {
			return nil, err
		}
		n := len(keys)
		for _, line := range strings.Fields(string(text)) {
			v, err := note.NewVerifier(line)
			if err != nil {
				return nil, usage("%s %.80q: %w", flag, line, err)
			}
			keys = append(keys, v)
		}
		if len(keys) == n {
			return nil, usage("%s %.80q: no key there", flag, a)
		}
	}
	return keys, nil
}

// textOrFile returns, of what a flag says, the content of the file called s or,
// if there is none and s contains mark, s itself.
func textOrFile(flag, s, mark string) ([]byte, error) {
	f, err := os.Open(s)
	switch {
	case err != nil && strings.Contains(s, mark):
		return []byte(s), nil
	case errors.Is(err, os.ErrNotExist):
		return nil, usage("%s: %w", flag, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
