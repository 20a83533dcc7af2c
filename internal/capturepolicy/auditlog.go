package capturepolicy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	kube "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/auditlog"
	"github.com/graven-audit/graven/internal/observer"
)

// AuditLog says how the API servers' own audit logs are held against the ledger.
type AuditLog struct {
	// Enabled says that they arrive in the ledger.
	Enabled bool
	// PolicyFile has the audit policy of the API servers; empty if it is not known.
	PolicyFile string
	// Identities are users that remediate.
	Identities []string
	// Window is how far apart a write and its event may be, and Every how often a sign
	// of life is sent through each API server.
	Window, Every time.Duration
}

// watcher returns what follows the audit logs, and sends signs of life through the API
// servers that a manager knows.
func (o *Options) watcher(mgr manager.Manager, sender auditlog.Sender) (*auditlog.Watcher, error) {
	a := &o.AuditLog
	switch {
	case a.Window < time.Second:
		return nil, fmt.Errorf("--audit-window: %s, from 1s on", a.Window)
	case a.Every < time.Second:
		return nil, fmt.Errorf("--audit-heartbeat: %s, from 1s on", a.Every)
	}
	heart := &heart{namespace: o.Namespace, log: o.Log, servers: map[string]kube.Client{}}
	heart.pulse = &auditlog.Pulse{Every: a.Every, Namespace: o.Namespace, User: heart.name}
	judge := &auditlog.Judge{Identities: a.Identities, Pulse: heart.pulse, Trail: auditlog.Ledger{Client: o.Ledger, Cluster: o.Cluster}, Window: a.Window}
	if a.PolicyFile != "" {
		text, err := os.ReadFile(a.PolicyFile)
		if err == nil {
			judge.Policy, err = auditlog.ParsePolicy(text)
		}
		if err != nil {
			return nil, fmt.Errorf("--audit-policy-file: %w", err)
		}
	}
	w := auditlog.NewWatcher(auditlog.WatcherConfig{Log: auditlog.Ledger{Client: o.Ledger, Cluster: o.Cluster}, Judge: judge, Sender: sender, Dir: o.Dir, Cluster: o.Cluster,
		Metrics: auditlog.NewMetrics(o.Metrics), Logger: o.Log})
	api, err := kube.New(mgr.GetConfig(), kube.Options{HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return nil, err
	}
	heart.config, heart.api = mgr.GetConfig(), api
	return w, mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		if !heart.introduce(ctx) {
			return nil
		}
		go heart.beat(ctx)
		return w.Start(ctx)
	}))
}

// answers are what API servers answered, for an observer.
type answers struct{ *auditlog.Watcher }

// Answer implements [observer.Answers].
func (a answers) Answer(intent event.ID) *observer.Answer {
	r, at, ok := a.Watcher.Answer(intent)
	if !ok {
		return nil
	}
	told := &observer.Answer{At: at, AuditID: r.AuditID, Code: r.Code, Done: r.Done()}
	if r.Impersonated != "" {
		told.Impersonator = r.User
	}
	return told
}

// A heart sends signs of life through each API server, so that it shows where an audit
// log does not arrive.
type heart struct {
	config    *rest.Config
	api       kube.Client
	namespace string
	pulse     *auditlog.Pulse
	log       *slog.Logger
	servers   map[string]kube.Client // by their addresses
	user      string                 // whose the signs are
}

func (h *heart) name() string { return h.user }

// introduce asks the API server who sends the signs, until it knows; false if ctx ends.
func (h *heart) introduce(ctx context.Context) bool {
	for {
		var review authenticationv1.SelfSubjectReview
		err := h.api.Create(ctx, &review)
		if err == nil {
			h.user = review.Status.UserInfo.Username
			return true
		}
		h.log.Warn("ask the API server who the operator is", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return false
		}
	}
}

// beat sends signs of life until ctx ends.
func (h *heart) beat(ctx context.Context) {
	tick := time.NewTicker(h.pulse.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := h.once(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("no sign of life for the audit log", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (h *heart) once(ctx context.Context) error {
	servers, err := h.find(ctx)
	if err != nil {
		h.pulse.Expect(nil, "it is not known which API servers there are: "+err.Error())
		return err
	}
	names := make([]string, 0, len(servers))
	for name := range servers {
		names = append(names, name)
	}
	h.pulse.Expect(names, "")
	for name, api := range servers {
		if sendErr := h.send(ctx, api, name); sendErr != nil {
			err = fmt.Errorf("through the API server %s: %w", name, sendErr)
		}
	}
	return err
}

// find returns the API servers, by the addresses that they have announced. Where there
// are less than two, it is the one that everybody asks.
func (h *heart) find(ctx context.Context) (map[string]kube.Client, error) {
	var slices discoveryv1.EndpointSliceList
	if err := h.api.List(ctx, &slices, kube.InNamespace(metav1.NamespaceDefault), kube.MatchingLabels{discoveryv1.LabelServiceName: "kubernetes"}); err != nil {
		return nil, err
	}
	addresses := map[string]string{}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				for _, p := range s.Ports {
					if p.Port != nil {
						addresses[a] = net.JoinHostPort(a, strconv.Itoa(int(*p.Port)))
					}
				}
			}
		}
	}
	if len(addresses) < 2 {
		return map[string]kube.Client{"kubernetes": h.api}, nil
	}
	found := map[string]kube.Client{}
	for name, address := range addresses {
		if found[name] = h.servers[name]; found[name] != nil {
			continue
		}
		c := rest.CopyConfig(h.config)
		c.Host, c.ServerName = "https://"+address, "kubernetes.default.svc"
		api, err := kube.New(c, kube.Options{Scheme: h.api.Scheme(), Mapper: h.api.RESTMapper()})
		if err != nil {
			return nil, err
		}
		found[name] = api
	}
	h.servers = found
	return found, nil
}

// send changes the Lease that is there for it.
func (h *heart) send(ctx context.Context, api kube.Client, server string) error {
	ctx, cancel := context.WithTimeout(ctx, max(time.Second, h.pulse.Every/2))
	defer cancel()
	now := metav1.NowMicro()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: auditlog.Lease, Namespace: h.namespace}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}}
	old := &coordinationv1.Lease{ObjectMeta: lease.ObjectMeta}
	err := api.Patch(ctx, lease, kube.MergeFrom(old), kube.FieldOwner(auditlog.Manager(server)))
	if apierrors.IsNotFound(err) {
		err = api.Create(ctx, old, kube.FieldOwner(auditlog.Manager(server)))
	}
	return err
}
