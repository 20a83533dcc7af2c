package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/seglog"
)

// addressFile, in the spool's directory, says where its agent listens.
const addressFile = "agent"

// Announce notes in a spool's directory where its agent listens, so that
// [OpenQuarantine] finds it. withdraw takes the note back.
func Announce(dir string, l net.Listener) (withdraw func() error, err error) {
	address := l.Addr().String()
	if l.Addr().Network() == "unix" {
		if address, err = filepath.Abs(address); err != nil {
			return nil, err
		}
		address = "unix:" + address
	}
	path := filepath.Join(dir, addressFile)
	return func() error { return os.Remove(path) }, seglog.WriteFile(seglog.OS{}, path, []byte(address+"\n"))
}

// A Quarantine is that of an agent, or of a recorder that does not run
// ([client.Quarantine]).
type Quarantine interface {
	Retry(ctx context.Context, key, by string) (client.Quarantined, error)
	Drop(ctx context.Context, key, by, reason string) (client.Quarantined, error)
	Close() error
}

// OpenQuarantine opens the quarantine of a spool's directory: itself, where no
// program has the spool open, and otherwise through the agent that has. Since the
// lock decides, and it is the agent's while that runs, there is never a second
// writer.
func OpenQuarantine(dir string) (Quarantine, error) {
	q, err := client.OpenQuarantine(dir)
	if err == nil {
		return q, nil
	}
	if !errors.Is(err, seglog.ErrLocked) {
		return nil, err
	}
	text, readErr := os.ReadFile(filepath.Join(dir, addressFile))
	if readErr != nil {
		return nil, fmt.Errorf("%w, and it is no agent: stop it first", err)
	}
	address := strings.TrimSpace(string(text))
	r := &remote{dir: dir, base: url.URL{Scheme: "http", Host: address}}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		r.base.Host = "agent"
		r.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
	}
	return r, nil
}

// A decision is what a request decides.
type decision struct {
	Key    string `json:"key"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
}

// A remote is the quarantine of an agent that runs.
type remote struct {
	dir  string
	base url.URL
	http http.Client
}

func (r *remote) Retry(ctx context.Context, key, by string) (client.Quarantined, error) {
	return r.post(ctx, "retry", decision{Key: key, By: by})
}

func (r *remote) Drop(ctx context.Context, key, by, reason string) (client.Quarantined, error) {
	return r.post(ctx, "drop", decision{Key: key, By: by, Reason: reason})
}

func (r *remote) Close() error {
	r.http.CloseIdleConnections()
	return nil
}

// whole returns the key that a number stands for in this spool, which no other
// has: the agent that listens where this one did may be another's by now.
func (r *remote) whole(key string) (string, error) {
	list, _, err := client.ReadQuarantine(r.dir)
	if err != nil {
		return "", err
	}
	found := []string{}
	for _, q := range list {
		if q.Key() == key || q.Count == 1 && strconv.FormatUint(q.Number, 10) == key {
			found = append(found, q.Key())
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%.60q: %w", key, client.ErrNotQuarantined)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%q may be %s or %s: say which", key, found[0], found[1])
}

func (r *remote) post(ctx context.Context, verb string, d decision) (q client.Quarantined, err error) {
	if d.Key, err = r.whole(d.Key); err != nil {
		return q, err
	}
	body, err := json.Marshal(d)
	if err != nil {
		return q, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base.JoinPath("/api/v1/quarantine", verb).String(), bytes.NewReader(body))
	if err != nil {
		return q, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.http.Do(req)
	if err != nil {
		return q, fmt.Errorf("ask the agent: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		p := &client.Problem{Status: resp.StatusCode, Title: resp.Status}
		if err := json.NewDecoder(resp.Body).Decode(p); err != nil {
			p.Detail = err.Error()
		}
		return q, p
	}
	return q, json.NewDecoder(resp.Body).Decode(&q)
}

// decide answers POST /api/v1/quarantine/retry and …/drop.
func (a *Agent) decide(w http.ResponseWriter, r *http.Request) {
	data, done, ok := a.body(w, r)
	if !ok {
		return
	}
	defer done()
	var d decision
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		refuse(w, client.Problem{Status: http.StatusBadRequest, Title: "The body is not valid", Detail: err.Error()})
		return
	}
	var q client.Quarantined
	var err error
	if strings.HasSuffix(r.URL.Path, "/retry") {
		q, err = a.recorder.Quarantine().Retry(r.Context(), d.Key, d.By)
	} else {
		q, err = a.recorder.Quarantine().Drop(r.Context(), d.Key, d.By, d.Reason)
	}
	switch {
	case err == nil:
		answer(w, http.StatusOK, "application/json", q)
	case errors.Is(err, client.ErrNotQuarantined):
		refuse(w, client.Problem{Status: http.StatusNotFound, Title: "There is no such thing", Detail: err.Error()})
	case errors.Is(err, client.ErrFull), errors.Is(err, client.ErrClosed):
		refuse(w, problemOf(err))
	default:
		refuse(w, client.Problem{Status: http.StatusUnprocessableEntity, Title: "It cannot be done", Detail: err.Error()})
	}
}
