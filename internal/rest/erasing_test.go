package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/retention"
)

// openForTwo returns a door at which two must want an erasure.
func openForTwo(t *testing.T) *door {
	t.Helper()
	d := open(t, change{erasing: func(c *erasure.Config) { c.Confirmations = 2 }})
	d.token(access.Token{Name: "another", Role: access.Superadmin})
	return d
}

// eraseByTwo erases an event, by two people.
func (d *door) eraseByTwo(t *testing.T) (asked, confirmed *answer) {
	t.Helper()
	d.as("recorder").record(samples(0, 3)...)
	asked = d.as("superadmin").post("/api/v1/erasures", `{"event":"1","reason":"a secret"}`).want(http.StatusAccepted)
	var a erasure.Answer
	asked.into(&a)
	if a.Erased || a.Request == "" || a.Events != 1 {
		t.Fatalf("%+v", a)
	}
	confirm := "/api/v1/erasures/" + a.Request + "/confirm"
	d.as("superadmin").post(confirm, "").problem(http.StatusForbidden, "", "another person")
	confirmed = d.as("another").post(confirm, "").want(http.StatusOK)
	confirmed.into(&a)
	if !a.Erased || a.Events != 1 || a.First != 1 || a.Last != 1 {
		t.Fatalf("%+v", a)
	}
	d.as("another").post(confirm, "").problem(http.StatusNotFound, "", "no such erasure waits")
	return asked, confirmed
}

func TestWhatWasErasedIsSeenByNobodyAndTheRestIsGood(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 20)...)
	admin := d.as("superadmin")
	id := sample(3).ID.String()
	correlation := sample(3).CorrelationID
	before := string(admin.get("/api/v1/audit/events/" + id).want(http.StatusOK).body)
	if !strings.Contains(before, `"details"`) {
		t.Fatalf("it has no details: %s", before)
	}
	var plan erasure.Answer
	order := `{"correlation_id":"` + correlation + `","reason":"a secret was recorded"}`
	admin.post("/api/v1/erasures/plan", order).want(http.StatusOK).into(&plan)
	if plan.Erased || plan.Events == 0 || plan.Remaining["correlationID"][0] != correlation {
		t.Fatalf("%+v", plan)
	}
	hold := admin.place(`{"correlation_id":"` + correlation + `","reason":"case 1"}`).ID
	admin.post("/api/v1/erasures", order).problem(http.StatusConflict, "", hold)
	admin.do(http.MethodDelete, "/api/v1/audit/legal-hold/"+hold, strings.NewReader(`{"release_reason":"settled"}`)).want(http.StatusOK)
	var done erasure.Answer
	admin.post("/api/v1/erasures", order).want(http.StatusOK).into(&done)
	if !done.Erased || done.Events < plan.Events {
		t.Fatalf("%+v", done)
	}
	for _, path := range []string{"/api/v1/audit/events/" + id, "/api/v1/audit?correlation_id=" + correlation, "/api/v1/audit/events?correlation_id=" + correlation,
		"/api/v1/audit/incidents/" + correlation} {
		text := string(admin.get(path).want(http.StatusOK).body)
		if !strings.Contains(text, correlation) || strings.Contains(text, `"number":3`) {
			t.Errorf("%s: %.600s", path, text)
		}
	}
	var verdict map[string]any
	admin.post("/api/v1/audit/verify-chain", `{"correlation_id":"`+correlation+`"}`).want(http.StatusOK).into(&verdict)
	if verdict["is_valid"] != true {
		t.Errorf("the incident: %v", verdict)
	}
	admin.post("/api/v1/erasures", order).problem(http.StatusNotFound, "", "no event with content")
	for _, query := range []string{"", "?checkpoint=true", "?checkpoint=true&correlation_id=" + correlation, "?correlation_id=" + correlation + "&checkpoint=true&limit=1"} {
		a := admin.get("/api/v1/audit/export" + query).want(http.StatusOK)
		var keys []note.Verifier
		if strings.Contains(query, "checkpoint") {
			keys = append(keys, d.bed.Verifier)
		}
		if r := d.verified(t, a.body, keys...); !r.OK() {
			t.Errorf("the export %q: %+v", query, r.Findings)
		}
	}
	var report map[string]any
	admin.get("/api/v1/audit/verify").want(http.StatusOK).into(&report)
	if report["ok"] != true {
		t.Errorf("the ledger: %v", report)
	}
	if n := len(d.recorded("ContentErased")); n != 1 {
		t.Errorf("%d erasures are recorded", n)
	}
}

func TestARunIsRecordedAndErasesNothingThatIsNotDue(t *testing.T) {
	policies, err := retention.NewPolicies([]retention.Policy{{Name: "all", EntryDays: 1}})
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, change{erasing: func(c *erasure.Config) { c.Policies = policies }})
	d.as("recorder").record(samples(0, 5)...)
	var plan retention.Plan
	d.as("viewer").get("/api/v1/retention/plan").want(http.StatusOK).into(&plan)
	if plan.DetailsCount != 0 || plan.Size < 6 || plan.Stops == nil {
		t.Errorf("%+v", plan)
	}
	var result erasure.Result
	d.as("superadmin").post("/api/v1/retention/run", "").want(http.StatusOK).into(&result)
	if result.Erased != 0 || result.Run == "" || result.Tombstones != 1 {
		t.Errorf("what was recorded today is due, or the run is not recorded: %+v", result)
	}
	scoped := d.token(access.Token{Name: "scoped", Role: access.Superadmin, Namespaces: []string{"production"}})
	scoped.post("/api/v1/retention/run", "").want(http.StatusForbidden)
	scoped.get("/api/v1/retention/plan").want(http.StatusForbidden)
}
