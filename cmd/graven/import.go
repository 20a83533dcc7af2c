package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/document"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/internal/terminal"
)

var importFormats = []string{"native", "kube-audit", "auditevent", "kubernaut"}

func newImport() *cobra.Command {
	var conn connection
	var format string
	cmd := &cobra.Command{
		Use:   "import --format FORMAT FILE",
		Short: "Import events that other software recorded",
		Long: `Import events that other software recorded, from a file or, with -, from standard
input. Formats:

  native      our own NDJSON, exports among it, or a JSON array
  kube-audit  a kube-apiserver's audit log (audit.k8s.io/v1), as lines or EventList;
              secrets are removed before anything leaves this machine
  auditevent  ChatCLI's AuditEvent objects, in YAML or JSON, as
              'kubectl get auditevents -o yaml' prints them
  kubernaut   Kubernaut's flat events: NDJSON, an array, or a page of its API

Importing twice adds nothing; an import that broke off goes on by running it
again. An event without an id gets one that is derived from what it says and from
how many in the input have said the same before it, whatever the input's name:
the same line in two files is one event, the same line twice in one file is two.

If the answers show that the ledger is shorter than the one that 'graven verify'
or 'graven checkpoint' remembers, or another, the exit code is 3.`,
		Example: `  graven import --format kube-audit /var/log/kubernetes/audit.log
  kubectl get auditevents -A -o json | graven import --format auditevent -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			in, err := openInput(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			im := newImporter(cmd, c, terminal.NewProgress(cmd.ErrOrStderr(), "imported"))
			if err := im.run(format, in); err != nil {
				return errors.Join(im.seen.Err(), err)
			}
			return errors.Join(im.seen.Err(), im.summary())
		},
	}
	conn.flags(cmd)
	oneOf(cmd, &format, "format", "", "native", "what is in the file", importFormats)
	return cmd
}

// An importer sends what it reads, in batches.
type importer struct {
	cmd    *cobra.Command
	client *client.Client
	bar    *terminal.Progress
	seen   *known.Watch
	// said counts the events without an id by the beginning of a hash. Where
	// two share one, their count is still the same each time.
	said map[uint64]int64

	batch [][]byte
	where []string // of each event of the batch
	bytes int

	recorded, duplicates, rejected, left int64
}

func newImporter(cmd *cobra.Command, c *client.Client, bar *terminal.Progress) *importer {
	return &importer{cmd: cmd, client: c, bar: bar, seen: known.NewWatch(), said: map[uint64]int64{}}
}

func (im *importer) run(format string, in io.Reader) error {
	var err error
	switch format {
	case "native":
		err = intake.Documents(in, im.native)
	case "kube-audit":
		err = intake.Documents(in, im.kubeAudit)
	case "auditevent":
		err = im.auditEvents(in)
	case "kubernaut":
		err = intake.Documents(in, im.kubernaut)
	}
	if err == nil {
		err = im.flush()
	}
	im.bar.End()
	return err
}

// native imports an event of our own form. What a server set is left out, and
// so are another ledger's own events.
func (im *importer) native(where string, raw []byte) error {
	var mark struct {
		Checkpoint *string `json:"checkpoint"`
		Count      *int64  `json:"count"`
	}
	if json.Unmarshal(raw, &mark) == nil && mark.Checkpoint != nil && mark.Count != nil {
		return nil // the last line of an export
	}
	if intake.IsKubernaut(raw) {
		return im.kubernaut(where, raw)
	}
	e, err := event.ParseServed(raw)
	if err != nil {
		im.reject(where, err)
		return nil
	}
	if e.CheckReserved() != nil {
		im.left++
		return nil
	}
	e.Recorded = event.Recorded{}
	return im.add(where, e)
}

func (im *importer) kubeAudit(where string, raw []byte) error {
	var kind struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(raw, &kind) == nil && kind.Kind == "EventList" {
		return intake.KubeAuditList(raw, math.MaxInt, func(i int, e *event.Event, err error) error {
			return im.take(fmt.Sprintf("%s, item %d", where, i), e, err)
		})
	}
	e, err := intake.KubeAudit(raw)
	return im.take(where, e, err)
}

func (im *importer) kubernaut(where string, raw []byte) error {
	var page struct {
		Data *[]json.RawMessage `json:"data"`
	}
	if json.Unmarshal(raw, &page) == nil && page.Data != nil {
		for i, raw := range *page.Data {
			if err := im.kubernaut(fmt.Sprintf("%s, item %d", where, i), raw); err != nil {
				return err
			}
		}
		return nil
	}
	e, err := intake.Kubernaut(raw)
	return im.take(where, e, err)
}

func (im *importer) auditEvents(in io.Reader) error {
	docs, err := document.Split(in, maxText)
	if err != nil {
		return err
	}
	for n, doc := range docs {
		events, err := intake.AuditEvent(doc)
		where := "document " + itoa(n+1)
		if err != nil {
			im.reject(where, err)
		}
		for _, e := range events {
			if err := im.add(where, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (im *importer) take(where string, e *event.Event, err error) error {
	if err != nil {
		im.reject(where, err)
		return nil
	}
	return im.add(where, e)
}

func (im *importer) add(where string, e *event.Event) error {
	if e.ID.IsZero() {
		e.ID = im.derive(e)
	}
	raw := e.AppendJSON(nil)
	im.batch = append(im.batch, raw)
	im.where = append(im.where, where)
	im.bytes += len(raw)
	if len(im.batch) == importBatch || im.bytes > 4<<20 {
		return im.flush()
	}
	return nil
}

// derive returns the id of an event that has none.
func (im *importer) derive(e *event.Event) event.ID {
	content := string(e.AppendJSON(nil))
	id := event.DeriveID("import", content)
	key := binary.BigEndian.Uint64(id[:])
	im.said[key]++
	return event.DeriveID("import", content, itoa(im.said[key]))
}

func (im *importer) flush() error {
	if len(im.batch) == 0 {
		return nil
	}
	results, err := send(im.cmd, im.client, im.seen, im.batch, true)
	if err != nil {
		return fmt.Errorf("%w (%d events are recorded; run it again to go on)", err, im.recorded)
	}
	for i, r := range results {
		switch {
		case r.Err != nil:
			im.reject(im.where[i], r.Err)
		case r.Receipt.Duplicate:
			im.duplicates++
		default:
			im.recorded++
		}
	}
	im.batch, im.where, im.bytes = im.batch[:0], im.where[:0], 0
	im.bar.Show(im.recorded+im.duplicates, 0)
	return nil
}

// maxComplaints bounds the rejections that are told one by one.
const maxComplaints = 20

func (im *importer) reject(where string, err error) {
	im.rejected++
	im.bar.End()
	switch {
	case im.rejected <= maxComplaints:
		fmt.Fprintf(im.cmd.ErrOrStderr(), "graven: %s: %s\n", where, terminal.Printable(err.Error()))
	case im.rejected == maxComplaints+1:
		fmt.Fprintln(im.cmd.ErrOrStderr(), "graven: … and more")
	}
}

func (im *importer) summary() error {
	text := fmt.Sprintf("%d events recorded", im.recorded)
	if im.recorded == 1 {
		text = "1 event recorded"
	}
	if im.duplicates > 0 {
		text += fmt.Sprintf(", %d recorded before", im.duplicates)
	}
	if im.left > 0 {
		text += fmt.Sprintf(", %d of another ledger's own left out", im.left)
	}
	if _, err := fmt.Fprintln(im.cmd.OutOrStdout(), text); err != nil {
		return err
	}
	if im.rejected > 0 {
		return fmt.Errorf("%d events were rejected", im.rejected)
	}
	return nil
}
