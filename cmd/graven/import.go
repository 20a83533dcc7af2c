package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/importer"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
)

func newImport() *cobra.Command {
	var conn connection
	var format string
	cmd := &cobra.Command{
		Use:   "import --format FORMAT FILE",
		Short: "Import events that other software recorded",
		Long: `Import events that other software recorded, from a file or, with -, from standard
input. Formats:

  native      our own NDJSON, exports among it, or a JSON array
  kube-audit  a kube-apiserver's audit log (audit.k8s.io/v1), as lines or EventList;
              secrets are removed before anything leaves this machine
  auditevent  ChatCLI's AuditEvent objects, in YAML or JSON, as
              'kubectl get auditevents -o yaml' prints them
  kubernaut   Kubernaut's flat events: NDJSON, an array, or a page of its API

Importing twice adds nothing; an import that broke off goes on by running it
again. An event without an id gets one that is derived from what it says and from
how many in the input have said the same before it, whatever the input's name:
the same line in two files is one event, the same line twice in one file is two.

If the answers show that the ledger is shorter than the one that 'graven verify'
or 'graven checkpoint' remembers, or another, the exit code is 3.`,
		Example: `  graven import --format kube-audit /var/log/kubernetes/audit.log
  kubectl get auditevents -A -o json | graven import --format auditevent -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			in, err := openInput(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			seen := known.NewWatch()
			err = importAll(cmd, sender(cmd, c, seen, true), format, in, terminal.NewProgress(cmd.ErrOrStderr(), "imported"))
			return errors.Join(seen.Err(), err)
		},
	}
	conn.flags(cmd)
	oneOf(cmd, &format, "format", "", "native", "what is in the file", importer.Formats)
	return cmd
}

// sender returns what sends events for a command.
func sender(cmd *cobra.Command, c *client.Client, seen *known.Watch, asserted bool) *importer.Sender {
	return &importer.Sender{Client: c, Asserted: asserted, Seen: seen, Retrying: func(err error) {
		fmt.Fprintln(cmd.ErrOrStderr(), "graven: trying again:", terminal.Printable(err.Error()))
	}}
}

// maxComplaints bounds the rejections that are told one by one.
const maxComplaints = 20

// importAll imports what in holds and prints what came of it.
func importAll(cmd *cobra.Command, s *importer.Sender, format string, in io.Reader, bar *terminal.Progress) error {
	complaints := 0
	im := importer.Importer{Sender: s, Progress: func(done int64) { bar.Show(done, 0) }, Rejected: func(where string, err error) {
		bar.End()
		switch complaints++; {
		case complaints <= maxComplaints:
			fmt.Fprintf(cmd.ErrOrStderr(), "graven: %s: %s\n", where, terminal.Printable(err.Error()))
		case complaints == maxComplaints+1:
			fmt.Fprintln(cmd.ErrOrStderr(), "graven: … and more")
		}
	}}
	counts, err := im.Run(cmd.Context(), format, in)
	bar.End()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), counts); err != nil {
		return err
	}
	if counts.Rejected > 0 {
		return fmt.Errorf("%d events were rejected", counts.Rejected)
	}
	return nil
}
