// Package importer records events that other software has recorded before, in
// each of the forms that Graven reads. What it was given before adds nothing.
package importer

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/document"
	"github.com/graven-audit/graven/internal/intake"
)

// Formats are the forms of an input.
var Formats = []string{"native", "kube-audit", "auditevent", "kubernaut"}

const (
	// MaxText bounds a document that must be read as a whole, in bytes.
	MaxText = 256 << 20
	// BatchSize is how many events are sent at a time, of batchBytes together.
	BatchSize  = 500
	batchBytes = 4 << 20
)

// Counts are what became of the events of an input.
type Counts struct {
	Recorded int64
	// Duplicates are those that the ledger had before.
	Duplicates int64
	Rejected   int64
	// Left are another ledger's own, which were left out.
	Left int64
}

func (c Counts) String() string {
	text := fmt.Sprintf("%d events recorded", c.Recorded)
	if c.Recorded == 1 {
		text = "1 event recorded"
	}
	if c.Duplicates > 0 {
		text += fmt.Sprintf(", %d recorded before", c.Duplicates)
	}
	if c.Left > 0 {
		text += fmt.Sprintf(", %d of another ledger's own left out", c.Left)
	}
	return text
}

// An Importer imports one input.
type Importer struct {
	// Sender sends what was read.
	Sender *Sender
	// Rejected is told of each event that was not recorded, and where it stands.
	Rejected func(where string, err error)
	// Progress is told how many events are in the ledger by now.
	Progress func(done int64)

	counts Counts
	// said counts the events without an id by the beginning of a hash. Where
	// two share one, their count is still the same each time.
	said map[uint64]int64

	batch [][]byte
	where []string // of each event of the batch
	bytes int
}

// Run imports an input in one of [Formats]. After an error, the same input may
// be imported again, and goes on.
func (im *Importer) Run(ctx context.Context, format string, in io.Reader) (Counts, error) {
	im.said = map[uint64]int64{}
	each := func(take func(ctx context.Context, where string, raw []byte) error) error {
		return intake.Documents(in, func(where string, raw []byte) error { return take(ctx, where, raw) })
	}
	var err error
	switch format {
	case "native":
		err = each(im.native)
	case "kube-audit":
		err = each(im.kubeAudit)
	case "auditevent":
		err = im.auditEvents(ctx, in)
	case "kubernaut":
		err = each(im.kubernaut)
	default:
		err = fmt.Errorf("import %q: one of %q", format, Formats)
	}
	if err == nil {
		err = im.flush(ctx)
	}
	return im.counts, err
}

// native imports an event of our own form. What a server set is left out, and
// so are another ledger's own events.
func (im *Importer) native(ctx context.Context, where string, raw []byte) error {
	var mark struct {
		Checkpoint *string `json:"checkpoint"`
		Count      *int64  `json:"count"`
	}
	if json.Unmarshal(raw, &mark) == nil && mark.Checkpoint != nil && mark.Count != nil {
		return nil // the last line of an export
	}
	if intake.IsKubernaut(raw) {
		return im.kubernaut(ctx, where, raw)
	}
	e, err := event.ParseServed(raw)
	if err != nil {
		im.reject(where, err)
		return nil
	}
	if e.CheckReserved() != nil {
		im.counts.Left++
		return nil
	}
	e.Recorded = event.Recorded{}
	return im.add(ctx, where, e)
}

func (im *Importer) kubeAudit(ctx context.Context, where string, raw []byte) error {
	var kind struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(raw, &kind) == nil && kind.Kind == "EventList" {
		return intake.KubeAuditList(raw, math.MaxInt, func(i int, e *event.Event, err error) error {
			return im.take(ctx, fmt.Sprintf("%s, item %d", where, i), e, err)
		})
	}
	e, err := intake.KubeAudit(raw)
	return im.take(ctx, where, e, err)
}

func (im *Importer) kubernaut(ctx context.Context, where string, raw []byte) error {
	var page struct {
		Data *[]json.RawMessage `json:"data"`
	}
	if json.Unmarshal(raw, &page) == nil && page.Data != nil {
		for i, raw := range *page.Data {
			if err := im.kubernaut(ctx, fmt.Sprintf("%s, item %d", where, i), raw); err != nil {
				return err
			}
		}
		return nil
	}
	e, err := intake.Kubernaut(raw)
	return im.take(ctx, where, e, err)
}

func (im *Importer) auditEvents(ctx context.Context, in io.Reader) error {
	docs, err := document.Split(in, MaxText)
	if err != nil {
		return err
	}
	for n, doc := range docs {
		events, err := intake.AuditEvent(doc)
		where := fmt.Sprintf("document %d", n+1)
		if err != nil {
			im.reject(where, err)
		}
		for _, e := range events {
			if err := im.add(ctx, where, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (im *Importer) take(ctx context.Context, where string, e *event.Event, err error) error {
	if err != nil {
		im.reject(where, err)
		return nil
	}
	return im.add(ctx, where, e)
}

func (im *Importer) add(ctx context.Context, where string, e *event.Event) error {
	if e.ID.IsZero() {
		e.ID = im.derive(e)
	}
	raw := e.AppendJSON(nil)
	im.batch = append(im.batch, raw)
	im.where = append(im.where, where)
	im.bytes += len(raw)
	if len(im.batch) == BatchSize || im.bytes > batchBytes {
		return im.flush(ctx)
	}
	return nil
}

// derive returns the id of an event that has none.
func (im *Importer) derive(e *event.Event) event.ID {
	content := string(e.AppendJSON(nil))
	id := event.DeriveID("import", content)
	key := binary.BigEndian.Uint64(id[:])
	im.said[key]++
	return event.DeriveID("import", content, strconv.FormatInt(im.said[key], 10))
}

func (im *Importer) flush(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	results, err := im.Sender.Send(ctx, im.batch)
	if err != nil {
		return fmt.Errorf("%w (%d events are recorded; run it again to go on)", err, im.counts.Recorded)
	}
	for i, r := range results {
		switch {
		case r.Err != nil:
			im.reject(im.where[i], r.Err)
		case r.Receipt.Duplicate:
			im.counts.Duplicates++
		default:
			im.counts.Recorded++
		}
	}
	im.batch, im.where, im.bytes = im.batch[:0], im.where[:0], 0
	im.Progress(im.counts.Recorded + im.counts.Duplicates)
	return nil
}

func (im *Importer) reject(where string, err error) {
	im.counts.Rejected++
	im.Rejected(where, err)
}
