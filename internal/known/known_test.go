package known_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/known"
	"github.com/graven-audit/graven/trail"
)

// sign returns the checkpoint of a ledger with the given leaves.
func sign(t *testing.T, origin string, leaves ...byte) *trail.Checkpoint {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	var tree trail.Tree
	for _, l := range leaves {
		tree.Append(trail.LeafHash([]byte{l}), nil)
	}
	c, err := trail.SignCheckpoint(origin, tree.Size(), tree.Root(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAWatchKnowsALedgerThatDoesNotGoOn(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	m, err := known.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*trail.Checkpoint{sign(t, "a.example", 1, 2), sign(t, "a.example", 1), sign(t, "b.example", 1)} {
		if err := m.Keep(c); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		note string
		back bool
	}{
		"the same":             {string(sign(t, "a.example", 1, 2).Note), false},
		"a longer one":         {string(sign(t, "a.example", 3, 4, 5).Note), false},
		"a shorter one":        {string(sign(t, "a.example", 1).Note), true},
		"another of that size": {string(sign(t, "a.example", 1, 3).Note), true},
		"a ledger never seen":  {string(sign(t, "c.example", 1).Note), false},
		"no checkpoint":        {"", false},
	} {
		w := known.NewWatch()
		w.See(tt.note)
		w.See(string(sign(t, "b.example", 1).Note))
		if err := w.Err(); errors.Is(err, known.ErrTurnedBack) != tt.back {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAMemoryThatWasMeddledWithIsNoMemory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	m, err := known.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Keep(sign(t, "a.example", 1)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "graven", "*.checkpoint"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	for _, text := range []string{"nonsense", string(sign(t, "b.example", 1).Note)} {
		if err := os.WriteFile(files[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := m.Newest("a.example"); err == nil {
			t.Errorf("%q is taken for %v", text, c)
		}
	}
}

func TestManyRememberAtATimeAndTheNewestStays(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	memory, err := known.Open()
	if err != nil {
		t.Fatal(err)
	}
	skey, _, err := note.GenerateKey(rand.Reader, "example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	var keepers sync.WaitGroup
	for k := range 4 {
		keepers.Go(func() {
			for n := range int64(50) {
				c, err := trail.SignCheckpoint("example/ledger", 4*n+int64(k)+1, trail.Hash{}, signer)
				if err == nil {
					err = memory.Keep(c)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	keepers.Wait()
	if newest, err := memory.Newest("example/ledger"); err != nil || newest.Size != 200 {
		t.Errorf("%+v, %v", newest, err)
	}
}
