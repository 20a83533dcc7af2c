package brief_test

import (
	"maps"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/brief"
)

func TestABriefIsWhatTheEntrySays(t *testing.T) {
	e, err := event.Parse([]byte(`{"eventType":"RemediationExecuted","timestamp":"2026-03-19T14:30:00.1234Z",
		"actor":{"type":"controller","name":"rem\"edi\\ation é"},"resource":{"kind":"RemediationPlan","namespace":"production","name":"p","uid":"u-1"},
		"correlationID":"inc-8","cluster":"east","fact":"u-1/RemediationExecuted/","durationMs":12000,"source":{"name":"operator-0","seq":4711},
		"details":{"action":"Rollback"}}`))
	if err != nil {
		t.Fatal(err)
	}
	e.Complete(time.Date(2026, 3, 19, 15, 0, 0, 0, time.UTC))
	e.Recorded = event.Recorded{At: time.Date(2026, 3, 19, 15, 0, 0, 5, time.UTC), Principal: "op", Via: "token", Attribution: event.AttributionAsserted}
	var b brief.Event
	if err := b.Read(e.AppendEntry(nil, e.Digests(event.Salt{1}))); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]string{
		"id": {string(b.ID), e.ID.String()}, "type": {string(b.EventType), e.EventType}, "severity": {string(b.Severity), e.Severity},
		"outcome": {string(b.Outcome), e.Outcome}, "actor": {string(b.ActorType) + string(b.ActorName), e.Actor.Type + e.Actor.Name},
		"cluster": {string(b.Cluster), e.Cluster}, "namespace": {string(b.Namespace), e.Resource.Namespace}, "kind": {string(b.Kind), e.Resource.Kind},
		"name": {string(b.Name), e.Resource.Name}, "uid": {string(b.UID), e.Resource.UID}, "correlation": {string(b.CorrelationID), e.CorrelationID},
		"fact": {string(b.Fact), e.Fact}, "time": {string(b.Timestamp), event.FormatTime(e.Timestamp)}, "recorded": {string(b.RecordedAt), event.FormatTime(e.Recorded.At)},
		"by": {string(b.RecordedBy), "op"}, "attribution": {string(b.Attribution), event.AttributionAsserted},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", name, pair[0], pair[1])
		}
	}
	if b.DurationMs != 12000 {
		t.Errorf("it took %d ms", b.DurationMs)
	}
}

func TestDetailsAreReadAsTheyStand(t *testing.T) {
	e := &event.Event{}
	if err := e.SetDetails(map[string]any{"action": "Roll\"back", "n": 3, "list": []string{"}", "a"}, "empty": ""}); err != nil {
		t.Fatal(err)
	}
	e.Error.Message = "because"
	got := map[string]string{}
	if err := brief.Details(e.AppendErasable(nil), func(name, value []byte) { got[string(name)] = string(value) }); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"action": "Roll\"back", "n": "3", "list": `["}","a"]`, "empty": ""}
	if !maps.Equal(got, want) {
		t.Errorf("details are %q, want %q", got, want)
	}
	if err := brief.Details(nil, nil); err != nil {
		t.Errorf("content that was erased: %v", err)
	}
}

func FuzzABriefOfAnyBytesEndsAndDoesNotPanic(f *testing.F) {
	f.Add([]byte(`{"details":{"a":"b","c":[1]},"message":"x"}`))
	f.Add([]byte(`{"actor":{"name":"a","type":"user"},"durationMs":5,"x":[{"y":"\""}],"timestamp":"2026-03-19T14:30:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = brief.Details(data, func(_, _ []byte) {})
		var b brief.Event
		if b.Read(data) != nil {
			return
		}
		got, err := brief.Time(b.Timestamp)
		want, wantErr := event.ParseTime(string(b.Timestamp))
		if (err == nil) != (wantErr == nil) || !got.Equal(want) {
			t.Fatalf("%q is %v, %v; want %v, %v", b.Timestamp, got, err, want, wantErr)
		}
	})
}

func BenchmarkBrief(b *testing.B) {
	e, err := event.Parse([]byte(`{"eventType":"RemediationExecuted","timestamp":"2026-03-19T14:30:00.1234Z",
		"actor":{"type":"controller","name":"remediation"},"resource":{"kind":"RemediationPlan","namespace":"production","name":"p","uid":"u-1"},
		"correlationID":"inc-8","fact":"u-1/RemediationExecuted/","durationMs":12000,"source":{"name":"operator-0","seq":4711},"details":{"action":"Rollback"}}`))
	if err != nil {
		b.Fatal(err)
	}
	e.Complete(time.Now())
	entry := e.AppendEntry(nil, e.Digests(event.Salt{1}))
	b.SetBytes(int64(len(entry)))
	for b.Loop() {
		var short brief.Event
		if err := short.Read(entry); err != nil {
			b.Fatal(err)
		}
	}
}
