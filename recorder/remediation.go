package recorder

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
)

// RecordRemediationExecuted records that a plan's action is executed: call it
// before it is. Which of several actions of one type it is follows from the plan's
// actionCheckpoints, and its agenticHistory.
func (r *Recorder) RecordRemediationExecuted(ctx context.Context, plan *v1alpha1.RemediationPlan, action string) error {
	done := plan.Status.ActionCheckpoints
	at := first(plan.Status.StartedAt)
	if len(done) > 0 {
		at = done[len(done)-1].Timestamp.Time
	}
	if steps := plan.Spec.AgenticHistory; len(steps) > 0 {
		at = steps[len(steps)-1].Timestamp.Time
	}
	d := details{"action": action, "issue": plan.Spec.IssueRef.Name, "attempt": strconv.Itoa(int(plan.Spec.Attempt)), "strategy": plan.Spec.Strategy,
		"decisionMode": plan.Annotations["platform.chatcli.io/decision-mode"], "confidence": plan.Annotations["platform.chatcli.io/confidence"]}
	if plan.Spec.AgenticMode {
		d["agentic"] = "true"
	}
	i := actionAt(plan, action, len(done))
	if i >= 0 {
		params := plan.Spec.Actions[i].Params
		for _, name := range []string{"fromRevision", "toRevision", "replicas"} { // others may be secrets
			d[name] = params[name]
		}
		d["target"] = target(params)
	}
	return r.tell(ctx, telling{eventType: "RemediationExecuted", object: plan, which: strconv.Itoa(len(done)+len(plan.Spec.AgenticHistory)) + " " + action, at: at,
		actor: controller("remediation-reconciler"), issue: plan.Spec.IssueRef.Name, grave: true, details: d})
}

// actionAt returns the place of a plan's next action of a type, or -1.
func actionAt(plan *v1alpha1.RemediationPlan, action string, from int) int {
	is := func(a v1alpha1.RemediationAction) bool { return a.Type == action }
	if from < len(plan.Spec.Actions) {
		if i := slices.IndexFunc(plan.Spec.Actions[from:], is); i >= 0 {
			return from + i
		}
	}
	return slices.IndexFunc(plan.Spec.Actions, is)
}

// target returns what an action's parameters say that it is done to.
func target(params map[string]string) string {
	for _, kind := range []string{"target", "deployment", "statefulset", "daemonset", "pod", "node", "job", "cronjob", "release", "application", "hpa", "pvc", "secret", "ingress"} {
		name := params[kind]
		switch {
		case name == "":
		case kind == "target" || strings.Contains(name, "/"):
			return name
		default:
			return kind + "/" + name
		}
	}
	return ""
}

// RecordRemediationResult records whether a plan succeeded.
func (r *Recorder) RecordRemediationResult(ctx context.Context, plan *v1alpha1.RemediationPlan, success bool) error {
	s := plan.Status
	took := between(s.StartedAt, s.CompletedAt)
	d := details{"result": s.Result, "issue": plan.Spec.IssueRef.Name, "attempt": strconv.Itoa(int(plan.Spec.Attempt))}
	if took > 0 {
		d["duration"] = took.String()
	}
	t := telling{eventType: "RemediationSucceeded", object: plan, at: ended(plan), actor: controller("remediation-reconciler"),
		issue: plan.Spec.IssueRef.Name, grave: true, duration: took, details: d}
	if !success {
		t.eventType, t.severity, t.failure = "RemediationFailed", event.SeverityHigh, s.Result
		d["rollbackResult"] = s.RollbackResult
		if s.RollbackPerformed {
			d["rollbackPerformed"] = "true"
		}
		if s.PostFailureHealthy != nil {
			d["postFailureHealthy"] = strconv.FormatBool(*s.PostFailureHealthy)
		}
	}
	return r.tell(ctx, t)
}

// ended returns when a plan ended, as far as its status says.
func ended(plan *v1alpha1.RemediationPlan) time.Time {
	at := first(plan.Status.CompletedAt, plan.Status.ActionsCompletedAt)
	if n := len(plan.Status.ActionCheckpoints); at.IsZero() && n > 0 {
		at = plan.Status.ActionCheckpoints[n-1].Timestamp.Time
	}
	if at.IsZero() {
		at = first(plan.Status.StartedAt)
	}
	return at
}

// RecordCircuitBreakerTriggered records that nothing more is remedied in a
// namespace, after so many failures within an hour.
func (r *Recorder) RecordCircuitBreakerTriggered(ctx context.Context, namespace string, failures int) error {
	return r.tell(ctx, telling{eventType: "CircuitBreakerTriggered", kind: "Namespace", name: namespace, window: again, slides: true,
		actor: system("decision-engine"), incident: namespace, details: details{"failures": strconv.Itoa(failures), "window": "1h"}})
}

// RecordChaosExperiment records the phase of an experiment: "started", or how it
// ended, "completed", "failed" or "aborted".
func (r *Recorder) RecordChaosExperiment(ctx context.Context, experiment *v1alpha1.ChaosExperiment, phase string) error {
	s, result := experiment.Spec, experiment.Status
	issue, incident := "", experiment.Name
	if s.LinkedIssueRef != nil {
		issue, incident = s.LinkedIssueRef.Name, ""
	}
	d := details{"type": s.ExperimentType, "target": resource(s.Target), "targetNamespace": s.Target.Namespace, "duration": s.Duration, "phase": phase}
	if s.DryRun {
		d["dryRun"] = "true"
	}
	began := first(result.StartedAt)
	t := telling{eventType: "ChaosExperimentStarted", object: experiment, state: "chaos/" + string(experiment.UID), at: began,
		actor: controller("chaos-reconciler"), issue: issue, incident: incident, details: d}
	switch strings.ToLower(phase) {
	case "started", "running":
		return r.tell(ctx, t)
	case "completed", "complete", "succeeded":
		t.outcome = event.OutcomeSuccess
	case "failed", "aborted":
		t.outcome, t.severity, t.failure = event.OutcomeFailure, event.SeverityHigh, result.Result
	default:
		return unknown("ChaosExperiment", "phase", phase, "started, completed, failed, aborted")
	}
	t.eventType, t.at, t.duration = "ChaosExperimentCompleted", first(result.CompletedAt), between(result.StartedAt, result.CompletedAt)
	d["result"], d["state"], d["recoveryTime"] = result.Result, result.State, result.RecoveryTime
	d["podsAffected"], d["recoveryVerified"] = strconv.Itoa(int(result.PodsAffected)), strconv.FormatBool(result.RecoveryVerified)
	return r.tell(ctx, t)
}
