package recorder

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
)

// RecordAnomalyDetected records that an anomaly was seen.
func (r *Recorder) RecordAnomalyDetected(ctx context.Context, anomaly *v1alpha1.Anomaly) error {
	issue := ""
	if anomaly.Status.IssueRef != nil {
		issue = anomaly.Status.IssueRef.Name
	}
	s := anomaly.Spec
	return r.tell(ctx, telling{eventType: "AnomalyDetected", object: anomaly, at: anomaly.CreationTimestamp.Time,
		actor: system("watcher-bridge"), issue: issue,
		details: details{"source": s.Source, "signalType": s.SignalType, "value": s.Value, "threshold": s.Threshold,
			"target": resource(s.Resource), "targetNamespace": s.Resource.Namespace, "description": s.Description,
			"instance": anomaly.Labels["platform.chatcli.io/instance"], "startedAt": started(anomaly.Name)}})
}

// watched is what the watcher names anomalies: the last part is when the signal began.
var watched = regexp.MustCompile(`^watcher-.*-([0-9]{10})$`)

// started returns when the signal of an anomaly began, as its name tells; empty where it
// does not.
func started(name string) string {
	m := watched.FindStringSubmatch(name)
	if m == nil {
		return ""
	}
	seconds, _ := strconv.ParseInt(m[1], 10, 64) // they are digits
	return event.FormatTime(time.Unix(seconds, 0).UTC())
}

// RecordIssueCreated records that an Issue began.
func (r *Recorder) RecordIssueCreated(ctx context.Context, issue *v1alpha1.Issue) error {
	s := issue.Spec
	d := details{"severity": s.Severity, "resource": s.Resource.Kind + "/" + s.Resource.Name, "resourceNamespace": s.Resource.Namespace,
		"description": s.Description, "signalType": s.SignalType, "source": s.Source, "incId": issue.Labels["platform.chatcli.io/inc-id"],
		"chaosExperiment": issue.Labels["platform.chatcli.io/chaos-experiment"]}
	if s.RiskScore > 0 {
		d["riskScore"] = strconv.Itoa(int(s.RiskScore))
	}
	return r.tell(ctx, telling{eventType: "IssueCreated", object: issue, at: issue.CreationTimestamp.Time, actor: controller("anomaly-reconciler"),
		incident: incidentOf(issue), severity: s.Severity, details: d})
}

// resolvers says by the annotation of an Issue who resolved it.
var resolvers = map[string]struct {
	mode  string
	actor event.Actor
}{
	"":                               {"remediation", controller("issue-reconciler")},
	"auto-resolve":                   {"auto", system("issue-reconciler")},
	"human-action-after-containment": {"human-after-containment", controller("issue-reconciler")}, // who it was is not told
}

// RecordIssueResolved records that an Issue ended, and how; empty means as its
// status says. Within ten minutes it is told once for each attempt, for a status that
// could not be written has another time when it is written again.
func (r *Recorder) RecordIssueResolved(ctx context.Context, issue *v1alpha1.Issue, resolution string) error {
	by := issue.Annotations["aiops.chatcli.io/resolved-by"]
	who, known := resolvers[by]
	if !known {
		who.mode, who.actor = "manual", user(by)
	}
	ended := ""
	if at := first(issue.Status.ResolvedAt); !at.IsZero() { // it may begin again, and end again
		ended = " " + strconv.FormatInt(at.Unix(), 10)
	}
	took := between(issue.Status.DetectedAt, issue.Status.ResolvedAt)
	d := details{"resolution": cmp.Or(resolution, issue.Status.Resolution), "attempts": attempts(issue), "resolvedBy": by, "mode": who.mode}
	if took > 0 {
		d["durationSeconds"] = strconv.Itoa(int(took.Seconds()))
	}
	return r.tell(ctx, telling{eventType: "IssueResolved", object: issue, which: attempts(issue) + ended, once: attempts(issue), window: again, at: first(issue.Status.ResolvedAt), actor: who.actor,
		incident: incidentOf(issue), duration: took, details: d})
}

// RecordIssueEscalated records that all attempts to remedy an Issue failed.
func (r *Recorder) RecordIssueEscalated(ctx context.Context, issue *v1alpha1.Issue) error {
	return r.tell(ctx, telling{eventType: "IssueEscalated", object: issue, which: attempts(issue), at: since(issue, "Escalated"),
		actor: controller("issue-reconciler"), incident: incidentOf(issue), severity: atLeastHigh(issue.Spec.Severity),
		details: details{"severity": issue.Spec.Severity, "attempts": attempts(issue),
			"maxAttempts": strconv.Itoa(int(issue.Status.MaxRemediationAttempts)), "reason": reason(issue, "Escalated")}})
}

