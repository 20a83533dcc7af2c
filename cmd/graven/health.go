package main

import (
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func newHealth() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether events can be recorded and found",
		Long: `Ask a server whether events can be recorded and found, and print its answer. It
needs no token. The exit code is 1 where they cannot. For containers, whose
images have no other program to ask with.`,
		Example: "  graven health --url https://graven.example",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			resp, err := c.Do(cmd.Context(), http.MethodGet, "/readyz", nil, "", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(cmd.OutOrStdout(), io.LimitReader(resp.Body, 64<<10))
			return err
		},
	}
	conn.flags(cmd)
	return cmd
}
