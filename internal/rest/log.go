package rest

import (
	"compress/gzip"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// checkpoint answers GET /log/checkpoint.
func (s *Server) checkpoint(c *call) error {
	cp, err := s.state()
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = c.w.Write(cp.Note)
	return err
}

// logTile answers GET /log/tile/…: hash tiles and entry bundles of C2SP
// tlog-tiles.
func (s *Server) logTile(c *call) error {
	t, err := trail.ParseTilePath(strings.TrimPrefix(c.r.URL.Path, "/log/"))
	if err != nil {
		return notFound(err.Error())
	}
	cp, err := s.state()
	if err != nil {
		return err
	}
	level := max(t.L, 0)
	if complete := cp.Size >> (level * trail.TileHeight); t.N*trail.TileWidth+int64(t.W) > complete {
		return notFound("the ledger has not grown so far")
	}
	if t.L < 0 {
		if err := c.unscoped(); err != nil {
			return err
		}
		return s.bundle(c, t)
	}
	if err := s.find.Ready(c.ctx(), cp.Size); err != nil {
		return err
	}
	data, err := s.c.Store.Tile(t)
	if err != nil {
		return err
	}
	c.immutable()
	_, err = c.w.Write(data)
	return err
}

// bundle sends the entries of a bundle.
func (s *Server) bundle(c *call, t tlog.Tile) error {
	first := t.N * trail.TileWidth
	var data []byte
	err := s.c.Store.Records(c.ctx(), search.Range{First: first, End: first + int64(t.W)}, func(r *trail.Record) error {
		data = trail.AppendBundled(data, r.Entry)
		return nil
	})
	if err != nil {
		return err
	}
	c.immutable()
	var w io.Writer = c.w
	if strings.Contains(c.r.Header.Get("Accept-Encoding"), "gzip") {
		c.w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(c.w)
		defer z.Close()
		w = z
	}
	_, err = w.Write(data)
	return err
}

// immutable sets the headers of what never changes. Only those who may see it
// may keep it.
func (c *call) immutable() {
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("Vary", "Authorization, X-API-Key, Accept-Encoding")
}
