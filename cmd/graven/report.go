package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/report"
)

// A window is what report and evidence ask about.
type window struct {
	namespace, length, from, to string
	chaos                       bool
	checkpoint                  positive
}

func (w *window) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&w.namespace, "namespace", "n", "", "this namespace only (default all that you may see)")
	cmd.Flags().StringVar(&w.length, "window", "", "how long it is, such as 7d (the default) or 24h; it ends now unless --to says otherwise")
	cmd.Flags().StringVar(&w.from, "from", "", "its first moment: a time, a date, or an age")
	cmd.Flags().StringVar(&w.to, "to", "", "its end: a time, a date (all of that day), or an age")
	cmd.Flags().BoolVar(&w.chaos, "chaos", false, "count the incidents of chaos experiments, too")
	cmd.Flags().Var(&w.checkpoint, "checkpoint", "answer as of when the ledger had so many entries (default: as it is)")
}

func (w *window) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"namespace": w.namespace, "window": w.length, "from": w.from, "to": w.to} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if w.chaos {
		q.Set("chaos", "true")
	}
	if w.checkpoint > 0 {
		q.Set("checkpoint", itoa(int64(w.checkpoint)))
	}
	return q
}

func newReport() *cobra.Command {
	var conn connection
	var w window
	var output, file, framework string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Make the compliance report of a window",
		Long: `Make the compliance report of a window: how soon problems were noticed and
resolved, what remediations did, which promises were kept, who approved what.
All of it is computed from the trail, and the same window at the same
--checkpoint gives the same bytes.

The table shows each number with how many things it is about, and what can be
said of its difference to the window before. The other forms say what each
number means, what was left out, and which events are behind it.

With --framework it tells, of each control of soc2, nist-800-53, iso-27001,
pci-dss, hipaa, eu-ai-act or dora, what the trail shows: check by check, passed,
so many exceptions, or not enough evidence. Whether a control is met only an
auditor can say.`,
		Example: `  graven report
  graven report --namespace production --window 30d -o html -f march.html
  graven report --from 2026-03-01 --to 2026-03-31 -o pdf -f march.pdf
  graven report --framework soc2 --window 90d -o html -f soc2.html`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			path, q := "/api/v1/compliance/report", w.query()
			if framework != "" {
				path = "/api/v1/compliance/frameworks/" + url.PathEscape(framework)
			}
			if output == "table" && framework != "" {
				d := new(control.Document)
				if err := c.Get(cmd.Context(), path, q, d); err != nil {
					return err
				}
				return terminal.PrintControls(cmd.OutOrStdout(), d)
			}
			if output == "table" {
				r := new(report.ComplianceReport)
				if err := c.Get(cmd.Context(), path, q, r); err != nil {
					return err
				}
				return terminal.PrintCompliance(cmd.OutOrStdout(), r)
			}
			q.Set("format", output)
			resp, err := c.Do(cmd.Context(), http.MethodGet, path, q, "", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return save(cmd, file, resp.Body)
		},
	}
	conn.flags(cmd)
	w.flags(cmd)
	cmd.Flags().StringVar(&framework, "framework", "", "what the trail shows of the controls of a framework, such as soc2, in place of the numbers")
	oneOf(cmd, &output, "output", "o", "table", "how to write it", []string{"table", "json", "yaml", "csv", "html", "pdf"})
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to write; nothing is left there if it breaks off (default: standard output)")
	return cmd
}

// save writes a document into a file, or to standard output.
func save(cmd *cobra.Command, file string, body io.Reader) error {
	if file == "" || file == "-" {
		_, err := io.Copy(cmd.OutOrStdout(), body)
		return err
	}
	n, err := writeWhole(file, body)
	if err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d bytes in %s\n", n, file)
	}
	return err
}
