// Package spool is a queue on disk: what was put into it stays until it is done
// with, through crashes and power cuts.
//
//	Put ─▶ number, write (one for all that wait) ─▶ fdatasync, if asked for ─▶ return
//	                                                    │
//	Next ◀─ what is durable, in order ◀─────────────────┘
//	Done ─▶ cursor; segments that are done with are removed
//
// A spool is a directory:
//
//	queue/N.seg   segment files (package seglog), N the number of the first item;
//	              a frame's body is the item's number, uint64 little-endian, and
//	              its bytes
//	cursor        the number up to which items are done with
//	epoch         names the count of items: after a loss of all, another begins
//	lock          held while a process has the spool open
//
// Items are numbered from 1, without a gap, and a number that was given out by
// [Spool.Next] is never given to another item, also after a crash: nothing is
// given out before it is durable. The cursor may lag behind, so that items come
// a second time; that is for the reader to tell apart.
//
// A spool is bounded. When it is full, Put waits, or refuses with [ErrFull], and
// nothing is ever dropped to make room. What was damaged is left out and told:
// the bytes and the numbers.
package spool
