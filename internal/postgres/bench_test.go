package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
)

// BenchmarkAppend records events, in batches of several sizes, from callers at
// the same time.
func BenchmarkAppend(b *testing.B) {
	server := testenv.StartPostgres(b, "shared_buffers=512MB", "max_wal_size=4GB")
	for _, c := range []struct{ callers, batch int }{{1, 1}, {64, 1}, {4, 500}, {4, 2000}} {
		b.Run(fmt.Sprintf("%d callers, %d events", c.callers, c.batch), func(b *testing.B) {
			r := newBed(b, server).Start(b)
			var n atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range c.callers {
				wg.Go(func() {
					events := make([]*event.Event, c.batch)
					for n.Add(1) <= int64(b.N) {
						for i := range events {
							if events[i] == nil {
								events[i] = storetest.Event(i)
							}
							events[i].ID = event.ID{}
						}
						if _, _, err := r.Ledger.Append(b.Context(), storetest.By, events); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N*c.batch)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
