package auditlog

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
)

// Claims are the types of events that say that something was done to the cluster.
var Claims = []string{"RemediationExecuted", "AgenticStepExecuted", "workflowexecution.workflow.completed"}

// Types of the events that say that ledger and audit log differ.
const (
	typeUnexplained = "WriteUnexplained"
	typeUnwitnessed = "ClaimUnwitnessed"
)

// A Trail is the ledger, as far as it is held against audit logs.
type Trail interface {
	// Events calls fn for each event that happened from a time until another, is of one
	// of the types, if there are any, and is about something in the namespace, if it is not
	// empty.
	Events(ctx context.Context, q Query, fn func(*event.Event)) error
}

// A Query is a question to a [Trail].
type Query struct {
	From, Until time.Time
	Types       []string
	Namespace   string
}

// A Judge holds what remediation identities wrote against what the ledger tells.
type Judge struct {
	// Identities are users that remediate: names, or beginnings of names with * behind
	// them.
	Identities []string
	// Policy is that of the API servers; nil if it is not known, and nothing is covered.
	Policy *Policy
	Pulse  *Pulse
	Trail  Trail
	// Window is how long before and after a write its event may be, and the other way
	// round.
	Window time.Duration
}

// A Verdict is what came of a comparison.
type Verdict string

// Verdicts.
const (
	Agrees     Verdict = "agrees"
	Differs    Verdict = "differs"
	NotCovered Verdict = "not covered"
	Open       Verdict = "open" // it is too early to say
)

