package finding_test

import (
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/trail"
)

// FuzzInspectorEnduresAnyEvent has two events of any kind, of one incident, looked
// through: what anybody records must not keep the server from looking, or end it.
func FuzzInspectorEnduresAnyEvent(f *testing.F) {
	f.Add("ApprovalGranted", "jane", "approval", "f", uint8(0), `{"plan":"p","approvers":", ,","requiredApprovers":"-1"}`, int64(0))
	f.Add("RemediationFailed", "", "plan", "", uint8(1), `{"plan":{"a":[1,null]}}`, int64(1)<<40)
	f.Add("FindingOpened", "graven", "x", "", uint8(2), `{"rule":7}`, int64(-5))
	f.Add("AuditVerified", "x", "", "\x1b[2J", uint8(3), `{"valid":"false","findings":[]}`, int64(3))
	f.Fuzz(func(t *testing.T, eventType, actor, name, fact string, source uint8, details string, seconds int64) {
		sources := []string{event.AttributionAdmission, event.AttributionObserved, event.AttributionAsserted, event.AttributionAuthenticated}
		var l entries
		for i, incident := range []string{"inc", "inc"} {
			e := &event.Event{ID: event.DeriveID(eventType, string(rune(i))), EventType: eventType, Timestamp: day.Add(time.Duration(seconds%1e6) * time.Second), Fact: fact,
				Actor: event.Actor{Type: event.ActorUser, Name: actor}, Resource: event.Resource{Kind: "K", Namespace: "n", Name: name}, CorrelationID: incident}
			if e.SetDetails([]byte(details)) != nil {
				return
			}
			e.Complete(day)
			if e.Validate(day) != nil {
				return // which the ledger does not take
			}
			e.Recorded = event.Recorded{At: day, Principal: "p", Attribution: sources[int(source)%len(sources)]}
			l = append(l, trail.Record{Index: int64(i), Entry: e.AppendEntry(nil, e.Digests(event.Salt{})), Erasable: e.AppendErasable(nil)})
		}
		x := finding.NewInspector(l, "test", nil)
		for i := range l {
			found, err := x.Inspect(t.Context(), &l[i])
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range found {
				e.Complete(day)
				if err := e.Validate(day.Add(100 * 365 * 24 * time.Hour)); err != nil {
					t.Errorf("a finding that the ledger does not take: %v", err)
				}
			}
		}
	})
}
