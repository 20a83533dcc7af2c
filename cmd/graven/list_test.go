package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

const servedEvent = `{"id":"019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11","name":"audit-1-aaaaaa","eventType":"IssueCreated","timestamp":"2026-03-19T14:29:00Z","actor":{"type":"user","name":"j"},"resource":{"kind":"Issue"},"index":42}`

func TestATailMissesNothingWhileItReconnects(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var from []string // of each request, where it asks to go on
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from = append(from, r.URL.Query().Get("last_event_id"))
		switch len(from) {
		case 1: // lost before there was an event
			fmt.Fprint(w, "id: 41\n: graven\n\n")
		case 2: // lost within an event
			fmt.Fprint(w, "id: 41\n: graven\n\nid: 42\nevent: audit\n")
		case 3:
			fmt.Fprintf(w, "id: 41\n: graven\n\nid: 42\nevent: audit\ndata: %s\n\n", servedEvent)
		default:
			cancel()
		}
	}))
	defer server.Close()
	var out bytes.Buffer
	cmd := newTail()
	cmd.SetArgs([]string{"--url", server.URL, "-o", "ndjson"})
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(from, ","); got != ",41,41,42" {
		t.Errorf("it came back to %q", got)
	}
	if out.String() != servedEvent+"\n" {
		t.Errorf("it printed %s", &out)
	}
}

func TestATailWithALimitEndsOverALostConnection(t *testing.T) {
	var limits []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limits = append(limits, r.URL.Query().Get("limit"))
		fmt.Fprintf(w, "id: 41\n: graven\n\nid: 42\nevent: audit\ndata: %s\n\n", servedEvent)
	}))
	defer server.Close()
	var out bytes.Buffer
	cmd := newTail()
	cmd.SetArgs([]string{"--url", server.URL, "-o", "name", "--limit", "2"})
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(limits, ","); got != "2,1" || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("it asked for %s and printed\n%s", got, &out)
	}
}

func TestEveryCommandShowsExamples(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		if c.Example == "" && c.Name() != "help" {
			t.Errorf("%s does not", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}

func TestWhatWasErasedIsSaidBesideTheAnswer(t *testing.T) {
	const erased = `"erasedBelow":{"index":512,"recordedBefore":"2025-01-02T03:04:05Z"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/audit":
			fmt.Fprint(w, `{"total":0,"returned":0,`+erased+`,"events":[]}`)
		case "/api/v1/audit/incidents/inc-1":
			fmt.Fprint(w, `{"correlationID":"inc-1","status":"resolved",`+erased+`,"total":1,"missing":[],"events":[{"event":`+servedEvent+`}]}`)
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, `{"type":"urn:graven:problem:erased","title":"It was erased","status":410,"detail":"entry 7 was erased with all below 512"}`)
		}
	}))
	defer server.Close()
	const says = "graven: the entries below 512, recorded before 2025-01-02T03:04:05Z, were erased and are not in this answer\n"
	for _, tt := range []struct {
		cmd  *cobra.Command
		args []string
		says string
	}{
		{newList(), []string{"-o", "json"}, says},
		{newIncident(), []string{"inc-1"}, says},
	} {
		var out, errs bytes.Buffer
		tt.cmd.SetArgs(append(tt.args, "--url", server.URL))
		tt.cmd.SetOut(&out)
		tt.cmd.SetErr(&errs)
		if err := tt.cmd.ExecuteContext(t.Context()); err != nil || errs.String() != tt.says || out.Len() == 0 {
			t.Errorf("%s: %v, %q, %q", tt.cmd.Name(), err, &out, &errs)
		}
	}
	cmd := newGet()
	cmd.SetArgs([]string{"7", "--url", server.URL})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); err == nil || err.Error() != "It was erased: entry 7 was erased with all below 512 (410)" {
		t.Errorf("got %v", err)
	}
}
