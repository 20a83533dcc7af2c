package admission

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/seglog"
)

// A Registrar has the API server ask a Server, as long as there are policies for
// admission, and records when it was kept from that.
type Registrar struct {
	// API is without a cache.
	API client.Client
	// Name is that of the ValidatingWebhookConfiguration, and of the ClusterRole with
	// which it goes, where there is one.
	Name string
	// URL is where the server is asked, without a path; or Service is, in Namespace.
	URL       string
	Service   *admissionregistrationv1.ServiceReference
	Namespace string // the operator's own, where nothing is asked about
	Identity  *Identity
	Server    *Server
	// File keeps what was registered last.
	File    string
	Sender  Sender
	Cluster string
	Metrics *Metrics
	Log     *slog.Logger

	mu         sync.Mutex
	registered map[string]bool // the policies
	failure    error
	seen       *registration // as it was seen last; what is in File may be older
	kept       time.Time     // when it was written
}

// A registration is a configuration as it was left.
type registration struct {
	UID        string
	Generation int64
	At         time.Time // when it was seen so
}

// keepPause is how often it is written that nothing has changed.
const keepPause = 30 * time.Second

// checkPause is how often the registration is looked at.
const checkPause = 2 * time.Second

// Start registers until ctx ends.
func (r *Registrar) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.Identity.Load(ctx)
		if err == nil {
			err = r.look(ctx)
		}
		r.mu.Lock()
		changed := fmt.Sprint(r.failure) != fmt.Sprint(err)
		r.failure = err
		r.mu.Unlock()
		if err != nil && changed && ctx.Err() == nil {
			r.Log.Warn("the API server is not told to ask about requests", "error", err)
		}
		select {
		case <-time.After(checkPause):
		case <-ctx.Done():
		}
	}
	return nil
}

// Registered returns whether the API server asks for a policy, and why not.
func (r *Registrar) Registered(policy string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		return r.failure
	}
	if !r.registered[policy] {
		return errors.New("it is not registered yet")
	}
	return nil
}

// look compares the registration with what it is to be, and mends it.
func (r *Registrar) look(ctx context.Context) error {
	programs := r.Server.Programs()
	if programs == nil {
		return nil // what is registered stays until it is known what is to be
	}
	want := r.want(programs)
	if err := r.own(ctx, want); err != nil {
		return err
	}
	last, err := r.last()
	if err != nil {
		return err
	}
	have := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	err = r.API.Get(ctx, client.ObjectKey{Name: r.Name}, have)
	absent := apierrors.IsNotFound(err)
	if err != nil && !absent {
		return fmt.Errorf("read the registration: %w", err)
	}
	reason := ""
	switch {
	case last == nil:
	case absent:
		reason = "it was deleted"
	case last.UID != string(have.UID):
		reason = "it was deleted, and put back"
	case last.Generation != have.Generation:
		reason = "it was changed"
	}
	switch {
	case len(want.Webhooks) == 0 && absent:
	case len(want.Webhooks) == 0:
		if err := r.API.Delete(ctx, have, client.Preconditions{UID: &have.UID}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete the registration: %w", err)
		}
	case absent:
		if err := r.API.Create(ctx, want); err != nil {
			return fmt.Errorf("register: %w", err)
		}
		have = want
	case !equality.Semantic.DeepEqual(want.Webhooks, have.Webhooks):
		have.Webhooks, have.OwnerReferences = want.Webhooks, want.OwnerReferences
		if err := r.API.Update(ctx, have); err != nil {
			return fmt.Errorf("register: %w", err)
		}
	}
	if reason != "" { // once it is mended, for there may be no room for a record
		if err := r.Gap(ctx, last.At, "the registration: "+reason); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.registered = map[string]bool{}
	for name := range programs {
		r.registered[name] = true
	}
	r.mu.Unlock()
	if len(want.Webhooks) == 0 {
		return r.keep(nil)
	}
	return r.keep(&registration{UID: string(have.UID), Generation: have.Generation, At: time.Now().UTC()})
}

// want returns the configuration for policies.
func (r *Registrar) want(programs map[string]*capture.Program) *admissionregistrationv1.ValidatingWebhookConfiguration {
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: r.Name, Labels: map[string]string{"app.kubernetes.io/part-of": "graven"}}}
	k := r.Identity.current.Load()
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		p := &programs[name].Policy
		path := "/" + k.paths[0] + "/" + name
		at := admissionregistrationv1.WebhookClientConfig{CABundle: k.authority}
		if r.Service != nil {
			service := *r.Service
			service.Path = &path
			if service.Port == nil {
				service.Port = new(int32(443))
			}
			at.Service = &service
		} else {
			url := strings.TrimSuffix(r.URL, "/") + path
			at.URL = &url
		}
		policy := admissionregistrationv1.Ignore
		if p.Refusing() {
			policy = admissionregistrationv1.Fail
		}
		c.Webhooks = append(c.Webhooks, admissionregistrationv1.ValidatingWebhook{
			Name: webhookName(name), ClientConfig: at, Rules: rulesOf(p), FailurePolicy: &policy, MatchPolicy: new(admissionregistrationv1.Equivalent),
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "kubernetes.io/metadata.name",
				Operator: metav1.LabelSelectorOpNotIn, Values: slices.Compact([]string{metav1.NamespaceSystem, r.Namespace})}}},
			ObjectSelector: &metav1.LabelSelector{}, // all that has a default says it, so that it can be held against what is there
			SideEffects:    new(admissionregistrationv1.SideEffectClassNoneOnDryRun), TimeoutSeconds: new(int32(maxLedger/time.Second) + 2), AdmissionReviewVersions: []string{"v1"}})
	}
	if len(c.Webhooks) > 0 {
		c.Webhooks = append(c.Webhooks, r.probe(&c.Webhooks[0]))
	}
	return c
}

