package app

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/reporter"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/settings"
	"github.com/graven-audit/graven/report"
)

// Findings are what is looked for in the trail.
type Findings struct {
	// Rules are looked for beside those that Graven ships.
	Rules []finding.Rule `yaml:"rules"`
	// Off has this server look for nothing: another one of the same ledger does.
	Off bool `yaml:"off"`
}

func (f *Findings) complete() (err error) {
	if f.Rules, err = finding.Compile(f.Rules); err != nil {
		return wrong("findings.rules", "%w", err)
	}
	return nil
}

// inspectedFile is where it is kept how far the ledger was looked through for findings.
const inspectedFile = "inspected.json"

// Compliance is about reports.
type Compliance struct {
	// Targets are what is promised of incidents, beside what the trail says of
	// IncidentSLAs. Default: those that ChatCLI documents.
	Targets []reporter.Target `yaml:"targets"`
	// Reports are made on a schedule.
	Reports []reporter.Schedule `yaml:"reports"`

	targets []report.Target
}

func (c *Compliance) complete() (err error) {
	if c.targets, err = reporter.Targets(c.Targets); err != nil {
		return wrong("compliance", "%w", err)
	}
	c.Reports = slices.Clone(c.Reports)
	for i := range c.Reports {
		s := &c.Reports[i]
		if err := s.Complete(); err != nil {
			return wrong(fmt.Sprintf("compliance.reports[%d]", i), "%w", err)
		}
		if slices.ContainsFunc(c.Reports[:i], func(o reporter.Schedule) bool { return o.Name == s.Name }) {
			return wrong(fmt.Sprintf("compliance.reports[%d]", i), "name: %s stands twice", s.Name)
		}
	}
	return nil
}

// inspect has the ledger looked at as it grows, beside everything else: for findings, and
// for reports and verifications that are due.
func (a *App) inspect(rc *rest.Config, reg prometheus.Registerer) {
	if a.config.ReadOnly {
		return
	}
	find := &search.Finder{Index: rc.Store, Reader: search.Present{Reader: rc.Store, Tombs: rc.Holds}, Tombs: rc.Holds}
	r := &reporter.Reporter{Ledger: a.ledger, Journal: rc.Journal, Find: find, Hashes: rc.Store, Verify: rc.Store.Verify, VerifyEvery: a.config.VerifyEvery,
		Schedules: a.config.Compliance.Reports, Targets: a.config.Compliance.targets, Now: time.Now, Log: a.log}
	a.background("reports", r.Run)
	if a.config.Findings.Off {
		return
	}
	opened := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "graven_findings_opened_total",
		Help: "Findings that this server opened, by rule and severity."}, []string{"rule", "severity"})
	reg.MustRegister(opened)
	for _, r := range slices.Concat(finding.Rules(), a.config.Findings.Rules) {
		opened.WithLabelValues(r.Name, r.Severity) // none yet
	}
	k := &finding.Keeper{Ledger: a.ledger, Find: find, Store: rc.Store, Book: &finding.Book{Find: find, Journal: rc.Journal, Now: time.Now},
		Gaps: &finding.Finder{Sources: rc.Store, Search: *find, Now: time.Now}, File: filepath.Join(a.config.Data, inspectedFile),
		Origin: a.keys.Signer.Name(), Custom: a.config.Findings.Rules, Now: time.Now, Log: a.log,
		Opened: func(rule, severity string) { opened.WithLabelValues(rule, severity).Inc() }}
	a.background("findings", k.Run)
}

// settingsFile has digests of the settings with which a server started last.
const settingsFile = "settings.json"

// recordSettings records which settings are others than at the last start. What is
// recorded and not kept is recorded once more.
func (a *App) recordSettings(ctx context.Context) error {
	if a.config.ReadOnly {
		return nil
	}
	file := filepath.Join(a.config.Data, settingsFile)
	before, err := settings.Read(file)
	if err != nil {
		a.log.Warn("whether settings were changed is not known", "error", err)
	}
	changed := a.settings.Changed(before)
	if before != nil && len(changed) == 0 {
		return nil
	}
	if before != nil {
		if err := a.record(ctx, "LedgerConfigChanged", event.Resource{}, map[string]any{"changedKeys": strings.Join(changed, ", ")}); err != nil {
			return err
		}
	}
	return a.settings.Keep(file)
}
