package verify

import (
	"errors"

	"github.com/graven-audit/graven/tombstone"
)

// reportAbsence reports the entries below end whose content is gone, and may not
// be, and returns them.
func reportAbsence(rep *reporter, a *tombstone.Absence, end int64, where func(index int64) string) (unnamed tombstone.Indexes) {
	a.Unnamed(end, func(index int64, why error) bool {
		unnamed.Add(tombstone.Run{First: index, Count: 1})
		kind := DetailsMismatch
		if errors.Is(why, tombstone.ErrPruned) {
			kind = Missing
		}
		rep.add(kind, index, where(index), "%v", why)
		return true
	})
	below, pruned := a.Below()
	if rep.Pruned = below; pruned > 0 {
		rep.note("%d of the entries below %d were erased, as a tombstone in the ledger says: their hashes are left, and nothing speaks for what else is", pruned, below)
	}
	if err := a.Agrees(); err != nil {
		rep.add(Changed, below-1, where(below-1), "%v", err)
	}
	if named := a.Named() - pruned; named > 0 {
		rep.note("the details of %d %s erased, as tombstones in the ledger say", named, plural(named, "entry were", "entries were"))
	}
	return unnamed
}

// reportKept tells of content that is there, though it was to be erased, among
// the entries below end, all of which are there.
func reportKept(rep *reporter, a *tombstone.Absence, end int64) {
	if kept := a.Kept(end); kept > 0 {
		rep.note("the details of %d %s still here, though tombstones say that they were erased; a server erases them when it starts", kept, plural(kept, "entry are", "entries are"))
	}
}
