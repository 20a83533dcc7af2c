package app_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/witness"
)

// witnessed returns a configuration for a new directory with its keys, and a
// witness of its ledger.
func witnessed(t *testing.T) (app.Config, *witness.Witness) {
	t.Helper()
	c := config(t)
	keys, err := keyring.Create(c.Data, "")
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.Open(t.TempDir(), witness.Options{Logs: []note.Verifier{keys.Verifier}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	c.Witnesses = []app.Witness{{URL: server.URL, Key: w.Key().String()}}
	return c, w
}

func TestALedgerIsWitnessedWhileItRunsAndWhenItStarts(t *testing.T) {
	c, w := witnessed(t)
	s := run(t, c)
	secret := token(t, c)
	if status, body := s.do(http.MethodPost, "/api/v1/audit/events", secret, native); status != http.StatusCreated {
		t.Fatal(status, body)
	}
	if err := s.halt(); err != nil {
		t.Fatal(err)
	}
	// The start alone has what was recorded last cosigned, before it serves.
	s = run(t, c)
	status, body := s.do(http.MethodGet, "/log/checkpoint", secret, "")
	by, err := (cosign.Policy{Witnesses: []*cosign.Witness{w.Key()}, Need: 1}).Cosigned([]byte(body))
	if status != http.StatusOK || err != nil || len(by) != 1 {
		t.Errorf("%d %q: %v", status, body, err)
	}
	if status, body := s.do(http.MethodGet, "/metrics", secret, ""); status != http.StatusOK || !strings.Contains(body, "graven_witnessed_size ") || !strings.Contains(body, "graven_witness_refuses{witness=") {
		t.Errorf("%d %s", status, body)
	}
}

func TestALedgerThatWitnessesKnowOtherwiseIsNotOpened(t *testing.T) {
	c, _ := witnessed(t)
	// An older copy, from before the second start.
	if err := run(t, c).halt(); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(older, os.DirFS(c.Data)); err != nil {
		t.Fatal(err)
	}
	if err := run(t, c).halt(); err != nil {
		t.Fatal(err)
	}
	if err := run(t, c).halt(); err != nil {
		t.Fatal(err)
	}
	newest, err := os.ReadFile(filepath.Join(c.Data, cosign.File))
	if err != nil {
		t.Fatal(err)
	}
	c.Data = older
	if _, err := try(c); !errors.Is(err, witness.ErrForked) || !strings.Contains(err.Error(), "it holds") {
		t.Errorf("an older copy is opened: %v", err)
	}
	// With the cosigned checkpoint beside it, no witness need be asked.
	c.Witnesses = nil
	if err := os.WriteFile(filepath.Join(older, cosign.File), newest, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := try(c); !errors.Is(err, witness.ErrForked) || !strings.Contains(err.Error(), "witnesses have cosigned") {
		t.Errorf("an older copy is opened: %v", err)
	}
}
