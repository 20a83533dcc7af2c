// Package client talks to a Graven server.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/graven-audit/graven/event"
)

// Config of a Client.
type Config struct {
	// URL is the server's address, as in http://127.0.0.1:8090.
	URL string
	// Token proves who calls; empty for none.
	Token string
	// HTTP sends the requests; nil means a client of its own, without a
	// timeout: contexts bound calls.
	HTTP *http.Client
	// UserAgent names the program.
	UserAgent string
}

// A Client calls one server. Its methods may be called concurrently.
type Client struct {
	c    Config
	base *url.URL
}

// New returns a client. It does not connect yet.
func New(c Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(c.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the address of a server, such as http://127.0.0.1:8090", c.URL)
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{}
	}
	return &Client{c: c, base: base}, nil
}

// A Problem is an error that the server answered with (RFC 9457).
type Problem struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail"`
	Param  string  `json:"param"`
	Errors []Fault `json:"errors"`
	// RetryAfter is how many seconds the server asks to wait; 0 for none.
	RetryAfter int `json:"-"`
}

// A Fault is what is wrong with one member of a body.
type Fault struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

func (p *Problem) Error() string {
	text := p.Title
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return fmt.Sprintf("%s (%d)", text, p.Status)
}

// Do sends a request and returns the answer, whose body the caller must close.
// The path is in its escaped form ([url.PathEscape]).
// An answer that is no success is a [*Problem].
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader) (*http.Response, error) {
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		return nil, err
	}
	u := *c.base
	u.Path, u.RawPath = u.Path+unescaped, u.EscapedPath()+path
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.c.Token)
	}
	if c.c.UserAgent != "" {
		req.Header.Set("User-Agent", c.c.UserAgent)
	}
	resp, err := c.c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, problemOf(resp)
}

func problemOf(resp *http.Response) error {
	p := &Problem{Status: resp.StatusCode, Title: resp.Status}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		if err := json.Unmarshal(data, p); err != nil {
			p.Detail = err.Error()
		}
	}
	p.Status = resp.StatusCode
	fmt.Sscan(resp.Header.Get("Retry-After"), &p.RetryAfter)
	return p
}

// Get reads a JSON answer into v.
func (c *Client) Get(ctx context.Context, path string, query url.Values, v any) error {
	resp, err := c.Do(ctx, http.MethodGet, path, query, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v)
}

// A Receipt is the server's answer to a recorded event.
type Receipt struct {
	ID        event.ID
	Name      string
	Index     int64
	LeafHash  string
	Duplicate bool
	// Checkpoint is the signed note that covers the event.
	Checkpoint string
}

// RecordSync records one event and returns the ledger's receipt: the event is
// durable, has its place and is covered by a signed checkpoint.
func (c *Client) RecordSync(ctx context.Context, e *event.Event) (*Receipt, error) {
	resp, err := c.Do(ctx, http.MethodPost, "/api/v1/audit/events", nil, "application/json", bytes.NewReader(e.AppendJSON(nil)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var v answer
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return nil, fmt.Errorf("read receipt: %w", err)
	}
	return v.receipt()
}

// answer is a receipt as the server writes it.
type answer struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Index      int64    `json:"index"`
	LeafHash   string   `json:"leafHash"`
	Duplicate  bool     `json:"duplicate"`
	Checkpoint string   `json:"checkpoint"`
	Position   int      `json:"position"`
	Error      *Problem `json:"error"`
}

func (a *answer) receipt() (*Receipt, error) {
	id, err := event.ParseID(a.ID)
	if err != nil {
		return nil, fmt.Errorf("read receipt: %w", err)
	}
	return &Receipt{ID: id, Name: a.Name, Index: a.Index, LeafHash: a.LeafHash, Duplicate: a.Duplicate, Checkpoint: a.Checkpoint}, nil
}

// A Result is what became of one event of a batch: a receipt, or an error.
type Result struct {
	Receipt *Receipt
	Err     error
}

// RecordRaw records events, each of which is JSON in either form that the
// server takes, and returns what became of each, in order. asserted says that
// all of it was done by others than the caller. An error means that none was
// recorded, or that it is unknown.
func (c *Client) RecordRaw(ctx context.Context, events [][]byte, asserted bool) ([]Result, error) {
	var body bytes.Buffer
	body.WriteByte('[')
	for i, e := range events {
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(e)
	}
	body.WriteByte(']')
	query := url.Values{}
	if asserted {
		query.Set("asserted", "true")
	}
	resp, err := c.Do(ctx, http.MethodPost, "/api/v1/audit/events/batch", query, "application/json", &body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a struct {
		Items      []answer `json:"items"`
		Checkpoint string   `json:"checkpoint"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("read receipts: %w", err)
	}
	if len(a.Items) != len(events) {
		return nil, fmt.Errorf("read receipts: %d for %d events", len(a.Items), len(events))
	}
	results := make([]Result, len(events))
	for i := range a.Items {
		if p := a.Items[i].Error; p != nil {
			results[i].Err = p
			continue
		}
		r, err := a.Items[i].receipt()
		if err != nil {
			return nil, err
		}
		r.Checkpoint = a.Checkpoint
		results[i].Receipt = r
	}
	return results, nil
}

// IsRetryable reports whether the same call may succeed later. A call that the
// caller gave up is not worth another.
func IsRetryable(err error) bool {
	var p *Problem
	if errors.As(err, &p) {
		return p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests || p.Status >= 502
	}
	var u *url.Error
	return errors.As(err, &u) && !errors.Is(err, context.Canceled)
}
