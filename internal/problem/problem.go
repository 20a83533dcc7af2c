// Package problem writes errors as HTTP clients see them (RFC 9457).
package problem

import (
	"encoding/json"
	"net/http"
)

// A Problem is an error as clients see it.
type Problem struct {
	Type   string `json:"type"` // urn:graven:problem:…
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Param names the parameter or header that is at fault.
	Param string `json:"param,omitempty"`
	// Errors name the members of the body that are at fault.
	Errors []Fault `json:"errors,omitempty"`

	// Retry says that it is worth trying again soon, and Cause is for the log,
	// where callers are not told.
	Retry bool  `json:"-"`
	Cause error `json:"-"`
}

// A Fault is what is wrong with one member of a body.
type Fault struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

// New returns a problem. Those of a server that is busy, or away, are worth
// trying again.
func New(status int, kind, title, detail string) *Problem {
	return &Problem{Type: "urn:graven:problem:" + kind, Title: title, Status: status, Detail: detail,
		Retry: status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests}
}

// Param returns the problem of a parameter or header that is at fault.
func Param(name, reason string) *Problem {
	p := New(http.StatusBadRequest, "invalid-parameter", "A parameter is not valid", name+": "+reason)
	p.Param = name
	return p
}

// NotFound returns the problem that there is no such thing.
func NotFound(detail string) *Problem {
	return New(http.StatusNotFound, "not-found", "There is no such thing", detail)
}

// Write answers with a problem in place of what the headers tell of.
func (p *Problem) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Del("Content-Disposition")
	w.Header().Del("Content-Encoding")
	w.Header().Set("Cache-Control", "no-store")
	if p.Retry && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}
