package report

import (
	"context"
	"errors"
	"time"
)

// A Source gives the events that a report is made of.
type Source interface {
	// Fill adds to t the events of a window, and those of the types of [History] from
	// before it, with what was before that of the window of the same length before where
	// compare is set. It returns the ledger's state, and from when on it has entries.
	Fill(ctx context.Context, q Question, compare bool, t *Tally) (of Ledger, began time.Time, erased bool, err error)
}

// A ComplianceReporter makes reports.
type ComplianceReporter struct {
	Source Source
	// Targets are what is promised of incidents, beside what the trail says of
	// IncidentSLAs; nil means [Defaults].
	Targets []Target
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// GenerateReport makes the report of what happened in a namespace, or in all if it is
// empty, in a window that ends now.
func (cr *ComplianceReporter) GenerateReport(ctx context.Context, namespace string, window time.Duration) (*ComplianceReport, error) {
	if window <= 0 {
		return nil, errors.New("window: not longer than nothing")
	}
	now := cr.Now
	if now == nil {
		now = time.Now
	}
	to := now().UTC()
	return cr.Generate(ctx, Question{Namespace: namespace, From: to.Add(-window), To: to}, true)
}

// Generate makes the report that a question asks for; with compare, beside the window of
// the same length before.
func (cr *ComplianceReporter) Generate(ctx context.Context, q Question, compare bool) (*ComplianceReport, error) {
	if q.Targets == nil {
		q.Targets = cr.Targets
	}
	if err := q.Check(); err != nil {
		return nil, err
	}
	t := NewTally(q, compare)
	of, began, erased, err := cr.Source.Fill(ctx, q, compare, t)
	if err != nil {
		return nil, err
	}
	return t.Report(of, began, erased)
}
