package admission_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/admission"
	"github.com/graven-audit/graven/internal/capture"
)

// kept is what was recorded.
type kept struct {
	mu     sync.Mutex
	events []*event.Event
	err    error
}

func (k *kept) RecordMany(_ context.Context, events ...*event.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.events = append(k.events, events...)
	}
	return k.err
}

// types returns those of what was recorded since it was last called.
func (k *kept) types() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var types []string
	for _, e := range k.events {
		types = append(types, e.EventType)
	}
	k.events = nil
	return strings.Join(types, " ")
}

// nodes is a policy about nodes.
func nodes(t *testing.T, policy capture.Policy) *capture.Program {
	t.Helper()
	policy.Name, policy.At = "nodes", capture.Admission
	policy.Match = capture.Match{Resources: []capture.Resource{{Version: "v1", Resource: "nodes"}}, Operations: []string{"UPDATE"}}
	p, err := capture.Compile(policy)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask asks about a node that bears a label, and returns the answer's status, or allowed,
// or why it is not.
func ask(s http.Handler, uid, path, label string) string {
	return askAs(s, `{"username":"jane"}`, uid, path, label)
}

// askAs asks as a user, who is given as JSON.
func askAs(s http.Handler, user, uid, path, label string) string {
	body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":%q,"resource":{"group":"","version":"v1","resource":"nodes"},"name":"n",
		"operation":"UPDATE","userInfo":%s,"object":{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","uid":"u","labels":{"team":%q}}},"oldObject":{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","uid":"u"}}}}`, uid, user, label)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	if w.Code != http.StatusOK {
		return http.StatusText(w.Code)
	}
	var review struct {
		Response struct {
			Allowed bool
			Status  struct{ Message string }
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil {
		return err.Error()
	}
	if review.Response.Allowed {
		return "allowed"
	}
	return review.Response.Status.Message
}

func TestWhoAsksBeforePoliciesAreSetWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stands := map[string]bool{"nodes": true, "new": true}
		var away error
		s := admission.New(admission.Config{Kept: &kept{}, Ledger: &kept{}, Secrets: func() []string { return []string{"secret"} },
			Stands: func(_ context.Context, name string) (bool, error) { return stands[name], away }})
		policy := nodes(t, capture.Policy{Require: []capture.Requirement{{That: "false", Message: "never"}}})

		if got := ask(s, "1", "/secret/nodes", ""); got != "Service Unavailable" {
			t.Errorf("before policies are set: %s", got)
		}
		time.AfterFunc(time.Second, func() { s.Set([]*capture.Program{policy}) })
		if got := ask(s, "2", "/secret/nodes", ""); got != "graven: never" {
			t.Errorf("when they are: %s", got)
		}
		if got := ask(s, "3", "/secret/gone", ""); got != "allowed" {
			t.Errorf("a policy that is gone: %s", got)
		}
		if got := ask(s, "4", "/secret/new", ""); got != "Service Unavailable" {
			t.Errorf("a policy that stands, and is not set: %s", got)
		}
		away = errors.New("away")
		if got := ask(s, "5", "/secret/gone", ""); got != "Service Unavailable" {
			t.Errorf("a policy of which nothing is known: %s", got)
		}
		if got := ask(s, "6", "/word/nodes", ""); got != "Not Found" {
			t.Errorf("a wrong path: %s", got)
		}
	})
}

func TestAPolicyThatFailsOnARequestIsRecordedOrRefuses(t *testing.T) {
	label := "object.metadata.labels.team"
	describes := capture.Record{Event: map[string]string{"eventType": "'team.changed'", "fact": "request.uid", "correlationID": label, "details": "{'n': string(int(" + label + "))}"}}
	for _, test := range []struct {
		name            string
		policy          capture.Policy
		label           string
		answer, records string
	}{
		{"it does not fail", capture.Policy{Records: []capture.Record{describes}}, "7", "allowed", "team.changed"},
		{"an expression", capture.Policy{Records: []capture.Record{describes}}, "x", "allowed", "CaptureFailed"},
		{"an event that no ledger takes", capture.Policy{Records: []capture.Record{{Event: map[string]string{"eventType": label, "fact": "request.uid", "correlationID": "'c'"}}}}, "<b>", "allowed", "CaptureFailed"},
		{"an expression of one that refuses", capture.Policy{Records: []capture.Record{describes}, OnFailure: capture.Refuse}, "x", "cannot be applied", "RequestRefused"},
		{"an event that no ledger takes, of one that requires", capture.Policy{Records: []capture.Record{{Event: map[string]string{"eventType": label, "fact": "request.uid", "correlationID": "'c'"}}},
			Require: []capture.Requirement{{That: "true", Message: "m"}}}, "<b>", "cannot be applied", "RequestRefused"},
		{"words without end", capture.Policy{Records: []capture.Record{describes}, Require: []capture.Requirement{{That: "false", Message: "m", MessageExpression: label + " + 'x'"}}}, strings.Repeat("x", 300_000), "xxx", "RequestRefused"},
		{"a requirement", capture.Policy{Records: []capture.Record{describes}, Require: []capture.Requirement{{That: "int(" + label + ") > 0", Message: "m"}}}, "x", "cannot be applied", "RequestRefused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &kept{}
			s := admission.New(admission.Config{Kept: k, Ledger: k, Secrets: func() []string { return []string{"secret"} }})
			s.Set([]*capture.Program{nodes(t, test.policy)})
			if got := ask(s, "1", "/secret/nodes", test.label); !strings.Contains(got, test.answer) {
				t.Errorf("%s, want %s", got, test.answer)
			}
			for _, e := range k.events {
				if e.Actor.Name != "jane" || e.Resource.Name != "n" {
					t.Errorf("%+v", e)
				}
			}
			if got := k.types(); got != test.records {
				t.Errorf("recorded %s, want %s", got, test.records)
			}
			ask(s, "1", "/secret/nodes", test.label)
			if got := k.types(); got != "" {
				t.Errorf("asked again, recorded %s", got)
			}
		})
	}
}

func TestWhoeverAsksIsRecordedHoweverTheyAreCalled(t *testing.T) {
	record := capture.Record{Event: map[string]string{"eventType": "'team.changed'", "fact": "request.uid", "correlationID": "'c'"}}
	for name, user := range map[string]string{
		"a long name": fmt.Sprintf(`{"username":%q}`, strings.Repeat("ü", 400)),
		"many extras": fmt.Sprintf(`{"username":"jane","extra":{"a":[%q]}}`, strings.Repeat("x", 300_000)),
		"many groups": fmt.Sprintf(`{"username":"jane","groups":[%s"x"]}`, strings.Repeat(`"system:masters-of-the-universe",`, 9000)),
		"all of them": fmt.Sprintf(`{"username":%q,"uid":%[1]q,"groups":[%[1]q],"extra":{"a":[%[1]q]}}`, strings.Repeat("x", 100_000)),
		"a service":   fmt.Sprintf(`{"username":"system:serviceaccount:a:%s"}`, strings.Repeat("x", 600)),
		"nobody":      `{}`,
	} {
		k := &kept{}
		s := admission.New(admission.Config{Kept: k, Ledger: k, Secrets: func() []string { return []string{"secret"} }})
		s.Set([]*capture.Program{nodes(t, capture.Policy{Records: []capture.Record{record}, Require: []capture.Requirement{{That: "true", Message: "m"}}})})
		if got := askAs(s, user, "1", "/secret/nodes", ""); got != "allowed" || k.events == nil || k.events[0].EventType != "team.changed" {
			t.Errorf("%s: %s, recorded %s", name, got, k.types())
			continue
		}
		if e := k.events[0]; len(e.Actor.Name) > event.MaxString || e.Actor.Name == "" || len(e.Details) > event.MaxDetails {
			t.Errorf("%s: %+v", name, e.Actor)
		}
	}
}

func TestNobodyPassesBecauseManyAreDeletedByOneRequest(t *testing.T) {
	policy := capture.Policy{Name: "p", At: capture.Admission, Match: capture.Match{Resources: []capture.Resource{{Version: "v1", Resource: "nodes"}}, Names: []string{"mine"}},
		Require: []capture.Requirement{{That: "false", Message: "never"}}}
	p, err := capture.Compile(policy)
	if err != nil {
		t.Fatal(err)
	}
	s := admission.New(admission.Config{Kept: &kept{}, Ledger: &kept{}, Secrets: func() []string { return []string{"secret"} }})
	s.Set([]*capture.Program{p})
	for name, allowed := range map[string]bool{"mine": false, "theirs": true} {
		body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","resource":{"version":"v1","resource":"nodes"},"operation":"DELETE",
			"userInfo":{"username":"jane"},"oldObject":{"apiVersion":"v1","kind":"Node","metadata":{"name":%q,"uid":"u"}}}}`, name)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/secret/p", strings.NewReader(body)))
		if got := strings.Contains(w.Body.String(), `"allowed":true`); got != allowed {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
}

