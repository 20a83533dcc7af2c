package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// heartbeat is how often a stream without events shows that it lives.
const heartbeat = 15 * time.Second

// stream answers GET /api/v1/audit/stream with server-sent events: from the
// event behind Last-Event-ID on or, without, from now on. An event's id is its
// index.
func (s *Server) stream(c *call) error {
	last := c.r.Header.Get("Last-Event-ID")
	left := int64(-1) // events, without a limit
	f, _, err := s.question(c, func(param, value string) (bool, error) {
		switch param {
		case "last_event_id":
			if last == "" { // who comes back sends the header, and the same URL
				last = value
			}
			return true, nil
		case "limit":
			var err error
			left, err = positive(param, value)
			return true, err
		case "offset", "cursor", "order":
			return true, problem.Param(param, "a stream has no parts")
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	st := s.c.Ledger.State()
	if st == nil {
		return search.ErrNotReady
	}
	next := st.Size()
	if last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < -1 || n >= next {
			return problem.Param("Last-Event-ID", "not the index of an event, or -1 for all")
		}
		next = n + 1
	}
	held, ok := s.exports.Take(c.share(), 1)
	if !ok {
		return problem.New(http.StatusServiceUnavailable, "busy", "Too many exports and streams at a time", "try again")
	}
	defer held.Release()
	ctx, cancel := context.WithCancel(c.ctx())
	defer cancel()
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.w.WriteHeader(http.StatusOK)
	// Who loses the connection before the first event comes back to this place.
	if err := c.send([]byte("id: " + itoa(next-1) + "\n: graven\n\n")); err != nil || c.r.Method == http.MethodHead {
		return err
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		if !s.mayRead(c) {
			return nil
		}
		st := s.c.Ledger.State()
		if err := s.sendFrom(ctx, c, &f, &next, st.Size(), &left); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		select {
		case <-st.Changed():
		case <-beat.C:
			if err := c.send([]byte(": " + itoa(next) + "\n\n")); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return nil
		}
	}
}

// mayRead reports whether the caller's token is still good.
func (s *Server) mayRead(c *call) bool {
	by, _, err := s.authenticate(c.r, access.Read)
	return err == nil && by != nil && by.Can(access.Read) && slices.Equal(by.Namespaces, c.by.Namespaces)
}

// sendFrom sends the events from *next on, below size, that match, until *left
// is 0.
func (s *Server) sendFrom(ctx context.Context, c *call, f *search.Filter, next *int64, size int64, left *int64) error {
	checked := time.Now()
	err := s.find.Reader.Records(ctx, search.Range{First: *next, End: size}, func(r *trail.Record) error {
		if time.Since(checked) > time.Second {
			if checked = time.Now(); !s.mayRead(c) {
				return errStopping // and whoever called finds out, too
			}
		}
		e, err := r.Event()
		if err != nil {
			return err
		}
		if *left == 0 {
			return errStopping
		}
		if r.Leaf == nil && f.Match(e) {
			*left--
			b := []byte("id: " + itoa(r.Index) + "\nevent: audit\ndata: ")
			b = appendHit(b, search.Hit{Event: e, Record: *r}, nil)
			if err := c.send(append(b, '\n', '\n')); err != nil {
				return err
			}
		}
		*next = r.Index + 1
		select {
		case <-s.stopping:
			return errStopping
		default:
			return nil
		}
	})
	if errors.Is(err, errStopping) {
		return nil
	}
	return err
}

var errStopping = errors.New("stopping")

func (c *call) send(data []byte) error {
	if _, err := c.w.Write(data); err != nil {
		return err
	}
	return c.w.FlushError()
}
