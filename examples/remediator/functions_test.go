package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/recorder"
)

// happened are the objects of an incident, as they are in the cluster.
type happened struct {
	anomaly    *v1alpha1.Anomaly
	issue      *v1alpha1.Issue
	insight    *v1alpha1.AIInsight
	plan       *v1alpha1.RemediationPlan
	approval   *v1alpha1.ApprovalRequest
	experiment *v1alpha1.ChaosExperiment
}

func (h *happened) all() []ctrlclient.Object {
	return []ctrlclient.Object{h.anomaly, h.issue, h.insight, h.plan, h.approval, h.experiment}
}

// incident is what happens, to be created or to be read.
func incident() *happened {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: "default"} }
	at := func(minute int) *metav1.Time {
		return &metav1.Time{Time: time.Date(2026, 3, 19, 14, minute, 0, 0, time.UTC)}
	}
	target := v1alpha1.ResourceRef{Kind: "Deployment", Name: "api", Namespace: "default"}
	of := v1alpha1.IssueRef{Name: "errors"}
	return &happened{
		anomaly: &v1alpha1.Anomaly{ObjectMeta: meta("watcher-errors"),
			Spec:   v1alpha1.AnomalySpec{Source: "watcher", SignalType: "error_rate", Value: "7.2", Threshold: "5", Resource: target},
			Status: v1alpha1.AnomalyStatus{Correlated: true, IssueRef: &of}},
		issue: &v1alpha1.Issue{ObjectMeta: meta("errors"),
			Spec:   v1alpha1.IssueSpec{Severity: "high", Source: "watcher", SignalType: "error_rate", RiskScore: 80, Resource: target, CorrelationId: "inc-1"},
			Status: v1alpha1.IssueStatus{State: "Resolved", DetectedAt: at(1), ResolvedAt: at(21), RemediationAttempts: 2}},
		insight: &v1alpha1.AIInsight{ObjectMeta: meta("errors-insight"), Spec: v1alpha1.AIInsightSpec{IssueRef: of, Provider: "example", Model: "m-1"},
			Status: v1alpha1.AIInsightStatus{Analysis: "a bad release", Confidence: 0.92, GeneratedAt: at(3), SuggestedActions: []v1alpha1.SuggestedAction{{Name: "back", Action: "Rollback"}}}},
		plan: &v1alpha1.RemediationPlan{ObjectMeta: meta("plan"),
			Spec:   v1alpha1.RemediationPlanSpec{IssueRef: of, Attempt: 1, Strategy: "back", Actions: []v1alpha1.RemediationAction{{Type: "RollbackDeployment", Params: map[string]string{"deployment": "api", "toRevision": "5"}}}},
			Status: v1alpha1.RemediationPlanStatus{State: v1alpha1.PlanCompleted, StartedAt: at(10), CompletedAt: at(12), Result: "healthy"}},
		approval: &v1alpha1.ApprovalRequest{ObjectMeta: meta("approval"),
			Spec: v1alpha1.ApprovalRequestSpec{IssueRef: of, RemediationPlanRef: "plan", PolicyRef: "production", RuleName: "all", TimeoutMinutes: 30, RequiredApprovers: 1,
				RequestedActions: []v1alpha1.RemediationAction{{Type: "RollbackDeployment"}}},
			Status: v1alpha1.ApprovalRequestStatus{State: "Approved", ApprovedAt: at(5), Decisions: []v1alpha1.ApprovalDecision{{Approver: "ann", Decision: "approved", Reason: "seen before", Timestamp: *at(5)}}}},
		experiment: &v1alpha1.ChaosExperiment{ObjectMeta: meta("kill"), Spec: v1alpha1.ChaosExperimentSpec{ExperimentType: "pod_kill", Duration: "2m", Target: target},
			Status: v1alpha1.ChaosExperimentStatus{State: "Completed", StartedAt: at(30), CompletedAt: at(32), Result: "recovered"}},
	}
}

// functions are the twelve, with what their events say: type, resource, incident,
// and a detail.
var functions = []struct {
	call func(*recorder.AuditRecorder, *happened) error
	says string
}{
	{func(ar *recorder.AuditRecorder, h *happened) error { return ar.RecordAnomalyDetected(h.anomaly) }, "AnomalyDetected Anomaly/watcher-errors inc-1 value=7.2"},
	{func(ar *recorder.AuditRecorder, h *happened) error { return ar.RecordIssueCreated(h.issue) }, "IssueCreated Issue/errors inc-1 riskScore=80"},
	{func(ar *recorder.AuditRecorder, h *happened) error { return ar.RecordAIInsightCompleted(h.insight) }, "AIInsightCompleted AIInsight/errors-insight inc-1 confidence=0.92"},
	{func(ar *recorder.AuditRecorder, h *happened) error {
		return ar.RecordConfidenceCalculated("errors", 0.92, map[string]float64{"base": 0.8})
	}, "ConfidenceCalculated Issue/errors inc-1 base=0.8"},
	{func(ar *recorder.AuditRecorder, h *happened) error { return ar.RecordPatternMatched("9c1a", "errors") }, "PatternMatched Issue/errors inc-1 fingerprint=9c1a"},
	{func(ar *recorder.AuditRecorder, h *happened) error {
		return ar.RecordApprovalDecision(h.approval, "approved")
	}, "ApprovalGranted ApprovalRequest/approval inc-1 reason=seen before"},
	{func(ar *recorder.AuditRecorder, h *happened) error {
		return ar.RecordRemediationExecuted(h.plan, h.plan.Spec.Actions[0].Type)
	}, "RemediationExecuted RemediationPlan/plan inc-1 toRevision=5"},
	{func(ar *recorder.AuditRecorder, h *happened) error { return ar.RecordRemediationResult(h.plan, true) }, "RemediationSucceeded RemediationPlan/plan inc-1 duration=2m0s"},
	{func(ar *recorder.AuditRecorder, h *happened) error {
		return ar.RecordIssueResolved(h.issue, "rolled back")
	}, "IssueResolved Issue/errors inc-1 resolution=rolled back"},
	{func(ar *recorder.AuditRecorder, h *happened) error {
		return ar.RecordCircuitBreakerTriggered("default", 3)
	}, "CircuitBreakerTriggered Namespace/default default failures=3"},
	{func(ar *recorder.AuditRecorder, h *happened) error {
		return ar.RecordRoleChange("john@company.com", "operator", "granted")
	}, "RoleGranted ClusterRoleBinding/operator:john@company.com  user=john@company.com"},
	{func(ar *recorder.AuditRecorder, h *happened) error {
		return ar.RecordChaosExperiment(h.experiment, "completed")
	}, "ChaosExperimentCompleted ChaosExperiment/kill kill result=recovered"},
}

