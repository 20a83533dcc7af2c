package observer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	v1alpha1 "github.com/graven-audit/graven/api/graven/v1alpha1"
	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

// Options of capture in an operator. Ledger and Dir are required.
type Options struct {
	// Ledger is the server, for which the operator holds the permissions to record,
	// read and attest.
	Ledger *client.Client
	// Dir keeps what was seen, and what is not delivered yet.
	Dir     string
	Cluster string
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Add has a manager's leader apply the CapturePolicies of its cluster, once there is a
// definition of them. What is on this operator's disk is delivered whether or not it
// leads.
func Add(mgr manager.Manager, o Options) error {
	if err := v1alpha1.AddToScheme(mgr.GetScheme()); err != nil {
		return err
	}
	source := "capture"
	if o.Cluster != "" {
		source += "/" + o.Cluster
	}
	recorder, err := o.Ledger.NewRecorder(client.RecorderConfig{Dir: filepath.Join(o.Dir, "spool"), Source: source, Observed: true,
		Durable:   func(*event.Event) bool { return true },
		OnProblem: func(err error) { o.Log.Warn("deliver what was seen", "error", err) }})
	if err != nil {
		return fmt.Errorf("open the spool of capture: %w", err)
	}
	metrics := NewMetrics(o.Metrics)
	return errors.Join(mgr.Add(&delivery{recorder}), mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		if o.await(ctx, mgr); ctx.Err() != nil {
			return nil
		}
		return o.run(ctx, mgr, recorder, metrics)
	})))
}

// A delivery has a recorder deliver as long as the manager runs.
type delivery struct{ recorder *client.Recorder }

// Start implements manager.Runnable.
func (d *delivery) Start(ctx context.Context) error {
	<-ctx.Done()
	return d.recorder.Close()
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (d *delivery) NeedLeaderElection() bool { return false }

// await waits until the API server has CapturePolicies.
func (o *Options) await(ctx context.Context, mgr manager.Manager) {
	kind := v1alpha1.GroupVersion.WithKind("CapturePolicy")
	for told := false; ctx.Err() == nil; {
		_, err := mgr.GetRESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
		if err == nil {
			return
		}
		if !told {
			o.Log.Warn("capture waits for the definition of CapturePolicy", "error", err, "absent", apimeta.IsNoMatchError(err))
			told = true
		}
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
		}
	}
}

func (o *Options) run(ctx context.Context, mgr manager.Manager, recorder *client.Recorder, metrics *Metrics) error {
	api, err := dynamic.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	observer, err := New(Config{API: api, Sender: recorder, Past: Ledger{o.Ledger}, Dir: filepath.Join(o.Dir, "seen"), Cluster: o.Cluster, Log: o.Log, Metrics: metrics})
	if err != nil {
		return fmt.Errorf("keep what is seen: %w", err)
	}
	err = builder.ControllerManagedBy(mgr).Named("capturepolicy").For(&v1alpha1.CapturePolicy{}).
		WithOptions(controller.Options{UsePriorityQueue: new(false)}). // see the controller of AuditEvents
		Complete(&Policies{API: mgr.GetClient(), Observer: observer, Log: o.Log})
	if err != nil {
		return err
	}
	return observer.Start(ctx)
}
