package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/backup"
)

func TestAServerVerifiesThePredecessorThatItKeeps(t *testing.T) {
	old := config(t)
	if err := run(t, old).halt(); err != nil {
		t.Fatal(err)
	}
	c := config(t)
	c.Data = filepath.Join(t.TempDir(), "successor")
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Backup: old.Data, Dir: c.Data,
		Found: app.Successor(t.Context(), "successor.example/2", "test")}); err != nil {
		t.Fatal(err)
	}
	s := run(t, c)
	secret := token(t, c)
	if status, answer := s.do(http.MethodGet, "/api/v1/audit/verify", secret, ""); status != http.StatusOK || !strings.Contains(answer, "predecessor is that ledger") {
		t.Errorf("%d %s", status, answer)
	}
	segments, err := filepath.Glob(filepath.Join(c.Data, "predecessor", "log", "*.seg"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	data[300] ^= 1
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	status, answer := s.do(http.MethodGet, "/api/v1/audit/verify", secret, "")
	if status != http.StatusOK || !strings.Contains(answer, `"ok":false`) || !strings.Contains(answer, "of the predecessor") {
		t.Errorf("%d %s", status, answer)
	}
	if strings.Contains(answer, c.Data) {
		t.Errorf("it tells a path of this machine: %s", answer)
	}
	if err := os.RemoveAll(filepath.Join(c.Data, "predecessor")); err != nil {
		t.Fatal(err)
	}
	if _, answer := s.do(http.MethodGet, "/api/v1/audit/verify", secret, ""); !strings.Contains(answer, "not kept in predecessor") {
		t.Errorf("%s", answer)
	}
}
