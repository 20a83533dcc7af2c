package compliance

import (
	"strconv"
	"time"

	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/report"
)

// Longest is the longest window that may be asked about.
const Longest = 100 * 365 * 24 * time.Hour

// A Question is what somebody asks of a window.
type Question struct {
	report.Question
	Framework string // of controls; empty for the report
	Compare   bool
	Format    paper.Format
	// Size is that of the ledger to answer from; 0 means as it stands.
	Size int64

	window time.Duration
}

// NewQuestion returns the question that no parameters ask: about the last 7 days, in
// JSON; about the controls of a framework if that is not empty.
func NewQuestion(framework string) Question {
	return Question{Framework: framework, Compare: true, Format: paper.Formats[0]}
}

// Set sets what a parameter asks for, and reports whether there is such a parameter. A
// value that cannot be read gives a [search.ParamError].
func (q *Question) Set(param, value string, now time.Time) (known bool, err error) {
	bad := func(reason string) (bool, error) { return true, &search.ParamError{Param: param, Reason: reason} }
	switch param {
	case "namespace":
		if value == "" {
			return bad("empty; leave it out to ask about all namespaces")
		}
		var f search.Filter
		_, err = f.Set(param, value, now)
		q.Namespace = value
	case "window":
		if q.window, err = search.ParseAge(value); err == nil && (q.window <= 0 || q.window > Longest) {
			return bad("from 1s to 100 years, such as 7d or 24h")
		}
		if err != nil {
			return bad("a length such as 7d or 24h: " + err.Error())
		}
	case "from":
		if q.From, err = search.ParseTime(value, now, false); err != nil {
			return bad(err.Error())
		}
		if q.From.Year() < 2 {
			return bad("before the year 2")
		}
	case "to":
		if q.To, err = search.ParseTime(value, now, true); err != nil {
			return bad(err.Error())
		}
		if len(value) == len(time.DateOnly) { // the whole day
			q.To = q.To.Add(1)
		}
	case "chaos":
		if q.Framework != "" {
			return false, nil
		}
		if q.Chaos, err = strconv.ParseBool(value); err != nil {
			return bad("neither true nor false")
		}
	case "compare":
		if q.Framework != "" {
			return false, nil
		}
		if q.Compare, err = strconv.ParseBool(value); err != nil {
			return bad("neither true nor false")
		}
	case "checkpoint":
		if q.Size, err = strconv.ParseInt(value, 10, 64); err != nil || q.Size < 1 {
			return bad("the size of a checkpoint of this ledger, from 1 on")
		}
	case "format":
		var ok bool
		if q.Format, ok = paper.Named(value); !ok {
			return bad("one of json, yaml, csv, html, pdf")
		}
	default:
		return false, nil
	}
	return true, err
}

// Complete gives the window its ends.
func (q *Question) Complete(now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	if q.window > 0 && !q.From.IsZero() && !q.To.IsZero() {
		return &search.ParamError{Param: "window", Reason: "from and to say it already"}
	}
	if q.window == 0 {
		q.window = 7 * 24 * time.Hour
	}
	switch {
	case q.From.IsZero() && q.To.IsZero():
		q.From, q.To = now.Add(-q.window), now
	case q.From.IsZero():
		q.From = q.To.Add(-q.window)
	case q.To.IsZero():
		q.To = q.From.Add(q.window)
		if q.To.After(now) {
			q.To = now
		}
	}
	q.From, q.To = q.From.UTC(), q.To.UTC()
	if q.To.After(now) && q.From.Before(now) && q.To.Sub(now) <= 24*time.Hour { // today is not over
		q.To = now
	}
	switch {
	case !q.From.Before(q.To):
		return &search.ParamError{Param: "from", Reason: "not before to"}
	case q.To.Sub(q.From) > Longest || q.From.Year() < 1:
		return &search.ParamError{Param: "from", Reason: "more than 100 years before to"}
	case q.To.After(now.Add(24 * time.Hour)):
		return &search.ParamError{Param: "to", Reason: "in the future: nobody knows yet"}
	}
	return nil
}
