package rest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/event"
	format "github.com/graven-audit/graven/evidence"
	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/evidence"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/trail"
)

// runHeader bears the statement of who made a package, and when.
const runHeader = "Graven-Evidence-Run"

// evidence answers GET /api/v1/compliance/evidence: a package that verifies offline.
func (s *Server) evidence(c *call) error {
	if s.c.Signer == nil {
		return problem.New(http.StatusForbidden, "read-only", "Nothing is signed here", "a server that only shows a ledger does not have its key; ask the ledger's own")
	}
	q := &evidence.Question{Question: compliance.NewQuestion("?")}
	now := s.c.Now()
	err := c.params(func(name, value string) (known bool, err error) {
		switch name {
		case "framework":
			q.Framework = value
			return true, nil
		case "sample":
			q.Sample, err = strconv.Atoi(value)
			if err != nil || q.Sample < 1 || q.Sample > evidence.MaxSample {
				return true, problem.Param(name, "from 1 to "+itoa(evidence.MaxSample))
			}
			return true, nil
		case "random_seed":
			if q.Seed, err = strconv.ParseUint(value, 10, 64); err != nil {
				return true, problem.Param(name, "a number from 0 on")
			}
			return true, nil
		case "slim":
			q.Slim, err = flag(name, value)
			return true, err
		case "format":
			return false, nil
		}
		return q.Set(name, value, now)
	})
	if err != nil {
		return err
	}
	book, err := control.Shipped()
	if err != nil {
		return err
	}
	if _, ok := book.Framework(q.Framework); !ok {
		return problem.Param("framework", "one of "+strings.Join(book.Names(), ", "))
	}
	source, err := s.completed(c, &q.Question)
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
	// Whole before it is answered: half a package is none.
	file, err := os.CreateTemp(s.c.Scratch, "graven-evidence-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	m := evidence.Maker{Source: source, Hashes: s.c.Store, Previous: s.chainBefore, Book: book, Tombs: s.holds.Book, Signer: s.c.Signer, Key: s.c.Key, Scratch: s.c.Scratch}
	made, err := m.Make(c.ctx(), file, q)
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return s.handOver(c, q, source, made, file)
}

// handOver records that a package was made, and answers with it and with the statement of
// who made it.
func (s *Server) handOver(c *call, q *evidence.Question, source *compliance.Source, made *evidence.Made, file io.Reader) error {
	digest := hex.EncodeToString(made.SHA256[:])
	details := compliance.Made(&q.Question, source.Ledger(), "evidence", "zip", digest)
	details["events"] = made.Contents.Events
	if err := s.c.Journal.Once(c.ctx(), ledger.Act{Type: "EvidenceExported", By: c.recorder(), Details: details}); err != nil {
		return err
	}
	name := "evidence-" + q.Framework + "-" + q.From.Format("20060102") + "-" + q.To.Format("20060102") + ".zip"
	run, err := format.NewStatement(format.RunType, []format.Subject{format.Digest(name, made.SHA256)},
		format.Run{Principal: c.by.Name, At: event.FormatTime(s.c.Now().UTC()), Version: s.c.Version, Question: c.r.URL.RawQuery})
	if err != nil {
		return err
	}
	_, signed, err := format.Sign(run, s.c.Signer)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	h.Set(runHeader, base64.StdEncoding.EncodeToString(signed))
	c.w.WriteHeader(http.StatusOK)
	_, err = io.Copy(c.w, file)
	return err
}

// chainBefore is the chain before an entry.
func (s *Server) chainBefore(ctx context.Context, index int64) (trail.Hash, error) {
	if index == 0 {
		return trail.Hash{}, nil
	}
	r, err := s.c.Store.Stored().Record(ctx, index-1)
	return r.Chain, err
}
