package rest

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// question reads a request's parameters. Those that are neither the filter's
// nor the page's are for extra; what nobody knows is an error, for a mistyped
// filter must not give an unfiltered answer.
func (s *Server) question(c *call, extra func(name, value string) (bool, error)) (search.Filter, search.Page, error) {
	f := search.Filter{}
	p := search.Page{Limit: defaultLimit, Cursor: -1}
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return f, p, badParam("query", "malformed: "+err.Error())
	}
	now := s.c.Now()
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	seen := map[string]string{}
	for _, name := range names {
		if other, ok := seen[search.Canonical(name)]; ok {
			return f, p, badParam(name, "means the same as "+other+", which is given too")
		}
		seen[search.Canonical(name)] = name
		if len(values[name]) > 1 {
			return f, p, badParam(name, "given more than once; separate values by commas")
		}
		value := values[name][0]
		known, err := f.Set(name, value, now)
		if !known && extra != nil {
			known, err = extra(name, value)
		}
		if !known {
			known, err = p.Set(name, value, maxLimit)
		}
		if err != nil {
			return f, p, err
		}
		if !known {
			return f, p, badParam(name, "no such parameter")
		}
	}
	f.Scope = c.by.Namespaces
	if f.WithAccess() && !c.by.Can(access.ReadAccess) {
		return f, p, newProblem(http.StatusForbidden, "forbidden", "The token does not allow this",
			"who read what is for those with the permission "+string(access.ReadAccess))
	}
	return f, p, f.Check()
}

// list answers GET /api/v1/audit.
func (s *Server) list(c *call) error {
	f, p, err := s.question(c, nil)
	if err != nil {
		return err
	}
	cp, err := s.state()
	if err != nil {
		return err
	}
	a, err := s.find.Page(c.ctx(), &f, p, cp.Size)
	if err != nil {
		return err
	}
	b := append([]byte(`{"total":`), itoa(a.Total)...)
	b = append(append(b, `,"returned":`...), itoa(int64(len(a.Hits)))...)
	b = append(b, `,"events":[`...)
	for i, h := range a.Hits {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendHit(b, h)
	}
	b = append(b, ']')
	if a.Next != "" {
		b = append(append(append(b, `,"next":"`...), a.Next...), '"')
	}
	return c.json(http.StatusOK, append(b, '}', '\n'))
}

// appendHit appends an event with its place in the ledger.
func appendHit(dst []byte, h search.Hit) []byte {
	dst = h.Event.AppendJSON(dst)
	dst = append(dst[:len(dst)-1], `,"index":`...)
	dst = append(dst, itoa(h.Record.Index)...)
	dst = append(dst, `,"hash":"`...)
	dst = append(dst, trail.Hex(h.Record.Chain)...)
	return append(dst, '"', '}')
}

// listFlat answers GET /api/v1/audit/events in Kubernaut's form.
func (s *Server) listFlat(c *call) error {
	f, p, err := s.question(c, nil)
	if err != nil {
		return err
	}
	cp, err := s.state()
	if err != nil {
		return err
	}
	a, err := s.find.Page(c.ctx(), &f, p, cp.Size)
	if err != nil {
		return err
	}
	b := []byte(`{"data":[`)
	for i, h := range a.Hits {
		if i > 0 {
			b = append(b, ',')
		}
		previous, err := s.previous(c, h.Record.Index)
		if err != nil {
			return err
		}
		b = intake.AppendKubernaut(b, h.Event, intake.Row{PreviousHash: trail.Hex(previous), Hash: trail.Hex(h.Record.Chain)})
	}
	more := "false"
	if a.Next != "" {
		more = "true"
	}
	b = append(b, `],"pagination":{"limit":`+itoa(int64(p.Limit))+`,"offset":`+itoa(p.Offset)+
		`,"total":`+itoa(a.Total)+`,"has_more":`+more...)
	if a.Next != "" {
		b = append(b, `,"next_cursor":"`+a.Next+`"`...)
	}
	return c.json(http.StatusOK, append(b, "}}\n"...))
}

// previous returns the chain before an entry.
func (s *Server) previous(c *call, index int64) (trail.Hash, error) {
	if index == 0 {
		return trail.Hash{}, nil
	}
	r, err := s.c.Store.Record(c.ctx(), index-1)
	return r.Chain, err
}

func (c *call) json(status int, body []byte) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	_, err := c.w.Write(body)
	return err
}
