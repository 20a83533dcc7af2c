package observer

import (
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
)

func TestAnAPIServerWhoseClockIsAheadIsRecordedAllTheSame(t *testing.T) {
	policy := capture.Policy{Name: "issues", At: capture.Watch, Match: capture.Match{Resources: []capture.Resource{issues}, Operations: []string{"CREATE"}},
		Records: []capture.Record{
			{Event: map[string]string{"eventType": "'IssueCreated'", "fact": "object.metadata.uid + '/IssueCreated'", "correlationID": "'i'"}},
			{Event: map[string]string{"eventType": "object.missing[3]", "fact": "'x'", "correlationID": "'i'"}},
		}}
	program, err := capture.Compile(policy)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 19, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		ahead time.Duration
		want  string
	}{
		{-24 * time.Hour, "2026-03-18T12:00:00Z"},
		{30 * time.Minute, "2026-03-19T12:30:00Z"},
		{2 * time.Hour, "2026-03-19T12:00:00Z, which was 2026-03-19T14:00:00Z"},
		{20 * 365 * 24 * time.Hour, "2026-03-19T12:00:00Z, which was 2046-03-14T12:00:00Z"},
	} {
		j := &judge{kind: issues, programs: []*capture.Program{program}, now: func() time.Time { return now }, count: func(string, int) {}, failed: func(string, error) {}}
		told, err := j.judge(t.Context(), &change{uid: "u", version: "1", at: now.Add(test.ahead), now: object{"apiVersion": "platform.chatcli.io/v1alpha1", "kind": "Issue", "metadata": map[string]any{"uid": "u", "name": "i"}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		types := map[string]bool{}
		for _, e := range told.events {
			types[e.EventType] = true
			if err := e.Validate(now); err != nil {
				t.Errorf("%v ahead, %s: %v", test.ahead, e.EventType, err)
			}
			got := event.FormatTime(e.Timestamp)
			if was := e.Original["timestamp"]; was != "" {
				got += ", which was " + was
			}
			if got != test.want {
				t.Errorf("%v ahead, %s: %s, want %s", test.ahead, e.EventType, got, test.want)
			}
		}
		if !types["IssueCreated"] || !types["CaptureFailed"] || !types["ResourceSnapshot"] {
			t.Errorf("%v ahead: %v", test.ahead, types)
		}
	}
}
