// Package capturepolicy has an operator do what the CapturePolicies of its cluster say,
// at watch and at admission, and tells in their conditions what became of them.
package capturepolicy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	kube "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	v1alpha1 "github.com/graven-audit/graven/api/graven/v1alpha1"
	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/admission"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/observer"
)

// Options of capture in an operator. Ledger, Dir and Namespace are required.
type Options struct {
	// Ledger is the server, for which the operator holds the permissions to record,
	// read and attest.
	Ledger *client.Client
	// Dir keeps what was seen, and what is not delivered yet.
	Dir     string
	Cluster string
	// Namespace is the operator's own: it has the webhook's Secret, and nothing is
	// asked about in it.
	Namespace string
	// Webhook is where the API server asks, HOST:PORT; empty serves no webhook.
	Webhook string
	// WebhookURL is how the API server reaches that: https://HOST:PORT, or
	// https://NAME.NAMESPACE.svc[:PORT] for a Service.
	WebhookURL string
	// WebhookName is that of the ValidatingWebhookConfiguration; the Secret's has
	// -webhook behind it.
	WebhookName string
	// WebhookFiles is a directory with a certificate that others renew; empty for one of
	// its own.
	WebhookFiles string
	AuditLog     AuditLog
	Metrics      prometheus.Registerer
	Log          *slog.Logger
}

// Add has a manager apply the CapturePolicies of its cluster, once there is a
// definition of them: its leader watches, and all of its operators answer the API
// server. What is on an operator's disk is delivered whether or not it leads.
func Add(mgr manager.Manager, o Options) error {
	if err := v1alpha1.AddToScheme(mgr.GetScheme()); err != nil {
		return err
	}
	seen, err := o.spool(mgr, "seen", client.RecorderConfig{Observed: true})
	if err != nil {
		return err
	}
	asked, err := o.spool(mgr, "asked", client.RecorderConfig{Asserted: true})
	if err != nil {
		return err
	}
	api, err := dynamic.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	r := &reconciler{api: mgr.GetClient(), log: o.Log, elected: mgr.Elected()}
	if r.own, err = own(); err != nil {
		return err
	}
	past := observer.Ledger{Client: o.Ledger, Cluster: o.Cluster}
	watching := observer.Config{API: api, Sender: seen, Past: past, Intents: past, Dir: filepath.Join(o.Dir, "seen"), Cluster: o.Cluster,
		Log: o.Log, Metrics: observer.NewMetrics(o.Metrics)}
	if o.AuditLog.Enabled {
		w, err := o.watcher(mgr, seen)
		if err != nil {
			return err
		}
		watching.Answers = answers{w}
	}
	metrics := admission.NewMetrics(o.Metrics)
	identity := &admission.Identity{Namespace: o.Namespace, Name: o.WebhookName + "-webhook", Files: o.WebhookFiles, Now: time.Now}
	if o.Webhook != "" {
		if identity.API, err = kube.New(mgr.GetConfig(), kube.Options{HTTPClient: mgr.GetHTTPClient()}); err != nil {
			return err
		}
		r.registrar = &admission.Registrar{API: identity.API, Name: o.WebhookName, Namespace: o.Namespace, Identity: identity,
			File: filepath.Join(o.Dir, "registration.json"), Sender: seen, Cluster: o.Cluster, Metrics: metrics, Log: o.Log}
		if err := o.reached(r.registrar); err != nil {
			return fmt.Errorf("--webhook-url: %w", err)
		}
		watching.Key = o.key(identity)
	}
	r.observer, err = observer.New(watching)
	if err != nil {
		return fmt.Errorf("keep what is seen: %w", err)
	}
	r.server = admission.New(admission.Config{Kept: asked, Ledger: direct{o.Ledger}, Cluster: o.Cluster, Key: r.observer.Key(), Secrets: identity.Secrets, Renew: identity.Load,
		Checks: map[string]admission.Check{ownName: checks}, Stands: stands(mgr.GetAPIReader()), Metrics: metrics, Log: o.Log})
	add := []error{mgr.Add(r.observer), mgr.Add(standing{func(ctx context.Context) error { return o.control(ctx, mgr, r) }})}
	if r.registrar != nil {
		r.registrar.Server = r.server
		prober, err := o.prober(mgr, r.registrar)
		if err != nil {
			return err
		}
		add = append(add, mgr.Add(r.registrar), mgr.Add(standing{prober.Start}), mgr.Add(standing{func(ctx context.Context) error { return o.serve(ctx, identity, r.server) }}))
	}
	return errors.Join(add...)
}

// prober returns what finds out whether the API server is answered: it is asked, without
// consequence, to change a Lease that is there for it.
func (o *Options) prober(mgr manager.Manager, r *admission.Registrar) (*admission.Prober, error) {
	said := new(warnings)
	c := rest.CopyConfig(mgr.GetConfig())
	c.WarningHandler, c.WarningHandlerWithContext = nil, said
	api, err := kube.New(c, kube.Options{Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return nil, err
	}
	ask := func(ctx context.Context) ([]string, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		said.all = nil
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: admission.ProbeLease, Namespace: o.Namespace}}
		err := api.Get(ctx, kube.ObjectKeyFromObject(lease), lease)
		if apierrors.IsNotFound(err) {
			err = api.Create(ctx, lease)
		}
		if err == nil {
			err = api.Update(ctx, lease, kube.DryRunAll)
		}
		return said.all, err
	}
	return &admission.Prober{Ask: ask, File: filepath.Join(o.Dir, "answered.json"), Gap: r.Gap, Elected: mgr.Elected(), Log: o.Log}, nil
}

