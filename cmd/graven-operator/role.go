package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	rbacv1 "k8s.io/api/rbac/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/client/config"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/rbac"
)

// A roler is the command role: it grants the roles of a cluster, and has the ledger
// say so. graven role runs it.
type roler struct {
	url, tokenFile string
	grant          rbac.Grant
	expires        time.Duration
	output         string
}

// synchronous has an event in the ledger before anything is done.
type synchronous struct{ c *client.Client }

func (s synchronous) Record(ctx context.Context, e *event.Event) error {
	_, err := s.c.RecordSync(ctx, e)
	return err
}

// nobody takes no events, for what only reads.
type nobody struct{}

func (nobody) Record(context.Context, *event.Event) error {
	return errors.New("what only reads records nothing")
}

// manager returns what grants roles with the rights of the kubeconfig's user.
func (r *roler) manager(reads bool) (*rbac.RBACManager, error) {
	config, err := ctrlconfig.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	config.UserAgent = "graven/" + version
	api, err := ctrlclient.New(config, ctrlclient.Options{})
	if err != nil {
		return nil, err
	}
	if reads {
		return rbac.NewRBACManager(rbac.Config{Client: api, Sender: nobody{}})
	}
	token := os.Getenv("GRAVEN_TOKEN")
	if r.tokenFile != "" {
		token = ""
	}
	c, err := client.New(client.Config{URL: r.url, Token: token, TokenFile: r.tokenFile, HTTP: &http.Client{Timeout: 30 * time.Second}, UserAgent: "graven/" + version})
	if err != nil {
		return nil, err
	}
	return rbac.NewRBACManager(rbac.Config{Client: api, Sender: synchronous{c}})
}

func newRole() *cobra.Command {
	var r roler
	cmd := &cobra.Command{
		Use:   "role",
		Short: "Grant and revoke the roles of a cluster, and have the ledger say so",
		Long: `Grant and revoke the roles of a cluster: ` + strings.Join(rbac.Roles(), ", ") + `.

It acts as the kubeconfig's user, who must have the verb bind on the role's
ClusterRole and may create bindings; revoking takes the right to delete them, and
another end for a grant that to update them. The ledger says what is to be done before it is done, and then how it
ended: a server that cannot be reached keeps anything from being done. It is found
by --url or GRAVEN_URL; the token is in --token-file or GRAVEN_TOKEN.`,
	}
	url := os.Getenv("GRAVEN_URL")
	if url == "" {
		url = "http://127.0.0.1:8090"
	}
	cmd.PersistentFlags().StringVar(&r.url, "url", url, "the server's address")
	cmd.PersistentFlags().StringVar(&r.tokenFile, "token-file", "", "file that holds the token")
	cmd.AddCommand(newRoleEnsure(&r), newRoleGrant(&r), newRoleRevoke(&r), newRoleList(&r))
	return cmd
}

func newRoleEnsure(r *roler) *cobra.Command {
	return &cobra.Command{
		Use:     "ensure",
		Short:   "Make the ClusterRoles, and have them be as they should",
		Example: "  graven role ensure",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := r.manager(false)
			if err != nil {
				return err
			}
			return m.EnsureRoles(cmd.Context())
		},
	}
}

// subject reads what is granted to whom.
func (r *roler) subject(args []string) {
	r.grant.Name, r.grant.Role = args[0], args[1]
}

func (r *roler) subjectFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.grant.Kind, "kind", rbacv1.UserKind, "what NAME is: User, Group, or ServiceAccount (NAMESPACE:NAME)")
	cmd.Flags().StringVarP(&r.grant.Namespace, "namespace", "n", "", "the only namespace in which it holds (default: the whole cluster)")
	cmd.Flags().StringVar(&r.grant.Reason, "reason", "", "why; the ledger keeps it")
}

func newRoleGrant(r *roler) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "grant NAME ROLE",
		Short: "Grant a role to a user, a group or a service account",
		Example: `  graven role grant john@company.com operator
  graven role grant sre viewer --kind Group -n production --expires-in 8h --reason "on call"`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.subject(args)
			if r.expires < 0 {
				return errors.New("--expires-in: not below 0s")
			}
			if r.expires > 0 {
				r.grant.Expires = time.Now().Add(r.expires)
			}
			m, err := r.manager(false)
			if err != nil {
				return err
			}
			return m.Grant(cmd.Context(), r.grant)
		},
	}
	r.subjectFlags(cmd)
	cmd.Flags().DurationVar(&r.expires, "expires-in", 0, "how long it holds, as 8h; the operator ends it then (default: until revoked)")
	return cmd
}

func newRoleRevoke(r *roler) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "revoke NAME ROLE",
		Short:   "Revoke a role",
		Example: "  graven role revoke john@company.com operator",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.subject(args)
			m, err := r.manager(false)
			if err != nil {
				return err
			}
			return m.Revoke(cmd.Context(), r.grant)
		},
	}
	r.subjectFlags(cmd)
	return cmd
}

// A granted is a grant as it is listed.
type granted struct {
	Kind      string     `json:"kind"`
	Name      string     `json:"name"`
	Role      string     `json:"role"`
	Namespace string     `json:"namespace,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
}

func newRoleList(r *roler) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List who has which role",
		Example: "  graven role list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.output != "table" && r.output != "json" {
				return fmt.Errorf("-o %s: one of table, json", r.output)
			}
			m, err := r.manager(true)
			if err != nil {
				return err
			}
			grants, err := m.List(cmd.Context())
			if err != nil {
				return err
			}
			list := make([]granted, len(grants))
			for i, g := range grants {
				list[i] = granted{Kind: g.Kind, Name: g.Name, Role: g.Role, Namespace: g.Namespace}
				if !g.Expires.IsZero() {
					list[i].Expires = &g.Expires
				}
			}
			if r.output == "json" {
				out := json.NewEncoder(cmd.OutOrStdout())
				out.SetIndent("", "  ")
				return out.Encode(map[string]any{"grants": list})
			}
			return printGrants(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().StringVarP(&r.output, "output", "o", "table", "how to print: table, json")
	return cmd
}

func printGrants(out io.Writer, list []granted) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ROLE\tKIND\tNAME\tNAMESPACE\tEXPIRES")
	for _, g := range list {
		namespace, expires := "all", "never"
		if g.Namespace != "" {
			namespace = g.Namespace
		}
		if g.Expires != nil {
			expires = g.Expires.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", g.Role, g.Kind, terminal.Cell(g.Name), namespace, expires)
	}
	return w.Flush()
}
