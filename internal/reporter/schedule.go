// Package reporter does on a schedule what a compliance officer would else have to ask
// for: it makes reports, and has the whole ledger verified.
package reporter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/report"
)

// A Schedule says which report is made when, and where it is put.
type Schedule struct {
	// Name is a part of the files' names, and tells of which schedule a report is.
	Name string `yaml:"name"`
	// Cron is when, in UTC: five fields, as in "0 7 * * 1" for Mondays at seven.
	Cron string `yaml:"schedule"`
	// Window is how much time a report is about: that before the moment of the
	// schedule. Default 7d.
	Window string `yaml:"window"`
	// Namespace limits it to incidents there.
	Namespace string `yaml:"namespace"`
	// Framework makes it what the trail shows of a framework's controls.
	Framework string `yaml:"framework"`
	// Formats are the forms it is written in. Default: pdf.
	Formats []string `yaml:"formats"`
	// Directory is where files go. It must be there.
	Directory string `yaml:"directory"`

	cron cron.Schedule
}

var scheduleName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Complete gives the rest its defaults and holds the whole against the rules. What is
// wrong is told with the field's name.
func (s *Schedule) Complete() (err error) {
	if s.Window == "" {
		s.Window = "7d"
	}
	if len(s.Formats) == 0 {
		s.Formats = []string{"pdf"}
	}
	if !scheduleName.MatchString(s.Name) {
		return errors.New("name: lower-case letters, digits and hyphens, up to 63")
	}
	if s.cron, err = cron.ParseStandard(s.Cron); err != nil {
		return fmt.Errorf("schedule: %w", err)
	}
	if strings.Contains(s.Cron, "@every") || strings.Contains(s.Cron, "TZ=") {
		return errors.New("schedule: five fields, in UTC, as in 0 7 * * 1")
	}
	if info, err := os.Stat(s.Directory); err != nil || !info.IsDir() || !filepath.IsAbs(s.Directory) {
		return fmt.Errorf("directory: %q is no directory by its whole path", s.Directory)
	}
	book, err := control.Shipped()
	if err != nil {
		return err
	}
	if _, ok := book.Framework(s.Framework); s.Framework != "" && !ok {
		return fmt.Errorf("framework: %q is none of %s", s.Framework, strings.Join(book.Names(), ", "))
	}
	for _, format := range s.Formats {
		if _, err := s.question(format, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// question is what a report for a moment is to answer.
func (s *Schedule) question(format string, moment time.Time) (*compliance.Question, error) {
	q := compliance.NewQuestion(s.Framework)
	params := [][2]string{{"window", s.Window}, {"format", format}}
	if s.Namespace != "" {
		params = append(params, [2]string{"namespace", s.Namespace})
	}
	for _, p := range params {
		_, err := q.Set(p[0], p[1], moment)
		var param *search.ParamError
		if errors.As(err, &param) {
			return nil, fmt.Errorf("%s: %s", param.Param, param.Reason)
		}
		if err != nil {
			return nil, err
		}
	}
	return &q, q.Complete(moment)
}

// due returns the newest moment of the schedule that is not behind now.
func (s *Schedule) due(now time.Time) (at time.Time) {
	now = now.UTC()
	for back := time.Hour; back < 10*366*24*time.Hour; back *= 4 {
		for t := s.cron.Next(now.Add(-back)); !t.IsZero() && !t.After(now); t = s.cron.Next(t) {
			at = t
		}
		if !at.IsZero() {
			break
		}
	}
	return at
}

// A Target is what is promised of incidents, as a configuration says it.
type Target struct {
	Severity   string        `yaml:"severity"`
	Namespace  string        `yaml:"namespace"`
	Response   time.Duration `yaml:"responseTime"`
	Resolution time.Duration `yaml:"resolutionTime"`
	// BusinessHours, if any of them is given, are the only ones that count.
	BusinessHours Hours `yaml:"businessHours"`
}

// Hours are those of a working week, as [report.ParseHours] reads them.
type Hours struct {
	Timezone  string   `yaml:"timezone"`
	StartHour int      `yaml:"startHour"`
	EndHour   int      `yaml:"endHour"`
	WorkDays  []string `yaml:"workDays"`
}

// Targets makes targets of what a configuration says; nil means those that ChatCLI
// documents.
func Targets(list []Target) (targets []report.Target, err error) {
	severities := []string{"critical", "high", "medium", "low", "info"}
	for i, c := range list {
		t := report.Target{Severity: c.Severity, Namespace: c.Namespace, Response: c.Response, Resolution: c.Resolution}
		switch {
		case !slices.Contains(severities, c.Severity):
			return nil, fmt.Errorf("targets[%d].severity: %q is none of %s", i, c.Severity, strings.Join(severities, ", "))
		case c.Response < 0 || c.Resolution < 0 || c.Response == 0 && c.Resolution == 0:
			return nil, fmt.Errorf("targets[%d].resolutionTime: longer than 0s, or responseTime", i)
		case slices.ContainsFunc(targets, func(o report.Target) bool { return o.Severity == t.Severity && o.Namespace == t.Namespace }):
			return nil, fmt.Errorf("targets[%d].severity: %s stands twice", i, c.Severity)
		}
		if h := c.BusinessHours; h.Timezone != "" || h.StartHour != 0 || h.EndHour != 0 || len(h.WorkDays) > 0 {
			if t.Hours, err = report.ParseHours(h.Timezone, h.StartHour, h.EndHour, h.WorkDays); err != nil {
				return nil, fmt.Errorf("targets[%d].businessHours.%w", i, err)
			}
		}
		targets = append(targets, t)
	}
	return targets, nil
}
