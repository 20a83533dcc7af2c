// Package retention decides what of the ledger may go: which events a legal
// hold keeps, and which are due. It decides only; stores erase.
//
// A hold is a record beside the ledger, made of the ledger's own entries: one
// places it, others change or release it. What they say stands in the entry's
// member "ledger", as a [Fact], with the principal and the time that the
// sequencer gave the entry. A [Book] follows these entries in order and is
// therefore the same for everybody who reads the ledger, at any time.
//
// # A hold wins over an erasure if its index is lower
//
// An erasure is an entry, too. Whether an event is held against it is a
// question about the entries below it, and no clock, lock or cache has a say:
//
//	… place(h) … erase(E) … place(k) … release(h) …
//	      │         │           │            │
//	      └─ counts for E       └── do not ──┘
//
// So a run
//
//  1. plans, from the ledger as of some size, which may be old already;
//  2. records the entries that it is about to erase, in a tombstone, which gives
//     it an index;
//  3. follows the book up to that index: where a hold was placed or changed
//     since the plan, the tombstone names nothing, and the run begins anew;
//  4. erases what the tombstone names, and nothing else.
//
// A hold placed between 1 and 2 counts; one placed after 2 finds the events
// gone, or about to go, and its own index says so.
//
// # Policies
//
// [Policies] say for how long an event is kept, counted from when it was
// recorded; a [Planner] is told of every entry and makes a [Plan]: details that
// may go, wherever they stand, and the prefix of entries that may.
//
// What cannot be told is held: an expression that costs too much on an event,
// that asks for erased content, or that this program cannot read.
package retention
