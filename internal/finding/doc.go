// Package finding tells what the trail shows to be wrong: events that are
// missing, sources that fell silent, and incidents without their expected steps.
//
// A source counts its events, from 1 on in each of its epochs. The number is on
// the source's disk before the event is sent, so that one which the ledger lacks,
// below one that it has, is an event that was lost on the way, or is in the
// source's quarantine. What became of it a person may have told: it was sent again
// under another number, or dropped, with a reason.
//
// The events that were lost behind the newest of a source no number tells. A
// heartbeat does: it promises the next, and that does not come.
package finding
