package reconstruct_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/demo"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/reconstruct"
	"github.com/graven-audit/graven/internal/snapshot"
)

var update = flag.Bool("update", false, "write the golden files anew")

var at = time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)

type details = map[string]any

type trail struct {
	t    *testing.T
	told []fact.Telling
}

// tell adds an event so many seconds after the beginning.
func (l *trail) tell(second int, eventType, resource, by string, d details) *event.Event {
	l.t.Helper()
	e := &event.Event{ID: event.DeriveID("test", eventType, resource, string(rune('a'+len(l.told)))), EventType: eventType, Timestamp: at.Add(time.Duration(second) * time.Second), CorrelationID: "rr-1", Cluster: "eu"}
	e.Actor = event.Actor{Type: event.ActorController, Name: "c"}
	e.Resource.Namespace = "production"
	e.Resource.Kind, e.Resource.Name, _ = strings.Cut(resource, "/")
	if err := e.SetDetails(d); err != nil {
		l.t.Fatal(err)
	}
	e.Complete(e.Timestamp)
	e.Recorded.Attribution = by
	l.told = append(l.told, fact.Telling{Index: int64(100 + len(l.told)), Event: e})
	return e
}

func (l *trail) state(second int, resource string, object details) {
	l.t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		l.t.Fatal(err)
	}
	l.tell(second, fact.Snapshot, resource, event.AttributionObserved, details{"resourceVersion": "7", "object": string(text), "digest": capture.Digest(object)})
}

const observed, asserted, admission = event.AttributionObserved, event.AttributionAsserted, event.AttributionAdmission

var fingerprint = strings.Repeat("ab", 32)

// request is the life of a remediation request as Kubernaut's services tell it.
func request(t *testing.T) *trail {
	l := &trail{t: t}
	l.tell(0, "gateway.signal.received", "Signal/KubePodCrashLooping", asserted, details{"signal_name": "KubePodCrashLooping", "signal_type": "prometheus-alert", "severity": "critical", "fingerprint": fingerprint,
		"resource_kind": "Deployment", "resource_name": "cart", "namespace": "production", "signal_labels": details{"alertname": "KubePodCrashLooping"}, "signal_annotations": details{"summary": "cart restarts"},
		"original_payload": `{"alerts":[{"startsAt":"2026-03-19T14:25:00Z"}]}`})
	l.tell(1, "orchestrator.lifecycle.created", "RemediationRequest/rr-1", asserted, details{"rr_name": "rr-1", "namespace": "production", "timeout_config": details{"global": "1h", "analyzing": "10m"}})
	l.tell(2, "orchestrator.lifecycle.transitioned", "RemediationRequest/rr-1", asserted, details{"rr_name": "rr-1", "from_phase": "Pending", "to_phase": "Analyzing"})
	l.tell(3, "aianalysis.analysis.completed", "AIAnalysis/ai-rr-1", asserted, details{"provider_response_summary": "rollback", "confidence": 0.93})
	l.tell(4, "orchestrator.approval.requested", "RemediationApprovalRequest/rar-rr-1", asserted, details{"rar_name": "rar-rr-1", "rr_name": "rr-1", "workflow_id": "rollback-v2", "confidence": 0.93, "required_by": "2026-03-19T14:45:00Z"})
	asked := l.tell(60, "webhook.remediationapprovalrequest.decided", "RemediationApprovalRequest/rar-rr-1", admission, details{"intent": "admission", "request_name": "rar-rr-1", "decision": "Approved", "decision_message": "seen in staging", "ai_analysis_ref": "ai-rr-1"})
	asked.Actor = event.Actor{Type: event.ActorUser, Name: "alice@example.com"}
	l.tell(61, "IntentConfirmed", "RemediationApprovalRequest/rar-rr-1", observed, details{"intent": asked.ID.String()})
	l.tell(62, "workflowexecution.selection.completed", "WorkflowExecution/we-rr-1", asserted, details{"workflow_id": "rollback-v2", "workflow_version": "2.1.0", "container_image": "ghcr.io/example/rollback@sha256:" + fingerprint})
	l.tell(63, "workflowexecution.execution.started", "WorkflowExecution/we-rr-1", asserted, details{"workflow_id": "rollback-v2"})
	l.tell(64, "orchestrator.lifecycle.transitioned", "RemediationRequest/rr-1", asserted, details{"rr_name": "rr-1", "from_phase": "AwaitingApproval", "to_phase": "Executing"})
	l.tell(120, "orchestrator.lifecycle.transitioned", "RemediationRequest/rr-1", asserted, details{"rr_name": "rr-1", "from_phase": "Executing", "to_phase": "Completed"})
	l.tell(121, "orchestrator.lifecycle.completed", "RemediationRequest/rr-1", asserted, details{"rr_name": "rr-1", "crd_outcome": "Remediated"})
	l.tell(200, "effectiveness.health.assessed", "EffectivenessAssessment/ea-rr-1", asserted, details{"ea_name": "ea-rr-1", "assessed": true, "score": 1.0})
	l.tell(201, "effectiveness.assessment.completed", "EffectivenessAssessment/ea-rr-1", asserted, details{"ea_name": "ea-rr-1", "correlation_id": "rr-1", "reason": "full"})
	return l
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed; go test ./internal/reconstruct -update writes it anew\n%s", name, got)
	}
}

