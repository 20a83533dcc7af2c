package filestore_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/verify"
)

// TestEventsOfHostileClocksRaiseNoAlarm records from 64 writers whose clocks
// stand still, jump by days and differ by nanoseconds: a million events in the
// slow tests.
func TestEventsOfHostileClocksRaiseNoAlarm(t *testing.T) {
	const writers, batches, size = 64, hostileBatches, 100
	b := newBed(t, t.TempDir(), filestore.Options{SegmentSize: 64 << 20})
	r := b.Start(t)
	base := time.Date(2026, 3, 29, 1, 59, 59, 999_999_999, time.UTC)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range batches {
				events := make([]*event.Event, size)
				for i := range events {
					e := storetest.Event(n*size + i)
					e.ID = event.DeriveID("a million", fmt.Sprint(w, n, i))
					switch (w + n) % 4 {
					case 0:
						e.Timestamp = base
					case 1:
						e.Timestamp = base.Add(time.Duration(rand.Int64N(int64(48*time.Hour))) - 24*time.Hour)
					case 2:
						e.Timestamp = base.Add(time.Duration(i))
					}
					events[i] = e
				}
				results, _, err := r.Ledger.Append(t.Context(), storetest.By, events)
				if err != nil {
					t.Error(err)
					return
				}
				for _, res := range results {
					if res.Err != nil {
						t.Error(res.Err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	const want = 1 + writers*batches*size
	if got := r.Size(); got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
	report, err := r.Store.Verify(t.Context(), verify.Options{Keys: []note.Verifier{b.Verifier}})
	if err != nil || !report.OK() || report.Entries != want {
		t.Errorf("%v: %+v", err, report)
	}
}
