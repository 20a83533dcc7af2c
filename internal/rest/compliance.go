package rest

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/reporter"
	"github.com/graven-audit/graven/report"
)

var errBusyReports = problem.New(http.StatusServiceUnavailable, "busy", "Too many exports, reports and streams at a time", "try again")

// A report takes up to so much memory while it is computed, in bytes.
const reportMemory = 48 << 20

// complianceQuestion reads what is asked of a window, with how the ledger stood then.
func (s *Server) complianceQuestion(c *call, framework string) (compliance.Question, *compliance.Source, error) {
	q := compliance.NewQuestion(framework)
	now := s.c.Now()
	err := c.params(func(name, value string) (bool, error) { return q.Set(name, value, now) })
	if err != nil {
		return q, nil, err
	}
	source, err := s.completed(c, &q)
	return q, source, err
}

// completed gives a question its window and what bounds it, and returns the ledger that
// it is about.
func (s *Server) completed(c *call, q *compliance.Question) (*compliance.Source, error) {
	if err := q.Complete(s.c.Now()); err != nil {
		return nil, err
	}
	q.Scope, q.Targets = c.by.Namespaces, s.c.Targets
	cp, err := s.state(c.ctx())
	if err == nil {
		err = s.derived(c.ctx(), cp.Size)
	}
	if err != nil {
		return nil, err
	}
	return compliance.At(&s.find, s.c.Store, cp, q.Size)
}

// complianceReport answers GET /api/v1/compliance/report.
func (s *Server) complianceReport(c *call) error { return s.document(c, "") }

// document answers with what a question asks for.
func (s *Server) document(c *call, framework string) error {
	q, source, err := s.complianceQuestion(c, framework)
	if err != nil {
		return err
	}
	held, ok := s.exports.Take(c.share(), 1)
	if !ok {
		return errBusyReports
	}
	defer held.Release()
	if err := s.take(c, reportMemory); err != nil {
		return err
	}
	body, kind, err := reporter.Paper(c.ctx(), source, &q)
	if err != nil {
		return err
	}
	return s.paper(c, &q, source.Ledger(), kind, body, q.Format)
}

// listFrameworks answers GET /api/v1/compliance/frameworks.
func (s *Server) listFrameworks(c *call) error {
	book, err := control.Shipped()
	if err != nil {
		return err
	}
	return c.document(http.StatusOK, map[string]any{"frameworks": book.Frameworks})
}

// assess answers GET /api/v1/compliance/frameworks/{name}: what the trail shows of the
// controls of a framework.
func (s *Server) assess(c *call) error {
	book, err := control.Shipped()
	if err != nil {
		return err
	}
	name := c.r.PathValue("name")
	if _, ok := book.Framework(name); !ok {
		return problem.NotFound("no framework is called that; there are " + strings.Join(book.Names(), ", "))
	}
	return s.document(c, name)
}

// paper records that a document was made, and answers with it.
func (s *Server) paper(c *call, q *compliance.Question, of report.Ledger, kind string, body []byte, format paper.Format) error {
	sum := sha256.Sum256(body)
	act := ledger.Act{Type: "ReportGenerated", By: c.recorder(), Details: compliance.Made(q, of, kind, format.Name, hex.EncodeToString(sum[:]))}
	if err := s.c.Journal.Once(c.ctx(), act); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", format.ContentType)
	h.Set("Content-Disposition", `inline; filename="`+kind+"-"+q.From.Format("20060102")+"-"+q.To.Format("20060102")+"."+format.Extension+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	c.settle(len(body))
	c.w.WriteHeader(http.StatusOK)
	_, err := c.w.Write(body)
	return err
}
