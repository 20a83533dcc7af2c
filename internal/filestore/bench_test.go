package filestore_test

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/storetest"
)

// bench returns a ledger in some twenty segments.
func bench(b *testing.B) (*storetest.Running, *filestore.Store) {
	bed := newBed(b, b.TempDir(), filestore.Options{})
	r := bed.Start(b)
	r.AppendMany(0, 2000)
	r.Size()
	return r, r.Store.(*filestore.Store)
}

func BenchmarkRecord(b *testing.B) {
	r, store := bench(b)
	size := r.Ledger.State().Size()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := store.Record(b.Context(), rand.Int64N(size)); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkProof(b *testing.B) {
	r, store := bench(b)
	size := r.Ledger.State().Size()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := tlog.ProveRecord(size, rand.Int64N(size), store); err != nil {
				b.Error(err)
			}
		}
	})
}
