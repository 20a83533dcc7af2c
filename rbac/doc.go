// Package rbac gives people and programs the roles that ChatCLI documents, as
// Kubernetes' own RBAC has them, and records who did.
//
// There are six roles, each a ClusterRole chatcli-aiops-{role} that bears the label
// platform.chatcli.io/rbac-role: viewer, operator, admin and superadmin, as
// documented, and recorder and auditor. RBAC cannot express all that the documents
// say; where it cannot, the roles have less:
//
//   - Nobody may update an AuditEvent, and no role may delete one. Retention does,
//     by a role of its own ([RetentionRole]), which is granted to no person.
//   - A resource's name cannot be a pattern. Who has a role that may grant others
//     (superadmin) has the verb "bind" on each of them by name, which is what the
//     API server asks for, and never "escalate". Bindings they create; those that
//     there are, they change and delete by way of Graven.
//
// A grant is a ClusterRoleBinding, or a RoleBinding within a namespace. Its name
// follows from the role and the subject, and no two of them have the same. Before
// it is made there is an event RoleGranted with the outcome pending, and afterwards
// one with its result; so it is when it goes. A grant that cannot be recorded is
// not made.
package rbac
