package rest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// params calls fn for each parameter of a request, in the order of their names.
// What is malformed, given twice, or known to nobody is an error: a mistyped
// parameter must not give an answer as if it were not there.
func (c *call) params(fn func(name, value string) (known bool, err error)) error {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return problem.Param("query", "malformed: "+err.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) > 1 {
			return problem.Param(name, "given more than once")
		}
		known, err := fn(name, values[name][0])
		if err != nil {
			return err
		}
		if !known {
			return problem.Param(name, "no such parameter")
		}
	}
	return nil
}

// noParams refuses a query string where there is nothing to ask.
func (c *call) noParams() error {
	return c.params(func(string, string) (bool, error) { return false, nil })
}

// only reads the parameter name, which is true or false, where there is no
// other.
func (c *call) only(name string) (is bool, err error) {
	err = c.params(func(param, value string) (bool, error) {
		if param != name {
			return false, nil
		}
		is, err = flag(param, value)
		return true, err
	})
	return is, err
}

// flag reads a parameter that is true or false.
func flag(name, value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		err = problem.Param(name, "neither true nor false")
	}
	return b, err
}

// question reads a request's parameters. Those that are neither the filter's
// nor the page's are for extra.
func (s *Server) question(c *call, extra func(name, value string) (bool, error)) (search.Filter, search.Page, error) {
	f := search.Filter{}
	p := search.Page{Limit: defaultLimit, Cursor: -1}
	now := s.c.Now()
	seen := map[string]string{}
	err := c.params(func(name, value string) (bool, error) {
		if other, ok := seen[search.Canonical(name)]; ok {
			return true, problem.Param(name, "means the same as "+other+", which is given too")
		}
		seen[search.Canonical(name)] = name
		known, err := f.Set(name, value, now)
		if !known && extra != nil {
			known, err = extra(name, value)
		}
		if !known {
			known, err = p.Set(name, value, maxLimit)
		}
		return known, err
	})
	if err != nil {
		return f, p, err
	}
	f.Scope = c.by.Namespaces
	if f.WithAccess() && !c.by.Can(access.ReadAccess) {
		return f, p, s.refuse(c, string(access.ReadAccess), "who read what is for those with the permission "+string(access.ReadAccess))
	}
	if err := f.Check(); err != nil {
		return f, p, err
	}
	e, err := s.find.Erased(c.ctx(), &f)
	if e != nil {
		c.w.Header().Set("Graven-Erased-Below", itoa(e.Index)+"; recorded-before="+event.FormatTime(e.RecordedBefore))
	}
	return f, p, err
}

// small is how many bytes of records most answers are made of.
const small = 256 << 10

// page finds a part of an answer, in little memory if that will do.
func (s *Server) page(c *call, f *search.Filter, p search.Page, size int64) (*search.Answer, error) {
	p.Bytes = small
	if err := s.take(c, work*small); err != nil {
		return nil, err
	}
	a, err := s.find.Page(c.ctx(), f, p, size)
	if err != nil || !a.Cut {
		return a, err
	}
	p.Bytes = search.MaxPage
	if err := s.take(c, work*search.MaxPage); err != nil {
		return nil, err
	}
	return s.find.Page(c.ctx(), f, p, size)
}

// ask answers a request for a list, with the holds that there are.
func (s *Server) ask(c *call) (search.Page, *search.Answer, *retention.Book, error) {
	f, p, err := s.question(c, nil)
	if err != nil {
		return p, nil, nil, err
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return p, nil, nil, err
	}
	a, err := s.page(c, &f, p, cp.Size)
	if err != nil {
		return p, nil, nil, err
	}
	book, err := s.holds.Book(c.ctx(), cp.Size)
	return p, a, book, err
}

// list answers GET /api/v1/audit.
func (s *Server) list(c *call) error {
	_, a, book, err := s.ask(c)
	if err != nil {
		return err
	}
	b := append([]byte(`{"total":`), itoa(a.Total)...)
	b = append(append(b, `,"returned":`...), itoa(int64(len(a.Hits)))...)
	b = append(a.Erased.AppendMember(b, false), `,"events":[`...)
	for i, h := range a.Hits {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendHit(b, h, book)
	}
	b = append(b, ']')
	if a.Next != "" {
		b = append(append(append(b, `,"next":"`...), a.Next...), '"')
	}
	return c.json(http.StatusOK, append(b, '}', '\n'))
}

// appendHit appends an event with its place in the ledger and the holds that
// keep it, as far as the book knows, if there is one.
func appendHit(dst []byte, h search.Hit, holds *retention.Book) []byte {
	dst = h.Event.AppendJSON(dst)
	dst = append(dst[:len(dst)-1], `,"index":`...)
	dst = append(dst, itoa(h.Record.Index)...)
	dst = append(dst, `,"hash":"`...)
	dst = append(dst, trail.Hex(h.Record.Chain)...)
	return append(custody.AppendMember(append(dst, '"'), holds, &h), '}')
}

// listFlat answers GET /api/v1/audit/events in Kubernaut's form.
func (s *Server) listFlat(c *call) error {
	p, a, book, err := s.ask(c)
	if err != nil {
		return err
	}
	b := []byte(`{"data":[`)
	for i, h := range a.Hits {
		if i > 0 {
			b = append(b, ',')
		}
		previous, err := s.chainBefore(c.ctx(), h.Record.Index)
		if err != nil {
			return err
		}
		b = intake.AppendKubernaut(b, h.Event, intake.Row{PreviousHash: trail.Hex(previous), Hash: trail.Hex(h.Record.Chain), Hold: holdOf(book, &h)})
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
	return c.json(http.StatusOK, append(a.Erased.AppendMember(append(b, '}'), true), "}\n"...))
}

// document answers with JSON.
func (c *call) document(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.json(status, append(body, '\n'))
}

func (c *call) json(status int, body []byte) error {
	return c.write(status, "application/json", body)
}

func (c *call) write(status int, contentType string, body []byte) error {
	c.settle(len(body))
	c.w.Header().Set("Content-Type", contentType)
	c.w.WriteHeader(status)
	_, err := c.w.Write(body)
	return err
}
