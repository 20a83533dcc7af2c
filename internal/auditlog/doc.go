// Package auditlog reads what Kubernetes API servers say of requests in their own
// audit logs (audit.k8s.io/v1), as a second witness beside what producers tell.
//
// An audit log is a witness only of what its policy has it write, and only while it
// arrives: [Policy] says the one, and the signs of life that [Pulse] finds in it the
// other. [Judge] holds what the log and the ledger say of the same time against each
// other, and where the log is no witness says nothing.
package auditlog
