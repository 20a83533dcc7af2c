package capture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
)

var at = time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)

// plans is a policy about remediation plans.
func plans(change ...func(*capture.Policy)) capture.Policy {
	p := capture.Policy{Name: "plans", At: capture.Watch,
		Match:     capture.Match{Resources: []capture.Resource{{"platform.chatcli.io", "v1alpha1", "remediationplans"}}},
		Variables: []capture.Variable{{"incident", "object.spec.issueRef.name"}, {"before", "oldObject == null ? '' : oldObject.?status.state.orValue('')"}},
		Records: []capture.Record{
			{Name: "failed", When: "object.status.state == 'Failed' && before != 'Failed'", Event: map[string]string{
				"eventType": "'RemediationFailed'", "fact": "object.metadata.uid + '/failed'", "correlationID": "incident",
				"timestamp": "object.status.completedAt", "actor.type": "'controller'", "actor.name": "'remediation-reconciler'",
				"durationMs": "timestamp(object.status.completedAt) - timestamp(object.status.startedAt)",
				"details":    "{'result': object.status.result, 'reason': object.?status.reason, 'attempt': object.spec.attempt}"}},
			{Name: "action", Each: "object.status.actionCheckpoints", When: "!(oldObject.?status.actionCheckpoints.orValue([]).exists(c, c.actionIndex == item.actionIndex))",
				Event: map[string]string{"eventType": "'RemediationExecuted'", "fact": "object.metadata.uid + '/action/' + string(item.actionIndex)",
					"correlationID": "incident", "timestamp": "item.timestamp", "outcome": "item.success ? 'success' : 'failure'"}},
		}}
	for _, c := range change {
		c(&p)
	}
	return p
}