func yaml(t *testing.T, told []fact.Telling, q reconstruct.Question) ([]*reconstruct.Object, []byte) {
	t.Helper()
	objects, _ := reconstruct.Objects(told, &q)
	text, err := reconstruct.YAML(objects)
	if err != nil {
		t.Fatal(err)
	}
	return objects, text
}

func TestResourcesAreBuiltFromWhatIsToldOfThem(t *testing.T) {
	objects, text := yaml(t, request(t).told, reconstruct.Question{})
	golden(t, "kubernaut.yaml", text)
	if rr := objects[0]; rr.Kind != "RemediationRequest" || !rr.Valid || rr.Completeness != 100 || len(rr.Unknown) != 0 {
		t.Errorf("%+v", rr)
	}
	for _, o := range objects {
		for _, f := range o.Fields {
			if f.Index < 100 || f.ID == "" || f.EventType == "" {
				t.Errorf("%s: %+v", o.Kind, f)
			}
		}
	}
	story := demo.Incidents(1)[0]
	var told []fact.Telling
	for i, e := range story.Events {
		e.Complete(at)
		told = append(told, fact.Telling{Index: int64(i), Event: e})
	}
	_, text = yaml(t, told, reconstruct.Question{})
	golden(t, "chatcli.yaml", text)
}

// TestALaterMomentNeverShows goes through all moments of a life, and finds nothing in any
// that came after it.
func TestALaterMomentNeverShows(t *testing.T) {
	l := request(t)
	for _, told := range l.told {
		moment := told.Event.Timestamp
		objects, _ := reconstruct.Objects(l.told, &reconstruct.Question{At: moment})
		for _, o := range objects {
			if o.AsOf > event.FormatTime(moment) {
				t.Errorf("%s at %s is as of %s", o.Kind, moment, o.AsOf)
			}
			for _, f := range o.Fields {
				if l.told[f.Index-100].Event.Timestamp.After(moment) {
					t.Errorf("%s at %s: %s comes from entry %d", o.Kind, moment, f.Path, f.Index)
				}
			}
		}
	}
	objects, _ := reconstruct.Objects(l.told, &reconstruct.Question{At: at.Add(3 * time.Second)})
	if got := snapshot.Text(objects[0].Object, "status", "overallPhase"); got != "Analyzing" || len(objects) != 1 {
		t.Errorf("phase %s of %d objects", got, len(objects))
	}
	objects, _ = reconstruct.Objects(l.told, &reconstruct.Question{At: at.Add(60 * time.Second), Kind: "remediationapprovalrequest"})
	if len(objects) != 1 || snapshot.Text(objects[0].Object, "status", "decision") != "" {
		t.Error("what was only asked for was taken over")
	}
	objects, _ = reconstruct.Objects(l.told, &reconstruct.Question{At: at.Add(61 * time.Second), Kind: "remediationapprovalrequest"})
	if by := snapshot.Text(objects[0].Object, "status", "decidedBy"); by != "alice@example.com" {
		t.Errorf("decided by %q", by)
	}
	if objects, _ := reconstruct.Objects(l.told, &reconstruct.Question{At: at.Add(-time.Second)}); len(objects) != 0 {
		t.Errorf("%d objects before there was any", len(objects))
	}
}

