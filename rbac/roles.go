package rbac

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// LabelRole names the role, on ClusterRoles and on bindings.
	LabelRole = "platform.chatcli.io/rbac-role"
	// AnnotationExpires is when a grant ends (RFC 3339).
	AnnotationExpires = "graven.dev/expires"
	// RetentionRole is the ClusterRole of retention, which deletes AuditEvents
	// that are sealed. It is no role to be granted.
	RetentionRole = "graven-retention"

	prefix = "chatcli-aiops-"
	group  = "platform.chatcli.io"
)

// The roles.
const (
	Viewer     = "viewer"     // reads
	Operator   = "operator"   // approves, and manages incidents
	Admin      = "admin"      // changes everything but AuditEvents
	Superadmin = "superadmin" // grants roles
	Recorder   = "recorder"   // creates AuditEvents
	Auditor    = "auditor"    // reads, exports and verifies
)

// Roles returns the names of the roles.
func Roles() []string {
	return []string{Viewer, Operator, Admin, Superadmin, Recorder, Auditor}
}

// kinds are the resources of the group, AuditEvents aside.
var kinds = strings.Fields(`aiinsights anomalies approvalpolicies approvalrequests chaosexperiments clusterregistrations escalationpolicies
	incidentslas instances issues notificationpolicies postmortems remediationplans runbooks servicelevelobjectives sourcerepositories`)

// ClusterRoles returns the ClusterRoles of all roles, and that of retention. The
// resources below auditevents, such as auditevents/legalholds, are those by which
// Graven's server tells what a user may do there; the API server serves none of them.
func ClusterRoles() []rbacv1.ClusterRole {
	reads := rule(group, "*", "get list watch")
	patterns := rule("", "configmaps", "get update patch")
	patterns.ResourceNames = []string{"chatcli-pattern-store"}
	admin := []rbacv1.PolicyRule{
		reads,
		rule(group, strings.Join(kinds, " "), "create update patch delete"),
		rule(group, "issues/status approvalrequests/status postmortems/status", "update patch"),
		patterns,
		rule(group, "auditevents/accessreviews auditevents/tokens auditevents/legalholds auditevents/findings", "create"),
	}
	bind := rule(rbacv1.GroupName, "clusterroles", "bind")
	for _, role := range Roles() {
		bind.ResourceNames = append(bind.ResourceNames, prefix+role)
	}
	rules := map[string][]rbacv1.PolicyRule{
		Viewer: {reads},
		Operator: {
			reads,
			rule(group, "approvalrequests issues approvalrequests/status issues/status", "update patch"),
			rule(group, "remediationplans chaosexperiments", "create"),
		},
		Admin: admin,
		Superadmin: append(slices.Clone(admin), bind,
			rule(group, "auditevents/erasures", "create"),
			rule(rbacv1.GroupName, "clusterroles clusterrolebindings rolebindings", "get list watch"),
			rule(rbacv1.GroupName, "clusterrolebindings rolebindings", "create")), // of what they may bind
		Recorder: {rule(group, "auditevents", "create")},
		Auditor: {reads, rule(group, "auditevents/accessreviews", "create"),
			rule(rbacv1.GroupName, "clusterroles clusterrolebindings rolebindings", "get list watch")},
	}
	var all []rbacv1.ClusterRole
	for _, role := range Roles() {
		all = append(all, clusterRole(prefix+role, map[string]string{LabelRole: role}, rules[role]))
	}
	return append(all, clusterRole(RetentionRole, nil, []rbacv1.PolicyRule{rule(group, "auditevents", "get list watch delete")}))
}

func clusterRole(name string, labels map[string]string, rules []rbacv1.PolicyRule) rbacv1.ClusterRole {
	return rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Rules: rules}
}

func rule(group, resources, verbs string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: strings.Fields(resources), Verbs: strings.Fields(verbs)}
}

// checkRole returns an error for a role that there is not.
func checkRole(role string) error {
	if slices.Contains(Roles(), role) {
		return nil
	}
	return fmt.Errorf("role is %q, none of %s", role, strings.Join(Roles(), ", "))
}
