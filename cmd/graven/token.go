package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/terminal"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke the tokens that let people and programs in",
		Example: `  graven token create agent-payments --role recorder
  graven token list
  graven token revoke agent-payments`,
	}
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenRevoke())
	return cmd
}

func newTokenCreate() *cobra.Command {
	var conn connection
	var role, expires string
	var namespaces []string
	var attests bool
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token and print it, this once",
		Long: `Make a token and print it, this once; the server keeps only a hash.

Roles: viewer reads, exports and verifies; recorder sends events; operator does
both; auditor reads everything, also who read what; admin does all of this and
makes tokens; superadmin makes superadmins too.`,
		Example: `  graven token create agent-payments --role recorder > agent.token
  graven token create jane --role viewer --namespaces payments,staging --expires-in 90d
  graven token create kube-apiserver --role recorder --attest`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			body := map[string]any{"name": args[0], "role": role}
			if namespaces != nil {
				body["namespaces"] = namespaces
			}
			if expires != "" {
				body["expiresIn"] = expires
			}
			if attests {
				body["attests"] = true
			}
			var made struct {
				Token string `json:"token"`
			}
			if err := ask(cmd.Context(), c, http.MethodPost, "/api/v1/tokens", nil, body, &made); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Token)
			return err
		},
	}
	conn.flags(cmd)
	oneOf(cmd, &role, "role", "", "viewer", "what it may do", []string{"viewer", "recorder", "operator", "auditor", "admin", "superadmin"})
	cmd.Flags().StringVar(&expires, "expires-in", "", "how long it is valid, such as 12h or 90d (default: until revoked)")
	cmd.Flags().StringSliceVar(&namespaces, "namespaces", nil, "the only namespaces it sees (default: all)")
	cmd.Flags().BoolVar(&attests, "attest", false, "may vouch for the identities that it passes on, as an API server does")
	return cmd
}

func newTokenList() *cobra.Command {
	var conn connection
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens",
		Example: "  graven token list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.Get(cmd.Context(), "/api/v1/tokens", nil, &raw); err != nil {
				return err
			}
			if output != "table" {
				return terminal.Document(cmd.OutOrStdout(), output, raw)
			}
			return terminal.PrintTokens(cmd.OutOrStdout(), raw)
		},
	}
	conn.flags(cmd)
	oneOf(cmd, &output, "output", "o", "table", "how to print", documentOutputs)
	return cmd
}

func newTokenRevoke() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "revoke NAME",
		Short:   "Make a token invalid, at once",
		Example: "  graven token revoke agent-payments",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := conn.print(cmd, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(args[0]))
			return err
		},
	}
	conn.flags(cmd)
	return cmd
}
