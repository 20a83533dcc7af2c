package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// followPause is the longest pause before a stream is asked for again.
	followPause = 5 * time.Second
	// maxMessage bounds a line of a stream.
	maxMessage = 8 << 20
)

// Follow calls fn for each event that a query asks for, as it is recorded: from
// the one behind the index after on ("-1" is before the first) or, where after
// is empty, from now on. It outlives broken connections and restarts of the
// server, and goes on where it was. It ends, without an error, behind as many
// events as the query's limit says, or with the error of ctx, of fn, or of a
// server that refuses.
func (c *Client) Follow(ctx context.Context, query url.Values, after string, fn func(json.RawMessage) error) error {
	f := follower{client: c, last: after, fn: fn}
	if limit := query.Get("limit"); limit != "" {
		var err error
		if f.limit, err = strconv.ParseInt(limit, 10, 64); err != nil || f.limit < 1 {
			return fmt.Errorf("limit: %q is no number from 1 on", limit)
		}
	}
	p := pauser{last: followPause}
	for {
		seen := f.seen
		err := f.follow(ctx, query)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case f.failed != nil:
			return f.failed
		case f.limit > 0 && f.seen == f.limit:
			return nil
		case err != nil && !IsRetryable(err):
			return err
		}
		if f.seen > seen {
			p.next = 0
		}
		if err := p.pause(ctx, err); err != nil {
			return err
		}
	}
}

// A follower is where Follow stands.
type follower struct {
	client *Client
	fn     func(json.RawMessage) error
	// last is the index of the last event seen or, before one is, of the one
	// before the stream began.
	last   string
	seen   int64 // events
	limit  int64 // of them; 0 for none
	failed error // fn's
}

func (f *follower) follow(ctx context.Context, query url.Values) error {
	q := url.Values{}
	for name, values := range query {
		q[name] = values
	}
	if f.last != "" {
		q.Set("last_event_id", f.last)
	}
	if f.limit > 0 {
		q.Set("limit", strconv.FormatInt(f.limit-f.seen, 10))
	}
	resp, err := f.client.Do(ctx, http.MethodGet, "/api/v1/audit/stream", q, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxMessage)
	var id string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "data":
			if f.failed = f.fn(json.RawMessage(value)); f.failed != nil {
				return nil
			}
			if f.seen++; f.seen == f.limit {
				return nil
			}
		case "": // the end of a message; the first has an id and nothing else
			if id != "" {
				f.last = id
			}
		}
	}
	return nil // the connection broke, or the server is going down
}
