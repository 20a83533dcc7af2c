// Package ledger is the only writer: it gives events their place, makes them
// durable, signs a checkpoint over them, and only then answers.
//
//	callers                     sequencer (one goroutine)            store
//	  complete, validate          take what has queued up
//	  encode, salt, hash    ──▶   answer duplicates
//	  wait                        index, chain, tree, sign    ──▶   write, fdatasync
//	  receipt               ◀──   publish the new state       ◀──   durable
//
// A pool is whatever arrived while the one before was being made durable:
// there is no fixed wait, and under load pools grow by themselves.
//
// Invariants:
//
//   - An acknowledged event is durable, has an index, and is covered by a
//     signed checkpoint that is durable too.
//   - Nothing is signed that does not extend what was signed before. The store
//     vouches for that when it opens; here the state only moves forward, and a
//     pool that fails leaves it as it was.
//   - An event id is recorded once, for ever. The same id with the same content
//     is answered with the first receipt; with other content it is refused.
//   - Where several processes write to one ledger, each pool extends what the
//     store holds when it is appended, whoever wrote it: there is one chain.
//   - When the queue is full, callers are refused at once with [ErrBusy]. When
//     the disk is full, with [ErrFull]. No event is ever dropped or kept waiting
//     without bound.
//   - When the store no longer knows what is durable, the ledger stops for good
//     ([ErrStopped]); the process must be started anew, which recovers.
package ledger
