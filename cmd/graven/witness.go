package main

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/witness"
)

func newWitness() *cobra.Command {
	var data, listen, name string
	var logs []string
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Cosign the checkpoints of other ledgers, as long as they only grow",
		Long: `Cosign the checkpoints of other ledgers (C2SP tlog-witness), until interrupted.

The witness remembers the newest checkpoint of each ledger, and signs one only
if it is shown to extend that. A ledger that was rolled back or forked finds no
signature any more. It needs no ledger of its own, and sees no events.

The first start makes the directory and the witness's key, and each prints the
public key. Give it, and the address, to those who keep the ledgers; take their
public keys from them for --log. Never bring back an older copy of the directory:
a witness that has forgotten what it signed is none. Put TLS in front.`,
		Example: `  graven witness --data ./witness-data --listen 0.0.0.0:8091 --name witness.example/w1 --log ledger.vkey`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(logs) == 0 {
				return usage("--log: the public key of a ledger to witness is required")
			}
			keys, err := app.Keys("--log", logs)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			w, err := witness.Open(data, witness.Options{Name: name, Logs: keys, Log: log})
			if err != nil {
				return err
			}
			defer w.Close()
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), w.Key()); err != nil {
				return err
			}
			log.Info("witnessing", "url", "http://"+l.Addr().String(), "data", data, "logs", len(keys))
			err = w.Serve(cmd.Context(), l)
			log.Info("stopped", "data", data)
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "witness-data", "directory of the witness")
	listenFlag(cmd, &listen, "127.0.0.1:8091", "address to listen on")
	cmd.Flags().StringVar(&name, "name", "", "name of a new witness, for ever; best a URL of yours without the scheme (default graven.local/witness/ and 16 random digits)")
	cmd.Flags().StringArrayVar(&logs, "log", nil, "a ledger's public key, or a file with it; may be repeated")
	cobra.CheckErr(cmd.MarkFlagDirname("data"))
	return cmd
}

// A witnessing is the flags that say who must have cosigned a ledger.
type witnessing struct {
	keys      []string
	threshold positive
}

func (w *witnessing) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&w.keys, "witness", nil, "the public key of a witness that must have cosigned the ledger, or a file with it; may be repeated")
	cmd.Flags().Var(&w.threshold, "threshold", "how many of the witnesses must have (default all)")
}
