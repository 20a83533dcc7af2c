// Package kubeauth finds out from a Kubernetes API server who bears a token and
// what they may do: by TokenReview and SubjectAccessReview. It speaks to the API
// server in plain HTTP, for two small requests: a client library would take a third
// of the server's memory.
//
// Permissions follow from verbs on AuditEvents, which roles of the cluster give and
// kubectl auth can-i tells:
//
//	read, export, verify   list auditevents
//	record                 create auditevents
//	access                 create auditevents/accessreviews
//	tokens                 create auditevents/tokens
//	hold                   create auditevents/legalholds
//	judge                  create auditevents/findings
//	erase                  create auditevents/erasures
//	(attests)              create auditevents/attestations
//
// The first two may be given in namespaces; the principal is bound to them then. An
// answer is believed for a short while; that a token is none, or may do nothing, for
// a tenth of it. An API server
// that cannot be asked is an error of its own, and never a refusal.
package kubeauth
