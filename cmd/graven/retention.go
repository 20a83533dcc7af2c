package main

import (
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/terminal"
)

func newRetention() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retention",
		Short: "Erase what need not be kept any longer",
		Long: `Erase the details, error messages and original spellings of events that the
retention policies no longer keep, and that no legal hold does. The entries stay,
and so does every proof.`,
		Example: `  graven retention plan
  graven retention run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		asking("plan", "Say what a run would erase, what holds keep, and why", http.MethodGet, "/api/v1/retention/plan", terminal.PrintPlan),
		asking("run", "Erase what is due", http.MethodPost, "/api/v1/retention/run", terminal.PrintRun))
	return cmd
}

// asking returns a command that sends a request, and prints the answer.
func asking[T any](use, short, method, path string, print func(io.Writer, *T) error) *cobra.Command {
	var conn connection
	var output string
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, Example: "  graven retention " + use + "\n  graven retention " + use + " -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAndPrint(cmd, &conn, method, path, nil, nil, output, print)
		}}
	conn.flags(cmd)
	holdOutput(cmd, &output)
	return cmd
}

func askAndPrint[T any](cmd *cobra.Command, conn *connection, method, path string, q url.Values, body any, output string, print func(io.Writer, *T) error) error {
	c, err := conn.client()
	if err != nil {
		return err
	}
	answer := new(T)
	if err := ask(cmd.Context(), c, method, path, q, body, answer); err != nil {
		return err
	}
	if output != "table" {
		return terminal.Document(cmd.OutOrStdout(), output, answer)
	}
	return print(cmd.OutOrStdout(), answer)
}

func newErase() *cobra.Command {
	var conn connection
	var output, confirm string
	var dryRun bool
	var scope order
	cmd := &cobra.Command{
		Use:   "erase",
		Short: "Erase the content of events on request",
		Long: `Erase the details, error messages and original spellings of the events of which
all that the flags say is true, for good. The entries stay: --dry-run says which
identifying fields they have. What a legal hold keeps is not erased, and nothing
is if a part is held.

Where the server's configuration says erasure.confirmations: 2, this is a request
that another person must confirm within seven days.`,
		Example: `  graven erase --actor jane@example.com --reason "request of 2026-03-19" --dry-run
  graven erase --correlation-id inc-8f2a4b --reason "a secret was recorded"
  graven erase --confirm 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, body := "/api/v1/erasures", any(scope.body())
			switch {
			case confirm != "" && len(scope.body()) > 0:
				return usage("--confirm stands alone: the request says the rest")
			case confirm != "":
				path, body = path+"/"+url.PathEscape(confirm)+"/confirm", nil
			case *scope["reason"] == "":
				return usage("--reason: required")
			case dryRun:
				path += "/plan"
			}
			return askAndPrint(cmd, &conn, http.MethodPost, path, nil, body, output, terminal.PrintErasure)
		},
	}
	conn.flags(cmd)
	scope.flags(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "erase nothing: say what would go, and what stays")
	cmd.Flags().StringVar(&confirm, "confirm", "", "the id of the request, of somebody else, that is confirmed")
	holdOutput(cmd, &output)
	return cmd
}
