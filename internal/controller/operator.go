package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	gravenclient "github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/protection"
	"github.com/graven-audit/graven/rbac"
)

// Config of the operator. Ledger, API and Dir are required.
type Config struct {
	// Ledger is the server, for which the operator holds the permissions to
	// record, read, verify and attest.
	Ledger *gravenclient.Client
	// API is how the API server is reached.
	API *rest.Config
	// Dir keeps what went before it was sealed, until it is. It should outlive the
	// process.
	Dir string
	// Cluster is the cluster's name, for events that do not say it.
	Cluster string
	// Namespace is that of mirrored events; empty means chatcli-system.
	Namespace string
	// Types and Severities say which events are mirrored; empty means all.
	Types, Severities []string
	// Newest bounds the AuditEvents in the cluster; 0 means 1,000.
	Newest int
	// Span bounds the age of what is in the cluster; 0 does not.
	Span time.Duration
	// Rate bounds the AuditEvents that are made or deleted in a second; 0 means 20.
	Rate float64
	// ExpireRoles has grants of roles go when they have expired ([rbac.RBACManager.Expire]),
	// for which the operator must be allowed to list and delete bindings.
	ExpireRoles bool
	// MetricsAddress and HealthAddress are HOST:PORT; empty or "0" serves nothing.
	MetricsAddress, HealthAddress string
	// LeaderElect has only one of several operators work, by a Lease in
	// LeaseNamespace.
	LeaderElect    bool
	LeaseNamespace string
	// Add, if not nil, has the operator do more.
	Add func(manager.Manager, prometheus.Registerer) error
	Log *slog.Logger
}

// Run is the operator, until ctx ends.
func Run(ctx context.Context, c Config) error {
	c.Namespace, c.Newest, c.Rate = cmp.Or(c.Namespace, "chatcli-system"), cmp.Or(c.Newest, 1000), cmp.Or(c.Rate, 20)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Ledger == nil || c.API == nil || c.Dir == "":
		return errors.New("the ledger, the API server and a directory are required")
	case c.Newest < 1:
		return errors.New("newest: from 1 on")
	case c.Span < 0:
		return errors.New("span: not below 0s")
	case c.Rate < 0:
		return errors.New("rate: above 0")
	}
	ctrl.SetLogger(logr.FromSlogHandler(c.Log.Handler()))
	m := newMetrics(ctrlmetrics.Registry)
	api := rest.CopyConfig(c.API)
	api.QPS = -1 // the API server's own fairness bounds it
	api.Wrap(func(next http.RoundTripper) http.RoundTripper { return &counting{next, m.requests} })
	direct, err := client.New(api, client.Options{})
	if err != nil {
		return err
	}
	self, _, err := whoami(ctx, direct)
	if err != nil && ctx.Err() != nil {
		return nil // it was told to end
	}
	if err != nil {
		return err
	}
	lost, err := openLosses(filepath.Join(c.Dir, "unsealed"), c.Log)
	if err != nil {
		return fmt.Errorf("read what went unsealed: %w", err)
	}
	mgr, err := ctrl.NewManager(api, ctrl.Options{
		Metrics: metricsserver.Options{BindAddress: cmp.Or(c.MetricsAddress, "0")}, HealthProbeBindAddress: cmp.Or(c.HealthAddress, "0"),
		LeaderElection: c.LeaderElect, LeaderElectionID: "graven-operator", LeaderElectionNamespace: c.LeaseNamespace, LeaderElectionReleaseOnCancel: true,
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Cache:  cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return err
	}
	ledger := &Ledger{client: c.Ledger, cluster: c.Cluster}
	p := protection.New(protection.Config{API: direct, Cached: mgr.GetClient(), Namespace: cmp.Or(c.LeaseNamespace, PodNamespace(), metav1.NamespaceDefault),
		Ledger: ledger, Self: self, Elected: mgr.Elected(), Rung: m.rung, Degraded: m.degraded, Log: c.Log})
	s := &sealer{api: mgr.GetClient(), ledger: ledger, probed: p, losses: lost, mine: newMine(), self: self, cluster: c.Cluster, metrics: m, log: c.Log, checked: map[types.UID]verdict{}, tried: map[types.UID]bool{}}
	err = builder.ControllerManagedBy(mgr).Named("auditevent").
		For(newAuditEvent(), builder.WithPredicates(s.keepLost())).
		WithOptions(controller.Options{MaxConcurrentReconciles: sealers,
			UsePriorityQueue: new(false), // in 0.24, it may wait for itself for ever when it shuts down
			RateLimiter:      workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 30*time.Second)}).
		Complete(s)
	if err != nil {
		return err
	}
	mirror := &mirror{api: mgr.GetClient(), direct: direct, ledger: ledger, probed: p, sealer: s, self: self, namespace: c.Namespace, types: c.Types,
		levels: c.Severities, window: window{c.Newest, c.Span}, limit: flowcontrol.NewTokenBucketRateLimiter(float32(c.Rate), max(1, int(c.Rate))),
		metrics: m, log: c.Log, now: time.Now}
	if c.ExpireRoles {
		roles, err := rbac.NewRBACManager(rbac.Config{Client: direct, Sender: ledger})
		if err != nil {
			return err
		}
		if err := mgr.Add(&expirer{roles, c.Log}); err != nil {
			return err
		}
	}
	if c.Add != nil {
		if err := c.Add(mgr, ctrlmetrics.Registry); err != nil {
			return err
		}
	}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("protection", p.Ready), mgr.Add(p), mgr.Add(s), mgr.Add(mirror),
		mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { s.begin(ctx, direct); return nil }))); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// sealers is how many AuditEvents are sealed at a time. The ledger makes them
