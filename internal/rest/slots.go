package rest

import (
	"net/http"
	"sync"
)

// slots bounds what runs at a time, in all and for each principal, so that
// none takes them from the others.
type slots struct {
	all, each int64

	mu    sync.Mutex
	taken int64
	by    map[string]int64
}

func newSlots(all int64) *slots {
	return &slots{all: all, each: max(1, all/4), by: map[string]int64{}}
}

// take takes a slot for the caller, who must call release in the end.
func (s *slots) take(c *call) (release func(), err error) {
	name := c.by.Name
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken == s.all || s.by[name] == s.each {
		return nil, newProblem(http.StatusServiceUnavailable, "busy", "Too many exports and streams at a time", "try again")
	}
	s.taken++
	s.by[name]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken--
		if s.by[name]--; s.by[name] == 0 {
			delete(s.by, name)
		}
	}, nil
}
