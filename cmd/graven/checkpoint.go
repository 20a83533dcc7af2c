package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/trail"
)

func newProve() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "prove ID",
		Short:   "Print the proof that an event is in the ledger (C2SP tlog-proof)",
		Example: `  graven prove 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 > event.tlog-proof`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			resp, err := c.Do(cmd.Context(), http.MethodGet, "/api/v1/audit/events/"+url.PathEscape(args[0])+"/proof", nil, "", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(cmd.OutOrStdout(), io.LimitReader(resp.Body, 1<<20))
			return err
		},
	}
	conn.flags(cmd)
	return cmd
}

func newCheckpoint() *cobra.Command {
	var conn connection
	var keys []string
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the ledger's newest signed checkpoint; keep it elsewhere",
		Long: `Print the ledger's newest signed checkpoint (C2SP tlog-checkpoint).

Kept where nobody who can change the ledger can change it, it shows later that
nothing was taken away since: graven verify TARGET --since FILE

What this command or 'graven verify' remembers of the ledger, the server has to
show to be a part of it; the exit code is 3 if it is not. Once --key has
authenticated the checkpoint, it is remembered, too.`,
		Example: `  graven checkpoint > /mnt/elsewhere/$(date +%F).checkpoint
  graven checkpoint --key ledger.vkey`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			verifiers, err := readKeys(keys)
			if err != nil {
				return err
			}
			now, err := newestCheckpoint(cmd.Context(), c, verifiers)
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(now.Note); err != nil {
				return err
			}
			log, err := remoteLog(&conn, conn.address())
			if err != nil {
				return err
			}
			seen, err := known.Open()
			var last *trail.Checkpoint
			if err == nil {
				last, err = seen.Newest(now.Origin)
			}
			if err == nil && last != nil && now.Size < last.Size { // unless it was remembered since
				if now, err = newestCheckpoint(cmd.Context(), c, verifiers); err != nil {
					return err
				}
			}
			if err == nil && last != nil {
				if err := known.CheckExtends(cmd.Context(), log.Fetch, last, now); err != nil {
					return err
				}
			}
			if err == nil && len(verifiers) > 0 {
				err = seen.Keep(now)
			}
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "graven: the checkpoint is not remembered:", terminal.Printable(err.Error()))
			}
			return nil
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the ledger's public key, or a file with it, to check the signature with")
	return cmd
}

// newestCheckpoint fetches a server's newest checkpoint. With keys, one of them
// must have signed it.
func newestCheckpoint(ctx context.Context, c *client.Client, keys []note.Verifier) (*trail.Checkpoint, error) {
	resp, err := c.Do(ctx, http.MethodGet, "/log/checkpoint", nil, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return trail.ReadCheckpoint(text)
	}
	cp, err := trail.OpenCheckpoint(text, keys...)
	if err != nil {
		return nil, &exitCodeError{exitVerify, err}
	}
	return cp, nil
}
