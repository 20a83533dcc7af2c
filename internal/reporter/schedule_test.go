package reporter

import (
	"strings"
	"testing"
	"time"
)

func TestAScheduleThatCannotBeKeptIsRefusedByItsField(t *testing.T) {
	good := Schedule{Name: "monday", Cron: "0 7 * * 1", Directory: t.TempDir()}
	if s := good; s.Complete() != nil {
		t.Fatalf("a good one: %v", s.Complete())
	}
	for want, change := range map[string]func(*Schedule){
		"name: ":                     func(s *Schedule) { s.Name = "../monday" },
		"schedule: ":                 func(s *Schedule) { s.Cron = "sometimes" },
		"schedule: five":             func(s *Schedule) { s.Cron = "@every 1s" },
		"schedule: five fields, in":  func(s *Schedule) { s.Cron = "CRON_TZ=Europe/Berlin 0 7 * * 1" },
		`directory: ""`:              func(s *Schedule) { s.Directory = "" },
		`directory: "reports"`:       func(s *Schedule) { s.Directory = "reports" },
		"window: ":                   func(s *Schedule) { s.Window = "0" },
		"window: a length":           func(s *Schedule) { s.Window = "a week" },
		"format: one of":             func(s *Schedule) { s.Formats = []string{"pdf", "docx"} },
		`framework: "soc3" is none `: func(s *Schedule) { s.Framework = "soc3" },
	} {
		s := good
		change(&s)
		if err := s.Complete(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}

func TestWhatIsDueIsTheNewestMomentOfTheSchedule(t *testing.T) {
	now := time.Date(2026, 11, 24, 6, 59, 0, 0, time.UTC) // a Tuesday
	for cron, want := range map[string]string{
		"0 7 * * 1":   "2026-11-23T07:00:00Z",
		"0 7 * * *":   "2026-11-23T07:00:00Z",
		"59 6 * * *":  "2026-11-24T06:59:00Z",
		"*/5 * * * *": "2026-11-24T06:55:00Z",
		"0 0 29 2 *":  "2024-02-29T00:00:00Z",
		"0 0 31 2 *":  "0001-01-01T00:00:00Z", // never
	} {
		s := Schedule{Name: "x", Cron: cron, Directory: t.TempDir()}
		if err := s.Complete(); err != nil {
			t.Fatal(err)
		}
		if got := s.due(now).Format(time.RFC3339); got != want {
			t.Errorf("%s: %s, want %s", cron, got, want)
		}
	}
}

func TestTargetsThatPromiseNothingAreRefusedByTheirField(t *testing.T) {
	hours := func(zone string, start, end int) Target {
		return Target{Severity: "high", Resolution: time.Hour, BusinessHours: Hours{Timezone: zone, StartHour: start, EndHour: end}}
	}
	if got, err := Targets([]Target{hours("Europe/Berlin", 8, 17)}); err != nil || got[0].Hours.Start != 8 {
		t.Errorf("a good one: %v, %v", got, err)
	}
	for want, list := range map[string][]Target{
		"targets[0].severity: ":                {{Severity: "worst", Resolution: time.Hour}},
		"targets[0].resolutionTime: ":          {{Severity: "high"}},
		"targets[1].severity: high stands":     {{Severity: "high", Resolution: time.Hour}, {Severity: "high", Resolution: time.Minute}},
		"targets[0].businessHours.timezone: ":  {hours("Mars/Base", 8, 17)},
		"targets[0].businessHours.startHour, ": {hours("UTC", 17, 8)},
	} {
		if _, err := Targets(list); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}
