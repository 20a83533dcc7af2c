package agent_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/agent"
)

const refused = `{"at":"2026-03-19T14:30:00Z","epoch":"e","number":4,"count":1,"reason":"no","event":` + one + "}\n" +
	`{"at":"2026-03-19T14:30:00Z","epoch":"f","number":4,"count":1,"reason":"no","event":` + one + "}\n"

func TestAnAgentThatRunsSeesToItsQuarantine(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		h := start(t, address, 0)
		if err := os.WriteFile(filepath.Join(h.dir, "quarantine.ndjson"), []byte(refused), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := agent.OpenQuarantine(h.dir); err == nil || !strings.Contains(err.Error(), "stop it first") {
			t.Errorf("the spool of a program that is no agent: %v", err)
		}
		for name, tt := range map[string]struct {
			verb, contentType, body string
			header                  []string
			status                  int
		}{
			"what a form sends":   {"drop", "text/plain", `{"key":"e:4","by":"a","reason":"r"}`, nil, 415},
			"a page of the web":   {"drop", "application/json", `{"key":"e:4","by":"a","reason":"r"}`, []string{"Origin", "https://evil.example"}, 403},
			"no JSON":             {"drop", "application/json", `e:4`, nil, 400},
			"an unknown member":   {"drop", "application/json", `{"key":"e:4","by":"a","because":"r"}`, nil, 400},
			"without a reason":    {"drop", "application/json", `{"key":"e:4","by":"a"}`, nil, 422},
			"without a name":      {"retry", "application/json", `{"key":"e:4"}`, nil, 422},
			"one of two":          {"retry", "application/json", `{"key":"4","by":"a"}`, nil, 422},
			"what is not there":   {"retry", "application/json", `{"key":"e:5","by":"a"}`, nil, 404},
			"what cannot be done": {"forget", "application/json", `{"key":"e:4","by":"a"}`, nil, 404},
		} {
			if status, text := h.post("/api/v1/quarantine/"+tt.verb, tt.contentType, tt.body, tt.header...); status != tt.status {
				t.Errorf("%s: %d %s", name, status, text)
			}
		}
		l := listening{h.url}
		if strings.HasPrefix(address, "unix:") {
			l.url = address
		}
		withdraw, err := agent.Announce(h.dir, l)
		if err != nil {
			t.Fatal(err)
		}
		q, err := agent.OpenQuarantine(h.dir)
		if err != nil {
			t.Fatal(err)
		}
		var p *client.Problem
		if _, err := q.Drop(t.Context(), "e:4", "alice", ""); !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity {
			t.Error(err)
		}
		if _, err := q.Retry(t.Context(), "4", "alice"); err == nil || !strings.Contains(err.Error(), "e:4 or f:4") {
			t.Error(err)
		}
		if _, err := q.Retry(t.Context(), "e:4", "alice"); err != nil {
			t.Error(err)
		}
		if got, err := q.Drop(t.Context(), "4", "alice", "a test"); err != nil || got.Epoch != "f" {
			t.Errorf("%+v, %v", got, err)
		}
		if list, _, err := client.ReadQuarantine(h.dir); len(list) > 0 || err != nil {
			t.Errorf("%+v, %v", list, err)
		}
		if err := errors.Join(q.Close(), withdraw()); err != nil {
			t.Error(err)
		}
	}
}

// listening stands in for a listener of which only the address counts.
type listening struct{ url string }

func (l listening) Addr() net.Addr {
	if path, ok := strings.CutPrefix(l.url, "unix:"); ok {
		return &net.UnixAddr{Name: path, Net: "unix"}
	}
	return address(strings.TrimPrefix(l.url, "http://"))
}
func (l listening) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (l listening) Close() error              { return nil }

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }
