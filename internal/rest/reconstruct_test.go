package rest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/trail"
)

// live tells the life of a remediation request of Kubernaut, and of a plan of which
// capture has kept a state without saying of which incident.
func (d *door) live(id string) {
	d.t.Helper()
	witness := d.token(access.Token{Name: "witness", Role: access.Recorder, Attests: true})
	second := 0
	tell := func(eventType, kind, name, correlationID string, details map[string]any) {
		e := sample(0)
		e.ID, e.EventType, e.CorrelationID, e.Severity = event.ID{}, eventType, correlationID, ""
		e.Timestamp = at.Add(time.Duration(second) * time.Second)
		e.Resource = event.Resource{Kind: kind, Namespace: "production", Name: name}
		if err := e.SetDetails(details); err != nil {
			d.t.Fatal(err)
		}
		by := d.as("recorder")
		if eventType == "ResourceSnapshot" { // which the operator alone tells
			by, e.ID = witness, event.DeriveID(id, eventType).Reserve()
		}
		by.record(e)
		second += 10
	}
	tell("gateway.signal.received", "Signal", "HighMemory", id, map[string]any{"signal_name": "HighMemory", "signal_type": "alert", "severity": "high", "fingerprint": strings.Repeat("ab", 32),
		"resource_kind": "Deployment", "resource_name": "cart", "namespace": "production", "original_payload": `{"startsAt":"2026-03-19T14:00:00Z"}`, "signal_labels": map[string]any{"a": "b"}})
	tell("orchestrator.lifecycle.created", "RemediationRequest", id, id, map[string]any{"rr_name": id, "timeout_config": map[string]any{"global": "1h"}})
	tell("RemediationExecuted", "RemediationPlan", "plan", id, map[string]any{"action": "RestartDeployment"})
	object := map[string]any{"apiVersion": "platform.chatcli.io/v1alpha1", "kind": "RemediationPlan", "metadata": map[string]any{"name": "plan", "namespace": "production"},
		"spec": map[string]any{"issueRef": map[string]any{"name": "i"}, "attempt": 1, "strategy": "from a state"}}
	text, err := json.Marshal(object)
	if err != nil {
		d.t.Fatal(err)
	}
	tell("ResourceSnapshot", "RemediationPlan", "plan", "", map[string]any{"resourceVersion": "7", "object": string(text), "digest": capture.Digest(object)})
	tell("orchestrator.lifecycle.transitioned", "RemediationRequest", id, id, map[string]any{"rr_name": id, "from_phase": "Pending", "to_phase": "Analyzing"})
}

type reconstruction struct {
	YAML        string
	RequestYAML string `json:"remediation_request_yaml"`
	Validation  struct {
		IsValid          bool `json:"is_valid"`
		Completeness     int
		Errors, Warnings []string
	}
	CorrelationID string `json:"correlation_id"`
	At            string
	Verified      struct{ Events int }
	Objects       []struct{ Kind, Name string }
	Fields        []struct {
		Path, Via, ID string
		Index         int64
	}
}

func TestARemediationRequestIsReconstructedInKubernautsForm(t *testing.T) {
	d := open(t)
	d.live("rr-1")
	d.tell("inc-1", "IssueCreated/i")
	d.tell("rr-2", "orchestrator.lifecycle.created/rr-2")
	const path = "/api/v1/audit/remediation-requests/"
	viewer := d.as("viewer")
	var rr reconstruction
	viewer.post(path+"rr-1/reconstruct", "").want(http.StatusOK).into(&rr)
	if !rr.Validation.IsValid || rr.Validation.Completeness < 80 || rr.CorrelationID != "rr-1" || rr.Verified.Events != 5 {
		t.Errorf("%+v", rr)
	}
	for _, want := range []string{"apiVersion: kubernaut.ai/v1alpha1", "kind: RemediationRequest", "signalName: HighMemory", "overallPhase: Analyzing", "firingTime: \"2026-03-19T14:00:00Z\""} {
		if !strings.Contains(rr.RequestYAML, want) {
			t.Errorf("it lacks %s:\n%s", want, rr.RequestYAML)
		}
	}
	for _, f := range rr.Fields {
		if f.ID == "" || f.Path == "" {
			t.Errorf("%+v", f)
		}
	}
	viewer.post(path+"rr-1/reconstruct?at="+url.QueryEscape(event.FormatTime(at.Add(15*time.Second))), "").want(http.StatusOK).into(&rr)
	if strings.Contains(rr.RequestYAML, "Analyzing") || !strings.Contains(rr.RequestYAML, "overallPhase: Pending") {
		t.Errorf("a later phase shows:\n%s", rr.RequestYAML)
	}
	for name, want := range map[string]struct {
		status int
		typ    string
	}{
		"rr-none": {http.StatusNotFound, "audit/correlation-not-found"},
		"inc-1":   {http.StatusBadRequest, "reconstruction/no-parseable-events"},
		"rr-2":    {http.StatusBadRequest, "reconstruction/missing-gateway-event"},
	} {
		if p := viewer.post(path+name+"/reconstruct", "").problem(want.status, "", ""); p.Type != "urn:graven:problem:"+want.typ {
			t.Errorf("%s: %+v", name, p)
		}
	}
	viewer.post(path+"rr-1/reconstruct?at=soon", "").problem(http.StatusBadRequest, "at", "")
	viewer.post(path+"rr-1/reconstruct?kind=Issue", "").problem(http.StatusBadRequest, "kind", "")
	viewer.post(path+strings.Repeat("x", 600)+"/reconstruct", "").problem(http.StatusBadRequest, "correlation_id", "")
}

