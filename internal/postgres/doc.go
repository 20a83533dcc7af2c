// Package postgres keeps a ledger in a PostgreSQL database, to which any number
// of servers may write.
//
// The bytes that are hashed are those of the embedded store: a ledger that
// moves from one to the other keeps its root. All stands in the schema "graven":
//
//	ledger_head          one row: size, chain, newest checkpoint
//	audit_events         the entries, by month of recording, with columns to search by
//	audit_event_details  what may be erased, by month
//	event_ids            the ids of all events there ever were
//	ledger_hashes        subtrees of the Merkle tree; leaves stand with the entries
//	ledger_checkpoints   every checkpoint
//	ledger_months        which partitions there are
//	documents            what servers share: tokens, and whether the ledger goes on elsewhere
//
// A pool is appended by one call of the function graven.append, which locks the
// head, holds it against what the caller took it for, and inserts everything in
// the transaction that the call is. No lock is ever held while a server thinks:
// one that dies or stands still in the middle of a pool keeps nobody waiting,
// and its pool is either whole or not there. Where another server was faster,
// nothing is kept and the pool is made again, this time with the head locked;
// a server that stands still then loses its connection after lockTimeout.
//
// Invariants:
//
//   - The database answers after its write-ahead log is on the disk: a server
//     with fsync or synchronous_commit off is refused.
//   - A head is believed only with a checkpoint that the ledger's key has signed
//     over the very hashes that stand in the database, and only if it extends
//     what this store has seen before. An older copy is refused, not extended.
//   - A database whose timeline is not the one that the last pool was appended
//     on was promoted or restored, and may lack what was acknowledged. Nothing
//     is appended until somebody says that it does not.
package postgres
