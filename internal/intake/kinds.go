package intake

import (
	"strings"
	"sync"
)

// builtin lists the kinds that Kubernetes and the systems watched here serve,
// by API group. The plural follows from the kind unless it is given as plural=Kind.
var builtin = map[string]string{
	"":                             "Binding ComponentStatus ConfigMap endpoints=Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount",
	"admissionregistration.k8s.io": "MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration",
	"apiextensions.k8s.io":         "CustomResourceDefinition",
	"apiregistration.k8s.io":       "APIService",
	"apps":                         "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
	"authentication.k8s.io":        "SelfSubjectReview TokenRequest TokenReview",
	"authorization.k8s.io":         "LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview",
	"autoscaling":                  "HorizontalPodAutoscaler",
	"batch":                        "CronJob Job",
	"certificates.k8s.io":          "CertificateSigningRequest ClusterTrustBundle PodCertificateRequest",
	"coordination.k8s.io":          "Lease LeaseCandidate",
	"discovery.k8s.io":             "EndpointSlice",
	"events.k8s.io":                "Event",
	"extensions":                   "DaemonSet Deployment Ingress NetworkPolicy PodSecurityPolicy ReplicaSet",
	"flowcontrol.apiserver.k8s.io": "FlowSchema PriorityLevelConfiguration",
	"internal.apiserver.k8s.io":    "StorageVersion",
	"metrics.k8s.io":               "nodes=NodeMetrics pods=PodMetrics",
	"networking.k8s.io":            "IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR",
	"node.k8s.io":                  "RuntimeClass",
	"policy":                       "PodDisruptionBudget PodSecurityPolicy",
	"rbac.authorization.k8s.io":    "ClusterRole ClusterRoleBinding Role RoleBinding",
	"resource.k8s.io":              "DeviceClass DeviceTaintRule ResourceClaim ResourceClaimTemplate ResourceSlice",
	"scheduling.k8s.io":            "PriorityClass",
	"storage.k8s.io":               "CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass",
	"storagemigration.k8s.io":      "StorageVersionMigration",
	"platform.chatcli.io":          "AIInsight Anomaly ApprovalPolicy ApprovalRequest AuditEvent ChaosExperiment ClusterRegistration EscalationPolicy IncidentSLA Issue NotificationPolicy PostMortem RemediationPlan Runbook ServiceLevelObjective",
	"kubernaut.ai":                 "NotificationRequest RemediationApprovalRequest RemediationRequest SignalProcessing WorkflowExecution aianalyses=AIAnalysis",
}

type groupResource struct{ group, resource string }

var kinds = sync.OnceValue(func() map[groupResource]string {
	m := map[groupResource]string{}
	for group, list := range builtin {
		for _, entry := range strings.Fields(list) {
			plural, kind, given := strings.Cut(entry, "=")
			if !given {
				kind, plural = entry, pluralOf(entry)
			}
			m[groupResource{group, plural}] = kind
		}
	}
	return m
})

func pluralOf(kind string) string {
	s := strings.ToLower(kind)
	switch {
	case strings.HasSuffix(s, "s"):
		return s + "es"
	case strings.HasSuffix(s, "y"):
		return s[:len(s)-1] + "ies"
	}
	return s + "s"
}
