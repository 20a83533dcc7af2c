package filestore_test

import (
	"testing"

	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/storetest"
)

// newBed returns a ledger in dir with small segments, so that tests see many.
func newBed(t *testing.T, dir string, o filestore.Options) *storetest.Bed {
	return storetest.NewBed(t, func(b *storetest.Bed) (storetest.Store, error) {
		o.Verifier = b.Verifier
		if o.SegmentSize == 0 {
			o.SegmentSize = 64 << 10
		}
		return openStore(dir, o, b)
	})
}

func TestTheEmbeddedStorePassesTheSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storetest.Bed { return newBed(t, t.TempDir(), filestore.Options{}) })
}
