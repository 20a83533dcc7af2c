// Package config has the manifests that Graven puts into a cluster: the
// definitions of its resources, and the policies that keep AuditEvents as they
// were created. crd, policies and rbac are where they are written; the Helm chart
// has copies, and default and components what is rendered from the chart.
//
// The policies, in the order of what they stop:
//
//   - auditevents.yaml refuses every change of an AuditEvent but the receipt that
//     the operator adds once it is sealed into the ledger. It is deleted only with
//     a receipt, by the operator, the retention identity or the one that ChatCLI
//     documents; or with its namespace.
//   - stamp/stamp.yaml has each AuditEvent bear who created it.
//   - immutable.yaml refuses changes of any other resource that bears the
//     annotation platform.chatcli.io/immutable: "true".
//
// The definition of AuditEvent itself refuses a change of its spec, where the
// policies are not.
package config

import "embed"

// CRDs are the definitions of resources, a file each, named
// crd/{group}_{plural}.yaml. AuditEvent's is Graven's; the others of its group are
// for clusters without ChatCLI, which has its own.
//
//go:embed crd/*_*.yaml
var CRDs embed.FS

// Captures are CapturePolicies for software that does not record itself, a file for
// each, capture/{software}.yaml.
//
//go:embed capture/*.yaml
var Captures embed.FS

// Policies are the admission policies with their bindings.
//
//go:embed policies/auditevents.yaml policies/immutable.yaml policies/stamp/stamp.yaml
var Policies embed.FS

// AuditPolicy is what Graven wants of the API servers' own audit logs.
//
//go:embed audit/policy.yaml
var AuditPolicy []byte
