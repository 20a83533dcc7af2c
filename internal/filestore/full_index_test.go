package filestore_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
)

// TestWhatIsThereIsAnsweredWhileTheIndexCannotBeWritten: a disk that takes
// neither index nor hashes keeps nobody from what was recorded: it is indexed,
// or in memory.
func TestWhatIsThereIsAnsweredWhileTheIndexCannotBeWritten(t *testing.T) {
	for _, tt := range []struct {
		name         string
		harm, mended func(dir string) error
	}{
		{"the index", func(dir string) error {
			return execute(dir, "CREATE TRIGGER full BEFORE INSERT ON ids BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
		}, func(dir string) error {
			return execute(dir, "DROP TRIGGER full")
		}},
		{"the hashes", func(dir string) error {
			return os.Mkdir(filepath.Join(dir, tree.Dir, tree.Name(1)), 0o700)
		}, func(dir string) error {
			return os.Remove(filepath.Join(dir, tree.Dir, tree.Name(1)))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			b := newBed(t, dir, filestore.Options{})
			r := b.Start(t)
			r.AppendMany(0, 10)
			indexed := r.Size()
			if err := tt.harm(dir); err != nil {
				t.Fatal(err)
			}
			for n := 10; n < 600; n += 117 {
				r.AppendMany(n, 117)
				answers(t, r)
			}
			if lag := r.Store.(*filestore.Store).Lag(); lag != r.Ledger.State().Size()-indexed {
				t.Errorf("%d entries are not indexed, so that nothing was tried", lag)
			}
			if err := tt.mended(dir); err != nil {
				t.Fatal(err)
			}
			r.AppendMany(600, 100)
			answers(t, r)
			r.Stop() // which catches up
			r = b.Start(t)
			answers(t, r)
			r.Check(b)
		})
	}
}

// execute runs a statement on the index.
func execute(dir, statement string) error {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, datadir.IndexFile)+"?_pragma=busy_timeout(60000)")
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(statement)
	return err
}

// answers asks for lists, proofs and tiles of all that there is.
func answers(t *testing.T, r *storetest.Running) {
	t.Helper()
	store, head := r.Store.(*filestore.Store), r.Ledger.State().Checkpoint
	for _, size := range []int64{1, 11, head.Size} {
		if err := store.Wait(t.Context(), size); err != nil {
			t.Errorf("wait for %d entries of %d: %v", size, head.Size, err)
		}
	}
	a, err := r.Finder.Page(t.Context(), &search.Filter{Types: []string{"RemediationExecuted"}}, search.Page{Limit: 1000, Cursor: -1}, head.Size)
	if err != nil || a.Total != head.Size-1 || int64(len(a.Hits)) != head.Size-1 {
		t.Fatalf("a list of %d entries: %+v, %v", head.Size-1, a, err)
	}
	for _, h := range a.Hits {
		proof, err := tlog.ProveRecord(head.Size, h.Record.Index, store)
		if err == nil {
			err = tlog.CheckRecord(proof, head.Size, head.Root, h.Record.Index, trail.LeafHash(h.Record.Entry))
		}
		if err != nil {
			t.Fatalf("the proof of entry %d of %d: %v", h.Record.Index, head.Size, err)
		}
	}
	for n := int64(0); n*trail.TileWidth < head.Size; n++ {
		tile := tlog.Tile{H: trail.TileHeight, N: n, W: int(min(head.Size-n*trail.TileWidth, trail.TileWidth))}
		if _, err := store.Tile(tile, tlog.Tree{N: head.Size, Hash: head.Root}); err != nil {
			t.Errorf("%s: %v", trail.TilePath(tile), err)
		}
	}
}
