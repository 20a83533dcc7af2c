package rest

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// checkpoint answers GET /log/checkpoint: with the newest checkpoint that
// witnesses have cosigned, if there are witnesses, unless the newest is asked
// for.
func (s *Server) checkpoint(c *call) error {
	newest, err := c.only("newest")
	if err != nil {
		return err
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return err
	}
	if s.c.Witnesses != nil && !newest {
		cp = s.c.Witnesses.Shown(cp)
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = c.w.Write(cp.Note)
	return err
}

// tile reads the path of a hash tile or entry bundle of C2SP tlog-tiles, as it
// was sent: with escaped slashes, the route of tiles would match a bundle's path.
func (s *Server) tile(c *call) (tlog.Tile, *trail.Checkpoint, error) {
	if err := c.noParams(); err != nil {
		return tlog.Tile{}, nil, err
	}
	t, err := trail.ParseTilePath(strings.TrimPrefix(c.r.URL.EscapedPath(), "/log/"))
	if err != nil {
		return t, nil, problem.NotFound(err.Error())
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return t, nil, err
	}
	complete := cp.Size >> (max(t.L, 0) * trail.TileHeight)
	if t.N > complete/trail.TileWidth || t.N*trail.TileWidth+int64(t.W) > complete {
		return t, nil, problem.NotFound("the ledger has not grown so far")
	}
	return t, cp, nil
}

// logHashes answers GET /log/tile/LEVEL/….
func (s *Server) logHashes(c *call) error {
	t, cp, err := s.tile(c)
	if err != nil {
		return err
	}
	if err := s.derived(c.ctx(), cp.Size); err != nil {
		return err
	}
	data, err := s.c.Store.Tile(t, tlog.Tree{N: cp.Size, Hash: cp.Root})
	if err != nil {
		return err
	}
	c.immutable()
	_, err = c.w.Write(data)
	return err
}

// logEntries answers GET /log/tile/entries/….
func (s *Server) logEntries(c *call) error {
	t, _, err := s.tile(c)
	if err != nil {
		return err
	}
	if err := s.unscoped(c); err != nil {
		return err
	}
	first := t.N * trail.TileWidth
	begin, err := s.find.Begin(c.ctx())
	if err != nil {
		return err
	}
	if first < begin {
		return erased(http.StatusNotFound, "the log's minimum index is "+itoa(begin)+": the entries below it were erased, and their hashes are left")
	}
	if err := s.take(c, work*small); err != nil {
		return err
	}
	c.immutable()
	w := bufio.NewWriterSize(c.w, 64<<10) // so that most errors are found before the answer has begun
	out, end := io.Writer(w), func() error { return nil }
	if takesGzip(c.r.Header.Get("Accept-Encoding")) {
		c.w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		out, end = z, z.Close
	}
	var bundled []byte
	err = s.c.Store.Records(c.ctx(), search.Range{First: first, End: first + int64(t.W)}, func(r *trail.Record) error {
		if r.Leaf != nil { // by another server, which this one knows nothing of yet
			return erased(http.StatusNotFound, "entry "+itoa(r.Index)+" was erased, and its hash is left")
		}
		bundled = trail.AppendBundled(bundled[:0], r.Entry)
		_, err := out.Write(bundled)
		return err
	})
	if err != nil {
		return err
	}
	if err := end(); err != nil {
		return err
	}
	return w.Flush()
}

// takesGzip reads a request's header Accept-Encoding.
func takesGzip(header string) bool {
	for coding := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
		if strings.EqualFold(strings.TrimSpace(name), "gzip") && (err != nil || q > 0) {
			return true
		}
	}
	return false
}

// immutable sets the headers of what never changes. Only those who may see it
// may keep it.
func (c *call) immutable() {
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("Vary", "Authorization, X-API-Key, Accept-Encoding")
}
