package storetest

import (
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/tombstone"
)

// Pruned records n events of a month ago, and erases the entries below a
// multiple of [tombstone.Width], as a retention run does. Close the journal
// before the ledger.
func (b *Bed) Pruned(t testing.TB, n int) *Erasing {
	t.Helper()
	b.Set(time.Now().Add(-30 * day))
	r := b.Start(t)
	r.AppendMany(0, n)
	b.Set(time.Time{})
	x := r.Erasing(0, 1, retention.Policy{Name: "all", EntryDays: 20})
	result, err := x.Eraser.Run(t.Context(), By, false)
	if err != nil || result.Entries != int64(n/tombstone.Width*tombstone.Width) || len(x.Failed) > 0 {
		t.Fatalf("%+v, %v, %v", result, err, x.Failed)
	}
	r.Size()
	return x
}
