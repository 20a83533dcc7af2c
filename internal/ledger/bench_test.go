package ledger_test

import (
	"context"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/testkey"
	"github.com/graven-audit/graven/trail"
)

// A void is a store that keeps nothing.
type void struct{ head ledger.Head }

func (v *void) Lock(context.Context, int64) (ledger.Head, error) { return v.head, nil }
func (*void) Unlock()                                            {}

func (v *void) Append(_ context.Context, p *ledger.Pool) error {
	v.head = p.Head
	return nil
}

func (*void) Record(context.Context, int64) (trail.Record, error) { return trail.Record{}, nil }
func (*void) Recent(context.Context, time.Time, time.Time) (map[event.ID]int64, error) {
	return nil, nil
}

func (*void) Find(_ context.Context, ids []event.ID, indexes []int64) error {
	for i := range ids {
		indexes[i] = -1
	}
	return nil
}

// BenchmarkAppend records batches without a disk.
func BenchmarkAppend(b *testing.B) {
	for name, size := range map[string]int{"1": 1, "100": 100, "2000": 2000} {
		b.Run(name, func(b *testing.B) {
			signer, _, vkey := testkey.New(b, "test.example/ledger")
			l, err := ledger.Open(b.Context(), ledger.Config{Store: &void{}, Signer: signer, VerifierKey: vkey})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			events := make([]*event.Event, size)
			for i := range events {
				events[i] = happened(event.ID{})
				if err := events[i].SetDetails(map[string]any{"action": "Rollback", "number": i}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, e := range events {
					e.ID = event.ID{}
				}
				if _, _, err := l.Append(b.Context(), by, events); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
		})
	}
}