// durable together.
const sealers = 16

// whoami returns the operator's own user, and what time it is, by the API server's
// clock.
func whoami(ctx context.Context, api client.Client) (user string, now time.Time, err error) {
	var review authenticationv1.SelfSubjectReview
	if err := api.Create(ctx, &review); err != nil {
		return "", now, fmt.Errorf("ask the API server who the operator is: %w", err)
	}
	return review.Status.UserInfo.Username, cmp.Or(review.GetCreationTimestamp().Time, time.Now()), nil
}

// begin remembers when this operator began to work.
func (s *sealer) begin(ctx context.Context, api client.Client) {
	for ctx.Err() == nil {
		_, now, err := whoami(ctx, api)
		if err == nil {
			s.mine.begin(now)
			return
		}
		pause(ctx, retryPause)
	}
}

// PodNamespace returns the namespace of the operator's pod; empty for none.
func PodNamespace() string {
	text, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// keepLost keeps what goes before it is sealed.
func (s *sealer) keepLost() predicate.Predicate {
	return predicate.Funcs{DeleteFunc: func(e ctrlevent.DeleteEvent) bool {
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return false
		}
		_, has := receiptOf(u)
		if _, judged := s.verdict(u.GetUID()); has && judged {
			s.forget(u.GetUID())
			return false
		}
		if err := s.losses.add(u.DeepCopy(), time.Now()); err != nil {
			s.log.Error("an AuditEvent went before it was sealed, and is in memory only", "namespace", u.GetNamespace(), "name", u.GetName(), "error", err)
		}
		return true
	}}
}

// An expirer has grants of roles go when they have expired.
type expirer struct {
	roles *rbac.RBACManager
	log   *slog.Logger
}

// Start implements manager.Runnable.
func (e *expirer) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		gone, err := e.roles.Expire(ctx)
		if gone > 0 {
			e.log.Info("grants of roles have expired", "bindings", gone)
		}
		if err != nil && ctx.Err() == nil {
			e.log.Warn("grants of roles that have expired may still be there", "error", err)
		}
		pause(ctx, expirePause)
	}
	return nil
}

// expirePause is how often grants are looked at.
const expirePause = 30 * time.Second
