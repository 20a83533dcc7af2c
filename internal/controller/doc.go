// Package controller is the Kubernetes side of Graven: it seals AuditEvents into
// the ledger, and shows the ledger's events as AuditEvents.
//
//	                 creates                seals, once
//	ChatCLI, kubectl ───────► AuditEvent ─────────────► ledger
//	                              ▲  │                     │
//	                      mirrors │  │ prunes, by incident │
//	                              └──┴─────────────────────┘
//
// What holds, whenever the operator, the API server or the ledger stops:
//
//   - An AuditEvent is in the ledger before it bears a receipt, and bears a
//     receipt before it is deleted. Its event's id follows from the object, so
//     that what is sealed again is a duplicate.
//   - An AuditEvent that goes without a receipt, with its namespace or where no
//     policy keeps it, is kept on disk until it is in the ledger, and the ledger
//     says that it went.
//   - Nothing that an object says of itself is believed: a receipt, a mark as a
//     mirror and a creator are held against the ledger and against what the API
//     server was seen to refuse. A copy that wears our annotations is recorded as
//     what it is.
//   - A mirror is made in the order of the ledger, under a name that follows from
//     the event. It goes on behind the highest index that there is in the cluster.
//   - Incidents are mirrored whole and pruned whole.
package controller
