// Package witness keeps a ledger honest beyond its own disk: witnesses that
// others run remember the newest checkpoint of each ledger and cosign only what
// extends it (C2SP tlog-witness). It has both sides.
//
// A [Quorum] asks on behalf of a ledger. It goes in rounds, since cosignatures
// of different checkpoints do not add up:
//
//	newest checkpoint ─▶ all witnesses at once ─▶ enough have signed ─▶ file ─▶ readers
//	       ▲                                             │
//	       └──────── after the interval, if there is a newer one
//
// A round goes on while somebody may still sign its checkpoint and too few
// have. A witness has one request at a time; one that fails is left alone for
// a while, and holds nobody up. Nothing in the ledger waits for witnesses but
// its start: before it signs anything, those that answer must not have seen
// more than it has.
//
// A [Witness] is the other side. What it has signed is on the disk before
// anybody gets the signature, so that after a crash it never signs back:
//
//	check against what is remembered ─▶ sign ─▶ write, sync, rename, sync ─▶ answer
package witness
