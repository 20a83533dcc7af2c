package capture

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/common/types/ref"

	"github.com/graven-audit/graven/event"
)

// Types of the events that tell of a request beside what a policy records of it.
const (
	typeForged  = "IdentityForged"
	typeRefused = "RequestRefused"
	typeFailed  = "CaptureFailed"
)

// By returns the actor that an API server has authenticated, from a request's
// userInfo. What Kubernetes itself does, its garbage collection among it, is the
// system's.
func By(user map[string]any) event.Actor {
	name, _ := user["username"].(string)
	a := event.Actor{Type: event.ActorUser, Name: nameOf(name)}
	account, isAccount := strings.CutPrefix(name, "system:serviceaccount:")
	switch {
	case strings.HasPrefix(account, "kube-system:") && isAccount:
		a.Type = event.ActorSystem
	case isAccount:
		a.Type = event.ActorService
	case name == "system:anonymous", name == "system:admin": // anybody, and a person with the cluster's own certificate
	case strings.HasPrefix(name, "system:"):
		a.Type = event.ActorSystem
	}
	if _, account, ok := strings.Cut(account, ":"); isAccount && ok {
		a.ServiceAccount = nameOf(account)
	}
	if name == "" {
		a.Name = "unknown"
	}
	return a
}

// DetailIntent is the detail that says of an event where it is an intent, and the audit
// annotation with which the webhook names the events of a request, separated by spaces,
// in the API server's audit log: there, the webhook's name and a slash stand before it.
const DetailIntent = "intent"

// WebhookSuffix ends the names of Graven's webhooks.
const WebhookSuffix = ".graven.dev"

// A Requester is what admission knows of who asks, and for what: the detail
// "admission" of an intent.
type Requester struct {
	Username    string              `json:"username"`
	UID         string              `json:"uid,omitempty"`
	Groups      []string            `json:"groups,omitempty"`
	Extra       map[string][]string `json:"extra,omitempty"`
	Request     string              `json:"request"` // the uid that the API server gave it
	Operation   string              `json:"operation"`
	Resource    string              `json:"resource"` // {group}/{version}/{resource}
	SubResource string              `json:"subResource,omitempty"`
	// Before and After are digests of the state until then, and of the one that is asked
	// for.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// BeforeVersion is the resourceVersion of the state until then.
	BeforeVersion string `json:"beforeVersion,omitempty"`
	// Omitted are members that have no room here, or only in part.
	Omitted []string `json:"omitted,omitempty"`
}

// maxRequester bounds a Requester, in bytes of JSON.
const maxRequester = 64 << 10

// bound leaves out what has no room: what one may claim without bound comes first.
func (r *Requester) bound() {
	for _, leave := range []struct {
		member string
		out    func()
	}{{"extra", func() { r.Extra = nil }}, {"groups", func() { r.Groups = nil }}, {"username", func() { r.Username = nameOf(r.Username) }}, {"uid", func() { r.UID = nameOf(r.UID) }}} {
		if text, err := json.Marshal(r); err == nil && len(text) <= maxRequester {
			return
		}
		leave.out()
		r.Omitted = append(r.Omitted, leave.member)
	}
}

