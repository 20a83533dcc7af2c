package narrative_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/narrative"
)

// TestAsManyEventsAsAnIncidentMayHaveAreToldAtOnce: each held against all others would
// take minutes.
func TestAsManyEventsAsAnIncidentMayHaveAreToldAtOnce(t *testing.T) {
	types := []string{"IssueResolved", "IssueContained", "RemediationExecuted", "AIInsightCompleted", "ApprovalRequested", "ApprovalGranted", "orchestrator.approval.approved", "IssueCreated"}
	for _, name := range types {
		var told []fact.Telling
		for i := range 10_000 {
			e := &event.Event{ID: event.DeriveID("many", fmt.Sprint(i)), EventType: name, Timestamp: at.Add(time.Duration(i) * time.Millisecond), CorrelationID: "i",
				Resource: event.Resource{Kind: "Issue", Namespace: "production", Name: fmt.Sprint("n", i)}, Actor: event.Actor{Type: event.ActorUser, Name: "u"}}
			if err := e.SetDetails(details{"action": "x", "plan": fmt.Sprint("p", i), "decision": "Approved"}); err != nil {
				t.Fatal(err)
			}
			told = append(told, fact.Telling{Index: int64(i), Event: e})
		}
		began := time.Now()
		s := narrative.New("i", told, nil)
		s.Text()
		s.Markdown()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
	}
}