// bookkeeping are groups of resources that remediation itself keeps its state in, and
// writes to which explain themselves.
var bookkeeping = []string{"platform.chatcli.io", "kubernaut.ai", "graven.dev", "coordination.k8s.io", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io"}

// Remediates reports whether a request is a write by a remediation identity that an
// event is to explain.
func (j *Judge) Remediates(r *Request) bool {
	if !r.Wrote() || slices.Contains(bookkeeping, r.Group) || r.Group == "" && (r.Resource == "events" || r.Subresource == "token") {
		return false
	}
	return j.is(r.User) || j.is(r.Impersonated)
}

func (j *Judge) is(user string) bool {
	return user != "" && slices.ContainsFunc(j.Identities, func(identity string) bool {
		begin, open := strings.CutSuffix(identity, "*")
		return user == identity || open && strings.HasPrefix(user, begin)
	})
}

// Claims reports whether an event says that something was done to the cluster.
func (j *Judge) Claims(e *event.Event) bool {
	if !slices.Contains(Claims, e.EventType) || e.Outcome != event.OutcomeSuccess || len(j.Identities) == 0 {
		return false
	}
	return e.EventType != "RemediationExecuted" || detail(e, "action") != ""
}

// Explained looks for an event that explains a write.
func (j *Judge) Explained(ctx context.Context, r *Request, at, now time.Time) (Verdict, string, error) {
	if v, why := j.covered(at, now); v != "" {
		return v, why, nil
	}
	if j.Policy == nil {
		return NotCovered, noPolicy, nil
	}
	found := false
	err := j.Trail.Events(ctx, Query{From: at.Add(-j.Window), Until: at.Add(j.Window), Namespace: r.Namespace}, func(e *event.Event) {
		found = found || j.explains(e, r)
	})
	switch {
	case err != nil:
		return Open, "", err
	case found:
		return Agrees, "", nil
	}
	return Differs, "", nil
}

const noPolicy = "the API servers' audit policy is not known"

// explains reports whether an event explains a write: it is about what was written, or
// names it, or is a claim that names nothing.
func (j *Judge) explains(e *event.Event, r *Request) bool {
	of, _ := event.Lookup(e.EventType)
	if slices.Contains([]string{"kubernetes", "graven-operator", "graven-recorder", "graven"}, of.Family) || e.Outcome == event.OutcomeFailure {
		return false
	}
	if r.Name == "" { // many, or one that had no name yet
		return j.Claims(e) || e.Resource.Namespace == r.Namespace && e.Resource.Kind != "" && strings.EqualFold(e.Resource.Kind+"s", r.Resource)
	}
	t, ok := target(e)
	if !ok {
		return j.Claims(e) || names(e.Details, r)
	}
	return t.covers(r) || names(e.Details, r)
}

// Witnessed looks for a write that bears out what an event says was done.
func (j *Judge) Witnessed(ctx context.Context, e *event.Event, now time.Time) (Verdict, string, error) {
	if j.Policy == nil {
		return NotCovered, noPolicy, nil
	}
	for _, identity := range j.Identities {
		if missing := j.passedOver(identity, e.Resource.Namespace); missing != "" {
			return NotCovered, "the audit policy does not cover " + missing + " by " + identity, nil
		}
	}
	if v, why := j.covered(e.Timestamp, now); v != "" {
		return v, why, nil
	}
	found := false
	t, named := target(e)
	q := Query{From: e.Timestamp.Add(-j.Window), Until: e.Timestamp.Add(j.Window), Types: []string{TypeRequest}}
	if t.path == "" {
		q.Namespace = e.Resource.Namespace
	}
	err := j.Trail.Events(ctx, q, func(of *event.Event) {
		if r, err := Read(of.Details); err == nil && of.Recorded.Attribution == event.AttributionAdmission {
			found = found || j.Remediates(r) && (!named || r.Name == "" || t.covers(r))
		}
	})
	switch {
	case err != nil:
		return Open, "", err
	case found:
		return Agrees, "", nil
	}
	return Differs, "", nil
}

// covered says why it cannot be judged what happened at a time; "" if it can.
func (j *Judge) covered(at, now time.Time) (Verdict, string) {
	if now.Before(at.Add(j.Window)) {
		return Open, ""
	}
	why, wait := j.Pulse.Covered(at.Add(-j.Window), at.Add(j.Window), now)
	switch {
	case wait:
		return Open, ""
	case why != "":
		return NotCovered, why
	}
	return "", ""
}

// workloads are what a remediation writes to, for a claim that does not say.
var workloads = []Request{{Group: "apps", Resource: "deployments"}, {Group: "apps", Resource: "statefulsets"}, {Group: "apps", Resource: "daemonsets"}, {Resource: "pods"}}

// passedOver returns what of an identity's writes the audit policy does not have
// written; "" for none.
func (j *Judge) passedOver(identity, namespace string) string {
	groups := []string{"system:authenticated"}
	if account, ok := strings.CutPrefix(identity, "system:serviceaccount:"); ok {
		of, _, _ := strings.Cut(account, ":")
		groups = append(groups, "system:serviceaccounts", "system:serviceaccounts:"+of)
	}
	for _, r := range workloads {
		r.User, r.Groups, r.Namespace, r.Name, r.Stage = strings.TrimSuffix(identity, "*"), groups, namespace, "any", "ResponseComplete"
		for _, r.Verb = range writes {
			if j.Policy.Level(&r) == None {
				return r.Verb + " " + r.Resource
			}
		}
	}
	return ""
}

// A thing is what is acted upon, by somebody's word.
type thing struct {
	kind, name string // kind is empty where they do not say
	path       string // as they say it, where that is more than a name
}

// thingOf reads a thing: NAME, KIND/NAME or KIND/NAMESPACE/NAME, in any order of the first
// two.
func thingOf(text string) thing {
	parts := strings.Split(text, "/")
	t := thing{name: parts[len(parts)-1]}
	if len(parts) > 1 {
		t.kind, t.path = parts[0], text
	}
	return t
}

// is reports whether a resource is the thing.
func (t thing) is(r *Request) bool {
	if t.name != r.Name || t.name == "" {
		return false
	}
	if t.kind == "" {
		return !slices.Contains(guarded, r.Group) && r.Resource != "secrets" && r.Resource != "serviceaccounts"
	}
	return strings.Count(t.path, "/") > 1 || isKind(t.kind, r.Resource)
}

// guarded are the groups of what nobody changes who does not say so.
var guarded = []string{"rbac.authorization.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io", "certificates.k8s.io"}

// covers reports whether a resource is the thing, or was made for it, as the pods of a
// deployment are.
func (t thing) covers(r *Request) bool {
	return t.is(r) || t.name != "" && strings.HasPrefix(r.Name, t.name+"-") && slices.Contains(parts, r.Resource)
}

// parts are the resources that controllers make for others, with their names before their
// own.
var parts = []string{"pods", "replicasets", "jobs", "controllerrevisions", "persistentvolumeclaims"}

// isKind reports whether a kind, as people write it, is a resource's.
func isKind(kind, resource string) bool {
	kind = strings.ToLower(kind)
	if long, ok := short[kind]; ok {
		kind = long
	}
	return kind == resource || kind+"s" == resource || kind+"es" == resource || strings.TrimSuffix(kind, "y")+"ies" == resource
}

var short = map[string]string{"deploy": "deployments", "sts": "statefulsets", "ds": "daemonsets", "rs": "replicasets", "po": "pods", "cm": "configmaps", "svc": "services", "no": "nodes", "ns": "namespaces",
	"hpa": "horizontalpodautoscalers", "pvc": "persistentvolumeclaims", "ing": "ingresses"}

// target returns what an event says was acted upon, and whether it does.
func target(e *event.Event) (thing, bool) {
	for _, name := range []string{"target", "target_resource", "targetResource"} {
		if t := detail(e, name); t != "" {
			return thingOf(t), true
		}
	}
	if group, _, _ := strings.Cut(e.Resource.APIVersion, "/"); slices.Contains(bookkeeping, group) || own[e.Resource.Kind] || e.Resource.Name == "" {
		return thing{}, false
	}
	t := thing{kind: e.Resource.Kind, name: e.Resource.Name}
	return t, true
}

// own are kinds of remediation's own, for events that do not say the group.
var own = map[string]bool{"RemediationPlan": true, "Issue": true, "Anomaly": true, "AIInsight": true, "ApprovalRequest": true, "WorkflowExecution": true, "RemediationRequest": true}

func detail(e *event.Event, name string) string {
	var details map[string]any
	if json.Unmarshal(e.Details, &details) != nil {
		return ""
	}
	text, _ := details[name].(string)
	return text
}

// names reports whether a resource is some value in details.
func names(details json.RawMessage, r *Request) bool {
	var v any
	return json.Unmarshal(details, &v) == nil && has(v, r)
}

func has(v any, r *Request) bool {
	switch v := v.(type) {
	case string:
		return thingOf(v).is(r)
	case []any:
		return slices.ContainsFunc(v, func(v any) bool { return has(v, r) })
	case map[string]any:
		for _, v := range v {
			if has(v, r) {
				return true
			}
		}
	}
	return false
}
