package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/postgres"
)

func newPostgres() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "postgres",
		Short: "Prepare a PostgreSQL database for a ledger",
		Example: `  graven postgres migrate postgres://owner@db.example/graven
  graven postgres accept postgres://owner@db.example/graven`,
		Args: cobra.NoArgs,
	}
	migrate := &cobra.Command{
		Use:   "migrate ADDRESS",
		Short: "Make the schema, or bring it up to date",
		Long: `Make the schema "graven" in a database, or bring it up to date, as the role that
owns it and may make roles. Servers then connect as a role that was granted
graven_writer, and those who only read or verify as one with graven_reader:

  CREATE ROLE app LOGIN; GRANT graven_writer TO app;

Servers of an older version must not run meanwhile.`,
		Example: "  graven postgres migrate postgres://owner@db.example/graven",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to, err := postgres.Migrate(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			text := fmt.Sprintf("the schema is of version %d already", to)
			if from != to {
				text = fmt.Sprintf("the schema is of version %d now, and was of version %d", to, from)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	accept := &cobra.Command{
		Use:   "accept ADDRESS",
		Short: "Go on in a database that was promoted or restored",
		Long: `Have a ledger go on in a database that was promoted from a standby, or restored.
Servers refuse such a one, for it may lack what was acknowledged. Whoever runs
this, as the schema's owner, says that it does not: compare the newest checkpoint
with what servers, witnesses and clients have seen before ('graven checkpoint
--since', 'graven verify --since').`,
		Example: "  graven postgres accept postgres://owner@db.example/graven",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return postgres.Accept(cmd.Context(), args[0]) },
	}
	cmd.AddCommand(migrate, accept)
	return cmd
}
