// Package reconstruct builds resources again as they were at a moment, from the states
// that capture kept of them and from the events that tell what became of them.
//
//	newest state at or before the moment ──► later facts, up to the moment ──► object
//	                    │                                │
//	                    └────────── Field: path, the event it comes from ────────┘
//
// What holds:
//
//   - Nothing that happened after the moment is in it.
//   - Every member names the entry that it comes from, or is a placeholder that a required
//     member has to have, which is named in the warnings and makes the object invalid.
//   - What an API server would refuse, or what would act once it was applied, is left out:
//     uid, resourceVersion, finalizers, owners (by whose absence it would be collected as
//     garbage).
//   - An intent that nothing confirmed changes nothing.
package reconstruct
