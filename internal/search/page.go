package search

import (
	"context"
	"fmt"
	"strconv"
)

// A Page says which part of an answer is asked for.
type Page struct {
	Limit  int
	Offset int64
	// Cursor goes on where an earlier answer ended; -1 for none. It is the
	// index of that answer's last event.
	Cursor int64
	// Bytes bounds the bytes of the records that are gathered, of which the
	// last may be beyond; 0 means [MaxPage].
	Bytes int
	// Oldest puts the oldest first; by default the newest are.
	Oldest bool
}

// Set sets what a parameter asks for, and reports whether there is such a
// parameter. maxLimit bounds limit.
func (p *Page) Set(param, value string, maxLimit int) (bool, error) {
	bad := func(format string, args ...any) (bool, error) {
		return true, &ParamError{Param: param, Reason: fmt.Sprintf(format, args...)}
	}
	switch param {
	case "limit":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxLimit {
			return bad("%.40q is not a number from 1 to %d", value, maxLimit)
		}
		p.Limit = n
	case "offset":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return bad("%.40q is not a number from 0 on", value)
		}
		p.Offset = n
	case "cursor":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return bad("%.40q is no cursor that an answer gave", value)
		}
		p.Cursor = n
	case "order":
		switch value {
		case "desc", "newest":
			p.Oldest = false
		case "asc", "oldest":
			p.Oldest = true
		default:
			return bad("%.40q is neither asc nor desc", value)
		}
	default:
		return false, nil
	}
	return true, nil
}

// A Range is a part of the ledger, from First on and below End.
type Range struct {
	First, End int64
}

// An Index finds entries. Its answers are candidates: an entry that it returns
// must be held against the filter, and one that matches is always returned.
type Index interface {
	// Ready returns when every entry below size can be found, or when ctx ends.
	Ready(ctx context.Context, size int64) error
	// Select returns the indexes of candidates within r, at most limit, the
	// oldest or newest first, after skipping as many as offset says.
	Select(ctx context.Context, f *Filter, r Range, oldest bool, limit int, offset int64) ([]int64, error)
	// Count returns the number of candidates within r.
	Count(ctx context.Context, f *Filter, r Range) (int64, error)
}
