// Package protection finds out how an API server keeps AuditEvents as they were
// created, and tells the ledger when that changes. It tries what is to be refused,
// and reads the policies for what cannot be tried.
package protection

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
)

// A Rung is how well the API server keeps AuditEvents as they were created. Each
// stops what the one before it stops, and more.
type Rung int

// The rungs, and what each stops.
const (
	None    Rung = iota // nothing: an annotation says that they are immutable
	Rule                // changes of spec, by the definition's rule
	Policy              // all changes, deletion without a receipt, forged creators
	Stamped             // and each bears who created it
)

// String returns the rung's name, as events and answers have it.
func (r Rung) String() string {
	return [...]string{"none", "rule", "policy", "stamped"}[r]
}

// Found is what an API server was seen to do.
type Found struct {
	Rung       Rung
	Definition *Definition
	// Retires are the users who may delete AuditEvents, in the policy's words.
	Retires string
	// since is when creators began to be true.
	since time.Time
	// read is set if the API server has answered: what fails then, others may be
	// at fault for, such as a quota, a webhook, or who took the operator's rights.
	read bool
}

// A Ledger is what is told of changes.
type Ledger interface {
	// Tell records an event of the operator's own about a resource.
	Tell(ctx context.Context, eventType, severity string, at time.Time, resource event.Resource, details map[string]string) error
	// Told returns the details of the newest event of a type; nil if there is none.
	Told(ctx context.Context, eventType string) (json.RawMessage, error)
}

// Config of a Prober. All of it is required.
type Config struct {
	API    client.Client // not cached
	Cached client.Reader
	// Namespace is where it is tried to create what is to be refused.
	Namespace string
	Ledger    Ledger
	Self      string          // the operator's own user
	Elected   <-chan struct{} // closed once this operator is the one that works
	Rung      prometheus.Gauge
	Degraded  prometheus.Gauge // the fields that the definition lacks
	Log       *slog.Logger
}

// A Prober finds out how AuditEvents are protected, by asking for what must be
// refused, as a dry run.
type Prober struct {
	c     Config
	known atomic.Pointer[Found]
	// weak is when there was no such policy the last time.
	weak time.Time
	// version is that of the policy and its binding, and changed when it was another.
	version string
	changed time.Time
	// fails is since when it cannot be found out, though the API server is there;
	// zero if it can.
	fails time.Time
	// told is the state that the ledger was told last; empty before it was asked.
	// telling is what it is told since began, until it has it.
	told, telling string
	began         time.Time
}

// New returns a Prober, which begins with Start.
func New(c Config) *Prober { return &Prober{c: c} }

// Known returns what was found out last; nil as long as nothing was.
func (p *Prober) Known() *Found { return p.known.Load() }

