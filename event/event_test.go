package event_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// full is an event with every member that a caller may send.
const full = `{"id":"019310a2-7a3c-7000-8000-000000000001","name":"audit-1710858600-a7f3b2","eventType":"RemediationExecuted","timestamp":"2026-03-19T14:30:00.123Z",
	"actor":{"type":"controller","name":"remediation-reconciler","serviceAccount":"chatcli-operator","controller":"remediation-controller"},
	"resource":{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"RemediationPlan","namespace":"production","name":"plan-1","uid":"83f83ee1"},
	"category":"remediation","action":"executed","outcome":"success","severity":"high","correlationID":"inc-8f2a4b","parentID":"019310a2-7a3c-7000-8000-000000000002",
	"cluster":"eu-1","fact":"83f83ee1/Executing/1","details":{"target":"deployment/api","action":"Rollback"},"durationMs":12000,"error":{"code":"E1","message":"it broke"},
	"retentionDays":90,"sensitive":true,"source":{"epoch":"8RZ3K5V6","name":"operator-0","seq":4711},"original":{"severity":"error"}}`

// minimal is what a caller must send, and no more.
const minimal = `{"eventType":"IssueCreated","timestamp":"2026-03-19T14:30:00Z","actor":{"type":"user","name":"alice"},"resource":{"kind":"Issue"}}`

func parse(t testing.TB, doc string) *event.Event {
	t.Helper()
	e, err := event.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// complete does with doc what a server does before it records it.
func complete(t testing.TB, doc string) *event.Event {
	t.Helper()
	e := parse(t, doc)
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		t.Fatal(err)
	}
	return e
}

// with returns doc with the member at path, as in "actor.name", set to a JSON text.
func with(t testing.TB, doc, path, text string) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(doc), &m); err != nil {
		t.Fatal(err)
	}
	name, rest, nested := strings.Cut(path, ".")
	if nested {
		inner := string(m[name])
		if inner == "" {
			inner = "{}"
		}
		text = with(t, inner, rest, text)
	}
	m[name] = json.RawMessage(text)
	names := make([]string, 0, len(m))
	for n, v := range m { // json.Marshal would refuse the malformed texts that tests need
		quoted, _ := json.Marshal(n)
		names = append(names, string(quoted)+":"+string(v))
	}
	return "{" + strings.Join(names, ",") + "}"
}

// fails checks that err is about field, and says want.
func fails(t *testing.T, err error, field, want string) {
	t.Helper()
	var one *event.FieldError
	if !errors.As(err, &one) {
		t.Fatalf("got %v, want a fault in %s", err, field)
	}
	if one.Field != field || !strings.Contains(one.Reason, want) {
		t.Errorf("got %s: %s\nwant %s: %s", one.Field, one.Reason, field, want)
	}
}

func TestAnEventComesBackFromItsJSON(t *testing.T) {
	for name, doc := range map[string]string{"with every member": full, "with few": minimal} {
		t.Run(name, func(t *testing.T) {
			e := complete(t, doc)
			e.Recorded = event.Recorded{At: now.Add(7), Principal: "system:serviceaccount:a:b", Via: "tokenreview", Attribution: event.AttributionAsserted, Uncatalogued: true}
			e.Ledger = json.RawMessage(`{"key":"k"}`)
			text := e.AppendJSON(nil)
			back, err := event.ParseServed(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := back.AppendJSON(nil); string(got) != string(text) {
				t.Errorf("went %s\ncame %s", text, got)
			}
			salt := event.Salt{1, 2, 3}
			if d := back.Digests(salt); !d.Equal(e.Digests(salt)) {
				t.Error("other digests")
			}
			viaJSON, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var unmarshalled event.Event
			if err := json.Unmarshal(viaJSON, &unmarshalled); err != nil {
				t.Fatal(err)
			}
			if got := unmarshalled.AppendJSON(nil); string(got) != string(text) {
				t.Errorf("encoding/json gives %s", got)
			}
		})
	}
}

func TestMembersThatReadersExpectAreAlwaysThere(t *testing.T) {
	e := &event.Event{}
	const want = `{"name":"","eventType":"","actor":{"type":"","name":""},"resource":{"kind":"","name":"","namespace":""},"details":{},"correlationID":"","severity":""}`
	if got := string(e.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestACloneMayBeChanged(t *testing.T) {
	e := complete(t, full)
	before := string(e.AppendJSON(nil))
	c := e.Clone()
	c.Original["severity"] = "changed"
	c.Actor.Name = "changed"
	if err := c.SetDetails(map[string]int{"changed": 1}); err != nil {
		t.Fatal(err)
	}
	if after := string(e.AppendJSON(nil)); after != before {
		t.Errorf("was %s\nis  %s", before, after)
	}
	if c := (&event.Event{}).Clone(); c.Original != nil {
		t.Error("a clone has an Original that the event has not")
	}
}

func TestDetailsAreSetInCanonicalForm(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    any
		want string
		err  string
	}{
		{"a map", map[string]any{"b": 1.50, "a": "<é>"}, `{"a":"<é>","b":1.5}`, ""},
		{"a struct", struct {
			B int `json:"b"`
			A []string
		}{7, nil}, `{"A":null,"b":7}`, ""},
		{"JSON text", json.RawMessage(` {"b":1, "a":2} `), `{"a":2,"b":1}`, ""},
		{"JSON text as bytes", []byte(`{"b":1,"a":2}`), `{"a":2,"b":1}`, ""},
		{"nothing", map[string]int{}, ``, ""},
		{"a list", []int{1}, ``, "details: expected an object, found an array"},
		{"nil", nil, ``, "details: expected an object, found null"},
		{"no text", json.RawMessage(nil), ``, "details: expected an object, found the end"},
		{"two objects", json.RawMessage(`{}{}`), ``, "details: unexpected an object after the end"},
		{"a member that stands twice", json.RawMessage(`{"a":{"b":1,"b":2}}`), ``, "details.a.b: member stands twice"},
		{"what JSON cannot say", func() {}, ``, "details: json: unsupported type"},
		{"an integer that would lose digits", map[string]uint64{"n": 1<<63 + 1}, ``, "details.n: a float64 cannot hold the integer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var e event.Event
			err := e.SetDetails(tt.v)
			switch {
			case tt.err != "":
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case string(e.Details) != tt.want:
				t.Errorf("got %s, want %s", e.Details, tt.want)
			}
		})
	}
}
