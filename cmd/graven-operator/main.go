// Command graven-operator is the Kubernetes side of Graven: it seals AuditEvents
// into the ledger, and shows the ledger's newest events as AuditEvents.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/capturepolicy"
	"github.com/graven-audit/graven/internal/controller"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	cmd := command()
	began := false // whether cobra took the command line
	cmd.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "graven-operator:", err)
		if !began {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var (
		c                         controller.Config
		captures                  capturepolicy.Options
		server, tokenFile, caFile string
	)
	cmd := &cobra.Command{
		Use:   "graven-operator --server URL --spool-dir DIR",
		Short: "Seals AuditEvents into the ledger, and mirrors its events as AuditEvents",
		Args:  cobra.NoArgs, Version: version, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
			if c.Ledger, err = ledger(server, tokenFile, caFile); err != nil {
				return err
			}
			if c.API, err = ctrlconfig.GetConfig(); err != nil {
				return fmt.Errorf("reach the API server: %w", err)
			}
			c.API.UserAgent = "graven-operator/" + version
			captures.Ledger, captures.Dir, captures.Cluster, captures.Log = c.Ledger, filepath.Join(c.Dir, "capture"), c.Cluster, c.Log
			captures.Namespace = cmp.Or(c.LeaseNamespace, controller.PodNamespace(), "default")
			c.Add = func(mgr manager.Manager, metrics prometheus.Registerer) error {
				captures.Metrics = metrics
				return capturepolicy.Add(mgr, captures)
			}
			c.Log.Info("graven-operator starts", "version", version, "server", server)
			return controller.Run(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&server, "server", os.Getenv("GRAVEN_SERVER"), "address of the Graven server, as https://graven.graven-system.svc:8090 (or GRAVEN_SERVER)")
	f.StringVar(&tokenFile, "token-file", "/var/run/secrets/kubernetes.io/serviceaccount/token", "file with the token for the server; it is read for each request")
	f.StringVar(&caFile, "ca-file", "", "PEM file with the authority of the server's certificate; default: the system's")
	f.StringVar(&c.Dir, "spool-dir", "", "directory for what went before it was sealed; it should outlive the process")
	f.StringVar(&c.Cluster, "cluster", "", "name of this cluster, for events that do not say theirs")
	f.StringVar(&c.Namespace, "mirror-namespace", "chatcli-system", "namespace of mirrored events")
	f.StringSliceVar(&c.Types, "mirror-types", nil, "types of events that are mirrored; default: all")
	f.StringSliceVar(&c.Severities, "mirror-severities", nil, "severities that are mirrored; default: all")
	f.IntVar(&c.Newest, "mirror-newest", 1000, "how many AuditEvents there may be in the cluster; incidents go whole, the oldest first")
	f.DurationVar(&c.Span, "mirror-for", 0, "how old an incident's newest event may be in the cluster; 0: any")
	f.Float64Var(&c.Rate, "mirror-rate", 20, "how many AuditEvents are made or deleted in a second")
	f.BoolVar(&c.ExpireRoles, "expire-roles", false, "have grants of roles go when they have expired; it must be allowed to list and delete bindings")
	f.StringVar(&captures.Webhook, "webhook-address", "", "HOST:PORT where the API server asks about requests, for capture policies at admission; default: none")
	f.StringVar(&captures.WebhookURL, "webhook-url", "", "how the API server reaches that: https://HOST:PORT, or https://SERVICE.NAMESPACE.svc")
	f.StringVar(&captures.WebhookName, "webhook-name", "graven-operator", "name of the ValidatingWebhookConfiguration; of the ClusterRole of that name it is a part")
	f.StringVar(&captures.WebhookFiles, "webhook-certificates", "", "directory with tls.crt, tls.key and ca.crt for it, which others renew; default: the operator makes its own")
	f.BoolVar(&captures.AuditLog.Enabled, "audit-log", false, "the API servers' audit logs arrive in the ledger: have them confirm what was asked for at admission")
	f.StringSliceVar(&captures.AuditLog.Identities, "remediator", nil, "user that remediates, or the beginning of such users' names with * behind it: what they write is held against the ledger; may be given several times")
	f.StringVar(&captures.AuditLog.PolicyFile, "audit-policy-file", "", "audit policy of the API servers; without it, nothing counts as covered by their logs")
	f.DurationVar(&captures.AuditLog.Window, "audit-window", 5*time.Minute, "how far apart a write and the event that tells of it may be")
	f.DurationVar(&captures.AuditLog.Every, "audit-heartbeat", time.Minute, "how often a sign of life is sent through each API server, for its audit log")
	f.StringVar(&c.MetricsAddress, "metrics-address", ":8080", "HOST:PORT of /metrics; 0: none")
	f.StringVar(&c.HealthAddress, "health-address", ":8081", "HOST:PORT of /healthz and /readyz; 0: none")
	f.BoolVar(&c.LeaderElect, "leader-elect", false, "have one of several operators work at a time")
	f.StringVar(&c.LeaseNamespace, "lease-namespace", "", "namespace of the Lease for that; default: the operator's own")
	cmd.AddCommand(newRole())
	return cmd
}

// ledger returns a client of the server.
func ledger(server, tokenFile, caFile string) (*client.Client, error) {
	if server == "" {
		return nil, errors.New("--server is required")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.ResponseHeaderTimeout = 32, time.Minute
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca-file: no certificate in %s", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return client.New(client.Config{URL: server, TokenFile: tokenFile, HTTP: &http.Client{Transport: transport}, UserAgent: "graven-operator/" + version})
}
