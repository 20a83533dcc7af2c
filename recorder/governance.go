package recorder

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
)

// unknown is the error for a word that says nothing here.
func unknown(what, field, value, known string) error {
	return fmt.Errorf("record %s: %s is %q, none of %s", what, field, value, known)
}

// RecordApprovalDecision records that an approval was "requested", "granted",
// "rejected" or "expired". ("pending" and "approved" mean the first two.) Who
// decided is whom the request's last such decision names, as they say.
func (r *Recorder) RecordApprovalDecision(ctx context.Context, request *v1alpha1.ApprovalRequest, decision string) error {
	s := request.Spec
	d := details{"issue": s.IssueRef.Name, "plan": s.RemediationPlanRef, "rule": s.RuleName, "policy": s.PolicyRef}
	t := telling{object: request, issue: s.IssueRef.Name, details: d}
	switch strings.ToLower(decision) {
	case "requested", "pending":
		t.eventType, t.at, t.actor = "ApprovalRequested", request.CreationTimestamp.Time, controller("remediation-reconciler")
		d["requester"], d["requiredApprovers"], d["timeoutMinutes"] = s.Requester, strconv.Itoa(int(s.RequiredApprovers)), strconv.Itoa(int(s.TimeoutMinutes))
		if s.BlastRadius != nil {
			d["riskLevel"] = s.BlastRadius.RiskLevel
		}
		return r.tell(ctx, t)
	case "granted", "approved":
		t.eventType, t.at = "ApprovalGranted", first(request.Status.ApprovedAt)
		decided(&t, request, "approved")
		if request.Status.AutoApproved {
			t.actor, d["auto"] = system("approval-reconciler"), "true"
		}
	case "rejected":
		t.eventType, t.at = "ApprovalRejected", first(request.Status.RejectedAt)
		decided(&t, request, "rejected")
	case "expired":
		t.eventType, t.at, t.actor = "ApprovalExpired", first(request.Status.ExpiredAt), system("approval-reconciler")
		d["timeoutMinutes"] = strconv.Itoa(int(s.TimeoutMinutes))
	default:
		return unknown("ApprovalDecision", "decision", decision, "requested, granted, rejected, expired")
	}
	if took := t.at.Sub(request.CreationTimestamp.Time); !t.at.IsZero() && took > 0 {
		t.duration, d["decisionSeconds"] = took, strconv.Itoa(int(took.Seconds()))
	}
	return r.tell(ctx, t)
}

// decided puts in who decided, when and why.
func decided(t *telling, request *v1alpha1.ApprovalRequest, decision string) {
	t.actor = user("unknown") // a finding
	settled := !t.at.IsZero()
	var all []string
	for _, made := range request.Status.Decisions {
		if made.Decision != decision {
			continue
		}
		t.details["reason"] = made.Reason
		all = append(all, cmp.Or(made.Approver, "unknown"))
		if made.Approver != "" {
			t.actor, t.details["approver"] = user(made.Approver), made.Approver
		}
		if !settled {
			t.at = made.Timestamp.Time // of the last, with which it was
		}
	}
	if len(all) > 0 && decision == "approved" {
		t.details["approvers"] = strings.Join(all, ", ")
	}
}

// RecordRoleChange records that a role was "granted" to a user or "revoked". The
// RBAC manager records more of what it does itself.
func (r *Recorder) RecordRoleChange(ctx context.Context, subject, role, action string) error {
	types := map[string]string{"granted": "RoleGranted", "revoked": "RoleRevoked"}
	eventType, ok := types[strings.ToLower(action)]
	if !ok {
		return unknown("RoleChange", "action", action, "granted, revoked")
	}
	return r.tell(ctx, telling{eventType: eventType, kind: "ClusterRoleBinding", name: role + ":" + subject, state: "role/" + role + "\x00" + subject, window: again,
		actor:   controller("rbac-manager"),
		details: details{"user": subject, "role": role, "action": strings.ToLower(action)}})
}

// RecordConfigChanged records that an object that configures something was
// "created", "updated" or "deleted". Its generation tells one update from another,
// or its resourceVersion where it has none.
func (r *Recorder) RecordConfigChanged(ctx context.Context, object interface {
	metav1.Object
	runtime.Object
}, operation string) error {
	op := strings.ToLower(operation)
	version := strconv.FormatInt(object.GetGeneration(), 10)
	if object.GetGeneration() == 0 {
		version = object.GetResourceVersion()
	}
	t := telling{eventType: "ConfigChanged", object: object, which: op, actor: controller("config-watcher"), details: details{"operation": op, "generation": version}}
	if sla, ok := object.(*v1alpha1.IncidentSLA); ok {
		promise(t.details, &sla.Spec)
	}
	switch op {
	case "created":
		t.at = object.GetCreationTimestamp().Time
	case "updated":
		t.which, t.at = op+" "+version, managed(object)
	case "deleted":
		t.at = first(object.GetDeletionTimestamp())
	default:
		return unknown("ConfigChanged", "operation", operation, "created, updated, deleted")
	}
	return r.tell(ctx, t)
}

// promise puts in what is promised of incidents, by which reports go.
func promise(d details, s *v1alpha1.IncidentSLASpec) {
	d["severity"], d["responseTime"], d["resolutionTime"] = s.Severity, s.ResponseTime, s.ResolutionTime
	if s.BusinessHoursOnly {
		d["businessHoursOnly"] = "true"
	}
	if h := s.BusinessHours; h != nil {
		d["timezone"], d["workDays"] = h.Timezone, strings.Join(h.WorkDays, ",")
		d["startHour"], d["endHour"] = strconv.Itoa(int(h.StartHour)), strconv.Itoa(int(h.EndHour))
	}
}

// managed returns when an object's fields, its status aside, were last written.
func managed(object metav1.Object) (at time.Time) {
	for _, f := range object.GetManagedFields() {
		if f.Subresource == "" && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}

// RecordClusterConnected records that a cluster answers.
func (r *Recorder) RecordClusterConnected(ctx context.Context, cluster *v1alpha1.ClusterRegistration) error {
	d := described(cluster)
	d["kubernetesVersion"] = cluster.Status.KubernetesVersion
	d["nodeCount"], d["namespaceCount"] = strconv.Itoa(int(cluster.Status.NodeCount)), strconv.Itoa(int(cluster.Status.NamespaceCount))
	return r.tell(ctx, connection("ClusterConnected", cluster, d))
}

// RecordClusterDisconnected records that a cluster does not answer.
func (r *Recorder) RecordClusterDisconnected(ctx context.Context, cluster *v1alpha1.ClusterRegistration) error {
	t := connection("ClusterDisconnected", cluster, described(cluster))
	if !t.at.IsZero() {
		t.details["lastHealthCheck"] = event.FormatTime(t.at)
	}
	return r.tell(ctx, t)
}

func described(cluster *v1alpha1.ClusterRegistration) details {
	s := cluster.Spec
	return details{"displayName": s.DisplayName, "region": s.Region, "environment": s.Environment, "tier": s.Tier}
}

func connection(eventType string, cluster *v1alpha1.ClusterRegistration, d details) telling {
	at := first(cluster.Status.LastHealthCheck)
	return telling{eventType: eventType, object: cluster, state: "cluster/" + string(cluster.UID), at: at,
		actor: controller("federation-reconciler"), details: d}
}
