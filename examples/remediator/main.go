// Command remediator is a controller that records what it does, in two lines. It
// executes RemediationPlans, which here means to say so.
//
//	GRAVEN_URL=http://127.0.0.1:8090 GRAVEN_TOKEN=… KUBECONFIG=… remediator ./spool
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/recorder"
)

// A RemediationReconciler executes RemediationPlans.
type RemediationReconciler struct {
	ctrlclient.Client
	auditRecorder *recorder.AuditRecorder
}

// Reconcile brings a plan a step further. It may be run again at any time: what it
// tells again is recorded once.
func (r *RemediationReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	plan := &v1alpha1.RemediationPlan{}
	if err := r.Get(ctx, req.NamespacedName, plan); err != nil {
		return ctrl.Result{}, ctrlclient.IgnoreNotFound(err)
	}
	now := metav1.Now()
	done := len(plan.Status.ActionCheckpoints)
	switch {
	case plan.Status.State == "" || plan.Status.State == v1alpha1.PlanPending:
		plan.Status.State, plan.Status.StartedAt = v1alpha1.PlanExecuting, &now
	case plan.Status.State == v1alpha1.PlanExecuting && done < len(plan.Spec.Actions):
		action := plan.Spec.Actions[done].Type
		if err := r.auditRecorder.RecordRemediationExecuted(plan, action); err != nil {
			return ctrl.Result{}, err // what cannot be recorded is not done
		}
		ctrl.LoggerFrom(ctx).Info("executed", "action", action)
		plan.Status.ActionCheckpoints = append(plan.Status.ActionCheckpoints,
			v1alpha1.ActionCheckpoint{ActionIndex: int32(done), ActionType: action, Success: true, Timestamp: now})
	case plan.Status.State == v1alpha1.PlanExecuting:
		plan.Status.State, plan.Status.CompletedAt, plan.Status.Result = v1alpha1.PlanCompleted, &now, "healthy"
	case plan.Status.State == v1alpha1.PlanCompleted:
		return ctrl.Result{}, r.auditRecorder.RecordRemediationResult(plan, true)
	default:
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, r.Status().Update(ctx, plan)
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: remediator DIR, where what is recorded is kept until the server has it")
		os.Exit(2)
	}
	if err := run(ctrl.SetupSignalHandler(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "remediator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	c, err := client.New(client.Config{URL: os.Getenv("GRAVEN_URL"), Token: os.Getenv("GRAVEN_TOKEN")})
	if err != nil {
		return err
	}
	spool, err := c.NewRecorder(client.RecorderConfig{Dir: dir, Source: "remediator", Asserted: true})
	if err != nil {
		return err
	}
	defer spool.Close() // what is in it goes on with the next start
	audit, err := recorder.New(recorder.Config{Sender: spool, Dir: filepath.Join(dir, "told"), ServiceAccount: "remediator"})
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.RemediationPlan{}).
		Complete(&RemediationReconciler{Client: mgr.GetClient(), auditRecorder: recorder.NewAuditRecorder(audit)})
	if err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return err
	}
	flushing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return spool.Flush(flushing)
}
