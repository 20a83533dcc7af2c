package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // business hours have zones, wherever this runs
)

// A Target is what is promised of incidents of one severity.
type Target struct {
	Severity string `json:"severity"`
	// Namespace limits it to incidents there; empty for all that no other target is
	// closer to.
	Namespace string `json:"namespace,omitempty"`
	// Response and Resolution are how soon somebody, or an analysis, must have begun,
	// and how soon the incident must be resolved; 0 promises nothing.
	Response   time.Duration `json:"-"`
	Resolution time.Duration `json:"-"`
	// Hours, if not nil, are the only ones that count.
	Hours *Hours `json:"-"`
	// since is when it began to hold, and until when it ended; zero for always.
	since, until time.Time
	name         string
}

// Defaults are the targets that ChatCLI documents.
func Defaults() []Target {
	return []Target{
		{Severity: "critical", Resolution: 15 * time.Minute}, {Severity: "high", Resolution: 30 * time.Minute},
		{Severity: "medium", Resolution: 2 * time.Hour}, {Severity: "low", Resolution: 8 * time.Hour},
	}
}

// Hours are those of a working week.
type Hours struct {
	Zone       *time.Location
	Start, End int // hours of the day, End not among them
	Days       []time.Weekday
}

// ParseHours makes Hours of a zone of the tz database, the first hour and the one behind
// the last, and days such as Monday, Mon or 1 (Sunday is 0 or 7). Empty means UTC, 9 to
// 18, Monday to Friday.
func ParseHours(zone string, start, end int, days []string) (*Hours, error) {
	if start == 0 && end == 0 {
		start, end = 9, 18
	}
	h := &Hours{Start: start, End: end}
	var err error
	if h.Zone, err = time.LoadLocation(zone); err != nil {
		return nil, fmt.Errorf("timezone: %w", err)
	}
	if start < 0 || end > 24 || start >= end {
		return nil, fmt.Errorf("startHour, endHour: %d to %d is no part of a day", start, end)
	}
	if len(days) == 0 {
		h.Days = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}
	}
	for _, name := range days {
		day, err := weekday(name)
		if err != nil {
			return nil, err
		}
		h.Days = append(h.Days, day)
	}
	return h, nil
}

func weekday(name string) (time.Weekday, error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n <= 7 {
		return time.Weekday(n % 7), nil
	}
	for day := time.Sunday; day <= time.Saturday; day++ {
		if len(name) >= 3 && strings.HasPrefix(strings.ToLower(day.String()), strings.ToLower(name)) {
			return day, nil
		}
	}
	return 0, fmt.Errorf("workDays: %q is no day of the week", name)
}

// between is how much of the hours lies between two times.
func (h *Hours) between(from, to time.Time) time.Duration {
	if h == nil {
		return to.Sub(from)
	}
	var sum time.Duration
	if weeks := int(to.Sub(from)/(7*24*time.Hour)) - 2; weeks > 52 { // of so many years one by one is not to the point
		sum = time.Duration(weeks) * time.Duration(len(h.Days)) * time.Duration(h.End-h.Start) * time.Hour
		from = from.In(h.Zone).AddDate(0, 0, 7*weeks)
	}
	year, month, day := from.In(h.Zone).Date()
	for ; ; day++ {
		// Whatever the clocks do that day, its hours are between these two.
		opens, closes := time.Date(year, month, day, h.Start, 0, 0, 0, h.Zone), time.Date(year, month, day, h.End, 0, 0, 0, h.Zone)
		if !opens.Before(to) {
			return sum
		}
		if !slices.Contains(h.Days, time.Date(year, month, day, 12, 0, 0, 0, h.Zone).Weekday()) {
			continue
		}
		if opens.Before(from) {
			opens = from
		}
		if closes.After(to) {
			closes = to
		}
		sum += max(0, closes.Sub(opens))
	}
}

// closest returns the target for an incident that began at a time: what was promised
// then, in its namespace before what is promised everywhere.
func closest(targets []Target, severity, namespace string, at time.Time) *Target {
	var found *Target
	for i := range targets {
		t := &targets[i]
		switch {
		case t.Severity != severity || t.Namespace != "" && t.Namespace != namespace:
		case t.since.After(at) || !t.until.IsZero() && !t.until.After(at):
		case found == nil || found.Namespace == "" && t.Namespace != "",
			found.Namespace == t.Namespace && t.since.After(found.since):
			found = t
		}
	}
	return found
}

// promised reads what an event says of an IncidentSLA: the members of its spec.
func promised(details map[string]string) (Target, error) {
	t := Target{Severity: details["severity"], Namespace: details["slaNamespace"]}
	var err error
	for name, to := range map[string]*time.Duration{"responseTime": &t.Response, "resolutionTime": &t.Resolution} {
		if details[name] == "" {
			continue
		}
		if *to, err = time.ParseDuration(details[name]); err != nil {
			return t, fmt.Errorf("%s: %w", name, err)
		}
	}
	if details["businessHoursOnly"] != "true" {
		return t, nil
	}
	start, _ := strconv.Atoi(details["startHour"]) // absent means the default
	end, _ := strconv.Atoi(details["endHour"])
	var days []string
	if list := details["workDays"]; strings.HasPrefix(list, "[") {
		var any []any
		if err := json.Unmarshal([]byte(list), &any); err != nil {
			return t, fmt.Errorf("workDays: %w", err)
		}
		for _, day := range any {
			days = append(days, fmt.Sprint(day))
		}
	} else if list != "" {
		days = strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	}
	t.Hours, err = ParseHours(details["timezone"], start, end, days)
	return t, err
}
