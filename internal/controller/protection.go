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
	api    client.Client // not cached
	cached client.Reader
	// namespace is where it is tried to create what is to be refused.
	namespace string
	ledger    *Ledger
	self      string
	elected   <-chan struct{} // closed once this operator is the one that works
	metrics   *metrics
	log       *slog.Logger
	now       func() time.Time

	known atomic.Pointer[protection]
	// weak is when there was no such policy the last time.
	weak time.Time
	// sure is when it was found out last, or first asked.
	sure time.Time
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
	now := p.now()
	switch {
	case err == nil:
		p.sure = now
	case p.sure.IsZero():
		p.sure = now
	}
	if err != nil {
		if !answered(err) || now.Sub(p.sure) < patience {
			return fmt.Errorf("it is not known: %w", err)
		}
		p.log.Warn("how AuditEvents are protected cannot be found out; what is not known is not relied on", "error", err)
	}
	if found.rung < rungPolicy {
		p.weak = now
	} else if held := p.weak.Add(policyTakesHold); held.After(found.since) {
		found.since = held // it was put back
	}
	p.known.Store(found)
	p.metrics.rung.Set(float64(found.rung))
	p.metrics.degraded.Set(float64(len(found.definition.lacks)))
	select {
	case <-p.elected:
		return errors.Join(err, p.tell(ctx, found))
	default:
		return err
	}
}

// patience is how long sealing waits until it is known how AuditEvents are
// protected. Then it goes on without.
const patience = 20 * time.Second

// answered reports whether an API server is there, and has answered with an error:
// others may be at fault, such as a quota or a webhook.
func answered(err error) bool {
	var known apierrors.APIStatus
	return errors.As(err, &known) && !apierrors.IsServiceUnavailable(err) && !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err)
}

// probe finds out how AuditEvents are protected. On an error it returns what it
// has found out.
func (p *prober) probe(ctx context.Context) (*protection, error) {
	found := &protection{definition: new(definition)}
	if k := p.known.Load(); k != nil {
		found.definition = k.definition
	}
	crd := new(unstructured.Unstructured)
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	if err := p.api.Get(ctx, client.ObjectKey{Name: definitionName}, crd); err != nil {
		return found, fmt.Errorf("read the definition of AuditEvents: %w", err)
	}
	d, err := readDefinition(crd)
	if err != nil {
		return found, err
	}
	found.definition = d
	if d.rule {
		found.rung = rungRule
	}
	owned := p.sample()
	owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}})
	if kept, err := p.refused(p.api.Create(ctx, owned, client.DryRunAll), "an audit event has no owner"); err != nil || !kept {
		return found, err
	}
	forged := p.sample()
	forged.SetAnnotations(map[string]string{v1alpha1.AnnotationCreatedBy: "somebody else"})
	kept, err := p.refused(p.api.Create(ctx, forged, client.DryRunAll), "an audit event names its creator")
	if err != nil {
		return found, err
	}
	stamped := !kept && creatorOf(forged) == p.self
	if !kept && !stamped {
		return found, nil // a policy is there that lets creators be forged
	}
	if kept, err := p.keeps(ctx); err != nil || !kept {
		return found, err
	}
	installed, err := readPolicy(ctx, p.api)
	if err != nil {
		return found, err
	}
	if why, err := installed.weaker(); err != nil || why != "" {
		p.log.Warn("the policy that protects AuditEvents refuses less than it should", "where", why)
		return found, err
	}
	found.rung, found.since = rungPolicy, installed.since()
	if stamped {
		found.rung = rungStamped
	}
	return found, nil
}

// keeps reports whether AuditEvents that there are can neither be changed nor, if
// they bear no receipt, be deleted.
func (p *prober) keeps(ctx context.Context) (bool, error) {
	list := new(unstructured.UnstructuredList)
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AuditEventList"))
	if err := p.cached.List(ctx, list); err != nil {
		return false, err
	}
	changed := false
	for i := range list.Items {
		u := &list.Items[i]
		if !changed {
			patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"graven.dev/probe":"true"}}}`))
			kept, err := p.refused(p.api.Patch(ctx, u.DeepCopy(), patch, client.DryRunAll), "an audit event cannot be changed")
			switch {
			case apierrors.IsNotFound(err):
				continue
			case err != nil || !kept:
				return false, err
			}
			changed = true
		}
		if _, sealed := receiptOf(u); sealed {
			continue
		}
		version := u.GetResourceVersion()
		kept, err := p.refused(p.api.Delete(ctx, u.DeepCopy(), client.DryRunAll, client.Preconditions{ResourceVersion: &version}), "an audit event is not deleted before it is sealed")
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // it was sealed meanwhile
		case err == nil && !kept && p.ends(ctx, u.GetNamespace()):
		default:
			return kept, err
		}
	}
	return true, nil
}

// ends reports whether a namespace is on its way out, with all that is in it.
func (p *prober) ends(ctx context.Context, namespace string) bool {
	ns := &corev1.Namespace{}
	err := p.api.Get(ctx, client.ObjectKey{Name: namespace}, ns)
	return apierrors.IsNotFound(err) || err == nil && !ns.DeletionTimestamp.IsZero()
}

// sample is an AuditEvent that is good.
func (p *prober) sample() *unstructured.Unstructured {
	u := newAuditEvent()
	u.SetNamespace(p.namespace)
	u.SetGenerateName("graven-operator-probe-") // which nobody can take
	u.Object["spec"] = map[string]any{"eventType": "ProtectionChanged", "timestamp": string(v1alpha1.NewTimestamp(p.now())),
		"actor":    map[string]any{"type": "service", "name": "graven-operator"},
		"resource": map[string]any{"kind": "AuditEvent", "name": "graven-operator-probe", "namespace": p.namespace}}
	return u
}

// refused reports whether the API server's answer to what was only tried is a
// refusal in these words. Another refusal is an error.
func (p *prober) refused(answer error, words string) (bool, error) {
	switch {
	case answer == nil:
		return false, nil
	case strings.Contains(answer.Error(), words):
		return true, nil
	}
	return false, fmt.Errorf("try what is to be refused: %w", answer)
}

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
