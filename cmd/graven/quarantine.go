package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/agent"
	"github.com/graven-audit/graven/internal/terminal"
)

func newQuarantine() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "See to events that the server refused for good",
		Long: `See to what the server refused for good, and what was damaged, in the spool of an
agent or of a recorder. An agent may run meanwhile, and does what is asked for;
another program that has the spool open must be stopped before.

What is sent again gets a number of its own; what is dropped needs a reason. Both
are recorded, by way of the same spool, so that 'graven gaps' can tell what became
of the numbers that are missing.`,
		Example: `  graven quarantine list --spool /var/lib/graven-agent
  graven quarantine drop 4711 --spool /var/lib/graven-agent --reason "a test event"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newQuarantineList(), newQuarantineShow(), newQuarantineRetry(), newQuarantineDrop())
	return cmd
}

func spoolFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "spool", "graven-spool", "directory of the spool")
	cobra.CheckErr(cmd.MarkFlagDirname("spool"))
}

// quarantined reads what is in quarantine, and says if some cannot be read.
func quarantined(cmd *cobra.Command, dir string) ([]client.Quarantined, error) {
	list, torn, err := client.ReadQuarantine(dir)
	if torn > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "graven: %d lines of the quarantine cannot be read\n", torn)
	}
	return list, err
}

func newQuarantineList() *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List what is in quarantine",
		Example: "  graven quarantine list --spool /var/lib/graven-agent",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := quarantined(cmd, dir)
			if err != nil {
				return err
			}
			if output != "table" {
				return terminal.Document(cmd.OutOrStdout(), output, list)
			}
			return terminal.PrintQuarantine(cmd.OutOrStdout(), list)
		},
	}
	spoolFlag(cmd, &dir)
	oneOf(cmd, &output, "output", "o", "table", "how to print", documentOutputs)
	return cmd
}

func newQuarantineShow() *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use:     "show KEY",
		Short:   "Show something in quarantine, by its key or its number",
		Example: "  graven quarantine show 4711 --spool /var/lib/graven-agent",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := quarantined(cmd, dir)
			if err != nil {
				return err
			}
			found := 0
			for _, q := range list {
				if q.Key() == args[0] || fmt.Sprint(q.Number) == args[0] {
					found++
					if err := terminal.Document(cmd.OutOrStdout(), output, q); err != nil {
						return err
					}
				}
			}
			if found == 0 {
				return fmt.Errorf("%.60q: %w", args[0], client.ErrNotQuarantined)
			}
			return nil
		},
	}
	spoolFlag(cmd, &dir)
	oneOf(cmd, &output, "output", "o", "yaml", "how to print", []string{"yaml", "json"})
	return cmd
}

func newQuarantineRetry() *cobra.Command {
	var dir string
	var all bool
	cmd := &cobra.Command{
		Use:   "retry KEY...",
		Short: "Send events again that the server refused",
		Example: `  graven quarantine retry 4711 4712 --spool /var/lib/graven-agent
  graven quarantine retry --all --spool /var/lib/graven-agent`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usage("name what to retry, or say --all")
			}
			if all {
				list, err := quarantined(cmd, dir)
				if err != nil {
					return err
				}
				for _, q := range list {
					if q.Event != nil {
						args = append(args, q.Key())
					}
				}
			}
			return decide(cmd, dir, args, "will be sent again", func(ctx context.Context, q agent.Quarantine, key, by string) error {
				_, err := q.Retry(ctx, key, by)
				return err
			})
		},
	}
	spoolFlag(cmd, &dir)
	cmd.Flags().BoolVar(&all, "all", false, "all events that are in quarantine")
	return cmd
}

func newQuarantineDrop() *cobra.Command {
	var dir, reason string
	cmd := &cobra.Command{
		Use:     "drop KEY...",
		Short:   "Give up what is in quarantine, with a reason",
		Example: `  graven quarantine drop 4711 --spool /var/lib/graven-agent --reason "a test event"`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usage("--reason is needed")
			}
			return decide(cmd, dir, args, "is dropped", func(ctx context.Context, q agent.Quarantine, key, by string) error {
				_, err := q.Drop(ctx, key, by, reason)
				return err
			})
		},
	}
	spoolFlag(cmd, &dir)
	cmd.Flags().StringVar(&reason, "reason", "", "why, as the ledger will tell")
	return cmd
}

// decide has something done to each of keys, in the name of whoever is signed in
// on this machine.
func decide(cmd *cobra.Command, dir string, keys []string, what string, do func(ctx context.Context, q agent.Quarantine, key, by string) error) (err error) {
	who, err := user.Current()
	if err != nil {
		return err
	}
	q, err := agent.OpenQuarantine(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	for _, key := range keys {
		if err := do(cmd.Context(), q, key, who.Username); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", terminal.Cell(key), what)
	}
	return nil
}