func compile(t *testing.T, p capture.Policy) *capture.Program {
	t.Helper()
	program, err := capture.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

const (
	running = `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"RemediationPlan","metadata":{"name":"plan-1","namespace":"production","uid":"u1"},` +
		`"spec":{"issueRef":{"name":"issue-1"},"attempt":2},"status":{"state":"Executing","startedAt":"2026-03-19T14:00:00Z",` +
		`"actionCheckpoints":[{"actionIndex":0,"success":true,"timestamp":"2026-03-19T14:01:00Z"}]}}`
	failed = `{"apiVersion":"platform.chatcli.io/v1alpha1","kind":"RemediationPlan","metadata":{"name":"plan-1","namespace":"production","uid":"u1"},` +
		`"spec":{"issueRef":{"name":"issue-1"},"attempt":2},"status":{"state":"Failed","startedAt":"2026-03-19T14:00:00Z","completedAt":"2026-03-19T14:02:15Z","result":"no replicas",` +
		`"actionCheckpoints":[{"actionIndex":0,"success":true,"timestamp":"2026-03-19T14:01:00Z"},{"actionIndex":1,"success":false,"timestamp":"2026-03-19T14:02:00Z"}]}}`
)

func TestAStateGivesTheEventsOfWhatChanged(t *testing.T) {
	p := compile(t, plans())
	in := &capture.Input{Object: object(t, failed), Old: object(t, running), Operation: "UPDATE", Cluster: "west", Now: at}
	events, err := p.Events(t.Context(), in)
	if err != nil || len(events) != 2 {
		t.Fatal(events, err)
	}
	e := events[0]
	if e.EventType != "RemediationFailed" || e.Fact != "u1/failed" || e.CorrelationID != "issue-1" || e.DurationMs != 135_000 || e.Cluster != "west" ||
		!e.Timestamp.Equal(time.Date(2026, 3, 19, 14, 2, 15, 0, time.UTC)) || e.Actor.Name != "remediation-reconciler" ||
		e.Resource != (event.Resource{APIVersion: "platform.chatcli.io/v1alpha1", Kind: "RemediationPlan", Namespace: "production", Name: "plan-1", UID: "u1"}) {
		t.Errorf("%+v", e)
	}
	if string(e.Details) != `{"attempt":2,"result":"no replicas"}` {
		t.Errorf("%s", e.Details)
	}
	if e := events[1]; e.Fact != "u1/action/1" || e.Outcome != "failure" || e.Actor != (event.Actor{Type: "controller", Name: "remediation-reconciler"}) {
		t.Errorf("%+v", e)
	}
	for _, e := range events {
		e.Complete(at)
		if err := e.Validate(at); err != nil {
			t.Error(err)
		}
	}
	t.Run("and the same again gives the same", func(t *testing.T) {
		again, err := p.Events(t.Context(), &capture.Input{Object: object(t, failed), Old: object(t, running), Operation: "UPDATE", Cluster: "west", Now: at})
		if err != nil || len(again) != 2 || again[0].ID != events[0].ID || again[1].ID != events[1].ID || again[0].ID == again[1].ID {
			t.Error(again, err)
		}
	})
	t.Run("and an input stays as it was", func(t *testing.T) {
		if !reflect.DeepEqual(in.Object, object(t, failed)) || !reflect.DeepEqual(in.Old, object(t, running)) {
			t.Error(in)
		}
	})
}

func TestWhatIsMissingIsNoCondition(t *testing.T) {
	p := compile(t, plans())
	for name, text := range map[string]string{
		"no status":  `{"metadata":{"uid":"u1"},"spec":{}}`,
		"no spec":    `{"metadata":{"uid":"u1"},"status":{"state":"Pending"}}`,
		"nothing":    `{}`,
		"null there": `{"metadata":{"uid":"u1"},"status":null}`,
	} {
		if events, err := p.Events(t.Context(), &capture.Input{Object: object(t, text), Now: at}); err != nil || len(events) > 0 {
			t.Errorf("%s: %v, %v", name, events, err)
		}
	}
	if events, err := p.Events(t.Context(), &capture.Input{Old: object(t, failed), Operation: "DELETE", Now: at}); err != nil || len(events) > 0 {
		t.Errorf("deleted: %v, %v", events, err)
	}
}

func TestAnEventThatCannotBeMadeIsAnErrorAndTheOthersAreMade(t *testing.T) {
	p := compile(t, plans())
	o := object(t, failed)
	delete(o["status"].(map[string]any), "startedAt")
	events, err := p.Events(t.Context(), &capture.Input{Object: o, Now: at})
	var wrong *capture.EvalError
	if !errors.As(err, &wrong) || wrong.Field != "record[0].event.durationMs" || len(events) != 2 {
		t.Errorf("%v, %v", events, err)
	}
}

func TestAPolicyThatIsWrongIsRefusedWithThePlace(t *testing.T) {
	for field, change := range map[string]func(*capture.Policy){
		"at":                             func(p *capture.Policy) { p.At = "later" },
		"onFailure":                      func(p *capture.Policy) { p.OnFailure = capture.Refuse },
		"require":                        func(p *capture.Policy) { p.Require = []capture.Requirement{{That: "true", Message: "no"}} },
		"record":                         func(p *capture.Policy) { p.Records = nil },
		"match.resources":                func(p *capture.Policy) { p.Match.Resources = nil },
		"match.resources[0].resource":    func(p *capture.Policy) { p.Match.Resources[0].Resource = "plans/status" },
		"match.resources[1]":             func(p *capture.Policy) { p.Match.Resources = append(p.Match.Resources, p.Match.Resources[0]) },
		"match.resources[0].version":     func(p *capture.Policy) { p.Match.Resources[0].Version = "" },
		"match.operations[0]":            func(p *capture.Policy) { p.Match.Operations = []string{"CONNECT"} },
		"variables[0].name":              func(p *capture.Policy) { p.Variables[0].Name = "object" },
		"variables[1].name":              func(p *capture.Policy) { p.Variables[1].Name = "incident" },
		"variables[0].expression":        func(p *capture.Policy) { p.Variables[0].Expression = "later" },
		"record[0].when":                 func(p *capture.Policy) { p.Records[0].When = "'yes'" },
		"record[0].event.fact":           func(p *capture.Policy) { delete(p.Records[0].Event, "fact") },
		"record[0].event.eventType":      func(p *capture.Policy) { p.Records[0].Event["eventType"] = "1" },
		"record[0].event.correlationID":  func(p *capture.Policy) { p.Records[0].Event["correlationID"] = "item.name" },
		"record[0].lasts":                func(p *capture.Policy) { p.Records[0].Lasts = -time.Second },
		"record[1].each":                 func(p *capture.Policy) { p.Records[1].Each = "'a'" },
		"record[1].event.recorded.at":    func(p *capture.Policy) { p.Records[1].Event["recorded.at"] = "now" },
		"record[1].event.timestamp":      func(p *capture.Policy) { p.Records[1].Event["timestamp"] = "  " },
		"record[1].event.actor.name":     func(p *capture.Policy) { p.Records[1].Event["actor.name"] = "request.userInfo.username" },
		"record[1].event.error.message":  func(p *capture.Policy) { p.Records[1].Event["error.message"] = "'a' +" },
		"record[1].event.resource.name":  func(p *capture.Policy) { p.Records[1].Event["resource.name"] = "'" + strings.Repeat("a", 9000) + "'" },
		"record[1].event.resource.kind":  func(p *capture.Policy) { p.Records[1].Event["resource.kind"] = "object.kind.matches('[')" },
		"record[1].event.durationMs":     func(p *capture.Policy) { p.Records[1].Event["durationMs"] = "'1s'" },
		"record[1].event.details":        func(p *capture.Policy) { p.Records[1].Event["details"] = "[1]" },
		"record[1].event.retentionDays":  func(p *capture.Policy) { p.Records[1].Event["retentionDays"] = "true" },
		"record[1].event.sensitive":      func(p *capture.Policy) { p.Records[1].Event["sensitive"] = "1" },
		"record[0].event.resource.other": func(p *capture.Policy) { p.Records[0].Event["resource.other"] = "'a'" },
	} {
		t.Run(field, func(t *testing.T) {
			_, err := capture.Compile(plans(change))
			var wrong event.Invalid
			if !errors.As(err, &wrong) {
				t.Fatal(err)
			}
			for _, w := range wrong {
				if w.Field == field {
					return
				}
			}
			t.Error(err)
		})
	}
	_, err := capture.Compile(plans(func(p *capture.Policy) { p.Records[0].When = "true &&\n  nobody == 1" }))
	if err == nil || !strings.Contains(err.Error(), "record[0].when: 2:3: undeclared reference to 'nobody'") {
		t.Error(err)
	}
}

// approvals is a policy that refuses.
func approvals(that, words string) capture.Policy {
	return capture.Policy{Name: "approvals", At: capture.Admission, OnFailure: capture.Refuse,
		Match:   capture.Match{Resources: []capture.Resource{{"kubernaut.ai", "v1alpha1", "remediationapprovalrequests/status"}}, Operations: []string{"UPDATE"}},
		Require: []capture.Requirement{{That: that, Message: "a decision needs a reason of 10 characters", MessageExpression: words}}}
}

func TestARequirementRefusesInItsWords(t *testing.T) {
	in := func(reason string) *capture.Input {
		return &capture.Input{Object: map[string]any{"status": map[string]any{"decisionMessage": reason}}, Operation: "UPDATE",
			Request: map[string]any{"userInfo": map[string]any{"username": "jane"}}, Now: at}
	}
	that := "size(object.status.decisionMessage) >= 10"
	for _, c := range []struct{ reason, expression, want string }{
		{"the disk is full", "", ""},
		{"ok", "", "a decision needs a reason of 10 characters"},
		{"ok", "request.userInfo.username + ' gives no reason'", "jane gives no reason"},
		{"ok", "object.status.nobody", "a decision needs a reason of 10 characters"},
	} {
		p := compile(t, approvals(that, c.expression))
		if got, err := p.Refuses(t.Context(), in(c.reason)); got != c.want || err != nil {
			t.Errorf("%q, %q: %q, %v", c.reason, c.expression, got, err)
		}
	}
	if _, err := compile(t, approvals(that, "")).Refuses(t.Context(), &capture.Input{Object: map[string]any{}}); err == nil {
		t.Error("what cannot be told is good")
	}
}

func TestAPolicyCostsNoMoreThanItMay(t *testing.T) {
	items := make([]any, 1000)
	for i := range items {
		items[i] = strings.Repeat("a", 400)
	}
	in := &capture.Input{Object: map[string]any{"items": items}, Now: at}
	endless := "object.items.all(a, object.items.all(b, a == b))"
	if _, err := compile(t, approvals(endless, "")).Refuses(t.Context(), in); err == nil || !strings.Contains(err.Error(), "cost") {
		t.Error(err)
	}
	many := plans(func(p *capture.Policy) {
		p.Variables, p.Records = nil, nil
		for range 40 {
			p.Records = append(p.Records, capture.Record{When: "object.items.exists(a, a.contains('b') || size(a) > 1000)",
				Event: map[string]string{"eventType": "'X'", "fact": "'x'"}})
		}
	})
	if _, err := compile(t, many).Events(t.Context(), in); err == nil || !strings.Contains(err.Error(), "cost") {
		t.Errorf("together: %v", err)
	}
}

func TestAnEvaluationEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	items := make([]any, 5000)
	for i := range items {
		items[i] = i
	}
	if _, err := compile(t, approvals("object.items.all(a, a < 10000)", "")).Refuses(ctx, &capture.Input{Object: map[string]any{"items": items}}); err == nil {
		t.Error("it went on")
	}
}

