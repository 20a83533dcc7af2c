package main

import (
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/quarantine"
	"github.com/graven-audit/graven/internal/terminal"
)

func newQuarantine() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "See to events that the ledger refused for good",
		Long: `See to what the ledger refused for good, and what was damaged: in the spool of an
agent or a recorder (--spool), and in that of a server, or its stream in Redis,
where events were kept while the database was away (--spool or --config). Agents
and servers may run meanwhile, and do what is asked for; another program that has
the spool open must be stopped before.

What is sent again gets a place of its own, and is of whom it was accepted from;
what is dropped needs a reason. Both are recorded, by way of the same spool, so
that 'graven gaps' can tell what became of the numbers that are missing.`,
		Example: `  graven quarantine list --spool /var/lib/graven-agent
  graven quarantine drop 4711 --spool /var/lib/graven-agent --reason "a test event"
  graven quarantine retry --all --config /etc/graven/graven.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newQuarantineList(), newQuarantineShow(), newQuarantineRetry(), newQuarantineDrop())
	return cmd
}

func placeFlags(cmd *cobra.Command, p *app.Place) {
	cmd.Flags().StringVar(&p.Spool, "spool", "graven-spool", "directory of the spool")
	cobra.CheckErr(cmd.MarkFlagDirname("spool"))
	cmd.Flags().StringVar(&p.Config, "config", "", "configuration file of the server whose spool or stream it is")
	cobra.CheckErr(cmd.MarkFlagFilename("config", "yaml"))
	cmd.MarkFlagsMutuallyExclusive("spool", "config")
}

// quarantined reads what is in quarantine, and says if some cannot be read.
func quarantined(cmd *cobra.Command, p app.Place) ([]quarantine.Held, error) {
	list, torn, err := p.Quarantined(cmd.Context())
	if torn > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "graven: %d lines of the quarantine cannot be read\n", torn)
	}
	return list, err
}

func newQuarantineList() *cobra.Command {
	var place app.Place
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List what is in quarantine",
		Example: "  graven quarantine list --spool /var/lib/graven-agent",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := quarantined(cmd, place)
			if err != nil {
				return err
			}
			if output != "table" {
				return terminal.Document(cmd.OutOrStdout(), output, list)
			}
			return terminal.PrintQuarantine(cmd.OutOrStdout(), list)
		},
	}
	placeFlags(cmd, &place)
	oneOf(cmd, &output, "output", "o", "table", "how to print", documentOutputs)
	return cmd
}

func newQuarantineShow() *cobra.Command {
	var place app.Place
	var output string
	cmd := &cobra.Command{
		Use:     "show KEY",
		Short:   "Show something in quarantine, by its key or its number",
		Example: "  graven quarantine show 4711 --spool /var/lib/graven-agent",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := quarantined(cmd, place)
			if err != nil {
				return err
			}
			found := 0
			for _, q := range list {
				if q.Named(args[0]) {
					found++
					if err := terminal.Document(cmd.OutOrStdout(), output, q); err != nil {
						return err
					}
				}
			}
			if found == 0 {
				return fmt.Errorf("%.60q: %w", args[0], quarantine.ErrNone)
			}
			return nil
		},
	}
	placeFlags(cmd, &place)
	oneOf(cmd, &output, "output", "o", "yaml", "how to print", []string{"yaml", "json"})
	return cmd
}

func newQuarantineRetry() *cobra.Command {
	var place app.Place
	var all bool
	cmd := &cobra.Command{
		Use:   "retry KEY...",
		Short: "Send events again that were refused",
		Example: `  graven quarantine retry 4711 4712 --spool /var/lib/graven-agent
  graven quarantine retry --all --spool /var/lib/graven-agent`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usage("name what to retry, or say --all")
			}
			if all {
				list, err := quarantined(cmd, place)
				if err != nil {
					return err
				}
				for _, q := range list {
					if q.Event != nil {
						args = append(args, q.Key())
					}
				}
			}
			return decide(cmd, place, args, "will be sent again", quarantine.Decision{Type: event.TypeRetried})
		},
	}
	placeFlags(cmd, &place)
	cmd.Flags().BoolVar(&all, "all", false, "all events that are in quarantine")
	return cmd
}

func newQuarantineDrop() *cobra.Command {
	var place app.Place
	var reason string
	cmd := &cobra.Command{
		Use:     "drop KEY...",
		Short:   "Give up what is in quarantine, with a reason",
		Example: `  graven quarantine drop 4711 --spool /var/lib/graven-agent --reason "a test event"`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usage("--reason is needed")
			}
			return decide(cmd, place, args, "is dropped", quarantine.Decision{Type: event.TypeDropped, Because: reason})
		},
	}
	placeFlags(cmd, &place)
	cmd.Flags().StringVar(&reason, "reason", "", "why, as the ledger will tell")
	return cmd
}

// decide has each of keys out, in the name of whoever is signed in on this
// machine.
func decide(cmd *cobra.Command, place app.Place, keys []string, what string, d quarantine.Decision) (err error) {
	who, err := user.Current()
	if err != nil {
		return err
	}
	q, err := place.Quarantine(cmd.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	for _, key := range keys {
		d.By, d.At = who.Username, time.Now()
		if err := q.Out(cmd.Context(), key, d); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", terminal.Cell(key), what)
	}
	return nil
}
