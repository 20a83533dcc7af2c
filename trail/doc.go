// Package trail is the ledger's format: what is hashed, what is signed, and
// how both are written down.
//
// A ledger is a sequence of entries, the canonical bytes of events, with
// indexes from 0. Two structures commit to it:
//
//   - The chain. hash(i) = SHA-256(hex(hash(i-1)) ‖ entry(i)), where the
//     previous hash goes in as 64 lower-case hexadecimal digits and hash(-1)
//     is 64 zeros. Ten lines of shell can follow it.
//   - The tree. A Merkle tree as RFC 6962 defines it, whose leaves are
//     SHA-256(0x00 ‖ entry). Its root stands in checkpoints.
//
// A [Checkpoint] is a signed note (C2SP signed-note, tlog-checkpoint): the
// ledger's origin, its size and its root under the ledger's Ed25519 key. A
// [Proof] (C2SP tlog-proof) shows with a checkpoint that one entry is in the
// ledger. Hash tiles and entry bundles (C2SP tlog-tiles) let anyone fetch the
// ledger and compute both for themselves.
//
// A [Record] is an entry together with what is kept beside it and is not
// hashed into the ledger, but for a digest: the salt and the erasable content.
// A [Line] is one line of an NDJSON export.
package trail
