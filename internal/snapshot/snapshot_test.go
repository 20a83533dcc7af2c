package snapshot_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/snapshot"
)

var at = time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)

func telling(t *testing.T, index int64, details map[string]any) fact.Telling {
	t.Helper()
	e := &event.Event{EventType: fact.Snapshot, Timestamp: at.Add(time.Duration(index) * time.Second), Cluster: "c",
		Resource: event.Resource{APIVersion: "v1", Kind: "Thing", Namespace: "ns", Name: "t", UID: "u"}}
	if err := e.SetDetails(details); err != nil {
		t.Fatal(err)
	}
	return fact.Telling{Index: index, Event: e}
}

func TestAStateIsPutTogetherFromItsParts(t *testing.T) {
	object := map[string]any{"kind": "Thing", "metadata": map[string]any{"resourceVersion": "7"}, "spec": map[string]any{"n": 12345678901234567, "s": "<&>"}}
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	digest := capture.Digest(object)
	part := func(index int64, n, of int, piece []byte) fact.Telling {
		return telling(t, index, map[string]any{"resourceVersion": "7", "object": string(piece), "digest": digest, "part": n, "parts": of})
	}
	whole, broken := snapshot.Assemble([]fact.Telling{part(3, 2, 2, text[10:]), part(4, 1, 2, text[:10]), part(5, 1, 2, text[:10])})
	if len(whole) != 1 || len(broken) != 0 {
		t.Fatalf("%d whole, %+v", len(whole), broken)
	}
	read, err := whole[0].Read()
	if err != nil {
		t.Fatal(err)
	}
	if s := whole[0]; snapshot.Text(read, "spec", "n") != "12345678901234567" || s.Version != "7" || s.Index() != 4 || !s.At.Equal(at.Add(3*time.Second)) {
		t.Errorf("%+v", s)
	}
	for name, tt := range map[string]struct {
		given []fact.Telling
		want  string
	}{
		"a part is missing":    {[]fact.Telling{part(1, 2, 2, text[10:])}, "part 1 of 2 is not there"},
		"it was erased":        {[]fact.Telling{{Index: 1, Event: part(1, 1, 1, text).Event, Erased: true}}, "erased"},
		"it was changed":       {[]fact.Telling{part(1, 1, 1, []byte(strings.Replace(string(text), "12", "13", 1)))}, "digest"},
		"it is not JSON":       {[]fact.Telling{part(1, 1, 1, text[:10])}, "not JSON"},
		"it is something else": {[]fact.Telling{telling(t, 1, map[string]any{"object": 7})}, "not those of a snapshot"},
	} {
		whole, broken := snapshot.Assemble(tt.given)
		for i := range whole {
			if _, err := whole[i].Read(); err != nil {
				broken = append(broken, whole[i].Broken(err))
			}
		}
		if len(broken) != 1 || !strings.Contains(broken[0].Reason, tt.want) {
			t.Errorf("%s: %+v", name, broken)
		}
	}
}
