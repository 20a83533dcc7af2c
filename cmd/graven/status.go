package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/trail"
)

func newStatus() *cobra.Command {
	var conn connection
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the server does, and how the cluster protects AuditEvents",
		Long: `Say how the server does, and how the cluster protects AuditEvents, as the operator
saw it last: not at all (none), by the definition's rule (rule: changes of spec are
refused), by policy (policy: all changes, and deletion before they are sealed), and
each with its creator on it (stamped). Ends with exit code 1 if the server cannot
record.`,
		Example: "  graven status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			s, err := statusOf(cmd.Context(), c)
			if err != nil {
				return err
			}
			s.Server = conn.address()
			if output == "table" {
				err = s.Print(cmd.OutOrStdout())
			} else {
				err = terminal.Document(cmd.OutOrStdout(), output, s)
			}
			if err == nil && !s.Ready {
				return &exitCodeError{exitError, errSilent}
			}
			return err
		},
	}
	conn.flags(cmd)
	oneOf(cmd, &output, "output", "o", "table", "how to print", documentOutputs)
	return cmd
}

// statusOf asks a server how it does.
func statusOf(ctx context.Context, c *client.Client) (*terminal.Status, error) {
	s := new(terminal.Status)
	var p *client.Problem
	switch err := c.Get(ctx, "/readyz", nil, s); {
	case err == nil:
		s.Ready = true
	case errors.As(err, &p) && p.Status == http.StatusServiceUnavailable:
		s.Reason = p.Error()
	default:
		return nil, err
	}
	if err := fillStatus(ctx, c, s); err != nil && s.Ready {
		return nil, err
	}
	return s, nil // of a server that is not ready, what there is to know
}

// fillStatus adds what the ledger says.
func fillStatus(ctx context.Context, c *client.Client, s *terminal.Status) error {
	resp, err := c.Do(ctx, http.MethodGet, "/log/checkpoint", url.Values{"newest": {"true"}}, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	note, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	cp, err := trail.ReadCheckpoint(note)
	if err != nil {
		return err
	}
	s.Origin, s.Size = cp.Origin, cp.Size
	var told struct {
		Events []struct {
			Timestamp time.Time
			Cluster   string
			Recorded  struct{ Principal string }
			Details   json.RawMessage
		}
	}
	err = c.Get(ctx, "/api/v1/audit", url.Values{"type": {"AuditEventProtectionChanged"}, "limit": {"1"}}, &told)
	if err != nil || len(told.Events) == 0 {
		return err
	}
	e := told.Events[0]
	s.AuditEvents = &terminal.Protection{Since: e.Timestamp, Cluster: e.Cluster, By: e.Recorded.Principal}
	if len(e.Details) > 0 {
		err = json.Unmarshal(e.Details, s.AuditEvents)
	}
	return err
}
