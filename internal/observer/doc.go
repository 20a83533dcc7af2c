// Package observer watches resources, and records what capture policies say of each
// change of their state.
//
//	API server ──raw watch──► change ──► policies ──► events, snapshots
//	                            ▲                         │ durable in the spool
//	                 state before, on disk ◄──────────────┤ then
//	                            resourceVersion ◄─────────┘ last
//
// What holds:
//
//   - The resourceVersion moves only after what was recorded up to it is durable. An
//     operator that was dead goes on there, and sees what came and went meanwhile, as
//     long as the API server remembers it.
//   - What is recorded twice, because the operator died in between, has the same ids
//     and the same words: times are the object's own.
//   - When the API server has forgotten (410), or the place on disk is lost, a gap is
//     recorded, all resources are read and held against their last states, on disk or
//     in the ledger, and what follows from the difference is marked as derived.
//   - A state that something was recorded of, and one that loses content by the next
//     or is deleted, is kept as a snapshot in the ledger.
//   - Credentials are removed before anything is kept ([capture.Clean]).
package observer
