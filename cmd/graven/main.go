// Command graven records events in a tamper-evident ledger, answers questions
// about them and verifies the ledger.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/internal/transfer"
)

// version is set when the program is built.
var version = "dev"

// Exit codes.
const (
	exitError  = 1
	exitUsage  = 2
	exitVerify = 3 // verification failed
	exitGap    = 4 // something is missing
)

// An exitCodeError ends the program with a code of its own.
type exitCodeError struct {
	code int
	err  error
}

func (e *exitCodeError) Error() string { return e.err.Error() }
func (e *exitCodeError) Unwrap() error { return e.err }

// errSilent means that everything was said already.
var errSilent = errors.New("")

func usage(format string, args ...any) error {
	return &exitCodeError{exitUsage, fmt.Errorf(format, args...)}
}

// oneOf adds a flag whose value is one of a few words.
func oneOf(cmd *cobra.Command, value *string, name, short, def, what string, words []string) {
	*value = def
	cmd.Flags().VarP(&word{value, words}, name, short, what+": "+strings.Join(words, ", "))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
}

// A word implements pflag.Value.
type word struct {
	value *string
	words []string
}

func (w *word) String() string { return *w.value }
func (w *word) Type() string   { return "string" }
func (w *word) Set(s string) error {
	if !slices.Contains(w.words, s) {
		return fmt.Errorf("one of %s", strings.Join(w.words, ", "))
	}
	*w.value = s
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(terminal.Screen(os.Stdout))
	began := false // whether cobra took the command line
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var own *exitCodeError
	var p *client.Problem
	var given *app.GivenError
	code := exitError
	if errors.As(err, &own) {
		code = own.code
	} else if errors.Is(err, known.ErrTurnedBack) || errors.Is(err, backup.ErrRefused) || errors.Is(err, transfer.ErrRefused) {
		code = exitVerify
	} else if !began || errors.As(err, &given) || errors.As(err, &p) && p.Param != "" {
		code = exitUsage
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(root.ErrOrStderr(), "graven: "+terminal.Printable(text))
	}
	if code == exitUsage {
		fmt.Fprintln(root.ErrOrStderr(), "Try 'graven --help', or --help after a command.")
	}
	return code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "graven",
		Short: "The system of record for autonomous operations on Kubernetes",
		Long: `Graven keeps evidence of what agents, controllers and people do in production:
every step becomes an event in a signed, tamper-evident ledger that anyone can
verify without trusting Graven, its disk or its administrators.

Client commands find the server by --url or GRAVEN_URL, and prove who they are
with the token in the file --token-file, in GRAVEN_TOKEN, or else, to a server
on this machine (localhost, 127.0.0.1, ::1), in ./graven-data/admin.token.

Exit codes: 0 good, 1 error, 2 usage, 3 verification failed, 4 gap found.`,
		Example: `  graven serve --data ./graven-data
  graven list --since 24h --severity critical,high
  graven verify ./graven-data --key ledger.vkey`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("graven {{.Version}}\n")
	root.AddCommand(
		newServe(), newDemo(), newRecord(), newImport(), newList(), newGet(), newTail(), newIncident(), newGaps(), newReport(), newEvidence(), newExport(),
		newVerify(), newProve(), newCheckpoint(), newWitness(), newAgent(), newQuarantine(), newFindings(), newHold(), newRetention(), newErase(), newBackup(), newRestore(), newCopy(), newToken(), newRole(), newStatus(), newRecover(), newHealth(), newReindex(), newPostgres(), newVersion(),
	)
	addCompletion(root)
	return root
}

// addCompletion adds cobra's own commands for completion, with examples.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	completion, _, err := root.Find([]string{"completion"})
	cobra.CheckErr(err)
	examples := map[string]string{
		"bash":       "  source <(graven completion bash)",
		"zsh":        "  graven completion zsh > \"${fpath[1]}/_graven\"",
		"fish":       "  graven completion fish > ~/.config/fish/completions/graven.fish",
		"powershell": "  graven completion powershell | Out-String | Invoke-Expression",
	}
	completion.Example = examples["bash"]
	for _, shell := range completion.Commands() {
		shell.Example = examples[shell.Name()]
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  graven version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "graven "+version)
			return err
		},
	}
}
