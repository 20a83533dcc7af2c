// Package filestore is the embedded store: a ledger in one directory.
//
//	log/      the ledger itself: segment files of records and checkpoints
//	tip       the newest checkpoint that callers were told of
//	tree/     the Merkle tree's hashes           ┐
//	offsets/  where records stand in a segment   │ derived by the follower
//	index.db  what queries select from           ┘
//	keys/     the ledger's key and its public half
//	lock      held by the one process that writes
//
// One write and one fdatasync commit a pool: its records and the signed
// checkpoint over them go into the log together. Then the tip is written, and
// the callers are answered. The follower derives the rest behind the writer,
// from pools in memory or, where it has fallen behind, from the log; everything
// it makes can be made again from the log. Until then, what queries ask for is
// looked for in memory, too.
//
// Opening recovers. It reads the log from where the follower's work ends,
// checks frames, chain, tree and signature, and goes back to the last whole
// checkpoint. What stands behind it was never acknowledged, unless something
// knows better: if the tip, the hashes, the index or the tip file outside the
// directory speaks of entries that the log does not have, or of a different
// history, then the directory was damaged or is an older copy, and it is not
// opened, for a signature over less would be a fork. Nor is a log that has a
// sealed pool, and something behind it, behind damage: a pool is begun only once
// the one before it is durable, so that the sealed one was acknowledged.
package filestore
