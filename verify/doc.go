// Package verify checks a ledger without trusting its keeper: it names what is
// wrong, and where, and says what it could not show.
//
// [Dir] checks a data directory, [Export] an NDJSON export and [Log] a log on a
// server. All compute everything anew from the entries and compare it with what
// is stored beside them, what is signed, and what the verifier knows already:
//
//	details ─digest─▶ entry ─link─▶ chain value of the next entry
//	                    └───leaf──▶ tile ─▶ root ◀─ signed checkpoint
//
// The signed roots decide. Chain values and tiles, which nobody signs, tell
// where entries differ from those that were signed, so that one changed entry
// is one finding, at its index. Records that are damaged, missing, doubled or
// out of place are found by where they lie, and the others are checked still.
//
// The work goes through three stages: a reader, workers that hash, and a
// collector that takes their results in order. Each record stores its chain
// value, so that workers need not wait for each other. Memory grows neither
// with the ledger nor with what is wrong with it.
//
// What a verdict is worth depends on what comes from outside. Without a key a
// ledger can only agree with itself. Without an earlier checkpoint an older
// copy is as good as a newer one, up to what the tip and the tiles tell. And
// one change leaves no trace: a checkpoint that is taken out of the middle of
// a segment. The next one covers its entries, too.
package verify
