// Package remote gets the files of a log from a server, for package verify.
package remote

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// A Log is one on a server.
type Log struct {
	// URL is the log's prefix, such as "https://audit.example/log".
	URL string
	// Token, if not empty, is sent as a bearer token.
	Token string
	// Client makes the requests; nil means one that gives each a minute.
	Client *http.Client
	// Pause is how long to wait before a second try; each further one waits
	// twice as long. 0 means half a second.
	Pause time.Duration
}

const (
	maxTries = 6
	// maxFile bounds what is read of a file: a full bundle of the longest
	// entries, with their lengths.
	maxFile = trail.TileWidth * (2 + event.MaxEntry)
)

// Fetch gets a file by its path below the log's prefix, as verify.Log asks for
// it. Where there is none the error is fs.ErrNotExist. A request that fails for
// reasons that may pass is tried again, a few times.
func (l *Log) Fetch(ctx context.Context, path string) ([]byte, error) {
	pause := l.Pause
	if pause == 0 {
		pause = time.Second / 2
	}
	for try := 1; ; try++ {
		data, wait, err := l.get(ctx, path)
		if err == nil || wait < 0 || try == maxTries || ctx.Err() != nil {
			return data, err
		}
		select {
		case <-time.After(max(wait, pause<<(try-1))):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// get makes one request. A negative wait means that another is of no use; a
// positive one is what the server has asked for.
func (l *Log) get(ctx context.Context, path string) (data []byte, wait time.Duration, err error) {
	url := strings.TrimSuffix(l.URL, "/") + "/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, -1, err
	}
	if l.Token != "" {
		req.Header.Set("Authorization", "Bearer "+l.Token)
	}
	client := l.Client
	if client == nil {
		client = &http.Client{Timeout: time.Minute}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotFound || code == http.StatusGone:
		return nil, -1, fmt.Errorf("get %s: %w", url, fs.ErrNotExist)
	case code >= 500 || code == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return nil, time.Duration(max(min(seconds, 30), 0)) * time.Second, fmt.Errorf("get %s: %s", url, resp.Status)
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return nil, -1, fmt.Errorf("get %s: %s; the log needs a token that may read it", url, resp.Status)
	default:
		return nil, -1, fmt.Errorf("get %s: %s", url, resp.Status)
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxFile+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("get %s: %w", url, err)
	case len(data) > maxFile:
		return nil, -1, fmt.Errorf("get %s: more than %d bytes", url, maxFile)
	}
	return data, 0, nil
}
