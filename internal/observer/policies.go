package observer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1alpha1 "github.com/graven-audit/graven/api/graven/v1alpha1"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
)

// Policies are the CapturePolicies of a cluster: they are compiled, applied by an
// Observer, and say in their conditions what became of them.
type Policies struct {
	API      client.Client // reads from the cache
	Observer *Observer
	Log      *slog.Logger

	mu       sync.Mutex
	compiled map[string]*compiled // by name
}

// A compiled is a policy of a generation.
type compiled struct {
	uid        string
	generation int64
	program    *capture.Program
	err        error
}

// reportPause is how often a policy's conditions are looked at.
const reportPause = 5 * time.Second

// evaluatedFor is how long a failed evaluation stands in a policy's conditions.
const evaluatedFor = 10 * time.Minute

// Reconcile has a policy applied, or no longer, and sets its conditions.
func (p *Policies) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	policy := new(v1alpha1.CapturePolicy)
	err := p.API.Get(ctx, req.NamespacedName, policy)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	if err != nil || policy.DeletionTimestamp != nil {
		p.drop(req.Name)
		return reconcile.Result{}, nil
	}
	was := policy.Status.DeepCopy()
	p.report(policy, p.take(policy))
	if !equality.Semantic.DeepEqual(was, &policy.Status) {
		if err := p.API.Status().Update(ctx, policy); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	return reconcile.Result{RequeueAfter: reportPause}, nil
}

// take compiles a policy, unless it is compiled, and has it applied.
func (p *Policies) take(policy *v1alpha1.CapturePolicy) *compiled {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.compiled[policy.Name]; c != nil && c.uid == string(policy.UID) && c.generation == policy.Generation {
		return c
	}
	c := &compiled{uid: string(policy.UID), generation: policy.Generation}
	if c.program, c.err = capture.Compile(PolicyOf(policy)); c.err != nil {
		p.Log.Warn("a capture policy is not applied", "policy", policy.Name, "error", c.err)
	}
	if p.compiled == nil {
		p.compiled = map[string]*compiled{}
	}
	p.compiled[policy.Name] = c
	p.apply()
	return c
}

func (p *Policies) drop(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.compiled[name] != nil {
		delete(p.compiled, name)
		p.apply()
	}
}

// apply has the observer apply what compiled. p.mu must be held.
func (p *Policies) apply() {
	var programs []*capture.Program
	for _, name := range slices.Sorted(maps.Keys(p.compiled)) {
		if c := p.compiled[name]; c.program != nil {
			programs = append(programs, c.program)
		}
	}
	p.Observer.Set(programs)
}

// PolicyOf returns what a CapturePolicy says.
func PolicyOf(from *v1alpha1.CapturePolicy) capture.Policy {
	s := from.Spec
	p := capture.Policy{Name: from.Name, At: s.At, When: s.When, OnFailure: s.OnFailure,
		Match: capture.Match{Operations: s.Match.Operations, Namespaces: s.Match.Namespaces, ExceptNamespaces: s.Match.ExceptNamespaces}}
	for _, r := range s.Match.Resources {
		p.Match.Resources = append(p.Match.Resources, capture.Resource(r))
	}
	for _, v := range s.Variables {
		p.Variables = append(p.Variables, capture.Variable(v))
	}
	for _, r := range s.Record {
		record := capture.Record{Name: r.Name, When: r.When, Each: r.Each, Event: r.Event}
		if t := r.Threshold; t != nil {
			record.Threshold = &capture.Threshold{Times: int(t.Times), Within: t.Within.Duration, By: t.By}
		}
		p.Records = append(p.Records, record)
	}
	for _, r := range s.Require {
		p.Require = append(p.Require, capture.Requirement(r))
	}
	return p
}

// report sets a policy's conditions.
func (p *Policies) report(policy *v1alpha1.CapturePolicy, c *compiled) {
	s := &policy.Status
	s.ObservedGeneration = policy.Generation
	var missing []string
	set := func(condition string, good bool, reason, message string) {
		status := metav1.ConditionTrue
		if !good {
			status = metav1.ConditionFalse
			missing = append(missing, condition)
		}
		apimeta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: condition, Status: status, Reason: reason, Message: cut(message, 8192), ObservedGeneration: policy.Generation})
	}
	if c.err != nil {
		set(v1alpha1.ConditionCompiled, false, "Invalid", inSpec(c.err))
		for _, gone := range []string{v1alpha1.ConditionWatching, v1alpha1.ConditionEvaluated} {
			apimeta.RemoveStatusCondition(&s.Conditions, gone)
		}
		set(v1alpha1.ConditionReady, false, "Invalid", "nothing is captured: the policy is wrong")
		return
	}
	set(v1alpha1.ConditionCompiled, true, "Compiled", "")
	reason, messages := "Watching", []string{}
	for _, kind := range policy.Spec.Match.Resources {
		if policy.Spec.At != capture.Watch {
			continue
		}
		if why, message := p.Observer.Kind(capture.Resource(kind)); why != "Watching" {
			reason = why
			messages = append(messages, fmt.Sprintf("%s.%s: %s", kind.Resource, kind.Group, message))
		}
	}
	if policy.Spec.At == capture.Watch {
		set(v1alpha1.ConditionWatching, len(messages) == 0, reason, strings.Join(messages, "; "))
	}
	outcome := p.Observer.Outcome(policy.Name)
	s.Recorded = max(s.Recorded, outcome.Recorded)
	if recent := time.Since(outcome.Failed) < evaluatedFor; recent {
		var wrong *capture.EvalError
		text := outcome.Failure.Error()
		if errors.As(outcome.Failure, &wrong) {
			text = "spec." + text
		}
		set(v1alpha1.ConditionEvaluated, false, "Failed", text)
	} else {
		set(v1alpha1.ConditionEvaluated, true, "Evaluated", "")
	}
	if len(missing) > 0 {
		set(v1alpha1.ConditionReady, false, reasonOf(s.Conditions, missing[0]), strings.Join(missing, ", ")+" is false")
		return
	}
	set(v1alpha1.ConditionReady, true, "Ready", "")
}

// inSpec returns what is wrong with a policy, with its fields as a CapturePolicy has
// them.
func inSpec(err error) string {
	var wrong event.Invalid
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	all := make([]string, len(wrong))
	for i, w := range wrong {
		all[i] = "spec." + w.Error()
	}
	return strings.Join(all, "; ")
}

func reasonOf(conditions []metav1.Condition, condition string) string {
	return apimeta.FindStatusCondition(conditions, condition).Reason
}