// Start implements manager.Runnable.
func (p *Prober) Start(ctx context.Context) error {
	for {
		err := p.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := interval
		if err != nil {
			p.c.Log.Warn("look at the protection of AuditEvents", "error", err)
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (p *Prober) NeedLeaderElection() bool { return false }

// interval is how often the protection is looked at.
const interval = time.Minute

// look probes, and tells the ledger what has changed.
func (p *Prober) look(ctx context.Context) error {
	found, err := p.probe(ctx)
	now := time.Now()
	switch {
	case err == nil || !found.read:
		p.fails = time.Time{}
	case p.fails.IsZero():
		p.fails = now
	}
	if err != nil {
		if !found.read || now.Sub(p.fails) < patience {
			return fmt.Errorf("it is not known: %w", err)
		}
		p.c.Log.Warn("how AuditEvents are protected cannot be found out; what is not known is not relied on", "error", err)
	}
	if found.Rung < Policy && err == nil {
		p.weak = now
	} else if held := p.weak.Add(policyTakesHold); held.After(found.since) {
		found.since = held // it was put back
	}
	p.known.Store(found)
	p.c.Rung.Set(float64(found.Rung))
	p.c.Degraded.Set(float64(len(found.Definition.Lacks)))
	select {
	case <-p.c.Elected:
		return errors.Join(err, p.tell(ctx, found))
	default:
		return err
	}
}

// patience is how long sealing waits until it is known how AuditEvents are
// protected. Then it goes on without.
const patience = 20 * time.Second

// probe finds out how AuditEvents are protected. On an error it returns what it
// has found out.
func (p *Prober) probe(ctx context.Context) (*Found, error) {
	found := &Found{Definition: new(Definition)}
	if k := p.known.Load(); k != nil {
		found.Definition = k.Definition
	}
	crd := new(unstructured.Unstructured)
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	if err := p.c.API.Get(ctx, client.ObjectKey{Name: definitionName}, crd); err != nil {
		var answer apierrors.APIStatus
		found.read = errors.As(err, &answer) && !apierrors.IsServiceUnavailable(err) && !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err)
		return found, fmt.Errorf("read the definition of AuditEvents: %w", err)
	}
	found.read = true
	d, err := readDefinition(crd)
	if err != nil {
		return found, err
	}
	found.Definition = d
	if d.rule {
		found.Rung = Rule
	}
	owned := p.sample()
	owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}})
	if kept, err := p.refused(p.c.API.Create(ctx, owned, client.DryRunAll), "an audit event has no owner"); err != nil || !kept {
		return found, err
	}
	forged := p.sample()
	forged.SetAnnotations(map[string]string{v1alpha1.AnnotationCreatedBy: "somebody else"})
	kept, err := p.refused(p.c.API.Create(ctx, forged, client.DryRunAll), "an audit event names its creator")
	if err != nil {
		return found, err
	}
	stamped := !kept && forged.GetAnnotations()[v1alpha1.AnnotationCreatedBy] == p.c.Self
	if !kept && !stamped {
		return found, nil // a policy is there that lets creators be forged
	}
	if kept, err := p.keeps(ctx); err != nil || !kept {
		return found, err
	}
	rungs := []struct {
		rung Rung
		name string
		file string
	}{{Policy, "graven-auditevents", "policies/auditevents.yaml"}, {Stamped, "graven-auditevents-stamp", "policies/stamp/stamp.yaml"}}
	for _, r := range rungs {
		if r.rung == Stamped && !stamped {
			break
		}
		installed, err := readPolicy(ctx, p.c.API, r.name)
		if r.rung == Stamped && apierrors.IsNotFound(err) {
			break // it stamps those who are asked for, and nothing refuses the others
		}
		if err != nil {
			return found, err
		}
		why, err := installed.weaker(r.file, p.c.Self)
		if err != nil {
			return found, err
		}
		if why != "" {
			p.c.Log.Warn("the policy that protects AuditEvents refuses less than it should", "policy", r.name, "where", why)
			return found, nil
		}
		found.Rung = r.rung
		if r.rung == Policy {
			found.since, found.Retires = p.holds(installed), installed.retires()
		}
	}
	return found, nil
}

// holds returns since when a policy counts as it is: what was created before may name
// anybody.
func (p *Prober) holds(now *policy) time.Time {
	since := now.since()
	if version := now.ResourceVersion + " " + now.binding.ResourceVersion; version != p.version {
		if p.version != "" {
			p.changed = time.Now()
		}
		p.version = version
	}
	if p.changed.After(since) {
		since = p.changed
	}
	return since.Add(policyTakesHold)
}

