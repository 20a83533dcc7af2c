package rest

import (
	"net/http"
	"strconv"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// hit finds the event that a request's path names, by its id or its index.
func (s *Server) hit(c *call) (search.Hit, *trail.Checkpoint, error) {
	none := func() (search.Hit, *trail.Checkpoint, error) {
		return search.Hit{}, nil, problem.NotFound("no event has this id, or you may not see it")
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return search.Hit{}, nil, err
	}
	name := c.r.PathValue("id")
	index, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		id, err := event.ParseID(name)
		if err != nil {
			return search.Hit{}, nil, problem.Param("id", err.Error())
		}
		if err := s.derived(c.ctx(), cp.Size); err != nil {
			return search.Hit{}, nil, err
		}
		indexes := []int64{-1}
		if err := s.c.Store.Find(c.ctx(), []event.ID{id}, indexes); err != nil {
			return search.Hit{}, nil, err
		}
		index = indexes[0]
	}
	if index < 0 || index >= cp.Size {
		return none()
	}
	h, err := s.find.Get(c.ctx(), index)
	if err != nil {
		return search.Hit{}, nil, err
	}
	if !c.sees(h.Event) || h.Record.Leaf != nil && c.by.Namespaces != nil { // whose it was is not left
		return none()
	}
	return h, cp, nil
}

// get answers GET /api/v1/audit/events/{id}.
func (s *Server) get(c *call) error {
	if err := s.take(c, work*small); err != nil {
		return err
	}
	h, cp, err := s.hit(c)
	if err != nil {
		return err
	}
	if h.Record.Leaf != nil {
		return s.gone(c, cp, &h.Record)
	}
	line := trail.Line{Event: h.Event, Record: h.Record}
	if line.Previous, err = s.chainBefore(c.ctx(), h.Record.Index); err != nil {
		return err
	}
	return c.json(http.StatusOK, line.Append(nil))
}

// gone answers that an entry was erased, and what is left of it.
func (s *Server) gone(c *call, cp *trail.Checkpoint, r *trail.Record) error {
	book, err := s.holds.Book(c.ctx(), cp.Size)
	if err != nil {
		return err
	}
	return erased(http.StatusGone, "entry "+itoa(r.Index)+" was erased with all below "+itoa(book.Pruned())+", as the tombstone in entry "+itoa(book.PrunedBy(r.Index))+
		" says; what proves it is still made at …/proof, for the hash of its leaf, "+trail.Hex(*r.Leaf))
}

// proof answers GET /api/v1/audit/events/{id}/proof with a C2SP tlog-proof, and
// the hash that it proves in a header: who does not have the entry, because it was
// erased, has that to check.
func (s *Server) proof(c *call) error {
	h, cp, err := s.hit(c)
	if err != nil {
		return err
	}
	if w := s.cosigned(); w.Size > h.Record.Index {
		cp = w
	}
	if err := s.derived(c.ctx(), cp.Size); err != nil {
		return err
	}
	hashes, err := search.Prove(s.c.Store, cp, h.Record.Index, h.Record.LeafHash())
	if err != nil {
		return err
	}
	p := trail.Proof{Index: h.Record.Index, Hashes: hashes, Checkpoint: cp.Note}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("Graven-Leaf", trail.Hex(h.Record.LeafHash()))
	c.w.Header().Set("Content-Disposition", `attachment; filename="`+h.Event.ID.String()+`.tlog-proof"`)
	_, err = c.w.Write(p.Marshal())
	return err
}
