// Package client talks to a Graven server.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
)

// Config of a Client.
type Config struct {
	// URL is the server's address, as in http://127.0.0.1:8090.
	URL string
	// Token proves who calls; empty for none.
	Token string
	// TokenFile, where Token is empty, is a file with the token, which is read
	// for each request: tokens of Kubernetes' service accounts change.
	TokenFile string
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
	Detail string  `json:"detail,omitempty"`
	Param  string  `json:"param,omitempty"`
	Errors []Fault `json:"errors,omitempty"`
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
	return c.do(ctx, method, path, query, http.Header{"Content-Type": {contentType}}, body)
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader) (*http.Response, error) {
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
	for name := range header {
		if value := header.Get(name); value != "" {
			req.Header.Set(name, value)
		}
	}
	token := c.c.Token
	if token == "" && c.c.TokenFile != "" {
		text, err := os.ReadFile(c.c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
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
	// Spooled means that the server keeps the event until its store is back.
	// There is no index, leaf hash or checkpoint yet.
	Spooled bool
	// Checkpoint is the signed note that covers the event.
	Checkpoint string
}

// maxAnswer bounds what is read of the answer to recorded events, in bytes.
const maxAnswer = 64 << 20

// errAnswer means that the server's answer was lost on the way.
var errAnswer = errors.New("read the answer")

// record sends events under a key, by which the server knows them if they come
// again: also when the connection breaks, and the request is sent on another.
func (c *Client) record(ctx context.Context, path string, query url.Values, key string, body []byte, answer any) error {
	resp, err := c.do(ctx, http.MethodPost, path, query, http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {key}}, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return nil
}

// RecordSync records one event and returns the ledger's receipt: the event is
// durable, has its place and is covered by a signed checkpoint. An event without
// an id gets one, by which the server knows it if it comes again.
func (c *Client) RecordSync(ctx context.Context, e *event.Event) (*Receipt, error) {
	return c.RecordSyncFor(ctx, "", e)
}

// RecordSyncFor records one event as [Client.RecordSync] does, on behalf of a
// principal whom somebody else has authenticated, such as the API server. The
// caller must be one who attests.
func (c *Client) RecordSyncFor(ctx context.Context, principal string, e *event.Event) (*Receipt, error) {
	if e.ID.IsZero() {
		e.ID = event.NewID(time.Now())
	}
	var query url.Values
	if principal != "" {
		query = url.Values{"on_behalf_of": {principal}}
	}
	var v answer
	if err := c.record(ctx, "/api/v1/audit/events", query, e.ID.String(), e.AppendJSON(nil), &v); err != nil {
		return nil, err
	}
	return v.receipt()
}

// answer is a receipt as the server writes it.
type answer struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Index      int64    `json:"index"`
	Spooled    bool     `json:"spooled"`
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
	return &Receipt{ID: id, Name: a.Name, Index: a.Index, LeafHash: a.LeafHash, Duplicate: a.Duplicate, Spooled: a.Spooled, Checkpoint: a.Checkpoint}, nil
}

// A Result is what became of one event of a batch: a receipt, or an error.
type Result struct {
	Receipt *Receipt
	Err     error
}

// A Batch is events that are recorded together.
type Batch struct {
	// Events are JSON in either form that the server takes.
	Events [][]byte
	// Key names the batch, so that events without an id are recorded once if
	// the same batch is sent again. NewKey makes one.
	Key string
	// Asserted says that all of it was done by others than the caller.
	Asserted bool
	// Observed says that the caller has seen all of it in the state of resources. It
	// must be one who attests.
	Observed bool
}

// NewKey returns a key that no other batch has.
func NewKey() string { return rand.Text() }

// RecordBatch records events and returns what became of each, in order. An error
// means that none was recorded, or that it is unknown; the same batch may be
// sent again then.
func (c *Client) RecordBatch(ctx context.Context, b *Batch) ([]Result, error) {
	events := b.Events
	body := append(append([]byte{'['}, bytes.Join(events, []byte{','})...), ']')
	query := url.Values{}
	if b.Asserted {
		query.Set("asserted", "true")
	}
	if b.Observed {
		query.Set("observed", "true")
	}
	var a struct {
		Items      []answer `json:"items"`
		Checkpoint string   `json:"checkpoint"`
	}
	if err := c.record(ctx, "/api/v1/audit/events/batch", query, b.Key, body, &a); err != nil {
		return nil, err
	}
	if len(a.Items) != len(events) {
		return nil, fmt.Errorf("read the answer: %d receipts for %d events", len(a.Items), len(events))
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
	return (errors.As(err, &u) || errors.Is(err, errAnswer)) && !errors.Is(err, context.Canceled)
}