// keeps reports whether AuditEvents that there are can neither be changed nor, if
// they bear no receipt, be deleted.
func (p *Prober) keeps(ctx context.Context) (bool, error) {
	list := new(unstructured.UnstructuredList)
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AuditEventList"))
	if err := p.c.Cached.List(ctx, list); err != nil {
		return false, err
	}
	changed, ending := false, map[string]bool{}
	for i := range list.Items {
		u := &list.Items[i]
		if !changed {
			patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"graven.dev/probe":"`+p.word()+`"}}}`))
			kept, err := p.refused(p.c.API.Patch(ctx, u.DeepCopy(), patch, client.DryRunAll), "an audit event cannot be changed")
			switch {
			case apierrors.IsNotFound(err):
				continue
			case err != nil || !kept:
				return false, err
			}
			changed = true
		}
		if u.GetAnnotations()[v1alpha1.AnnotationIndex] != "" {
			continue
		}
		if ending[u.GetNamespace()] {
			continue
		}
		version := u.GetResourceVersion()
		kept, err := p.refused(p.c.API.Delete(ctx, u.DeepCopy(), client.DryRunAll, client.Preconditions{ResourceVersion: &version}), "an audit event is not deleted before it is sealed")
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it was sealed meanwhile
			continue
		}
		if err != nil || kept {
			return kept, err
		}
		if ending[u.GetNamespace()], err = p.ends(ctx, u.GetNamespace()); err != nil || !ending[u.GetNamespace()] {
			return false, err
		}
	}
	return true, nil
}

// word returns one that no AuditEvent has: to change nothing is never refused.
func (p *Prober) word() string { return strings.ToLower(rand.Text()) }

// ends reports whether a namespace is on its way out, with all that is in it.
func (p *Prober) ends(ctx context.Context, namespace string) (bool, error) {
	ns := &corev1.Namespace{}
	err := p.c.API.Get(ctx, client.ObjectKey{Name: namespace}, ns)
	return apierrors.IsNotFound(err) || !ns.DeletionTimestamp.IsZero(), client.IgnoreNotFound(err)
}

// sample is an AuditEvent that is good.
func (p *Prober) sample() *unstructured.Unstructured {
	u := new(unstructured.Unstructured)
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AuditEvent"))
	u.SetNamespace(p.c.Namespace)
	u.SetGenerateName("graven-operator-probe-") // which nobody can take
	u.Object["spec"] = map[string]any{"eventType": "ProtectionChanged", "timestamp": string(v1alpha1.NewTimestamp(time.Now())),
		"actor":    map[string]any{"type": "service", "name": "graven-operator"},
		"resource": map[string]any{"kind": "AuditEvent", "name": "graven-operator-probe", "namespace": p.c.Namespace}}
	return u
}

// refused reports whether the API server's answer to what was only tried is a
// refusal in these words. Another refusal is an error.
func (p *Prober) refused(answer error, words string) (bool, error) {
	switch {
	case answer == nil:
		return false, nil
	case strings.Contains(answer.Error(), words):
		return true, nil
	}
	return false, fmt.Errorf("try what is to be refused: %w", answer)
}

// Creator returns who created an object, if that is known.
func (p *Prober) Creator(u *unstructured.Unstructured) string {
	k := p.known.Load()
	if k == nil || k.Rung < Policy || u.GetCreationTimestamp().Time.Before(k.since) {
		return ""
	}
	return u.GetAnnotations()[v1alpha1.AnnotationCreatedBy]
}

// typeChanged is the type of the event that tells of a change.
const typeChanged = "AuditEventProtectionChanged"

// tell records a change.
func (p *Prober) tell(ctx context.Context, found *Found) error {
	state := found.Rung.String() + " " + strings.Join(found.Definition.Lacks, ",") + " " + found.Retires
	if p.told == "" {
		last, err := p.c.Ledger.Told(ctx, typeChanged)
		if err != nil {
			return err
		}
		if len(last) > 0 {
			var d struct{ Rung, Lacks, Retires string }
			if err := json.Unmarshal(last, &d); err != nil {
				return err
			}
			p.told = d.Rung + " " + d.Lacks + " " + d.Retires
		}
	}
	if p.told == state {
		return nil
	}
	if p.telling != state {
		p.telling, p.began = state, time.Now()
	}
	was, _, _ := strings.Cut(p.told, " ")
	severity := ""
	if r, ok := rungOf(was); ok && r > found.Rung {
		severity = event.SeverityCritical
	}
	err := p.c.Ledger.Tell(ctx, typeChanged, severity, p.began, event.Resource{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition", Name: definitionName},
		map[string]string{"rung": found.Rung.String(), "was": was, "lacks": strings.Join(found.Definition.Lacks, ","), "retires": found.Retires, "level": strconv.Itoa(int(found.Rung))})
	if err == nil {
		p.c.Log.Info("AuditEvents are protected", "rung", found.Rung.String(), "was", was, "lacks", found.Definition.Lacks)
		p.told, p.telling = state, ""
	}
	return err
}

func rungOf(name string) (Rung, bool) {
	i := slices.Index([]string{"none", "rule", "policy", "stamped"}, name)
	return Rung(i), i >= 0
}

// Ready implements healthz.Checker.
func (p *Prober) Ready(*http.Request) error {
	if p.known.Load() == nil {
		return errors.New("it is not known yet how AuditEvents are protected")
	}
	return nil
}
