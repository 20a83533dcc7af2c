package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/agent"
	"github.com/graven-audit/graven/internal/auditlog"
	"github.com/graven-audit/graven/internal/terminal"
)

func newAgent() *cobra.Command {
	var conn connection
	var listen, spool, source string
	var maxBytes int64
	var flush, heartbeat time.Duration
	var kubeLog, kubePolicy, cluster string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Take events on this machine, keep them on its disk, and deliver them",
		Long: `Take events from programs on this machine, until interrupted: POST them to
/api/v1/audit/events, one at a time, or to /api/v1/audit/events/batch, as to the
server. The answer, 202, comes once they are on this machine's disk; they are
delivered as soon as the server can be reached, each once, in order, for as long
as it takes. When the spool is full, the answer is 503. Nothing is dropped.

Whoever reaches the agent records in its name, as things that others did. It
listens on loopback or on a Unix socket (unix:PATH) only.

What the server refuses for good is kept in the spool, with the reason:
'graven quarantine' shows it, sends it again or drops it. /metrics counts all of it. 'graven gaps' tells if this agent falls
silent: it promises the ledger a sign of life every --heartbeat.

With --kube-audit-log it reads, besides, the audit log that an API server writes
on this machine, through rotations, and records what --kube-audit-policy says of
it. The token should attest (graven token create --attest), or what it says of
who did what counts as hearsay.`,
		Example: `  graven agent --spool /var/lib/graven-agent --source operator-0
  graven agent --listen unix:/run/graven/agent.sock --url https://graven.example:8090 --token-file token
  graven agent --kube-audit-log /var/log/kubernetes/audit/audit.log --cluster prod-eu`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			policy, err := kubeAuditPolicy(kubeLog, kubePolicy)
			if err != nil {
				return usage("--kube-audit-policy: %w", err)
			}
			token, file := conn.tokenSource(conn.address())
			c, err := client.New(client.Config{URL: conn.address(), Token: token, TokenFile: file, UserAgent: "graven-agent/" + version})
			if err != nil {
				return usage("%w", err)
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			r, err := c.NewRecorder(client.RecorderConfig{Dir: spool, Source: source, MaxBytes: maxBytes, OnFull: client.Refuse, Asserted: true, Heartbeat: heartbeat,
				Durable:   func(e *event.Event) bool { return client.Durable(e) || e.EventType == auditlog.TypeRequest },
				OnProblem: func(err error) { log.Warn("delivery", "problem", terminal.Printable(err.Error())) }})
			if err != nil {
				return err
			}
			l, err := agent.Listen(listen)
			if err != nil {
				return errors.Join(usage("--listen: %w", err), r.Close())
			}
			withdraw, err := agent.Announce(spool, l)
			if err != nil {
				return errors.Join(err, l.Close(), r.Close())
			}
			log.Info("taking events", "address", l.Addr().String(), "spool", spool, "pending", r.Stats().Pending, "server", conn.address())
			err = errors.Join(serveAgent(cmd.Context(), agent.New(r, log), l, policy, &agent.KubeLog{File: kubeLog, Policy: policy, Dir: spool, Cluster: cluster, Sender: r, Log: log}), withdraw())
			ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), flush)
			defer cancel()
			if left := r.Flush(ctx); left != nil {
				log.Warn("stopped", "problem", fmt.Sprint(left))
			}
			return errors.Join(err, r.Close())
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8092", "address to listen on: HOST:PORT on loopback, or unix:PATH")
	cmd.Flags().StringVar(&spool, "spool", "graven-spool", "directory of the spool, on a disk that outlives the process")
	cmd.Flags().StringVar(&source, "source", "", "name of this source, which no other may have (default the host's name)")
	cmd.Flags().Int64Var(&maxBytes, "max-bytes", 1<<30, "bound of the spool, in bytes")
	cmd.Flags().DurationVar(&heartbeat, "heartbeat", 5*time.Minute, "promise the ledger a sign of life so often, which 'graven gaps' holds it to; 0 for none")
	cmd.Flags().DurationVar(&flush, "flush", 5*time.Second, "how long to deliver yet when interrupted; what is left is delivered by the next start")
	cmd.Flags().StringVar(&kubeLog, "kube-audit-log", "", "file to which an API server on this machine writes its audit log")
	cmd.Flags().StringVar(&kubePolicy, "kube-audit-policy", "", "audit policy that says what is recorded of it (default: config/audit/policy.yaml)")
	cmd.Flags().StringVar(&cluster, "cluster", "", "name of the API server's cluster, for what is read of its audit log")
	cobra.CheckErr(errors.Join(cmd.MarkFlagDirname("spool"), cmd.MarkFlagFilename("kube-audit-log"), cmd.MarkFlagFilename("kube-audit-policy", "yaml")))
	return cmd
}

// kubeAuditPolicy returns what is recorded of an API server's audit log; nil if none is
// read.
func kubeAuditPolicy(log, file string) (*auditlog.Policy, error) {
	if log == "" && file != "" {
		return nil, errors.New("no use without --kube-audit-log")
	}
	if log == "" {
		return nil, nil
	}
	text := config.AuditPolicy
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	return auditlog.ParsePolicy(text)
}

// serveAgent serves an agent, and reads an audit log if there is a policy for it.
func serveAgent(ctx context.Context, a *agent.Agent, l net.Listener, policy *auditlog.Policy, k *agent.KubeLog) error {
	if policy == nil {
		return a.Serve(ctx, l)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	read := make(chan error, 1)
	go func() {
		read <- k.Run(ctx)
		stop() // what cannot be read is not passed over in silence
	}()
	err := a.Serve(ctx, l)
	stop()
	return errors.Join(err, <-read)
}
