package app_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/quarantine"
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
	for _, name := range []string{"refused-1", "refused-2"} {
		body := strings.Replace(strings.Replace(native, "issue-1", name, 1), "{", `{"id":"019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11",`, 1)
		if code, answer := s.do(http.MethodPost, "/api/v1/audit/events", admin, body); code != http.StatusAccepted {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
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
	seeTo(t, *c)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, told := s.do(http.MethodGet, "/api/v1/audit?type=QuarantineRetried,QuarantineDropped&order=asc", admin, "")
		if strings.Count(told, `"principal":"quarantine"`) == 2 && strings.Count(told, `"reason":"a test"`) == 1 && strings.Count(told, `"eventType":"QuarantineRetried"`) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s", told)
		}
	}
	if err := s.halt(); err != nil {
		t.Error(err)
	}
	if report, err := app.VerifyStore(t.Context(), c.Store, verify.Options{}); err != nil || !report.OK() {
		t.Errorf("%+v, %v", report, err)
	}
}

// seeTo sends what a server has in quarantine again, which is refused again, and
// drops it then, while the server runs.
func seeTo(t *testing.T, c app.Config) {
	file := filepath.Join(t.TempDir(), "graven.yaml")
	text := fmt.Sprintf("data: %s\nstore: %q\n", c.Data, c.Store)
	if c.DeadLetter != "" {
		text += fmt.Sprintf("deadLetter: %q\n", c.DeadLetter)
	} else {
		text += fmt.Sprintf("spool: {directory: %s, persistent: true}\n", c.Spool.Directory)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	place := app.Place{Config: file}
	// only waits until one event is in quarantine, and returns its key.
	only := func(before string) string {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			list, torn, err := place.Quarantined(t.Context())
			if err == nil && torn == 0 && len(list) == 1 && list[0].Key() != before {
				if list[0].Principal != "admin" || !strings.Contains(string(list[0].Event), "refused-2") {
					t.Errorf("%+v", list[0])
				}
				return list[0].Key()
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v, %d, %v", list, torn, err)
			}
		}
	}
	q, err := place.Quarantine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	first := only("")
	if err := q.Out(t.Context(), first, quarantine.Decision{Type: event.TypeRetried, At: time.Now(), By: "oper"}); err != nil {
		t.Fatal(err)
	}
	again := only(first)
	if err := q.Out(t.Context(), again, quarantine.Decision{Type: event.TypeDropped, At: time.Now(), By: "oper", Because: "a test"}); err != nil {
		t.Fatal(err)
	}
	if list, _, err := place.Quarantined(t.Context()); len(list) > 0 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
}
