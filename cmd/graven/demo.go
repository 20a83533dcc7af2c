package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/examples"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/demo"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

func newDemo() *cobra.Command {
	var data, listen string
	var once bool
	var seed uint64
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show Graven at work: a server, real audit data, a dozen incidents",
		Long: `Start a server, import the audit log of a real API server, play a dozen incidents
through the HTTP API, tell one of them, verify the ledger, and serve until
interrupted. The same seed gives the same events, so that a second run on the
same directory adds nothing.`,
		Example: `  graven demo
  graven demo --once --data /tmp/demo --listen 127.0.0.1:0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("listen") && inUse(listen) {
				listen = "127.0.0.1:0"
			}
			return serve(cmd, app.Config{Data: data, Listen: listen}, func(ctx context.Context, a *app.App) error {
				d := demonstration{cmd: cmd, data: data, url: a.URL(), seed: seed, once: once}
				if err := d.run(ctx); err != nil || once {
					return err
				}
				<-ctx.Done()
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&data, "data", "graven-demo", "data directory")
	listenFlag(cmd, &listen, "127.0.0.1:8090", "address to listen on; without this flag, any free port where that one is in use")
	cmd.Flags().BoolVar(&once, "once", false, "end after printing")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "which incidents to make up")
	return cmd
}

// inUse reports whether another program listens on an address.
func inUse(address string) bool {
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

// A demonstration is one run of the demo against a server.
type demonstration struct {
	cmd       *cobra.Command
	data, url string
	seed      uint64
	once      bool
}

func (d *demonstration) run(ctx context.Context) error {
	out := d.cmd.OutOrStdout()
	token, err := os.ReadFile(filepath.Join(d.data, datadir.AdminTokenFile))
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{URL: d.url, Token: string(bytes.TrimSpace(token)), UserAgent: "graven-demo/" + version})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "A Graven server is at %s, its ledger in %s.\n\n", d.url, d.data)

	fmt.Fprint(out, "Importing the audit log of a kube-apiserver: ")
	if err := importAll(d.cmd, sender(d.cmd, c, known.NewWatch(), true), "kube-audit", bytes.NewReader(examples.KubeAudit), terminal.NewProgress(io.Discard, "")); err != nil {
		return err
	}
	fmt.Fprintln(out, "Playing incidents:")
	incidents := demo.Incidents(d.seed)
	for _, in := range incidents {
		for _, e := range in.Events {
			if _, err := c.RecordSync(ctx, e); err != nil {
				return fmt.Errorf("%s: %w", in.CorrelationID, err)
			}
		}
		fmt.Fprintf(out, "  %-11s %2d events  %s\n", in.CorrelationID, len(in.Events), in.Title)
	}

	fmt.Fprintln(out, "\nOne of them:")
	fmt.Fprintln(out)
	if _, err := showIncident(d.cmd, c, incidents[0].CorrelationID, "table"); err != nil {
		return err
	}

	fmt.Fprintln(out, "\nIs it all true? Every entry is hashed again and checked against the signatures:")
	fmt.Fprintln(out)
	keyFile := filepath.Join(d.data, trail.VKeyFile)
	keys, err := app.Keys("--key", []string{keyFile})
	if err != nil {
		return err
	}
	r, err := filestore.Verify(ctx, d.data, verify.Options{Keys: keys})
	if err != nil {
		return err
	}
	if err := printReport(d.cmd, r, "table", false); err != nil {
		return err
	}
	d.next()
	return nil
}

// next tells where to look next.
func (d *demonstration) next() {
	out := d.cmd.OutOrStdout()
	program := os.Args[0]
	env := fmt.Sprintf("  export GRAVEN_URL=%s GRAVEN_TOKEN=$(cat %s)\n", d.url, filepath.Join(d.data, datadir.AdminTokenFile))
	if d.once {
		fmt.Fprintf(out, "\nServe this ledger: %s serve --data %s\n", program, d.data)
		return
	}
	fmt.Fprintf(out, `
Look around, in another terminal:
%s  %s list --actor alice@example.com
  %s incident inc-8f2a4b
  %s list --severity critical,high --limit 20
  %s export -o ledger.ndjson && %s verify ledger.ndjson --key %s
  curl -s -H "X-API-Key: $GRAVEN_TOKEN" "$GRAVEN_URL/api/v1/audit?type=RemediationExecuted&severity=high"

Press Ctrl-C to stop.
`, env, program, program, program, program, program, filepath.Join(d.data, trail.VKeyFile))
}