// nameOf returns a name as an event can bear it: one that is too long is told from others
// by a digest at its end.
func nameOf(name string) string {
	if len(name) <= event.MaxString {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.ToValidUTF8(name[:event.MaxString-20], "") + "…" + hex.EncodeToString(sum[:8])
}

// asked has an event be an intent: it bears who asks, and what for, and is pending
// unless the policy says otherwise.
func (s *scope) asked(e *event.Event, in *Input) error {
	user, _ := in.Request["userInfo"].(map[string]any)
	e.Actor = By(user)
	if e.Outcome == "" {
		e.Outcome = event.OutcomePending
	}
	text, err := json.Marshal(user)
	if err != nil {
		return err
	}
	who := Requester{Operation: in.Operation, Before: Digest(in.Old), After: Digest(in.Object)}
	if err := json.Unmarshal(text, &who); err != nil {
		return err
	}
	who.Request, _ = in.Request["uid"].(string)
	who.SubResource, _ = in.Request["subResource"].(string)
	if of, ok := in.Request["resource"].(map[string]any); ok {
		who.Resource = fmt.Sprintf("%v/%v/%v", of["group"], of["version"], of["resource"])
	}
	if meta, ok := in.Old["metadata"].(map[string]any); ok {
		who.BeforeVersion, _ = meta["resourceVersion"].(string)
	}
	who.bound()
	details := map[string]any{}
	if len(e.Details) > 0 {
		if err := json.Unmarshal(e.Details, &details); err != nil {
			return err
		}
	}
	details["admission"] = who
	if e.Outcome == event.OutcomePending {
		details[DetailIntent] = Admission
	}
	e.ID = event.DeriveID("capture", s.program.Policy.At, e.Cluster, e.Fact, who.Request)
	return e.SetDetails(details)
}

// forged returns the event that says that somebody claims to be another; nil if they
// do not, or it is not known whom they claim to be.
func (s *scope) forged(r *record, e *event.Event) (*event.Event, error) {
	if r.claim == nil {
		return nil, nil
	}
	v, err := s.eval(r.claim)
	if err != nil {
		if missing(err) {
			return nil, nil
		}
		return nil, err
	}
	claimed, ok := unwrapped(v).(string)
	if !ok || claimed == "" || claimed == e.Actor.Name {
		return nil, nil
	}
	f := &event.Event{EventType: typeForged, Timestamp: e.Timestamp, Cluster: e.Cluster, Actor: e.Actor, Resource: e.Resource, CorrelationID: e.CorrelationID,
		Fact: e.Fact + "/forged", ID: event.DeriveID(typeForged, e.ID.String())}
	return f, f.SetDetails(map[string]string{"claimed": claimed, "eventType": e.EventType, "policy": s.program.Policy.Name})
}

// unwrapped returns a value, of an optional what is in it; nil for nothing.
func unwrapped(v ref.Val) any {
	if o, ok := v.(interface {
		HasValue() bool
		GetValue() ref.Val
	}); ok {
		if !o.HasValue() {
			return nil
		}
		v = o.GetValue()
	}
	return v.Value()
}

// Refused returns the event that says that a request was refused, in which words.
func (p *Program) Refused(in *Input, words string) *event.Event {
	return p.beside(typeRefused, in, map[string]string{"policy": p.Policy.Name, "message": cut(words)})
}

// Failed returns the event that says that a policy has failed on a request, which is let
// pass.
func (p *Program) Failed(in *Input, err error) *event.Event {
	details := map[string]string{"policy": p.Policy.Name, "reason": cut(err.Error())}
	var wrong *EvalError
	if errors.As(err, &wrong) {
		details["field"] = wrong.Field
	}
	return p.beside(typeFailed, in, details)
}

// cut shortens text that somebody may make as long as they like.
func cut(text string) string { return strings.ToValidUTF8(text[:min(len(text), 4096)], "") }

// beside returns an event about a request that no policy has described.
func (p *Program) beside(eventType string, in *Input, details any) *event.Event {
	s := &scope{program: p}
	e := &event.Event{EventType: eventType, Timestamp: in.Now.UTC(), Cluster: in.Cluster, Resource: about(in), Outcome: event.OutcomeFailure}
	request, _ := in.Request["uid"].(string)
	e.Fact = strings.Join([]string{e.Resource.UID, eventType, request}, "/")
	if e.Resource.Name == "" { // it has none yet
		e.Resource.Name, _ = in.Request["name"].(string)
	}
	if err := errors.Join(e.SetDetails(details), s.asked(e, in)); err != nil { // of what was JSON
		panic(err)
	}
	return e
}

// Refusing reports whether what a policy cannot judge, or record, is refused.
func (p *Policy) Refusing() bool {
	return p.At == Admission && (len(p.Require) > 0 || p.OnFailure == Refuse)
}

// identities are the fields of an event that admission gives, and no policy.
var identities = []string{"actor.type", "actor.name", "actor.serviceAccount", "actor.controller"}

func isIdentity(field string) bool { return slices.Contains(identities, field) }
