package filestore_test

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/sqlite"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testdisk"
	"github.com/graven-audit/graven/verify"
)

// TestNothingAcknowledgedIsLostWithThePower cuts the power at a random moment,
// again and again. GRAVEN_SEED replays one of them, many times: the writer and
// the keeper of the tip race for the disk.
func TestNothingAcknowledgedIsLostWithThePower(t *testing.T) {
	p := newPower(t)
	// Each start takes buffers of megabytes. What a sync.Pool is part of outlives
	// a collection, so that without a limit the heap would grow with each.
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(512 << 20))
	if text := os.Getenv("GRAVEN_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 100 && !t.Failed(); n++ {
			p.lose(t, seed)
		}
		return
	}
	var workers sync.WaitGroup
	var next atomic.Uint64
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !t.Failed() {
				seed := next.Add(1) - 1
				if seed >= powerCuts {
					return
				}
				p.lose(t, seed)
			}
		})
	}
	workers.Wait()
}

// A power holds what all seeds have in common: where they run, the keys, and an
// empty index, which is copied, since to make one takes longer than all else.
type power struct {
	dir   string
	bed   *storetest.Bed
	index []byte
}

func newPower(t *testing.T) *power {
	t.Helper()
	p := &power{dir: testdisk.MemoryDir(t)}
	p.bed = storetest.NewBed(t, nil)
	path := filepath.Join(p.dir, datadir.IndexFile)
	index, err := sqlite.Open(path)
	if err == nil {
		err = index.Close()
	}
	if err == nil {
		p.index, err = os.ReadFile(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// everyIndex is how many seeds share one in which the index is checked, too.
const everyIndex = 16

// lose runs a ledger until its disk has lost power, and holds what is there
// afterwards against what was acknowledged.
func (p *power) lose(t *testing.T, seed uint64) {
	rng := mathrand.New(mathrand.NewPCG(seed, 7))
	fail := func(format string, args ...any) {
		t.Errorf("GRAVEN_SEED=%d: %s", seed, fmt.Sprintf(format, args...))
	}
	dir, err := os.MkdirTemp(p.dir, "")
	if err != nil {
		fail("%v", err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, datadir.IndexFile), p.index, 0o600); err != nil {
		fail("%v", err)
		return
	}
	bed := p.bed
	ctx := context.Background()
	open := func(fs seglog.FS) (storetest.Store, *ledger.Ledger, error) {
		store, err := openStore(dir, filestore.Options{Verifier: bed.Verifier, SegmentSize: 8 << 10, Reserve: 4 << 10, FS: fs}, bed)
		if err != nil {
			return nil, nil, err
		}
		l, err := ledger.Open(ctx, ledger.Config{Store: store, Signer: bed.Signer, VerifierKey: bed.VerifierKey})
		if err != nil {
			return nil, nil, errors.Join(err, store.Close())
		}
		return store, l, nil
	}

	fs := testdisk.NewPower(rng.IntN(90))
	acknowledged := map[int64]event.ID{}
	var told []byte // the newest checkpoint that was given out
	next := 0
	for range 1 + rng.IntN(2) { // sometimes it is stopped and started in between
		store, l, err := open(fs)
		if err != nil {
			break
		}
		for range 1 + rng.IntN(12) {
			events := make([]*event.Event, 1+rng.IntN(6))
			for i := range events {
				events[i] = storetest.Event(next)
				next++
			}
			results, cover, err := l.Append(ctx, storetest.By, events)
			if err != nil {
				break
			}
			for _, r := range results {
				if r.Err == nil {
					acknowledged[r.Index], told = r.ID, cover.Note
				}
			}
		}
		l.Close()
		store.Close() // what it says is of a disk that may be gone
	}
	if err := fs.Crash(rng); err != nil {
		fail("%v", err)
		return
	}

	store, l, err := open(nil)
	if err != nil {
		fail("after the crash: %v", err)
		return
	}
	for index, id := range acknowledged {
		if r, err := store.Record(ctx, index); err != nil {
			fail("entry %d: %v", index, err)
		} else if e, err := r.Event(); err != nil || e.ID != id {
			fail("entry %d is another, %v", index, err)
		}
	}
	if _, _, err := l.Append(ctx, storetest.By, []*event.Event{storetest.Event(next)}); err != nil {
		fail("it does not go on: %v", err)
	}
	l.Close()
	if err := store.Close(); err != nil {
		fail("%v", err)
	}
	o := verify.Options{Keys: []note.Verifier{bed.Verifier}, Workers: 1}
	if told != nil {
		o.Since = [][]byte{told}
	}
	check := verify.Dir
	if seed%everyIndex == 0 {
		check = filestore.Verify
	}
	report, err := check(ctx, dir, o)
	if err != nil {
		fail("%v", err)
	} else if !report.OK() {
		fail("it does not verify: %+v", report.Findings[0])
	}
}
