// Package backup copies ledgers: into a backup, from backup to backup, and out
// of one.
//
// A backup is a directory that verifies as a ledger does, and beside it a
// manifest of how far it is good: up to a checkpoint, and where in the log that
// ends. What stands behind is of a run that was interrupted, and the next run
// writes over it.
//
//	          good up to here ─┐
//	log  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│▒▒▒▒▒▒ being copied
//	manifest: checkpoint, ─────┘
//	chain value, edge of the tree
//
// A run reads the source from there on. It follows chain and tree, from the
// values in the manifest, to the checkpoint at which it will end. That is
// signed, and has the root of a tree that grew out of the backup's: so the
// source is shown to extend the backup before a byte is written. Then it does
// the same again, and writes what it has just checked. The manifest moves on
// once a segment is durable, and at the end.
//
// The source may be in use. The copy ends at the tip record then, for what
// stands behind it may not be durable yet: a machine that loses its power now
// would come back without it, and sign something else.
//
// A ledger that comes out of a backup may have signed more before it was lost.
// It goes on under its name only if the newest checkpoint that anyone kept is
// the backup's last; otherwise another ledger succeeds it, whose first entry
// says so.
package backup
