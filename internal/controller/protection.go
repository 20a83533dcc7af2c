package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
)

// A rung is how well the API server keeps AuditEvents as they were created. Each
// stops what the one before it stops, and more.
type rung int

const (
	rungNone    rung = iota // nothing: an annotation says that they are immutable
	rungRule                // changes of spec, by the definition's rule
	rungPolicy              // all changes, deletion without a receipt, forged creators
	rungStamped             // and each bears who created it
)

func (r rung) String() string {
	return [...]string{"none", "rule", "policy", "stamped"}[r]
}

// protection is what the API server was seen to do.
type protection struct {
	rung       rung
	definition *definition
	// since is when creators began to be true.
	since time.Time
}

// A prober finds out how AuditEvents are protected, by asking for what must be
// refused, as a dry run. It does not believe manifests.
type prober struct {
	api     client.Client // not cached
	ledger  *Ledger
	self    string
	elected <-chan struct{} // closed once this operator is the one that works
	metrics *metrics
	log     *slog.Logger
	now     func() time.Time

	known atomic.Pointer[protection]
	// weak is when there was no such policy the last time.
	weak time.Time
	// told is the state that the ledger was told last; empty before it was asked.
	told string
}

// Start implements manager.Runnable.
func (p *prober) Start(ctx context.Context) error {
	for {
		err := p.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := probeInterval
		if err != nil {
			p.log.Warn("look at the protection of AuditEvents", "error", err)
			wait = retryPause
		}
		pause(ctx, wait)
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (p *prober) NeedLeaderElection() bool { return false }

// probeInterval is how often the protection is looked at.
const probeInterval = time.Minute

// look probes, and tells the ledger what has changed.
func (p *prober) look(ctx context.Context) error {
	found, err := p.probe(ctx)
	if err != nil {
		return fmt.Errorf("it is not known: %w", err)
	}
	if found.rung < rungPolicy {
		p.weak = p.now()
	} else if held := p.weak.Add(policyTakesHold); held.After(found.since) {
		found.since = held // it was put back
	}
	p.known.Store(found)
	p.metrics.rung.Set(float64(found.rung))
	p.metrics.degraded.Set(float64(len(found.definition.lacks)))
	select {
	case <-p.elected:
		return p.tell(ctx, found)
	default:
		return nil
	}
}

// probe finds out how AuditEvents are protected.
func (p *prober) probe(ctx context.Context) (*protection, error) {
	crd := new(unstructured.Unstructured)
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	if err := p.api.Get(ctx, client.ObjectKey{Name: definitionName}, crd); err != nil {
		return nil, fmt.Errorf("read the definition of AuditEvents: %w", err)
	}
	d, err := readDefinition(crd)
	if err != nil {
		return nil, err
	}
	found := &protection{definition: d}
	if d.rule {
		found.rung = rungRule
	}
	owned := p.sample()
	owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}})
	kept, err := p.refused(ctx, owned, "an audit event has no owner")
	if err != nil || !kept {
		return p.settle(found, err)
	}
	forged := p.sample()
	forged.SetAnnotations(map[string]string{v1alpha1.AnnotationCreatedBy: "somebody else"})
	kept, err = p.refused(ctx, forged, "an audit event names its creator")
	if err != nil {
		return p.settle(found, err)
	}
	stamped := !kept && creatorOf(forged) == p.self
	if !kept && !stamped {
		return found, nil // a policy is there that lets creators be forged
	}
	found.rung = rungPolicy
	if stamped {
		found.rung = rungStamped
	}
	found.since, err = p.policySince(ctx)
	return found, err
}

// settle takes what is known where others keep the rest from being found out: it is
// no more than that.
func (p *prober) settle(found *protection, err error) (*protection, error) {
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		p.log.Warn("whether AuditEvents are protected by policy cannot be tried", "error", err)
		return found, nil
	}
	return found, err
}

// sample is an AuditEvent that is good.
func (p *prober) sample() *unstructured.Unstructured {
	u := newAuditEvent()
	u.SetNamespace(metav1.NamespaceDefault)
	u.SetGenerateName("graven-operator-probe-") // which nobody can take
	u.Object["spec"] = map[string]any{"eventType": "ProtectionChanged", "timestamp": string(v1alpha1.NewTimestamp(p.now())),
		"actor":    map[string]any{"type": "service", "name": "graven-operator"},
		"resource": map[string]any{"kind": "AuditEvent", "name": "graven-operator-probe", "namespace": metav1.NamespaceDefault}}
	return u
}

// refused reports whether the API server refuses to create an object in these
// words. Nothing is created.
func (p *prober) refused(ctx context.Context, u *unstructured.Unstructured, words string) (bool, error) {
	err := p.api.Create(ctx, u, client.DryRunAll)
	switch {
	case err == nil:
		return false, nil
	case strings.Contains(err.Error(), words):
		return true, nil
	}
	return false, fmt.Errorf("try what is refused: %w", err)
}

// policySince returns since when the policy is there: what was created before may
// name anybody.
func (p *prober) policySince(ctx context.Context) (time.Time, error) {
	var since time.Time
	for _, kind := range []string{"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} {
		u := new(unstructured.Unstructured)
		u.SetGroupVersionKind(schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: kind})
		if err := p.api.Get(ctx, client.ObjectKey{Name: "graven-auditevents"}, u); err != nil {
			return since, fmt.Errorf("read when the policy was made: %w", err)
		}
		if at := u.GetCreationTimestamp().Time; at.After(since) {
			since = at
		}
	}
	return since.Add(policyTakesHold), nil
}

// policyTakesHold is how long an API server may take until a new policy counts.
const policyTakesHold = 10 * time.Second

// creator returns who created an object, if that is known.
func (p *prober) creator(u *unstructured.Unstructured) string {
	k := p.known.Load()
	if k == nil || k.rung < rungPolicy || u.GetCreationTimestamp().Time.Before(k.since) {
		return ""
	}
	return creatorOf(u)
}

// tell records a change.
func (p *prober) tell(ctx context.Context, found *protection) error {
	state := found.rung.String() + " " + strings.Join(found.definition.lacks, ",")
	if p.told == "" {
		last, err := p.ledger.last(ctx, typeProtection)
		if err != nil {
			return err
		}
		if last != nil {
			var d struct{ Rung, Lacks string }
			if err := unmarshalDetails(last, &d); err != nil {
				return err
			}
			p.told = d.Rung + " " + d.Lacks
		}
	}
	if p.told == state {
		return nil
	}
	was, _, _ := strings.Cut(p.told, " ")
	e := own(typeProtection, p.now(), event.Resource{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition", Name: definitionName})
	if r, ok := rungOf(was); ok && r > found.rung {
		e.Severity = event.SeverityCritical
	}
	err := e.SetDetails(map[string]string{"rung": found.rung.String(), "was": was, "lacks": strings.Join(found.definition.lacks, ","),
		"level": strconv.Itoa(int(found.rung))})
	if err == nil {
		_, err = p.ledger.record(ctx, "", e)
	}
	if err == nil {
		p.log.Info("AuditEvents are protected", "rung", found.rung.String(), "was", was, "lacks", found.definition.lacks)
		p.told = state
	}
	return err
}

func rungOf(name string) (rung, bool) {
	i := slices.Index([]string{"none", "rule", "policy", "stamped"}, name)
	return rung(i), i >= 0
}

// ready implements healthz.Checker.
func (p *prober) ready(*http.Request) error {
	if p.known.Load() == nil {
		return errors.New("it is not known yet how AuditEvents are protected")
	}
	return nil
}
