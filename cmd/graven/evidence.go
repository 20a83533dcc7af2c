package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"
)

func newEvidence() *cobra.Command {
	var conn connection
	var w window
	var file, framework, seed string
	var sample positive
	var slim bool
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Make an evidence package that an auditor checks offline",
		Long: `Make an evidence package: a zip file with what the trail shows of a framework's
controls, the compliance report, every event of the period with its proof, and
what it takes to check all of it offline with 'graven-verify FILE.zip'.

The same question with the same --checkpoint gives the same bytes. Who made the
package, and when, stands in FILE.zip.run.json, which is signed as well.

The package carries every entry of the ledger that may be about the period, so
that nothing can be left out unseen; with --slim it does not, and says that its
completeness is not proven.`,
		Example: `  graven evidence --framework soc2 --from 2026-03-01 --to 2026-03-31 -o march.zip
  graven evidence --framework nist-800-53 --window 90d --sample 25 --random-seed 7 -o q1.zip
  graven-verify --key ledger.vkey march.zip`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case file == "" || file == "-":
				return usage("-o FILE.zip is needed")
			case framework == "":
				return usage("--framework is needed, such as soc2; 'graven report --framework x' lists them")
			case seed != "" && sample == 0:
				return usage("--random-seed decides which events --sample draws; give both")
			}
			c, err := conn.client()
			if err != nil {
				return err
			}
			q := w.query()
			q.Set("framework", framework)
			if sample > 0 {
				q.Set("sample", itoa(int64(sample)))
				q.Set("random_seed", seedOr(seed))
			}
			if slim {
				q.Set("slim", "true")
			}
			resp, err := c.Do(cmd.Context(), http.MethodGet, "/api/v1/compliance/evidence", q, "", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			run, err := base64.StdEncoding.DecodeString(resp.Header.Get("Graven-Evidence-Run"))
			if err != nil || len(run) == 0 {
				return errors.New("the server did not say who made the package")
			}
			n, err := writeWhole(file, resp.Body)
			if err != nil {
				return err
			}
			if err := os.WriteFile(file+".run.json", run, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d bytes in %s; who made it in %[2]s.run.json\n", n, file)
			return nil
		},
	}
	conn.flags(cmd)
	w.flags(cmd)
	cmd.Flags().StringVar(&framework, "framework", "", "the framework whose controls it is about, such as soc2")
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write")
	cmd.Flags().Var(&sample, "sample", "draw so many events, each with a proof of its own")
	cmd.Flags().StringVar(&seed, "random-seed", "", "the number that decides which (default 0)")
	cmd.Flags().BoolVar(&slim, "slim", false, "leave out the entries that show that nothing is missing")
	return cmd
}

func seedOr(seed string) string {
	if seed == "" {
		return "0"
	}
	return seed
}