// RecordIssueContained records that an Issue's impact is gone, and its cause is
// not: a person has to act. Empty means as its status says.
func (r *Recorder) RecordIssueContained(ctx context.Context, issue *v1alpha1.Issue, requiredAction string) error {
	return r.tell(ctx, telling{eventType: "IssueContained", object: issue, which: attempts(issue), at: since(issue, "Contained"),
		actor: controller("issue-reconciler"), incident: incidentOf(issue),
		details: details{"severity": issue.Spec.Severity, "attempts": attempts(issue), "required_action": cmp.Or(requiredAction, issue.Status.RequiredAction)}})
}

// RecordSLABreach records that an Issue was not answered or resolved in time.
// breach is "response" or "resolution".
func (r *Recorder) RecordSLABreach(ctx context.Context, issue *v1alpha1.Issue, breach string, elapsed, threshold time.Duration) error {
	if breach != "response" && breach != "resolution" {
		return fmt.Errorf("record SLABreach: breach is %q, neither response nor resolution", breach)
	}
	return r.tell(ctx, telling{eventType: "SLABreach", object: issue, which: breach, actor: controller("sla-reconciler"),
		incident: incidentOf(issue), duration: elapsed,
		details: details{"type": breach, "elapsed": elapsed.String(), "threshold": threshold.String()}})
}

// RecordEscalationTriggered records that somebody else was called to an Issue.
func (r *Recorder) RecordEscalationTriggered(ctx context.Context, issue *v1alpha1.Issue, policy string, level int) error {
	return r.tell(ctx, telling{eventType: "EscalationTriggered", object: issue, which: policy + " " + strconv.Itoa(level),
		actor: controller("notification-reconciler"), incident: incidentOf(issue), severity: issue.Spec.Severity,
		details: details{"policy": policy, "issueName": issue.Name, "currentLevel": strconv.Itoa(level)}})
}

// RecordNotificationSent records that people were told of an Issue, or that it
// failed, and why. Within a minute it is told once for each channel and state.
func (r *Recorder) RecordNotificationSent(ctx context.Context, channel string, issue *v1alpha1.Issue, success bool, failure string) error {
	t := telling{eventType: "NotificationSent", object: issue, which: channel + " " + issue.Status.State + " " + strconv.FormatBool(success), window: time.Minute,
		actor: controller("notification-reconciler"), incident: incidentOf(issue), outcome: event.OutcomeSuccess,
		details: details{"channel": channel, "success": strconv.FormatBool(success), "error": failure}}
	if !success {
		t.outcome, t.severity, t.failure = event.OutcomeFailure, event.SeverityMedium, failure
	}
	return r.tell(ctx, t)
}

// RecordSLOViolation records that a service uses up what may go wrong too fast: once,
// as long as it is told at least every ten minutes, though the alert is made anew.
func (r *Recorder) RecordSLOViolation(ctx context.Context, slo *v1alpha1.ServiceLevelObjective, window string, burnRate float64) error {
	t := telling{eventType: "SLOViolation", object: slo, actor: controller("slo-reconciler"), incident: slo.Name,
		details: details{"window": window, "burn_rate": strconv.FormatFloat(burnRate, 'f', 2, 64), "service": slo.Spec.ServiceName}}
	for _, alert := range slo.Status.ActiveAlerts {
		if alert.Window == window {
			t.at, t.severity = alert.FiredAt.Time, alert.Severity
		}
	}
	t.which, t.window, t.slides = window, again, true
	if !t.at.IsZero() {
		t.which, t.once = window+" "+strconv.FormatInt(t.at.Unix(), 10), window
	}
	return r.tell(ctx, t)
}

// attempts returns how often remediation was tried.
func attempts(issue *v1alpha1.Issue) string {
	return strconv.Itoa(int(issue.Status.RemediationAttempts))
}

// since returns since when an Issue has a condition; zero means that it does not
// say.
func since(issue *v1alpha1.Issue, condition string) time.Time {
	for _, c := range issue.Status.Conditions {
		if c.Type == condition && c.Status == metav1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// reason returns the reason of an Issue's condition.
func reason(issue *v1alpha1.Issue, condition string) string {
	for _, c := range issue.Status.Conditions {
		if c.Type == condition && c.Status == metav1.ConditionTrue {
			return c.Reason
		}
	}
	return ""
}

func atLeastHigh(severity string) string {
	if severity == event.SeverityCritical {
		return severity
	}
	return event.SeverityHigh
}
