package capturepolicy

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
	"github.com/graven-audit/graven/internal/admission"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/observer"
)

// A reconciler has the CapturePolicies of a cluster compiled and applied, and their
// conditions say what became of them.
type reconciler struct {
	api       client.Client // reads from the cache
	observer  *observer.Observer
	server    *admission.Server
	registrar *admission.Registrar // nil where nothing is asked at admission
	own       []*capture.Program
	elected   <-chan struct{} // closed once this operator leads
	log       *slog.Logger

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
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	policy := new(v1alpha1.CapturePolicy)
	err := r.api.Get(ctx, req.NamespacedName, policy)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	if err != nil || policy.DeletionTimestamp != nil {
		r.drop(req.Name)
		return reconcile.Result{}, nil
	}
	was := policy.Status.DeepCopy()
	c, err := r.take(ctx, policy)
	if err != nil {
		return reconcile.Result{}, err
	}
	select {
	case <-r.elected:
	default:
		return reconcile.Result{RequeueAfter: reportPause}, nil // which is another's to say
	}
	r.report(policy, c)
	if !equality.Semantic.DeepEqual(was, &policy.Status) {
		if err := r.api.Status().Update(ctx, policy); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	return reconcile.Result{RequeueAfter: reportPause}, nil
}

// take compiles a policy, unless it is compiled, and has it applied. The first time,
// all are: a policy that is not there is one that was deleted.
func (r *reconciler) take(ctx context.Context, policy *v1alpha1.CapturePolicy) (*compiled, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.compiled == nil {
		if err := r.takeAll(ctx); err != nil {
			return nil, err
		}
	}
	if c := r.compiled[policy.Name]; c != nil && c.uid == string(policy.UID) && c.generation == policy.Generation {
		return c, nil
	}
	c := r.compile(policy)
	r.apply()
	return c, nil
}

// takeAll compiles all policies, and has them applied. r.mu must be held.
func (r *reconciler) takeAll(ctx context.Context) error {
	var all v1alpha1.CapturePolicyList
	if err := r.api.List(ctx, &all); err != nil {
		return err
	}
	r.compiled = map[string]*compiled{}
	for i := range all.Items {
		r.compile(&all.Items[i])
	}
	r.apply()
	return nil
}

// begin has all policies applied, of which there may be none.
func (r *reconciler) begin(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.compiled != nil {
		return nil
	}
	return r.takeAll(ctx)
}

// compile compiles a policy. r.mu must be held.
func (r *reconciler) compile(policy *v1alpha1.CapturePolicy) *compiled {
	c := &compiled{uid: string(policy.UID), generation: policy.Generation}
	if c.program, c.err = capture.Compile(policyOf(policy)); c.err != nil {
		r.log.Warn("a capture policy is not applied", "policy", policy.Name, "error", c.err)
	}
	r.compiled[policy.Name] = c
	return c
}

func (r *reconciler) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.compiled[name] != nil {
		delete(r.compiled, name)
		r.apply()
	}
}

// apply has what compiled applied. r.mu must be held.
func (r *reconciler) apply() {
	programs := slices.Clone(r.own)
	for _, name := range slices.Sorted(maps.Keys(r.compiled)) {
		if c := r.compiled[name]; c.program != nil {
			programs = append(programs, c.program)
		}
	}
	r.observer.Set(programs)
	r.server.Set(programs)
}

// policyOf returns what a CapturePolicy says.
func policyOf(from *v1alpha1.CapturePolicy) capture.Policy {
	s := from.Spec
	p := capture.Policy{Name: from.Name, At: s.At, When: s.When, OnFailure: s.OnFailure,
		Match: capture.Match{Operations: s.Match.Operations, Namespaces: s.Match.Namespaces, ExceptNamespaces: s.Match.ExceptNamespaces, Names: s.Match.Names}}
	for _, r := range s.Match.Resources {
		p.Match.Resources = append(p.Match.Resources, capture.Resource(r))
	}
	for _, v := range s.Variables {
		p.Variables = append(p.Variables, capture.Variable(v))
	}
	for _, r := range s.Record {
		record := capture.Record{Name: r.Name, When: r.When, Lasts: r.Lasts.Duration, Each: r.Each, Claim: r.Claim, Event: r.Event}
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
func (r *reconciler) report(policy *v1alpha1.CapturePolicy, c *compiled) {
	s := &policy.Status
	s.ObservedGeneration = policy.Generation
	var missing []string
	set := func(condition string, good bool, reason, message string) {
		status := metav1.ConditionTrue
		if !good {
			status = metav1.ConditionFalse
			missing = append(missing, condition)
		}
		apimeta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: condition, Status: status, Reason: reason, Message: message, ObservedGeneration: policy.Generation})
	}
	if c.err != nil {
		set(v1alpha1.ConditionCompiled, false, "Invalid", inSpec(c.err))
		for _, gone := range []string{v1alpha1.ConditionWatching, v1alpha1.ConditionRegistered, v1alpha1.ConditionEvaluated} {
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
		if why, message := r.observer.Kind(capture.Resource(kind)); why != "Watching" {
			reason = why
			messages = append(messages, fmt.Sprintf("%s.%s: %s", kind.Resource, kind.Group, message))
		}
	}
	if policy.Spec.At == capture.Watch {
		set(v1alpha1.ConditionWatching, len(messages) == 0, reason, strings.Join(messages, "; "))
	} else if err := r.registered(policy.Name); err != nil {
		set(v1alpha1.ConditionRegistered, false, "NotRegistered", err.Error())
	} else {
		set(v1alpha1.ConditionRegistered, true, "Registered", "")
	}
	outcome := r.observer.Outcome(policy.Name)
	if policy.Spec.At == capture.Admission {
		outcome = observer.Outcome(r.server.Outcome(policy.Name))
	}
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

// registered returns why the API server does not ask for a policy; nil if it does.
func (r *reconciler) registered(policy string) error {
	if r.registrar == nil {
		return errors.New("the operator serves no webhook (--webhook-address)")
	}
	return r.registrar.Registered(policy)
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

// service returns the Service that a host name is of.
func service(host string) (name, namespace string, ok bool) {
	parts := strings.Split(host, ".")
	if len(parts) < 3 || parts[2] != "svc" {
		return "", "", false
	}
	return parts[0], parts[1], true
}
