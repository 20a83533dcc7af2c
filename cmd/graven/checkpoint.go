package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

func newProve() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:   "prove ID",
		Short: "Print the proof that an event is in the ledger (C2SP tlog-proof)",
		Long: `Print the proof that an event is in the ledger (C2SP tlog-proof). The standard
error has the hash that it proves, of the leaf that the event's entry is: of an
event that was erased nothing else is left.`,
		Example: `  graven prove 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 > event.tlog-proof`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			header, err := conn.print(cmd, http.MethodGet, "/api/v1/audit/events/"+url.PathEscape(args[0])+"/proof")
			if err != nil {
				return err
			}
			if leaf := header.Get("Graven-Leaf"); leaf != "" {
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), "leaf", terminal.Printable(leaf))
			}
			return err
		},
	}
	conn.flags(cmd)
	return cmd
}

func newHealth() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "health",
		Short:   "Ask a server, without a token, whether events can be recorded and found",
		Example: "  graven health --url https://graven.example",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := conn.print(cmd, http.MethodGet, "/readyz")
			return err
		},
	}
	conn.flags(cmd)
	return cmd
}

func newCheckpoint() *cobra.Command {
	var conn connection
	var keys []string
	var cosigned bool
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the ledger's newest signed checkpoint; keep it elsewhere",
		Long: `Print the ledger's newest signed checkpoint (C2SP tlog-checkpoint).

Kept where nobody who can change the ledger can change it, it shows later that
nothing was taken away since: graven verify TARGET --since FILE

What this command or 'graven verify' remembers of the ledger, the server has to
show to be a part of it. If it does not, or a witness refuses the ledger's
checkpoints, because it has seen more of the ledger or another, the checkpoint
is printed to the standard error only, and the exit code is 3. Otherwise, with
--key, it is remembered, too.

With --cosigned it is the newest that witnesses have cosigned, if there is one.`,
		Example: `  graven checkpoint > /mnt/elsewhere/$(date +%F).checkpoint
  graven checkpoint --key ledger.vkey`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			verifiers, err := app.Keys("--key", keys)
			if err != nil {
				return err
			}
			now, err := checkpointOf(cmd.Context(), c, true, verifiers)
			if err != nil {
				return err
			}
			shown := now
			if cosigned {
				if shown, err = checkpointOf(cmd.Context(), c, false, verifiers); err != nil {
					return err
				}
			}
			log, err := remoteLog(&conn, conn.address())
			if err != nil {
				return err
			}
			if err = extends(cmd, log.Fetch, c, now, verifiers); err == nil {
				err = unrefused(cmd, c)
			}
			if err != nil {
				fmt.Fprint(cmd.ErrOrStderr(), terminal.Printable(string(shown.Note))) // evidence, but not to be kept for good
				return err
			}
			_, err = cmd.OutOrStdout().Write(shown.Note)
			return err
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the ledger's public key, or a file with it, to check the signature with")
	cmd.Flags().BoolVar(&cosigned, "cosigned", false, "print the newest checkpoint that witnesses have cosigned")
	return cmd
}

// extends has the server show that its ledger extends what is remembered of it,
// and remembers the newest checkpoint if it is authentic. Without a memory there
// is a warning.
func extends(cmd *cobra.Command, fetch verify.Fetch, c *client.Client, now *trail.Checkpoint, keys []note.Verifier) error {
	seen, err := known.Open()
	var last *trail.Checkpoint
	if err == nil {
		last, err = seen.Newest(now.Origin)
	}
	if last != nil {
		if now.Size < last.Size { // unless it was remembered since
			if now, err = checkpointOf(cmd.Context(), c, true, keys); err != nil {
				return err
			}
		}
		if err := known.CheckExtends(cmd.Context(), fetch, last, now); err != nil {
			return err
		}
	}
	if err == nil && len(keys) > 0 {
		err = seen.Keep(now)
	}
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "graven: the checkpoint is not remembered:", terminal.Printable(err.Error()))
	}
	return nil
}

// unrefused is an error if witnesses refuse the server's checkpoints, by its own
// word.
func unrefused(cmd *cobra.Command, c *client.Client) error {
	var ready struct{ Refusing []string }
	if err := ask(cmd.Context(), c, http.MethodGet, "/readyz", nil, nil, &ready); err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "graven: whether witnesses refuse the ledger is not known:", terminal.Printable(err.Error()))
	}
	if len(ready.Refusing) == 0 {
		return nil
	}
	return &exitCodeError{exitVerify, fmt.Errorf("refused by %s: there was more of this ledger, or there is another; events of type WitnessRefused tell more",
		strings.Join(ready.Refusing, ", "))}
}

// checkpointOf fetches a server's newest checkpoint, or else the newest that
// witnesses have cosigned. With keys, one of them must have signed it.
func checkpointOf(ctx context.Context, c *client.Client, newest bool, keys []note.Verifier) (*trail.Checkpoint, error) {
	resp, err := c.Do(ctx, http.MethodGet, "/log/checkpoint", url.Values{"newest": {strconv.FormatBool(newest)}}, "", nil)
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
