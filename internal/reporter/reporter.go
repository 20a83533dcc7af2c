package reporter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/report"
	"github.com/graven-audit/graven/verify"
)

// A Reporter makes reports and verifies a ledger, each when it is due. All fields without
// a default are required.
type Reporter struct {
	Ledger  *ledger.Ledger
	Journal *ledger.Journal
	Find    *search.Finder
	Hashes  tlog.HashReader
	// Verify checks the whole ledger.
	Verify func(context.Context, verify.Options) (*verify.Report, error)
	// VerifyEvery is how often; 0 for never.
	VerifyEvery time.Duration
	Schedules   []Schedule
	// Targets are what is promised of incidents; nil means [report.Defaults].
	Targets []report.Target
	Now     func() time.Time
	Log     *slog.Logger
}

// look is how often it is looked for what is due.
const look = time.Minute

// Run does what is due until ctx ends. What fails is tried again, and told in the log.
func (x *Reporter) Run(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		for _, err := range x.Due(ctx) {
			if ctx.Err() == nil {
				x.Log.Error("what was due failed, and is tried again", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Due does what is due now.
func (x *Reporter) Due(ctx context.Context) (failed []error) {
	if err := x.verify(ctx); err != nil {
		failed = append(failed, fmt.Errorf("verify the ledger: %w", err))
	}
	for i := range x.Schedules {
		if err := x.report(ctx, &x.Schedules[i]); err != nil {
			failed = append(failed, fmt.Errorf("report %s: %w", x.Schedules[i].Name, err))
		}
	}
	return failed
}

// state returns the newest checkpoint, of which everything can be found.
func (x *Reporter) state(ctx context.Context) (*ledger.State, error) {
	if err := x.Ledger.Refresh(ctx); err != nil {
		return nil, err
	}
	st := x.Ledger.State()
	return st, x.Find.Ready(ctx, st.Size())
}

// verify verifies the ledger if nobody has for long enough.
func (x *Reporter) verify(ctx context.Context) error {
	if x.VerifyEvery <= 0 {
		return nil
	}
	st, err := x.state(ctx)
	if err != nil {
		return err
	}
	source := compliance.Source{Find: x.Find, Size: st.Size()}
	began, _, err := source.Began(ctx)
	if err != nil || x.Now().Sub(began) < x.VerifyEvery {
		return err
	}
	done := false
	f := search.Filter{Types: []string{"AuditVerified"}, From: x.Now().Add(-x.VerifyEvery)}
	err = x.Find.Each(ctx, &f, search.Range{End: st.Size()}, func(h search.Hit) error {
		var d struct{ Scope string }
		done = done || json.Unmarshal(h.Event.Details, &d) == nil && d.Scope == "ledger" && h.Event.Recorded.Principal == ledger.Self().Principal
		return nil
	})
	if err != nil || done {
		return err
	}
	v, err := x.Verify(ctx, verify.Options{})
	if err != nil {
		return err
	}
	if !v.OK() {
		x.Log.Error("the ledger does not verify: run graven verify", "findings", int64(len(v.Findings))+v.Omitted)
	}
	return x.Journal.Once(ctx, ledger.Act{Type: "AuditVerified", By: ledger.Self(), Details: map[string]any{"scope": "ledger", "first": 0, "entries": v.Entries,
		"valid": v.OK(), "findings": int64(len(v.Findings)) + v.Omitted, "size": v.Size}})
}

// report makes what a schedule asks for, unless it was made.
func (x *Reporter) report(ctx context.Context, s *Schedule) error {
	moment := s.due(x.Now())
	if moment.IsZero() {
		return nil
	}
	st, err := x.state(ctx)
	if err != nil {
		return err
	}
	made := map[string]bool{}
	f := search.Filter{Types: []string{"ReportGenerated"}, DetailKey: "schedule", DetailValue: s.Name, From: moment}
	err = x.Find.Each(ctx, &f, search.Range{End: st.Size()}, func(h search.Hit) error {
		var d struct {
			Format string
			To     time.Time
		}
		if err := json.Unmarshal(h.Event.Details, &d); err == nil && d.To.Equal(moment) {
			made[d.Format] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, format := range s.Formats {
		if made[format] {
			continue
		}
		if err := x.make(ctx, s, format, moment, st); err != nil {
			return err
		}
	}
	return nil
}

func (x *Reporter) make(ctx context.Context, s *Schedule, format string, moment time.Time, st *ledger.State) error {
	q, err := s.question(format, moment)
	if err != nil {
		return err
	}
	q.Targets = x.Targets
	source, err := compliance.At(x.Find, x.Hashes, st.Checkpoint, 0)
	if err != nil {
		return err
	}
	body, kind, err := Paper(ctx, source, q)
	if err != nil {
		return err
	}
	file := filepath.Join(s.Directory, s.Name+"-"+moment.Format("20060102T1504Z")+"."+q.Format.Extension)
	if err := write(file, body); err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	details := compliance.Made(q, source.Ledger(), kind, format, hex.EncodeToString(sum[:]))
	details["schedule"], details["file"] = s.Name, filepath.Base(file)
	id := event.DeriveID("scheduled report", source.Origin, s.Name, format, event.FormatTime(moment))
	err = x.Journal.Once(ctx, ledger.Act{Type: "ReportGenerated", ID: id, By: ledger.Self(), Details: details})
	if errors.Is(err, ledger.ErrConflict) {
		return nil // another server was faster
	}
	if err == nil {
		x.Log.Info("report", "schedule", s.Name, "file", file)
	}
	return err
}

// Paper makes the document that a question asks for, and says of which kind it is.
func Paper(ctx context.Context, source *compliance.Source, q *compliance.Question) (body []byte, kind string, err error) {
	if q.Framework == "" {
		cr := report.ComplianceReporter{Source: source}
		r, err := cr.Generate(ctx, q.Question, q.Compare)
		if err != nil {
			return nil, "", err
		}
		body, err = compliance.Write(r, q.Format)
		return body, "report", err
	}
	book, err := control.Shipped()
	if err != nil {
		return nil, "", err
	}
	f, ok := book.Framework(q.Framework)
	if !ok {
		return nil, "", &search.ParamError{Param: "framework", Reason: "there is none of that name"}
	}
	a := control.Auditor{Book: book, Source: source}
	assessment, err := a.Assess(ctx, &q.Question, f)
	if err != nil {
		return nil, "", err
	}
	body, err = control.NewDocument(assessment, &q.Question, source.Ledger()).Write(q.Format)
	return body, "controls", err
}

// write writes a file as a whole, or not at all.
func write(file string, body []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(file), ".report-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(body)
	if err = errors.Join(err, temp.Chmod(0o640), temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}
