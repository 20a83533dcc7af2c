package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/report"
	"github.com/graven-audit/graven/trail"
)

// month is when the events of prepareMonth happened, a year ago at most.
const month = 30 * 24 * time.Hour

var monthBegan = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// prepareMonth makes a ledger of incidents, and of requests to an API server, that
// happened within 30 days, in their order.
func prepareMonth(ctx context.Context, r *run) (func(), error) {
	r.Data = filepath.Join(r.Dir, "month")
	o, err := openLedger(r.Data)
	if err != nil {
		return nil, err
	}
	var at int64
	for seed := int64(1); at < r.Events && err == nil; seed++ {
		events := realistic(seed)
		began := monthBegan.Add(time.Duration(float64(month) * float64(at) / float64(r.Events)))
		first := events[0].Timestamp
		for _, e := range events {
			e.Timestamp = began.Add(e.Timestamp.Sub(first).Abs() % time.Hour)
			if e.CorrelationID != "" {
				e.CorrelationID += fmt.Sprint("-", seed)
			}
		}
		for len(events) > 0 && err == nil {
			part := events[:min(1000, len(events))]
			_, _, err = o.ledger.Append(ctx, by, part)
			events, at = events[len(part):], at+int64(len(part))
		}
		for o.store.Lag() > 200_000 {
			time.Sleep(100 * time.Millisecond)
		}
	}
	for o.store.Lag() > 0 {
		time.Sleep(20 * time.Millisecond)
	}
	return nil, errors.Join(err, o.close())
}

// reporter computes the compliance report of the month, and of the one before, with which
// it is compared.
func reporter(r run) (Sample, error) {
	o, err := openLedger(r.Data)
	if err != nil {
		return Sample{}, err
	}
	st := o.ledger.State()
	s := Sample{Ops: st.Size()}
	m := startMeter()
	find := &search.Finder{Index: o.store, Reader: o.store}
	source, err := compliance.At(find, o.store, st.Checkpoint, 0)
	if err == nil {
		cr := report.ComplianceReporter{Source: source}
		q := report.Question{From: monthBegan, To: monthBegan.Add(month)}
		var made *report.ComplianceReport
		if made, err = cr.Generate(context.Background(), q, true); err == nil && made.IncidentMetrics.TotalIncidents == 0 {
			err = errors.New("the report has no incidents")
		}
	}
	m.stop(&s)
	s.note("s", s.Wall.Seconds())
	return s, errors.Join(err, o.close())
}

// inspecting looks through the month for findings.
func inspecting(r run) (Sample, error) {
	o, err := openLedger(r.Data)
	if err != nil {
		return Sample{}, err
	}
	size := o.ledger.State().Size()
	find := &search.Finder{Index: o.store, Reader: o.store}
	x := finding.NewInspector(find, "bench", nil)
	s := Sample{Ops: size}
	opened := map[event.ID]bool{}
	m := startMeter()
	err = o.store.Records(context.Background(), search.Range{End: size}, func(record *trail.Record) error {
		events, err := x.Inspect(context.Background(), record)
		for _, e := range events {
			opened[e.ID] = true
		}
		return err
	})
	m.stop(&s)
	s.note("findings", float64(len(opened)))
	return s, errors.Join(err, o.close())
}