func TestAnIncidentsResourcesAreReconstructed(t *testing.T) {
	d := open(t)
	d.live("rr-1")
	const path = "/api/v1/audit/incidents/rr-1/reconstruct"
	viewer := d.as("viewer")
	var all reconstruction
	viewer.post(path, "").want(http.StatusOK).into(&all)
	if len(all.Objects) != 2 || !strings.Contains(all.YAML, "strategy: from a state") || all.Verified.Events != 5 {
		t.Errorf("%+v", all)
	}
	for query, want := range map[string]int{"?kind=remediationplan": 1, "?resource=RemediationPlan/production/plan": 1, "?at=2026-03-19": 2} {
		viewer.post(path+query, "").want(http.StatusOK).into(&all)
		if len(all.Objects) != want {
			t.Errorf("%s: %+v", query, all.Objects)
		}
	}
	for query, about := range map[string]string{"?resource=plan": "resource", "?resource=//": "resource", "?kind=": "kind", "?at=never": "at"} {
		viewer.post(path+query, "").problem(http.StatusBadRequest, about, "")
	}
	viewer.post(path+"?at=2026-03-18", "").problem(http.StatusNotFound, "", "nothing of it had happened at 2026-03-18")
	viewer.post(path+"?kind=Issue", "").problem(http.StatusNotFound, "", "no event tells")
	viewer.post("/api/v1/audit/incidents/none/reconstruct", "").problem(http.StatusNotFound, "", "no event has this correlation id")

	const resource = "/api/v1/audit/resources/reconstruct"
	viewer.post(resource+"?resource=RemediationPlan/production/plan", "").want(http.StatusOK).into(&all)
	if len(all.Objects) != 1 || all.Verified.Events != 2 {
		t.Errorf("%+v", all)
	}
	viewer.post(resource, "").problem(http.StatusBadRequest, "resource", "required")
	viewer.post(resource+"?resource=Pod/a/b", "").problem(http.StatusNotFound, "", "")
}

// TestNothingIsMadeOfEventsThatWereChanged has the store give an event with another
// approver, and with other details, than were recorded.
func TestNothingIsMadeOfEventsThatWereChanged(t *testing.T) {
	for name, tamper := range map[string]func(*trail.Record){
		"the entry": func(r *trail.Record) {
			r.Entry = []byte(strings.Replace(string(r.Entry), "orchestrator", "orchestratoR", 1))
		},
		"the details": func(r *trail.Record) { r.Erasable = []byte(strings.Replace(string(r.Erasable), "rr-1", "rr-9", 1)) },
	} {
		d := open(t, change{store: func(s rest.Store) rest.Store { return tamperingStore{s, 2, tamper} }})
		d.live("rr-1")
		for _, path := range []string{"/api/v1/audit/incidents/rr-1/reconstruct", "/api/v1/audit/remediation-requests/rr-1/reconstruct", "/api/v1/audit/resources/reconstruct?resource=RemediationRequest/production/rr-1"} {
			p := d.as("viewer").post(path, "").problem(http.StatusUnprocessableEntity, "entry 2", "do not verify")
			if p.Type != "urn:graven:problem:reconstruction/unprocessable" || len(p.Errors) == 0 || p.Errors[0].Field != "entry 2" {
				t.Errorf("%s, %s: %+v", name, path, p)
			}
		}
	}
}