// probe returns the webhook by which it is found out whether the API server is answered.
func (r *Registrar) probe(like *admissionregistrationv1.ValidatingWebhook) admissionregistrationv1.ValidatingWebhook {
	w := *like.DeepCopy()
	w.Name, w.FailurePolicy = webhookName(probeName), new(admissionregistrationv1.Ignore)
	path := "/" + r.Identity.current.Load().paths[0] + "/" + probeName
	if w.ClientConfig.Service != nil {
		w.ClientConfig.Service.Path = &path
	} else {
		w.ClientConfig.URL = new(strings.TrimSuffix(r.URL, "/") + path)
	}
	w.Rules = []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Update}, Rule: admissionregistrationv1.Rule{
		APIGroups: []string{"coordination.k8s.io"}, APIVersions: []string{"v1"}, Resources: []string{"leases"}, Scope: new(admissionregistrationv1.AllScopes)}}}
	w.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "kubernetes.io/metadata.name",
		Operator: metav1.LabelSelectorOpIn, Values: []string{r.Namespace}}}}
	w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "probe", Expression: "request.name == '" + ProbeLease + "'"}}
	return w
}

// webhookName returns a name of a policy's webhook that no other policy's can have: the
// operator's own policies have names in which there are capital letters.
func webhookName(policy string) string {
	if own := strings.ToLower(policy); own != policy {
		return own + capture.WebhookSuffix
	}
	name := policy + ".capture" + capture.WebhookSuffix
	if len(name) > validation.DNS1123SubdomainMaxLength {
		sum := sha256.Sum256([]byte(policy))
		return hex.EncodeToString(sum[:16]) + ".capture" + capture.WebhookSuffix
	}
	return name
}

// own has the registration go with the operator's ClusterRole: without the operator,
// nobody would answer.
func (r *Registrar) own(ctx context.Context, c *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	role := &rbacv1.ClusterRole{}
	err := r.API.Get(ctx, client.ObjectKey{Name: r.Name}, role)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the operator's ClusterRole: %w", err)
	}
	c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: role.Name, UID: role.UID}}
	return nil
}

func rulesOf(p *capture.Policy) []admissionregistrationv1.RuleWithOperations {
	var rules []admissionregistrationv1.RuleWithOperations
	var operations []admissionregistrationv1.OperationType
	for _, o := range p.Match.Operations {
		operations = append(operations, admissionregistrationv1.OperationType(o))
	}
	if len(operations) == 0 {
		operations = []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll}
	}
	for _, m := range p.Match.Resources {
		rules = append(rules, admissionregistrationv1.RuleWithOperations{Operations: operations, Rule: admissionregistrationv1.Rule{
			APIGroups: []string{m.Group}, APIVersions: []string{m.Version}, Resources: []string{m.Resource}, Scope: new(admissionregistrationv1.AllScopes)}})
	}
	return rules
}

// Gap records since when the API server was kept from asking, or from an answer.
func (r *Registrar) Gap(ctx context.Context, since time.Time, reason string) error {
	now := time.Now().UTC()
	e := &event.Event{EventType: "CaptureGap", Timestamp: now, Cluster: r.Cluster, Actor: event.Actor{Type: event.ActorService, Name: "graven-operator"},
		Resource: event.Resource{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration", Name: r.Name}}
	e.Fact = "CaptureGap/admission/" + event.FormatTime(since)
	e.ID = event.DeriveID("capture", r.Cluster, e.Fact, event.FormatTime(now)).Reserve()
	ctx, cancel := context.WithTimeout(ctx, maxLedger)
	defer cancel()
	err := e.SetDetails(map[string]string{"resources": "admission", "since": event.FormatTime(since), "until": event.FormatTime(now), "reason": reason})
	if err == nil {
		err = r.Sender.RecordMany(ctx, e)
	}
	if err != nil {
		return fmt.Errorf("record a gap: %w", err)
	}
	r.Metrics.gaps.Inc()
	r.Log.Warn("the API server was kept from asking about requests", "since", since, "reason", reason)
	return nil
}

// last returns what was registered last; nil if nothing was.
func (r *Registrar) last() (*registration, error) {
	if r.seen != nil {
		return r.seen.orNil(), nil
	}
	text, err := os.ReadFile(r.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last := new(registration)
	if json.Unmarshal(text, last) != nil {
		return nil, nil
	}
	return last.orNil(), nil
}

// orNil returns nil for one that says that nothing is registered.
func (r *registration) orNil() *registration {
	if r.UID == "" {
		return nil
	}
	return r
}

func (r *Registrar) keep(now *registration) error {
	if now == nil {
		now = &registration{}
	}
	was := r.seen
	r.seen = now
	if was != nil && was.UID == now.UID && was.Generation == now.Generation && time.Since(r.kept) < keepPause {
		return nil
	}
	r.kept = time.Now()
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, r.File, text)
}
