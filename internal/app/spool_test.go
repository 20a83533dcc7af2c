package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/verify"
)

func TestEventsAreKeptWhileTheDatabaseIsAway(t *testing.T) {
	t.Run("on the server's disk", func(t *testing.T) {
		c := config(t)
		c.Spool = app.Spool{Directory: t.TempDir(), Persistent: true}
		keptAndRecorded(t, &c)
		c.Data, c.Store = t.TempDir(), ""
		c.Store, _ = database(t)
		if a, err := try(c); err == nil || !strings.Contains(err.Error(), "it keeps events for the ledger") {
			t.Errorf("a spool of another ledger: %v", err)
			if err == nil {
				a.Stop(t.Context())
			}
		}
	})
	t.Run("in a stream", func(t *testing.T) {
		c := config(t)
		c.DeadLetter = testenv.StartRedis(t).URL()
		keptAndRecorded(t, &c)
	})
}

// keptAndRecorded kills the database of a server and starts it again.
func keptAndRecorded(t *testing.T, c *app.Config) {
	dsn, server := database(t)
	c.Store = dsn
	s := run(t, *c)
	admin := token(t, *c)
	number := 0
	send := func(want int) {
		t.Helper()
		body := strings.Replace(native, "issue-1", fmt.Sprintf("issue-%03d", number), 1)
		number++
		code, answer := s.do(http.MethodPost, "/api/v1/audit/events", admin, body)
		if kept := strings.Contains(answer, `"spooled":true`); code != want || kept != (want == http.StatusAccepted) {
			t.Errorf("event %d: %d %s", number-1, code, answer)
		}
		if want == http.StatusAccepted && (strings.Contains(answer, `"index"`) || strings.Contains(answer, `"checkpoint"`)) {
			t.Errorf("a receipt for what has none: %s", answer)
		}
	}
	send(http.StatusCreated)
	server.Kill()
	for range 20 {
		send(http.StatusAccepted)
	}
	bad := strings.Replace(native, `"kind":"Issue"`, `"kind":""`, 1)
	if code, answer := s.do(http.MethodPost, "/api/v1/audit/events", admin, bad); code != http.StatusBadRequest || !strings.Contains(answer, "resource.kind") {
		t.Errorf("an event that is not valid: %d %s", code, answer)
	}
	batch := "[" + strings.Replace(native, "issue-1", "issue-021", 1) + "," + bad + "]"
	if code, answer := s.do(http.MethodPost, "/api/v1/audit/events/batch", admin, batch); code != http.StatusMultiStatus || !strings.Contains(answer, `"spooled":1`) {
		t.Errorf("a batch: %d %s", code, answer)
	}
	number++
	server.Start()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, metrics := s.do(http.MethodGet, "/metrics", admin, ""); strings.Contains(metrics, "graven_spool_events 0\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what was kept is not recorded")
		}
	}
	send(http.StatusCreated)
	_, list := s.do(http.MethodGet, "/api/v1/audit?type=IssueCreated&order=asc", admin, "")
	last := -1
	for n := range number {
		at := strings.Index(list, fmt.Sprintf("issue-%03d", n))
		if at <= last {
			t.Errorf("event %d is not there, or not in its place", n)
		}
		last = at
	}
	if err := s.halt(); err != nil {
		t.Error(err)
	}
	if report, err := app.VerifyStore(t.Context(), c.Store, verify.Options{}); err != nil || !report.OK() {
		t.Errorf("%+v, %v", report, err)
	}
}
