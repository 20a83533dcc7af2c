package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestALostAnswerRecordsNothingTwice sends events that have no id through a
// proxy that passes the first request on and loses its answer.
func TestALostAnswerRecordsNothingTwice(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	d, err := startDaemon(data, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.stop(syscall.SIGTERM) })
	server, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(server)
	for name, lose := range map[string]func(http.ResponseWriter, *httptest.ResponseRecorder){
		"whole": func(http.ResponseWriter, *httptest.ResponseRecorder) { panic(http.ErrAbortHandler) },
		"half": func(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
			w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
			w.WriteHeader(answer.Code)
			w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
			panic(http.ErrAbortHandler)
		},
		"for a bad gateway": func(w http.ResponseWriter, _ *httptest.ResponseRecorder) { w.WriteHeader(http.StatusBadGateway) },
	} {
		t.Run(name, func(t *testing.T) {
			var posts atomic.Int32
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := httptest.NewRecorder()
				pass.ServeHTTP(answer, r)
				if r.Method == http.MethodPost && posts.Add(1) == 1 {
					lose(w, answer)
					return
				}
				maps.Copy(w.Header(), answer.Header())
				w.WriteHeader(answer.Code)
				w.Write(answer.Body.Bytes())
			}))
			defer proxy.Close()
			namespace := strings.ReplaceAll(name, " ", "-")
			record := exec.Command("graven", "record", "-f", "-", "--url", proxy.URL, "--token-file", filepath.Join(data, "admin.token"))
			record.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir())
			record.Stdin = strings.NewReader(strings.Repeat(`{"eventType":"IssueCreated","timestamp":"2026-03-19T14:30:00Z",`+
				`"actor":{"type":"user","name":"a"},"resource":{"kind":"Issue","namespace":"`+namespace+`"}}`+"\n", 3))
			if out, err := record.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var page struct{ Total int }
			if err := connect(t, data, d.url).Get(t.Context(), "/api/v1/audit", url.Values{"namespace": {namespace}}, &page); err != nil {
				t.Fatal(err)
			}
			if posts.Load() < 2 || page.Total != 3 {
				t.Errorf("%d requests recorded %d events, want 3", posts.Load(), page.Total)
			}
		})
	}
}
