package remote_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/graven-audit/graven/verify/remote"
)

func TestAFetchIsTriedAgainAndBounded(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := tries.Add(1)
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "flaky") && n < 3:
			w.WriteHeader([]int{0, http.StatusServiceUnavailable, http.StatusTooManyRequests}[n])
		case strings.HasSuffix(r.URL.Path, "down"):
			w.WriteHeader(http.StatusBadGateway)
		case strings.HasSuffix(r.URL.Path, "huge"):
			for range 20 {
				w.Write(make([]byte, 1<<20))
			}
		}
	}))
	defer server.Close()
	tests := []struct {
		path, token, want string
		tries             int32
	}{
		{"flaky", "secret", "", 3},
		{"down", "secret", "502", 6},
		{"huge", "secret", "more than", 1},
		{"any", "other", "needs a token", 1},
	}
	for _, tt := range tests {
		tries.Store(0)
		h := remote.Log{URL: server.URL, Token: tt.token, Pause: time.Microsecond}
		_, err := h.Fetch(context.Background(), tt.path)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || tries.Load() != tt.tries {
			t.Errorf("%s: %v after %d tries", tt.path, err, tries.Load())
		}
	}
}

func TestAFileThatIsNotThereIsSaidNotToBe(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	l := remote.Log{URL: server.URL + "/log/"}
	if _, err := l.Fetch(t.Context(), "tile/0/000"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/log/tile/0/000") {
		t.Error(err)
	}
}

func TestAFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		cancel()
	}))
	defer server.Close()
	l := remote.Log{URL: server.URL, Pause: time.Hour}
	if _, err := l.Fetch(ctx, "checkpoint"); err == nil {
		t.Error("no error")
	}
}
