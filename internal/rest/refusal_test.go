package rest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/rest"
)

func TestEveryRefusalIsRecorded(t *testing.T) {
	d := open(t)
	team := d.token(access.Token{Name: "team", Role: access.Superadmin, Namespaces: []string{"payments"}})
	for _, tt := range []struct {
		name string
		call func() *answer
		want string
	}{
		{"a superadmin's token", func() *answer { return d.as("admin").post("/api/v1/tokens", `{"name":"boss","role":"superadmin"}`) },
			"admin tokens of the role superadmin POST /api/v1/tokens"},
		{"a token that attests", func() *answer {
			return d.as("admin").post("/api/v1/tokens", `{"name":"webhook","role":"recorder","attests":true}`)
		}, "admin tokens of the role recorder with attests POST /api/v1/tokens"},
		{"the superadmin's end", func() *answer { return d.as("admin").do(http.MethodDelete, "/api/v1/tokens/superadmin", nil) },
			"admin tokens of the role superadmin DELETE /api/v1/tokens/{name}"},
		{"who read what", func() *answer { return d.as("viewer").get("/api/v1/audit?access=true") }, "viewer access GET /api/v1/audit"},
		{"all tokens", func() *answer { return team.get("/api/v1/tokens") }, "team all namespaces GET /api/v1/tokens"},
		{"the whole ledger", func() *answer { return team.get("/api/v1/audit/verify") }, "team all namespaces GET /api/v1/audit/verify"},
	} {
		before := len(d.recorded("PermissionDenied"))
		tt.call().problem(http.StatusForbidden, "", "")
		if acts := d.acts("PermissionDenied", "permission", "route"); len(acts) != before+1 || acts[before] != tt.want {
			t.Errorf("%s: recorded %q, want %q", tt.name, acts[before:], tt.want)
		}
	}
	d.as("superadmin").post("/api/v1/tokens", `{"name":"webhook","role":"recorder","attests":true}`).want(http.StatusCreated)
}

func TestAPrincipalTakesAQuarterOfTheExportsAndStreams(t *testing.T) {
	d := open(t, configured(func(c *rest.Config) { c.MaxExports = 8 }))
	first := d.stream(t, d.as("viewer"), "", "")
	d.stream(t, d.as("viewer"), "", "")
	d.as("viewer").get("/api/v1/audit/export").problem(http.StatusServiceUnavailable, "", "busy")
	d.as("auditor").get("/api/v1/audit/export").want(http.StatusOK)
	d.await("/api/v1/audit/export")
	d.await("/api/v1/audit/export")
	first.cancel()
	d.await("/api/v1/audit/stream")
	d.as("viewer").get("/api/v1/audit/export").want(http.StatusOK)
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	d := open(t)
	s := d.stream(t, d.as("viewer"), "", "")
	d.as("recorder").record(sample(0))
	s.until(1)
	d.as("admin").do(http.MethodDelete, "/api/v1/tokens/viewer", nil).want(http.StatusNoContent)
	d.as("recorder").record(sample(1))
	rest, err := io.ReadAll(s.r)
	if err != nil || strings.Contains(string(rest), sample(1).ID.String()) {
		t.Errorf("after its token was revoked: %v\n%s", err, rest)
	}
}

// TestWhoLostAQuietStreamMissesNothing reads the id that a stream begins with.
func TestWhoLostAQuietStreamMissesNothing(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	s := d.stream(t, d.as("viewer"), "", "")
	line, err := s.r.ReadString('\n')
	id, ok := strings.CutPrefix(strings.TrimSpace(line), "id: ")
	if err != nil || !ok {
		t.Fatalf("it begins with %q, %v", line, err)
	}
	s.cancel()
	d.as("recorder").record(sample(3))
	again := d.stream(t, d.as("viewer"), "", id)
	if e := again.until(1)[0]; e.event.ID != sample(3).ID {
		t.Errorf("it goes on with event %d", e.index)
	}
}

// TestABacklogEndsWithItsToken revokes a token while a stream tells of the past,
// which takes longer than the check's interval.
func TestABacklogEndsWithItsToken(t *testing.T) {
	d := open(t, echoes(1<<40))
	d.as("recorder").record(sample(0))
	s := d.stream(t, d.as("viewer"), "?last_event_id=-1", "")
	d.as("admin").do(http.MethodDelete, "/api/v1/tokens/viewer", nil).want(http.StatusNoContent)
	if _, err := io.Copy(io.Discard, s.r); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestOnlyWhatJSONTakesForWhiteSpaceIsPassedOver(t *testing.T) {
	d := open(t)
	one := string(sample(0).AppendJSON(nil))
	for _, tt := range []struct{ kind, body string }{
		{"application/json", "[\x0b" + one + "\u00a0]"}, {"application/x-ndjson", "\x0b" + one + "\u00a0\n"},
	} {
		if got := batchOf(d.as("recorder").post("/api/v1/audit/events/batch", tt.body, "Content-Type", tt.kind), http.StatusMultiStatus); got.Accepted != 0 || got.Rejected != 1 {
			t.Errorf("%s: %+v", tt.kind, got)
		}
	}
}

func TestAStreamEndsAtItsLimit(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 9)...)
	s := d.stream(t, d.as("viewer"), "?limit=4&last_event_id=-1", "")
	s.until(4)
	if rest, err := io.ReadAll(s.r); err != nil || len(rest) > 0 {
		t.Errorf("behind its limit: %q, %v", rest, err)
	}
}

func TestAListOfTooManyItemsCostsNoMemory(t *testing.T) {
	d := open(t)
	items := strings.Repeat("{},", rest.MaxItems) + "{}"
	d.unchanged(func() {
		for path, body := range map[string]string{
			"/api/v1/ingest/kube-audit":  `{"items":[` + items + `],"kind":"EventList","apiVersion":"audit.k8s.io/v1"}`,
			"/api/v1/audit/events/batch": "[" + items + "]",
		} {
			d.as("recorder").post(path, body).problem(http.StatusRequestEntityTooLarge, "body", "too-many")
		}
	})
}

func TestWhoSeesSomeNamespacesIsToldSo(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 12)...)
	team := d.token(access.Token{Name: "team", Role: access.Viewer, Namespaces: []string{"payments"}})
	var got, all struct {
		Total      int
		Namespaces []string
		Missing    []any
	}
	team.get("/api/v1/audit/incidents/inc-0").want(http.StatusOK).into(&got)
	d.as("viewer").get("/api/v1/audit/incidents/inc-0").want(http.StatusOK).into(&all)
	if got.Total >= all.Total || len(got.Namespaces) != 1 || len(got.Missing) > 0 || all.Namespaces != nil {
		t.Errorf("%+v of %+v", got, all)
	}
	var verdict struct{ Namespaces []string }
	team.post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`).want(http.StatusOK).into(&verdict)
	if len(verdict.Namespaces) != 1 {
		t.Errorf("%+v", verdict)
	}
}