func TestAVariableIsFoundOutWhenItIsNeeded(t *testing.T) {
	p := compile(t, plans(func(p *capture.Policy) {
		p.Variables = append(p.Variables, capture.Variable{Name: "broken", Expression: "object.nobody.there"}, capture.Variable{Name: "more", Expression: "broken + 'x'"})
		p.Records = p.Records[:1]
		p.Records[0].Event["cluster"] = "more"
	}))
	if events, err := p.Events(t.Context(), &capture.Input{Object: object(t, running), Now: at}); err != nil || len(events) > 0 {
		t.Errorf("not needed: %v, %v", events, err)
	}
	_, err := p.Events(t.Context(), &capture.Input{Object: object(t, failed), Now: at})
	var wrong *capture.EvalError
	if !errors.As(err, &wrong) || wrong.Field != "variables[2].expression" {
		t.Errorf("needed: %v", err)
	}
}

func TestAMatchIsOfResourcesOperationsAndNamespaces(t *testing.T) {
	r := capture.Resource{Group: "apps", Version: "v1", Resource: "deployments"}
	m := capture.Match{Resources: []capture.Resource{r}, Operations: []string{"UPDATE"}, ExceptNamespaces: []string{"kube-system"}}
	for _, c := range []struct {
		r             capture.Resource
		op, namespace string
		want          bool
	}{
		{r, "UPDATE", "a", true}, {r, "UPDATE", "", true}, {r, "CREATE", "a", false}, {r, "UPDATE", "kube-system", false},
		{capture.Resource{Group: "apps", Version: "v1", Resource: "deployments/scale"}, "UPDATE", "a", false},
	} {
		if got := m.Matches(c.r, c.op, c.namespace, "n"); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
	m.Namespaces = []string{"a"}
	if m.Matches(r, "UPDATE", "b", "n") || m.Matches(r, "UPDATE", "", "n") || !m.Matches(r, "UPDATE", "a", "n") {
		t.Error("other namespaces match")
	}
	if m.Names = []string{"n"}; !m.Matches(r, "UPDATE", "a", "n") || m.Matches(r, "UPDATE", "a", "m") {
		t.Error("names do not count")
	}
}

// A counter counts in memory.
type counter map[string]map[string]time.Time

func (c counter) Reaches(key, fact string, at time.Time, within time.Duration, times int) bool {
	if c[key] == nil {
		c[key] = map[string]time.Time{}
	}
	c[key][fact] = at
	n := 0
	for _, t := range c[key] {
		if !t.After(at) && t.After(at.Add(-within)) {
			n++
		}
	}
	return n == times
}

func TestAStateThatLastsIsToldAsOfWhenItHadLasted(t *testing.T) {
	p := compile(t, capture.Policy{Name: "stuck", At: capture.Watch, Match: plans().Match, When: "object.status.state == 'Failed'", Records: []capture.Record{
		{Name: "long", Lasts: time.Hour, Event: map[string]string{"eventType": "'long'", "fact": "'a'"}},
		{Name: "longer", Lasts: 2 * time.Hour, Event: map[string]string{"eventType": "'longer'", "fact": "string(int(now))"}},
		{Name: "at once", Event: map[string]string{"eventType": "'now'", "fact": "'c'"}}}})
	o := object(t, failed)
	lasted := func(o map[string]any, dur time.Duration) string {
		t.Helper()
		events, again, err := p.Lasted(t.Context(), &capture.Input{Object: o, Old: o, Operation: "UPDATE", Now: at.Add(dur)}, at)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, e := range events {
			told = append(told, fmt.Sprintf("%s after %s", e.EventType, e.Timestamp.Sub(at)))
		}
		if !again.IsZero() {
			told = append(told, "again at "+again.Sub(at).String())
		}
		return strings.Join(told, ", ")
	}
	for dur, want := range map[time.Duration]string{
		time.Minute: "again at 1h0m0s", time.Hour: "long after 1h0m0s, again at 2h0m0s", 3 * time.Hour: "long after 1h0m0s, longer after 2h0m0s"} {
		if got := lasted(o, dur); got != want {
			t.Errorf("%s: %s", dur, got)
		}
	}
	if events, err := p.Events(t.Context(), &capture.Input{Object: o, Now: at}); err != nil || len(events) != 1 || events[0].EventType != "now" {
		t.Errorf("at a change: %v, %v", events, err)
	}
	o["status"].(map[string]any)["state"] = "Completed"
	if got := lasted(o, 3*time.Hour); got != "" {
		t.Error("of another state:", got)
	}
}

func TestAThresholdIsReachedOnce(t *testing.T) {
	p := compile(t, capture.Policy{Name: "breaker", At: capture.Watch, Match: plans().Match, Records: []capture.Record{{
		Name: "breaker", When: "object.status.state == 'Failed'",
		Threshold: &capture.Threshold{Times: 3, Within: time.Hour, By: "object.metadata.namespace"},
		Event:     map[string]string{"eventType": "'CircuitBreakerTriggered'", "fact": "object.metadata.uid + '/breaker'", "timestamp": "object.status.completedAt"}}}})
	c := counter{}
	var reached []string
	for i, uid := range []string{"a", "a", "b", "c", "c", "d"} {
		o := object(t, strings.ReplaceAll(failed, `"uid":"u1"`, `"uid":"`+uid+`"`))
		o["status"].(map[string]any)["completedAt"] = at.Add(time.Duration(uid[0]-'a') * time.Minute).Format(time.RFC3339)
		events, err := p.Events(t.Context(), &capture.Input{Object: o, Now: at, Counter: c})
		if err != nil {
			t.Fatal(err)
		}
		for range events {
			reached = append(reached, fmt.Sprint(i, uid))
		}
	}
	if got := strings.Join(reached, " "); got != "3c 4c" { // told again, it is the same event
		t.Error(got)
	}
	if events, err := p.Events(t.Context(), &capture.Input{Object: object(t, failed), Now: at}); err != nil || len(events) > 0 {
		t.Errorf("without a counter: %v, %v", events, err)
	}
}