// warnings are what an API server said beside its answers.
type warnings struct{ all []string }

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, code int, _ string, text string) {
	if code == 299 {
		w.all = append(w.all, text)
	}
}

// stands reports whether the API server has a policy for admission.
func stands(api kube.Reader) func(ctx context.Context, policy string) (bool, error) {
	return func(ctx context.Context, policy string) (bool, error) {
		p := new(v1alpha1.CapturePolicy)
		err := api.Get(ctx, kube.ObjectKey{Name: policy}, p)
		return err == nil && p.Spec.At == capture.Admission, kube.IgnoreNotFound(err)
	}
}

// key returns the key of digests that all operators of a cluster have in common. Where
// there is no way to it for a while, it is nil: what an operator seals does not wait for
// it.
func (o *Options) key(identity *admission.Identity) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		err := identity.Load(ctx)
		if key := identity.Digest(); key != nil {
			return key
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			o.Log.Warn("digests of credentials are not those of other operators", "error", err)
			return nil
		}
	}
}

// spool opens a spool, which is delivered as long as the manager runs.
func (o *Options) spool(mgr manager.Manager, name string, c client.RecorderConfig) (*client.Recorder, error) {
	c.Dir, c.Source = filepath.Join(o.Dir, "spool-"+name), "capture-"+name
	if o.Cluster != "" {
		c.Source += "/" + o.Cluster
	}
	c.Durable = func(*event.Event) bool { return true }
	c.OnProblem = func(err error) { o.Log.Warn("deliver what was "+name, "error", err) }
	recorder, err := o.Ledger.NewRecorder(c)
	if err != nil {
		return nil, fmt.Errorf("open the spool of what was %s: %w", name, err)
	}
	return recorder, mgr.Add(standing{func(ctx context.Context) error {
		<-ctx.Done()
		return recorder.Close()
	}})
}

// reached says how the API server reaches the webhook.
func (o *Options) reached(r *admission.Registrar) error {
	u, err := url.Parse(o.WebhookURL)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.Path != "" {
		return fmt.Errorf("%q is no https://HOST:PORT", o.WebhookURL)
	}
	r.Identity.Hosts = []string{u.Hostname()}
	name, namespace, ok := service(u.Hostname())
	if !ok {
		r.URL = o.WebhookURL
		return nil
	}
	r.Service = &admissionregistrationv1.ServiceReference{Name: name, Namespace: namespace}
	if u.Port() != "" {
		port, err := net.LookupPort("tcp", u.Port())
		if err != nil {
			return err
		}
		r.Service.Port = new(int32(port))
	}
	return nil
}

// A standing part works whether or not its operator leads.
type standing struct {
	start func(context.Context) error
}

// Start implements manager.Runnable.
func (s standing) Start(ctx context.Context) error { return s.start(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (standing) NeedLeaderElection() bool { return false }

// control reconciles policies once the API server has them.
func (o *Options) control(ctx context.Context, mgr manager.Manager, r *reconciler) error {
	kind := v1alpha1.GroupVersion.WithKind("CapturePolicy")
	for told := false; ; {
		_, err := mgr.GetRESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
		if err == nil {
			break
		}
		if !told {
			o.Log.Warn("capture waits for the definition of CapturePolicy", "error", err, "absent", apimeta.IsNoMatchError(err))
			told = true
		}
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
			return nil
		}
	}
	err := builder.ControllerManagedBy(mgr).Named("capturepolicy").For(&v1alpha1.CapturePolicy{}).
		WithOptions(controller.Options{NeedLeaderElection: new(false), UsePriorityQueue: new(false)}). // see the controller of AuditEvents
		Complete(r)
	for err == nil && ctx.Err() == nil {
		failed := r.begin(ctx)
		if failed == nil {
			return nil
		}
		o.Log.Warn("capture waits for the CapturePolicies", "error", failed)
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
		}
	}
	return err
}

// serve answers the API server until ctx ends.
func (o *Options) serve(ctx context.Context, identity *admission.Identity, s *admission.Server) error {
	listener, err := net.Listen("tcp", o.Webhook)
	if err != nil {
		return fmt.Errorf("--webhook-address: %w", err)
	}
	srv := &http.Server{Handler: s, TLSConfig: identity.TLS(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(tls.NewListener(listener, srv.TLSConfig)) }()
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for {
		if err := identity.Load(ctx); err != nil && ctx.Err() == nil {
			o.Log.Warn("the webhook's certificate", "error", err)
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return fmt.Errorf("serve the webhook: %w", err)
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return srv.Shutdown(stop)
		}
	}
}

// loadPause is how often it is looked for a new certificate.
const loadPause = 10 * time.Second

// direct sends events to the ledger, and waits for it.
type direct struct{ ledger *client.Client }

// RecordMany implements [admission.Sender].
func (d direct) RecordMany(ctx context.Context, events ...*event.Event) error {
	batch := &client.Batch{Asserted: true}
	for _, e := range events {
		batch.Events = append(batch.Events, e.AppendJSON(nil))
	}
	results, err := d.ledger.RecordBatch(ctx, batch)
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	return err
}
