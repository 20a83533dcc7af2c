package auditlog

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Lease is the name of the object whose changes are the signs of life, and manager
// stands before the API server's name in the fieldManager with which it is changed.
const (
	Lease   = "graven-audit-heartbeat"
	manager = Lease + "."
)

// Manager returns the fieldManager of an API server's signs of life.
func Manager(server string) string { return manager + server }

// maxRuns bounds how far back it is known when an audit log arrived.
const maxRuns = 256

// A Pulse is when the audit logs of API servers arrived, by the signs of life in them.
type Pulse struct {
	// Every is how often a sign of life is sent; one that is three times as late is
	// missing.
	Every time.Duration
	// Namespace has the object, and User sends the signs, whose name may not be known yet:
	// what others do with objects of that name is none.
	Namespace string
	User      func() string

	mu      sync.Mutex
	servers []string
	why     string
	runs    map[string][]span
}

// A span is a time from which and until which signs of life came.
type span struct{ from, until time.Time }

// Expect says which API servers there are. Without any, why says so.
func (p *Pulse) Expect(servers []string, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers, p.why = slices.Clone(servers), why
}

// Beat takes a request for what it is, and reports whether it is a sign of life.
func (p *Pulse) Beat(r *Request, at time.Time) bool {
	server, ok := strings.CutPrefix(r.parameter("fieldManager"), manager)
	if !ok || r.Resource != "leases" || r.Name != Lease || r.Namespace != p.Namespace {
		return false
	}
	if r.User != p.User() || r.Impersonated != "" {
		return false
	}
	if !r.Wrote() {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runs == nil {
		p.runs = map[string][]span{}
	}
	runs := p.runs[server]
	for i := range runs {
		run := &runs[i]
		if at.Sub(run.until) <= p.late() && run.from.Sub(at) <= p.late() {
			if at.Before(run.from) {
				run.from = at
			}
			if at.After(run.until) {
				run.until = at
			}
			return true
		}
	}
	runs = append(runs, span{at, at})
	slices.SortFunc(runs, func(a, b span) int { return a.from.Compare(b.from) })
	p.runs[server] = runs[max(0, len(runs)-maxRuns):]
	return true
}

func (p *Pulse) late() time.Duration { return 3 * p.Every }

// Covered reports whether the audit logs of all API servers arrived from a time until
// another, and if not why. While it may yet turn out, wait is set.
func (p *Pulse) Covered(from, until, now time.Time) (why string, wait bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.servers) == 0 {
		return p.why, false
	}
	for _, server := range p.servers {
		runs := p.runs[server]
		i := slices.IndexFunc(runs, func(s span) bool { return !s.from.After(from) && !s.until.Before(from.Add(-p.late())) })
		if i < 0 {
			return "no sign of life of the API server " + server + " before", false
		}
		// The last sign of life may be a little older than the end.
		if last := runs[i].until; last.Before(until.Add(-p.Every)) {
			return "no sign of life of the API server " + server + " since " + last.UTC().Format(time.RFC3339), now.Before(until.Add(p.late()))
		}
	}
	return "", false
}

// Live reports whether the audit logs of all API servers arrive, and if not why.
func (p *Pulse) Live(now time.Time) (why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.servers) == 0 {
		return p.why
	}
	for _, server := range p.servers {
		runs := p.runs[server]
		if len(runs) == 0 || now.Sub(runs[len(runs)-1].until) > p.late() {
			return "no sign of life of the API server " + server
		}
	}
	return ""
}
