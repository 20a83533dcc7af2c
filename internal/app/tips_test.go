package app_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/verify/remote"
)

// TestAServersTipIsItsNewestCheckpoint: the one that witnesses have signed may
// be any older one, and a server that records nothing knows of nothing newer.
func TestAServersTipIsItsNewestCheckpoint(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	state := `{"status":"ready","size":7}`
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, state) })
	mux.HandleFunc("GET /log/checkpoint", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "asked with "+r.URL.RawQuery) })
	server := httptest.NewServer(mux)
	defer server.Close()
	tips := app.Tips{Backup: t.TempDir(), Given: []string{server.URL}, Warn: func(text string) { t.Log(text) },
		Log: func(address string) (*remote.Log, error) { return &remote.Log{URL: address + "/log"}, nil }}
	found, err := tips.Find(t.Context())
	if err != nil || len(found) != 1 || string(found[0].Note) != "asked with newest=true" || found[0].Dir != "" {
		t.Errorf("%+v, %v", found, err)
	}
	state = `{"status":"ready","size":7,"readOnly":true}`
	if _, err := tips.Find(t.Context()); err == nil || !strings.Contains(err.Error(), "records nothing") {
		t.Errorf("of one that is only read: %v", err)
	}
}