// reader reads Issues from a cluster.
type reader struct{ ctrlclient.Client }

func (r reader) Issue(ctx context.Context, namespace, name string) (*v1alpha1.Issue, error) {
	issue := new(v1alpha1.Issue)
	if namespace == "" {
		namespace = "default"
	}
	err := r.Get(ctx, ctrlclient.ObjectKey{Namespace: namespace, Name: name}, issue)
	if ctrlclient.IgnoreNotFound(err) == nil && err != nil {
		return nil, nil
	}
	return issue, err
}

func dial(kubeconfig string) (ctrlclient.Client, error) {
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return ctrlclient.New(c, ctrlclient.Options{Scheme: scheme})
}

// twice is a controller that calls each of the twelve functions twice, and dies
// after so many calls; 0 is never.
func twice(dir string, calls int) error {
	ctx := context.Background()
	c, err := client.New(client.Config{URL: os.Getenv("GRAVEN_URL"), Token: os.Getenv("GRAVEN_TOKEN")})
	if err != nil {
		return err
	}
	spool, err := c.NewRecorder(client.RecorderConfig{Dir: dir, Source: "twice", Asserted: true})
	if err != nil {
		return err
	}
	api, err := dial(os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	r, err := recorder.New(recorder.Config{Sender: spool, Dir: filepath.Join(dir, "told"), Issues: reader{api}})
	if err != nil {
		return err
	}
	h := incident()
	for _, o := range h.all() {
		if err := api.Get(ctx, ctrlclient.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
	}
	ar := recorder.NewAuditRecorder(r)
	for i := range 2 * len(functions) {
		if err := functions[i/2].call(ar, h); err != nil {
			return err
		}
		if i+1 == calls {
			return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), errors.New("it lives"))
		}
	}
	flushing, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return errors.Join(spool.Flush(flushing), spool.Close())
}

// TestAControllerThatDiesBetweenAnyTwoCallsHasRecordedEachEventOnce has all twelve
// functions called twice, again and again, by a controller that dies after the
// first call, after the second, and so on.
func TestAControllerThatDiesBetweenAnyTwoCallsHasRecordedEachEventOnce(t *testing.T) {
	k := testenv.StartKube(t, testenv.KubeOptions{})
	for _, name := range []string{"anomalies", "issues", "aiinsights", "remediationplans", "approvalrequests", "chaosexperiments"} {
		text, err := fs.ReadFile(config.CRDs, "crd/platform.chatcli.io_"+name+".yaml")
		if err != nil {
			t.Fatal(err)
		}
		k.Apply(testenv.KubeAdmin, string(text))
	}
	k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	api, err := dial(k.Kubeconfig(testenv.KubeAdmin))
	if err != nil {
		t.Fatal(err)
	}
	made, want := incident(), incident()
	for i, o := range made.all() {
		if err := api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		w := want.all()[i]
		w.SetResourceVersion(o.GetResourceVersion())
		w.SetUID(o.GetUID())
		if err := api.Status().Update(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	url, token := serve(t)
	dir := t.TempDir()
	for calls := 1; calls <= 2*len(functions)+1; calls++ {
		last := calls == 2*len(functions)+1
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "REMEDIATOR_DIR="+dir, "REMEDIATOR_CALLS="+strconv.Itoa(calls), "GRAVEN_URL="+url, "GRAVEN_TOKEN="+token,
			"KUBECONFIG="+k.Kubeconfig(testenv.KubeAdmin))
		out, err := cmd.CombinedOutput()
		if last != (err == nil) || !last && cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("with %d calls: %v\n%s", calls, err, out)
		}
	}
	c, err := client.New(client.Config{URL: url, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	var page struct{ Events []*event.Event }
	if err := c.Get(t.Context(), "/api/v1/audit", map[string][]string{"limit": {"1000"}, "order": {"asc"}}, &page); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, e := range page.Events {
		var details map[string]any
		if len(e.Details) > 0 {
			if err := json.Unmarshal(e.Details, &details); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range functions {
			words := strings.SplitN(f.says, " ", 4)
			name, _, _ := strings.Cut(words[3], "=")
			if e.EventType == words[0] {
				found[fmt.Sprintf("%s %s/%s %s %s=%v", e.EventType, e.Resource.Kind, e.Resource.Name, e.CorrelationID, name, details[name])]++
			}
		}
	}
	for _, f := range functions {
		if found[f.says] != 1 {
			t.Errorf("%s: recorded %d times", f.says, found[f.says])
		}
		delete(found, f.says)
	}
	for what, n := range found {
		t.Errorf("%s: %d times", what, n)
	}
}
