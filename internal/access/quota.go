package access

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// A Quota bounds what is in use at a time: in all, and a quarter of that for
// each principal, so that none takes everything from the others.
type Quota struct {
	each  int64
	total *semaphore.Weighted

	mu     sync.Mutex
	shares map[string]*share
}

// A share is a principal's, as long as it has a use.
type share struct {
	*semaphore.Weighted
	users int
}

// NewQuota returns a quota of all in all.
func NewQuota(all int64) *Quota {
	return &Quota{each: max(1, all/4), total: semaphore.NewWeighted(all), shares: map[string]*share{}}
}

// A Held is what a principal holds of a quota. It is for one goroutine.
type Held struct {
	q         *Quota
	principal string
	share     *share
	n         int64
}

func (q *Quota) hold(principal string) *Held {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.shares[principal]
	if s == nil {
		s = &share{Weighted: semaphore.NewWeighted(q.each)}
		q.shares[principal] = s
	}
	s.users++
	return &Held{q: q, principal: principal, share: s}
}

// Take takes n for a principal and reports whether there was as much. What it
// returns must be released in the end.
func (q *Quota) Take(principal string, n int64) (*Held, bool) {
	h := q.hold(principal)
	if !h.Grow(n) {
		h.Release()
		return nil, false
	}
	return h, true
}

// Wait is Take for those who can wait, and hold nothing of the quota yet. What
// takes more than a share has the share for itself.
func (q *Quota) Wait(ctx context.Context, principal string, n int64) (*Held, error) {
	h := q.hold(principal)
	n = min(n, q.each)
	if err := h.share.Acquire(ctx, n); err != nil {
		h.Release()
		return nil, err
	}
	if err := q.total.Acquire(ctx, n); err != nil {
		h.share.Release(n)
		h.Release()
		return nil, err
	}
	h.n = n
	return h, nil
}

// Grow takes n more and reports whether there was as much.
func (h *Held) Grow(n int64) bool {
	if !h.share.TryAcquire(n) {
		return false
	}
	if !h.q.total.TryAcquire(n) {
		h.share.Release(n)
		return false
	}
	h.n += n
	return true
}

// Shrink gives back what is held beyond n.
func (h *Held) Shrink(n int64) {
	if n >= h.n {
		return
	}
	h.q.total.Release(h.n - n)
	h.share.Release(h.n - n)
	h.n = n
}

// Release gives back everything.
func (h *Held) Release() {
	h.Shrink(0)
	h.q.mu.Lock()
	defer h.q.mu.Unlock()
	if h.share.users--; h.share.users == 0 {
		delete(h.q.shares, h.principal)
	}
}
