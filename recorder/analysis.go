package recorder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
)

// RecordAIInsightCompleted records that a model has answered. Of the answer there
// are its digest and what it recommends.
func (r *Recorder) RecordAIInsightCompleted(ctx context.Context, insight *v1alpha1.AIInsight) error {
	s := insight.Status
	actions := make([]string, len(s.SuggestedActions))
	for i, a := range s.SuggestedActions {
		actions[i] = a.Action
	}
	d := details{"provider": insight.Spec.Provider, "model": insight.Spec.Model, "confidence": number(s.Confidence),
		"suggestedActions": strings.Join(actions, ","), "nSuggestedActions": strconv.Itoa(len(actions))}
	if s.Analysis != "" {
		sum := sha256.Sum256([]byte(s.Analysis))
		d["analysisHash"] = hex.EncodeToString(sum[:])
	}
	at := first(s.GeneratedAt)
	return r.tell(ctx, telling{eventType: "AIInsightCompleted", object: insight, which: strconv.FormatInt(at.Unix(), 10), at: at,
		actor: controller("aiinsight-reconciler"), issue: insight.Spec.IssueRef.Name, details: d})
}

// RecordConfidenceCalculated records how sure the decision engine is of what is to
// be done about an Issue, and why: a number for each factor.
func (r *Recorder) RecordConfidenceCalculated(ctx context.Context, issue string, confidence float64, factors map[string]float64) error {
	d := details{}
	for name, value := range factors {
		d[name] = number(value)
	}
	d["confidence"], d["final"] = number(confidence), cmp.Or(d["final"], number(confidence))
	t, err := r.ofIssue(ctx, issue, telling{eventType: "ConfidenceCalculated", which: number(confidence), actor: system("decision-engine"), details: d})
	if err != nil {
		return err
	}
	return r.tell(ctx, t)
}

// RecordPatternMatched records that an Issue is of a kind that was remedied
// before.
func (r *Recorder) RecordPatternMatched(ctx context.Context, fingerprint, issue string) error {
	t, err := r.ofIssue(ctx, issue, telling{eventType: "PatternMatched", which: fingerprint, actor: system("decision-engine"),
		details: details{"fingerprint": fingerprint, "issue": issue}})
	if err != nil {
		return err
	}
	return r.tell(ctx, t)
}

// A Pattern is what is known of a kind of Issue.
type Pattern struct {
	Fingerprint, SignalType, ResourceKind, Severity string
	SuccessCount, FailureCount                      int
	ConfidenceBoost                                 float64
}

// RecordPatternLearned records that more is known of a kind of Issue. namespace
// has the store of patterns.
func (r *Recorder) RecordPatternLearned(ctx context.Context, namespace string, p Pattern) error {
	return r.tell(ctx, telling{eventType: "PatternLearned", kind: "ConfigMap", namespace: namespace, name: "chatcli-pattern-store", window: again,
		actor: system("pattern-store"),
		details: details{"fingerprint": p.Fingerprint, "signalType": p.SignalType, "resourceKind": p.ResourceKind, "severity": p.Severity,
			"successCount": strconv.Itoa(p.SuccessCount), "failureCount": strconv.Itoa(p.FailureCount), "confidenceBoost": number(p.ConfidenceBoost)}})
}

// RecordPostMortemCreated records that an incident was written up.
func (r *Recorder) RecordPostMortemCreated(ctx context.Context, pm *v1alpha1.PostMortem) error {
	d := details{"issue": pm.Spec.IssueRef.Name, "duration": pm.Status.Duration, "rootCause": pm.Status.RootCause, "impact": pm.Status.Impact}
	if at := first(pm.Status.GeneratedAt); !at.IsZero() {
		d["generatedAt"] = at.UTC().Format("2006-01-02T15:04:05Z")
	}
	if pm.Status.RequiresHumanAction {
		d["requiresHumanAction"], d["requiredAction"] = "true", pm.Status.RequiredAction
	}
	return r.tell(ctx, telling{eventType: "PostMortemCreated", object: pm, at: pm.CreationTimestamp.Time, actor: controller("remediation-reconciler"),
		issue: pm.Spec.IssueRef.Name, details: d})
}

// RecordRunbookGenerated records that a model wrote down how a kind of Issue is to
// be remedied.
func (r *Recorder) RecordRunbookGenerated(ctx context.Context, runbook *v1alpha1.Runbook) error {
	s := runbook.Spec
	steps := make([]string, len(s.Steps))
	for i, step := range s.Steps {
		steps[i] = step.Action
	}
	issue := runbook.Labels["platform.chatcli.io/source-issue"]
	return r.tell(ctx, telling{eventType: "RunbookGenerated", object: runbook, at: runbook.CreationTimestamp.Time, actor: controller("remediation-reconciler"), issue: issue,
		details: details{"source": runbook.Labels["platform.chatcli.io/source"], "sourceIssue": issue, "signalType": s.Trigger.SignalType,
			"severity": s.Trigger.Severity, "resourceKind": s.Trigger.ResourceKind, "steps": strings.Join(steps, ",")}})
}

// ofIssue has a telling be of an Issue that is known by its name, or by
// {namespace}/{name}: of the object, where it can be read.
func (r *Recorder) ofIssue(ctx context.Context, name string, t telling) (telling, error) {
	namespace, bare, ok := strings.Cut(name, "/")
	if !ok {
		namespace, bare = "", name
	}
	issue, err := r.read(ctx, namespace, bare)
	if err != nil {
		return t, fmt.Errorf("record %s: %w", t.eventType, err)
	}
	if issue != nil {
		t.object, t.incident, t.which = issue, incidentOf(issue), attempts(issue)+" "+t.which
		return t, nil
	}
	t.kind, t.name, t.namespace, t.incident, t.window = "Issue", bare, namespace, bare, again
	return t, nil
}

// number writes a number as people do.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
