package auditlog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/auditlog"
	"github.com/graven-audit/graven/internal/intake"
)

func policy(t *testing.T, text string) *auditlog.Policy {
	t.Helper()
	p, err := auditlog.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestThePolicyThatIsShippedHasWhatIsWanted(t *testing.T) {
	p := policy(t, string(config.AuditPolicy))
	for _, c := range []struct {
		what string
		r    auditlog.Request
		want auditlog.Level
	}{
		{"a sign of life", auditlog.Request{Verb: "patch", Group: "coordination.k8s.io", Resource: "leases", Name: auditlog.Lease}, auditlog.Metadata},
		{"another lease", auditlog.Request{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Name: "x"}, auditlog.None},
		{"a command over a WebSocket", auditlog.Request{Verb: "get", Resource: "pods", Subresource: "exec"}, auditlog.Metadata},
		{"reading a pod", auditlog.Request{Verb: "get", Resource: "pods"}, auditlog.None},
		{"a write", auditlog.Request{Verb: "patch", Group: "apps", Resource: "deployments", User: "alice"}, auditlog.Metadata},
		{"a write by a component", auditlog.Request{Verb: "patch", Group: "apps", Resource: "replicasets", User: "system:kube-controller-manager"}, auditlog.None},
		{"a role by a component", auditlog.Request{Verb: "patch", Group: "rbac.authorization.k8s.io", Resource: "roles", User: "system:kube-controller-manager"}, auditlog.Metadata},
		{"a node about itself", auditlog.Request{Verb: "patch", Resource: "nodes", Subresource: "status", Groups: []string{"system:nodes"}}, auditlog.None},
		{"a mirrored event", auditlog.Request{Verb: "create", Group: "platform.chatcli.io", Resource: "auditevents", User: "system:serviceaccount:graven-system:graven-operator"}, auditlog.None},
		{"an AuditEvent that somebody else deletes", auditlog.Request{Verb: "delete", Group: "platform.chatcli.io", Resource: "auditevents", User: "mallory"}, auditlog.Metadata},
		{"no resource", auditlog.Request{Verb: "get", URI: "/healthz"}, auditlog.None},
		{"a stage that is left out", auditlog.Request{Verb: "patch", Group: "apps", Resource: "deployments", Stage: "RequestReceived"}, auditlog.None},
	} {
		if got := p.Level(&c.r); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

func TestRulesMatchAsInAnAPIServer(t *testing.T) {
	exec := auditlog.Request{User: "alice", Groups: []string{"dev"}, Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "prod", Name: "p"}
	path := auditlog.Request{User: "alice", Verb: "get", URI: "/metrics/a?x=1"}
	for _, c := range []struct {
		rule string
		r    auditlog.Request
		want bool
	}{
		{"users: [alice]", exec, true}, {"users: [bob]", exec, false},
		{"userGroups: [ops, dev]", exec, true}, {"userGroups: [ops]", exec, false},
		{"verbs: [create]", exec, true}, {"verbs: [get]", exec, false},
		{"namespaces: [prod]", exec, true}, {"namespaces: [dev]", exec, false}, {"namespaces: [prod]", path, false},
		{"resources: [{group: ''}]", exec, true}, {"resources: [{group: apps}]", exec, false},
		{"resources: [{group: '', resources: [pods]}]", exec, false},
		{"resources: [{group: '', resources: [pods/exec]}]", exec, true},
		{"resources: [{group: '', resources: [pods/*]}]", exec, true},
		{"resources: [{group: '', resources: ['*/exec']}]", exec, true},
		{"resources: [{group: '', resources: ['*/log']}]", exec, false},
		{"resources: [{group: '', resources: ['*']}]", exec, true},
		{"resources: [{group: '', resources: [pods/exec], resourceNames: [p]}]", exec, true},
		{"resources: [{group: '', resources: [pods/exec], resourceNames: [q]}]", exec, false},
		{"nonResourceURLs: [/metrics*]", path, true}, {"nonResourceURLs: [/metrics]", path, false}, {"nonResourceURLs: [/metrics/a]", path, true},
		{"nonResourceURLs: ['*']", exec, false},
	} {
		p := policy(t, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, "+c.rule+"}]")
		if got := p.Level(&c.r) == auditlog.Metadata; got != c.want {
			t.Errorf("%s matches %+v: %t", c.rule, c.r, got)
		}
	}
}

func TestFaultsOfAPolicyNameTheMember(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Secret": "kind", "apiVersion: v2\nkind: Policy": "apiVersion", "apiVersion: audit.k8s.io/v1\nkind: Policy": "rules",
		"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]": "rules[0].level", "[": "yaml",
	} {
		if _, err := auditlog.ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestARealAuditLogIsReadAsItsEvents(t *testing.T) {
	text, err := os.ReadFile("../../examples/kube-apiserver-audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	wrote := 0
	for line := range bytes.Lines(text) {
		raw, err := auditlog.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		e, err := intake.KubeAudit(line)
		if err != nil {
			t.Fatal(err)
		}
		told, err := auditlog.Read(e.Details)
		if err != nil {
			t.Fatal(err)
		}
		if e.Details != nil && fmt.Sprint(raw.User, raw.Verb, raw.Resource, raw.Name, raw.Code) != fmt.Sprint(told.User, told.Verb, told.Resource, told.Name, told.Code) {
			t.Errorf("line %+v, event %+v", raw, told)
		}
		if told.Wrote() {
			wrote++
		}
	}
	if wrote == 0 {
		t.Error("nobody wrote anything")
	}
}

func TestWhereAnAuditLogDoesNotArriveNothingIsCovered(t *testing.T) {
	zero := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	at := func(minutes float64) time.Time { return zero.Add(time.Duration(minutes * float64(time.Minute))) }
	p := &auditlog.Pulse{Every: time.Minute, Namespace: "graven-system", User: func() string { return operator }}
	p.Expect(nil, "nobody asked")
	if why, _ := p.Covered(at(0), at(1), at(2)); why != "nobody asked" {
		t.Errorf("without API servers: %q", why)
	}
	p.Expect([]string{"a", "b"}, "")
	beat := func(server string, minute float64) {
		r := &auditlog.Request{Stage: "ResponseComplete", Verb: "patch", URI: "/x?fieldManager=" + auditlog.Manager(server), User: operator, Namespace: "graven-system", Resource: "leases", Name: auditlog.Lease, Code: 200}
		if !p.Beat(r, at(minute)) {
			t.Fatal("no sign of life")
		}
	}
	for m := range 21 {
		beat("a", float64(m))
		if m < 10 || m > 14 {
			beat("b", float64(m))
		}
	}
	for _, c := range []struct {
		from, until, now float64
		covered, wait    bool
	}{
		{2, 8, 20, true, false},
		{5, 15, 20, false, false}, // b was silent
		{16, 19, 20, true, false},
		{16, 22, 20, false, true},  // which may yet come
		{16, 22, 30, false, false}, // and did not
		{-5, 2, 20, false, false},  // from before there was any
	} {
		why, wait := p.Covered(at(c.from), at(c.until), at(c.now))
		if (why == "") != c.covered || wait != c.wait {
			t.Errorf("from %v until %v: %q, wait %t", c.from, c.until, why, wait)
		}
	}
	if why := p.Live(at(21)); why != "" {
		t.Error(why)
	}
	if why := p.Live(at(25)); !strings.Contains(why, "API server") {
		t.Errorf("it lives: %q", why)
	}
	if p.Beat(&auditlog.Request{Resource: "leases", Name: auditlog.Lease}, at(0)) || p.Beat(&auditlog.Request{URI: "/x?fieldManager=" + auditlog.Manager("a"), Resource: "pods"}, at(0)) {
		t.Error("others are signs of life")
	}
	for _, forged := range []auditlog.Request{{User: "mallory", Namespace: "graven-system"}, {User: operator, Namespace: "mallorys"}, {User: "mallory", Impersonated: operator, Namespace: "graven-system"}} {
		forged.Stage, forged.Verb, forged.URI, forged.Resource, forged.Name, forged.Code = "ResponseComplete", "patch", "/x?fieldManager="+auditlog.Manager("b"), "leases", auditlog.Lease, 200
		p.Beat(&forged, at(60))
		if why := p.Live(at(60)); why == "" {
			t.Errorf("%+v is a sign of life", forged)
		}
	}
}

const operator = "system:serviceaccount:graven-system:graven-operator"

const remediator = "system:serviceaccount:aiops:operator"

// A world is a ledger with events, and an API server whose log arrives.
type world struct {
	mu     sync.Mutex
	events []*event.Event
	arrive chan *event.Event
	// hearsay has requests be told by who does not attest.
	hearsay bool
	made    []*event.Event
}

func (w *world) Events(_ context.Context, q auditlog.Query, fn func(*event.Event)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		ofType := len(q.Types) == 0
		for _, t := range q.Types {
			ofType = ofType || e.EventType == t
		}
		if ofType && !e.Timestamp.Before(q.From) && e.Timestamp.Before(q.Until) && (q.Namespace == "" || e.Resource.Namespace == q.Namespace) {
			fn(e)
		}
	}
	return nil
}

func (w *world) Follow(ctx context.Context, _ []string, after int64, fn func(int64, *event.Event) error) error {
	for {
		select {
		case e := <-w.arrive:
			after++
			if err := fn(after, e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *world) RecordMany(_ context.Context, events ...*event.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made = append(w.made, events...)
	return nil
}

// tell has an event in the ledger.
func (w *world) tell(e *event.Event) *event.Event {
	e.Timestamp = time.Now()
	e.Complete(time.Now())
	w.mu.Lock()
	w.events = append(w.events, e)
	w.mu.Unlock()
	if e.EventType == auditlog.TypeRequest || e.EventType == "RemediationExecuted" {
		w.arrive <- e
	}
	return e
}

// asks has a request in the audit log.
func (w *world) asks(user, verb, resource, name string, code int, more ...func(map[string]any)) *event.Event {
	d := map[string]any{"auditID": verb + " " + name, "stage": "ResponseComplete", "verb": verb, "requestURI": "/x", "user": map[string]any{"username": user},
		"objectRef": map[string]any{"apiGroup": "apps", "resource": resource, "namespace": "prod", "name": name}, "responseStatus": map[string]any{"code": code}}
	for _, change := range more {
		change(d)
	}
	e := &event.Event{EventType: auditlog.TypeRequest, Actor: event.Actor{Type: event.ActorUser, Name: user}, Resource: event.Resource{Kind: "Deployment", Namespace: "prod", Name: name},
		Recorded: event.Recorded{Attribution: event.AttributionAdmission}}
	if w.hearsay {
		e.Recorded.Attribution = event.AttributionAsserted
	}
	e.Details, _ = json.Marshal(d)
	return w.tell(e)
}

func (w *world) claims(target string) *event.Event {
	e := &event.Event{EventType: "RemediationExecuted", Outcome: event.OutcomeSuccess, Actor: event.Actor{Type: event.ActorService, Name: "operator"},
		Resource: event.Resource{Kind: "RemediationPlan", APIVersion: "platform.chatcli.io/v1alpha1", Namespace: "prod", Name: "plan"}, CorrelationID: "inc-1"}
	e.Details, _ = json.Marshal(map[string]string{"action": "ScaleDeployment", "target": target})
	return w.tell(e)
}

// mismatches returns what was recorded of differences: a type and a name each.
func (w *world) mismatches() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, e := range w.made {
		if e.EventType != "AuditLogCoverageChanged" {
			all = append(all, e.EventType+" "+e.Resource.Name)
		}
	}
	return strings.Join(all, ", ")
}

// live runs fn in a world in which an hour passes, with signs of life for so long.
func live(t *testing.T, p *auditlog.Policy, alive time.Duration, fn func(w *world, watcher *auditlog.Watcher)) *world {
	t.Helper()
	w := new(world)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w.arrive = make(chan *event.Event) // of this world's time
		pulse := &auditlog.Pulse{Every: time.Minute, Namespace: "graven-system", User: func() string { return operator }}
		pulse.Expect([]string{"a"}, "")
		judge := &auditlog.Judge{Identities: []string{"system:serviceaccount:aiops:*"}, Policy: p, Pulse: pulse, Trail: w, Window: 5 * time.Minute}
		watcher := auditlog.NewWatcher(auditlog.WatcherConfig{Log: w, Judge: judge, Sender: w, Dir: dir})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- watcher.Start(ctx) }()
		began := time.Now()
		for minute := range 60 {
			if time.Since(began) <= alive {
				w.asks(operator, "patch", "leases", auditlog.Lease, 200, func(d map[string]any) {
					d["requestURI"], d["objectRef"].(map[string]any)["namespace"] = "/x?fieldManager="+auditlog.Manager("a"), "graven-system"
				})
			}
			if minute == 20 {
				fn(w, watcher)
			}
			time.Sleep(time.Minute)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestLedgerAndAuditLogAreHeldAgainstEachOther(t *testing.T) {
	shipped := policy(t, string(config.AuditPolicy))
	blind := policy(t, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, users: ['system:serviceaccount:aiops:']}, {level: Metadata}]")
	const always = 2 * time.Hour
	for _, c := range []struct {
		name   string
		policy *auditlog.Policy
		alive  time.Duration
		happen func(w *world)
		want   string
	}{
		{"a write and its event", shipped, always, func(w *world) { w.claims("api"); w.asks(remediator, "patch", "deployments", "api", 200) }, ""},
		{"a pod of what the event names", shipped, always, func(w *world) {
			w.claims("prod/Deployment/api")
			w.asks(remediator, "delete", "pods", "api-6f", 200)
		}, ""},
		{"an event that names nothing", shipped, always, func(w *world) { w.claims(""); w.asks(remediator, "patch", "deployments", "api", 200) }, ""},
		{"a write without an event", shipped, always, func(w *world) { w.asks(remediator, "patch", "deployments", "api", 200) }, "WriteUnexplained api"},
		{"a write to something else", shipped, always, func(w *world) {
			w.claims("api")
			w.asks(remediator, "patch", "deployments", "api", 200)
			w.asks(remediator, "patch", "deployments", "billing", 200)
		}, "WriteUnexplained billing"},
		{"a write to what only begins with the name", shipped, always, func(w *world) {
			w.claims("deployment/api")
			w.asks(remediator, "patch", "deployments", "api", 200)
			w.asks(remediator, "delete", "secrets", "api-tls", 200, func(d map[string]any) { d["objectRef"].(map[string]any)["apiGroup"] = "" })
		}, "WriteUnexplained api-tls"},
		{"a write to another kind of the name", shipped, always, func(w *world) {
			w.claims("deployment/api")
			w.asks(remediator, "patch", "deployments", "api", 200)
			w.asks(remediator, "create", "rolebindings", "api", 200, func(d map[string]any) {
				d["objectRef"].(map[string]any)["apiGroup"] = "rbac.authorization.k8s.io"
			})
		}, "WriteUnexplained api"},
		{"a write to what the event calls by its short kind", shipped, always, func(w *world) { w.claims("deploy/api"); w.asks(remediator, "patch", "deployments", "api", 200) }, ""},
		{"a write in another's name", shipped, always, func(w *world) {
			w.asks("mallory", "patch", "deployments", "api", 200, func(d map[string]any) { d["impersonatedUser"] = map[string]any{"username": remediator} })
		}, "WriteUnexplained api"},
		{"a person's write", shipped, always, func(w *world) { w.asks("alice", "patch", "deployments", "api", 200) }, ""},
		{"one that failed", shipped, always, func(w *world) { w.asks(remediator, "patch", "deployments", "api", 409) }, ""},
		{"a dry run", shipped, always, func(w *world) {
			w.asks(remediator, "patch", "deployments", "api", 200, func(d map[string]any) { d["dryRun"] = true })
		}, ""},
		{"a write to what remediation keeps itself", shipped, always, func(w *world) {
			w.asks(remediator, "patch", "issues", "i", 200, func(d map[string]any) { d["objectRef"].(map[string]any)["apiGroup"] = "platform.chatcli.io" })
		}, ""},
		{"an event without a write", shipped, always, func(w *world) { w.claims("api") }, "ClaimUnwitnessed plan"},
		{"an event, and a write to something else", shipped, always, func(w *world) { w.claims("api"); w.asks("alice", "patch", "deployments", "api", 200) }, "ClaimUnwitnessed plan"},
		{"a log that does not arrive", shipped, 22 * time.Minute, func(w *world) { w.claims("api"); w.asks(remediator, "patch", "deployments", "web", 200) }, ""},
		{"a policy that is not known", nil, always, func(w *world) { w.claims("api") }, ""},
		{"a policy that leaves the identity out", blind, always, func(w *world) { w.claims("api") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := live(t, c.policy, c.alive, func(w *world, _ *auditlog.Watcher) { c.happen(w) })
			if got := w.mismatches(); got != c.want {
				t.Errorf("recorded %q, want %q", got, c.want)
			}
			for _, e := range w.made {
				e.Complete(e.Timestamp)
				if err := e.Validate(e.Timestamp); e.EventType != "AuditLogCoverageChanged" && err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestWhetherAuditLogsArriveIsRecorded(t *testing.T) {
	w := live(t, nil, 30*time.Minute, func(*world, *auditlog.Watcher) {})
	var told []string
	for _, e := range w.made {
		var d struct{ Covered string }
		if err := json.Unmarshal(e.Details, &d); err != nil {
			t.Fatal(err)
		}
		told = append(told, d.Covered)
	}
	if strings.Join(told, " ") != "true false" {
		t.Errorf("told %v", told)
	}
}

func TestOnlyWhoAttestsIsBelievedOfAuditLogs(t *testing.T) {
	intent := event.DeriveID("x", "y")
	with := func(d map[string]any) {
		d["annotations"] = map[string]string{"policy.capture.graven.dev/intent": intent.String(), "mallory.example.com/intent": event.NewID(time.Now()).String()}
	}
	live(t, nil, time.Hour, func(w *world, watcher *auditlog.Watcher) {
		w.hearsay = true
		w.asks("alice", "create", "pods", "p", 201, with)
		w.asks("alice", "create", "pods", "p", 201, with)
		w.hearsay = false
		if _, _, ok := watcher.Answer(intent); ok {
			t.Error("anybody is believed")
		}
		w.asks("alice", "create", "pods", "p", 403, with)
		for range 2 { // once they are there, the one before is taken
			w.asks("bob", "create", "pods", "q", 201)
		}
		r, _, ok := watcher.Answer(intent)
		if !ok || r.Done() || r.Code != 403 {
			t.Errorf("%+v, %t", r, ok)
		}
	})
}
