package access

import "sync"

// A Quota bounds what runs at a time: in all, and a quarter of that for each
// principal, so that none takes everything from the others.
type Quota struct {
	all, each int64

	mu    sync.Mutex
	taken int64
	by    map[string]int64
}

// NewQuota returns a quota of all in all.
func NewQuota(all int64) *Quota {
	return &Quota{all: all, each: max(1, all/4), by: map[string]int64{}}
}

// Take takes a place for a principal and reports whether there was one. The
// caller must call release in the end.
func (q *Quota) Take(principal string) (release func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken == q.all || q.by[principal] == q.each {
		return nil, false
	}
	q.taken++
	q.by[principal]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.taken--
		if q.by[principal]--; q.by[principal] == 0 {
			delete(q.by, principal)
		}
	}, true
}
