// Package v1alpha1 has the Kubernetes resources of platform.chatcli.io/v1alpha1:
// the AuditEvent, and those that remediation leaves its traces in.
//
// AuditEvent is Graven's. Its fields are those of the AuditEvent that ChatCLI
// documents, those that ChatCLI's own code writes, and those of Graven's native
// form of an event. Nothing in one can be changed once it is created.
//
// The others are ChatCLI's, with the fields that it gives them: where ChatCLI is
// installed its own definitions hold. They are here for [recorder] and for tests
// and demonstrations on clusters without it.
//
// +kubebuilder:object:generate=true
// +groupName=platform.chatcli.io
//
// [recorder]: https://pkg.go.dev/github.com/graven-audit/graven/recorder
package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:generate go tool -modfile=../../../tools/go.mod controller-gen object crd:allowDangerousTypes=true paths=. output:crd:dir=../../../config/crd

// GroupVersion is the group and version of these resources.
var GroupVersion = schema.GroupVersion{Group: "platform.chatcli.io", Version: "v1alpha1"}

// AddToScheme adds these resources to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&AuditEvent{}, &AuditEventList{},
		&Anomaly{}, &AnomalyList{},
		&Issue{}, &IssueList{},
		&AIInsight{}, &AIInsightList{},
		&RemediationPlan{}, &RemediationPlanList{},
		&ApprovalRequest{}, &ApprovalRequestList{},
		&ApprovalPolicy{}, &ApprovalPolicyList{},
		&ChaosExperiment{}, &ChaosExperimentList{},
		&PostMortem{}, &PostMortemList{},
		&Runbook{}, &RunbookList{},
		&ClusterRegistration{}, &ClusterRegistrationList{},
		&IncidentSLA{}, &IncidentSLAList{},
		&ServiceLevelObjective{}, &ServiceLevelObjectiveList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
