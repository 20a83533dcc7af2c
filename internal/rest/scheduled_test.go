package rest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/reporter"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/verify"
)

// punctual is a door with a clock that can be set ahead, and what does things on time.
func punctual(t *testing.T, schedules ...reporter.Schedule) (*door, *reporter.Reporter, *atomic.Int64) {
	t.Helper()
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	d := open(t, change{ledger: func(c *ledger.Config) { c.Now = clock }, rest: func(c *rest.Config) { c.Now = clock }})
	for i := range schedules {
		if err := schedules[i].Complete(); err != nil {
			t.Fatal(err)
		}
	}
	holds := custody.New(d.ledger, d.journal, d.store, clock)
	find := &search.Finder{Index: d.store, Reader: search.Present{Reader: d.store, Tombs: holds}, Tombs: holds}
	return d, &reporter.Reporter{Ledger: d.ledger, Journal: d.journal, Find: find, Hashes: d.store, Verify: d.store.Verify, VerifyEvery: 24 * time.Hour,
		Schedules: schedules, Now: clock, Log: slog.New(slog.DiscardHandler)}, &ahead
}

func TestReportsAreMadeWhenTheyAreDueAndOnce(t *testing.T) {
	dir := t.TempDir()
	d, r, _ := punctual(t, reporter.Schedule{Name: "hourly", Cron: "0 * * * *", Window: "365d", Formats: []string{"csv", "pdf"}, Directory: dir},
		reporter.Schedule{Name: "controls", Cron: "0 * * * *", Window: "365d", Framework: "soc2", Formats: []string{"html"}, Directory: dir})
	d.as("recorder").record(samples(0, 12)...)
	moment := time.Now().UTC().Truncate(time.Hour)
	for range 2 {
		if failed := r.Due(t.Context()); len(failed) > 0 {
			t.Fatal(failed)
		}
		d.follow()
	}
	made := d.recorded("ReportGenerated")
	if len(made) != 3 {
		t.Fatalf("%d reports are recorded", len(made))
	}
	for _, e := range made {
		if detail(e, "to") != event.FormatTime(moment) && time.Now().UTC().Truncate(time.Hour).Equal(moment) {
			t.Errorf("%s: to %s", detail(e, "file"), detail(e, "to"))
		}
		body, err := os.ReadFile(filepath.Join(dir, detail(e, "file")))
		sum := sha256.Sum256(body)
		if err != nil || hex.EncodeToString(sum[:]) != detail(e, "sha256") || e.Recorded.Principal != "graven" {
			t.Errorf("%s: %v, of %s, by %s", detail(e, "file"), err, detail(e, "sha256"), e.Recorded.Principal)
		}
		if detail(e, "document") != "report" || detail(e, "format") != "pdf" {
			continue
		}
		// Whoever asks the same of the same checkpoint gets the same bytes.
		again := d.as("auditor").get("/api/v1/compliance/report?format=pdf&from=" + detail(e, "from") + "&to=" + detail(e, "to") + "&checkpoint=" + detail(e, "size")).want(http.StatusOK)
		if string(again.body) != string(body) {
			t.Error("asked for, the same report has other bytes")
		}
	}
}

func TestAReportThatCannotBeWrittenIsMadeLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "reports")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, r, _ := punctual(t, reporter.Schedule{Name: "hourly", Cron: "0 * * * *", Directory: dir})
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if failed := r.Due(t.Context()); len(failed) != 1 || len(d.recorded("ReportGenerated")) != 0 {
		t.Errorf("without its directory: %v", failed)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if failed := r.Due(t.Context()); len(failed) != 0 || len(d.recorded("ReportGenerated")) != 1 {
		t.Errorf("with it: %v", failed)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%d files: %v", len(files), err)
	}
}

func TestTheLedgerIsVerifiedWhenItIsDue(t *testing.T) {
	d, r, ahead := punctual(t)
	d.as("recorder").record(samples(0, 6)...)
	due := func(after time.Duration, want int) {
		t.Helper()
		ahead.Store(int64(after))
		if failed := r.Due(t.Context()); len(failed) > 0 {
			t.Fatal(failed)
		}
		d.follow()
		if n := len(d.recorded("AuditVerified")); n != want {
			t.Errorf("after %s it was verified %d times, want %d", after, n, want)
		}
	}
	due(0, 0)
	due(25*time.Hour, 1)
	due(26*time.Hour, 1)
	due(50*time.Hour, 2)
	for _, e := range d.recorded("AuditVerified") {
		if detail(e, "scope") != "ledger" || detail(e, "valid") != "true" || e.Recorded.Principal != "graven" {
			t.Errorf("%s by %s", e.Details, e.Recorded.Principal)
		}
	}
	ahead.Store(int64(100 * time.Hour))
	r.Verify = func(context.Context, verify.Options) (*verify.Report, error) { return nil, os.ErrPermission }
	if failed := r.Due(t.Context()); len(failed) != 1 || len(d.recorded("AuditVerified")) != 2 {
		t.Errorf("a verification that breaks off: %v", failed)
	}
}
