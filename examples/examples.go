// Package examples holds sample data for the demo and for tests.
package examples

import _ "embed"

// KubeAudit is the audit log of a kube-apiserver v1.36.3, one audit.k8s.io/v1
// Event a line: rollouts, scales, denied deletes, impersonation, reads of
// secrets and dry runs by people, an agent and a developer.
//
//go:embed kube-apiserver-audit.jsonl
var KubeAudit []byte