func TestAWordThatAnotherOperatorHasRegisteredIsLookedFor(t *testing.T) {
	words, looked := []string{"old"}, 0
	now := time.Now()
	s := admission.New(admission.Config{Kept: &kept{}, Ledger: &kept{}, Secrets: func() []string { return words }, Now: func() time.Time { return now },
		Renew: func(context.Context) error { looked++; words = []string{"new", "old"}; return nil }})
	s.Set([]*capture.Program{nodes(t, capture.Policy{Require: []capture.Requirement{{That: "true", Message: "m"}}})})
	if got := ask(s, "1", "/new/nodes", ""); got != "allowed" || looked != 1 {
		t.Errorf("%s, looked %d times", got, looked)
	}
	for range 10 {
		if got := ask(s, "2", "/wrong/nodes", ""); got != "Not Found" || looked != 1 {
			t.Errorf("%s, looked %d times", got, looked)
		}
	}
	now = now.Add(time.Minute)
	if got := ask(s, "3", "/wrong/nodes", ""); got != "Not Found" || looked != 2 {
		t.Errorf("%s, looked %d times", got, looked)
	}
}

func TestNobodyWaitsForRoomOnTheOperatorsDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := blocking{}
		s := admission.New(admission.Config{Kept: full, Ledger: full, Secrets: func() []string { return []string{"secret"} }})
		record := capture.Record{Event: map[string]string{"eventType": "'team.changed'", "fact": "request.uid", "correlationID": "'c'"}}
		s.Set([]*capture.Program{nodes(t, capture.Policy{Records: []capture.Record{record}})})
		began := time.Now()
		if got := ask(s, "1", "/secret/nodes", ""); got != "allowed" || time.Since(began) > time.Second {
			t.Errorf("%s after %v", got, time.Since(began))
		}
	})
}

// blocking has no room.
type blocking struct{}

func (blocking) RecordMany(ctx context.Context, _ ...*event.Event) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWhatCannotBeRecordedIsLetPassOrRefusedAndTriedAgain(t *testing.T) {
	record := capture.Record{Event: map[string]string{"eventType": "'team.changed'", "fact": "request.uid", "correlationID": "'c'"}}
	for onFailure, want := range map[string]string{capture.Spool: "allowed", capture.Refuse: "graven: the request cannot be recorded"} {
		k := &kept{err: errors.New("no room")}
		s := admission.New(admission.Config{Kept: k, Ledger: k, Secrets: func() []string { return []string{"secret"} }})
		s.Set([]*capture.Program{nodes(t, capture.Policy{Records: []capture.Record{record}, OnFailure: onFailure})})
		if got := ask(s, "1", "/secret/nodes", ""); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", onFailure, got)
		}
		k.err = nil
		if got := ask(s, "1", "/secret/nodes", ""); got != "allowed" || k.types() != "team.changed" {
			t.Errorf("%s: asked again, %s", onFailure, got)
		}
	}
}