func TestTheNewestStateAtTheMomentCountsAndWhatCameAfterIt(t *testing.T) {
	l := &trail{t: t}
	plan := func(state string) details {
		return details{"apiVersion": "platform.chatcli.io/v1alpha1", "kind": "RemediationPlan",
			"metadata": details{"name": "p", "namespace": "production", "uid": "u", "resourceVersion": "7", "generation": 1, "creationTimestamp": "2026-03-19T14:30:00Z", "finalizers": []any{"x"},
				"ownerReferences": []any{details{"uid": "i"}}, "labels": details{"a": "b"}},
			"spec": details{"issueRef": details{"name": "i"}, "attempt": 1, "strategy": "roll back", "actions": []any{details{"type": "RollbackDeployment"}}}, "status": details{"state": state}}
	}
	l.tell(0, "RemediationPlanned", "RemediationPlan/p", observed, details{"strategy": "other words"})
	l.state(1, "RemediationPlan/p", plan("Pending"))
	l.tell(5, "RemediationExecuted", "RemediationPlan/p", observed, details{"action": "RollbackDeployment"})
	l.state(6, "RemediationPlan/p", plan("Executing"))
	l.tell(9, "RemediationFailed", "RemediationPlan/p", observed, details{"result": "no pods", "rollbackPerformed": true})
	l.tell(20, "ConfigChanged", "RemediationPlan/p", observed, details{"operation": "deleted"})
	for _, tt := range []struct {
		second                 int
		state, strategy, delet string
	}{{0, "Pending", "other words", ""}, {1, "Pending", "roll back", ""}, {5, "Executing", "roll back", ""}, {6, "Executing", "roll back", ""}, {9, "RolledBack", "roll back", ""}, {25, "RolledBack", "roll back", "2026-03-19T14:30:20Z"}} {
		objects, broken := reconstruct.Objects(l.told, &reconstruct.Question{At: at.Add(time.Duration(tt.second) * time.Second)})
		if len(objects) != 1 || len(broken) != 0 {
			t.Fatalf("%d objects, %v", len(objects), broken)
		}
		o := objects[0]
		if state, strategy := snapshot.Text(o.Object, "status", "state"), snapshot.Text(o.Object, "spec", "strategy"); state != tt.state || strategy != tt.strategy || o.Deleted != tt.delet {
			t.Errorf("at %d: %s, %s, deleted %q", tt.second, state, strategy, o.Deleted)
		}
	}
	_, text := yaml(t, l.told, reconstruct.Question{})
	golden(t, "state.yaml", text)
	for _, never := range []string{"finalizers:", "ownerReferences:", "\n  uid:", "\n  resourceVersion:", "generation:"} {
		if strings.Contains(string(text), never) {
			t.Errorf("it has %s", never)
		}
	}
}

func TestWhatIsNotKnownIsNamedWithWhy(t *testing.T) {
	l := request(t)
	told := l.told[1:]
	objects, _ := reconstruct.Objects(told, &reconstruct.Question{Kind: "RemediationRequest"})
	rr := objects[0]
	if rr.Valid || rr.Completeness > 50 || !slices.Contains(rr.Errors, "spec.signalFingerprint is required and not known") || !slices.ContainsFunc(rr.Warnings, func(w string) bool { return strings.HasPrefix(w, "spec.signalName is a placeholder") }) {
		t.Errorf("%d %%: %q, %q", rr.Completeness, rr.Errors, rr.Warnings)
	}
	for _, u := range rr.Unknown {
		if !strings.Contains(u.Why, "no event says it") {
			t.Errorf("%+v", u)
		}
	}
	erased := slices.Clone(l.told)
	e := erased[0].Event.Clone()
	e.Details = nil
	erased[0] = fact.Telling{Index: 100, Event: e, Erased: true}
	objects, _ = reconstruct.Objects(erased, &reconstruct.Question{Kind: "RemediationRequest"})
	if i := slices.IndexFunc(objects[0].Unknown, func(u reconstruct.Unknown) bool { return u.Path == "spec.signalName" }); i < 0 || !strings.Contains(objects[0].Unknown[i].Why, "entry 100") || !strings.Contains(objects[0].Unknown[i].Why, "erased") {
		t.Errorf("%+v", objects[0].Unknown)
	}
	objects, _ = reconstruct.Objects(told, &reconstruct.Question{Kind: "RemediationRequest", Erased: "entries below 100 were erased"})
	if !strings.Contains(objects[0].Unknown[0].Why, "entries below 100 were erased") {
		t.Errorf("%+v", objects[0].Unknown)
	}
}

const evil = "x\n---\napiVersion: v1\nkind: Secret\n# \x1b[2J"

func hostile(t *testing.T) *trail {
	l := &trail{t: t}
	l.tell(0, "IssueCreated", "Issue/i", asserted, details{"severity": evil, "source": 7, "description": evil, "resource": evil, "riskScore": "many"})
	l.tell(1, "AIInsightCompleted", "AIInsight/a", asserted, details{"confidence": "NaN", "suggestedActions": []any{7, details{"x": "y"}}})
	l.tell(2, "orchestrator.lifecycle.created", "RemediationRequest/rr-1", asserted, details{"timeout_config": 7, "severity": evil})
	return l
}

// TestWhatAnyoneSaysBreaksNoObject gives values that the schemas do not take, and text that
// would be more than text.
func TestWhatAnyoneSaysBreaksNoObject(t *testing.T) {
	l := hostile(t)
	l.tell(3, fact.Snapshot, "Issue/j", asserted, details{"object": "{}"})
	l.tell(3, fact.Snapshot, "Issue/k", asserted, details{"object": "[" + evil})
	objects, text := yaml(t, l.told, reconstruct.Question{})
	if n := strings.Count("\n"+string(text), "\n---\n"); n != len(objects)-1 {
		t.Errorf("%d documents for %d objects\n%s", n+1, len(objects), text)
	}
	if strings.Contains(string(text), "\nkind: Secret") || strings.Contains(string(text), "\x1b") {
		t.Errorf("%s", text)
	}
	if i := slices.IndexFunc(objects, func(o *reconstruct.Object) bool { return o.Name == "i" }); i < 0 || snapshot.Text(objects[i].Object, "spec", "severity") != "low" || objects[i].Valid {
		t.Errorf("%+v", objects)
	}
}
