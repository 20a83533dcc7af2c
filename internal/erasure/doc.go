// Package erasure erases the content of events: what retention policies no
// longer keep, and what somebody asks to erase. Entries stay.
//
// Every erasure is an entry of the ledger first, a [tombstone.Tombstone] that names
// the exact entries. Only then the store erases, and whoever reads the ledger
// sees nothing of what a tombstone names from then on, whether or not the store
// has come to it. A server that was killed in between erases when it starts, and
// so does one whose store was brought back from a backup.
//
//	plan ── as of size n ──▶ tombstone, an entry at t ≥ n ──▶ store erases
//	               a hold placed here ┘ voids it: plan again
//
// A tombstone that a hold overtook names nothing, for everybody who reads the
// ledger, now and later. So holds and erasures need no lock between them.
package erasure
